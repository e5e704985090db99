"""Failures of the database drivers as the three classes of schema.errors: what failed, and what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import sqlalchemy as sa

from schema.errors import DataError, LensmineError, TransientError, UserError


def shown(url: str) -> str:
    """The URL as a message may show it: a plain path for DuckDB, no password for a server."""
    if url.startswith("duckdb:///"):
        return url.removeprefix("duckdb:///")
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=True)


def translated(exc: BaseException, url: str) -> LensmineError | None:
    """The failure of a driver as one of our classes; None when it is a fault of the statement."""
    text = str(exc).strip()
    first = text.splitlines()[0] if text else type(exc).__name__
    where = shown(url) if url else "the database"
    state = getattr(exc, "sqlstate", None) or ""
    if "Could not set lock on file" in text:
        holder = re.search(r"PID (\d+)", text)
        by = f"process {holder[1]}" if holder else "another process"
        return TransientError(f"{where} is held by {by}; try again when it has finished")
    if "Unique file handle conflict" in text:  # another thread is just opening or closing it
        return TransientError(f"{where} is being opened by another thread; run the same again")
    if "not a valid DuckDB database file" in text:
        return UserError(f"{where} is not a DuckDB database; name another file with --db")
    if "No space left on device" in text or state == "53100":
        return TransientError(f"the disk of {where} is full ({first}); make room and run the same again")
    if "Permission denied" in text and "Cannot open file" in text:
        return UserError(f"{where} cannot be opened: permission denied")
    if state == "3D000" or re.search(r'database "[^"]*" does not exist', text):
        return UserError(f"the server has no such database: {where}; make it with createdb")
    if state in ("28P01", "28000") or re.search(r'password authentication|role "[^"]*" does not exist', text):
        return UserError(f"the server refused the login: {where} ({first})")
    if state[:2] in ("08", "57") or state in ("53300", "53200"):
        return TransientError(f"{where}: {first}; try again later")
    if state == "2BP01":
        return UserError(
            f"{where}: {text.splitlines()[-2] if 'DETAIL' in text else first}; drop your own views first"
        )
    if "TransactionContext Error" in text or "Transaction conflict" in text or "write-write conflict" in text:
        return TransientError(f"{where}: another transaction was in the way ({first}); run the same again")
    if state in ("40001", "40P01", "55P03"):
        return TransientError(f"{where}: another transaction was in the way ({first}); run the same again")
    if type(exc).__name__ == "ConnectionTimeout" or re.search(
        r"connection (?:to server |failed|refused|timeout)|could not translate host name", text, re.IGNORECASE
    ):
        return TransientError(f"PostgreSQL is not reachable at {where}: {first}; is the server running?")
    if type(exc).__name__ in ("SerializationException", "FatalException") and "atabase" in text:
        return DataError(f"{where} is damaged: {first}; restore it from a copy")
    return None


@contextlib.contextmanager
def driver_errors() -> Iterator[None]:
    """Around work on `raw_connection`, whose failures do not pass through SQLAlchemy."""
    try:
        yield
    except LensmineError:
        raise
    except Exception as exc:
        known = translated(exc, "")
        if known is None:
            raise
        raise known from exc
