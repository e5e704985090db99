"""Thresholds that a new database starts with; the views read them from cut_setting, so SQL can tune them."""

from __future__ import annotations

import sqlalchemy as sa

from schema.tables import cut_setting

DEFAULT_CUTS: list[tuple[str, float, str, str]] = [
    (
        "known_lens_radius_arcsec",
        5.0,
        "arcsec",
        "A known lens within this separation is the target itself; at most 60, the reach of known_lens_cell.",
    ),
]
"""Name, value, unit and meaning of every threshold."""


def ensure_defaults(conn: sa.Connection) -> int:
    """Add the thresholds that the database lacks; a value that is there already stays. Returns how many."""
    have = set(conn.execute(sa.select(cut_setting.c.name)).scalars())
    rows = [
        {"name": name, "value": value, "unit": unit, "description": text}
        for name, value, unit, text in DEFAULT_CUTS
        if name not in have
    ]
    if rows:
        conn.execute(cut_setting.insert(), rows)
    return len(rows)
