"""Every table of lensmine, with the unit and meaning of each column.

The data dictionary (``lensmine db dictionary``) and the metadata of every export are made from the ``doc``,
``unit`` and ``ucd`` given here. Units are those astropy.units reads, UCDs follow UCD1+ (IVOA 2018). Foreign keys are
declared for PostgreSQL; on DuckDB, where they block schema changes on the parent, ``lensmine db check``
proves the same integrity by query.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = sa.MetaData(naming_convention=NAMING)

Json = sa.JSON().with_variant(JSONB(), "postgresql")
Time = sa.DateTime(timezone=True)
FLUX_UNIT = "1e-17 erg / (s cm2)"
FLUX_DENSITY_UNIT = "1e-17 erg / (s cm2 Angstrom)"


def col(
    name: str, kind: Any, doc: str, *, unit: str = "", ucd: str = "meta", ref: str | None = None, **kw: Any
) -> sa.Column[Any]:
    """One documented column; ``ref`` names the parent column of a foreign key kept on PostgreSQL only."""
    info = {"unit": unit, "ucd": ucd, "ref": ref}
    return sa.Column(name, kind, doc=doc, info=info, **kw)


def key(name: str, doc: str, **kw: Any) -> sa.Column[Any]:
    """A 64-bit primary key made by schema.ids."""
    return col(name, sa.BigInteger, doc, ucd="meta.id;meta.main", primary_key=True, autoincrement=False, **kw)


source_file = sa.Table(
    "source_file",
    metadata,
    key("source_file_id", "Key: hash of the path as it was given to ingest, made absolute."),
    col("path", sa.Text, "Absolute path or fsspec URL of the file.", ucd="meta.ref.url", nullable=False),
    col(
        "kind",
        sa.Text,
        "Recognised format: spec, spplate, spzbest, specobj, spall, lenscat, masterlens, mock.",
        ucd="meta.code.class",
    ),
    col("content_hash", sa.Text, "xxh3_128 of the bytes of the file.", ucd="meta.checksum"),
    col("size_bytes", sa.BigInteger, "Size of the file.", unit="byte", ucd="meta.number"),
    col("n_rows", sa.BigInteger, "Rows or spectra loaded from it.", ucd="meta.number"),
    col("n_rejected", sa.BigInteger, "Rows or spectra of it kept in reject instead.", ucd="meta.number"),
    col("ingested_at", Time, "When its present content was loaded (UTC).", ucd="time.creation"),
    comment="One row per survey file that ingest has read, in its present content.",
)

reject = sa.Table(
    "reject",
    metadata,
    key("reject_id", "Key: hash of file, HDU, row and reason code."),
    col("source_file_id", sa.BigInteger, "File the row stands in.", ucd="meta.id", index=True),
    col("path", sa.Text, "Path of that file, repeated so that the row explains itself.", ucd="meta.ref.url"),
    col("hdu", sa.Integer, "HDU index, from 0; null when the whole file is rejected.", ucd="meta.number"),
    col(
        "row_index",
        sa.BigInteger,
        "Row in the HDU, from 0; null when the file or HDU is rejected.",
        ucd="meta.number",
    ),
    col("native_id", sa.Text, "Identifier in the survey, where one could be read.", ucd="meta.id"),
    col("reason_code", sa.Text, "Short code of the reason, one of etl.checks.REASONS.", ucd="meta.code"),
    col("reason", sa.Text, "The reason with the offending value and what to do.", ucd="meta.note"),
    col(
        "fatal",
        sa.Boolean,
        "True: nothing was loaded of it. False: loaded, with the fault repaired or its pixels masked as the reason says.",
        ucd="meta.code",
    ),
    col("rejected_at", Time, "When it was rejected (UTC).", ucd="time.creation"),
    comment="One row per fault found in survey files: what was left out or repaired, where, and why.",
)

target = sa.Table(
    "target",
    metadata,
    key("target_id", "Key: packed plate, MJD, fibre for SDSS, a hash of survey and native_id elsewhere."),
    col(
        "survey",
        sa.Text,
        "Survey: sdss (with BOSS and eBOSS), mock, hsc, cosmos ...",
        ucd="meta.code",
        nullable=False,
    ),
    col(
        "native_id",
        sa.Text,
        "The survey's own name of the object; PLATE-MJD-FIBER for SDSS.",
        ucd="meta.id;meta.main",
        nullable=False,
        index=True,
    ),
    col("ra_deg", sa.Double, "Right ascension, ICRS.", unit="deg", ucd="pos.eq.ra;meta.main", nullable=False),
    col("dec_deg", sa.Double, "Declination, ICRS.", unit="deg", ucd="pos.eq.dec;meta.main", nullable=False),
    col(
        "hpx29",
        sa.BigInteger,
        "Nested HEALPix cell of order 29 that holds the position.",
        ucd="pos.healpix",
        nullable=False,
        index=True,
    ),
    col(
        "is_injection",
        sa.Boolean,
        "True for a simulated object; its truth stands in injection.",
        ucd="meta.code",
        nullable=False,
    ),
    comment="One row per survey object: the spine of the database.",
)

spec_obj = sa.Table(
    "spec_obj",
    metadata,
    key("target_id", "Target that this spectroscopic observation is of.", ref="target.target_id"),
    col("source_file_id", sa.BigInteger, "File that the row came from.", ucd="meta.id", index=True),
    col(
        "spec_obj_id",
        sa.Text,
        "specObjID: unsigned 64-bit, as decimal digits (exceeds a signed integer from plate 8192 on).",
        ucd="meta.id",
    ),
    col("best_obj_id", sa.Text, "bestObjID: photometric object, as decimal digits.", ucd="meta.id"),
    col(
        "survey_name",
        sa.Text,
        "SURVEY of the row: sdss, segue1, boss, eboss ...; null in spAll.",
        ucd="meta.code",
    ),
    col("instrument", sa.Text, "Spectrograph: SDSS or BOSS.", ucd="meta.id;instr"),
    col("programname", sa.Text, "Observing programme of the plate.", ucd="meta.id"),
    col("chunk", sa.Text, "Tiling chunk of the plate.", ucd="meta.id"),
    col("platequality", sa.Text, "PLATEQUALITY: good, marginal or bad.", ucd="meta.code.qual"),
    col("plate_sn2", sa.Double, "PLATESN2: overall (S/N)^2 of the plate.", ucd="stat.snr"),
    col("run2d", sa.Text, "Spectroscopic reduction version.", ucd="meta.version"),
    col("run1d", sa.Text, "Redshift pipeline version.", ucd="meta.version"),
    col("plate", sa.Integer, "Plate number.", ucd="meta.id;obs"),
    col("mjd", sa.Integer, "Modified Julian Date of the observation.", unit="d", ucd="time.epoch"),
    col("fiber_id", sa.Integer, "Fibre number.", ucd="meta.id;instr"),
    col("tile", sa.Integer, "Tile number.", ucd="meta.id"),
    col(
        "objtype",
        sa.Text,
        "OBJTYPE: what the fibre was assigned to; SKY for sky fibres.",
        ucd="meta.code.class",
    ),
    col("sourcetype", sa.Text, "SOURCETYPE: target class of the survey, LRG for one.", ucd="meta.code.class"),
    col("class", sa.Text, "Spectroscopic class: GALAXY, QSO, STAR.", ucd="src.class"),
    col(
        "subclass",
        sa.Text,
        "Spectroscopic subclass: STARFORMING, BROADLINE, AGN ... or empty.",
        ucd="src.class",
    ),
    col("z", sa.Double, "Redshift of the best fit.", ucd="src.redshift"),
    col(
        "z_err",
        sa.Double,
        "Error of z; negative values are the pipeline's failure codes.",
        ucd="stat.error;src.redshift",
    ),
    col("z_warning", sa.Integer, "Redshift warning bits (ZWARNING).", ucd="meta.code.qual"),
    col(
        "z_noqso",
        sa.Double,
        "Best redshift with QSO templates left out; null in SDSS-I/II rows.",
        ucd="src.redshift",
    ),
    col("z_err_noqso", sa.Double, "Error of z_noqso.", ucd="stat.error;src.redshift"),
    col("z_warning_noqso", sa.Integer, "Redshift warning bits of z_noqso.", ucd="meta.code.qual"),
    col("class_noqso", sa.Text, "Class of the fit with QSO templates left out.", ucd="src.class"),
    col("subclass_noqso", sa.Text, "Subclass of the fit with QSO templates left out.", ucd="src.class"),
    col("rchi2", sa.Double, "Reduced chi-squared of the best fit.", ucd="stat.fit.chi2"),
    col("dof", sa.Integer, "Degrees of freedom of the best fit.", ucd="stat.fit.dof"),
    col("vdisp", sa.Double, "Velocity dispersion of the galaxy.", unit="km / s", ucd="phys.veloc.dispersion"),
    col("vdisp_err", sa.Double, "Error of vdisp.", unit="km / s", ucd="stat.error;phys.veloc.dispersion"),
    col(
        "wave_min", sa.Double, "Shortest observed wavelength, vacuum.", unit="Angstrom", ucd="em.wl;stat.min"
    ),
    col("wave_max", sa.Double, "Longest observed wavelength, vacuum.", unit="Angstrom", ucd="em.wl;stat.max"),
    col("wcoverage", sa.Double, "Wavelength coverage.", unit="dex", ucd="em.wl"),
    col("sn_median_all", sa.Double, "Median S/N per pixel over the whole spectrum.", ucd="stat.snr"),
    col("spectro_flux_g", sa.Double, "Spectrum's flux in the g band.", unit="nmgy", ucd="phot.flux;em.opt.B"),
    col("spectro_flux_r", sa.Double, "Spectrum's flux in the r band.", unit="nmgy", ucd="phot.flux;em.opt.R"),
    col("spectro_flux_i", sa.Double, "Spectrum's flux in the i band.", unit="nmgy", ucd="phot.flux;em.opt.I"),
    col(
        "cmodel_mag_i",
        sa.Double,
        "Composite-model magnitude in the i band; null in SDSS rows.",
        unit="mag",
        ucd="phot.mag;em.opt.I",
    ),
    col(
        "fiber2_mag_i",
        sa.Double,
        "Magnitude within the 2 arcsec fibre in the i band; null in SDSS rows.",
        unit="mag",
        ucd="phot.mag;em.opt.I",
    ),
    col(
        "anyandmask",
        sa.BigInteger,
        "Mask bits set in every exposure, somewhere in the spectrum.",
        ucd="meta.code.qual",
    ),
    col(
        "anyormask",
        sa.BigInteger,
        "Mask bits set in some exposure, somewhere in the spectrum.",
        ucd="meta.code.qual",
    ),
    col("boss_target1", sa.BigInteger, "BOSS target selection bits.", ucd="meta.code"),
    col("eboss_target0", sa.BigInteger, "eBOSS target selection bits, first set.", ucd="meta.code"),
    col(
        "is_primary",
        sa.Boolean,
        "True for the epoch chosen among all spectra of one object.",
        ucd="meta.code",
        nullable=False,
    ),
    col(
        "primary_target_id",
        sa.BigInteger,
        "Target of the chosen epoch (itself when is_primary).",
        ucd="meta.id",
    ),
    col("n_epoch", sa.Integer, "Number of epochs of this object in the database.", ucd="meta.number"),
    sa.Index("ix_spec_obj_plate_mjd_fiber_id", "plate", "mjd", "fiber_id"),
    comment="One row per spectroscopic observation (SDSS specObj, BOSS spAll), the surveys' columns in snake_case.",
)

pixel_shard = sa.Table(
    "pixel_shard",
    metadata,
    key("shard_id", "Key: hash of the shard's name."),
    col("name", sa.Text, "Folder name under the shard root.", ucd="meta.id", nullable=False, unique=True),
    col("pix0", sa.Integer, "Grid index (log10 wavelength / 1e-4) of the first pixel.", ucd="spect.binSize"),
    col("npix", sa.Integer, "Pixels per row.", ucd="meta.number"),
    col("n_rows", sa.BigInteger, "Rows, one spectrum each.", ucd="meta.number"),
    col("arrays", Json, "Names of the arrays held: flux, ivar, mask, model, sky.", ucd="meta.note"),
    col("size_bytes", sa.BigInteger, "Size of the arrays.", unit="byte", ucd="meta.number"),
    col("created_at", Time, "When it was written (UTC).", ucd="time.creation"),
    comment="One row per pixel shard: a folder of plain arrays on the common log-wavelength grid.",
)

spectrum = sa.Table(
    "spectrum",
    metadata,
    key("spectrum_id", "Key: hash of source file path, HDU and row."),
    col(
        "target_id",
        sa.BigInteger,
        "Target observed.",
        ucd="meta.id",
        nullable=False,
        index=True,
        ref="target.target_id",
    ),
    col("source_file_id", sa.BigInteger, "File that holds the original pixels.", ucd="meta.id", index=True),
    col("hdu", sa.Integer, "HDU of the pixels in that file, from 0.", ucd="meta.number"),
    col("source_row", sa.BigInteger, "Row of the image in that HDU (spPlate), else 0.", ucd="meta.number"),
    col(
        "shard_id",
        sa.BigInteger,
        "Shard with the fast copy.",
        ucd="meta.id",
        nullable=False,
        index=True,
        ref="pixel_shard.shard_id",
    ),
    col("shard_row", sa.BigInteger, "Row in that shard.", ucd="meta.number", nullable=False),
    col("run2d", sa.Text, "Spectroscopic reduction version of these pixels.", ucd="meta.version"),
    col("pix_first", sa.Integer, "Grid index of the first pixel present.", ucd="meta.number"),
    col("pix_last", sa.Integer, "Grid index of the last pixel present.", ucd="meta.number"),
    col("n_good", sa.Integer, "Pixels with positive ivar.", ucd="meta.number"),
    col(
        "n_good_window",
        sa.Integer,
        "Pixels with positive ivar in the 3800-5000 Angstrom search window.",
        ucd="meta.number",
    ),
    col(
        "content_hash",
        sa.Text,
        "xxh3_128 of flux, ivar, mask and model as stored: names the pixels.",
        ucd="meta.checksum",
        nullable=False,
    ),
    col(
        "is_primary",
        sa.Boolean,
        "True for the spectrum used for this target: latest reduction, then most good pixels.",
        ucd="meta.code",
        nullable=False,
    ),
    comment="One row per spectrum whose pixels are in a shard: the reference from the database to the pixels.",
)

known_lens = sa.Table(
    "known_lens",
    metadata,
    key("lens_id", "Key: hash of the first catalogue name."),
    col("name", sa.Text, "Preferred name.", ucd="meta.id;meta.main", nullable=False),
    col("ra_deg", sa.Double, "Right ascension, ICRS.", unit="deg", ucd="pos.eq.ra;meta.main", nullable=False),
    col("dec_deg", sa.Double, "Declination, ICRS.", unit="deg", ucd="pos.eq.dec;meta.main", nullable=False),
    col(
        "hpx29",
        sa.BigInteger,
        "Nested HEALPix cell of order 29 that holds the position.",
        ucd="pos.healpix",
        nullable=False,
        index=True,
    ),
    col("z_lens", sa.Double, "Redshift of the lens; null when unknown or ambiguous.", ucd="src.redshift"),
    col("z_source", sa.Double, "Redshift of the source; null when unknown.", ucd="src.redshift"),
    col("lens_type", sa.Text, "galaxy, cluster or group as catalogued.", ucd="src.class"),
    col("grading", sa.Text, "confident or probable as catalogued.", ucd="meta.code.qual"),
    col(
        "theta_e_arcsec", sa.Double, "Einstein radius; null when unknown.", unit="arcsec", ucd="phys.angSize"
    ),
    col("n_names", sa.Integer, "Number of catalogue entries merged into this lens.", ucd="meta.number"),
    comment="One row per known lens or candidate on the sky, all its catalogue names merged.",
)

known_lens_name = sa.Table(
    "known_lens_name",
    metadata,
    key("lens_name_id", "Key: hash of catalogue, name and row."),
    col(
        "lens_id",
        sa.BigInteger,
        "Lens that the entry was merged into.",
        ucd="meta.id",
        nullable=False,
        index=True,
        ref="known_lens.lens_id",
    ),
    col("source_file_id", sa.BigInteger, "Catalogue file.", ucd="meta.id", index=True),
    col("catalogue", sa.Text, "lenscat or masterlens.", ucd="meta.id"),
    col("name", sa.Text, "Name in that catalogue.", ucd="meta.id", nullable=False, index=True),
    col("ra_deg", sa.Double, "Right ascension given there.", unit="deg", ucd="pos.eq.ra"),
    col("dec_deg", sa.Double, "Declination given there.", unit="deg", ucd="pos.eq.dec"),
    col("z_lens_text", sa.Text, "Lens redshift as printed there.", ucd="meta.note"),
    col(
        "z_lens", sa.Double, "Lens redshift given there, null when it is not one number.", ucd="src.redshift"
    ),
    col("z_source", sa.Double, "Source redshift given there.", ucd="src.redshift"),
    col("lens_type", sa.Text, "Type given there.", ucd="src.class"),
    col("grading", sa.Text, "Grade given there.", ucd="meta.code.qual"),
    col("theta_e_arcsec", sa.Double, "Einstein radius given there.", unit="arcsec", ucd="phys.angSize"),
    col("reference", sa.Text, "Paper or page that the catalogue cites.", ucd="meta.bib"),
    comment="One row per catalogue entry of a known lens.",
)

known_lens_cell = sa.Table(
    "known_lens_cell",
    metadata,
    col(
        "lens_id",
        sa.BigInteger,
        "Known lens.",
        ucd="meta.id",
        primary_key=True,
        autoincrement=False,
        ref="known_lens.lens_id",
    ),
    col(
        "cell",
        sa.BigInteger,
        "Nested HEALPix cell of order 11 that comes within 60 arcsec of the lens.",
        ucd="pos.healpix",
        primary_key=True,
        autoincrement=False,
        index=True,
    ),
    comment="One row per order-11 HEALPix cell near a known lens: turns the cross-match into a plain join.",
)

model = sa.Table(
    "model",
    metadata,
    key("model_id", "Key: hash of name, preprocessing hash and weights hash."),
    col(
        "name",
        sa.Text,
        "Registered name: resnet28_lae, matched_filter_lae ...",
        ucd="meta.id",
        nullable=False,
        index=True,
    ),
    col("kind", sa.Text, "network or filter.", ucd="meta.code"),
    col("reference", sa.Text, "Paper that it follows.", ucd="meta.bib"),
    col(
        "preprocessing_hash",
        sa.Text,
        "Hash of the preprocessing's name, version and settings.",
        ucd="meta.checksum",
        nullable=False,
    ),
    col(
        "weights_hash",
        sa.Text,
        "Hash of the weights, or of the settings of a filter.",
        ucd="meta.checksum",
        nullable=False,
    ),
    col("threshold", sa.Double, "Probability from which a target is a hit.", ucd="stat.probability"),
    col("config", Json, "Settings of the model.", ucd="meta.note"),
    col(
        "card", Json, "Model card: command, seed, data recipe, date, metrics with intervals.", ucd="meta.note"
    ),
    col("registered_at", Time, "When it first scored or was added (UTC).", ucd="time.creation"),
    comment="One row per model version: name, preprocessing and weights together.",
)

selection = sa.Table(
    "selection",
    metadata,
    key("selection_id", "Key: hash of name and version."),
    col("name", sa.Text, "Name that commands use.", ucd="meta.id", nullable=False),
    col(
        "version",
        sa.Integer,
        "1 for the first predicate of that name; a changed predicate is a new version.",
        ucd="meta.version",
        nullable=False,
    ),
    col("where_sql", sa.Text, "SQL predicate over view selectable.", ucd="meta.query", nullable=False),
    col("description", sa.Text, "What it selects and why.", ucd="meta.note"),
    col("created_at", Time, "When it was added (UTC).", ucd="time.creation"),
    sa.UniqueConstraint("name", "version"),
    comment="One row per version of a named SQL predicate over targets.",
)

scoring_run = sa.Table(
    "scoring_run",
    metadata,
    key("run_id", "Key, ordered by time."),
    col(
        "model_id",
        sa.BigInteger,
        "Model that scores.",
        ucd="meta.id",
        nullable=False,
        index=True,
        ref="model.model_id",
    ),
    col(
        "selection_id",
        sa.BigInteger,
        "Selection that is scored.",
        ucd="meta.id",
        ref="selection.selection_id",
    ),
    col("status", sa.Text, "running, done, failed or stopped.", ucd="meta.code.status", nullable=False),
    col("backend", sa.Text, "torch or openvino.", ucd="meta.software"),
    col("device", sa.Text, "cpu or cuda device name.", ucd="meta.note"),
    col("precision", sa.Text, "fp32, bf16 or int8.", ucd="meta.note"),
    col("n_selected", sa.BigInteger, "Spectra that the selection returns.", ucd="meta.number"),
    col("n_todo", sa.BigInteger, "Of these, missing or stale when the run began.", ucd="meta.number"),
    col("n_scored", sa.BigInteger, "Scores committed by the run.", ucd="meta.number"),
    col("started_at", Time, "When it began (UTC).", ucd="time.start"),
    col("finished_at", Time, "When it ended (UTC).", ucd="time.end"),
    col(
        "seconds",
        Json,
        "Wall time by stage: select, read, preprocess, infer, write.",
        unit="s",
        ucd="time.duration",
    ),
    col(
        "spectra_per_s",
        sa.Double,
        "Spectra scored per second of wall time, end to end.",
        unit="1 / s",
        ucd="arith.rate",
    ),
    col("host", sa.Text, "Machine that ran it.", ucd="meta.note"),
    col("software", Json, "Versions of lensmine, torch and the backend.", ucd="meta.software"),
    col("message", sa.Text, "Why it failed or stopped.", ucd="meta.note"),
    comment="One row per scoring job.",
)

run_chunk = sa.Table(
    "run_chunk",
    metadata,
    col(
        "run_id",
        sa.BigInteger,
        "Run.",
        ucd="meta.id",
        primary_key=True,
        autoincrement=False,
        ref="scoring_run.run_id",
    ),
    col(
        "chunk_no",
        sa.Integer,
        "Number of the chunk, from 0.",
        ucd="meta.number",
        primary_key=True,
        autoincrement=False,
    ),
    col("shard_id", sa.BigInteger, "Shard that its spectra stand in.", ucd="meta.id"),
    col("row_first", sa.BigInteger, "First shard row, inclusive.", ucd="meta.number"),
    col("row_last", sa.BigInteger, "Last shard row, inclusive.", ucd="meta.number"),
    col("n_spectra", sa.Integer, "Spectra to score in it.", ucd="meta.number"),
    col("state", sa.Text, "todo, leased or done.", ucd="meta.code.status", nullable=False),
    col("lease_owner", sa.Text, "Process that holds it: host and pid.", ucd="meta.note"),
    col(
        "lease_token",
        sa.BigInteger,
        "Fencing token: grows with every lease; an outdated one cannot commit.",
        ucd="meta.number",
        nullable=False,
    ),
    col("lease_until", Time, "When the lease lapses (UTC).", ucd="time.end"),
    col("done_at", Time, "When its scores were committed (UTC).", ucd="time.end"),
    comment="One row per chunk of a scoring run: leased, then marked done in the transaction that writes its scores.",
)

score = sa.Table(
    "score",
    metadata,
    col(
        "spectrum_id", sa.BigInteger, "Spectrum scored.", ucd="meta.id", primary_key=True, autoincrement=False
    ),
    col(
        "model_id",
        sa.BigInteger,
        "Model that scored it.",
        ucd="meta.id",
        primary_key=True,
        autoincrement=False,
        ref="model.model_id",
    ),
    col(
        "run_id",
        sa.BigInteger,
        "Run that wrote it.",
        ucd="meta.id",
        primary_key=True,
        autoincrement=False,
        ref="scoring_run.run_id",
    ),
    col("target_id", sa.BigInteger, "Target of the spectrum.", ucd="meta.id", nullable=False, index=True),
    col(
        "content_hash",
        sa.Text,
        "Hash of the pixels scored; stale when spectrum has another.",
        ucd="meta.checksum",
        nullable=False,
    ),
    col(
        "z_used",
        sa.Double,
        "Lens redshift the preprocessing masked lines at; stale when spec_obj has another.",
        ucd="src.redshift",
    ),
    col(
        "probability",
        sa.Double,
        "Probability that the spectrum holds a background emission line.",
        ucd="stat.probability",
        nullable=False,
    ),
    col(
        "wave_angstrom",
        sa.Double,
        "Vacuum wavelength of the strongest line-like feature.",
        unit="Angstrom",
        ucd="em.wl.central",
    ),
    col("snr", sa.Double, "Matched-filter S/N of that feature.", ucd="stat.snr"),
    comment="One row per spectrum, model and run: appended, never overwritten.",
)

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
        "constant", sa.Double, "Constant level under the line.", unit=FLUX_DENSITY_UNIT, ucd="spect.continuum"
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
    col("line", sa.Text, "Line put in: lya or oii.", ucd="spect.line"),
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
    col("recipe", sa.Text, "Generator and its version.", ucd="meta.software"),
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

evaluation = sa.Table(
    "evaluation",
    metadata,
    key("evaluation_id", "Key, ordered by time."),
    col(
        "model_id",
        sa.BigInteger,
        "Model evaluated.",
        ucd="meta.id",
        nullable=False,
        index=True,
        ref="model.model_id",
    ),
    col("name", sa.Text, "Test set: paper_test, injected, real ...", ucd="meta.id"),
    col("n_positive", sa.BigInteger, "Lenses in the test set.", ucd="meta.number"),
    col("n_negative", sa.BigInteger, "Others in the test set.", ucd="meta.number"),
    col("recipe", Json, "How the test set was made, with its seed.", ucd="meta.note"),
    col("evaluated_at", Time, "When (UTC).", ucd="time.creation"),
    comment="One row per model and test set evaluated.",
)

metric = sa.Table(
    "metric",
    metadata,
    col(
        "evaluation_id",
        sa.BigInteger,
        "Evaluation.",
        ucd="meta.id",
        primary_key=True,
        autoincrement=False,
        ref="evaluation.evaluation_id",
    ),
    col(
        "name",
        sa.Text,
        "precision, completeness, ranking_performance, roc, trc, completeness_flux ...",
        ucd="meta.id",
        primary_key=True,
    ),
    col(
        "point",
        sa.Integer,
        "0 for a single figure, else the position along a curve.",
        ucd="meta.number",
        primary_key=True,
        autoincrement=False,
    ),
    col(
        "x",
        sa.Double,
        "Abscissa of a curve: threshold, false-positive rate, flux, wavelength, rank.",
        ucd="meta.number",
    ),
    col("value", sa.Double, "The figure.", ucd="stat.value"),
    col("lo", sa.Double, "Lower end of the 95% interval.", ucd="stat.min"),
    col("hi", sa.Double, "Upper end of the 95% interval.", ucd="stat.max"),
    col("n", sa.BigInteger, "Objects behind it.", ucd="meta.number"),
    comment="One row per figure or point of a curve of an evaluation.",
)

job = sa.Table(
    "job",
    metadata,
    key("job_id", "Key, ordered by time."),
    col(
        "command",
        sa.Text,
        "What ran: refresh, ingest, score, fit, evaluate, export.",
        ucd="meta.software",
        nullable=False,
    ),
    col("status", sa.Text, "running, done, nothing-to-do or failed.", ucd="meta.code.status", nullable=False),
    col("exit_code", sa.Integer, "Exit code of the command.", ucd="meta.code"),
    col("started_at", Time, "When it began (UTC).", ucd="time.start"),
    col("finished_at", Time, "When it ended (UTC).", ucd="time.end"),
    col("summary", Json, "Counts by stage.", ucd="meta.note"),
    col("message", sa.Text, "One line: what was done or what failed.", ucd="meta.note"),
    comment="One row per run of a command that changes the database.",
)
