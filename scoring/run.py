"""``lensmine score``: a model over a selection, in leased chunks, scoring exactly what is missing or stale.

No connection is held while pixels are computed: chunks are leased in one short transaction, and their scores
committed together with their "done" mark in another. So a killed run loses at most what it had not committed,
the next call takes it up, and several workers may share a run.
"""

from __future__ import annotations

import contextlib
import datetime
import socket
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from schema.engine import connect_engine
from schema.errors import UserError
from schema.ids import new_run_id
from schema.tables import model as model_table
from schema.tables import run_chunk, scoring_run
from schema.tables import selection as selection_table
from scoring import leases
from scoring.report import WHY_SKIPPED, ScoreReport
from scoring.selection import checked_selection, ensure_selection, seed_selections
from scoring.tasks import Task, make_task
from scoring.versions import ensure_model
from scoring.worker import Progress, Worker, patiently

if TYPE_CHECKING:
    from scoring.backends import Backend
    from scoring.models.base import Model

CHUNK = 32_768
"""Spectra or cutouts in a chunk: what a killed run has to compute again for each lease."""

LEASE_SECONDS = 600


def score(
    db: str | None,
    model_name: str,
    selection_name: str,
    *,
    backend: str = "auto",
    precision: str = "fp32",
    device: str | None = None,
    weights: str = "shipped",
    chunk: int = CHUNK,
    limit: int | None = None,
    resume_only: bool = False,
    lease_s: int = LEASE_SECONDS,
    progress: Progress | None = None,
) -> ScoreReport:
    """Score what a model lacks of a selection.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    model_name, selection_name : str
        A registered model and a selection.
    backend, precision, device : str
        As for scoring.backends.make_backend.
    weights : str
        ``shipped``, or the path of a .safetensors file.
    chunk : int
        Spectra or cutouts in a chunk.
    limit : int, optional
        Score at most so many.
    resume_only : bool
        Finish an unfinished run and plan nothing new.
    lease_s : int
        Seconds after which the chunk of a silent worker may be taken over [s].
    progress : callable, optional
        Called with how many were just scored and how many are to score in all.

    Returns
    -------
    ScoreReport

    Raises
    ------
    UserError
        Unknown model or selection, an empty selection, a backend that is not there.
    DataError
        A missing or damaged shard; the other chunks are scored, and the run is marked failed.
    TransientError
        The database stayed locked.
    """
    from scoring.registry import get_model

    if chunk < 1:
        raise UserError(f"--chunk {chunk} is too small; give at least 1, the default is {CHUNK}")
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit} is too small; give at least 1")
    began = time.perf_counter()
    model = get_model(model_name, weights)
    chosen = patiently(lambda: checked_selection(db, selection_name))
    task = make_task(model, chosen, precision)
    report = ScoreReport(
        "nothing-to-do", model_name, chosen.name, chosen.version, precision=precision, modality=model.modality
    )
    counts, run_id = patiently(lambda: _look(db, task))
    _note_counts(report, task, counts)
    _refuse_empty(task, counts)
    if resume_only and run_id is None:
        raise UserError(f"no unfinished run of {model_name} on {chosen.name}; start one without --resume")
    if run_id is None and not counts["todo"]:
        patiently(lambda: _put_in_force(db, task, counts["items"], precision, weights))
        return report
    selected = time.perf_counter() - began
    from scoring.backends import make_backend

    runner = make_backend(model, backend, precision, device)
    report.backend, report.device = runner.name, runner.device
    report.resumed = run_id is not None
    report.seconds = {"select": selected, "load": time.perf_counter() - began - selected}
    while True:
        before = time.perf_counter()
        resuming = run_id is not None
        if run_id is None:
            left = None if limit is None else limit - report.n_scored
            run_id = begin_run(db, task, model, runner, report, chunk, left, weights)
            report.seconds["select"] += time.perf_counter() - before
        if run_id is None:
            break
        Worker(
            db, task, model, runner, run_id, chunk=chunk, lease_s=lease_s, report=report, progress=progress
        ).run(began)
        # what came in while an unfinished run waited is not in its chunks: plan once more
        if not resuming or resume_only or (limit is not None and report.n_scored >= limit):
            break
        run_id = None
    return report


def _put_in_force(db: str | None, task: Task, n_items: int, precision: str, weights: str) -> None:
    """Where another version of the model ran since, note a run that had nothing left to score.

    Of the versions of a model the one that ran last speaks for what it has scored (view version_order).
    """
    c, m = scoring_run.c, model_table.c
    name = sa.select(m.name).where(m.model_id == task.model_id).scalar_subquery()
    query = sa.select(c.model_id).join(model_table, m.model_id == c.model_id).where(m.name == name)
    with connect_engine(db, read_only=True).connect() as conn:
        last = conn.execute(query.order_by(c.run_id.desc()).limit(1)).scalar()
    if last in (None, task.model_id):
        return
    now = datetime.datetime.now(datetime.UTC)
    row = {
        "run_id": new_run_id(),
        "model_id": task.model_id,
        "selection_id": task.selection.selection_id,
        "status": "done",
        "modality": task.modality.name,
        "precision": precision,
        "n_selected": n_items,
        "n_todo": 0,
        "n_scored": 0,
        "started_at": now,
        "finished_at": now,
        "seconds": {},
        "host": socket.gethostname(),
        "software": {"lensmine": _own_version(), "weights": _source(weights)},
        "message": "nothing left to score; these weights speak again for what they have scored",
    }
    with connect_engine(db).begin() as conn:
        ensure_selection(conn, task.selection)
        conn.execute(scoring_run.insert(), [row])


def _source(weights: str) -> str:
    """The file of the weights, by which later commands find it."""
    return weights if weights == "shipped" else str(Path(weights).absolute())


def _look(db: str | None, task: Task) -> tuple[dict[str, int], int | None]:
    """What there is to do, and the unfinished run if there is one."""
    with connect_engine(db, read_only=True).connect() as conn:
        counts, run_id = leases.count_task(conn, task), _unfinished(conn, task)
        untidy = _abandoned(conn, task, run_id)
    if untidy:
        with connect_engine(db).begin() as conn:
            _close_abandoned(conn, untidy)
    return counts, run_id


def _note_counts(report: ScoreReport, task: Task, counts: dict[str, int]) -> None:
    report.n_selected, report.n_todo = counts["items"], counts["todo"]
    report.n_skipped |= {why: counts[why] for why in task.reasons}


def _refuse_empty(task: Task, counts: dict[str, int]) -> None:
    name = task.selection.name
    if counts["targets"] == 0:
        raise UserError(
            f"selection {name!r} is empty: 0 targets fulfil it; compare: lensmine select show {name}, "
            f"lensmine select count {task.modality.everything}"
        )
    noun = task.modality.noun
    if counts["items"] == 0:
        raise UserError(
            f"selection {name!r} has {counts['targets']} targets, 0 of them with {noun} in a shard; "
            f"{task.modality.how}"
        )
    refused = {why: counts[why] for why, _ in task.refusals if counts[why]}
    if sum(refused.values()) == counts["items"]:
        why = ", ".join(f"{n} because {WHY_SKIPPED[reason]}" for reason, n in refused.items())
        raise UserError(
            f"selection {name!r} has {counts['items']} {noun}, none of which can be scored: {why}"
        )


def _unfinished(conn: sa.Connection, task: Task) -> int | None:
    """The latest unfinished run of this model version on this selection version."""
    c = scoring_run.c
    query = sa.select(c.run_id).where(
        c.model_id == task.model_id,
        c.selection_id == task.selection.selection_id,
        c.status.in_(("running", "stopped")),
        _has_chunks("todo", "leased"),
    )
    found = conn.execute(query.order_by(c.run_id.desc()).limit(1)).scalar()
    return None if found is None else int(found)


def _has_chunks(*states: str) -> sa.ColumnElement[bool]:
    return sa.exists().where(run_chunk.c.run_id == scoring_run.c.run_id, run_chunk.c.state.in_(states))


def _abandoned(conn: sa.Connection, task: Task, current: int | None) -> list[int]:
    """Runs of this model and selection, of any version, that nobody works on and nobody will take up."""
    c, m, s = scoring_run.c, model_table.c, selection_table.c
    name = sa.select(m.name).where(m.model_id == task.model_id).scalar_subquery()
    query = (
        sa.select(c.run_id)
        .join(model_table, m.model_id == c.model_id)
        .join(selection_table, s.selection_id == c.selection_id)
        .where(c.status == "running", m.name == name, s.name == task.selection.name)
    )
    r = run_chunk.c
    idle = []
    for run_id in conn.execute(query).scalars():
        owners = sa.select(r.lease_owner).where(
            r.run_id == run_id, r.state == "leased", r.lease_until > sa.func.current_timestamp()
        )
        alive = [o for o in conn.execute(owners.distinct()).scalars() if o and not leases.is_dead(o)]
        if run_id != current and not alive:
            idle.append(int(run_id))
    return idle


def _close_abandoned(conn: sa.Connection, run_ids: list[int]) -> None:
    c = scoring_run.c
    mine = c.run_id.in_(run_ids), c.status == "running"
    stopped = {"status": "stopped", "message": "superseded by a newer version or run"}
    conn.execute(scoring_run.update().where(*mine, _has_chunks("todo", "leased")).values(**stopped))
    conn.execute(scoring_run.update().where(*mine).values(status="done"))


def begin_run(
    db: str | None,
    task: Task,
    model: Model,
    runner: Backend,
    report: ScoreReport,
    chunk: int,
    limit: int | None,
    weights: str = "shipped",
) -> int | None:
    """Plan a run, or join the one that another process has just planned; None when nothing is left."""

    def begin() -> int | None:
        with connect_engine(db).begin() as conn:
            seed_selections(conn)
            ensure_selection(conn, task.selection)
            ensure_model(conn, model, runner.precision, runner.check)
            _one_planner_at_a_time(conn, task)
            joined = _unfinished(conn, task)
            if joined is not None:
                return joined
            counts = leases.count_task(conn, task)
            _note_counts(report, task, counts)
            if counts["todo"] == 0:
                return None
            run_id = new_run_id()
            n_todo = leases.plan_chunks(conn, task, run_id, chunk, limit)
            row = {
                "run_id": run_id,
                "model_id": task.model_id,
                "selection_id": task.selection.selection_id,
                "status": "running",
                "modality": task.modality.name,
                "backend": runner.name,
                "device": runner.device,
                "precision": runner.precision,
                "n_selected": counts["items"],
                "n_todo": n_todo,
                "n_scored": 0,
                "started_at": datetime.datetime.now(datetime.UTC),
                "seconds": {},
                "host": socket.gethostname(),
                "software": {"lensmine": _own_version(), **runner.versions(), "weights": _source(weights)},
            }
            conn.execute(scoring_run.insert(), [row])
            report.n_todo = n_todo
            return run_id

    for _ in range(3):  # two first commands at once may enter the same selection or model: look again
        with contextlib.suppress(sa.exc.IntegrityError):
            return patiently(begin)
    return patiently(begin)


def _one_planner_at_a_time(conn: sa.Connection, task: Task) -> None:
    """Lock the model's row until the transaction ends; a DuckDB file has one writer in any case."""
    m = model_table.c
    conn.execute(model_table.update().where(m.model_id == task.model_id).values(threshold=m.threshold))


def _own_version() -> str:
    try:
        return version("lensmine")
    except PackageNotFoundError:
        return "source"
