"""Builds and drops the SQL views; a view file may use the tables and the views that stand before it."""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy as sa

VIEW_ORDER: tuple[str, ...] = (
    "selectable",
    "version_order",
    "current_score",
    "known_lens_match",
    "listed_score",
    "hit",
    "hit_fit",
    "cut_peak_flux",
    "cut_snr",
    "cut_width",
    "hit_crowd",
    "cut_airglow",
    "cut_rest_frame",
    "cut_bad_pixel",
    "cut_known_lens",
    "cut_skewness",
    "cut_oii",
    "cut_source",
    "hit_cut",
    "attrition",
    "candidate",
    "current_image_score",
    "ranked",
    "image_candidate",
    "current_grade",
    "grade_count",
    "reviewer_confusion",
    "consensus",
    "review_disagreement",
    "review_queue",
    "completeness",
    "corrected_count",
)
"""Names of the views, each after those that it reads."""

_HERE = Path(__file__).parent


def view_sql(name: str) -> str:
    """The query of one view: its file without the header comment and the closing semicolon."""
    text = (_HERE / f"{name}.sql").read_text(encoding="utf-8")
    return re.sub(r"^\s*--.*$", "", text, flags=re.MULTILINE).strip().rstrip(";")


def view_header(name: str) -> str:
    """The leading comment of a view's file in one line: what one row is, why, and the paper."""
    lines = []
    for line in (_HERE / f"{name}.sql").read_text(encoding="utf-8").splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.lstrip("- ").strip())
    return " ".join(lines)


def drop_views(conn: sa.Connection) -> None:
    """Drop every view of lensmine that the database holds, last built first."""
    for name in reversed(VIEW_ORDER):
        conn.execute(sa.text(f'drop view if exists "{name}"'))


def create_views(conn: sa.Connection) -> None:
    """Build every view anew, in order."""
    drop_views(conn)
    for name in VIEW_ORDER:
        conn.execute(sa.text(f'create view "{name}" as {view_sql(name)}'))
        comment = view_header(name).replace("'", "''").replace(":", "\\:")
        conn.execute(sa.text(f"comment on view \"{name}\" is '{comment}'"))
