"""Image files into planes: one plane is the pixels of one band with what its file says of them.

FITS is read by etl.image_fits, lenstronomy's HDF5 cutouts by h5py, .npz by numpy without unpickling.
"""

from __future__ import annotations

import io
import zipfile

import numpy as np
from numpy.typing import NDArray

from etl.checks import Fault, Note
from etl.fits_fast import Buffer
from etl.image_fits import open_images, read_fits
from etl.image_header import number, orientation_of
from etl.image_names import Name, canonical_band, is_space_band
from etl.image_planes import ImageFile, Plane, check_side, typical_noise

GRIZY = ("g", "r", "i", "z", "y")
HDF5 = b"\x89HDF\r\n\x1a\n"
NPZ = b"PK\x03\x04"


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
        found = read_fits(path, buf)
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
    check_side(pixels)
    exposure = np.asarray(values.get("exposure_time", np.nan), dtype=np.float64)
    seconds = exposure[np.isfinite(exposure) & (exposure > 0)]
    matrix = np.asarray(values.get("transform_pix2angle", np.zeros((2, 2))), dtype=np.float64)
    scale = float(np.sqrt(abs(np.linalg.det(matrix)))) if matrix.shape == (2, 2) else 0.0
    # how right ascension (times cos dec) and declination grow along x and y
    lies = orientation_of(*matrix.ravel().tolist()) if scale > 0 else None
    noise = number(float(np.asarray(values.get("background_rms", np.nan)).mean()))
    plane = Plane(
        path, "image_data", name.band, pixels.astype(np.float32), None, None,
        float(np.median(seconds)) if seconds.size else None, noise, None, scale or None, None,
        _hst_instrument(name.band, scale), lies,
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
    check_side(pixels)
    cube = pixels if pixels.ndim == 3 else pixels[None]
    if variance is not None and variance.shape != cube.shape:
        variance = None
    named = [canonical_band(str(f)) for f in np.atleast_1d(filters)]
    planes = [
        Plane(
            path, f"{key}[{k}]", named[k] if len(named) == len(cube) else None, plane.astype(np.float32),
            noise=typical_noise(variance[k], "variance") if variance is not None else None,
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
