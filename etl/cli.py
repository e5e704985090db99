"""``lensmine ingest``: survey files and catalogues of known lenses into the database."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from schema.options import DbOption, JsonOption, QuietOption

ingest = typer.Typer(
    help="Load survey files and catalogues of known lenses.", no_args_is_help=True, rich_markup_mode=None
)

PathsArgument = Annotated[
    list[str], typer.Argument(help="Files, folders, globs, .zip archives or fsspec URLs.")
]
BandsOption = Annotated[
    str | None,
    typer.Option("--bands", help="Bands of a file's images, joined by commas, where it does not say."),
]
ProcessesOption = Annotated[int, typer.Option(min=0, help="Reading processes; 0 for one a core.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this floor to the root command."""
    app.add_typer(ingest, name="ingest")


@ingest.command(epilog="Example: lensmine ingest sdss spectra/ specObj-dr17.fits 'zip://*.fits::plate.zip'")
def sdss(
    paths: PathsArgument,
    db: DbOption = None,
    processes: ProcessesOption = 0,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Read also files of the size and modification time known.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Load SDSS, BOSS and eBOSS files: spec, spPlate with spZbest, specObj, spAll, SkyServer CSV.

    Every file is known by the hash of its content: what the database has is left alone, a changed file
    replaces what came from it. A local file of the size and modification time that it was ingested with is
    not read to find that out, unless --rehash says so. What cannot be used stands in table reject with its
    reason.
    """
    from etl.sdss import ingest_sdss
    from schema.console import progress

    with progress(quiet=quiet or as_json) as bar:
        task = bar.add_task("reading files", total=None)
        done = ingest_sdss(
            paths,
            db,
            processes=processes or None,
            rehash=rehash,
            on_files=lambda n, of: bar.update(task, completed=n, total=of),
        )
    _report(done.as_dict(), as_json, quiet and done.nothing_new, _sdss_lines(done))
    _refuse_if_all_rejected(done)


def _sdss_lines(done: Any) -> list[str]:
    if done.nothing_new:
        return [f"nothing new: {done.unchanged} files are as the database has them"]
    lines = [
        f"{done.loaded} of {done.files} files loaded, {done.unchanged} unchanged, {done.rejected} rejected: "
        f"{done.rows} catalogue rows, {done.spectra} spectra in {done.seconds:.1f} s "
        f"({done.files_per_s:.0f} files/s)"
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


@ingest.command(epilog="Example: lensmine ingest hst cutouts/ imageEUC_VIS-100002.fits --bands F814W")
def hst(
    paths: PathsArgument,
    db: DbOption = None,
    bands: BandsOption = None,
    processes: ProcessesOption = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Load cutouts of lenses: lenstronomy's HDF5, FITS of HST, CFHT, DES and the Bologna challenge.

    Masks, noise maps and PSFs beside the images are used. What cannot be used stands in table reject with its
    reason.
    """
    from etl.hst import ingest_hst

    _ingest_images(ingest_hst, paths, db, bands, processes, as_json, quiet)


@ingest.command(epilog="Example: lensmine ingest hsc hsc_pdr3_wide.csv cutouts/")
def hsc(
    paths: PathsArgument,
    db: DbOption = None,
    bands: BandsOption = None,
    processes: ProcessesOption = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Load Hyper Suprime-Cam catalogues (CSV, FITS, Parquet) and cutouts (FITS by band, cubes, .npz).

    Magnitudes, sizes and redshifts go to phot_obj, sentinels become null; pixels go to shards as they are and
    after percentile normalisation. Tables of zCOSMOS, COSMOS2015, SkyServer and Tractor are known as well.
    """
    from etl.hsc import ingest_hsc

    _ingest_images(ingest_hsc, paths, db, bands, processes, as_json, quiet)


@ingest.command(epilog="Example: lensmine ingest cosmos acs_I_030mas_*_sci.fits COSMOS2015.fits")
def cosmos(
    paths: PathsArgument,
    db: DbOption = None,
    bands: BandsOption = None,
    processes: ProcessesOption = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Load HST/ACS tiles of COSMOS, searched for sources, and the field's catalogues and cutouts.

    A source of at least 200 pixels 1.5 sigma above the background becomes a target with photometry and a
    cutout of 200 x 200 pixels, averaged to 100 x 100.
    """
    from etl.cosmos import ingest_cosmos

    _ingest_images(ingest_cosmos, paths, db, bands, processes, as_json, quiet)


def _ingest_images(
    load: Any, paths: list[str], db: str | None, bands: str | None, processes: int, as_json: bool, quiet: bool
) -> None:
    """Run one of the image commands and report."""
    from schema.console import progress

    named = tuple(b.strip() for b in bands.split(",") if b.strip()) if bands else None
    with progress(quiet=quiet or as_json) as bar:
        task = bar.add_task("reading files", total=None)
        done = load(
            paths,
            db,
            bands=named,
            processes=processes or None,
            on_files=lambda n, of: bar.update(task, completed=n, total=of),
        )
    if done.nothing_new:
        lines = [f"nothing new: {done.unchanged} files are as the database has them"]
    else:
        lines = [
            f"{done.loaded} of {done.files} files loaded, {done.unchanged} unchanged, "
            f"{done.rejected} rejected: {done.cutouts} cutouts, {done.rows} catalogue rows "
            f"in {done.seconds:.1f} s ({done.files_per_s:.0f} files/s)"
        ]
        if done.reasons:
            told = ", ".join(f"{n} {code}" for code, n in done.reasons.most_common())
            lines.append(f"rejects and notes: {told}; see: select path, reason from reject")
    _report(done.as_dict(), as_json, quiet and done.nothing_new, lines)
    _refuse_if_all_rejected(done)


@ingest.command(epilog="Example: lensmine ingest lenses masterlens.tsv")
def lenses(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="lenscat CSVs or Master Lens Database dumps; the packaged lenscat unless given."),
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Load catalogues of known lenses; the same lens under several names becomes one."""
    from etl.lenses import ingest_lenses

    done = ingest_lenses(paths or [], db)
    if done.nothing_new:
        lines = [f"nothing new: {done.names} names of {done.lenses} lenses"]
    else:
        told = f"; left out or merged: {dict(done.reasons)}" if done.reasons else ""
        lines = [
            f"{done.loaded} catalogues loaded in {done.seconds:.1f} s: {done.names} names "
            f"of {done.lenses} lenses{told}"
        ]
    _report(done.as_dict(), as_json, quiet and done.nothing_new, lines)
    _refuse_if_all_rejected(done)


@ingest.command(epilog="Example: lensmine ingest prune")
def prune(db: DbOption = None, as_json: JsonOption = False) -> None:
    """Remove shards that no spectrum or cutout refers to any more, and what killed runs left behind."""
    from etl.prune import prune as remove

    done = remove(db)
    line = f"{done.shards} shards dropped, {done.folders} folders removed, {done.bytes / 1e6:.1f} MB freed"
    _report(dict(done.__dict__), as_json, False, [line])


def _refuse_if_all_rejected(done: Any) -> None:
    """Exit with the code of bad data when there was nothing but bad data."""
    from schema.errors import DataError

    if done.files and done.rejected == done.files:
        told = ", ".join(f"{n} {code}" for code, n in done.reasons.most_common())
        raise DataError(
            f"none of {done.files} files could be loaded ({told}); see: select path, reason from reject"
        )
