"""Survey files, the faults found in them, and the objects that they list."""

from __future__ import annotations

import sqlalchemy as sa

from schema.tables.base import Time, col, key, metadata

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
    col(
        "modified_at",
        Time,
        "Modification time of the file as it was read (UTC); null where it has none or was just written.",
        ucd="time.creation",
    ),
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
        "True: nothing was loaded of it. False: loaded, repaired or masked as the reason says.",
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
