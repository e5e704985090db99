"""Is a text one boolean SQL predicate that only reads? The parser and the database decide, not a pattern.

The text is parsed by DuckDB's parser, whose dialect both engines share, and its syntax tree is walked for
what a selection may not hold. Then the engine in use plans it in a read-only transaction.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb
import sqlalchemy as sa

from schema.errors import UserError
from schema.tables import metadata

VIEW = "selectable"
"""The view whose columns a predicate may use."""

_BOOLEAN = {"bool", "boolean", "16"}
_HARMLESS_TABLE_FUNCTIONS = {"unnest", "generate_series", "range"}
_WRITING_WORDS = frozenset(
    {
        *("insert", "update", "delete", "merge", "truncate", "copy", "into", "create", "alter", "drop"),
        *("attach", "detach", "install", "load", "export", "import", "call", "vacuum", "grant", "revoke"),
    }
)


class PredicateError(UserError):
    """A selection's predicate is refused; the message says which rule it breaks and how to mend it."""


def where_clause(where_sql: str) -> str:
    """The predicate as it is put into a query: on lines of its own, so that a trailing comment ends there."""
    return f"(\n{where_sql}\n)"


def check_predicate(conn: sa.Connection, where_sql: str) -> None:
    """Refuse anything but one boolean expression over view ``selectable`` that only reads.

    Parameters
    ----------
    conn : Connection
        Read-only connection to the database that the selection is for; its transaction is rolled back.
    where_sql : str
        The predicate, without the word WHERE.

    Raises
    ------
    PredicateError
        If it does not parse, holds a second statement, writes, reads outside lensmine's tables, calls a
        function with side effects, names an unknown column or is not boolean.
    """
    if not where_sql.strip():
        raise PredicateError(
            "the predicate is empty; give a condition, for example: class = 'GALAXY' and z > 0.3"
        )
    tree = _parse(where_sql)
    _check_tree(tree)
    _check_volatility(conn, sorted(_functions(tree)))
    _plan(conn, where_sql)


def _refuse(where_sql: str, why: str) -> PredicateError:
    shown = " ".join(where_sql.split())
    return PredicateError(
        f"predicate refused: {why}; given: {shown[:120]}{'...' if len(shown) > 120 else ''}"
    )


@functools.cache
def _parser() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:", config={"enable_external_access": "false"})


def _parse(where_sql: str) -> dict[str, Any]:
    """Syntax tree of a query with the predicate, which must be valid bare and in parentheses alike.

    Bare, ``1=1) or (1=1`` does not parse; in parentheses, ``1=1 limit 5`` and ``1=1 union ...`` do not.
    """
    bare = f"select 1 from {VIEW} where\n{where_sql}\n"
    closed = f"select 1 from {VIEW} where {where_clause(where_sql)}"
    parser = _parser().cursor()
    try:
        statements = parser.extract_statements(bare)
    except duckdb.Error as error:
        words = _writing_words(where_sql)
        if words:
            raise _refuse(
                where_sql, f"it writes or changes state ({words[0].upper()}); a selection only reads"
            ) from None
        raise _refuse(where_sql, f"it does not parse: {_first_line(error)}") from None
    if len(statements) != 1:
        raise _refuse(where_sql, "it holds a second statement; remove the ';' and what follows")
    row = parser.execute("select json_serialize_sql(?)", [closed]).fetchone()
    tree: dict[str, Any] = json.loads(row[0]) if row else {"error": True, "error_message": "no syntax tree"}
    if tree.get("error"):
        what = tree.get("error_message", "syntax error")
        raise _refuse(where_sql, f"it is not one expression ({what}); give only what stands after WHERE")
    return tree


def _writing_words(where_sql: str) -> list[str]:
    """Words outside strings and comments that begin a statement which writes."""
    text = where_sql.encode()
    words = []
    for at, kind in duckdb.tokenize(where_sql):
        if kind in {duckdb.token_type.keyword, duckdb.token_type.identifier}:
            found = re.match(rb"\w+", text[at:])
            if found and found[0].decode().lower() in _WRITING_WORDS:
                words.append(found[0].decode().lower())
    return words


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value)


def _functions(tree: dict[str, Any]) -> set[str]:
    return {
        n["function_name"].lower()
        for n in _walk(tree)
        if n.get("class") == "FUNCTION" and not n["is_operator"]
    }


def _check_tree(tree: dict[str, Any]) -> None:
    """Refuse files, table functions, foreign tables and parameters anywhere in the tree."""
    allowed = {VIEW, *metadata.tables, *_views()}
    nodes = list(_walk(tree))
    for node in nodes:
        if isinstance(node.get("cte_map"), dict):
            allowed |= {entry["key"].lower() for entry in node["cte_map"].get("map", [])}
    for node in nodes:
        kind = node.get("type")
        if kind == "TABLE_FUNCTION":
            name = node["function"]["function_name"]
            if name.lower() not in _HARMLESS_TABLE_FUNCTIONS:
                raise PredicateError(
                    f"predicate refused: {name}() reads outside the database; "
                    "ingest the file and select from its table"
                )
        elif kind == "BASE_TABLE":
            name, schema = node["table_name"], node.get("schema_name") or ""
            if name.lower() not in allowed or schema.lower() not in {"", "main", "public"}:
                full = f"{schema}.{name}" if schema else name
                near = difflib.get_close_matches(name, sorted(allowed), n=3)
                hint = f"; did you mean {' or '.join(near)}?" if near else ""
                raise PredicateError(f"predicate refused: {full!r} is no table or view of lensmine{hint}")
        elif kind == "SHOW_REF":
            raise PredicateError("predicate refused: SHOW and DESCRIBE are no conditions")
        elif node.get("class") == "PARAMETER":
            raise PredicateError("predicate refused: it holds a parameter (? or $1); write the value itself")


def _views() -> tuple[str, ...]:
    from schema.views.order import VIEW_ORDER

    return tuple(VIEW_ORDER)


def _check_volatility(conn: sa.Connection, functions: list[str]) -> None:
    """Refuse functions that the engine's own catalogue calls volatile."""
    if not functions:
        return
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in functions)
    query = (
        "select distinct proname from pg_catalog.pg_proc "
        f"where provolatile = 'v' and proname in ({names}) order by 1"
    )
    volatile = [row[0] for row in _bare(conn).exec_driver_sql(query)]
    if volatile:
        called = ", ".join(f"{name}()" for name in volatile)
        raise PredicateError(
            f"predicate refused: {called} has side effects or another answer every time; "
            "a selection uses columns, operators and functions of its arguments only"
        )


def _bare(conn: sa.Connection) -> sa.Connection:
    """The connection, told to hand SQL to the driver untouched: % and : are plain text in it."""
    return conn.execution_options(no_parameters=True)


def _plan(conn: sa.Connection, where_sql: str) -> None:
    """Let the engine bind the predicate as a condition and look at its type; then roll back."""
    inside = where_clause(where_sql)
    bare = _bare(conn)
    kind = "unknown"
    failure: sa.exc.DBAPIError | None = None
    try:
        result = bare.exec_driver_sql(f"select {inside} as keep from {VIEW} limit 0")
        if result.cursor is not None and result.cursor.description:
            kind = str(result.cursor.description[0][1]).lower()
        result.close()
        if kind in _BOOLEAN:
            bare.exec_driver_sql(f"explain select 1 from {VIEW} where {inside}").fetchall()
    except sa.exc.DBAPIError as error:
        failure = error
    conn.rollback()
    if failure is not None:
        raise _refuse(where_sql, _binding_error(conn, failure))
    if kind not in _BOOLEAN:
        raise _refuse(where_sql, "it is not boolean; compare the value with something, as in z > 0.3")


def _binding_error(conn: sa.Connection, error: sa.exc.DBAPIError) -> str:
    message = _first_line(error.orig)
    found = re.search(r'column "?([\w.]+)"? (?:not found|does not exist)', message) or re.search(
        r'does not have a column named "(\w+)"', message
    )
    if found:
        name = found[1].split(".")[-1]
        columns = selectable_columns(conn)
        near = difflib.get_close_matches(name.lower(), columns, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"use one of: {', '.join(columns)}"
        return f"unknown column {name!r}, {hint}"
    return f"the database cannot use it: {message}"


def selectable_columns(conn: sa.Connection) -> list[str]:
    """Names of the columns that a predicate may use."""
    query = (
        "select column_name from information_schema.columns "
        f"where table_name = '{VIEW}' order by ordinal_position"
    )
    return [row[0] for row in _bare(conn).exec_driver_sql(query)]


def _first_line(error: object) -> str:
    return re.sub(r"^\w+ Error: ", "", str(error).strip().splitlines()[0])
