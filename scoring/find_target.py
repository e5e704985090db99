"""Which target a person means: by the survey's name, by key, or by a name that holds the position."""

from __future__ import annotations

import difflib
import re
from typing import Any

import sqlalchemy as sa

from schema.errors import UserError
from schema.healpix import cone_where, sep_arcsec_sql

J_NAME = re.compile(
    r"^\s*(?:[A-Za-z]+\s*)?J\s*(\d{2})(\d{2})(\d{2}(?:\.\d+)?)([+\-\u2212])(\d{2})(\d{2})(\d{2}(?:\.\d+)?)\s*$"
)
SDSS_ID = re.compile(r"^\s*(?:spec-)?0*(\d+)-(\d{5})-0*(\d+)(?:\.fits(?:\.gz)?)?\s*$")


def query_rows(conn: sa.Connection, query: str, **params: Any) -> list[dict[str, Any]]:
    """Rows of a query as dicts; ``:name`` in the SQL is a parameter."""
    return [dict(r) for r in conn.execute(sa.text(query), params).mappings()]


def find_target(conn: sa.Connection, text: str) -> int:
    """target_id of what a person calls a target.

    Raises
    ------
    UserError
        When nothing, or more than one target, goes by that name.
    """
    name = text.strip()
    sdss = SDSS_ID.match(name)
    native = "-".join(str(int(p)) for p in sdss.groups()) if sdss else name
    found = query_rows(
        conn, "select target_id, survey, native_id from target where native_id in (:a, :b)", a=native, b=name
    )
    if not found and name.isdigit() and int(name) < 2**63:
        found = query_rows(
            conn, "select target_id, survey, native_id from target where target_id = :t", t=int(name)
        )
    position = J_NAME.match(name)
    if not found and position:
        found = _at_position(conn, position)
    if len(found) == 1:
        return int(found[0]["target_id"])
    if found:
        each = ", ".join(f"{r['native_id']} ({r['survey']}, target_id {r['target_id']})" for r in found[:5])
        raise UserError(f"{name!r} names {len(found)} targets: {each}; give one target_id")
    raise UserError(f"no target {name!r}; {_near(conn, native, position)}")


def _coordinates(position: re.Match[str]) -> tuple[float, float]:
    """Middle of the cell that a truncated name stands for [deg]."""
    h, m, s, sign, d, dm, ds = position.groups()
    half_s = 0.5 * 10.0 ** -(len(s.partition(".")[2]))
    half_ds = 0.5 * 10.0 ** -(len(ds.partition(".")[2]))
    ra = 15.0 * (int(h) + int(m) / 60 + (float(s) + half_s) / 3600)
    dec = int(d) + int(dm) / 60 + (float(ds) + half_ds) / 3600
    return ra % 360.0, min(dec, 90.0) * (1 if sign == "+" else -1)


def _around(
    conn: sa.Connection, ra: float, dec: float, radius_arcsec: float, limit: int
) -> list[dict[str, Any]]:
    sep = sep_arcsec_sql("t.ra_deg", "t.dec_deg", repr(ra), repr(dec))
    return query_rows(
        conn,
        f"select t.target_id, t.survey, t.native_id, coalesce(o.is_primary, true) as is_primary, {sep} as "
        "sep_arcsec "
        "from target as t left join spec_obj as o on o.target_id = t.target_id "
        f"where {cone_where(ra, dec, radius_arcsec, 't')} order by sep_arcsec, t.target_id limit {limit}",
    )


def _at_position(conn: sa.Connection, position: re.Match[str]) -> list[dict[str, Any]]:
    """Targets at a name by position; of several epochs of one object the primary one."""
    found = _around(conn, *_coordinates(position), 0.3, 20)
    first = [r for r in found if r["is_primary"]]
    return first if len(first) == 1 else found


def _near(conn: sa.Connection, name: str, position: re.Match[str] | None) -> str:
    """What the person may have meant, as the second half of the message."""
    if position:
        close = _around(conn, *_coordinates(position), 60.0, 3)
        if close:
            return "nearest are " + ", ".join(
                f"{r['native_id']} at {r['sep_arcsec']:.1f} arcsec" for r in close
            )
        return "nothing lies within 60 arcsec of it; try: lensmine cone RA DEC RADIUS"
    stem = name.split("-")[0] if "-" in name else name[:4]
    like = stem.replace("\\", "").replace("%", "").replace("_", "") + "%"
    pool = conn.execute(
        sa.text("select native_id from target where native_id like :p order by native_id limit 5000"),
        {"p": like},
    ).scalars()
    close_names = difflib.get_close_matches(name, list(pool), n=3, cutoff=0.5)
    if close_names:
        return "did you mean " + " or ".join(close_names) + "?"
    some = list(conn.execute(sa.text("select native_id from target order by target_id limit 2")).scalars())
    if not some:
        return "the database holds no targets; begin with: lensmine ingest sdss PATH"
    return f"give PLATE-MJD-FIBER as {some[0]}, a target_id, or a name as 'SDSS J111749.50+014036.9'"
