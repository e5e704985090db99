"""Foreign keys and secondary indexes, which are declared on PostgreSQL alone.

DuckDB scans a column of a million rows in milliseconds without an index, and there both would slow every load
and block changes of the table; ``lensmine db check`` proves there what the keys prove on PostgreSQL.
"""

from __future__ import annotations

import sqlalchemy as sa


def declare_keys(metadata: sa.MetaData) -> None:
    """Add a deferred foreign key for every column with a ``ref``, and keep indexes to PostgreSQL."""
    for table in metadata.tables.values():
        for column in table.c:
            ref = column.info.get("ref")
            if ref:
                fk = sa.ForeignKeyConstraint([column.name], [ref], deferrable=True, initially="DEFERRED")
                table.append_constraint(fk.ddl_if(dialect="postgresql"))
        for index in table.indexes:
            index.ddl_if(dialect="postgresql")
