"""Which file filled which columns in another file's row of spec_obj."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from schema.migrations.helpers import create_foreign_key, create_index

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "spec_fill",
        sa.Column("target_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("source_file_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("column_names", sa.Text, nullable=False),
    )
    create_index("spec_fill", "source_file_id")
    create_foreign_key("spec_fill", "target_id", "target.target_id")


def downgrade() -> None:
    op.drop_table("spec_fill")
