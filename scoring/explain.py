"""What became of one target: its scores, its fit, and the cut that dropped it, with the numbers."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from typing import Any

import sqlalchemy as sa

from schema.engine import connect_engine
from schema.errors import UserError
from schema.healpix import sep_arcsec_sql
from scoring.explain_image import IMAGE_MODELS, explain_images
from scoring.find_target import find_target, query_rows

LENS_REACH_ARCSEC = 60.0
"""Known lenses are listed up to this distance [arcsec]."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One cut on one hit: its verdict in words and numbers."""

    step: str
    passes: bool
    found: str
    asked: str


def explain(db: str | None, text: str, model: str | None = None) -> dict[str, Any]:
    """Everything that the database knows about what became of one target.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    text : str
        native_id (PLATE-MJD-FIBER), target_id, or a name by position as SDSS J111749.50+014036.9.
    model : str, optional
        Only this model; every model that has scored by default.

    Returns
    -------
    dict
        target, injection, spectra, verdicts (one per model of spectra: verdict, reason, score, steps, fit),
        known_lenses and images (scoring.explain_image: cutouts, and verdicts of models of images).

    Raises
    ------
    UserError
        When no target, or more than one, goes by that name; the message lists near matches.
    """
    with connect_engine(db, read_only=True).connect() as conn:
        target_id = find_target(conn, text)
        target = _row(conn, _TARGET, t=target_id)
        spectra = query_rows(conn, _SPECTRA, t=target_id)
        models = query_rows(
            conn, "select model_id, name, threshold, weights_hash, preprocessing_hash from model"
        )
        images = explain_images(conn, target_id, model)
        if model is not None and model not in {m["name"] for m in models}:
            have = ", ".join(sorted({m["name"] for m in models})) or "none has scored yet"
            raise UserError(f"no model {model!r} in this database; there are: {have}")
        of_images = {m["model_id"] for m in query_rows(conn, IMAGE_MODELS)}
        models = [m for m in models if model in (None, m["name"]) and m["model_id"] not in of_images]
        scores = query_rows(conn, _SCORES, t=target_id)
        of_name: dict[str, dict[str, Any]] = {}  # of each model, by the version that speaks for it
        for row in scores:  # that of the version in force first
            if _is_current(row):
                of_name.setdefault(row["model"], row)
        cuts = {
            r["model_id"]: r
            for r in query_rows(conn, "select * from hit_cut where target_id = :t", t=target_id)
        }
        names = {
            r["model_id"]: r["name"]
            for r in query_rows(
                conn, "select model_id, name from candidate where target_id = :t", t=target_id
            )
        }
        fits = {
            r["fit_id"]: r
            for r in query_rows(conn, "select * from line_fit where target_id = :t", t=target_id)
        }
        setting: dict[str, float] = defaultdict(
            lambda: math.nan
        )  # a threshold that was deleted drops everything
        setting |= {r["name"]: r["value"] for r in query_rows(conn, "select name, value from cut_setting")}
        injection = _row(conn, "select * from injection where target_id = :t", t=target_id)
        lenses = query_rows(conn, _LENSES, t=target_id, reach=LENS_REACH_ARCSEC)
        verdicts = [
            _verdict(
                conn, target, m, scores, cuts.get(m["model_id"]), fits, setting, names, of_name.get(m["name"])
            )
            for m in models
        ]
    return {
        "target": target,
        "injection": injection or None,
        "spectra": spectra,
        "verdicts": sorted(verdicts, key=lambda v: (v["model"], v["model_id"])),
        "known_lenses": lenses,
        "images": images,
    }


_TARGET = """
select target.*, spec_obj."class", spec_obj.subclass, spec_obj.z, spec_obj.z_err, spec_obj.z_warning,
    spec_obj.objtype, spec_obj.cmodel_mag_i, spec_obj.is_primary, spec_obj.n_epoch,
    first_epoch.native_id as primary_native_id, source_file.path as catalogue_file
from target
left join spec_obj on spec_obj.target_id = target.target_id
left join target as first_epoch on first_epoch.target_id = spec_obj.primary_target_id
left join source_file on source_file.source_file_id = spec_obj.source_file_id
where target.target_id = :t
"""
_SPECTRA = """
select spectrum.spectrum_id, spectrum.is_primary, spectrum.run2d, spectrum.n_good, spectrum.n_good_window,
    spectrum.content_hash, source_file.path as file, spectrum.hdu, spectrum.source_row,
    pixel_shard.name as shard, spectrum.shard_row
from spectrum
left join source_file on source_file.source_file_id = spectrum.source_file_id
left join pixel_shard on pixel_shard.shard_id = spectrum.shard_id
where spectrum.target_id = :t
order by spectrum.is_primary desc, spectrum.spectrum_id
"""
_SCORES = """
select score.model_id, model.name as model, model.weights_hash, version_order.last_run_id,
    score.spectrum_id, score.run_id, score.probability, score.wave_angstrom, score.snr,
    score.z_used, score.content_hash, spectrum.content_hash as content_hash_now,
    spectrum.is_primary, spec_obj.z as z_now,
    selection.name as selection, selection.version as selection_version, scoring_run.backend,
    scoring_run.precision, scoring_run.device, scoring_run.started_at
from score
inner join model on model.model_id = score.model_id
inner join version_order on version_order.model_id = score.model_id
left join spectrum on spectrum.spectrum_id = score.spectrum_id
left join spec_obj on spec_obj.target_id = score.target_id
left join scoring_run on scoring_run.run_id = score.run_id
left join selection on selection.selection_id = scoring_run.selection_id
where score.target_id = :t
order by version_order.last_run_id desc, score.run_id desc
"""
_SEP = sep_arcsec_sql("target.ra_deg", "target.dec_deg", "known_lens.ra_deg", "known_lens.dec_deg")
_LENSES = f"""
select known_lens.lens_id, known_lens.name, known_lens.z_lens, known_lens.z_source, known_lens.grading,
    {_SEP} as sep_arcsec
from target
inner join known_lens_cell on known_lens_cell.cell = (target.hpx29 >> 36)
inner join known_lens on known_lens.lens_id = known_lens_cell.lens_id
where target.target_id = :t
    and {_SEP} <= :reach
order by sep_arcsec, known_lens.lens_id
"""


def _row(conn: sa.Connection, query: str, **params: Any) -> dict[str, Any]:
    found = query_rows(conn, query, **params)
    return found[0] if found else {}


def _verdict(
    conn: sa.Connection,
    target: dict[str, Any],
    model: dict[str, Any],
    scores: list[dict[str, Any]],
    cut: dict[str, Any] | None,
    fits: dict[int, dict[str, Any]],
    setting: dict[str, float],
    names: dict[int, str],
    last: dict[str, Any] | None,
) -> dict[str, Any]:
    """What one model made of the target, and where it was dropped."""
    mine = [s for s in scores if s["model_id"] == model["model_id"]]
    row: dict[str, Any] = {
        "model": model["name"], "model_id": model["model_id"], "weights_hash": model["weights_hash"],
        "preprocessing_hash": model["preprocessing_hash"], "threshold": model["threshold"],
        "score": mine[0] if mine else None, "name": names.get(model["model_id"]),
        "first_failed_cut": None, "first_failed_cut_published": None, "steps": [], "fit": None,
    }  # fmt: skip
    if cut is None:
        if mine and last is not None and last["last_run_id"] > mine[0]["last_run_id"]:
            since = f"other weights of {model['name']}, {last['weights_hash'][:12]}, scored it and ran since"
            return {**row, "verdict": "superseded", "reason": since}
        verdict, reason = _no_hit(target, model, mine)
        return {**row, "verdict": verdict, "reason": reason}
    row["score"] = next(s for s in mine if s["run_id"] == cut["run_id"])
    steps = hit_steps(cut, setting)
    failed = cut["first_failed_cut"]
    row |= {"steps": [dataclasses.asdict(s) for s in steps], "first_failed_cut": failed}
    row["first_failed_cut_published"] = cut["first_failed_cut_published"]
    row["fit"] = fits.get(cut["fit_id"])
    if failed is None:
        return {**row, "verdict": "candidate", "reason": "no cut drops it"}
    step = next(s for s in steps if s.step == failed)
    return {**row, "verdict": f"dropped by {failed}", "reason": f"{step.found}; asked: {step.asked}"}


def _is_current(score: dict[str, Any]) -> bool:
    """Whether a score is of the pixels and the redshift that now stand."""
    same = score["content_hash"] == score["content_hash_now"] and score["z_used"] == score["z_now"]
    return bool(same and score["is_primary"])


def _no_hit(target: dict[str, Any], model: dict[str, Any], mine: list[dict[str, Any]]) -> tuple[str, str]:
    """Why a target is no hit of a model."""
    if not mine:
        return "not scored", f"{model['name']} has not scored it: no selection that was scored holds it"
    latest = mine[0]
    if latest["content_hash_now"] is None:
        return "not a hit", "the spectrum that was scored is no longer in the database; score again"
    if latest["content_hash"] != latest["content_hash_now"]:
        return "not a hit", "its score is of older pixels; score again"
    if latest["z_used"] != latest["z_now"]:
        return (
            "not a hit",
            f"its score is for z {latest['z_used']}, the lens now has z {latest['z_now']}; score again",
        )
    if latest["probability"] < (model["threshold"] or 0):
        return (
            "not a hit",
            f"probability {latest['probability']:.4g} is below the threshold {model['threshold']:g}",
        )
    if str(target.get("objtype") or "").strip().upper() == "SKY":
        return "not a hit", "it is a sky fibre"
    if target.get("is_primary") is False:
        return "not a hit", f"another epoch, {target['primary_native_id']}, is the primary of this object"
    return "not a hit", "the spectrum scored is not the primary one of this target"


def _pm(value: float | None, error: float | None = None, digits: int = 2) -> str:
    if value is None:
        return "not measured"
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def hit_steps(cut: dict[str, Any], setting: dict[str, float]) -> list[Step]:
    """Every cut on one hit, in order.

    Parameters
    ----------
    cut : dict
        Row of view hit_cut.
    setting : dict
        Thresholds of table cut_setting.
    """
    crowd = {}
    for frame in ("airglow", "rest_frame"):
        n, expected, p = (cut[f"{frame}_{c}"] for c in ("n_near", "n_expected", "p_value"))
        crowd[frame] = (
            "no wavelength in this frame" if n is None
            else f"{n} hits within {setting[f'{frame}_half_width_angstrom']:g} Å, "
            f"{cut[f'{frame}_n_core']} within half of it, "
            f"{_pm(expected)} expected, chance {1.0 if p is None else p:.2g}",
            f"not {setting[f'{frame}_min_count']:g} or more, {setting[f'{frame}_min_ratio']:g} times the "
            f"expectation, a chance below {setting[f'{frame}_max_p_value']:g} and a quarter within half",
        )  # fmt: skip
    near = cut["n_mask_near"]
    mask = f"in a masked interval ({cut['mask_reason']})" if cut["mask_reason"] else "in no masked interval"
    known = (
        f"{cut['known_lens']} at {cut['known_lens_sep_arcsec']:.2f} arcsec"
        if cut["known_lens"]
        else "none near"
    )
    lines = {
        "[OIII] 5008": "snr_oiii_5008",
        "[OIII] 4960": "snr_oiii_4960",
        "H beta": "snr_hbeta",
        "H alpha": "snr_halpha",
    }
    oii = ", ".join(f"{k} {'no answer' if cut[v] is None else f'{cut[v]:.1f}'}" for k, v in lines.items())
    least = setting["skewness_min_sigma"]
    published = f"above {setting['skewness_min']:g}" + (f" and {least:g} times its error" if least else "")
    verdict = "passes" if cut["passes_skewness"] else "fails"
    return [
        Step("hit", True, f"probability {cut['probability']:.4g}", f"at least {cut['threshold']:g}"),
        Step("fit", cut["passes_fit"], cut["fit_status"], "ok"),
        Step(
            "peak_flux", cut["passes_peak_flux"],
            f"{_pm(cut['peak_flux'], cut['peak_flux_err'])} e-17 erg/s/cm2/Å",
            f"at least {setting['peak_flux_min']:g}",
        ),
        Step("snr", cut["passes_snr"], _pm(cut["snr"]), f"at least {setting['snr_min']:g}"),
        Step(
            "width", cut["passes_width"],
            f"standard deviation {_pm(cut['sigma_angstrom'], cut['sigma_err_angstrom'])} Å",
            f"at least {setting['width_min_angstrom']:g} less {setting['width_max_sigma']:g} times its error",
        ),
        Step("airglow", cut["passes_airglow"], *crowd["airglow"]),
        Step("rest_frame", cut["passes_rest_frame"], *crowd["rest_frame"]),
        Step(
            "bad_pixel", cut["passes_bad_pixel"],
            f"{mask}, {'?' if near is None else near} masked pixels near",
            f"no interval, at most {setting['bad_pixel_max_near']:g} masked pixels",
        ),
        Step(
            "known_lens", cut["passes_known_lens"], known,
            f"no known lens within {setting['known_lens_radius_arcsec']:g} arcsec",
        ),
        Step(
            "asymmetry", cut["passes_asymmetry"],
            f"skewness {_pm(cut['skewness'], cut['skewness_err'])}, {_pm(cut['asymmetry_sigma'])} standard "
            f"deviations from a Gaussian; it {verdict} the published cut",
            f"at least -{setting['asymmetry_max_sigma']:g}; as published: skewness {published}",
        ),
        Step(
            "oii", cut["passes_oii"],
            f"S/N if [OII] at z {_pm(cut['z_oii'], digits=4)}: {oii}",
            f"all below {setting['oii_min_snr']:g}",
        ),
        Step(
            "source", cut["passes_source"],
            f"z_source {_pm(cut['z_lya'], digits=4)}, z_lens {_pm(cut['z_lens'], digits=4)}: "
            f"(z_source - z_lens) / (1 + z_lens) {_pm(cut['source_distance'], digits=3)}",
            f"at least {setting['source_min_distance']:g}",
        ),
    ]  # fmt: skip
