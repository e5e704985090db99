"""Commands that make simulated targets, which go through the search as everything else."""

from __future__ import annotations

from typing import Annotated

import typer

from schema.options import DbOption, JsonOption, QuietOption

simulate_app = typer.Typer(no_args_is_help=True, help="Simulated lenses, as targets with their truth.")


def register(app: typer.Typer) -> None:
    """Add ``simulate`` to the root command."""
    app.add_typer(simulate_app, name="simulate")


@simulate_app.callback()
def simulate() -> None:
    """Simulated lenses, as targets with their truth."""


@simulate_app.command("lenses")
def lenses(
    n: Annotated[int, typer.Option("--n", min=0, help="Lenses that there shall be.")] = 1000,
    instrument: Annotated[str, typer.Option("--instrument", help="hsc, acs, acs50 or vis (euclid).")] = "hsc",
    prior: Annotated[
        str, typer.Option("--prior", help="Population: collett2015 or thesis_grid.")
    ] = "collett2015",
    nonlenses: Annotated[
        int, typer.Option("--with-nonlenses", min=0, help="Ordinary sources that there shall be beside them.")
    ] = 0,
    onto: Annotated[
        str | None,
        typer.Option("--onto", metavar="SELECTION", help="Put arcs on the cutouts of a selection instead."),
    ] = None,
    per_host: Annotated[int, typer.Option("--per-host", help="With --onto: injections a cutout.")] = 1,
    limit: Annotated[int | None, typer.Option("--limit", help="With --onto: most cutouts.")] = None,
    gain: Annotated[
        float | None, typer.Option("--gain", help="With --onto: electrons a count, where unknown.")
    ] = None,
    zero_point: Annotated[
        float | None,
        typer.Option("--zero-point", help="With --onto: AB magnitude of one count, where unknown."),
    ] = None,
    npix: Annotated[int | None, typer.Option("--npix", help="Side of a stamp [px].")] = None,
    band: Annotated[
        str | None, typer.Option("--band", help="Band of the magnitudes in injection_lens.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed; the same one makes nothing twice.")] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, or cuda with a GPU.")] = "cpu",
    db: DbOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Simulate strong lenses as ordinary targets, or put their arcs on real cutouts.

    What is there already is left alone: the same command again adds what is missing.

    Example: lensmine simulate lenses --n 5000 --with-nonlenses 20000 --instrument hsc --seed 1
    """
    import dataclasses

    from schema import console

    with console.progress(quiet=quiet or as_json) as bar:
        line = bar.add_task("simulate", total=None)

        def advance(done: int, total: int) -> None:
            bar.update(line, completed=done, total=total)

        if onto is not None:
            from scoring.inject.onto import inject_onto

            put = inject_onto(
                db, onto, prior=prior, per_host=per_host, limit=limit, gain=gain, zero_point=zero_point,
                band=band, seed=seed, progress=advance,
            )  # fmt: skip
            result = dataclasses.asdict(put)
            result["refused"] = dict(put.refused)  # asdict counts a Counter's pairs
        else:
            from scoring.inject.simulate import simulate_lenses

            made = simulate_lenses(
                db, n, instrument=instrument, prior=prior, n_nonlenses=nonlenses, npix=npix, band=band,
                seed=seed, device=device, progress=advance,
            )  # fmt: skip
            result = dataclasses.asdict(made)
    if as_json:
        console.print_json(result)
    elif not quiet:
        _report(result)


def _report(result: dict[str, object]) -> None:
    from schema import console
    from scoring.inject.hosts import REASONS

    if "refused" in result:
        refused = result["refused"]
        assert isinstance(refused, dict)
        console.out.print(
            f"{result['n_lenses']:,} lenses injected, {result['n_existing']:,} were there; "
            f"names: {result['tag']}-*",
            markup=False,
        )
        if result["n_by_pixels"]:
            console.out.print(
                f"  {result['n_by_pixels']:,} have their mass along the light as measured on the pixels, as "
                "how these cutouts lie on the sky is unknown; ingest their files again: that may tell",
                markup=False,
            )
        for reason, count in refused.items():
            console.out.print(f"  refused {count:,}: {REASONS[reason]}", markup=False)
        return
    tags = result["tags"]
    assert isinstance(tags, list)
    console.out.print(
        f"{result['n_lenses']:,} lenses and {result['n_nonlenses']:,} other sources simulated, "
        f"{result['n_existing']:,} were there; names: {', '.join(f'{t}-*' for t in tags)}",
        markup=False,
    )
