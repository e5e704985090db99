"""A query that a stranger typed: one statement, on a connection that cannot write, in a process of its own.

A process of its own because DuckDB lets a process that writes a file open it for writing only, because a
query
that runs away is stopped by ending the process, and because what it reads stays out of the caller's memory.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from schema.console import jsonable
from schema.errors import DataError, LensmineError, TransientError, UserError

LIMIT_S = 30.0
MOST_ROWS = 10_000
STATISTICS = ("pg_statistic", "pg_statistic_ext_data")
"""Tables of PostgreSQL that hold the most common values of every other."""
RUNS_QUERIES = re.compile(r"\b(\w+_to_xml(?:schema|_and_xmlschema)?|ts_stat|ts_rewrite)\s*\(", re.IGNORECASE)
"""Functions of PostgreSQL that run a text or read a table by name: the plan does not show what they read."""
_CLASSES: dict[str, type[LensmineError]] = {c.__name__: c for c in (UserError, DataError, TransientError)}


@dataclass(frozen=True)
class Answer:
    """Rows of a query.

    Attributes
    ----------
    names : list of str  columns
    rows : list of list  values; times as ISO text
    cut : bool  True when there are more rows than were asked for
    """

    names: list[str]
    rows: list[list[Any]]
    cut: bool


def ask(
    db: str | None,
    query: str,
    *,
    most_rows: int = MOST_ROWS,
    limit_s: float = LIMIT_S,
    closed: tuple[str, ...] = (),
) -> Answer:
    """Rows of one query that somebody typed.

    Parameters
    ----------
    db : str or None
        As for `schema.engine.resolve_url`.
    query : str
        One statement. One that writes is refused by the database: the DuckDB file is opened for reading, with
        access to other files locked; a PostgreSQL transaction is read-only and cannot be made otherwise.
    most_rows : int
        Most rows returned.
    limit_s : float
        The process is ended after that long [s].
    closed : tuple of str
        Tables that the query's plan must not read.

    Raises
    ------
    UserError
        When the database refuses the query, it takes too long, or its plan reads a closed table.
    """
    if not query.strip().rstrip(";").strip():
        raise UserError("no query given; for example: select count(*) from target")
    asked = {"db": db, "query": query, "most_rows": most_rows, "closed": list(closed), "limit_s": limit_s}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "schema.untrusted"],
            input=json.dumps(asked), capture_output=True, text=True, timeout=limit_s + 10, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UserError(
            f"the query ran longer than {limit_s:g} s and was stopped; narrow it, or add a limit"
        ) from None
    try:
        said = json.loads(done.stdout)
    except ValueError as exc:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise TransientError(
            f"the query's process ended with code {done.returncode}: {last}; try again"
        ) from exc
    if "error" in said:
        raise _CLASSES.get(said["class"], UserError)(said["error"])
    return Answer(said["names"], said["rows"], said["cut"])


def _main() -> None:
    asked = json.load(sys.stdin)
    try:
        said = _answer(asked)
    except LensmineError as exc:
        said = {"class": type(exc).__name__, "error": str(exc)}
    json.dump(said, sys.stdout, ensure_ascii=True)


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    import threading

    from schema.engine import connect_engine, driver_errors, raw_connection

    query, most = asked["query"].strip().rstrip(";").strip(), int(asked["most_rows"])
    with connect_engine(asked["db"], read_only=True).connect() as conn:
        raw = raw_connection(conn)
        _lock_down(conn)
        stop = threading.Timer(asked["limit_s"], _interrupt, [raw])
        stop.daemon = True
        stop.start()
        try:
            with driver_errors():
                if asked["closed"]:
                    _refuse_closed(conn, query, {*asked["closed"], *STATISTICS})
                return _fetch(conn, query, most)
        except Exception as exc:
            text = " ".join(str(exc).strip().split("\n")[:3])
            if "INTERRUPT" in text.upper() or "canceling statement" in text:
                raise UserError(
                    f"the query ran longer than {asked['limit_s']:g} s and was stopped; narrow it, or add a"
                    " limit"
                ) from exc
            if isinstance(exc, LensmineError):
                raise
            raise UserError(f"the database refuses the query: {text}") from exc
        finally:
            stop.cancel()


def _refuse_closed(conn: Any, query: str, closed: set[str]) -> None:
    """Refuse a query whose plan reads a closed table, or calls what reads out of its sight."""
    why = "closed to reviewers, who must not see others' grades before giving theirs; an adjudicator may"
    names, functions = _read_by(conn, query)
    for name in sorted(names & closed):
        raise UserError(f"table {name} is {why} read it")
    for name in sorted(functions):
        raise UserError(f"function {name} reads tables out of the plan's sight, and is {why} call it")


def _lock_down(conn: Any) -> None:
    """Close every way around reading: files of the server, settings, and a transaction that could write."""
    raw = raw_of(conn)
    if conn.dialect.name == "duckdb":
        raw.execute("set enable_external_access = false")
        # it would answer from a table's extremes, and leave the table out of the plan
        raw.execute("set disabled_optimizers = 'statistics_propagation'")
        raw.execute("set lock_configuration = true")
    else:
        # once a query has run, PostgreSQL no longer lets a transaction be made read-write
        raw.execute("set transaction read only")
        raw.execute("select 1")


def raw_of(conn: Any) -> Any:
    """The driver's connection."""
    from schema.engine import raw_connection

    return raw_connection(conn)


def _interrupt(raw: Any) -> None:
    for name in ("interrupt", "cancel"):
        stop = getattr(raw, name, None)
        if stop is not None:
            stop()
            return


def _read_by(conn: Any, query: str) -> tuple[set[str], set[str]]:
    """Tables in the query's plan, views resolved, and functions there that run queries of their own."""
    raw = raw_of(conn)
    found: set[str] = set()
    called: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("Relation Name", "Table") and isinstance(value, str):
                    found.add(value.rpartition(".")[2].strip('"'))
                if key == "Function" and value == "PRAGMA_STORAGE_INFO":
                    called.add(value.lower())
                walk(value)
        elif isinstance(node, str):
            called.update(name.lower() for name in RUNS_QUERIES.findall(node))
        elif isinstance(node, list):
            for value in node:
                walk(value)

    if conn.dialect.name == "duckdb":
        if len(raw.extract_statements(query)) != 1:
            raise UserError("one statement at a time: the query box takes a single select")
        rows = raw.execute(f"explain (format json) {query}").fetchall()
        for row in rows:
            walk(json.loads(row[-1]))
    else:
        row = raw.execute(f"explain (verbose, format json) {query}", prepare=True).fetchone()
        walk(row[0] if not isinstance(row[0], str) else json.loads(row[0]))
    return found, called


def _fetch(conn: Any, query: str, most: int) -> dict[str, Any]:
    raw = raw_of(conn)
    if conn.dialect.name == "duckdb":
        cursor = raw.execute(query)
        rows = cursor.fetchmany(most + 1) if cursor.description is not None else []
    else:
        # row by row, so that a large answer is not held in memory; the protocol used takes a single statement
        cursor = raw.cursor()
        with contextlib.closing(cursor.stream(query)) as found:
            rows = list(itertools.islice(found, most + 1))
        if cursor.description is None:
            cursor = raw.execute(query, prepare=True)  # no rows, so nothing to hold
    if cursor.description is None:
        raise UserError("the query returns no rows; the query box takes a select")
    names = [d[0] for d in cursor.description]
    return {"names": names, "rows": [jsonable(list(r)) for r in rows[:most]], "cut": len(rows) > most}


if __name__ == "__main__":
    _main()
