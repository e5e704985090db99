"""The measured selection function, and the rounds of a mining campaign."""

from __future__ import annotations

import sqlalchemy as sa

from schema.tables.base import Json, Time, col, key, metadata

selection_function = sa.Table(
    "selection_function",
    metadata,
    key("cell_id", "Key: hash of measurement, parameters and cell."),
    col("measurement_id", sa.BigInteger, "Measurement that the cell belongs to.", ucd="meta.id", index=True),
    col(
        "model_id",
        sa.BigInteger,
        "Model whose selection it is.",
        ucd="meta.id",
        nullable=False,
        index=True,
        ref="model.model_id",
    ),
    col("stage", sa.Text, "scored, cut or graded: what counts as selected.", ucd="meta.code", nullable=False),
    col("instrument", sa.Text, "Instrument that was simulated, as in cutout.", ucd="meta.id;instr"),
    col(
        "mode",
        sa.Text,
        "slice: other parameters fixed; population: drawn from the prior; rows: simulated targets at hand.",
        ucd="meta.code",
    ),
    col("band", sa.Text, "Band of lens_mag, arc_mag and total_mag.", ucd="instr.bandpass"),
    col("threshold", sa.Double, "Probability from which a target counts as scored.", ucd="stat.probability"),
    col(
        "x_name",
        sa.Text,
        "First parameter: a column of injection_lens or injection, or total_mag, lens and arcs together.",
        ucd="meta.id",
    ),
    col("x_lo", sa.Double, "Lower edge of the cell, in the unit of that column.", ucd="meta.number;stat.min"),
    col("x_hi", sa.Double, "Upper edge.", ucd="meta.number;stat.max"),
    col("y_name", sa.Text, "Second parameter; null in a one-dimensional slice.", ucd="meta.id"),
    col("y_lo", sa.Double, "Lower edge.", ucd="meta.number;stat.min"),
    col("y_hi", sa.Double, "Upper edge.", ucd="meta.number;stat.max"),
    col("n_injected", sa.BigInteger, "Lenses injected in the cell.", ucd="meta.number"),
    col("n_selected", sa.BigInteger, "Of these, selected.", ucd="meta.number"),
    col("n_eff", sa.Double, "Effective number of them, their weights considered.", ucd="meta.number"),
    col("p_selected", sa.Double, "Share selected; null with too few injections.", ucd="stat.probability"),
    col("p_lo", sa.Double, "Lower end of its 95% interval.", ucd="stat.probability;stat.min"),
    col("p_hi", sa.Double, "Upper end of its 95% interval.", ucd="stat.probability;stat.max"),
    col("recipe", Json, "Fixed parameters, prior, seed and version of the simulation.", ucd="meta.note"),
    col("measured_at", Time, "When it was measured (UTC).", ucd="time.creation"),
    comment="One row per cell of a measured selection function: P(selected | parameters) from injections.",
)


mining_round = sa.Table(
    "mining_round",
    metadata,
    key("round_id", "Key, ordered by time."),
    col("campaign", sa.Text, "Name of the mining campaign.", ucd="meta.id", nullable=False),
    col("round_no", sa.Integer, "Number of the round within it, from 1.", ucd="meta.number", nullable=False),
    col("phase", sa.Text, "coarse, fine or search.", ucd="meta.code", nullable=False),
    col("parent_round_id", sa.BigInteger, "Round whose scores it builds on.", ucd="meta.id"),
    col("start_model_id", sa.BigInteger, "Model version it starts from.", ucd="meta.id"),
    col("model_id", sa.BigInteger, "Model version it made.", ucd="meta.id", index=True),
    col("run_id", sa.BigInteger, "Scoring run of that version over the pool.", ucd="meta.id"),
    col("pool_sql", sa.Text, "Predicate that gave the pool.", ucd="meta.query"),
    col("hard_sql", sa.Text, "Predicate that gave the hard negatives.", ucd="meta.query"),
    col("weights_path", sa.Text, "Weights that it wrote.", ucd="meta.ref.url"),
    col("n_pool", sa.BigInteger, "Targets in the pool.", ucd="meta.number"),
    col("n_hard", sa.BigInteger, "Hard negatives.", ucd="meta.number"),
    col("n_positive", sa.BigInteger, "Positive examples before augmentation.", ucd="meta.number"),
    col("config", Json, "Settings and seed, enough to replay it.", ucd="meta.note"),
    col("metrics", Json, "What was measured at its end.", ucd="stat"),
    col("status", sa.Text, "running, done or failed.", ucd="meta.code.status"),
    col("started_at", Time, "When it began (UTC).", ucd="time.start"),
    col("finished_at", Time, "When it ended (UTC).", ucd="time.end"),
    sa.UniqueConstraint("campaign", "round_no"),
    comment="One row per round of a mining campaign (Pourrahmani et al. 2018, phases 1 to 3).",
)


mining_member = sa.Table(
    "mining_member",
    metadata,
    col(
        "round_id",
        sa.BigInteger,
        "Round.",
        ucd="meta.id",
        primary_key=True,
        autoincrement=False,
        ref="mining_round.round_id",
    ),
    col("target_id", sa.BigInteger, "Target.", ucd="meta.id", primary_key=True, autoincrement=False),
    col("role", sa.Text, "pool, hard_negative, positive or excluded.", ucd="meta.code", nullable=False),
    comment="One row per target that a mining round learned from, so that the round can be replayed.",
)
