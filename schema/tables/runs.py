"""Models, selections, scoring runs with their leased chunks, and scores."""

from __future__ import annotations

import sqlalchemy as sa

from schema.tables.base import Json, Time, col, key, metadata

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
    col("modality", sa.Text, "What is scored: spectrum or image; null means spectrum.", ucd="meta.code"),
    col("backend", sa.Text, "torch or openvino.", ucd="meta.note;meta.software"),
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
    col(
        "software",
        Json,
        "Versions of lensmine, torch and the backend; the file of the weights.",
        ucd="meta.note;meta.software",
    ),
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
    comment="One row per chunk of a scoring run: leased, then marked done as its scores are committed.",
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
