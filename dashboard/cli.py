"""``lensmine dashboard``: the pages; ``lensmine review``: reviewers, calibrators, consensus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from schema.options import DbOption, JsonOption

review_app = typer.Typer(no_args_is_help=True, help="Reviewers, calibrators and the consensus of grades.")


def register(app: typer.Typer) -> None:
    """Add ``dashboard`` and ``review`` to the root command."""
    app.command("dashboard")(dashboard)
    app.add_typer(review_app, name="review")


def dashboard(
    db: DbOption = None,
    reviewer: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="Everyone who opens the pages is this reviewer: for one's own machine.",
        ),
    ] = None,
    address: Annotated[
        str, typer.Option(help="Interface to listen on; 0.0.0.0 for other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 8501,
    base: Annotated[str, typer.Option(help="Path under which a proxy serves the pages.")] = "",
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = True,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of the pictures made; may be deleted at any time.")
    ] = None,
    picture_mb: Annotated[int, typer.Option(min=16, help="Most megabytes of it.")] = 512,
) -> None:
    """Review candidates, look at plots and runs, and ask the database, in the browser.

    Example: lensmine dashboard --db search.duckdb --as Ada
    """
    from dashboard.server import serve
    from dashboard.settings import Settings, default_picture_dir, kept_secret
    from dashboard.store import checked_name
    from schema import console, engine

    engine.resolve_url(db)
    name = checked_name(reviewer) if reviewer is not None else None
    folder = pictures.absolute() if pictures else default_picture_dir(db)
    settings = Settings(db, name, folder, picture_mb << 20, base.strip("/"), kept_secret(folder))
    console.err.print(f"database {engine.shown(engine.resolve_url(db))}", markup=False)
    serve(settings, address=address, port=port, headless=not open_browser)


@review_app.command("reviewers")
def reviewers(
    add: Annotated[list[str] | None, typer.Option(help="Enter a reviewer of this name.")] = None,
    adjudicator: Annotated[
        list[str] | None, typer.Option(help="Let this reviewer settle disagreements and see all grades.")
    ] = None,
    no_adjudicator: Annotated[list[str] | None, typer.Option(help="No longer.")] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the reviewers, enter new ones, and say who settles disagreements.

    Example: lensmine review reviewers --add Ada --adjudicator Ada
    """
    from dashboard import store
    from schema import console
    from schema.engine import connect_engine

    connect_engine(db).dispose()
    for name in add or []:
        store.ensure_reviewer(db, name)
    for names, value in ((adjudicator, True), (no_adjudicator, False)):
        for name in names or []:
            store.set_adjudicator(db, name, value)
    rows = store.reading(db, _reviewer_rows)
    if as_json:
        console.print_json(rows)
    else:
        _print(rows, "no reviewers yet; the first to sign in settles disagreements")


def _reviewer_rows(conn: Any) -> list[dict[str, Any]]:
    import sqlalchemy as sa

    query = """
        select reviewer.name, reviewer.is_adjudicator, count(current_grade.grade_id) as grades,
            max(current_grade.graded_at) as last_grade
        from reviewer left join current_grade on current_grade.reviewer_id = reviewer.reviewer_id
        group by reviewer.name, reviewer.is_adjudicator order by reviewer.name"""
    return [dict(r) for r in conn.execute(sa.text(query)).mappings()]


@review_app.command("calibrators")
def calibrators(
    lenses: Annotated[
        str | None, typer.Option(metavar="SQL", help="Condition on view selectable for known lenses.")
    ] = None,
    others: Annotated[str | None, typer.Option(metavar="SQL", help="The same for known non-lenses.")] = None,
    injections: Annotated[
        int,
        typer.Option(min=0, help="Take so many simulated lenses, and so many controls, that were scored."),
    ] = 0,
    limit: Annotated[int, typer.Option(min=1, help="Most targets of each condition.")] = 200,
    seed: Annotated[int, typer.Option(help="Which of them, where there are more.")] = 1,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose objects of known truth that are mixed unmarked into the reviewers' queues.

    Example: lensmine review calibrators --injections 50
    """
    from dashboard.calibration import choose_calibrators
    from schema import console

    done = choose_calibrators(db, lenses=lenses, others=others, injections=injections, limit=limit, seed=seed)
    if as_json:
        console.print_json(done)
    else:
        console.out.print(
            f"{done['lenses']} lenses and {done['others']} others are calibrators now "
            f"({done['new']} new); their share in a queue is cut_setting review_calibration_rate"
        )


@review_app.command("consensus")
def consensus(
    db: DbOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Most rows.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List what the reviewers' grades come to, the surest lenses first.

    Example: lensmine review consensus --json
    """
    import sqlalchemy as sa

    from schema import console
    from schema.engine import connect_engine

    query = """
        select native_id, n_grade, n_a, n_b, n_c, n_x, p_lens, p_lens_lo, p_lens_hi, verdict, target_id
        from consensus where not is_calibrator order by p_lens desc nulls last, target_id limit :n"""
    with connect_engine(db, read_only=True).connect() as conn:
        rows = [dict(r) for r in conn.execute(sa.text(query), {"n": limit}).mappings()]
    if as_json:
        console.print_json(rows)
    else:
        _print(rows, "no grades yet; start with: lensmine dashboard")


def _print(rows: list[dict[str, Any]], nothing: str) -> None:
    from rich.table import Table

    from schema import console

    if not rows:
        console.out.print(nothing)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in rows[0]:
        table.add_column(name.replace("_", " "))
    for row in rows:
        table.add_row(*(_cell(v) for v in row.values()))
    console.out.print(table)


def _cell(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
