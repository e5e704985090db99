"""Figures of a search from what stands in the database: scores, cuts and the truth of simulated targets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import sqlalchemy as sa

from schema.engine import connect_engine, read_frame
from schema.errors import UserError
from scoring.evaluate import metrics
from scoring.evaluate.figures import FPR, Evaluation, add_common, at_threshold, binomial, completeness_curve
from scoring.evaluate.intervals import clopper_pearson

FLUX_EDGES = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 60.0, 100.0)
"""Bins of true line flux [1e-17 erg/s/cm2]."""

WAVE_EDGES = tuple(np.linspace(3800.0, 5000.0, 7))

STEPS = (
    "fit", "peak_flux", "snr", "width", "airglow", "rest_frame", "bad_pixel", "known_lens", "asymmetry",
    "oii", "source",
)  # fmt: skip
"""The cuts after the score, in the order of view hit_cut."""

SCORED = """
select
    injection.target_id,
    injection.is_lens,
    coalesce(injection.host_target_id, injection.target_id) as host,
    injection.line_flux,
    injection.wave_angstrom,
    current_score.probability,
    current_score.wave_angstrom as found_angstrom
from injection
inner join current_score on current_score.target_id = injection.target_id
where current_score.model_id = :model_id and not exists (
    select 1 from current_score as later
    inner join version_order as version on version.model_id = later.model_id
    inner join version_order as mine on mine.model_id = current_score.model_id
    where later.spectrum_id = current_score.spectrum_id and version.model = :name
        and version.last_run_id > mine.last_run_id
)
order by injection.target_id
"""
"""What another version speaks for is left out, as it is in the cuts (view version_order)."""

VERSION = """
select model.model_id, model.threshold
from current_score
inner join injection on injection.target_id = current_score.target_id
inner join model on model.model_id = current_score.model_id
inner join version_order on version_order.model_id = model.model_id
where model.name = :name
order by version_order.last_run_id desc
limit 1
"""

CUTS = """
select hit_cut.target_id, hit_cut.first_failed_cut
from hit_cut
inner join injection on injection.target_id = hit_cut.target_id
where hit_cut.model_id = :model_id
"""


def evaluate_stored(db: str | None, model_name: str) -> Evaluation:
    """Evaluate a model over the simulated targets that it has scored in the database.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    model_name : str
        A registered model; of several versions that scored simulated targets the one that ran last.

    Returns
    -------
    Evaluation
        Precision and completeness of the score, then after every cut (``precision_after``,
        ``completeness_after``: point 0 is the score alone, the others STEPS in order), completeness by true
        line flux and wavelength at the model's threshold and at 0.1% false positives (``completeness_flux``,
        ``completeness_flux_fpr`` and so on), ROC, tracer recovery curve, reliability.

    Raises
    ------
    UserError
        If the model has scored no simulated target.
    """
    with connect_engine(db, read_only=True).connect() as conn:
        model_id, threshold = latest_version(conn, model_name)
        last = conn.execute(sa.text(VERSION), {"name": model_name}).first()
        if last is not None:  # a later run of another version may have been about other targets
            model_id, threshold = int(last[0]), float(last[1])
        scored = read_frame(conn, SCORED, model_id=model_id, name=model_name)
        if scored.empty or not scored.is_lens.any():
            raise UserError(
                f"{model_name} has scored no simulated lens in this database; make some with: lensmine "
                f"evaluate injections {model_name} --selection NAME --as-targets, then score and fit them"
            )
        cuts = read_frame(conn, CUTS, model_id=model_id)
    label = scored.is_lens.to_numpy(dtype=bool)
    score = scored.probability.to_numpy(dtype=float)
    n_negative = int((~label).sum())
    note = {"recipe": "stored scores", "threshold": threshold, "n_scored": len(scored)}
    evaluation = Evaluation(model_name, "run", int(label.sum()), n_negative, note, model_id=model_id)
    evaluation.metrics += at_threshold(label, score, threshold)
    hit = score >= threshold
    _after_cuts(evaluation, scored, cuts, label, hit)
    lens = scored[label]
    completeness_curve("completeness_flux", evaluation, lens.line_flux, hit[label], FLUX_EDGES)
    completeness_curve("completeness_wave", evaluation, lens.wave_angstrom, hit[label], WAVE_EDGES)
    off = (lens.found_angstrom - lens.wave_angstrom).abs().to_numpy(dtype=float)[hit[label]]
    evaluation.metrics.append(binomial("position_right", int((off < 10).sum()), len(off), 10.0))
    if n_negative:
        with np.errstate(divide="ignore"):
            logit = np.log(score) - np.log1p(-score)
        logit = np.clip(logit, -700, 700)
        at_fpr = metrics.threshold_at_fpr(logit[~label], FPR)
        evaluation.metrics += at_threshold(label, logit, at_fpr, "_fpr")
        above = logit[label] >= at_fpr
        completeness_curve("completeness_flux_fpr", evaluation, lens.line_flux, above, FLUX_EDGES)
        completeness_curve("completeness_wave_fpr", evaluation, lens.wave_angstrom, above, WAVE_EDGES)
        add_common(evaluation, label, logit, scored.host.to_numpy())
    return evaluation


def _after_cuts(
    evaluation: Evaluation,
    scored: pd.DataFrame,
    cuts: pd.DataFrame,
    label: np.ndarray,
    hit: np.ndarray,
) -> None:
    """Precision and completeness of what is left after each cut."""
    failed = scored.target_id.map(cuts.set_index("target_id").first_failed_cut)
    in_view = scored.target_id.isin(cuts.target_id).to_numpy()
    left = hit & in_view
    n_lens = int(label.sum())
    found, share = [int((left & label).sum())], [int(left.sum())]
    for step in STEPS:
        left = left & (failed != step).to_numpy()
        found.append(int((left & label).sum()))
        share.append(int(left.sum()))
    k, n = np.array(found), np.array(share)
    at = np.arange(len(k))
    lo, hi = clopper_pearson(k, n_lens)
    evaluation.add_curve("completeness_after", at, k / n_lens, lo, hi, n_lens)
    some = n > 0
    lo, hi = clopper_pearson(k, n)
    evaluation.add_curve("precision_after", at[some], k[some] / n[some], lo[some], hi[some], n[some])


def latest_version(conn: sa.Connection, model_name: str) -> tuple[int, float]:
    row = conn.execute(
        sa.text(
            "select model.model_id, model.threshold from scoring_run "
            "inner join model on model.model_id = scoring_run.model_id "
            "where model.name = :name order by scoring_run.run_id desc limit 1"
        ),
        {"name": model_name},
    ).first()
    if row is None:
        raise UserError(
            f"{model_name} has scored nothing in this database; first: lensmine score {model_name} SELECTION"
        )
    return int(row[0]), float(row[1])
