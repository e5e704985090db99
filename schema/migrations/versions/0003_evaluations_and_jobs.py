"""Evaluations with their figures, and the log of commands."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from schema.migrations.helpers import JSON, TIME, create_foreign_key, create_index, key

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "evaluation",
        key("evaluation_id"),
        sa.Column("model_id", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("n_positive", sa.BigInteger),
        sa.Column("n_negative", sa.BigInteger),
        sa.Column("recipe", JSON),
        sa.Column("evaluated_at", TIME),
    )
    op.create_table(
        "metric",
        sa.Column("evaluation_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("point", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("x", sa.Double),
        sa.Column("value", sa.Double),
        sa.Column("lo", sa.Double),
        sa.Column("hi", sa.Double),
        sa.Column("n", sa.BigInteger),
    )
    op.create_table(
        "job",
        key("job_id"),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("exit_code", sa.Integer),
        sa.Column("started_at", TIME),
        sa.Column("finished_at", TIME),
        sa.Column("summary", JSON),
        sa.Column("message", sa.Text),
    )
    create_index("evaluation", "model_id")
    create_foreign_key("evaluation", "model_id", "model.model_id")
    create_foreign_key("metric", "evaluation_id", "evaluation.evaluation_id")


def downgrade() -> None:
    op.drop_table("job")
    op.drop_table("metric")
    op.drop_table("evaluation")
