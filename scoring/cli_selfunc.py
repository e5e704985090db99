"""The command that measures what a search can find."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schema.options import DbOption, JsonOption, QuietOption

if TYPE_CHECKING:
    from scoring.selfunc.measure import Measurement


def register(app: typer.Typer) -> None:
    """Add ``selection-function`` to the root command."""
    app.command("selection-function")(selection_function)


def selection_function(
    model: Annotated[str, typer.Argument(help="Name of the model; see: lensmine models")],
    stage: Annotated[
        str, typer.Option("--stage", help="What counts as selected: scored, cut or graded.")
    ] = "scored",
    mode: Annotated[
        str,
        typer.Option("--mode", help="slice: other parameters fixed; population: drawn from --prior; rows."),
    ] = "slice",
    selection: Annotated[
        str | None, typer.Option("--selection", help="Injections at hand, instead of new ones (mode rows).")
    ] = None,
    instrument: Annotated[str, typer.Option("--instrument", help="hsc, acs, acs50 or vis.")] = "hsc",
    prior: Annotated[
        str, typer.Option("--prior", help="Mode population: collett2015 or thesis_grid.")
    ] = "collett2015",
    n: Annotated[
        int | None,
        typer.Option("--n", min=1, help="Lenses to inject; 40,000 for slices, 12,800 for a population."),
    ] = None,
    bins: Annotated[
        int | None,
        typer.Option("--bins", help="Cells along each side of a plane; 10 for slices, else 8."),
    ] = None,
    bins_line: Annotated[
        int | None, typer.Option("--bins-line", help="Cells along a line; 20, else 12.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Stage scored: probability from which on; the model's."),
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option("--fix", metavar="NAME=VALUE", help="Slices: a fixed value to change; repeat for more."),
    ] = None,
    even: Annotated[
        bool, typer.Option("--even", help="No second round where the function is steep.")
    ] = False,
    npix: Annotated[int | None, typer.Option("--npix", help="Side of a stamp [px].")] = None,
    band: Annotated[str | None, typer.Option("--band", help="Band of the magnitudes.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed.")] = 0,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Figure of all pairs, PNG or PDF.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", metavar="FILE.txt", help="All cells as text.")
    ] = None,
    weights: Annotated[str, typer.Option("--weights", help="A .safetensors file, or shipped.")] = "shipped",
    backend: Annotated[str, typer.Option("--backend", help="auto, torch or openvino.")] = "auto",
    precision: Annotated[str, typer.Option("--precision", help="fp32, bf16 or int8.")] = "fp32",
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda or cuda:N.")] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure P(selected | Einstein radius, magnitudes, sizes ...) with injected lenses, for every pair.

    The lenses become targets, are scored as `lensmine score` scores everything, and are counted by SQL.
    Rows go to table selection_function; views completeness and corrected_count use them.

    Example: lensmine selection-function eznet --stage scored --plot selection.png
    """
    from schema import console
    from scoring.selfunc.measure import MeasureConfig, measure

    if selection is not None and mode == "slice":
        mode = "rows"
    slices = mode == "slice"
    config = MeasureConfig(
        stage=stage, mode=mode, instrument=instrument, prior=prior,
        n=n if n is not None else 40_000 if slices else 12_800,
        bins=bins if bins is not None else 10 if slices else 8,
        bins_line=bins_line if bins_line is not None else 20 if slices else 12,
        refine_share=0.0 if even else 0.5, threshold=threshold, selection=selection, npix=npix, band=band,
        fix=_pairs(fix or []), seed=seed,
    )  # fmt: skip
    if plot is not None:
        from scoring.selfunc.plot import check_path

        check_path(plot)
    with console.progress(quiet=quiet or as_json) as bar:
        lines: dict[str, object] = {}

        def say(step: str, more: int, total: int) -> None:
            if step not in lines:
                lines[step] = bar.add_task(step, total=total)
            bar.update(lines[step], advance=more, total=total)  # type: ignore[arg-type]

        done = measure(
            db, model, config, weights=weights, backend=backend, precision=precision, device=device, say=say
        )
    written = []
    if plot is not None:
        from scoring.selfunc.plot import draw

        draw(done, plot)
        written.append(plot)
    if table is not None:
        from scoring.selfunc.record import text_table

        table.write_text(text_table(done), encoding="utf-8")
        written.append(table)
    if as_json:
        console.print_json(_as_dict(done) | {"files": written})
    elif not quiet:
        _print(done)
        for path in written:
            console.out.print(f"written: {path}", markup=False)


def _pairs(given: list[str]) -> dict[str, float]:
    from schema.errors import UserError

    out = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            out[name.strip()] = float(value)
        except ValueError:
            raise UserError(f"--fix {text}: give NAME=VALUE, for example --fix theta_e_arcsec=1.2") from None
    return out


def _as_dict(done: Measurement) -> dict[str, object]:
    from scoring.selfunc.record import cells

    names = (
        "measurement_id", "model", "stage", "mode", "instrument", "band", "threshold", "n_injected",
        "n_selected", "seconds",
    )  # fmt: skip
    return {name: getattr(done, name) for name in names} | {"cells": list(cells(done))}


def _print(done: Measurement) -> None:
    from rich.table import Table

    from schema import console

    console.out.print(
        f"{done.model}, stage {done.stage}, mode {done.mode}: {done.n_selected:,} of {done.n_injected:,} "
        f"injected lenses selected in {done.seconds.get('total', 0.0):.0f} s; "
        f"measurement {done.measurement_id}",
        markup=False,
    )
    table = Table("parameter", "range", "half selected at", "lowest p", "highest p")
    for plane, found in done.planes:
        if plane.y is not None:
            continue
        known = [i for i in range(plane.n_cells) if found.p[i] == found.p[i]]
        if not known:
            continue
        ends = [
            f"{found.p[i]:.3f} ({found.lo[i]:.3f} to {found.hi[i]:.3f})" for i in _extremes(found.p, known)
        ]
        table.add_row(
            plane.x.name, f"{plane.x.lo:.3g} to {plane.x.hi:.3g}", _crossings(plane.x_edges, found.p), *ends
        )
    console.out.print(table)


def _extremes(p: object, known: list[int]) -> tuple[int, int]:
    values = {i: float(p[i]) for i in known}  # type: ignore[index]
    return min(values, key=values.__getitem__), max(values, key=values.__getitem__)


def _crossings(edges: object, p: object) -> str:
    """Where a line crosses one half, between the middles of its cells."""
    import numpy as np

    x, y = np.asarray(edges, dtype=float), np.asarray(p, dtype=float)
    middle = 0.5 * (x[1:] + x[:-1])
    keep = np.isfinite(y)
    middle, y = middle[keep], y[keep] - 0.5
    at = [
        middle[i] - y[i] * (middle[i + 1] - middle[i]) / (y[i + 1] - y[i])
        for i in range(len(y) - 1)
        if y[i] * y[i + 1] < 0
    ]
    return ", ".join(f"{value:.3g}" for value in at) or "-"
