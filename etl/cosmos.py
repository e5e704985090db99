"""``lensmine ingest cosmos``: HST/ACS tiles of the COSMOS field into cutouts and photometry, and catalogues.

A tile is an image with a side above `TILE_SIDE`; smaller ones are cutouts and go the way of ``ingest hst``. A
tile is read, searched and committed by itself: its cutouts are in shards on disk before its rows go in.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etl.acs_tile import (
    CUTOUT_SIDE,
    DOWNSAMPLE,
    MIN_GOOD,
    MIN_PIXELS,
    THRESHOLD_SIGMA,
    Source,
    corner,
    cut,
    find_sources,
    j_name,
    position_angle,
    source_sky,
)
from etl.batch import fault_note, file_row, reject_row, source_file_id
from etl.checks import Fault, Note
from etl.fits_fast import Buffer
from etl.image_batch import Cutout, ImageBatch, Place, write_cutouts
from etl.image_files import settled_band
from etl.image_fits import image_sides, open_images
from etl.image_groups import ImageOptions
from etl.image_header import (
    Get,
    Sky,
    band_of,
    electrons_per_unit,
    instrument_of,
    number,
    sky_of,
    tan_orientation,
    text,
    zeropoint_of,
)
from etl.image_ingest import ImageIngest, ingest_images
from etl.image_names import SCIENCE, parse_name
from etl.sources import is_url, opened
from schema.normalise import block_mean, default_template

TILE_SIDE = 1500
"""An image with a longer side is a tile [pixel]."""

FLUSH = 1024
"""Cutouts to a shard."""


class CosmosIngest(ImageIngest):
    """An ingest that searches tiles."""

    def special(self, images: list[str]) -> list[str]:
        """Load the tiles among the images; returns the others."""
        tiles = {p for p in images if is_tile(p)}
        for path in sorted(tiles):
            self.places.forget()
            self._commit(read_tile(path, self.known.hash_of(path), self.root, self.options))
        return [p for p in images if p not in tiles]


ingest_cosmos = partial(ingest_images, "cosmos", how=CosmosIngest)
"""Load ACS tiles, cutouts and catalogues of the COSMOS field.

`bands` is the tiles' where their headers do not say; the other parameters are those of
`etl.image_ingest.ingest_images`.
"""


def is_tile(path: str) -> bool:
    """Whether a local FITS file holds a tile, by the sides that its first headers state."""
    if is_url(path) or parse_name(path).role != SCIENCE:
        return False
    return any(max(sides) > TILE_SIDE for sides in image_sides(path))


def read_tile(path: str, had: str | None, root: Any, options: ImageOptions) -> ImageBatch:
    """Search one tile and write its cutouts to shards.

    Parameters
    ----------
    path : str
        FITS file with one image of two dimensions.
    had : str or None
        Content hash that the database has of it.
    root : Path
        Shard root.
    options : ImageOptions
        What the command says.
    """
    batch = ImageBatch(n_files=1)
    digest, size = "", 0
    try:
        with opened(path) as content:
            digest, size = content.content_hash, content.size
            if had == digest:
                batch.unchanged = 1
                return batch
            notes = _search(path, content.buf, batch, root, options)
    except Fault as fault:
        digest, size = digest or fault.content_hash, size or fault.size
        if had is not None and had == digest:
            return ImageBatch(n_files=1, unchanged=1)
        batch = ImageBatch(n_files=1)
        notes = [fault_note(fault)]
        batch.failed = [source_file_id(path)] if had is not None else []
    else:
        batch.replaced = [source_file_id(path)] if had is not None else []
    fatal = sum(n.fatal for n in notes)
    batch.files.append(file_row(path, "acs_tile", digest, size, len(batch.cutouts), fatal))
    batch.rejects += [reject_row(path, n) for n in notes]
    return batch


def _search(path: str, buf: Buffer, batch: ImageBatch, root: Any, options: ImageOptions) -> list[Note]:
    hdu, get, tile = _largest(buf)
    sky = sky_of(get, *tile.shape)
    if sky is None or sky.is_stand_in:
        raise Fault("no_position", "the tile has no gnomonic celestial coordinates (RA---TAN, DEC--TAN)", hdu)
    band = options.bands[0] if options.bands else settled_band(parse_name(path).band, band_of(get))
    if band is None:
        raise Fault("unknown_band", "neither header nor name say the tile's band; give --bands F814W", hdu)
    notes: list[Note] = []
    zero = zeropoint_of(get)
    if zero is None:
        told = "no zero point: the sources get no magnitudes; PHOTFLAM and PHOTPLAM with a unit would give it"
        notes.append(Note("unknown_zeropoint", told, False, hdu))
    exposure = number(get("EXPTIME"))
    maker = _CutoutMaker(path, hdu, tile, sky, band, zero, exposure, number(get("SATURATE")), get)
    template = default_template()
    waiting: list[Cutout] = []
    for source in find_sources(tile, gain=electrons_per_unit(get) or 0.0):
        made = maker.make(source)
        if isinstance(made, Note):
            notes.append(made)
            continue
        cutout, row = made
        waiting.append(cutout)
        batch.phot.append(row)
        if len(waiting) >= FLUSH:
            write_cutouts(batch, waiting, root, template)
            waiting = []
    if waiting:
        write_cutouts(batch, waiting, root, template)
    if not batch.cutouts:
        raise Fault(
            "no_sources",
            f"no source of at least {MIN_PIXELS} pixels {THRESHOLD_SIGMA} sigma above the background with "
            "its cutout on the tile",
            hdu,
        )
    return notes


def _largest(buf: Buffer) -> tuple[int, Get, NDArray[Any]]:
    beside = ("WHT", "CTX", "ERR", "DQ")
    images = [i for i in open_images(buf) if i[2].ndim == 2 and i[1]("EXTNAME") not in beside]
    if not images:
        raise Fault("not_image", "the file has no image of two dimensions")
    return max(images, key=lambda i: i[2].size)


class _CutoutMaker:
    """Cutout and row of photometry of the sources of one tile."""

    def __init__(
        self, path: str, hdu: int, tile: NDArray[Any], sky: Sky, band: str, zero: float | None,
        exposure: float | None, saturate: float | None, get: Get,
    ) -> None:  # fmt: skip
        self.path, self.hdu, self.tile, self.sky, self.band, self.zero = path, hdu, tile, sky, band, zero
        self.exposure = exposure if exposure and exposure > 0 else None
        self.saturate = saturate if saturate and saturate > 0 else None
        self.unit = text(get("BUNIT"))
        self.instrument = instrument_of(get) or "acs"
        self.names: set[str] = set()
        self.row = 0

    def make(self, source: Source) -> tuple[Cutout, dict[str, Any]] | Note:
        """What one source gives, or why it gives nothing."""
        ra, dec = source_sky(self.sky, source.x, source.y)
        native = f"acs-{j_name(ra, dec)}"
        row, self.row = self.row, self.row + 1
        big = cut(self.tile, source.x, source.y)
        good = np.isfinite(big)
        if good.mean() < MIN_GOOD:
            told = f"only {good.mean():.0%} of its {CUTOUT_SIDE} x {CUTOUT_SIDE} pixels lie on the tile"
            return Note("edge", told, True, self.hdu, row, native)
        if native in self.names or np.nanmin(big) >= np.nanmax(big):
            return Note("blank_stamp", "no contrast, or found twice", True, self.hdu, row, native)
        self.names.add(native)
        x0, y0 = corner(source.x, CUTOUT_SIDE) + 1, corner(source.y, CUTOUT_SIDE) + 1
        # the mean of a block is a quarter of its sum, so a sum over the cutout is 2.5 lg 4 fainter
        zero = None if self.zero is None else self.zero - 5.0 * math.log10(DOWNSAMPLE)
        cutout = Cutout(
            key=f"{self.path}#{native}",
            survey="cosmos",
            native_id=native,
            path=self.path,
            bands=(self.band,),
            hdus=[f"{self.hdu}[{x0}:{x0 + CUTOUT_SIDE - 1}; {y0}:{y0 + CUTOUT_SIDE - 1}]"],
            image=block_mean(big, DOWNSAMPLE)[None],
            place=Place("wcs", ra, dec),
            instrument=self.instrument,
            unit=self.unit,
            pixscale=self.sky.pixscale_arcsec * DOWNSAMPLE,
            orientation=tan_orientation(
                self.sky.cd, self.sky.crpix, self.sky.crval, source.x + 1.0, source.y + 1.0
            ),
            zeropoint=[zero],
            exposure_s=[self.exposure],
            noise=[source.noise / DOWNSAMPLE],
            saturate=[self.saturate],
            psf=[None],
        )
        return cutout, self._photometry(source, native)

    def _photometry(self, source: Source, native: str) -> dict[str, Any]:
        row: dict[str, Any] = {
            "source_file_id": source_file_id(self.path),
            "catalog": "acs_tile",
            "object_id": native,
            "mag_kind": "auto",
            "r_eff_arcsec": _positive(source.r_half * self.sky.pixscale_arcsec),
            "area_pix": float(source.npix),
            "axis_ratio": _positive(source.b / source.a if source.a > 0 else math.nan),
            "pa_deg": position_angle(self.sky, source.theta),
            "flags": source.flags,
        }
        column = {"F814W": "f814w", **{b: b for b in ("u", "g", "r", "i", "z", "y")}}.get(self.band)
        if column and self.zero is not None and source.flux > 0:
            row[f"mag_{column}"] = self.zero - 2.5 * math.log10(source.flux)
            row[f"mag_err_{column}"] = _positive(2.5 / math.log(10.0) * source.flux_err / source.flux)
        return row


def _positive(value: float) -> float | None:
    return value if math.isfinite(value) and value > 0 else None
