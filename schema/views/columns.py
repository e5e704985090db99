"""Unit, UCD and meaning of the columns that views compute; others keep those of the table they come from."""

from __future__ import annotations

_Z = "src.redshift"
_LENS_Z = "Redshift of the lens: z of the spectrum, spec_obj.z."
_REST = "Wavelength of the hit in the rest frame of the lens."
_P = "Chance of so many hits near this one, were they spread as those around it."

VIEW_COLUMNS: dict[str, tuple[str, str, str]] = {
    "airglow_n_expected": ("Hits expected near this observed wavelength.", "", "meta.number"),
    "airglow_n_core": ("Of those near, the ones within half of that distance.", "", "meta.number"),
    "airglow_n_near": ("Hits near this observed wavelength.", "", "meta.number"),
    "airglow_p_value": (_P, "", "stat.probability"),
    "candidate.name": ("Name by position, SDSS JHHMMSS.ss+DDMMSS.s.", "", "meta.id;meta.main"),
    "attrition.description": ("What the step asks.", "", "meta.note"),
    "attrition.model": ("Name of the model.", "", "meta.id"),
    "attrition.n_in": ("Hits that enter the step.", "", "meta.number"),
    "attrition.n_in_injected": ("Of these, simulated lenses.", "", "meta.number"),
    "attrition.n_out": ("Hits that leave it.", "", "meta.number"),
    "attrition.n_out_injected": ("Of these, simulated lenses.", "", "meta.number"),
    "attrition.n_out_injected_published": (
        "Simulated lenses that leave it by the published cuts.",
        "",
        "meta.number",
    ),
    "attrition.n_out_published": ("Hits that leave it by the published cuts.", "", "meta.number"),
    "attrition.step": ("Name of the step: a cut, or scored and hit.", "", "meta.id"),
    "attrition.step_no": ("Position of the step.", "", "meta.number"),
    "asymmetry_sigma": (
        "Significance of the asymmetry: root of delta_chi2_gaussian, negative for a blue tail.",
        "",
        "stat.value",
    ),
    "completeness": ("Share of the lenses in the bin that are selected.", "", "stat.probability"),
    "completeness_hi": ("Upper end of its 95% interval.", "", "stat.probability;stat.max"),
    "completeness_lo": ("Lower end of its 95% interval.", "", "stat.probability;stat.min"),
    "first_failed_cut": ("First cut that the hit fails; null for a candidate.", "", "meta.code.status"),
    "first_failed_cut_published": (
        "First cut of Li et al. (2018) that the hit fails; null for a candidate of theirs.",
        "",
        "meta.code.status",
    ),
    "hit_crowd.frame": ("airglow (observed wavelength) or rest_frame (that of the lens).", "", "meta.code"),
    "hit_crowd.is_crowd": ("True when the hit lies in a crowd.", "", "meta.code"),
    "hit_crowd.n_core": ("Hits within half of the half width.", "", "meta.number"),
    "hit_crowd.n_expected": ("Hits expected within the half width.", "", "meta.number"),
    "hit_crowd.n_near": ("Hits within the half width.", "", "meta.number"),
    "hit_crowd.p_value": (_P, "", "stat.probability"),
    "fit_status": ("Status of the line fit, or: not fitted yet.", "", "meta.code.status"),
    "g_i": ("Colour g - i.", "mag", "phot.color;em.opt.B;em.opt.I"),
    "g_r": ("Colour g - r.", "mag", "phot.color;em.opt.B;em.opt.R"),
    "i_z": ("Colour i - z.", "mag", "phot.color;em.opt.I"),
    "image_content_hash": ("Hash of the primary cutout's pixels.", "", "meta.checksum"),
    "image_instrument": ("Instrument of the primary cutout.", "", "meta.id;instr"),
    "image_shard_id": ("Image shard of the primary cutout.", "", "meta.id"),
    "image_shard_row": ("Row in that shard.", "", "meta.number"),
    "known_lens": ("Name of the nearest known lens.", "", "meta.id"),
    "known_lens_id": ("Nearest known lens.", "", "meta.id"),
    "known_lens_sep_arcsec": ("Separation from it.", "arcsec", "pos.angDistance"),
    "line_wave_angstrom": ("Flux-weighted mean wavelength of the fitted line.", "Angstrom", "em.wl.central"),
    "line_wave_err_angstrom": ("Error of it.", "Angstrom", "stat.error;em.wl.central"),
    "mask_reason": ("Why the wavelength is not trusted; null when it is.", "", "meta.note"),
    "model": ("Name of the model that found it.", "", "meta.id"),
    "modality": ("What was scored: spectrum or image.", "", "meta.code"),
    "n_candidate": ("Real candidates in the bin.", "", "meta.number"),
    "n_corrected": (
        "Lenses that these stand for: n_candidate / completeness; null where that is 0 or unknown.",
        "",
        "meta.number",
    ),
    "n_corrected_err": ("Error of n_corrected.", "", "stat.error"),
    "n_ranked": ("Targets in the model's list.", "", "meta.number"),
    "n_tied": ("Targets of the same probability, this one included.", "", "meta.number"),
    "ordinality": ("Place over the length of the list.", "", "arith.factor"),
    "passes": ("True when the hit passes the cut; null when it cannot be told.", "", "meta.code"),
    "place": ("Place in the model's list, from 1; the mean place of those tied.", "", "meta.number"),
    "r_i": ("Colour r - i.", "mag", "phot.color;em.opt.R;em.opt.I"),
    "rest_frame_n_expected": ("Hits expected near this rest wavelength.", "", "meta.number"),
    "rest_frame_n_core": ("Of those near, the ones within half of that distance.", "", "meta.number"),
    "rest_frame_n_near": ("Hits near this rest wavelength of the lens.", "", "meta.number"),
    "rest_frame_p_value": (_P, "", "stat.probability"),
    "rest_wave_angstrom": (_REST, "Angstrom", "em.wl"),
    "selectable.spectrum_run2d": ("Reduction version of the primary spectrum.", "", "meta.version"),
    "sep_arcsec": ("Great-circle separation.", "arcsec", "pos.angDistance"),
    "consensus.calibrator_is_lens": ("Truth of a calibrator; null for other targets.", "", "meta.code"),
    "consensus.is_calibrator": ("True for an object of known truth.", "", "meta.code"),
    "consensus.verdict": ("Grade that an adjudicator gave; null without one.", "", "meta.code"),
    "grade_range": ("Steps between the highest and the lowest grade.", "", "stat.value"),
    "grade_value": ("3 for A, 2 for B, 1 for C, 0 for X.", "", "meta.code"),
    "last_graded_at": ("When the latest standing grade was given (UTC).", "", "time.creation"),
    "mean_value": ("Mean of the grades, 3 for A to 0 for X.", "", "stat.value"),
    "n_a": ("Standing grades A.", "", "meta.number"),
    "n_adjudication": ("Verdicts of adjudicators.", "", "meta.number"),
    "n_b": ("Standing grades B.", "", "meta.number"),
    "n_c": ("Standing grades C.", "", "meta.number"),
    "n_grade": ("Standing grades, one of each reviewer.", "", "meta.number"),
    "n_x": ("Standing grades X.", "", "meta.number"),
    "p_grade": (
        "Estimated probability of the grade given the truth, (n + 1) / (n_truth + 4).",
        "",
        "stat.probability",
    ),
    "p_lens": ("Probability of a lens given the grades.", "", "stat.probability"),
    "p_lens_hi": ("Upper end of its 95% interval.", "", "stat.probability;stat.max"),
    "p_lens_lo": ("Lower end of its 95% interval.", "", "stat.probability;stat.min"),
    "review_queue.is_known": (
        "True when a known lens lies within known_lens_radius_arcsec.",
        "",
        "meta.code",
    ),
    "review_queue.n_model": ("Models that propose the target.", "", "meta.number"),
    "review_queue.probability": (
        "Highest probability of the models that propose it.",
        "",
        "stat.probability",
    ),
    "reviewer": ("Name of the reviewer.", "", "meta.id"),
    "reviewer_confusion.n": ("Calibrators of the truth that got the grade.", "", "meta.number"),
    "reviewer_confusion.n_truth": ("Calibrators of the truth that the reviewer graded.", "", "meta.number"),
    "share": ("n over n_truth; null without any.", "", "arith.factor"),
    "share_hi": ("Upper end of its 95% interval.", "", "arith.factor;stat.max"),
    "share_lo": ("Lower end of its 95% interval.", "", "arith.factor;stat.min"),
    "spread": ("Highest minus lowest probability of the models that scored the target.", "", "stat.value"),
    "var_ln_p": ("Variance of the logarithm of p_grade.", "", "stat.variance"),
    "source_distance": ("(z_lya - z_lens) / (1 + z_lens), the line being Lyman alpha.", "", _Z),
    "z_lens": (_LENS_Z, "", _Z),
    "z_source": ("Redshift of the source, the line being Lyman alpha.", "", _Z),
}
"""Column, or view.column where a name means two things: meaning, unit, UCD. ``passes_*`` go by ``passes``."""


def view_column(view: str, column: str) -> tuple[str, str, str] | None:
    """Meaning, unit and UCD of a computed column; None when it comes from a table as it is."""
    found = VIEW_COLUMNS.get(f"{view}.{column}") or VIEW_COLUMNS.get(column)
    if found is None and column.startswith("passes_"):
        return VIEW_COLUMNS["passes"]
    return found
