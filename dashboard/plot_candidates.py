"""Plots of the candidates among what was observed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from dashboard.charts import Chart, Series
from dashboard.plot_versions import what
from schema.engine import read_frame
from schema.errors import UserError

MOST_ROWS = 60_000


def sky_map(conn: sa.Connection, version: dict[str, Any] | None, options: dict[str, Any]) -> Chart:
    """Where the candidates are among what was observed."""
    every = read_frame(conn, f"select ra_deg, dec_deg from target order by hpx29 % 9973 limit {MOST_ROWS}")
    found = _candidates(conn, version)
    if every.empty:
        raise UserError("the database holds no targets; begin with: lensmine ingest sdss PATH")
    return Chart(
        "sky", "Sky", "right ascension [deg]", "declination [deg]", [
            Series("targets", every["ra_deg"], every["dec_deg"], kind="points", faint=True),
            Series("candidates", found["ra_deg"], found["dec_deg"], kind="points"),
        ], what(version), f"{len(found)} candidates.", reverse_x=True, x_range=(0, 360),
    )  # fmt: skip


def _candidates(conn: sa.Connection, version: dict[str, Any] | None) -> pd.DataFrame:
    where = "" if version is None else f"where model_id = {int(version['model_id'])}"
    return read_frame(
        conn,
        f"""
        with found as (
            select target_id, model_id from candidate
            union
            select target_id, model_id from image_candidate
        )
        select target.target_id, target.ra_deg, target.dec_deg, phot_obj.mag_g, phot_obj.mag_r,
        phot_obj.mag_i,
            phot_obj.mag_z, phot_obj.mag_f814w, spec_obj.cmodel_mag_i
        from (select distinct target_id from found {where}) as chosen
        inner join target on target.target_id = chosen.target_id
        left join phot_obj on phot_obj.target_id = target.target_id
        left join spec_obj on spec_obj.target_id = target.target_id
        limit {MOST_ROWS}
        """,
    )


def colour_magnitude(conn: sa.Connection, version: dict[str, Any] | None, options: dict[str, Any]) -> Chart:
    """Colour against magnitude, the candidates on top of everything."""
    every = read_frame(
        conn,
        "select mag_g, mag_r, mag_i from phot_obj where mag_g is not null and mag_i is not null limit"
        f" {MOST_ROWS}",
    )
    if every.empty:
        raise UserError(
            "no photometry in two bands yet; load a catalogue with: lensmine ingest hsc PATH, or cosmos"
        )
    found = _candidates(conn, version).dropna(subset=["mag_g", "mag_i"])
    return Chart(
        "colour_magnitude",
        "Colour and magnitude",
        "i [AB mag]",
        "g - i [mag]",
        [
            Series("all", every["mag_i"], every["mag_g"] - every["mag_i"], kind="points", faint=True),
            Series("candidates", found["mag_i"], found["mag_g"] - found["mag_i"], kind="points"),
        ],
        what(version),
        f"{len(every):,} objects, {len(found)} candidates.",
    )


def redshifts(conn: sa.Connection, version: dict[str, Any] | None, options: dict[str, Any]) -> Chart:
    """Redshift of lens and source of the candidates, the known lenses behind them."""
    where = "" if version is None else f"and model_id = {int(version['model_id'])}"
    found = read_frame(
        conn, f"select z_lens, z_source, is_injection from candidate where z_source is not null {where}"
    )
    known = read_frame(
        conn, "select z_lens, z_source from known_lens where z_lens is not null and z_source is not null"
    )
    if found.empty and known.empty:
        raise UserError("no candidate has both redshifts; fit the hits with: lensmine fit")
    real, injected = found[~found["is_injection"].astype(bool)], found[found["is_injection"].astype(bool)]
    series = [
        Series("known lenses", known["z_lens"], known["z_source"], kind="points", faint=True),
        Series("candidates", real["z_lens"], real["z_source"], kind="points"),
        Series("simulated", injected["z_lens"], injected["z_source"], kind="points"),
    ]
    return Chart(
        "redshifts", "Redshift of lens and source", "z of the lens", "z of the source if Lyα",
        [s for s in series if len(np.asarray(s.x))], what(version), f"{len(found)} candidates.",
    )  # fmt: skip
