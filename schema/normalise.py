"""Normalisation of image pixels to a common histogram, as pure functions of arrays.

Pourrahmani (2019, section 2.1) brings every source of an HST field to the histogram of one dim lens, made
legible by hand through brightness, contrast and gamma. The percentile normalisation of section 4.1 is
`schema.image_shards.percentile_stamp`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

QUANTILES = 1025
"""Points of the quantile function that stands for a template's histogram."""


def template_quantiles(
    image: NDArray[np.floating],
    gamma: float = 0.5,
    low: float = 1.0,
    high: float = 99.8,
    n: int = QUANTILES,
) -> NDArray[np.float32]:
    """Quantile function of an image after brightness, contrast and gamma: a template for `histogram_match`.

    Parameters
    ----------
    image : ndarray
        Pixels of the template lens; NaN ones do not count.
    gamma : float
        Exponent of equation 2.1, ``p_out = A p_in ** gamma``; below 1 it lifts faint arcs.
    low, high : float
        Percentiles that become 0 and 1.
    n : int
        Points of the function.

    Returns
    -------
    ndarray of float32, shape (n,)
        Values in 0 to 1 at evenly spaced ranks, never falling.
    """
    good = image[np.isfinite(image)].astype(np.float64)
    if good.size < 2:
        raise ValueError("a template needs pixels")
    lo, hi = np.percentile(good, [low, high])
    if not hi > lo:
        raise ValueError("a template needs contrast")
    scaled = np.clip((good - lo) / (hi - lo), 0.0, 1.0) ** gamma
    return np.quantile(scaled, np.linspace(0.0, 1.0, n)).astype(np.float32)


def default_template(n: int = QUANTILES) -> NDArray[np.float32]:
    """Template of a dim lens: sky of unit noise, a round galaxy and a faint ring of 1.2 arcsec, gamma 0.5.

    Drawn, not observed, so that nothing but this function is needed to reproduce it: 200 x 200 pixels of
    0.03 arcsec block-averaged to 100 x 100, de Vaucouleurs' profile of half-light radius 0.6 arcsec and
    peak 40 sigma, ring of 3 sigma.
    """
    side, scale = 100, 0.06
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2.0) * scale
    r = np.hypot(x, y)
    galaxy = 40.0 * np.exp(-7.669 * ((np.hypot(r, 0.05) / 0.6) ** 0.25 - (0.05 / 0.6) ** 0.25))
    ring = 3.0 * np.exp(-0.5 * ((r - 1.2) / 0.12) ** 2)
    noise = np.random.default_rng(2019).standard_normal((side, side)) / 2.0  # mean of four pixels
    return template_quantiles(galaxy + ring + noise, n=n)


def histogram_match(image: NDArray[np.floating], template: NDArray[np.floating]) -> NDArray[np.float32]:
    """Give every image the histogram of a template: rank by rank (thesis, section 2.1 and figure 2.1).

    Parameters
    ----------
    image : ndarray, shape (..., ny, nx)
        Every (ny, nx) plane is matched by itself. Equal pixels get equal values: the mean over their ranks.
        NaN pixels do not count and become the template's lowest value.
    template : ndarray, shape (n,)
        Quantile function, as `template_quantiles` gives it.

    Returns
    -------
    ndarray of float32, shape (..., ny, nx)
        In the range of the template. A plane with one value, or none, is the template's median throughout.
    """
    pixels = np.asarray(image, dtype=np.float32)
    table = np.asarray(template, dtype=np.float64)
    if table.ndim != 1 or table.size < 2 or not (np.diff(table) >= 0).all():
        raise ValueError("a template is a quantile function: two or more values that never fall")
    grid = np.linspace(0.0, 1.0, table.size)
    flat = pixels.reshape(-1, pixels.shape[-2] * pixels.shape[-1])
    out = np.empty_like(flat)
    for row, plane in zip(out, flat, strict=True):
        good = np.isfinite(plane)
        values, inverse, count = np.unique(plane[good], return_inverse=True, return_counts=True)
        if values.size < 2:
            row[:] = np.interp(0.5, grid, table)
            continue
        first = np.cumsum(count) - count
        rank = (first + (count - 1) / 2.0) / max(good.sum() - 1, 1)
        row[good] = np.interp(rank, grid, table)[inverse]
        row[~good] = table[0]
    return out.reshape(pixels.shape)


def block_mean(image: NDArray[np.floating], factor: int) -> NDArray[np.float32]:
    """Downsample by averaging blocks; NaN pixels do not count, a block of them is NaN.

    A mean keeps surface brightness: a magnitude from the sum of the result is ``5 lg factor`` fainter than
    from the original unless the zero point is changed accordingly.

    Parameters
    ----------
    image : ndarray, shape (..., ny, nx)
        Sides must be multiples of the factor.
    factor : int
        Pixels to a block on each side.
    """
    *lead, ny, nx = image.shape
    if factor < 1 or ny % factor or nx % factor:
        raise ValueError(f"an image of {nx} x {ny} pixels cannot be cut into blocks of {factor} x {factor}")
    blocks = np.asarray(image, dtype=np.float32).reshape(*lead, ny // factor, factor, nx // factor, factor)
    good = np.isfinite(blocks)
    n = good.sum(axis=(-3, -1))
    total = np.where(good, blocks, 0.0).sum(axis=(-3, -1), dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n > 0, total / n, np.nan).astype(np.float32)
