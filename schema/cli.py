"""Commands of the schema floor: ``lensmine db ...`` and ``lensmine cone``."""

from __future__ import annotations

from typing import Annotated

import typer

from schema.options import DbOption, JsonOption

db_app = typer.Typer(no_args_is_help=True, help="Make, migrate, check and describe the database.")


def register(app: typer.Typer) -> None:
    """Add the commands of this floor to the root command."""
    app.add_typer(db_app, name="db")
    # a declination as -1.5 is no option
    app.command("cone", context_settings={"ignore_unknown_options": True})(cone)


@db_app.command()
def upgrade(db: DbOption = None, as_json: JsonOption = False) -> None:
    """Bring the database up to this lensmine, making it when it is not there.

    Example: lensmine db upgrade --db search.duckdb
    """
    from schema import console, engine

    before, after = engine.upgrade(db)
    if as_json:
        console.print_json(
            {"database": engine.shown(engine.resolve_url(db)), "before": before, "after": after}
        )
    elif before == after:
        console.out.print(f"{engine.shown(engine.resolve_url(db))}: at migration {after} already")
    else:
        console.out.print(f"{engine.shown(engine.resolve_url(db))}: migration {before or 'none'} -> {after}")


@db_app.command()
def downgrade(
    revision: Annotated[str, typer.Argument(help="A migration as 0001, -1 for one step, base for none.")],
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the database down to an older migration; what that migration lacks is lost.

    Example: lensmine db downgrade -1 --db search.duckdb
    """
    from schema import console, engine

    before, after = engine.downgrade(db, revision)
    if as_json:
        console.print_json(
            {"database": engine.shown(engine.resolve_url(db)), "before": before, "after": after}
        )
    else:
        console.out.print(f"{engine.shown(engine.resolve_url(db))}: migration {before} -> {after or 'none'}")


@db_app.command()
def check(db: DbOption = None, as_json: JsonOption = False) -> None:
    """Prove that rows, views and pixel shards hold together; exit code 65 when something is wrong.

    Example: lensmine db check --db search.duckdb
    """
    from rich.table import Table

    from schema import console, engine
    from schema.check import check_database

    with console.err.status("checking") as status:
        findings = check_database(db, lambda name: status.update(f"checked {name}"))
    faults = [f for f in findings if not f.ok]
    if as_json:
        rows = [
            {"check": f.check, "ok": f.ok, "n": f.n_checked, "n_bad": f.n_bad, "message": f.message}
            for f in findings
        ]
        console.print_json(
            {"database": engine.shown(engine.resolve_url(db)), "ok": not faults, "checks": rows}
        )
    elif faults:
        table = Table("check", "checked", "wrong", "what to do", box=None)
        for f in faults:
            table.add_row(f.check, f"{f.n_checked:,}", f"{f.n_bad:,}", f.message)
        console.out.print(table)
        console.out.print(f"{len(faults)} of {len(findings)} checks found something wrong")
    else:
        console.out.print(f"{len(findings)} checks, nothing wrong")
    if faults:
        raise typer.Exit(65)


@db_app.command()
def dictionary(
    name: Annotated[str | None, typer.Argument(help="One table or view; all when left out.")] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    layout: Annotated[
        str, typer.Option("--format", help="table for the terminal, md for Markdown.")
    ] = "table",
) -> None:
    """Print what each table, view and column holds, with unit and UCD; no database is needed.

    Example: lensmine db dictionary candidate
    """
    from rich.table import Table

    from schema import console
    from schema.dictionary import as_markdown, dictionary
    from schema.errors import UserError

    if layout not in ("table", "md"):
        raise UserError(f"--format {layout}: allowed are table and md")
    relations = dictionary(name)
    if as_json:
        console.print_json([r.as_dict() for r in relations])
        return
    if layout == "md":
        print(as_markdown(relations))
        return
    for r in relations:
        table = Table(
            "column", "type", "unit", "UCD", "meaning", title=f"{r.kind} {r.name}", title_justify="left"
        )
        table.caption, table.caption_justify = r.doc, "left"
        for c in r.columns:
            table.add_row(c.name + (" *" if c.key else ""), c.type, c.unit, c.ucd, c.doc)
        console.out.print(table)


def cone(
    ra: Annotated[str, typer.Argument(help="Right ascension, ICRS: degrees, or hours as 10:05:00.0.")],
    dec: Annotated[str, typer.Argument(help="Declination, ICRS: degrees, or -01:30:00.")],
    radius_arcsec: Annotated[float, typer.Argument(help="Radius [arcsec].")],
    db: DbOption = None,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(min=1, help="Most rows.")] = 1000,
) -> None:
    """List targets and known lenses around a position, nearest first.

    Example: lensmine cone 151.25 -1.5 30
    """
    from rich.table import Table

    from schema import console
    from schema.cone import cone_search, parse_angle

    found = cone_search(db, parse_angle(ra, hours=True), parse_angle(dec, hours=False), radius_arcsec, limit)
    if as_json:
        console.print_json(found)
        return
    for title, rows in found.items():
        if not rows:
            console.out.print(f"no {title.replace('_', ' ')} within {radius_arcsec:g} arcsec")
            continue
        table = Table(
            *rows[0], title=f"{len(rows)} {title.replace('_', ' ')}", title_justify="left", box=None
        )
        for row in rows:
            table.add_row(
                *(
                    "" if v is None else f"{v:.6g}" if k in ("z", "sep_arcsec") else str(v)
                    for k, v in row.items()
                )
            )
        console.out.print(table)
