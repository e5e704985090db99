"""``lensmine demo``: write a mock survey whose lenses are known, search it, and compare.

It takes the road of a real search: files on disk, ingest, selection, score, fits, cuts as SQL views. The
truth is loaded beside the ingested targets only to be compared with at the end.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from schema.errors import UserError
from schema.options import JsonOption, QuietOption

DEFAULT_FOLDER = Path("lensmine-demo")
DEFAULT_MODEL = "snr_lae"
SELECTION = "li2018_lrg"
Advance = Callable[[int, int], None]


def register(app: typer.Typer) -> None:
    """Add ``demo`` to the root command."""
    app.command("demo")(demo)


def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the survey, the database and the picture.")
    ] = (DEFAULT_FOLDER),
    n: Annotated[int, typer.Option("--n", help="Spectra of the mock survey, 220 kB each.")] = 3000,
    seed: Annotated[int, typer.Option("--seed", help="Another seed is another survey.")] = 1,
    model: Annotated[
        str, typer.Option("--model", help="Model that searches; see: lensmine models")
    ] = DEFAULT_MODEL,
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Keep the survey's files afterwards.")
    ] = True,
    as_json: JsonOption = False,
    images: Annotated[
        int, typer.Option("--images", min=0, help="Ordinary image cutouts of the imaging search; 0: none.")
    ] = 3000,
    quiet: QuietOption = False,
) -> None:
    """Write a mock survey with known lenses, search it, and say how many were found.

    Spectra first, then images: simulated HSC lenses hidden among ordinary sources and ranked. Needs nothing
    but this package; takes about two minutes, and 1 GB of disk while it runs.

    Example: lensmine demo --out /tmp/lensmine-demo --n 1000
    """
    from schema import console

    result = run_demo(out, n, seed, model, keep=keep, quiet=quiet or as_json, images=images)
    if as_json:
        console.print_json(result)
    elif not quiet:
        print_result(result)


def run_demo(
    folder: Path,
    n: int,
    seed: int,
    model: str,
    *,
    keep: bool = True,
    quiet: bool = True,
    images: int = 0,
) -> dict[str, Any]:
    """Write, search and judge a mock survey.

    Parameters
    ----------
    folder : Path
        New or empty folder, or one that an earlier demo made.
    n, seed : int
        Size and seed of the survey.
    model : str
        Model that searches.
    keep : bool
        Keep the survey's files.
    quiet : bool
        Show no progress bars.
    images : int
        Ordinary cutouts of the imaging search, with a fiftieth as many lenses; 0 leaves it out.

    Returns
    -------
    dict
        injected, recovered, false_candidates, seconds, and what they are made of.

    Raises
    ------
    UserError
        If the folder holds something else, or the size or the model is refused.
    """
    from schema import engine
    from scoring.mock_population import MockRecipe
    from scoring.mock_verdict import judge
    from scoring.registry import get_model

    recipe = MockRecipe.of_size(n, seed)
    get_model(model)  # refuse an unknown model before anything is written
    _prepare(folder)
    db = str(folder / "lensmine.duckdb")
    began = time.perf_counter()
    seconds: dict[str, float] = {}
    with _stages(seconds, quiet) as stage:
        survey = stage("writing a mock survey", lambda tell: _write(folder / "survey", recipe, tell))
        engine.upgrade(db)
        ingest = stage("reading its files", lambda tell: _ingest(db, survey, tell))
        stage("scoring", lambda tell: _score(db, model, tell))
        stage("fitting the hits", lambda tell: _fit(db, model, tell))
        result = stage("comparing with the truth", lambda tell: judge(db, survey.truth, model))
        result["picture"] = stage(
            "drawing", lambda tell: _draw(db, result, model, folder / "best_candidate.png")
        )
        found = None
        if images:
            from lensmine_demo_images import search_images

            picture = folder / "best_images.png"
            found = search_images(db, max(images // 50, 10), images, 1000 + seed, picture, stage)
    if not keep:
        shutil.rmtree(survey.folder)
    total = round(time.perf_counter() - began, 1)
    head = {k: result.pop(k) for k in ("injected", "recovered", "false_candidates")}
    return head | {
        "seconds": total,
        "seconds_by_stage": {k: round(v, 1) for k, v in seconds.items()},
        "model": model,
        "selection": SELECTION,
        "spectra": survey.n_files,
        "folder": str(folder),
        "db": db,
        "ingest": ingest,
        "images": found,
        **result,
    }


@contextmanager
def _stages(
    seconds: dict[str, float], quiet: bool
) -> Iterator[Callable[[str, Callable[[Advance], Any]], Any]]:
    """Runs stages one after another, with a progress bar for each and its wall time noted."""
    from schema.console import err, progress

    with progress(quiet=quiet) as bars:

        def stage(name: str, work: Callable[[Advance], Any]) -> Any:
            task = bars.add_task(name, total=None)
            started = time.perf_counter()

            def tell(done: int, of: int) -> None:
                bars.update(task, completed=done, total=of)

            value = work(tell)
            seconds[name] = time.perf_counter() - started
            bars.remove_task(task)
            if not quiet:
                err.print(f"[dim]{name}: {seconds[name]:.1f} s[/dim]")
            return value

        yield stage


def _prepare(folder: Path) -> None:
    """Make the folder, or clear what an earlier demo left in it."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give the demo a folder of its own with --out")
    names = {p.name for p in folder.iterdir()} if folder.exists() else set()
    ours = {
        "survey",
        "lensmine.duckdb",
        "lensmine.duckdb.wal",
        "lensmine.duckdb.shards",
        "best_candidate.png",
        "best_images.png",
    }
    foreign = sorted(names - ours)
    if foreign:
        raise UserError(f"{folder} holds {foreign[0]!r}, which no demo made; give another folder with --out")
    for name in names:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)


def _write(folder: Path, recipe: Any, tell: Advance) -> Any:
    from scoring.mocksurvey import write_mock_survey

    done = 0

    def count(files: int) -> None:
        nonlocal done
        done += files
        tell(done, recipe.n_spectra)

    return write_mock_survey(folder, recipe, count)


def _ingest(db: str, survey: Any, tell: Advance) -> dict[str, Any]:
    from etl.lenses import ingest_lenses
    from etl.sdss import ingest_sdss
    from schema.engine import connect_engine
    from scoring.mocksurvey import load_truth

    done = ingest_sdss([str(survey.specobj), str(survey.spectra)], db, on_files=tell)
    ingest_lenses([str(survey.lenses)], db)
    with connect_engine(db).begin() as conn:
        load_truth(conn, survey.truth)
    return {
        k: v for k, v in done.as_dict().items() if k in ("files", "loaded", "rejected", "spectra", "reasons")
    }


def _score(db: str, model: str, tell: Advance) -> None:
    from scoring.run import score

    scored = 0

    def count(newly: int, todo: int) -> None:
        nonlocal scored
        scored += newly
        tell(scored, todo)

    score(db, model, SELECTION, progress=count)


def _fit(db: str, model: str, tell: Advance) -> None:
    from scoring.fits.run import fit_hits

    fit_hits(db, model, progress=tell)


def _draw(db: str, result: dict[str, Any], model: str, path: Path) -> str | None:
    """Picture of a lens of usual flux, the one with the best measured skewness; None without candidates."""
    from scoring.picture import draw_candidate

    rows = [c for c in result["candidates"] if c["truth"] == "lens"]
    if not rows:
        return None
    best = max(
        rows, key=lambda c: c["skewness"] / max(c["skewness_err"] or 9e9, 1e-3) * c["line_flux"] ** 0.5
    )
    return str(draw_candidate(db, int(best["target_id"]), model, path))


def print_result(result: dict[str, Any]) -> None:
    """Print what came out for people."""
    from rich.table import Table

    from schema.console import out

    def grid(title: str, left: str, right: str, last: str) -> Table:
        table = Table(
            title=title,
            title_justify="left",
            title_style="bold",
            box=None,
            header_style="dim",
            pad_edge=False,
        )
        for name in left.split():
            table.add_column(name, no_wrap=True)
        for name in right.split():
            table.add_column(
                name.replace("_", " ") if "z_" not in name else name, justify="right", no_wrap=True
            )
        table.add_column(last)
        return table

    if not out.is_terminal:
        out.width = 120
    out.print()
    heading = f"Attrition: {result['model']} on {result['selection']}"
    steps = grid(heading, "step", "enter leave lenses_left", "what it asks")
    for row in result["attrition"]:
        counts = (f"{row[k]:,}" for k in ("n_in", "n_out", "n_out_injected"))
        steps.add_row(row["step"], *counts, row["description"])
    out.print(steps)
    found = result["candidates"]
    heading = f"\nCandidates: the brightest {min(10, len(found))} of {len(found)}"
    top = grid(heading, "name", "z_lens z_source flux skewness probability", "truth")
    for c in found[:10]:
        redshifts = (f"{c[k]:.4f}" for k in ("z_lens", "z_source"))
        pairs = (f"{c[k]:.1f} ± {c[f'{k}_err']:.1f}" for k in ("line_flux", "skewness"))
        top.add_row(c["name"], *redshifts, *pairs, f"{c['probability']:.3f}", c["truth"])
    out.print(top)
    out.print("[dim]flux in 1e-17 erg/s/cm2; errors are one standard deviation[/dim]\n")
    for line in _verdict(result):
        out.print(line)
    if result["images"]:
        from lensmine_demo_images import image_lines

        for line in image_lines(result["images"]):
            out.print(line)
    out.print(f"[bold]Time[/bold] {result['seconds']:.0f} s")
    out.print("\n[bold]What to type next[/bold]")
    for line in _what_next(result):
        out.print(f"  {line}", markup=False)


def _verdict(result: dict[str, Any]) -> list[str]:
    lo, hi = (100 * x for x in result["recovered_interval"])
    false_lo, false_hi = result["false_per_10000_interval"]
    lines = [
        f"[bold]Recovered[/bold] {result['recovered']} of {result['injected']} injected lenses with line flux"
        f" >= {result['flux_limit']:.0f}e-17 erg/s/cm2: {100 * result['recovered_fraction']:.1f}%"
        f" (95% interval {lo:.0f} to {hi:.0f}%)"
    ]
    if result["lost"]:
        counts: dict[str, int] = {}
        for one in result["lost"]:
            counts[one["why"]] = counts.get(one["why"], 0) + 1
        ranked = sorted(counts.items(), key=lambda pair: -pair[1])
        lines.append("  lost to: " + ", ".join(f"{why} {n}" for why, n in ranked))
    kinds = "".join(f", {k} {n}" for k, n in result["false_kinds"].items())
    lines += [
        f"  besides, {result['fainter_lenses_found']} fainter ones, and"
        f" {result['known_lenses_found_again']} of {result['known_lenses']} lenses that the catalogue knows,"
        " set aside by the cut known_lens",
        f"[bold]False[/bold] {result['false_candidates']} of {result['non_lenses_searched']:,} other galaxies"
        f"{kinds}: {result['false_per_10000']:.1f} per 10,000"
        f" (95% interval {false_lo:.1f} to {false_hi:.1f})",
        f"[bold]Files[/bold] {result['ingest']['loaded']:,} loaded, {result['ingest']['rejected']} rejected: "
        + ", ".join(f"{n} {code}" for code, n in result["ingest"]["reasons"].items()),
    ]
    if result["picture"]:
        lines.append(f"[bold]Picture[/bold] {result['picture']}")
    return lines


def _what_next(result: dict[str, Any]) -> list[str]:
    lines = [f"export LENSMINE_DB={result['db']}"]
    columns = "name, z_lens, z_source, line_flux, skewness"
    lines.append(f'lensmine sql "select {columns} from candidate order by skewness desc limit 5"')
    if result["lost"]:
        one = result["lost"][0]
        lines.append(f"lensmine explain {one['native_id']}    # why this lens was lost")
    if result["candidates"]:
        lines.append(
            f"lensmine explain {result['candidates'][0]['native_id']}    # how this candidate passed"
        )
    lines += [
        f"lensmine export candidates.fits --model {result['model']}",
        f"lensmine score matched_filter_lae {result['selection']}    # the classical search beside it",
        "lensmine status",
    ]
    if result["images"]:
        if result["images"]["best"]:
            lines.append(f"lensmine explain {result['images']['best']}    # the first image of the list")
        lines.append("lensmine selection-function arclet_gri --plot selection.png    # what it can see")
    lines.append("lensmine dashboard    # review and grade them in the browser")
    return lines
