"""Commands of the schema floor: ``lensmine db ...`` and ``lensmine cone``."""

from __future__ import annotations

from typing import Annotated

import typer

from schema.options import DbOption, JsonOption

db_app = typer.Typer(no_args_is_help=True, help="Make, migrate, check and describe the database.")


def register(app: typer.Typer) -> None:
    """Add the commands of this floor to the root command."""
    app.add_typer(db_app, name="db")


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
