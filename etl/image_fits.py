"""Images of FITS files: read straight from the bytes (etl.fits_fast), by astropy where that does not do."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etl.checks import Fault
from etl.fits_fast import CARD, Buffer, FitsBytes, NotRecognised, parse_value
from etl.image_header import (
    Get,
    Sky,
    band_of,
    instrument_of,
    is_line_map,
    number,
    orientation_at,
    sky_of,
    text,
    zeropoint_of,
)
from etl.image_names import canonical_band
from etl.image_planes import ImageFile, Plane, check_side, typical_noise
from etl.sources import GZIP

HEAD_BYTES = 1 << 18
_SIDES = re.compile(rb"(Z?)NAXIS([12])\s*=\s*(\d+)")
_AUXILIARY = {
    "MASK": "mask", "DQ": "mask", "MSK": "mask", "VARIANCE": "variance", "VAR": "variance", "ERR": "rms",
    "RMS": "rms", "IVAR": "ivar", "WHT": "other", "WEIGHT": "other", "CTX": "other", "PSF": "psf",
}  # fmt: skip


def read_fits(path: str, buf: Buffer) -> ImageFile:
    """Planes, mask and noise of a FITS file."""
    out = ImageFile()
    primary: Get | None = None
    variance: list[float] = []
    for index, get, pixels in open_images(buf):
        if primary is None:
            primary = _primary(buf) if index else lambda _key: None
        role = _AUXILIARY.get((text(get("EXTNAME")) or "").upper().split("_")[0])
        if role == "mask" and pixels.ndim == 2:
            out.mask = pixels != 0
        elif role in ("variance", "rms", "ivar"):
            variance.append(typical_noise(pixels, str(role)))
        elif role is None and pixels.ndim in (2, 3):
            check_side(pixels)
            out.planes.extend(_planes(path, index, _inherit(get, primary), pixels))
    if variance:
        out.noise = variance[0]
    return out


def open_images(buf: Buffer) -> Iterator[tuple[int, Get, NDArray[Any]]]:
    """HDU number, header and pixels of every image HDU with pixels."""
    try:
        found = list(_fast_images(buf))
    except NotRecognised:
        found = list(_slow_images(buf))
    yield from found


def _fast_images(buf: Buffer) -> Iterator[tuple[int, Get, NDArray[Any]]]:
    fits = FitsBytes(buf)
    index = 0
    while (hdu := fits.hdu(index)) is not None:
        if hdu.kind == "IMAGE" and hdu.data_bytes:
            yield index, _getter(hdu.header), fits.image(hdu)
        elif hdu.kind == "BINTABLE" and hdu.get("ZIMAGE") is True:
            raise NotRecognised("compressed image")
        index += 1


def _getter(header: bytes) -> Get:
    """Values by keyword; the header is cut into cards once, of which the first of a keyword counts."""
    cards: dict[bytes, bytes] = {}
    for at in range(0, len(header), CARD):
        if header[at + 8 : at + 9] == b"=":
            cards.setdefault(header[at : at + 8], header[at + 9 : at + CARD])

    def get(key: str) -> Any:
        raw = cards.get(key.encode("ascii").ljust(8))
        if raw is None:
            return None
        try:
            return parse_value(raw)
        except NotRecognised:
            return None

    return get


def _slow_images(buf: Buffer) -> Iterator[tuple[int, Get, NDArray[Any]]]:
    from astropy.io import fits

    from etl.fits_slow import astropy_file

    with astropy_file(buf) as hdus:
        for index, hdu in enumerate(hdus):
            if isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU):
                try:
                    data = hdu.data
                except Exception as exc:
                    raise Fault("damaged", f"HDU {index} cannot be read: {exc}", index) from exc
                if data is not None and data.size:
                    yield index, hdu.header.get, np.array(data)


def _primary(buf: Buffer) -> Get:
    """Header of HDU 0, whose cards extensions inherit."""
    try:
        first = FitsBytes(buf).hdu(0)
    except (NotRecognised, Fault):
        return lambda _key: None
    return _getter(first.header) if first else lambda _key: None


def _inherit(get: Get, primary: Get) -> Get:
    return lambda key: value if (value := get(key)) is not None else primary(key)


def _planes(path: str, index: int, get: Get, pixels: NDArray[Any]) -> Iterator[Plane]:
    unit = text(get("BUNIT"))
    if is_line_map(unit):
        raise Fault("bad_unit", f"BUNIT {unit!r} is a map of line emission, not an image in a band", index)
    ny, nx = pixels.shape[-2:]
    cube = pixels if pixels.ndim == 3 else pixels[None]
    sky = sky_of(get, ny, nx) or _slow_sky(get, ny, nx)
    exposure = number(get("EXPTIME"))
    saturate = number(get("SATURATE"))
    named = [canonical_band(b) for b in (text(get("BANDS")) or "").replace(" ", ",").split(",") if b]
    for k, plane in enumerate(cube):
        extname = canonical_band(text(get("EXTNAME")))
        band = named[k] if len(named) == len(cube) else (extname or band_of(get)) if len(cube) == 1 else None
        yield Plane(
            path, f"{index}" if len(cube) == 1 else f"{index}[{k}]", band, plane.astype(np.float32), unit,
            zeropoint_of(get), exposure if exposure and exposure > 0 else None, None,
            saturate if saturate and saturate > 0 else None, sky.pixscale_arcsec if sky else None, sky,
            instrument_of(get), sky.orientation if sky and not sky.is_stand_in else None,
        )  # fmt: skip


def _slow_sky(get: Get, ny: int, nx: int) -> Sky | None:
    """World coordinates of another projection than the plain gnomonic one, by astropy."""
    kinds = [text(get(f"CTYPE{k}")) or "" for k in (1, 2)]
    if not kinds[0].startswith(("RA--", "DEC-", "GLON", "GLAT")) or kinds == ["RA---TAN", "DEC--TAN"]:
        return None
    from astropy.io import fits
    from astropy.wcs import WCS

    keys = [f"{k}{n}" for k in ("CTYPE", "CRVAL", "CRPIX", "CDELT", "CUNIT", "CROTA") for n in (1, 2)]
    keys += [f"{m}{i}_{j}" for m in ("CD", "PC") for i in (1, 2) for j in (1, 2)]
    keys += ["LONPOLE", "LATPOLE", "RADESYS", "EQUINOX", "A_ORDER", "B_ORDER"]
    keys += [f"{c}_{i}_{j}" for c in "AB" for i in range(5) for j in range(5)]
    header = fits.Header()
    for key in keys:
        if (value := get(key)) is not None:
            header[key] = value
    try:
        wcs = WCS(header).celestial
        at = wcs.pixel_to_world((nx - 1) / 2.0, (ny - 1) / 2.0).icrs
        scale = 3600.0 * float(np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix))))
        ra, dec = float(at.ra.deg), float(at.dec.deg)

        def sky(x: float, y: float) -> tuple[float, float]:
            there = wcs.pixel_to_world(x, y).icrs
            return float(there.ra.deg), float(there.dec.deg)

        orientation = orientation_at(sky, (nx - 1) / 2.0, (ny - 1) / 2.0)
    except Exception:  # whatever astropy finds wrong, there are no usable coordinates
        return None
    if not (np.isfinite(ra) and np.isfinite(dec) and scale > 0):
        return None
    crpix = (float(wcs.wcs.crpix[0]), float(wcs.wcs.crpix[1]))
    crval = (float(wcs.wcs.crval[0]), float(wcs.wcs.crval[1]))
    m = wcs.pixel_scale_matrix
    return Sky(ra, dec, scale, crpix, crval, (m[0, 0], m[0, 1], m[1, 0], m[1, 1]), orientation)


def image_sides(path: str) -> list[tuple[int, int]]:
    """NAXIS1 and NAXIS2 of the images whose headers stand in the first 256 kB of a local file.

    Compressed images (.fits.fz) state theirs as ZNAXIS1 and ZNAXIS2.
    """
    try:
        with open(path, "rb") as handle:
            head = handle.read(HEAD_BYTES)
            if head[:2] == GZIP:
                handle.seek(0)
                with gzip.GzipFile(fileobj=handle) as packed:
                    head = packed.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error):
        return []
    if head[:6] != b"SIMPLE":
        return []
    found: dict[tuple[bytes, int], list[int]] = {}
    for match in _SIDES.finditer(head):
        if match.start() % 80 == 0:
            found.setdefault((match[1], match.start() // 2880), []).append(int(match[3]))
    return [(s[0], s[1]) for s in found.values() if len(s) == 2]
