"""The plots of a search, each made of one query and a few lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import sqlalchemy as sa

from dashboard.charts import Chart, Series
from dashboard.plot_candidates import colour_magnitude, redshifts, sky_map
from dashboard.plot_versions import what
from schema.engine import read_frame
from schema.errors import UserError
from scoring.evaluate import metrics
from scoring.evaluate.intervals import clopper_pearson

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


IMAGES_LEFT = """
select count(*) as n, count(injection.target_id) as n_lens,
    count(*) filter (where said.probability >= :threshold) as n_hit,
    count(injection.target_id) filter (where said.probability >= :threshold) as n_lens_hit
from current_image_score as said
left join injection on injection.target_id = said.target_id and injection.is_lens
where said.model_id = :m
"""


def _attrition_of_images(conn: sa.Connection, version: dict[str, Any]) -> Chart:
    row = read_frame(conn, IMAGES_LEFT, m=version["model_id"], threshold=version["threshold"]).iloc[0]
    left, lenses = row[["n", "n_hit"]].to_numpy(float), row[["n_lens", "n_lens_hit"]].to_numpy(float)
    return Chart(
        "attrition", "Attrition", "step", "targets left",
        [
            Series("all", np.arange(2), np.maximum(left, 0.5), kind="bars"),
            Series("simulated lenses", np.arange(2), np.maximum(lenses, 0.5), kind="bars"),
        ],
        what(version),
        f"{int(left[0]):,} scored, {int(left[1]):,} at {version['threshold']:g} or above.",
        log_y=True, names=["scored", "above the threshold"],
    )  # fmt: skip


def attrition(conn: sa.Connection, version: dict[str, Any], options: dict[str, Any]) -> Chart:
    """What is left after each step of the search: the cuts of spectra, the threshold of images."""
    if version["modality"] == "image":
        return _attrition_of_images(conn, version)
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
