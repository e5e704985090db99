"""Reviewers, grades, notes, calibrators and saved queries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from schema.migrations.helpers import JSON, TIME, create_foreign_key, create_index, key

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reviewer",
        key("reviewer_id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("subject", sa.Text),
        sa.Column("email", sa.Text),
        sa.Column("is_adjudicator", sa.Boolean),
        sa.Column("added_at", TIME),
        sa.UniqueConstraint("name", name="uq_reviewer_name"),
    )
    op.create_table(
        "grade",
        key("grade_id"),
        sa.Column("target_id", sa.BigInteger, nullable=False),
        sa.Column("reviewer_id", sa.BigInteger, nullable=False),
        sa.Column("grade", sa.Text, nullable=False),
        sa.Column("queue", sa.Text),
        sa.Column("is_calibrator", sa.Boolean),
        sa.Column("is_adjudication", sa.Boolean),
        sa.Column("seconds", sa.Double),
        sa.Column("shown", JSON),
        sa.Column("graded_at", TIME, nullable=False),
        sa.Column("undone_at", TIME),
    )
    op.create_table(
        "review_note",
        key("note_id"),
        sa.Column("target_id", sa.BigInteger, nullable=False),
        sa.Column("reviewer_id", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text),
        sa.Column("tag", sa.Text),
        sa.Column("noted_at", TIME, nullable=False),
        sa.Column("removed_at", TIME),
    )
    op.create_table(
        "calibrator",
        key("target_id"),
        sa.Column("is_lens", sa.Boolean, nullable=False),
        sa.Column("origin", sa.Text),
        sa.Column("added_at", TIME),
    )
    op.create_table(
        "saved_query",
        key("query_id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("sql", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("reviewer_id", sa.BigInteger),
        sa.Column("saved_at", TIME),
        sa.UniqueConstraint("name", name="uq_saved_query_name"),
    )
    create_index("grade", "target_id")
    create_index("grade", "reviewer_id")
    create_index("review_note", "target_id")
    create_foreign_key("grade", "target_id", "target.target_id")
    create_foreign_key("grade", "reviewer_id", "reviewer.reviewer_id")
    create_foreign_key("review_note", "target_id", "target.target_id")
    create_foreign_key("review_note", "reviewer_id", "reviewer.reviewer_id")
    create_foreign_key("calibrator", "target_id", "target.target_id")
    create_foreign_key("saved_query", "reviewer_id", "reviewer.reviewer_id")


def downgrade() -> None:
    op.drop_table("saved_query")
    op.drop_table("calibrator")
    op.drop_table("review_note")
    op.drop_table("grade")
    op.drop_table("reviewer")
