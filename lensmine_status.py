"""What ran, what is stale and why: the counts behind ``lensmine status``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from schema import engine

NEXT = {"score": "lensmine score {model} {selection}{options}", "fit": "lensmine fit --model {model}"}

REASONS_SQL = """
with todo as ({todo}),
reason as (
    select
        todo.item_id,
        max(case when is_mine and scored.content_hash = todo.content_hash then 1 else 0 end) as z,
        max(case when is_mine and scored.content_hash <> todo.content_hash then 1 else 0 end) as pixels,
        max(case when not is_mine then 1 else 0 end) as weights
    from todo
    left join (
        select s.*, s.model_id = {model_id} as is_mine
        from {scores} as s inner join model on model.model_id = s.model_id and model.name = '{name}'
    ) as scored on scored.{key} = todo.item_id
    group by todo.item_id
)
select
    count(*) as todo,
    coalesce(sum(z), 0) as redshift_changed,
    coalesce(sum(case when z = 0 then pixels end), 0) as pixels_changed,
    coalesce(sum(case when z = 0 and pixels = 0 then weights end), 0) as weights_changed,
    coalesce(sum(case when z = 0 and pixels = 0 and weights = 0 then 1 end), 0) as never_scored
from reason
"""
"""Why the spectra or cutouts that lack a current score lack it; the names are those of registered models."""

FILES_SQL = """
select
    kind,
    count(*) as files,
    coalesce(sum(n_rows), 0) as n_rows,
    coalesce(sum(n_rejected), 0) as n_rejected,
    max(ingested_at) as last_ingest
from source_file group by kind order by kind
"""
PAIRS_SQL = """
with latest as (
    select model.name as model, selection.name as selection, max(scoring_run.run_id) as run_id
    from scoring_run
    inner join model on model.model_id = scoring_run.model_id
    inner join selection on selection.selection_id = scoring_run.selection_id
    group by model.name, selection.name
)
select latest.model, latest.selection, scoring_run.model_id, scoring_run.precision, scoring_run.software
from latest inner join scoring_run on scoring_run.run_id = latest.run_id
order by latest.run_id desc
"""
HITS_SQL = """
with fitted as (
    select
        hit.model,
        hit.model_id,
        hit.fit_id,
        exists (
            select 1 from line_fit
            where line_fit.spectrum_id = hit.spectrum_id and line_fit.model_id = hit.model_id
                and line_fit.content_hash = found.content_hash and line_fit.fit_version = :version
                and abs(line_fit.hit_wave_angstrom - hit.wave_angstrom) < :tolerance
        ) as is_current
    from hit_fit as hit
    inner join hit as found on found.target_id = hit.target_id and found.model_id = hit.model_id
)
select
    fitted.model,
    fitted.model_id,
    count(*) as hits,
    count(*) filter (where fit_id is null) as unfitted,
    count(*) filter (where fit_id is not null and not is_current) as outdated,
    (select count(*) from candidate where candidate.model_id = fitted.model_id) as candidates
from fitted
group by fitted.model, fitted.model_id order by fitted.model, fitted.model_id
"""
JOBS_SQL = """
select job_id, command, status, exit_code, started_at, finished_at, message from job
order by job_id desc limit 5
"""


def collect_status(db: str | None, *, files: bool = False) -> dict[str, Any]:
    """Count what the database holds, what is stale and why.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    files : bool
        Also look at every source file on disk for changes since it was read.

    Returns
    -------
    dict
        database, files, scores, hits, jobs, and next: commands that would bring things up to date.

    Raises
    ------
    UserError
        If there is no database, or it stands at another migration.
    """
    with engine.connect_engine(db, read_only=True).connect() as conn:
        out: dict[str, Any] = {
            "database": engine.shown(engine.resolve_url(db)),
            "files": _rows(conn, FILES_SQL),
            "scores": [_scores(conn, pair) for pair in _rows(conn, PAIRS_SQL)],
            "hits": _hits(conn),
            "jobs": _rows(conn, JOBS_SQL),
        }
        if files:
            out["changed_files"] = _changed_files(conn)
    out["next"] = _next_commands(out)
    return out


def _rows(conn: sa.Connection, query: str, **params: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in conn.execute(sa.text(query), params).mappings()]


def _hits(conn: sa.Connection) -> list[dict[str, Any]]:
    """Hits a model, those without a fit, and those whose fits were made with other code or settings."""
    from scoring.fits.oii import DEFAULT_OII
    from scoring.fits.run import WAVE_TOLERANCE, fit_version
    from scoring.fits.skewnormal import DEFAULT_FIT

    return _rows(conn, HITS_SQL, version=fit_version(DEFAULT_FIT, DEFAULT_OII), tolerance=WAVE_TOLERANCE)


def _scores(conn: sa.Connection, pair: dict[str, Any]) -> dict[str, Any]:
    """Counts for one model on the latest version of one selection that it ever scored.

    The version asked about is that of the pair's latest run: the shipped weights of today in the precision of
    that run, or the weights of one's own that it was given.
    """
    import dataclasses
    import json

    from schema.errors import LensmineError
    from scoring.leases import bare, count_task
    from scoring.registry import get_model
    from scoring.selection import get_selection
    from scoring.tasks import make_task

    precision = pair["precision"] or "fp32"
    software = pair["software"] or {}
    software = json.loads(software) if isinstance(software, str) else software
    weights = software.get("weights")  # a run of an older lensmine does not say
    options = "" if precision == "fp32" else f" --precision {precision}"
    options += f" --weights {weights}" if weights not in (None, "shipped") else ""
    out: dict[str, Any] = {"model": pair["model"], "selection": pair["selection"]}
    out |= {"precision": precision, "options": options}
    try:
        model = get_model(pair["model"])
        chosen = get_selection(conn, pair["selection"])
    except LensmineError as exc:
        return out | {"problem": str(exc)}
    task = make_task(model, chosen, precision)
    if weights != "shipped":
        task = dataclasses.replace(task, model_id=int(pair["model_id"]))
    counts = count_task(conn, task)
    query = REASONS_SQL.format(
        todo=task.todo_sql(),
        model_id=task.model_id,
        name=model.name,
        scores=task.modality.scores.name,
        key=task.modality.key,
    )
    reasons = {k: int(v) for k, v in bare(conn).exec_driver_sql(query).mappings().one().items()}
    refused = {why: counts[why] for why, _ in task.refusals}
    return out | {
        "selection_version": chosen.version,
        "modality": task.modality.name,
        task.modality.noun: counts["items"],
        "current": counts["items"] - sum(refused.values()) - counts["todo"],
        **refused,
        **reasons,
    }


def _changed_files(conn: sa.Connection) -> dict[str, list[str]]:
    """Source files that are gone, or whose size or time says that they changed since they were read."""
    gone, changed = [], []
    rows = conn.execute(sa.text("select path, size_bytes, ingested_at from source_file order by path"))
    for path, size, when in rows:
        if "://" in path or not path.startswith("/"):
            continue
        try:
            stat = Path(path).stat()
        except OSError:
            gone.append(path)
            continue
        if stat.st_size != size or (when is not None and stat.st_mtime > when.timestamp()):
            changed.append(path)
    return {"gone": gone, "changed": changed}


def _next_commands(status: dict[str, Any]) -> list[str]:
    """Commands that bring up to date what is stale."""
    out = [NEXT["score"].format(**s) for s in status["scores"] if s.get("todo")]
    out += [NEXT["fit"].format(**h) for h in status["hits"] if h["unfitted"] or h["outdated"]]
    return out


def print_status(status: dict[str, Any]) -> None:
    """Print the counts for people."""
    from rich.table import Table

    from schema.console import out

    def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
        grid = Table(
            title=title,
            title_justify="left",
            title_style="bold",
            box=None,
            pad_edge=False,
            header_style="dim",
        )
        for name in columns:
            number = bool(rows) and isinstance(rows[0][columns.index(name)], int)
            grid.add_column(name, justify="right" if number else "left")
        for row in rows:
            grid.add_row(*(f"{v:,}" if isinstance(v, int) else "" if v is None else str(v) for v in row))
        out.print(grid if rows else f"[bold]{title}[/bold] none yet")
        out.print()

    if not out.is_terminal:
        out.width = 160
    out.print(f"[bold]Database[/bold] {status['database']}\n")
    table(
        "Files",
        ["kind", "files", "rows", "rejected", "last ingest (UTC)"],
        [
            [
                f["kind"] or "not recognised",
                int(f["files"]),
                int(f["n_rows"]),
                int(f["n_rejected"]),
                _when(f["last_ingest"]),
            ]
            for f in status["files"]
        ],
    )
    table(
        "Scores",
        ["model", "selection", "with pixels", "current", "to score", "why"],
        [
            [s["model"], s["selection"], _items(s), s.get("current", 0), s.get("todo", 0), _why(s)]
            for s in status["scores"]
        ],
    )
    table(
        "Hits",
        ["model", "hits", "not fitted", "fitted otherwise", "candidates"],
        [
            [h["model"], int(h["hits"]), int(h["unfitted"]), int(h["outdated"]), int(h["candidates"])]
            for h in status["hits"]
        ],
    )
    table(
        "Jobs",
        ["started (UTC)", "command", "status", "message"],
        [[_when(j["started_at"]), j["command"], j["status"], j["message"]] for j in status["jobs"]],
    )
    for kind, paths in status.get("changed_files", {}).items():
        for path in paths:
            out.print(f"{kind}: {path}")
    for command in status["next"]:
        out.print(f"to do: [bold]{command}[/bold]")
    if not status["next"]:
        out.print("nothing is stale")


def _when(value: Any) -> str:
    return "" if value is None else f"{value:%Y-%m-%d %H:%M}"


def _why(score: dict[str, Any]) -> str:
    if score.get("problem"):
        return str(score["problem"])
    reasons = ("never_scored", "pixels_changed", "redshift_changed", "weights_changed")
    said = [f"{score[r]:,} {r.replace('_', ' ')}" for r in reasons if score.get(r)]
    left_out = {
        "few_pixels": "have too few pixels to be scored",
        "missing_bands": "lack the model's bands",
        "saturated": "are saturated",
        "no_pixscale": "have no pixel scale",
        "too_small": "are too small",
    }
    said += [f"{score[why]:,} {text}" for why, text in left_out.items() if score.get(why)]
    return ", ".join(said)


def _items(score: dict[str, Any]) -> str:
    """Number of spectra or cutouts that a selection holds."""
    for noun in ("spectra", "cutouts"):
        if noun in score:
            return f"{score[noun]:,} {noun}"
    return "0"
