"""Which model, run, selection and date a plot shows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

VERSIONS = """
select
    model.model_id, model.name, model.weights_hash, model.threshold, scoring_run.run_id,
    scoring_run.started_at, scoring_run.n_scored, scoring_run.modality, selection.name as selection,
    selection.version as selection_version, count(*) over (partition by model.model_id) as n_run
from scoring_run
inner join model on model.model_id = scoring_run.model_id
left join selection on selection.selection_id = scoring_run.selection_id
order by scoring_run.run_id desc
"""


def versions(conn: sa.Connection) -> list[dict[str, Any]]:
    """The latest run of every model version, latest first."""
    out: dict[int, dict[str, Any]] = {}
    for row in conn.execute(sa.text(VERSIONS)).mappings():
        out.setdefault(int(row["model_id"]), dict(row))
    return list(out.values())


def what(version: dict[str, Any] | None) -> str:
    """Model, run, selection and date in words."""
    if version is None:
        return "whole database"
    when = f"{version['started_at']:%Y-%m-%d %H:%M} UTC" if version["started_at"] else "date unknown"
    chosen = (
        f"{version['selection']} version {version['selection_version']}"
        if version["selection"]
        else "no selection"
    )
    return (
        f"model {version['name']} {version['weights_hash'][:8]}, run {version['run_id']}"
        f"{_earlier(version['n_run'])}, selection {chosen}, {when}"
    )


def what_all(every: list[dict[str, Any]]) -> str:
    """Models, runs and selections behind a plot of the whole database, and the date it was drawn."""
    said = "; ".join(what(version) for version in every) or "no model has scored yet"
    return f"whole database, drawn {datetime.now(UTC):%Y-%m-%d %H:%M} UTC: {said}"


def _earlier(n_run: int) -> str:
    """A model's scores in a plot are its current ones, whichever run gave them."""
    return "" if n_run <= 1 else f" and {n_run - 1} earlier of these weights"
