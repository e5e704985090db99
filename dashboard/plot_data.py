"""The plots of a search, each made of one query and a few lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from dashboard.charts import Chart, Series
from schema.engine import read_frame
from schema.errors import UserError
from scoring.evaluate import metrics
from scoring.evaluate.intervals import clopper_pearson

MOST_ROWS = 60_000
MAGNITUDES = ("i", "r", "f814w", "g", "z")

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
LABELLED = """
with said as (
    select model_id, target_id, probability from current_score
    union all
    select model_id, target_id, probability from current_image_score
),
truth as (
    select target_id, is_lens from injection
    union all
    select tracer.target_id, true as is_lens from tracer
    where not exists (select 1 from injection where injection.target_id = tracer.target_id)
)
select truth.target_id, truth.is_lens, max(said.probability) as probability
from truth inner join said on said.target_id = truth.target_id
where said.model_id = :model_id
group by truth.target_id, truth.is_lens
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


def _labelled(conn: sa.Connection, version: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    rows = read_frame(conn, LABELLED, model_id=version["model_id"])
    label = rows["is_lens"].to_numpy(dtype=bool)
    if not label.any() or label.all():
        raise UserError(
            f"{version['name']} has scored no objects of known truth of both kinds; make some with lensmine"
            " simulate, or enter tracers, and score them"
        )
    return label, rows["probability"].to_numpy(dtype=float)


def _thin(x: np.ndarray, y: np.ndarray, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    keep = np.unique(np.linspace(0, len(x) - 1, min(n, len(x))).astype(int))
    return x[keep], y[keep]


def trc(conn: sa.Connection, version: dict[str, Any], options: dict[str, Any]) -> Chart:
    """Tracer recovery curve (Pourrahmani 2019, section 4.6)."""
    label, p = _labelled(conn, version)
    rank, recovered = metrics.tracer_recovery_curve(label, p)
    area = metrics.ranking_performance(label, p)
    x, y = _thin(rank, recovered)
    return Chart(
        "trc", "Tracer recovery curve", "share of the ranked list read", "share of lenses recovered",
        [Series(version["name"], x, y), Series("no discrimination", [0, 1], [0, 1])],
        what(version), f"Ranking performance {area:.3f}, {label.sum()} lenses among {len(label)}.",
        x_range=(0, 1), y_range=(0, 1),
    )  # fmt: skip


def roc(conn: sa.Connection, version: dict[str, Any], options: dict[str, Any]) -> Chart:
    """ROC curve on a logarithmic abscissa, with exact intervals."""
    label, p = _labelled(conn, version)
    fpr, tpr, _ = metrics.roc_curve(label, p)
    floor = 0.5 / (~label).sum()
    x, y = _thin(np.maximum(fpr, floor), tpr)
    lo, hi = clopper_pearson(np.rint(y * label.sum()), label.sum())
    return Chart(
        "roc",
        "ROC curve",
        "false-positive rate",
        "completeness",
        [Series(version["name"], x, y, lo, hi)],
        what(version),
        f"Area {metrics.roc_area(label, p):.4f}, {label.sum()} lenses, {(~label).sum()} others.",
        log_x=True,
        y_range=(0, 1),
    )


def reliability(conn: sa.Connection, version: dict[str, Any], options: dict[str, Any]) -> Chart:
    """How often what was given a probability is a lens."""
    label, p = _labelled(conn, version)
    bins = metrics.reliability(label, p, np.linspace(0, 1, 11))
    some = bins.n > 0
    lo, hi = clopper_pearson(bins.n_positive[some], bins.n[some])
    share = bins.n_positive[some] / bins.n[some]
    return Chart(
        "reliability",
        "Reliability",
        "mean probability given",
        "share that are lenses",
        [
            Series("perfect", [0, 1], [0, 1]),
            Series(version["name"], bins.mean_probability[some], share, lo, hi, "points"),
        ],
        what(version),
        f"Expected calibration error {metrics.expected_calibration_error(label, p):.3f}; it depends on the"
        f" share of lenses, here {label.mean():.4f}.",
        x_range=(0, 1),
        y_range=(0, 1),
    )


def completeness(conn: sa.Connection, version: dict[str, Any], options: dict[str, Any]) -> Chart:
    """Share of simulated lenses found against the flux of the line, or the magnitude of the arc."""
    rows = read_frame(
        conn,
        """
        with said as (
            select model_id, target_id, probability from current_score
            union all
            select model_id, target_id, probability from current_image_score
        ),
        passed as (
            select target_id, model_id from candidate
            union
            select target_id, model_id from image_candidate
        )
        select injection.line_flux, injection_lens.arc_mag, max(said.probability) as probability,
            max(case when passed.target_id is null then 0 else 1 end) as passed
        from injection
        inner join said on said.target_id = injection.target_id and said.model_id = :model_id
        left join injection_lens on injection_lens.target_id = injection.target_id
        left join passed on passed.target_id = injection.target_id and passed.model_id = said.model_id
        where injection.is_lens
        group by injection.target_id, injection.line_flux, injection_lens.arc_mag
        """,
        model_id=version["model_id"],
    )
    flux = rows["line_flux"].to_numpy(dtype=float)
    spectral = np.isfinite(flux).any()
    x = flux if spectral else rows["arc_mag"].to_numpy(dtype=float)
    good = np.isfinite(x)
    if not good.any():
        raise UserError(
            f"{version['name']} has scored no simulated lens of known brightness; make some with lensmine"
            " simulate"
        )
    edges = np.quantile(x[good], np.linspace(0, 1, min(9, max(2, good.sum() // 6)) + 1))
    edges = np.unique(edges)
    at = np.clip(np.searchsorted(edges, x[good], side="right") - 1, 0, max(len(edges) - 2, 0))
    middle = np.array([x[good][at == k].mean() for k in range(at.max() + 1) if (at == k).any()])
    out = []
    hit = rows["probability"].to_numpy(dtype=float)[good] >= (version["threshold"] or 0)
    for name, found in (
        ("above the threshold", hit),
        ("after all cuts", rows["passed"].to_numpy(dtype=bool)[good]),
    ):
        n = np.bincount(at)
        k = np.bincount(at, weights=found)[n > 0]
        n = n[n > 0]
        lo, hi = clopper_pearson(k, n)
        out.append(Series(name, middle, k / n, lo, hi))
    label = "line flux [1e-17 erg/s/cm²]" if spectral else "magnitude of the arc [AB mag]"
    return Chart(
        "completeness", "Completeness", label, "share of simulated lenses found", out, what(version),
        f"{good.sum()} simulated lenses.", y_range=(0, 1),
    )  # fmt: skip


def attrition(conn: sa.Connection, version: dict[str, Any], options: dict[str, Any]) -> Chart:
    """What is left after each step of the search."""
    rows = read_frame(
        conn,
        "select step_no, step, n_in, n_out, n_out_injected from attrition where model_id = :m order by"
        " step_no",
        m=version["model_id"],
    )
    if rows.empty:
        raise UserError(f"{version['name']} has no hits of spectra to follow through the cuts")
    names = ["scored", *rows["step"]]
    left = [float(rows["n_in"].iloc[0]), *rows["n_out"].astype(float)]
    return Chart(
        "attrition",
        "Attrition",
        "step",
        "targets left",
        [
            Series("all", np.arange(len(names)), np.maximum(left, 0.5), kind="bars"),
            Series(
                "simulated lenses",
                np.arange(1, len(names)),
                np.maximum(rows["n_out_injected"].astype(float), 0.5),
                kind="bars",
            ),
        ],
        what(version),
        f"{int(left[0]):,} scored, {int(left[-1]):,} candidates.",
        log_y=True,
        names=names,
    )


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
        ], what(version), f"{len(found)} candidates.", reverse_x=True,
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


def selection_slices(conn: sa.Connection) -> pd.DataFrame:
    """Every cell of the measured selection functions."""
    return read_frame(
        conn,
        """
        select selection_function.*, model.name as model from selection_function
        inner join model on model.model_id = selection_function.model_id
        order by measured_at desc, x_name, x_lo, y_lo
        """,
    )


def selection_chart(cells: pd.DataFrame, lo: float, hi: float) -> Chart:
    """P(selected) along the first parameter, for cells of the second within [lo, hi].

    Parameters
    ----------
    cells : DataFrame
        Cells of one measurement, stage and pair of parameters.
    lo, hi : float
        Reach of the second parameter; without one they are ignored.
    """
    first = cells.iloc[0]
    inside = (
        cells
        if pd.isna(first["y_name"])
        else cells[(cells["y_lo"] >= lo - 1e-9) & (cells["y_hi"] <= hi + 1e-9)]
    )
    sums = inside.groupby(["x_lo", "x_hi"], as_index=False)[["n_injected", "n_selected"]].sum()
    sums = sums[sums["n_injected"] > 0]
    low, high = clopper_pearson(sums["n_selected"], sums["n_injected"])
    middle = 0.5 * (sums["x_lo"] + sums["x_hi"])
    when = f"{first['measured_at']:%Y-%m-%d %H:%M} UTC" if first["measured_at"] is not None else ""
    reach = "" if pd.isna(first["y_name"]) else f", {first['y_name']} {lo:g} to {hi:g}"
    return Chart(
        f"selection_{first['x_name']}",
        f"Selection function, {first['stage']}",
        str(first["x_name"]),
        "share selected",
        [Series(f"{first['model']}{reach}", middle, sums["n_selected"] / sums["n_injected"], low, high)],
        f"model {first['model']}, instrument {first['instrument']}, threshold {first['threshold']}, "
        f"measurement {first['measurement_id']}, {when}",
        f"{int(sums['n_injected'].sum()):,} injections.",
        y_range=(0, 1),
    )


def stored_curve(conn: sa.Connection, evaluation_id: int, name: str) -> Chart:
    """A curve that an evaluation left in table metric."""
    about = (
        conn.execute(
            sa.text(
                "select evaluation.name, evaluation.evaluated_at, evaluation.n_positive,"
                " evaluation.n_negative, model.name as model, model.weights_hash from evaluation inner join"
                " model on model.model_id = evaluation.model_id where evaluation_id = :e"
            ),
            {"e": evaluation_id},
        )
        .mappings()
        .one()
    )
    rows = read_frame(
        conn,
        "select * from metric where evaluation_id = :e and name = :n order by point",
        e=evaluation_id,
        n=name,
    )
    return Chart(
        f"{name}_{evaluation_id}",
        f"{name.replace('_', ' ')} of test set {about['name']}",
        "x",
        "value",
        [
            Series(
                about["model"],
                rows["x"].astype(float),
                rows["value"].astype(float),
                rows["lo"].astype(float),
                rows["hi"].astype(float),
            )
        ],
        f"model {about['model']} {about['weights_hash'][:8]}, test set {about['name']},"
        f" {about['evaluated_at']:%Y-%m-%d %H:%M} UTC",
        f"{about['n_positive']} lenses, {about['n_negative']} others.",
    )


Maker = Callable[[sa.Connection, Any, dict[str, Any]], Chart]
PLOTS: dict[str, tuple[str, Maker, bool]] = {
    "trc": ("Tracer recovery curve", trc, True),
    "roc": ("ROC curve", roc, True),
    "reliability": ("Reliability", reliability, True),
    "completeness": ("Completeness against flux", completeness, True),
    "attrition": ("Attrition per cut", attrition, True),
    "sky": ("Sky map", sky_map, False),
    "colour_magnitude": ("Colour and magnitude", colour_magnitude, False),
    "redshifts": ("Redshift of lens and source", redshifts, False),
}
"""Name, title, maker, and whether the plot is of one model."""
