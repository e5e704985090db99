"""Point spread functions: which file belongs to which image, and how wide it is."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from etl.checks import Fault
from etl.image_files import read_auxiliary
from etl.image_names import SUFFIX
from etl.sources import opened

SUM_TOLERANCE = 0.02
"""A PSF whose pixels sum to one within this is taken as normalised; its far wings are always cut off."""

IMAGE_FOLDERS = ("imaging", "images", "image", "stamps", "cutouts")
"""Folders beside which a folder ``psf`` with the same tree is searched."""

_INSTRUMENTS = {
    "hsc": {"hsc"}, "acs": {"acs", "hst"}, "wfc3": {"wfc3", "hst"}, "megacam": {"cfht", "megacam"},
    "decam": {"des", "decam"},
}  # fmt: skip
_IGNORED = {"psf", "psfs", "tinytim", "image", "img", "stamp", "cutout", "sci", "masknoise"}


@dataclass(frozen=True)
class Psf:
    """A PSF file: sum and width of each of its planes, or why it cannot be read."""

    content_hash: str
    size: int
    shape: tuple[int, ...] = ()
    total: tuple[float, ...] = ()
    fwhm_pix: tuple[float | None, ...] = ()
    fault: str | None = None


class PsfFiles:
    """The PSF files beside images, found by name; every folder is listed once, every file measured once."""

    def __init__(self) -> None:
        self._listed: dict[str, list[tuple[str, frozenset[str]]]] = {}
        self.measured = lru_cache(maxsize=4096)(measure_psf)

    def find(self, path: str, band: str | None, instrument: str | None) -> str | None:
        """The PSF file of an image.

        First the one of the same name but for the word psf, then one named by the band alone, then one named
        by the instrument alone. Searched are the image's folder and, for ``.../imaging/A/B``, the folders
        ``.../psf/A/B`` and ``.../psf/A``.

        Parameters
        ----------
        path : str
            Image file; only local files have neighbours.
        band, instrument : str or None
            Of the image.

        Returns
        -------
        str or None
            Absolute path.
        """
        if "://" in path:
            return None
        folder, base = os.path.split(path)
        wanted = _key(base)
        choices = [pair for f in _folders(folder) for pair in self._in(f)]
        for fits in (
            lambda key: key == wanted,
            lambda key: band is not None and key == {band.lower()},
            lambda key: bool(key) and key <= _INSTRUMENTS.get(instrument or "", set()),
        ):
            for choice, key in choices:
                if fits(key):
                    return choice
        return None

    def _in(self, folder: str) -> list[tuple[str, frozenset[str]]]:
        if folder not in self._listed:
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                names = []
            whole = "psf" in PurePosixPath(folder).parts
            self._listed[folder] = [
                (os.path.join(folder, n), _key(n))
                for n in names
                if SUFFIX.search(n) and (whole or is_psf_name(n))
            ]
        return self._listed[folder]


def measure_psf(path: str) -> Psf:
    """Read a PSF file and measure its planes."""
    digest, size = "", 0
    try:
        with opened(path) as content:
            digest, size = content.content_hash, content.size
            pixels = read_auxiliary(content.buf)
    except Fault as fault:
        return Psf(digest, size, fault=fault.reason)
    planes = [pixels] if pixels.ndim == 2 else list(pixels) if pixels.ndim == 3 else []
    return Psf(
        digest, size, pixels.shape, tuple(float(p.sum()) for p in planes), tuple(map(fwhm_pixels, planes))
    )


def is_psf_name(name: str) -> bool:
    """Whether a file is a PSF by its name."""
    return bool(re.search(r"(^|[-_.])(psfs?|tinytim)([-_.]|$)", name.lower()))


def _key(name: str) -> frozenset[str]:
    stem = SUFFIX.sub("", name).lower().removesuffix(".psf")
    return frozenset(w for w in re.split(r"[-_]", stem) if w) - _IGNORED


def _folders(folder: str) -> list[str]:
    parts = PurePosixPath(folder).parts
    out = [folder]
    for k in range(len(parts) - 1, 0, -1):
        if parts[k] in IMAGE_FOLDERS:
            beside = PurePosixPath(*parts[:k], "psf", *parts[k + 1 :])
            out.append(str(beside))
            if len(parts) > k + 2:
                out.append(str(beside.parent))
            break
    return out


def fwhm_pixels(psf: NDArray[np.floating]) -> float | None:
    """Full width at half maximum of a PSF [pixel]: the diameter of the circle with the area above half.

    Parameters
    ----------
    psf : ndarray, shape (ny, nx)
        Any normalisation. Interpolated by cubic splines, as HST's is hardly two pixels wide.

    Returns
    -------
    float or None
        None without a positive finite peak.
    """
    from scipy.ndimage import zoom

    if psf.ndim != 2 or min(psf.shape) < 3 or not np.isfinite(psf).all() or not psf.max() > 0:
        return None
    y, x = np.unravel_index(int(np.argmax(psf)), psf.shape)
    reach = min(15, *psf.shape)
    core = psf[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1].astype(np.float64)
    fine = zoom(core, 10, order=3, grid_mode=True, mode="nearest")
    area = float((fine > fine.max() / 2.0).sum()) / 100.0
    return 2.0 * math.sqrt(area / math.pi)
