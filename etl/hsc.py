"""``lensmine ingest hsc``: Hyper Suprime-Cam's catalogues and cutouts."""

from __future__ import annotations

from functools import partial

from etl.image_ingest import ingest_images

ingest_hsc = partial(ingest_images, "hsc")
"""Load HSC catalogues (CSV, FITS, Parquet) and cutouts (FITS a band, multi-extension, cubes, .npz).

Catalogues of a run come first, so that a cutout meets the row that it was cut for: by its name, or within
1 arcsec. Parameters are those of `etl.image_ingest.ingest_images`.
"""
