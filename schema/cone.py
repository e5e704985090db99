"""Targets and known lenses around a position."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from schema.engine import connect_engine
from schema.errors import UserError
from schema.healpix import cone_where, sep_arcsec_sql


def parse_angle(text: str, *, hours: bool) -> float:
    """Degrees of a coordinate written in degrees, or in sexagesimal with colons, spaces or units.

    Raises
    ------
    UserError
        When it is neither.
    """
    from astropy.coordinates import Angle

    try:
        return float(text)
    except ValueError:
        pass
    try:
        return float(Angle(text, unit="hourangle" if hours else "deg").deg)
    except ValueError as exc:
        allowed = "151.25 or 10:05:00.0" if hours else "-1.5 or -01:30:00"
        what = "right ascension" if hours else "declination"
        raise UserError(f"{what} {text!r} is no angle; write degrees or sexagesimal, as {allowed}") from exc


def cone_search(
    db: str | None, ra_deg: float, dec_deg: float, radius_arcsec: float, limit: int = 1000
) -> dict[str, list[dict[str, Any]]]:
    """Targets and known lenses within a radius, nearest first.

    Parameters
    ----------
    db : str or None
        As for `schema.engine.resolve_url`.
    ra_deg, dec_deg : float
        Centre, ICRS [deg].
    radius_arcsec : float
        Radius [arcsec], 0 to 648000.
    limit : int
        Most rows of each.

    Returns
    -------
    dict
        ``targets`` and ``known_lenses``: rows with ``sep_arcsec``.
    """
    ra, dec = repr(float(ra_deg)), repr(float(dec_deg))
    sep = sep_arcsec_sql("t.ra_deg", "t.dec_deg", ra, dec)
    where = cone_where(ra_deg, dec_deg, radius_arcsec, "t")
    targets = (
        "select t.target_id, t.survey, t.native_id, t.ra_deg, t.dec_deg, o.class, o.z, t.is_injection, "
        f"{sep} as sep_arcsec from target as t left join spec_obj as o on o.target_id = t.target_id "
        f"where {where} order by sep_arcsec, t.target_id limit {int(limit)}"
    )
    lenses = (
        "select t.lens_id, t.name, t.ra_deg, t.dec_deg, t.z_lens, t.z_source, t.grading, "
        f"{sep} as sep_arcsec from known_lens as t where {where} "
        f"order by sep_arcsec, t.lens_id limit {int(limit)}"
    )
    with connect_engine(db, read_only=True).connect() as conn:
        return {
            name: [dict(row) for row in conn.execute(sa.text(sql)).mappings()]
            for name, sql in (("targets", targets), ("known_lenses", lenses))
        }
