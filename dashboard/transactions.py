"""Short transactions of the pages, which wait while a scoring run writes."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa

from schema.engine import connect_engine, database_file
from schema.errors import DataError, TransientError, UserError

PATIENCE_S = 40.0
"""How long a save waits for a DuckDB file that a scoring run, or a query of the SQL page, holds [s]."""
MIXED_MODES = "different configuration"
"""What DuckDB says when this process has the file open for reading and asks to write."""
_T = TypeVar("_T")


@lru_cache(maxsize=8)
def _engine(db: str | None, read_only: bool, stamp: str) -> sa.Engine:
    return connect_engine(db, read_only=read_only, check=False)


def engine(db: str | None, *, read_only: bool = False) -> sa.Engine:
    """Engine of a database whose migration was checked when the page began; opens a connection when asked.

    Raises
    ------
    UserError
        When the DuckDB file has gone: opening it for writing would make an empty one.
    """
    file = database_file(db)
    if file is not None and not file.exists():
        raise UserError(
            f"no database at {file}; put it back, or make one with: lensmine db upgrade --db {file}"
        )
    return _engine(db, read_only, os.environ.get("LENSMINE_DB", ""))


def writing(db: str | None, work: Callable[[sa.Connection], _T], patience_s: float = PATIENCE_S) -> _T:
    """Do `work` in one transaction, again and again while another process is in the way.

    Raises
    ------
    TransientError
        When it is still in the way after `patience_s`.
    """
    return _patiently(lambda: _in_transaction(engine(db), work), patience_s)


def reading(db: str | None, work: Callable[[sa.Connection], _T], patience_s: float = PATIENCE_S) -> _T:
    """Do `work`, which only reads, as patiently as `writing`.

    A DuckDB file is opened as for writing: within one process DuckDB refuses to open it for writing while it
    is open for reading, and no save may wait for somebody else's long query.
    """

    def once() -> _T:
        with engine(db, read_only=database_file(db) is None).connect() as conn:
            return work(conn)

    return _patiently(once, patience_s)


def _in_transaction(to: sa.Engine, work: Callable[[sa.Connection], _T]) -> _T:
    with to.begin() as conn:
        return work(conn)


def _patiently(once: Callable[[], _T], patience_s: float) -> _T:
    until = time.monotonic() + patience_s
    pause = 0.02
    while True:
        try:
            return once()
        except Exception as exc:
            in_the_way = MIXED_MODES in str(exc)
            if not in_the_way and not isinstance(exc, TransientError):
                raise
            if time.monotonic() + pause > until:
                if in_the_way:
                    raise TransientError("the database is being read by this dashboard; try again") from exc
                raise
            time.sleep(pause)
            pause = min(2 * pause, 0.5)


def now() -> datetime.datetime:
    """The time in UTC."""
    return datetime.datetime.now(datetime.UTC)


def insert_once(db: str | None, table: sa.Table, key: str, row: dict[str, Any]) -> bool:
    """Insert a row unless its key is there; says whether it was inserted."""

    def work(conn: sa.Connection) -> bool:
        same = table.c[key] == row[key]
        if conn.execute(sa.select(sa.literal(1)).select_from(table).where(same)).first():
            return False
        conn.execute(table.insert(), [row])
        return True

    try:
        return writing(db, work)
    except sa.exc.IntegrityError as exc:
        # another tab saved the same token between the look and the insert, or the parent row is gone
        def there(conn: sa.Connection) -> bool:
            return conn.execute(sa.select(table.c[key]).where(table.c[key] == row[key])).first() is not None

        if reading(db, there):
            return False
        first = str(exc.orig).strip().splitlines()[0]
        raise DataError(f"not saved in {table.name}: {first}; load the page again") from exc
