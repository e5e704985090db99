"""Commands for tracers, and for models of images against test sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from schema.options import DbOption, JsonOption
from scoring.cli_evaluate import ModelsArgument, OutOption, RecordOption, evaluate_app, finish

if TYPE_CHECKING:
    from scoring.evaluate.figures import Evaluation

tracers_app = typer.Typer(
    no_args_is_help=True, help="Name sets of known lenses that judge how a model ranks ordinary objects."
)
SETS_HELP = "Test sets, joined by commas: bologna, hst, ground, simulated."


@tracers_app.command("add")
def tracers_add(
    name: Annotated[str, typer.Argument(help="Name of the set.")],
    source: Annotated[
        str | None, typer.Option("--from", help="known (near a known lens) or injections (simulated lenses).")
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", help="SQL condition on the columns of view selectable.")
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add targets to a set of tracers; those in it already stay.

    Example: lensmine tracers add real --from known --where "survey = 'hst'"
    """
    from dataclasses import asdict

    from schema import console
    from scoring.evaluate.tracers import add_tracers

    done = add_tracers(db, name, source, where)
    if as_json:
        console.print_json(asdict(done))
    else:
        text = (
            f"tracers {done.name}: {done.added:,} added, {done.total:,} in all; of these "
            f"{done.with_cutout:,} have a cutout, {done.with_spectrum:,} a spectrum"
        )
        console.out.print(text, markup=False)


@tracers_app.command("list")
def tracers_list(db: DbOption = None, as_json: JsonOption = False) -> None:
    """List the sets of tracers.

    Example: lensmine tracers list
    """
    from schema import console
    from scoring.evaluate.tracers import list_tracers

    rows = list_tracers(db)
    if as_json:
        console.print_json(rows)
        return
    from rich.table import Table

    table = Table("name", "origin", "tracers")
    for row in rows:
        table.add_row(row["name"], row["origin"], f"{row['tracers']:,}")
    console.out.print(table)


@evaluate_app.command("trc")
def trc(
    models: ModelsArgument,
    tracers: Annotated[str, typer.Option("--tracers", help="Set of tracers; see: lensmine tracers list")],
    negatives: Annotated[
        str | None, typer.Option("--negatives", help="Selection of ordinary objects; all that is scored.")
    ] = None,
    last_ordinality: Annotated[
        float | None,
        typer.Option("--last-ordinality", min=0, max=1, help="Only objects that a phase before put so high."),
    ] = None,
    last_model: Annotated[
        str | None, typer.Option("--last-model", help="Model of the phase before; the model itself.")
    ] = None,
    out: OutOption = None,
    record: RecordOption = True,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tracer recovery curve and ranking performance of what the models have scored, spectra or images.

    Example: lensmine evaluate trc lensflow --tracers real --last-ordinality 0.94 --out figures
    """
    from schema import console
    from schema.errors import UserError
    from scoring.evaluate.tracers import evaluate_trc

    found, refused = [], []
    for model in models:
        try:
            found.append(evaluate_trc(db, model, tracers, negatives, last_ordinality, last_model))
        except UserError as fault:  # one model without tracers must not keep the others from being judged
            refused.append(fault)
    if not found:
        raise refused[0]
    for each in refused:
        console.err.print(f"left out: {each}", markup=False)
    finish(found, None, record, db, out, as_json)


@evaluate_app.command("images")
def images(
    models: ModelsArgument,
    sets: Annotated[str, typer.Option("--sets", help=SETS_HELP)] = "bologna,hst,simulated",
    lenses: Annotated[
        str | None,
        typer.Option(
            "--lenses", metavar="TRACERS", help="Set of tracers that are lenses, beside the known ones."
        ),
    ] = None,
    out: OutOption = None,
    record: RecordOption = True,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Models against test sets of images, from the scores in the database: one table a set, and the matrix.

    Example: lensmine evaluate images lensflow eznet_1band --sets bologna,hst,simulated --out figures
    """
    from schema import console
    from scoring.evaluate.images import advice, evaluate_images

    names = [name.strip() for name in sets.split(",") if name.strip()]
    found = evaluate_images(db, models, names, lenses)
    if as_json:
        finish(found, None, record, db, out, as_json)
        return
    for name in names:
        some = [each for each in found if each.name == f"images_{name}"]
        judged = [each for each in some if each.n_positive or each.n_negative]
        if judged:
            finish(judged, None, record, db, out, as_json)
        else:
            console.out.print(
                f"images_{name}: the models, in the versions that scored last, scored none of it",
                markup=False,
            )
        console.out.print(f"{name}: {some[0].recipe['note']}", markup=False)
        for each in some:
            console.out.print(f"  {each.model}: {_counts(each)}", markup=False)
        for told in dict.fromkeys(filter(None, map(advice, some))):
            console.out.print(f"  {told}", markup=False)
    _matrix(found, models, names)


def _counts(each: Evaluation) -> str:
    r = each.recipe
    return (
        f"{r['n_real_lenses']:,} real and {r['n_simulated_lenses']:,} simulated lenses; "
        f"{r['n_real_others']:,} real and {r['n_simulated_others']:,} simulated others"
    )


def _matrix(found: list[Evaluation], models: list[str], names: list[str]) -> None:
    """Area under the ROC curve of every model on every set, with its interval."""
    from rich.table import Table

    from schema import console

    table = Table("area under the ROC curve", *names)
    for model in models:
        cells = []
        for name in names:
            each = next(e for e in found if e.model == model and e.name == f"images_{name}")
            area = each.curve("roc_area")
            cells.append(
                f"{area[0].value:.3f} ({area[0].lo:.3f} to {area[0].hi:.3f})"
                if area
                else f"- ({each.n_positive:,} lenses, {each.n_negative:,} others)"
            )
        table.add_row(model, *cells)
    console.out.print(table)
