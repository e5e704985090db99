"""Which model, run, selection and date a plot shows."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

VERSIONS = """
select model.model_id, model.name, model.weights_hash, model.threshold, scoring_run.run_id,
scoring_run.started_at,
    scoring_run.n_scored, scoring_run.modality, selection.name as selection, selection.version as
    selection_version
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
        f"model {version['name']} {version['weights_hash'][:8]}, run {version['run_id']}, selection {chosen},"
        f" {when}"
    )
