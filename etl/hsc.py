"""``lensmine ingest hsc``: Hyper Suprime-Cam's catalogues and cutouts."""

from __future__ import annotations

from collections.abc import Callable

from etl.image_ingest import ImageIngest, ImageSummary
from etl.images import ImageOptions


def ingest_hsc(
    paths: list[str],
    db: str | None = None,
    *,
    bands: tuple[str, ...] | None = None,
    processes: int | None = None,
    on_files: Callable[[int, int], None] | None = None,
) -> ImageSummary:
    """Load HSC catalogues (CSV, FITS, Parquet) and cutouts (FITS a band, multi-extension, cubes, .npz).

    Catalogues of a run come first, so that a cutout meets the row that it was cut for: by its name, or within
    1 arcsec.

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
    return ImageIngest(paths, db, ImageOptions("hsc", bands), processes, on_files).run()
