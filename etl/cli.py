"""``lensmine ingest``: survey files and catalogues of known lenses into the database."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from schema.options import DbOption, JsonOption, QuietOption

ingest = typer.Typer(
    help="Load survey files and catalogues of known lenses.", no_args_is_help=True, rich_markup_mode=None
)


def register(app: typer.Typer) -> None:
    """Add the commands of this floor to the root command."""
    app.add_typer(ingest, name="ingest")


@ingest.command(epilog="Example: lensmine ingest sdss spectra/ specObj-dr17.fits 'zip://*.fits::plate.zip'")
def sdss(
    paths: Annotated[list[str], typer.Argument(help="Files, folders, globs, .zip archives or fsspec URLs.")],
    db: DbOption = None,
    processes: Annotated[int, typer.Option(min=0, help="Reading processes; 0 for one a core.")] = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Load SDSS, BOSS and eBOSS files: spec, spPlate with spZbest, specObj, spAll, SkyServer CSV.

    Every file is known by the hash of its content: what the database has is left alone, a changed file replaces what
    came from it. What cannot be used stands in table reject with its reason.
    """
    from etl.sdss import ingest_sdss
    from schema.console import progress

    with progress(quiet=quiet or as_json) as bar:
        task = bar.add_task("reading files", total=None)
        done = ingest_sdss(
            paths, db, processes=processes or None, on_files=lambda n, of: bar.update(task, completed=n, total=of)
        )
    _report(done.as_dict(), as_json, quiet and done.nothing_new, _sdss_lines(done))


def _sdss_lines(done: Any) -> list[str]:
    if done.nothing_new:
        return [f"nothing new: {done.unchanged} files are as the database has them"]
    lines = [
        f"{done.loaded} of {done.files} files loaded, {done.unchanged} unchanged, {done.rejected} rejected: "
        f"{done.rows} catalogue rows, {done.spectra} spectra in {done.seconds:.1f} s ({done.files_per_s:.0f} files/s)"
    ]
    if done.reasons:
        told = ", ".join(f"{n} {code}" for code, n in done.reasons.most_common())
        lines.append(f"rejects: {told}; see: select path, reason from reject")
    return lines


def _report(summary: dict[str, Any], as_json: bool, silent: bool, lines: list[str]) -> None:
    from schema.console import out, print_json

    if as_json:
        print_json(summary)
    elif not silent:
        for line in lines:
            out.print(line, markup=False)
