"""What follows a hit: line fits, the truth of simulated targets, thresholds and masks of the cuts."""

from __future__ import annotations

import sqlalchemy as sa

from schema.tables.base import FLUX_DENSITY_UNIT, FLUX_UNIT, Time, col, key, metadata

line_fit = sa.Table(
    "line_fit",
    metadata,
    key("fit_id", "Key: hash of spectrum, pixels, wavelength and fit version."),
    col("target_id", sa.BigInteger, "Target.", ucd="meta.id", nullable=False, index=True),
    col("spectrum_id", sa.BigInteger, "Spectrum fitted.", ucd="meta.id", nullable=False, index=True),
    col("content_hash", sa.Text, "Hash of the pixels fitted.", ucd="meta.checksum", nullable=False),
    col(
        "model_id",
        sa.BigInteger,
        "Model whose hit is fitted.",
        ucd="meta.id",
        nullable=False,
        ref="model.model_id",
    ),
    col(
        "fit_version",
        sa.Text,
        "Version of the fitting code and its settings.",
        ucd="meta.version",
        nullable=False,
    ),
    col(
        "hit_wave_angstrom",
        sa.Double,
        "Wavelength at which the score put the line.",
        unit="Angstrom",
        ucd="em.wl",
    ),
    col("status", sa.Text, "ok, or why the fit failed.", ucd="meta.code.status", nullable=False),
    col(
        "wave_angstrom",
        sa.Double,
        "Flux-weighted mean wavelength of the line, vacuum.",
        unit="Angstrom",
        ucd="em.wl.central",
    ),
    col(
        "wave_err_angstrom",
        sa.Double,
        "Error of wave_angstrom.",
        unit="Angstrom",
        ucd="stat.error;em.wl.central",
    ),
    col(
        "peak_wave_angstrom",
        sa.Double,
        "Wavelength of the fitted profile's peak, vacuum.",
        unit="Angstrom",
        ucd="em.wl",
    ),
    col("line_flux", sa.Double, "Line flux above the constant.", unit=FLUX_UNIT, ucd="phot.flux;spect.line"),
    col(
        "line_flux_err",
        sa.Double,
        "Error of line_flux.",
        unit=FLUX_UNIT,
        ucd="stat.error;phot.flux;spect.line",
    ),
    col(
        "peak_flux",
        sa.Double,
        "Peak flux density above the constant.",
        unit=FLUX_DENSITY_UNIT,
        ucd="phot.flux.density;stat.max",
    ),
    col(
        "peak_flux_err",
        sa.Double,
        "Error of peak_flux.",
        unit=FLUX_DENSITY_UNIT,
        ucd="stat.error;phot.flux.density",
    ),
    col(
        "sigma_angstrom",
        sa.Double,
        "Standard deviation of the profile.",
        unit="Angstrom",
        ucd="spect.line.width",
    ),
    col(
        "sigma_err_angstrom",
        sa.Double,
        "Error of sigma_angstrom.",
        unit="Angstrom",
        ucd="stat.error;spect.line.width",
    ),
    col(
        "skewness",
        sa.Double,
        "Skew parameter of the skew-normal profile, positive for a red tail (Li et al. 2018, Table 1).",
        ucd="spect.line.asymmetry",
    ),
    col("skewness_err", sa.Double, "Error of skewness.", ucd="stat.error;spect.line.asymmetry"),
    col(
        "constant",
        sa.Double,
        "Constant level under the line.",
        unit=FLUX_DENSITY_UNIT,
        ucd="phot.flux.density;spect.continuum",
    ),
    col(
        "constant_err",
        sa.Double,
        "Error of the constant.",
        unit=FLUX_DENSITY_UNIT,
        ucd="stat.error;spect.continuum",
    ),
    col("chi2", sa.Double, "Chi-squared of the fit.", ucd="stat.fit.chi2"),
    col("dof", sa.Integer, "Degrees of freedom of the fit.", ucd="stat.fit.dof"),
    col("line_snr", sa.Double, "line_flux / line_flux_err.", ucd="stat.snr;spect.line"),
    col(
        "delta_chi2_gaussian",
        sa.Double,
        "Chi-squared of the symmetric Gaussian fit minus that of the skew-normal one.",
        ucd="stat.fit.chi2",
    ),
    col(
        "z_lya",
        sa.Double,
        "Source redshift if the line is Lyman alpha (1215.67 Angstrom).",
        ucd="src.redshift",
    ),
    col("z_oii", sa.Double, "Redshift if the line is [OII] 3728.", ucd="src.redshift"),
    col(
        "snr_oiii_5008",
        sa.Double,
        "S/N of [OIII] 5008 at z_oii; null when outside the spectrum.",
        ucd="stat.snr;spect.line",
    ),
    col(
        "snr_oiii_4960",
        sa.Double,
        "S/N of [OIII] 4960 at z_oii; null when outside the spectrum.",
        ucd="stat.snr;spect.line",
    ),
    col(
        "snr_hbeta",
        sa.Double,
        "S/N of H beta at z_oii; null when outside the spectrum.",
        ucd="stat.snr;spect.line",
    ),
    col(
        "snr_halpha",
        sa.Double,
        "S/N of H alpha at z_oii; null when outside the spectrum.",
        ucd="stat.snr;spect.line",
    ),
    col(
        "n_mask_near", sa.Integer, "Masked or ivar-0 pixels within 10 pixels of the line.", ucd="meta.number"
    ),
    col("fitted_at", Time, "When it was fitted (UTC).", ucd="time.creation"),
    comment="One row per hit and fit version: skew-normal plus constant, and the [OII] alternative.",
)


injection = sa.Table(
    "injection",
    metadata,
    key("target_id", "Simulated target.", ref="target.target_id"),
    col(
        "host_target_id",
        sa.BigInteger,
        "Real target whose spectrum the line was put into; null for a full simulation.",
        ucd="meta.id",
    ),
    col(
        "is_lens",
        sa.Boolean,
        "True when a background line was put in; false for a negative control.",
        ucd="meta.code",
        nullable=False,
    ),
    col("z_lens", sa.Double, "True lens redshift.", ucd="src.redshift"),
    col("z_source", sa.Double, "True source redshift.", ucd="src.redshift"),
    col("line", sa.Text, "Line put in: lya or oii.", ucd="meta.code;spect.line"),
    col(
        "wave_angstrom",
        sa.Double,
        "True observed wavelength of the line.",
        unit="Angstrom",
        ucd="em.wl.central",
    ),
    col("line_flux", sa.Double, "True line flux.", unit=FLUX_UNIT, ucd="phot.flux;spect.line"),
    col(
        "peak_flux",
        sa.Double,
        "True peak flux density.",
        unit=FLUX_DENSITY_UNIT,
        ucd="phot.flux.density;stat.max",
    ),
    col("fwhm_km_s", sa.Double, "True full width at half maximum.", unit="km / s", ucd="spect.line.width"),
    col(
        "skewness",
        sa.Double,
        "True skew parameter of the profile; 0 for a Gaussian.",
        ucd="spect.line.asymmetry",
    ),
    col("recipe", sa.Text, "Generator and its version.", ucd="meta.note;meta.software"),
    col("seed", sa.BigInteger, "Seed of the generator.", ucd="meta.number"),
    comment="One row per simulated target: the truth that goes through the same pipeline as everything else.",
)


cut_setting = sa.Table(
    "cut_setting",
    metadata,
    col("name", sa.Text, "Name of the threshold.", ucd="meta.id", primary_key=True),
    col("value", sa.Double, "Its value.", ucd="arith.factor", nullable=False),
    col("unit", sa.Text, "Unit of the value.", ucd="meta.unit"),
    col("description", sa.Text, "What it decides, with the paper it follows.", ucd="meta.note"),
    comment="One row per threshold of the post-selection cuts; the views read them, so SQL can tune them.",
)


wave_mask = sa.Table(
    "wave_mask",
    metadata,
    key("wave_mask_id", "Key: hash of frame and interval."),
    col("frame", sa.Text, "observed or rest (of the lens).", ucd="meta.code", nullable=False),
    col(
        "wave_min_angstrom",
        sa.Double,
        "Lower edge, vacuum.",
        unit="Angstrom",
        ucd="em.wl;stat.min",
        nullable=False,
    ),
    col(
        "wave_max_angstrom",
        sa.Double,
        "Upper edge, vacuum.",
        unit="Angstrom",
        ucd="em.wl;stat.max",
        nullable=False,
    ),
    col("reason", sa.Text, "What stands there: an airglow line, a line of the lens.", ucd="meta.note"),
    comment="One row per wavelength interval in which a hit is not trusted.",
)
