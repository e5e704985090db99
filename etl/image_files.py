"""Image files into planes: one plane is the pixels of one band with what its file says of them.

FITS is read straight from the bytes (etl.fits_fast), by astropy where that does not do (compressed or scaled
images); lenstronomy's HDF5 cutouts by h5py, .npz by numpy without unpickling.
"""

from __future__ import annotations

import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etl.checks import Fault, Note
from etl.fits_fast import CARD, Buffer, FitsBytes, NotRecognised, parse_value
from etl.image_header import (
    Get,
    Sky,
    band_of,
    instrument_of,
    is_line_map,
    number,
    sky_of,
    text,
    zeropoint_of,
)
from etl.image_names import Name, canonical_band, is_space_band
from etl.sources import GZIP

MAX_SIDE = 4096
"""Largest side of an image that is taken for a cutout [pixel]; above it, it is a tile."""

GRIZY = ("g", "r", "i", "z", "y")
HEAD_BYTES = 1 << 18
_SIDES = re.compile(rb"(Z?)NAXIS([12])\s*=\s*(\d+)")
HDF5 = b"\x89HDF\r\n\x1a\n"
NPZ = b"PK\x03\x04"
_AUXILIARY = {
    "MASK": "mask", "DQ": "mask", "MSK": "mask", "VARIANCE": "variance", "VAR": "variance", "ERR": "rms",
    "RMS": "rms", "IVAR": "ivar", "WHT": "other", "WEIGHT": "other", "CTX": "other", "PSF": "psf",
}  # fmt: skip


@dataclass
class Plane:
    """One band of one image."""

    path: str
    hdu: str
    band: str | None
    pixels: NDArray[np.float32]
    unit: str | None = None
    zeropoint: float | None = None
    exposure_s: float | None = None
    noise: float | None = None
    saturate: float | None = None
    pixscale: float | None = None
    sky: Sky | None = None
    instrument: str | None = None


@dataclass
class ImageFile:
    """The planes of one file, its masks and noise maps, and what was noted on the way."""

    planes: list[Plane] = field(default_factory=list)
    mask: NDArray[np.bool_] | None = None
    noise: float | None = None
    notes: list[Note] = field(default_factory=list)
    kind: str = "image"


def read_image_file(path: str, buf: Buffer, name: Name, bands: tuple[str, ...] | None = None) -> ImageFile:
    """Read the science images of a file.

    Parameters
    ----------
    path : str
        Where the bytes are from.
    buf : bytes or mmap
        The file, unpacked.
    name : Name
        What its name says.
    bands : tuple of str, optional
        Bands of the planes, in order, where the user states them.

    Returns
    -------
    ImageFile
        With at least one plane.

    Raises
    ------
    Fault
        When it is no image file, is damaged, or has no image in a known band.
    """
    head = bytes(buf[:8])
    if head == HDF5:
        found = _read_hdf5(path, buf, name)
    elif head[:4] == NPZ:
        found = _read_npz(path, buf, name)
    elif head[:6] == b"SIMPLE":
        found = _read_fits(path, buf)
    else:
        raise Fault("not_image", "neither FITS, HDF5 nor .npz: give images of those formats")
    if not found.planes:
        raise Fault("not_image", "the file has no image of two or three dimensions with pixels")
    _settle_bands(found, name, bands)
    return found


def read_auxiliary(buf: Buffer) -> NDArray[np.float32]:
    """The one image of a mask, noise or PSF file, as it is.

    Raises
    ------
    Fault
        When there is none.
    """
    head = bytes(buf[:8])
    if head == HDF5:
        import h5py

        try:
            with h5py.File(io.BytesIO(bytes(buf)), "r") as file:
                for key in ("kernel_point_source", "mask", "image_data", "psf"):
                    if key in file:
                        return np.asarray(file[key][()], dtype=np.float32)
        except (OSError, RuntimeError, KeyError) as exc:
            raise Fault("damaged", f"the HDF5 file cannot be read: {exc}") from exc
        raise Fault("not_image", "the HDF5 file has none of kernel_point_source, mask, image_data, psf")
    if head[:6] != b"SIMPLE":
        raise Fault("not_image", "neither FITS nor HDF5")
    for _, _, pixels in open_images(buf):
        return pixels.astype(np.float32)
    raise Fault("not_image", "the file has no image")


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


# -- FITS ---------------------------------------------------------------------------------------------


def _read_fits(path: str, buf: Buffer) -> ImageFile:
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
            variance.append(_sigma(pixels, str(role)))
        elif role is None and pixels.ndim in (2, 3):
            _check_side(pixels)
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


def _sigma(pixels: NDArray[Any], role: str) -> float:
    """Typical noise of a noise map."""
    values = pixels[np.isfinite(pixels) & (pixels > 0)].astype(np.float64)
    if not values.size:
        return float("nan")
    middle = float(np.median(values))
    return {"variance": middle**0.5, "ivar": middle**-0.5}.get(role, middle)


def _check_side(pixels: NDArray[Any]) -> None:
    if max(pixels.shape[-2:]) > MAX_SIDE:
        raise Fault(
            "not_image",
            f"an image of {pixels.shape[-1]} x {pixels.shape[-2]} pixels is a tile, no cutout; cutouts have "
            f"at most {MAX_SIDE} a side; for a tile run: lensmine ingest cosmos",
        )


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
            instrument_of(get),
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
    except Exception:  # whatever astropy finds wrong, there are no usable coordinates
        return None
    if not (np.isfinite(ra) and np.isfinite(dec) and scale > 0):
        return None
    crpix = (float(wcs.wcs.crpix[0]), float(wcs.wcs.crpix[1]))
    crval = (float(wcs.wcs.crval[0]), float(wcs.wcs.crval[1]))
    m = wcs.pixel_scale_matrix
    return Sky(ra, dec, scale, crpix, crval, (m[0, 0], m[0, 1], m[1, 0], m[1, 1]))


# -- HDF5 and npz -------------------------------------------------------------------------------------


def _read_hdf5(path: str, buf: Buffer, name: Name) -> ImageFile:
    """lenstronomy's cutout: image_data, background_rms, exposure_time, transform_pix2angle [arcsec]."""
    import h5py

    try:
        with h5py.File(io.BytesIO(bytes(buf)), "r") as file:
            if "image_data" not in file:
                raise Fault("not_image", f"no dataset image_data; the file has {', '.join(file) or 'none'}")
            values = {
                k: file[k][()]
                for k in ("image_data", "background_rms", "exposure_time", "transform_pix2angle")
                if k in file
            }
    except (OSError, RuntimeError, KeyError) as exc:
        raise Fault("damaged", f"the HDF5 file cannot be read: {exc}") from exc
    pixels = np.asarray(values["image_data"])
    if pixels.ndim != 2 or pixels.dtype.kind not in "fiu":
        raise Fault("not_image", f"image_data has shape {pixels.shape} and type {pixels.dtype}")
    _check_side(pixels)
    exposure = np.asarray(values.get("exposure_time", np.nan), dtype=np.float64)
    seconds = exposure[np.isfinite(exposure) & (exposure > 0)]
    matrix = np.asarray(values.get("transform_pix2angle", np.zeros((2, 2))), dtype=np.float64)
    scale = float(np.sqrt(abs(np.linalg.det(matrix)))) if matrix.shape == (2, 2) else 0.0
    noise = number(float(np.asarray(values.get("background_rms", np.nan)).mean()))
    plane = Plane(
        path, "image_data", name.band, pixels.astype(np.float32), None, None,
        float(np.median(seconds)) if seconds.size else None, noise, None, scale or None, None,
        _hst_instrument(name.band, scale),
    )  # fmt: skip
    return ImageFile([plane], kind="image_h5")


def _hst_instrument(band: str | None, scale: float) -> str | None:
    """ACS or WFC3 by the filter and the pixel scale: lenstronomy's files do not say."""
    if not is_space_band(band) or band == "VIS":
        return None
    if band in ("F390W", "F475X", "F600LP", "F105W", "F110W", "F125W", "F140W", "F160W"):
        return "wfc3"
    return "wfpc2" if scale > 0.09 else "acs"


def _read_npz(path: str, buf: Buffer, name: Name) -> ImageFile:
    """An array images or image, (bands, ny, nx), with filters beside it."""
    try:
        with np.load(io.BytesIO(bytes(buf)), allow_pickle=False) as file:
            key = next((k for k in ("images", "image", "img", "data") if k in file.files), None)
            if key is None:
                raise Fault("not_image", f"no array images; the file has {', '.join(file.files) or 'none'}")
            try:
                pixels = file[key]
                filters = file["filters"] if "filters" in file.files else np.empty(0, dtype=str)
                variance = file["variance"] if "variance" in file.files else None
            except ValueError as exc:
                raise Fault(
                    "pickled",
                    f"array {key} holds pickled objects, which may run code and are never unpacked; save it "
                    "as a plain array of shape (bands, ny, nx)",
                ) from exc
    except (zipfile.BadZipFile, OSError, EOFError) as exc:
        raise Fault("damaged", f"the .npz file cannot be read: {exc}") from exc
    if pixels.ndim not in (2, 3) or pixels.dtype.kind not in "fiu":
        raise Fault("not_image", f"array {key} has shape {pixels.shape} and type {pixels.dtype}")
    _check_side(pixels)
    cube = pixels if pixels.ndim == 3 else pixels[None]
    if variance is not None and variance.shape != cube.shape:
        variance = None
    named = [canonical_band(str(f)) for f in np.atleast_1d(filters)]
    planes = [
        Plane(
            path, f"{key}[{k}]", named[k] if len(named) == len(cube) else None, plane.astype(np.float32),
            noise=_sigma(variance[k], "variance") if variance is not None else None,
            instrument="hsc" if "hsc" in name.object_name.lower() else None,
        )
        for k, plane in enumerate(cube)
    ]  # fmt: skip
    return ImageFile(planes, kind="image_npz")


# -- bands --------------------------------------------------------------------------------------------


def settled_band(by_name: str | None, by_header: str | None) -> str | None:
    """The name's band, unless the header has a space telescope's filter: acs_I_030mas_077.fits is F814W."""
    if by_header is not None and is_space_band(by_header):
        return by_header
    return by_name or by_header


def _settle_bands(found: ImageFile, name: Name, bands: tuple[str, ...] | None) -> None:
    """Give every plane its band, or refuse the file."""
    planes = found.planes
    if bands and len(bands) == len(planes):
        for plane, band in zip(planes, bands, strict=True):
            plane.band = band
        return
    if len(planes) == 1:
        planes[0].band = settled_band(name.band, planes[0].band)
    known = [p.band for p in planes]
    if None not in known and len(set(known)) == len(known):
        return
    assumed = GRIZY if len(planes) == 5 else GRIZY[:3] if len(planes) == 3 and None not in known else None
    if assumed is None:
        told = ", ".join(b or "none" for b in known)
        raise Fault(
            "unknown_band",
            f"{len(planes)} images with the bands {told}: name the band in the file's name or its FILTER "
            "card, or give --bands",
        )
    for plane, one in zip(planes, assumed, strict=True):
        plane.band = one
    found.notes.append(
        Note("assumed_bands", f"{len(planes)} images without bands of their own are taken for "
             f"{', '.join(assumed)}; give --bands if they are others", False)
    )  # fmt: skip
