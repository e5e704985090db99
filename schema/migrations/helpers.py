"""What the revisions share: the JSON type, and keys and indexes where the engine declares them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from schema.engine import declares_keys

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
TIME = sa.DateTime(timezone=True)


def key(name: str) -> sa.Column[int]:
    """A 64-bit primary key."""
    return sa.Column(name, sa.BigInteger, primary_key=True, autoincrement=False)


def create_index(table: str, *columns: str) -> None:
    """A secondary index; none on DuckDB."""
    if declares_keys(op.get_bind()):
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))


def create_foreign_key(table: str, column: str, ref: str) -> None:
    """A foreign key that is checked at commit, so that rows may load in any order; none on DuckDB."""
    if declares_keys(op.get_bind()):
        parent, parent_column = ref.split(".")
        op.create_foreign_key(
            f"fk_{table}_{column}", table, parent, [column], [parent_column],
            deferrable=True, initially="DEFERRED",
        )  # fmt: skip
