"""PSFs, analytic and from files (FITS images and cubes, HDF5): checked, and mended only with a note."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schema.errors import DataError, UserError
from scoring.light.kernels import SUM_TOLERANCE, check_kernel, gaussian_psf, moffat_psf

__all__ = ["LoadedPsf", "check_kernel", "gaussian_psf", "load_psf", "moffat_psf"]

HDF5_KEYS = ("kernel_point_source", "psf", "kernel")
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
MAX_SHIFT_PX = 2
"""A peak farther than this from the middle is no odd centring but a damaged file."""


@dataclass(frozen=True)
class LoadedPsf:
    """A PSF ready for the renderer.

    kernel : Tensor, shape (bands, size, size)  odd size, each band of sum 1, peak in the middle
    sums : what each band summed to in the file
    notes : what was changed, one sentence each; empty when nothing was
    """

    kernel: Tensor
    sums: tuple[float, ...]
    notes: tuple[str, ...]


def load_psf(
    path: Path | str, *, normalise: bool = False, bands: Sequence[int] | None = None, key: str | None = None
) -> LoadedPsf:
    """Read a PSF file and check it.

    Even, oblong or off-centre stamps are padded so that the peak is in the middle of an odd square, with a
    note. A sum that differs from 1 by more than 0.001 is an error, as what is missing may be light beyond the
    stamp or a damaged file; `normalise` accepts it.

    Parameters
    ----------
    path : FITS image (h, w) or cube (bands, h, w), or HDF5
    normalise : accept a sum other than 1 and divide by it
    bands : planes of a cube to take, in this order; all by default
    key : data set of an HDF5 file; `kernel_point_source`, `psf` or `kernel` by default

    Raises
    ------
    UserError  no such file, data set or plane, or a sum that is not 1
    DataError  no image in the file, values that are not finite, a peak far from the middle
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no PSF file {path}")
    planes = _read_hdf5(path, key) if path.suffix.lower() in HDF5_SUFFIXES else _read_fits(path)
    if bands is not None:
        if any(not 0 <= b < len(planes) for b in bands):
            raise UserError(
                f"{path.name}: bands {list(bands)} asked for, the file has 0 to {len(planes) - 1}"
            )
        planes = planes[list(bands)]
    bad = int((~np.isfinite(planes)).sum())
    if bad:
        raise DataError(f"{path.name}: {bad} PSF values are not finite; the renderer needs every pixel")
    notes: list[str] = []
    centred = [_centre(plane, path.name, notes) for plane in planes]
    sums = [float(plane.sum()) for plane in centred]
    for i, total in enumerate(sums):
        if not total > 0:
            raise DataError(f"{path.name}: plane {i} sums to {total:g}; a PSF sums to 1")
        if abs(total - 1) > SUM_TOLERANCE and not normalise:
            raise UserError(
                f"{path.name}: plane {i} sums to {total:.4f}, not 1 (allowed: within {SUM_TOLERANCE}); "
                "give normalise=True if the missing light lies beyond the stamp"
            )
        if abs(total - 1) > SUM_TOLERANCE:
            notes.append(f"plane {i} summed to {total:.4f} and was divided by it")
    size = max(len(plane) for plane in centred)
    kernel = np.stack([_pad(plane, size) / total for plane, total in zip(centred, sums, strict=True)])
    return LoadedPsf(torch.from_numpy(kernel), tuple(sums), tuple(dict.fromkeys(notes)))


def _read_fits(path: Path) -> NDArray[np.float64]:
    """Planes (bands, h, w) of the first HDU with an image."""
    from astropy.io import fits

    try:
        with fits.open(path) as hdus:
            for hdu in hdus:
                if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) or hdu.data is None:
                    continue
                return _planes(hdu.data, path)
    except OSError as error:
        raise DataError(f"{path.name} is no FITS file: {error}") from error
    raise DataError(f"{path.name} holds no image")


def _read_hdf5(path: Path, key: str | None) -> NDArray[np.float64]:
    import h5py

    try:
        with h5py.File(path) as file:
            names = [key] if key else [name for name in HDF5_KEYS if name in file]
            if not names or names[0] not in file:
                held = ", ".join(file) or "nothing"
                raise UserError(f"{path.name}: no data set {key or ' or '.join(HDF5_KEYS)}; it holds {held}")
            return _planes(file[names[0]][()], path)
    except OSError as error:
        raise DataError(f"{path.name} is no HDF5 file: {error}") from error


def _planes(data: Any, path: Path) -> NDArray[np.float64]:
    array = np.asarray(data, dtype=np.float64)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise DataError(f"{path.name}: PSF of shape {array.shape}; allowed are (h, w) and (bands, h, w)")
    return array.reshape(-1, *array.shape[-2:])


def _centre(plane: NDArray[np.float64], name: str, notes: list[str]) -> NDArray[np.float64]:
    """The plane as an odd square about its peak: the farther side decides the size, zeros fill the nearer."""
    h, w = plane.shape
    row, col = (int(v) for v in np.unravel_index(plane.argmax(), plane.shape))
    off = max(abs(row - (h - 1) / 2), abs(col - (w - 1) / 2))
    if off > MAX_SHIFT_PX:
        raise DataError(
            f"{name}: the peak at row {row}, column {col} of {h} x {w} is {off:g} px off the middle"
        )
    half = max(row, h - 1 - row, col, w - 1 - col)
    if (h, w) == (2 * half + 1, 2 * half + 1):
        return plane
    size = 2 * half + 1
    notes.append(f"{h} x {w} with its peak at row {row}, column {col} was padded to {size} x {size}")
    square = np.zeros((size, size))
    square[half - row : half - row + h, half - col : half - col + w] = plane
    return square


def _pad(plane: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    return np.pad(plane, (size - len(plane)) // 2)
