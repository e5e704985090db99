"""Runs the migrations on one connection, with the views dropped before and rebuilt after."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from schema.engine import HEAD, finish_upgrade, migration_engine
from schema.tables import metadata
from schema.views.order import drop_views


def run(conn: sa.Connection) -> None:
    """Migrate in one transaction: a failure leaves the database as it was, views included."""
    context.configure(connection=conn, target_metadata=metadata, compare_type=True)
    with context.begin_transaction():
        drop_views(conn)
        context.run_migrations()
        if context.get_context().get_current_revision() == HEAD:
            finish_upgrade(conn)


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with migration_engine(None).connect() as connection:
        run(connection)
        connection.commit()
