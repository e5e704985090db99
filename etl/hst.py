"""``lensmine ingest hst``: lens cutouts of space telescopes and whoever else images lenses."""

from __future__ import annotations

from collections.abc import Callable

from etl.image_ingest import ImageIngest, ImageSummary
from etl.images import ImageOptions


def ingest_hst(
    paths: list[str],
    db: str | None = None,
    *,
    bands: tuple[str, ...] | None = None,
    processes: int | None = None,
    on_files: Callable[[int, int], None] | None = None,
) -> ImageSummary:
    """Load image cutouts: lenstronomy's HDF5, FITS of HST, CFHT, DES and the Bologna challenge.

    Parameters
    ----------
    paths : list of str
        Files, folders, globs, .zip archives or fsspec URLs.
    db : str, optional
        Database, as for `schema.engine.resolve_url`.
    bands : tuple of str, optional
        Bands of the images of a file, in order, where files do not say.
    processes, on_files
        As for `etl.image_ingest.ImageIngest`.

    Returns
    -------
    ImageSummary
        What was done.

    Raises
    ------
    UserError
        When a path names nothing or the database cannot be used.
    TransientError
        When the database or a disk is in the way.
    """
    return ImageIngest(paths, db, ImageOptions("hst", bands), processes, on_files).run()
