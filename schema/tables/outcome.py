"""Evaluations with their figures, and the log of commands that changed the database."""

from __future__ import annotations

import sqlalchemy as sa

from schema.tables.base import Json, Time, col, key, metadata

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
    col("lo", sa.Double, "Lower end of the 95% interval.", ucd="stat.value;stat.min"),
    col("hi", sa.Double, "Upper end of the 95% interval.", ucd="stat.value;stat.max"),
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
        ucd="meta.note;meta.software",
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
