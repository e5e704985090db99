"""``lensmine ingest hst``: lens cutouts of space telescopes and whoever else images lenses."""

from __future__ import annotations

from functools import partial

from etl.image_ingest import ingest_images

ingest_hst = partial(ingest_images, "hst")
"""Load image cutouts: lenstronomy's HDF5, FITS of HST, CFHT, DES and the Bologna challenge.

Parameters are those of `etl.image_ingest.ingest_images`.
"""
