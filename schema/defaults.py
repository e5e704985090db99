"""Thresholds and masks of a new database; the views read them from tables, so SQL can tune them."""

from __future__ import annotations

import sqlalchemy as sa

from schema.ids import hashed_id
from schema.tables import cut_setting, wave_mask

DEFAULT_CUTS: list[tuple[str, float, str, str]] = [
    (
        "known_lens_radius_arcsec",
        5.0,
        "arcsec",
        "A known lens within this separation is the target itself; at most 60, the reach of known_lens_cell.",
    ),
    (
        "peak_flux_min",
        1.0,
        "1e-17 erg / (s cm2 Angstrom)",
        "A fitted peak below it is rejected (Li et al. 2018, section 4).",
    ),
    ("search_wave_min_angstrom", 3800.0, "Angstrom", "Blue end of the search window (Li et al. 2018)."),
    ("search_wave_max_angstrom", 5000.0, "Angstrom", "Red end of the search window (Li et al. 2018)."),
    ("airglow_half_width_angstrom", 5.0, "Angstrom", "Observed wavelength within which hits crowd."),
    ("airglow_reach_angstrom", 60.0, "Angstrom", "Observed wavelength from which the expectation is taken."),
    ("airglow_min_count", 5.0, "", "Fewer hits than this are no over-density."),
    ("airglow_min_ratio", 2.0, "", "An over-density is at least this many times the expectation."),
    ("airglow_max_p_value", 1e-4, "", "Chance of so many hits, below which they are an over-density."),
    (
        "rest_frame_half_width_angstrom",
        4.0,
        "Angstrom",
        "Rest wavelength within which hits crowd.",
    ),
    (
        "rest_frame_reach_angstrom",
        50.0,
        "Angstrom",
        "Rest wavelength from which the expectation is taken.",
    ),
    ("rest_frame_min_count", 5.0, "", "Fewer hits than this are no over-density."),
    ("rest_frame_min_ratio", 2.0, "", "An over-density is at least this many times the expectation."),
    ("rest_frame_max_p_value", 1e-4, "", "Chance of so many hits, below which they are an over-density."),
    ("bad_pixel_max_near", 4.0, "", "Most masked pixels within 10 pixels of a line."),
    ("skewness_min", 0.0, "", "The skewness must exceed it (Li et al. 2018, section 4: 0)."),
    ("skewness_min_sigma", 0.0, "", "The skewness must be this many times its error; 0 as in the paper."),
    (
        "asymmetry_max_sigma",
        1.0,
        "",
        "A line fails when a blue tail fits better than a Gaussian by this many standard deviations.",
    ),
    ("snr_min", 6.0, "", "Least S/N of the matched filter at the hit (Shu et al. 2016: 6)."),
    (
        "width_min_angstrom",
        0.9,
        "Angstrom",
        "Least standard deviation of a line; the slit of BOSS makes 1.0.",
    ),
    ("width_max_sigma", 2.0, "", "The width may lie below it by this many times its error."),
    (
        "source_min_distance",
        0.02,
        "",
        "Least (z_source - z_lens) / (1 + z_lens): 6,000 km/s, beyond what belongs to the lens.",
    ),
    (
        "oii_min_snr",
        3.5,
        "",
        "[OIII], H beta or H alpha at the redshift of [OII] is there from this S/N on; "
        "noise alone reaches it in 0.3% of lines.",
    ),
    (
        "review_grades_enough",
        3.0,
        "",
        "A target with that many grades leaves the queue that hides what has enough.",
    ),
    (
        "review_calibration_rate",
        0.1,
        "",
        "Share of objects in a reviewer's queue that are calibrators, 0 to 0.9.",
    ),
    ("review_prior_lens", 0.01, "", "Probability of a lens before any grade, for the consensus."),
    (
        "review_disagreement",
        2.0,
        "",
        "Grades so many steps apart go to adjudication; A, B, C and X are one step apart.",
    ),
]
"""Name, value, unit and meaning of every threshold."""

DEFAULT_MASKS: list[tuple[str, float, float, str]] = [
    ("rest", 3340.1, 3353.5, "lens: [NeV] 3346.8"),
    ("rest", 3420.0, 3433.7, "lens: [NeV] 3426.9"),
    ("rest", 3721.0, 3736.0, "lens: [OII] 3727.1, 3729.9"),
    ("rest", 3862.1, 3877.6, "lens: [NeIII] 3869.9"),
]
"""Frame, edges [Angstrom, vacuum] and reason of every masked interval.

The lens's lines are those that Li et al. (2018, section 3.3) mask. The lines of mercury lamps, 4047.7 and
4359.6, are the only ones of the sky in 3800-5000 Angstrom that exceed twice the sky continuum in the median
of 124 BOSS and SDSS spectra, but what the sky subtraction leaves of them is no more than beside them
(``python -m benchmarks.sky_residuals``). A mask there would cost lenses and spare nothing; where airglow does
leave residuals the cut on over-densities finds them. Rows of frame ``observed`` can be added to wave_mask.
"""


def ensure_defaults(conn: sa.Connection) -> int:
    """Add the thresholds that the database lacks, and the masks where it has none; what is there stays.

    Returns
    -------
    int
        Rows added.
    """
    have = set(conn.execute(sa.select(cut_setting.c.name)).scalars())
    rows = [
        {"name": name, "value": value, "unit": unit, "description": text}
        for name, value, unit, text in DEFAULT_CUTS
        if name not in have
    ]
    if rows:
        conn.execute(cut_setting.insert(), rows)
    masks = []
    if conn.execute(sa.select(sa.func.count()).select_from(wave_mask)).scalar() == 0:
        masks = [
            {
                "wave_mask_id": hashed_id("wave_mask", frame, lo, hi),
                "frame": frame,
                "wave_min_angstrom": lo,
                "wave_max_angstrom": hi,
                "reason": reason,
            }
            for frame, lo, hi, reason in DEFAULT_MASKS
        ]
        conn.execute(wave_mask.insert(), masks)
    return len(rows) + len(masks)
