"""The [OII] alternative: if the line were [OII], would [OIII], H beta or H alpha be there?

Li et al. (2018, section 4): "for each sample, we suppose the line is [OII] and then calculate the relative
positions of [OIII], H alpha and H beta lines. If any of these positions has an emission line, we reject the
sample."

At each expected position a Gaussian as wide as the hit and a level are fitted together to flux - model,
weighted by the errors; the S/N of its amplitude is what the cut compares. Errors are scaled up where the
pixels beside the line scatter more than they say, as under the OH bands. What the lens itself emits there
says nothing about a source behind it, so positions on a strong line of the lens give no answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schema.grid import DLOGLAM

Array = NDArray[np.float64]

OII_ANGSTROM = 3728.6
"""Rest vacuum wavelength of the unresolved [OII] 3727.09, 3729.88 doublet [Angstrom]."""

OII_SPLIT_PIXELS = 1.6
"""Half the separation of the doublet [pixel of 1e-4 dex]: part of the width of the hit, if it is [OII]."""

LINES = {"oiii_5008": 5008.24, "oiii_4960": 4960.30, "hbeta": 4862.69, "halpha": 6564.61}
"""Rest vacuum wavelengths of the lines looked for [Angstrom]."""

NEIGHBOURS = {"halpha": (6549.85, 6585.27)}
"""Lines beside them, which would be taken for continuum: [NII]."""

LENS_LINES = (
    3728.6, 3869.86, 4341.69, 4862.69, 4960.30, 5008.24, 5877.25, 6302.05, 6549.85, 6564.61, 6585.27, 6718.29,
    6732.67,
)  # fmt: skip
"""Strong emission lines of the lens itself, rest vacuum [Angstrom]."""


@dataclass(frozen=True)
class OiiConfig:
    """Settings of the [OII] alternative; all of them enter the fit's version."""

    half_pixels: int = 30
    """Half width of the fitted window [pixel of 1e-4 dex = 69 km/s]."""
    search_pixels: int = 2
    """The position may be off by this much; the best S/N counts."""
    min_sigma_pixels: float = 1.3
    max_sigma_pixels: float = 5.0
    """Bounds of the width, which is otherwise that of the hit."""
    neighbour_pixels: int = 6
    """Half width of what is left out around a neighbouring line."""
    lens_pixels: int = 8
    """A position this close to a line of the lens gives no answer."""
    min_coverage: float = 0.6
    """Least fraction of the line's energy that must fall on good pixels."""
    min_good: int = 15
    """Fewest good pixels in the window."""


DEFAULT_OII = OiiConfig()


def oii_alternative(
    pix0: int,
    line_wave: Array,
    sigma: Array,
    z_lens: Array,
    flux: NDArray[np.floating],
    ivar: NDArray[np.floating],
    model: NDArray[np.floating] | None = None,
    config: OiiConfig = DEFAULT_OII,
) -> dict[str, Array]:
    """S/N of the lines that would accompany [OII].

    Parameters
    ----------
    pix0 : int
        Grid index of the first pixel of the spectra.
    line_wave, sigma : ndarray, shape (n,)
        Mean wavelength and standard deviation of the fitted line [Angstrom].
    z_lens : ndarray, shape (n,)
        Redshift of the lens; NaN when unknown.
    flux, ivar : ndarray, shape (n, npix)
        Spectra [1e-17 erg/s/cm2/Angstrom] and inverse variances.
    model : ndarray, shape (n, npix), optional
        Pipeline model of the galaxy, taken off; a local level is fitted in any case.

    Returns
    -------
    dict of ndarray, shape (n,)
        z_oii, and snr_oiii_5008, snr_oiii_4960, snr_hbeta, snr_halpha: NaN outside the spectrum, on masked
        pixels or on a line of the lens.
    """
    npix = flux.shape[1]
    z_oii = line_wave / OII_ANGSTROM - 1.0
    good = np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0)
    residual = np.where(good, flux, 0.0).astype(np.float64)
    if model is not None:
        residual -= np.where(np.isfinite(model), model, 0.0)
    weight = np.where(good, ivar, 0.0).astype(np.float64)
    hit_pixels = np.nan_to_num(sigma / (line_wave * np.log(10.0) * DLOGLAM), nan=2.0)
    width = np.sqrt(np.maximum(hit_pixels**2 - OII_SPLIT_PIXELS**2, 0.0))
    width = np.clip(width, config.min_sigma_pixels, config.max_sigma_pixels)
    lens = np.log10(np.asarray(LENS_LINES)) / DLOGLAM + np.log10(1.0 + z_lens)[:, None] / DLOGLAM  # (n, line)
    out = {"z_oii": z_oii}
    for name, rest in LINES.items():
        position = np.log10(rest * (1.0 + z_oii)) / DLOGLAM - pix0
        others = [np.log10(w / rest) / DLOGLAM for w in NEIGHBOURS.get(name, ())]
        snr = _line_snr(position, width, residual, weight, others, config)
        with np.errstate(invalid="ignore"):
            clash = (np.abs(lens - (position + pix0)[:, None]) <= config.lens_pixels).any(axis=1)
        snr[clash | ~((position > 0) & (position < npix - 1)) | ~np.isfinite(line_wave)] = np.nan
        out[f"snr_{name}"] = snr
    return out


def _line_snr(
    position: Array, width: Array, residual: Array, weight: Array, others: list[float], config: OiiConfig
) -> Array:
    """Best S/N of a Gaussian near each position (a column), shape (n,); NaN where too little is good."""
    half, npix = config.half_pixels, residual.shape[1]
    centre = np.rint(np.nan_to_num(position, nan=-1e6)).astype(np.int64)
    column = centre[:, None] + np.arange(-half, half + 1)  # (n, p)
    inside = (column >= 0) & (column < npix)
    column = np.clip(column, 0, npix - 1)
    r = np.take_along_axis(residual, column, axis=1)
    w = np.where(inside, np.take_along_axis(weight, column, axis=1), 0.0)
    x = column - position[:, None]
    for offset in others:
        w[np.abs(x - offset) <= config.neighbour_pixels] = 0.0
    scale = _scatter(r, w, np.abs(x) > 3.0 * width[:, None])
    w = w / (scale**2)[:, None]
    best = np.full(len(position), np.nan)
    for shift in range(-config.search_pixels, config.search_pixels + 1):
        g = np.exp(-0.5 * ((x - shift) / width[:, None]) ** 2)
        full = np.sqrt(np.pi) * width
        covered = (g * g * (w > 0)).sum(1) / full
        sw, sg, sgg = w.sum(1), (w * g).sum(1), (w * g * g).sum(1)
        sr, sgr = (w * r).sum(1), (w * g * r).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = sgg - sg * sg / sw
            snr = (sgr - sg * sr / sw) / np.sqrt(variance)
        usable = (covered >= config.min_coverage) & ((w > 0).sum(1) >= config.min_good) & (variance > 0)
        best = np.fmax(best, np.where(usable, snr, np.nan))
    return best


def _scatter(r: Array, w: Array, beside: NDArray[np.bool_]) -> Array:
    """Robust scatter of the pixels beside the line in units of their errors, shape (n,); at least 1."""
    use = (w > 0) & beside
    values = np.where(use, r, np.nan)
    values[~use.any(axis=1)] = 0.0
    middle = np.nanmedian(values, axis=1, keepdims=True)
    pull = np.abs(values - middle) * np.sqrt(w)
    return np.maximum(1.4826 * np.nanmedian(pull, axis=1), 1.0)
