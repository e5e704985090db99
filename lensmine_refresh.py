"""``lensmine refresh``: ingest, score, fit, cut, evaluate, export in one idempotent run; and ``status``.

Only one refresh of a database runs at a time: the second leaves at once with exit code 75. Every step
looks for what is new or stale and does that alone, so a run that is killed is simply run again. What a run
did, or why it failed, stays in table job.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schema.errors import DataError, LensmineError, TransientError, UserError
from schema.options import DbOption, JsonOption, QuietOption

if TYPE_CHECKING:
    import sqlalchemy as sa

    from lensmine_config import RefreshConfig

COMMAND = "refresh"
PACKAGED = "lenscat"
Step = Callable[["RefreshConfig", bool], dict[str, Any]]
"""Does one thing, told whether a step before it changed something; says with ``changed`` whether it did."""


def register(app: typer.Typer) -> None:
    """Add ``refresh`` and ``status`` to the root command."""
    app.command("refresh")(refresh_command)
    app.command("status")(status_command)


def refresh_command(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG.toml", help="Settings; see --example.")
    ] = None,
    db: DbOption = None,
    model: Annotated[list[str] | None, typer.Option(help="Models to score, instead of the file's.")] = None,
    selection: Annotated[str | None, typer.Option(help="Selection to score, instead of the file's.")] = None,
    backend: Annotated[str | None, typer.Option(help="auto, torch or openvino.")] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Print an example of the settings and leave.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Bring a search up to date: ingest, score, fit, cut, evaluate, export. Made for cron.

    Exit code 75 means that another refresh is at work, or something else was busy: try again later.

    Example: lensmine refresh search.toml --quiet
    """
    from schema import console

    if example:
        from lensmine_config import EXAMPLE

        print(EXAMPLE, end="")
        return
    if config is None:
        raise UserError(
            "refresh needs its settings: lensmine refresh CONFIG.toml (--example prints some to start from)"
        )
    from lensmine_config import load_config

    flags = {"db": db, "score.models": model or None, "score.selection": selection, "score.backend": backend}
    report = refresh(load_config(config, flags=flags))
    if as_json:
        console.print_json(report)
    elif report["changed"] or not quiet:
        console.out.print(report["message"])


def status_command(
    db: DbOption = None,
    files: Annotated[
        bool, typer.Option("--files", help="Also look at every source file for changes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what ran, what is stale and why, and what to type about it.

    Example: lensmine status --db search.duckdb
    """
    from lensmine_status import collect_status, print_status
    from schema.console import print_json

    status = collect_status(db, files=files)
    if as_json:
        print_json(status)
    else:
        print_status(status)


def refresh(config: RefreshConfig) -> dict[str, Any]:
    """Run every step that the settings ask for, under the lock of the database.

    Parameters
    ----------
    config : RefreshConfig
        Settings.

    Returns
    -------
    dict
        status (done or nothing-to-do), changed, message, seconds, and the counts of each step.

    Raises
    ------
    TransientError
        If another refresh of the database is running.
    LensmineError
        What a step raised; the steps before it stay done.
    """
    from schema import engine

    with only_one(config.db):
        file = engine.database_file(config.db)
        if file is not None and not file.exists():
            engine.upgrade(config.db)
        job_id = _begin_job(config.db)
        began = time.perf_counter()
        report: dict[str, Any] = {}
        try:
            changed = False
            for name, step in STEPS.items():
                report[name] = step(config, changed)
                changed = changed or bool(report[name].get("changed"))
            message = _summary(report, changed, time.perf_counter() - began)
            status = "done" if changed else "nothing-to-do"
        except BaseException as exc:
            code = (
                exc.exit_code
                if isinstance(exc, LensmineError)
                else 130
                if isinstance(exc, KeyboardInterrupt)
                else 1
            )
            text = " ".join(str(exc).split()) or type(exc).__name__
            with contextlib.suppress(Exception):
                _end_job(config.db, job_id, "failed", code, report, text)
            raise
        _end_job(config.db, job_id, status, 0, report, message)
    seconds = round(time.perf_counter() - began, 2)
    return {"status": status, "changed": changed, "message": message, "seconds": seconds, **report}


@contextlib.contextmanager
def only_one(db: str | None) -> Iterator[None]:
    """Hold the refresh lock of a database: a file beside DuckDB, an advisory lock on a server.

    Raises
    ------
    TransientError
        If another process holds it.
    """
    from schema import engine

    busy = (
        f"another refresh of {engine.shown(engine.resolve_url(db))} is running and does what there is to do"
    )
    file = engine.database_file(db)
    if file is not None:
        import filelock

        lock = filelock.FileLock(file.with_name(file.name + ".refresh.lock"))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise TransientError(busy) from None
        try:
            yield
        finally:
            lock.release()
        return
    import sqlalchemy as sa

    from schema.ids import hashed_id

    with engine.connect_engine(db).connect() as conn:
        key = hashed_id("lock", "refresh")
        if not conn.execute(sa.text("select pg_try_advisory_lock(:key)"), {"key": key}).scalar():
            raise TransientError(busy)
        conn.commit()
        yield


def _begin_job(db: str | None) -> int:
    """Enter a running job; earlier ones still marked running were killed, since the lock is ours."""
    from schema.engine import connect_engine
    from schema.ids import new_run_id
    from schema.tables import job

    job_id, now = new_run_id(), datetime.datetime.now(datetime.UTC)
    with connect_engine(db).begin() as conn:
        dead = (job.c.command == COMMAND) & (job.c.status == "running")
        conn.execute(job.update().where(dead).values(status="failed", message="killed", finished_at=now))
        conn.execute(
            job.insert(), [{"job_id": job_id, "command": COMMAND, "status": "running", "started_at": now}]
        )
    return job_id


def _end_job(
    db: str | None, job_id: int, status: str, code: int, report: dict[str, Any], message: str
) -> None:
    from schema.console import jsonable
    from schema.engine import connect_engine
    from schema.tables import job

    with connect_engine(db).begin() as conn:
        conn.execute(
            job.update()
            .where(job.c.job_id == job_id)
            .values(
                status=status,
                exit_code=code,
                summary=jsonable(report),
                message=message,
                finished_at=datetime.datetime.now(datetime.UTC),
            )
        )


def _ingest(config: RefreshConfig, changed: bool) -> dict[str, Any]:
    """Read new and changed survey files."""
    if not config.ingest.sdss:
        return {}
    from etl.sdss import ingest_sdss

    done = ingest_sdss(list(config.ingest.sdss), config.db)
    if done.files and done.rejected == done.files:
        raise DataError(f"none of {done.files} files could be loaded; see: select path, reason from reject")
    text = f"{done.loaded:,} files with {done.spectra:,} spectra read, {done.rejected:,} rejected"
    return {**done.as_dict(), "changed": not done.nothing_new, "text": text}


def _lenses(config: RefreshConfig, changed: bool) -> dict[str, Any]:
    """Read new and changed catalogues of known lenses."""
    if not config.ingest.lenses:
        return {}
    from etl.lenses import ingest_lenses

    files = [path for path in config.ingest.lenses if path != PACKAGED]
    asked = [files] if files else []
    if len(files) < len(config.ingest.lenses):
        asked.append([])  # no path: the packaged catalogue
    done = [ingest_lenses(paths, config.db) for paths in asked]
    n_files = sum(each.files for each in done)
    rejected = sum(each.rejected + each.still_rejected for each in done)
    if rejected == n_files:
        raise DataError(
            f"none of {n_files} catalogues of known lenses could be loaded: known lenses would be taken for "
            "candidates; see: select path, reason from reject"
        )
    changed = not all(each.nothing_new for each in done)
    told = f", {rejected:,} {'catalogue' if rejected == 1 else 'catalogues'} rejected" if rejected else ""
    return {
        "files": [each.as_dict() for each in done],
        "changed": changed,
        "text": f"{done[-1].lenses:,} known lenses{told}",
    }


def _score(config: RefreshConfig, changed: bool) -> dict[str, Any]:
    """Score what is new or stale with every model."""
    from scoring.registry import model_class
    from scoring.run import score

    asked = config.score
    runs = [
        score(
            config.db,
            model,
            asked.selection,
            backend=asked.backend,
            # a filter has no precision but fp32, and may stand among networks
            precision=asked.precision if model_class(model).kind == "network" else "fp32",
            weights=asked.weights,
        )
        for model in asked.models
    ]
    n = sum(run.n_scored for run in runs)
    images = sum(run.n_scored for run in runs if run.modality == "image")
    said = [f"{n - images:,} spectra"] if n > images or not images else []
    said += [f"{images:,} cutouts"] if images else []
    text = f"{' and '.join(said)} scored"
    return {"runs": [run.as_dict() for run in runs], "changed": n > 0, "text": text}


def _fit(config: RefreshConfig, changed: bool) -> dict[str, Any]:
    """Fit the hits that have no current fit."""
    from scoring.fits.run import fit_hits
    from scoring.registry import available_models

    of_spectra = available_models("spectrum")  # an image has no line to fit
    fits = [fit_hits(config.db, model) for model in config.score.models if model in of_spectra]
    n = sum(fit.n_fitted for fit in fits)
    return {"models": [fit.as_dict() for fit in fits], "changed": n > 0, "text": f"{n:,} hits fitted"}


def _count(config: RefreshConfig, changed: bool) -> dict[str, Any]:
    """Count the candidates, and note a hash by which the next run sees whether they changed."""
    import hashlib

    from schema.engine import connect_engine, read_frame

    query = "select * from candidate order by model, target_id"
    of_images = "select * from image_candidate order by model, target_id"
    with connect_engine(config.db, read_only=True).connect() as conn:
        rows, images = read_frame(conn, query), read_frame(conn, of_images)
        before = _last_summary(conn).get("candidates", {})
    text = rows.to_csv(index=False) + (images.to_csv(index=False) if len(images) else "")
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    counts = rows["model"].value_counts().to_dict() | images["model"].value_counts().to_dict()
    said = ", ".join(f"{n:,} candidates of {m}" for m, n in counts.items()) or "no candidates"
    return {"counts": counts, "hash": digest, "changed": digest != before.get("hash"), "text": said}


def _last_summary(conn: sa.Connection) -> dict[str, Any]:
    """Summary of the last refresh that ended well."""
    import json

    import sqlalchemy as sa

    from schema.tables import job

    ended_well = (job.c.command == COMMAND) & job.c.status.in_(("done", "nothing-to-do"))
    found = conn.execute(
        sa.select(job.c.summary).where(ended_well).order_by(job.c.job_id.desc()).limit(1)
    ).scalar()
    return json.loads(found) if isinstance(found, str) else dict(found or {})


def _evaluate(config: RefreshConfig, changed: bool) -> dict[str, Any]:
    """Figures over the simulated targets, when something changed and there are any."""
    if not (config.evaluate.injections and changed):
        return {}
    from schema.engine import connect_engine, read_frame
    from scoring.evaluate.record import save
    from scoring.evaluate.stored import evaluate_stored

    query = """
        select distinct model.name from injection
        inner join current_score on current_score.target_id = injection.target_id
        inner join model on model.model_id = current_score.model_id where injection.is_lens"""
    with connect_engine(config.db, read_only=True).connect() as conn:
        scored = set(read_frame(conn, query)["name"])
    found = [evaluate_stored(config.db, model) for model in config.score.models if model in scored]
    save(config.db, found)
    last = [each.curve("completeness_after")[-1].value for each in found]
    said = ", ".join(f"{each.model} {100 * value:.0f}%" for each, value in zip(found, last, strict=True))
    return {"text": f"completeness after all cuts: {said}" if found else "", "changed": bool(found)}


def _export(config: RefreshConfig, changed: bool) -> dict[str, Any]:
    """Write the candidates anew, when they changed or a file is missing."""
    if not config.export.candidates:
        return {}
    from scoring.export import export

    files = [path for path in config.export.candidates if changed or not Path(path).exists()]
    rows = [export(config.db, path).n_rows for path in files]
    return {"files": files, "rows": rows, "changed": bool(files), "text": f"{len(files)} files written"}


STEPS: dict[str, Step] = {
    "ingest": _ingest,
    "lenses": _lenses,
    "score": _score,
    "fit": _fit,
    "candidates": _count,
    "evaluate": _evaluate,
    "export": _export,
}


def _summary(report: dict[str, Any], changed: bool, seconds: float) -> str:
    said = [step["text"] for step in report.values() if step.get("changed") and step.get("text")]
    return f"{'; '.join(said) if changed else 'nothing new'} ({seconds:.1f} s)"
