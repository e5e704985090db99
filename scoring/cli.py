"""Commands of the scoring floor: selections, scores, and those of training, fits and evaluation."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Annotated

import typer

from schema.options import DbOption, JsonOption, QuietOption

select_app = typer.Typer(no_args_is_help=True, help="Name, list and count selections of targets.")
NameArgument = Annotated[str, typer.Argument(help="Name of the selection.")]


MOUNTED = ("cli_train", "cli_fit", "cli_evaluate", "cli_simulate", "cli_selfunc", "cli_gan", "cli_mine")


def register(app: typer.Typer) -> None:
    """Add the commands of this floor to the root command."""
    app.add_typer(select_app, name="select")
    app.command()(models)
    app.command()(score)
    for name in MOUNTED:
        if importlib.util.find_spec(f"scoring.{name}") is not None:
            importlib.import_module(f"scoring.{name}").register(app)


@select_app.command("add")
def select_add(
    name: NameArgument,
    where: Annotated[str, typer.Option("--where", help="SQL condition on the columns of view selectable.")],
    description: Annotated[str, typer.Option("--description", help="What it selects and why.")] = "",
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a selection, or a new version of it when its condition changes.

    Example: lensmine select add bright_lrg --where "class = 'GALAXY' and z > 0.3 and cmodel_mag_i < 19.9"
    """
    from schema import console
    from scoring.selection import add_selection

    chosen, is_new = add_selection(db, name, where, description)
    if as_json:
        console.print_json(chosen.as_dict() | {"new": is_new})
    else:
        state = "added" if is_new else "unchanged"
        console.out.print(f"selection {chosen.name} version {chosen.version}: {state}", markup=False)


@select_app.command("list")
def select_list(db: DbOption = None, as_json: JsonOption = False) -> None:
    """List the selections, the latest version of each.

    Example: lensmine select list
    """
    from schema import console
    from schema.engine import connect_engine
    from scoring.selection import list_selections

    with connect_engine(db, read_only=True).connect() as conn:
        every = list_selections(conn)
    if as_json:
        console.print_json([chosen.as_dict() for chosen in every])
        return
    from rich.table import Table

    table = Table("name", "version", "description")
    for chosen in every:
        table.add_row(chosen.name, str(chosen.version), chosen.description)
    console.out.print(table)


@select_app.command("show")
def select_show(
    name: NameArgument,
    version: Annotated[int | None, typer.Option("--version", help="The latest unless given.")] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the condition of a selection.

    Example: lensmine select show li2018_lrg
    """
    from schema import console
    from schema.engine import connect_engine
    from scoring.selection import get_selection

    with connect_engine(db, read_only=True).connect() as conn:
        chosen = get_selection(conn, name, version)
    if as_json:
        console.print_json(chosen.as_dict())
    else:
        console.out.print(f"-- {chosen.name} version {chosen.version}: {chosen.description}", markup=False)
        console.out.print(chosen.where_sql, markup=False)


@select_app.command("count")
def select_count(name: NameArgument, db: DbOption = None, as_json: JsonOption = False) -> None:
    """Count the targets of a selection, and those with a spectrum or an image cutout.

    Example: lensmine select count li2018_lrg
    """
    from schema import console
    from schema.engine import connect_engine
    from scoring.selection import checked_selection, count_selection

    chosen = checked_selection(db, name)
    with connect_engine(db, read_only=True).connect() as conn:
        counts = count_selection(conn, chosen)
    if as_json:
        console.print_json({"name": chosen.name, "version": chosen.version} | counts)
    else:
        console.out.print(
            f"{chosen.name} version {chosen.version}: {counts['targets']:,} targets, "
            f"{counts['spectra']:,} with a spectrum, {counts['cutouts']:,} with a cutout"
        )


@select_app.command("columns")
def select_columns(db: DbOption = None, as_json: JsonOption = False) -> None:
    """List the columns that a condition may use.

    Example: lensmine select columns
    """
    from schema import console
    from schema.engine import connect_engine
    from scoring.predicate import selectable_columns

    with connect_engine(db, read_only=True).connect() as conn:
        names = selectable_columns(conn)
    if as_json:
        console.print_json(names)
    else:
        console.out.print("\n".join(names))


def models(as_json: JsonOption = False) -> None:
    """List the models that can score, with the figures of their cards: the paper's test, 150,000 spectra.

    Example: lensmine models
    """
    from schema import console
    from scoring.card import shipped_summary
    from scoring.registry import available_models, model_class

    rows = [
        {
            "name": name,
            "kind": model_class(name).kind,
            "what": (model_class(name).__doc__ or "").split("\n")[0],
        }
        | shipped_summary(name)
        for name in available_models()
    ]
    if as_json:
        console.print_json(rows)
        return
    from rich.table import Table

    table = Table("name", "kind", "precision", "completeness", "what it is")
    for row in rows:
        figures = [f"{row[key]:.4f}" if row[key] is not None else "" for key in ("precision", "completeness")]
        table.add_row(row["name"], row["kind"], *figures, row["what"])
    console.out.print(table)


def score(
    model: Annotated[str, typer.Argument(help="Name of the model; see: lensmine models")],
    selection: Annotated[str, typer.Argument(help="Name of the selection; see: lensmine select list")],
    backend: Annotated[str, typer.Option("--backend", help="auto, torch or openvino.")] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", help="fp32, bf16 (torch) or int8 (openvino).")
    ] = "fp32",
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda or cuda:N.")] = None,
    weights: Annotated[str, typer.Option("--weights", help="A .safetensors file, or shipped.")] = "shipped",
    chunk: Annotated[int, typer.Option("--chunk", help="Spectra or cutouts in a chunk.")] = 32_768,
    limit: Annotated[int | None, typer.Option("--limit", help="Score at most so many.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Only finish an unfinished run; without it, that is done first.")
    ] = False,
    lease: Annotated[
        int, typer.Option("--lease", help="Seconds until a silent worker's chunk may be taken over.")
    ] = 600,
    db: DbOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score the spectra or image cutouts of a selection that lack a current score by a model.

    A run that was killed is taken up where it stopped; several processes may work on one run.

    Example: lensmine score resnet28_lae li2018_lrg, or: lensmine score eznet all_images
    """
    import signal

    from schema import console
    from scoring import run

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with console.progress(quiet=quiet or as_json) as bar:
        line = bar.add_task(f"{model} on {selection}", total=None)

        def advance(done: int, todo: int) -> None:
            bar.update(line, advance=done, total=todo)

        report = run.score(
            db,
            model,
            selection,
            backend=backend,
            precision=precision,
            device=device,
            weights=weights,
            chunk=chunk,
            limit=limit,
            resume_only=resume,
            lease_s=lease,
            progress=advance,
        )
    if as_json:
        console.print_json(report.as_dict())
    elif not quiet:
        console.out.print(report.line(), markup=False)
