"""Commands that say how good a model is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schema.options import DbOption, JsonOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scoring.evaluate.figures import Evaluation, Metric
    from scoring.models.base import SpectralModel

evaluate_app = typer.Typer(
    no_args_is_help=True, help="Precision, completeness and ranking of models, each with its interval."
)
ModelsArgument = Annotated[list[str], typer.Argument(help="Names of models; the first is the reference.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Folder for plots (PNG and PDF).")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of the test set.")]
RecordOption = Annotated[
    bool, typer.Option("--record/--no-record", help="Write the figures to tables evaluation and metric.")
]


def register(app: typer.Typer) -> None:
    """Add ``evaluate`` and ``tracers`` to the root command."""
    from scoring.cli_evaluate_images import tracers_app

    app.add_typer(evaluate_app, name="evaluate")
    app.add_typer(tracers_app, name="tracers")


@evaluate_app.command("paper-test")
def paper_test(
    models: ModelsArgument,
    n: Annotated[int, typer.Option("--n", min=150, help="Spectra, one in fifteen with a line.")] = 15_000,
    seed: SeedOption = 2018,
    peaks: Annotated[
        str, typer.Option("--peaks", help="Law of the lines' peaks: log-uniform or uniform, 1.5 to 15.")
    ] = "log-uniform",
    out: OutOption = None,
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Write rows too; needs a database.")
    ] = False,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """The test of Li et al. (2018): spectra of the published recipe, precision and completeness.

    Example: lensmine evaluate paper-test resnet28_lae matched_filter_lae --n 150000 --out figures
    """
    from schema import console
    from scoring.evaluate.paper import evaluate_paper_test

    loaded = _load(models)
    with console.progress(quiet=as_json) as bar:
        task = bar.add_task("spectra", total=n)
        found = evaluate_paper_test(loaded, n, seed, lambda done, _: bar.update(task, completed=done), peaks)
    finish(found, loaded, record, db, out, as_json)


@evaluate_app.command("injections")
def injections(
    models: ModelsArgument,
    selection: Annotated[str, typer.Option("--selection", help="Galaxies that lines are put into.")],
    flux: Annotated[
        list[float] | None, typer.Option("--flux", help="Line flux [1e-17 erg/s/cm2]; repeat for more.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=10, help="Lines of each flux.")] = 500,
    negatives: Annotated[
        int, typer.Option("--negatives", min=1000, help="Negatives made of real parts.")
    ] = 20_000,
    profile: Annotated[str, typer.Option("--profile", help="skewed or gaussian.")] = "skewed",
    max_hosts: Annotated[int, typer.Option("--max-hosts", min=5, help="Most galaxies used.")] = 2000,
    as_targets: Annotated[
        bool, typer.Option("--as-targets", help="Only write them as targets with truth, for score and fit.")
    ] = False,
    seed: SeedOption = 86,
    out: OutOption = None,
    record: RecordOption = True,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Completeness at 0.1% false positives of lines put into real galaxies, model by model.

    Example: lensmine evaluate injections matched_filter_lae snr_lae --selection li2018_lrg --out figures
    """
    from schema import console
    from scoring.evaluate.hosts import read_hosts
    from scoring.evaluate.injections import FLUXES, InjectionConfig, evaluate_injections

    config = InjectionConfig(tuple(flux) if flux else FLUXES, n, negatives, profile, seed)
    loaded = _load(models)
    hosts = read_hosts(db, selection, max_hosts, seed)
    if as_targets:
        from scoring.evaluate.astargets import write_targets

        written = write_targets(db, hosts, config, n_each=n, n_negative=negatives)
        if as_json:
            console.print_json(written)
        else:
            console.out.print(
                f"{written['lenses']:,} injected lenses and {written['controls']:,} controls are targets; "
                f"next: lensmine score {models[0]} injections"
            )
        return
    with console.progress(quiet=as_json) as bar:
        task = bar.add_task("models", total=len(loaded))
        found = evaluate_injections(loaded, hosts, config, lambda done, _: bar.update(task, completed=done))
    finish(found, loaded, record, db, out, as_json)


@evaluate_app.command("run")
def run(
    models: ModelsArgument,
    out: OutOption = None,
    record: RecordOption = True,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Figures of a search over the simulated targets in the database, after the score and after every cut.

    Example: lensmine evaluate run snr_lae --db lensmine.duckdb --out figures
    """
    from scoring.evaluate.stored import evaluate_stored

    finish([evaluate_stored(db, name) for name in models], None, record, db, out, as_json)


def _load(names: list[str]) -> list[SpectralModel]:
    from schema.errors import UserError
    from scoring.registry import spectral_model

    if len(set(names)) < len(names):
        raise UserError(f"a model is named twice in: {' '.join(names)}; name each once")
    return [spectral_model(name) for name in names]


def finish(
    found: list[Evaluation],
    models: Sequence[SpectralModel] | None,
    record: bool,
    db: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Write rows, draw, print."""
    from schema import console

    if record:
        from scoring.evaluate.record import save

        save(db, found, models)
    drawn: list[Path] = []
    if out is not None:
        from scoring.evaluate.plots import plot_all

        drawn = plot_all(found, out)
    if as_json:
        console.print_json({"evaluations": [_as_dict(each) for each in found], "plots": drawn})
        return
    _print(found)
    if drawn:
        pictures = [path.name for path in drawn if path.suffix == ".png"]
        console.out.print(f"plots in {drawn[0].parent}: {', '.join(pictures)}")


def _as_dict(each: Evaluation) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(each)


SINGLE = (
    ("precision", "precision"),
    ("completeness", "completeness"),
    ("false_positive_rate", "false-positive rate"),
    ("precision_best", "precision, threshold for 0.9954"),
    ("completeness_best", "completeness there"),
    ("completeness_fpr", "completeness at 0.1% false positives"),
    ("real_above", "galaxies above that threshold as they are"),
    ("position_right", "hits within 10 Angstrom of the true line"),
    ("roc_area", "area under the ROC curve"),
    ("ranking_performance", "ranking performance"),
    ("ranking_performance_half", "ranking performance, against 1/2"),
    ("completeness_fpr_1e-02", "completeness at a false-positive rate of 1e-2"),
    ("completeness_fpr_1e-03", "completeness at 1e-3"),
    ("completeness_fpr_1e-04", "completeness at 1e-4"),
    ("tpr0", "TPR0, before the first false positive"),
    ("tpr10", "TPR10, with fewer than ten"),
    ("inspect_90", "share of the list to read for 90% of the lenses"),
    ("inspect_all", "share of the list to read for all"),
    ("calibration_error", "expected calibration error"),
)
CURVES = (
    ("completeness_flux", "completeness, line flux"),
    ("gain_flux", "gain over the reference, line flux"),
    ("completeness_peak", "completeness, peak flux"),
    ("completeness_wave", "completeness, wavelength"),
    ("completeness_flux_fpr", "completeness at 0.1% false positives, line flux"),
    ("completeness_peak_fpr", "completeness at 0.1% false positives, peak flux"),
    ("completeness_wave_fpr", "completeness at 0.1% false positives, wavelength"),
    ("completeness_after", "completeness after"),
    ("precision_after", "precision after"),
)


def _print(found: list[Evaluation]) -> None:
    from rich.table import Table

    from schema import console

    first = found[0]
    title = f"{first.name}: {first.n_positive:,} lenses, {first.n_negative:,} others (95% intervals)"
    table = Table("figure", *[each.model for each in found], title=title)
    for name, text in SINGLE:
        cells = [next((m for m in each.metrics if m.name == name), None) for each in found]
        if any(cells):
            table.add_row(text, *[_cell(m) for m in cells])
    for name, text in CURVES:
        curves = [each.curve(name) for each in found]
        longest = max(curves, key=len)
        if longest:
            table.add_section()
        for k, head in enumerate(longest):
            table.add_row(
                f"{text} {_abscissa(name, head.x)}",
                *[_cell(curve[k] if k < len(curve) else None) for curve in curves],
            )
    console.out.print(table)


def _abscissa(name: str, x: float) -> str:
    if name.endswith("_after"):
        from scoring.evaluate.stored import STEPS

        return ("score", *STEPS)[int(x)]
    return f"{x:g}"


def _cell(m: Metric | None) -> str:
    if m is not None and m.value != m.value and m.name.startswith(("completeness_fpr_", "tpr10")):
        return f"not measurable with {m.n:,} negatives"
    if m is None or m.value != m.value:
        return "-"
    if m.name == "real_above":
        return f"{m.value:.0f} of {m.n}"
    digits = 5 if m.name == "false_positive_rate" else 4
    text = f"{m.value:.{digits}f}"
    return text if m.lo != m.lo else f"{text} ({m.lo:.{digits}f} to {m.hi:.{digits}f})"
