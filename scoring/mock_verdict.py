"""The candidates of a mock survey against its truth: how many lenses were found, and what else was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from schema.engine import connect_engine, read_frame
from scoring.evaluate.intervals import clopper_pearson, wilson

FLUX_LIMIT = 15.0
"""Line flux from which a lens counts as one that should be found [1e-17 erg/s/cm2]."""
Z_TOLERANCE = 0.01
"""Largest error of a source redshift for a candidate to be the lens that was put in."""


def judge(db: str, truth_path: Path, model: str) -> dict[str, Any]:
    """Compare the candidates of a mock survey with what was put in.

    Parameters
    ----------
    db : str
        Database with the survey ingested, scored and fitted.
    truth_path : Path
        Its truth.csv.
    model : str
        Model whose candidates are judged.

    Returns
    -------
    dict
        injected, recovered and false_candidates with their intervals, the same by the published cuts
        (``published_cuts``), the lenses lost and to what, the attrition per cut, and the candidates with
        their truth.
    """
    with connect_engine(db, read_only=True).connect() as conn:
        attrition = read_frame(conn, "select * from attrition where model = :m order by step_no", m=model)
        candidates = read_frame(
            conn, "select * from candidate where model = :m order by line_flux desc", m=model
        )
        cuts = read_frame(
            conn,
            "select target_id, z_lya as z_source, first_failed_cut, first_failed_cut_published "
            "from hit_cut where model = :m",
            m=model,
        )
        searched = set(read_frame(conn, "select target_id from current_score")["target_id"])
    truth = pd.read_csv(truth_path)
    both, is_right = _with_truth(candidates, truth)
    injected = truth[(truth["kind"] == "lens") & (truth["line_flux"] >= FLUX_LIMIT)]
    recovered = both[is_right & both["target_id"].isin(injected["target_id"])]
    lost = injected[~injected["target_id"].isin(recovered["target_id"])]
    n_plain = len(searched - set(truth.loc[truth["is_lens"], "target_id"]))
    figures = _figures(len(recovered), len(injected), int((~is_right).sum()), n_plain)
    as_published = cuts[cuts["first_failed_cut_published"].isna()]
    theirs, theirs_right = _with_truth(as_published, truth)
    n_theirs = int((theirs_right & theirs["target_id"].isin(injected["target_id"])).sum())
    known = truth[truth["kind"] == "known_lens"]
    refound = cuts[(cuts["first_failed_cut"] == "known_lens") & cuts["target_id"].isin(known["target_id"])]
    return {
        "injected": len(injected),
        **figures,
        "flux_limit": FLUX_LIMIT,
        "fainter_lenses_found": int(is_right.sum()) - len(recovered),
        "non_lenses_searched": n_plain,
        "published_cuts": _figures(n_theirs, len(injected), int((~theirs_right).sum()), n_plain),
        "known_lenses": len(known),
        "known_lenses_found_again": len(refound),
        "lost": _reasons(lost, cuts, searched),
        "false_kinds": both.loc[~is_right, "kind"].value_counts().to_dict(),
        "attrition": attrition.drop(columns=["model_id", "model"]).to_dict("records"),
        "candidates": _candidate_rows(both, is_right),
    }


def _with_truth(found: pd.DataFrame, truth: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series[bool]]:
    """Candidates beside their truth, and which of them are the lens that was put in."""
    both = found.merge(
        truth[["target_id", "kind", "z_source", "line_flux"]],
        on="target_id",
        how="left",
        suffixes=("", "_true"),
    )
    near = (both["z_source"] - both["z_source_true"]).abs() < Z_TOLERANCE
    return both, both["kind"].isin(["lens", "known_lens"]) & near


def _figures(n_recovered: int, n_injected: int, n_false: int, n_plain: int) -> dict[str, Any]:
    """Recovered share with Wilson's interval, false ones per 10,000 with the exact one."""
    lo, hi = wilson(n_recovered, n_injected)
    false_lo, false_hi = clopper_pearson(n_false, n_plain)
    per = 1e4 / max(1, n_plain)
    return {
        "recovered": n_recovered,
        "false_candidates": n_false,
        "recovered_fraction": n_recovered / max(1, n_injected),
        "recovered_interval": [float(lo), float(hi)],
        "false_per_10000": per * n_false,
        "false_per_10000_interval": [1e4 * float(false_lo), 1e4 * float(false_hi)],
    }


def _reasons(lost: pd.DataFrame, cuts: pd.DataFrame, searched: set[int]) -> list[dict[str, Any]]:
    """The lenses above the limit that are no candidates, and what dropped each."""
    first = dict(zip(cuts["target_id"], cuts["first_failed_cut"], strict=True))
    out = []
    for row in lost.itertuples():
        if row.target_id not in searched:
            why = "not scored"
        elif row.target_id not in first:
            why = "below the threshold"
        else:
            why = first[row.target_id] or "wrong redshift"
        out.append(
            {
                "native_id": row.native_id,
                "line_flux": row.line_flux,
                "wave_angstrom": row.wave_angstrom,
                "why": why,
            }
        )
    return out


def _candidate_rows(both: pd.DataFrame, is_right: pd.Series[bool]) -> list[dict[str, Any]]:
    names = [
        "name",
        "native_id",
        "z_lens",
        "z_source",
        "line_flux",
        "line_flux_err",
        "skewness",
        "skewness_err",
    ]
    names += ["probability", "snr", "target_id"]
    rows = both[names].assign(truth=both["kind"].where(~is_right, "lens").fillna("?"))
    return [{str(k): v for k, v in row.items()} for row in rows.to_dict("records")]
