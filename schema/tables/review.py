"""Reviewers, their grades, comments and tags, and the calibration set mixed into their queues."""

from __future__ import annotations

import sqlalchemy as sa

from schema.tables.base import Json, Time, col, key, metadata

reviewer = sa.Table(
    "reviewer",
    metadata,
    key("reviewer_id", "Key: hash of the name, or of issuer and subject of a sign-in."),
    col("name", sa.Text, "Name shown; unique.", ucd="meta.id", nullable=False, unique=True),
    col(
        "subject",
        sa.Text,
        "Issuer and subject of the OIDC sign-in; of a local reviewer a hash of the passphrase.",
        ucd="meta.id",
    ),
    col("email", sa.Text, "Address that the sign-in gave.", ucd="meta.email"),
    col("is_adjudicator", sa.Boolean, "True when disagreements go to this reviewer.", ucd="meta.code"),
    col("added_at", Time, "When first seen (UTC).", ucd="time.creation"),
    comment="One row per person who grades.",
)


grade = sa.Table(
    "grade",
    metadata,
    key("grade_id", "Key: hash of the token that the page made, so that one keystroke is saved once."),
    col(
        "target_id",
        sa.BigInteger,
        "Target graded.",
        ucd="meta.id",
        nullable=False,
        index=True,
        ref="target.target_id",
    ),
    col(
        "reviewer_id",
        sa.BigInteger,
        "Who graded it.",
        ucd="meta.id",
        nullable=False,
        index=True,
        ref="reviewer.reviewer_id",
    ),
    col("grade", sa.Text, "A, B, C or X; A surely a lens, X surely none.", ucd="meta.code", nullable=False),
    col("queue", sa.Text, "Queue that it was shown in.", ucd="meta.id"),
    col("is_calibrator", sa.Boolean, "True when it was mixed in to calibrate.", ucd="meta.code"),
    col("is_adjudication", sa.Boolean, "True when it settles a disagreement.", ucd="meta.code"),
    col("seconds", sa.Double, "Time on screen before the grade.", unit="s", ucd="time.duration"),
    col("shown", Json, "Model, run and view that the reviewer saw.", ucd="meta.note"),
    col("graded_at", Time, "When it was given (UTC).", ucd="time.creation", nullable=False),
    col("undone_at", Time, "When it was taken back (UTC); null while it holds.", ucd="time.end"),
    comment="One row per grade given: appended; an undone or superseded one stays with its times.",
)


review_note = sa.Table(
    "review_note",
    metadata,
    key("note_id", "Key: hash of the token that the page made."),
    col(
        "target_id",
        sa.BigInteger,
        "Target commented on.",
        ucd="meta.id",
        nullable=False,
        index=True,
        ref="target.target_id",
    ),
    col(
        "reviewer_id",
        sa.BigInteger,
        "Who wrote it.",
        ucd="meta.id",
        nullable=False,
        ref="reviewer.reviewer_id",
    ),
    col("body", sa.Text, "Comment as typed; shown as text, never as markup.", ucd="meta.note"),
    col("tag", sa.Text, "Tag instead of a comment: ring, quad, spiral ...", ucd="meta.code"),
    col("noted_at", Time, "When it was saved (UTC).", ucd="time.creation", nullable=False),
    col("removed_at", Time, "When it was taken back (UTC).", ucd="time.end"),
    comment="One row per comment or tag of a reviewer on a target.",
)


calibrator = sa.Table(
    "calibrator",
    metadata,
    key("target_id", "Target whose truth is known.", ref="target.target_id"),
    col(
        "is_lens", sa.Boolean, "True for a lens, false for a known non-lens.", ucd="meta.code", nullable=False
    ),
    col("origin", sa.Text, "injection, known_lens, control or list.", ucd="meta.code"),
    col("added_at", Time, "When it was added (UTC).", ucd="time.creation"),
    comment="One row per object of known truth that is mixed unmarked into the queues.",
)


saved_query = sa.Table(
    "saved_query",
    metadata,
    key("query_id", "Key: hash of the name."),
    col("name", sa.Text, "Name it is listed under.", ucd="meta.id", nullable=False, unique=True),
    col("sql", sa.Text, "The query.", ucd="meta.query", nullable=False),
    col("description", sa.Text, "What it answers.", ucd="meta.note"),
    col("reviewer_id", sa.BigInteger, "Who saved it.", ucd="meta.id", ref="reviewer.reviewer_id"),
    col("saved_at", Time, "When it was saved (UTC).", ucd="time.creation"),
    comment="One row per query that people keep.",
)
