"""``lensmine sql``: one read-only query, printed as a table, JSON or CSV."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from schema.options import DbOption, JsonOption


def register(app: typer.Typer) -> None:
    """Add ``sql`` to the root command."""
    app.command("sql")(sql)


def sql(
    query: Annotated[str, typer.Argument(help="One SQL query; - reads it from standard input.")],
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Most rows of the table; 0 for all.")] = 100,
) -> None:
    """Ask the database in SQL. Nothing can be changed this way.

    Example: lensmine sql "select name, z_lens, z_source, line_flux from candidate order by line_flux desc"
    """
    from schema import console

    names, rows = query_rows(db, sys.stdin.read() if query == "-" else query)
    if as_json:
        console.print_json([dict(zip(names, row, strict=True)) for row in rows])
    elif as_csv:
        _print_csv(names, rows)
    else:
        _print_table(names, rows, limit)


def query_rows(db: str | None, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Names of the columns, and the rows, of one query on a connection that cannot write.

    Raises
    ------
    UserError
        When the database refuses the query; the message is the engine's own first line.
    """
    import sqlalchemy as sa

    from schema.engine import connect_engine
    from schema.errors import UserError

    text = query.strip().rstrip(";")
    if not text:
        raise UserError('no query given; for example: lensmine sql "select count(*) from target"')
    with connect_engine(db, read_only=True).connect() as conn:
        try:
            result = conn.execution_options(no_parameters=True).exec_driver_sql(text)
            if not result.returns_rows:
                raise UserError("the query returns no rows; lensmine sql takes a select")
            return list(result.keys()), [tuple(row) for row in result]
        except sa.exc.DBAPIError as exc:
            first = str(exc.orig).strip().splitlines()
            raise UserError(f"the database refuses the query: {' '.join(first[:3])}") from exc


def _print_csv(names: list[str], rows: list[tuple[Any, ...]]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)


def _print_table(names: list[str], rows: list[tuple[Any, ...]], limit: int) -> None:
    from rich.table import Table

    from schema.console import err, out

    shown = rows[:limit] if limit else rows
    table = Table(box=None, pad_edge=False, header_style="dim")
    for k, name in enumerate(names):
        numeric = any(isinstance(row[k], (int, float)) and not isinstance(row[k], bool) for row in shown)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in shown:
        table.add_row(*map(_cell, row))
    out.print(table, width=None if out.is_terminal else 10_000)
    if len(shown) < len(rows):
        err.print(f"{len(shown):,} of {len(rows):,} rows; --limit 0 prints all")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
