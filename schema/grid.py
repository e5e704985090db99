"""The log-wavelength grid that all SDSS and BOSS spectra share.

SDSS bins every spectrum at exactly 1e-4 dex in vacuum wavelength, and every pixel centre falls on an
integer multiple of 1e-4 in log10(wavelength / Angstrom). A pixel is therefore named by one integer, and a
wavelength window is an exact slice: nothing is resampled (Bolton et al. 2012, AJ 144, 144, section 2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

DLOGLAM = 1e-4
"""Width of a pixel [dex]."""

PIX0 = 35400
"""First pixel of a full-range shard: 3467 Angstrom."""

NPIX = 4900
"""Number of pixels of a full-range shard: up to 10,715 Angstrom."""

WINDOW_FIRST = 35798
"""First pixel of the Lyman-alpha search window of Li et al. (2018): 3800 Angstrom."""

WINDOW_NPIX = 1192
"""Number of pixels in that window, which ends below 5000 Angstrom."""

SPEED_OF_LIGHT_KM_S = 299792.458
"""Speed of light [km/s]."""

LYA_ANGSTROM = 1215.67
"""Rest vacuum wavelength of Lyman alpha [Angstrom]."""


def pixel_index(loglam: ArrayLike) -> NDArray[np.int64]:
    """Absolute grid index of pixels given their log10 wavelength.

    Parameters
    ----------
    loglam : array_like, any shape
        log10 of the vacuum wavelength [dex of Angstrom].

    Returns
    -------
    ndarray of int64, same shape
        Index ``i`` such that ``loglam == i * 1e-4`` to rounding.
    """
    return np.rint(np.asarray(loglam, dtype=np.float64) / DLOGLAM).astype(np.int64)


def wave_angstrom(index: ArrayLike) -> NDArray[np.float64]:
    """Vacuum wavelength of pixel centres.

    Parameters
    ----------
    index : array_like, any shape
        Absolute grid index; fractions are allowed.

    Returns
    -------
    ndarray of float64, same shape
        Wavelength [Angstrom].
    """
    return np.power(10.0, np.asarray(index, dtype=np.float64) * DLOGLAM)


def window_wave() -> NDArray[np.float64]:
    """Wavelengths of the Lyman-alpha search window, shape (1192,) [Angstrom]."""
    return wave_angstrom(np.arange(WINDOW_FIRST, WINDOW_FIRST + WINDOW_NPIX))
