"""Cutouts as pictures: one band or three, scaled, and with the lens's light taken away."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SCALINGS = ("asinh", "linear", "sqrt", "log")
MISSING = (58, 66, 92)
"""Colour of pixels without data: no survey's sky looks like it."""
COLOUR_CHOICES = (
    ("i", "r", "g"),
    ("z", "r", "g"),
    ("z", "i", "r"),
    ("y", "i", "g"),
    ("r", "g", "u"),
    ("z", "r", "b"),
)
"""Bands shown as red, green and blue, the first of which a cutout holds all."""


@dataclass(frozen=True)
class StampStyle:
    """How a cutout is shown.

    Attributes
    ----------
    scaling : str  asinh, linear, sqrt or log
    contrast : float  1 shows up to the 99.7th percentile; 2 saturates at half of it
    residual : bool  subtract the light of the galaxy in the middle
    size : int  side of the picture [px]
    """

    scaling: str = "asinh"
    contrast: float = 1.0
    residual: bool = False
    size: int = 256


def colour_bands(bands: tuple[str, ...]) -> tuple[str, str, str] | None:
    """Bands for red, green and blue; None where a cutout has too few."""
    for choice in COLOUR_CHOICES:
        if all(b in bands for b in choice):
            return choice
    return (bands[2], bands[1], bands[0]) if len(bands) >= 3 else None


def scale(image: Array, style: StampStyle) -> Array:
    """Pixels between 0 and 1; NaN stays NaN.

    Parameters
    ----------
    image : ndarray, shape (bands, ny, nx)
        All bands share one zero and one white, so that colours survive.
    """
    good = image[np.isfinite(image)]
    if not len(good):
        return np.full(image.shape, np.nan)
    low, high = np.percentile(good, [10.0 if not style.residual else 0.5, 99.7])
    if style.residual:
        middle = float(np.median(good))
        reach = max(high - middle, 1e-12) / style.contrast
        away = np.clip((image - middle) / reach, -1.0, 1.0)
        return 0.5 + 0.5 * np.sign(away) * _stretched(np.abs(away), style)
    span = max(high - low, 1e-12) / style.contrast
    return _stretched(np.clip((image - low) / span, 0.0, 1.0), style)


def _stretched(x: Array, style: StampStyle) -> Array:
    """Values of 0 to 1 under the scaling asked for."""
    if style.scaling == "sqrt":
        return np.sqrt(x)
    if style.scaling == "log":
        return np.log1p(1000.0 * x) / np.log(1001.0)
    if style.scaling == "asinh":  # Lupton et al. (2004, PASP 116, 133), softening at a tenth of the range
        return np.arcsinh(10.0 * x) / np.arcsinh(10.0)
    return x


def without_lens(image: Array) -> Array:
    """Pixels with the light of the middle galaxy subtracted.

    The galaxy is taken to be what a median in elliptical annuli sees: an arc covers a small part of its
    annulus and stays (compare the radial B-splines of Bolton et al. 2006, ApJ 638, 703). The ellipse is that
    of the second moments of the inner light.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        One band; NaN where there is no datum.
    """
    ny, nx = image.shape
    y, x = np.mgrid[:ny, :nx].astype(float)
    x -= (nx - 1) / 2
    y -= (ny - 1) / 2
    filled = np.where(np.isfinite(image), image, np.nan)
    border = np.concatenate(
        [filled[:3].ravel(), filled[-3:].ravel(), filled[:, :3].ravel(), filled[:, -3:].ravel()]
    )
    sky = np.nanmedian(border) if np.isfinite(border).any() else 0.0
    light = np.nan_to_num(filled - sky)
    reach = 0.18 * min(nx, ny)
    inside = np.hypot(x, y) < reach
    for _ in range(4):  # the aperture takes the shape that it finds, else it would round the ellipse
        weight = np.where(inside, np.clip(light, 0, None), 0.0)
        total = weight.sum()
        if total <= 0:
            return filled - sky
        dx, dy = x - (weight * x).sum() / total, y - (weight * y).sum() / total
        xx, yy, xy = ((weight * a).sum() / total for a in (dx * dx, dy * dy, dx * dy))
        angle = 0.5 * np.arctan2(2 * xy, xx - yy)
        major = 0.5 * (xx + yy) + np.hypot(0.5 * (xx - yy), xy)
        q = float(np.clip(np.sqrt(max(xx + yy - major, 1e-3) / max(major, 1e-3)), 0.3, 1.0))
        u = dx * np.cos(angle) + dy * np.sin(angle)
        v = dy * np.cos(angle) - dx * np.sin(angle)
        radius = np.sqrt(q * u**2 + v**2 / q)
        inside = radius < reach
    ring = np.minimum((radius / 1.5).astype(int), int(0.75 * max(nx, ny) / 1.5))
    level = np.array(
        [
            np.nanmedian(filled[ring == k]) if np.isfinite(filled[ring == k]).any() else sky
            for k in range(ring.max() + 1)
        ]
    )
    level = np.minimum.accumulate(level)  # a galaxy does not brighten outwards; an arc may not lift it
    centre = np.array(
        [radius[ring == k].mean() if (ring == k).any() else 1.5 * (k + 0.5) for k in range(len(level))]
    )
    return filled - np.interp(radius, centre, level)


def draw_stamp(image: Array, style: StampStyle) -> bytes:
    """PNG of a cutout.

    Parameters
    ----------
    image : ndarray, shape (1, ny, nx) or (3, ny, nx)
        One band, or red, green and blue; row 0 is drawn at the bottom, as on the sky in FITS.
    style : StampStyle
        How to show it.
    """
    from PIL import Image

    pixels = np.asarray(image, dtype=np.float64)
    if style.residual:
        pixels = np.stack([without_lens(band) for band in pixels])
    shown = scale(pixels, style)
    missing = ~np.isfinite(pixels).all(axis=0)
    rgb = np.repeat(np.nan_to_num(shown), 3, axis=0) if len(shown) == 1 else np.nan_to_num(shown)
    bytes_ = (255 * np.moveaxis(rgb, 0, -1) + 0.5).astype(np.uint8)
    bytes_[missing] = MISSING
    picture = Image.fromarray(np.ascontiguousarray(bytes_[::-1]), "RGB")
    ny, nx = pixels.shape[1:]
    side = style.size / max(nx, ny)
    picture = picture.resize(
        (max(1, round(nx * side)), max(1, round(ny * side))),
        Image.Resampling.NEAREST if side > 1.5 else Image.Resampling.BILINEAR,
    )
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=3)
    return out.getvalue()
