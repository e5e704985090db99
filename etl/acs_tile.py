"""Sources on an HST/ACS tile after Pourrahmani (2019, section 2.1): found with sep, measured, cut out.

A source covers at least 200 pixels 1.5 sigma above the background. Its cutout is 200 x 200 pixels around the
barycentre, averaged in blocks of 2 x 2 to 100 x 100. A tile is searched in overlapping blocks, so that memory
does not grow with it; a source belongs to the block whose core holds its barycentre.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etl.checks import Fault
from etl.image_header import Sky, tan_sky, tangent

MIN_PIXELS = 200
THRESHOLD_SIGMA = 1.5
CUTOUT_SIDE = 200
DOWNSAMPLE = 2
MIN_GOOD = 0.5
"""Share of a cutout's pixels that must exist; the rest, beyond the tile's edge, is NaN."""

BLOCK = 4096
MARGIN = 512
"""A block is searched this far beyond its core; larger sources at its rim may be split [pixel]."""

BACKGROUND_MESH = 128
"""Side of the cells whose background is estimated; larger than the sources that are looked for [pixel]."""

NO_DATA_SHARE = 0.01
"""From this share of pixels that are exactly 0 on, zeros are taken for no data, as drizzling leaves them."""


@dataclass(frozen=True)
class Source:
    """One source on a tile; positions in pixels from 0, angles by the pixel axes."""

    x: float
    y: float
    npix: int
    a: float
    b: float
    theta: float
    flux: float
    flux_err: float
    r_half: float
    peak: float
    flags: int
    noise: float


def find_sources(
    tile: NDArray[Any], gain: float = 0.0, min_pixels: int = MIN_PIXELS, sigma: float = THRESHOLD_SIGMA,
    block: int = BLOCK, margin: int = MARGIN,
) -> Iterator[Source]:  # fmt: skip
    """Detect and measure the sources of a tile.

    Parameters
    ----------
    tile : ndarray, shape (ny, nx)
        Pixels, of any byte order; may be a map of a file. NaN and no-data zeros are masked.
    gain : float
        Electrons per unit, for the errors of fluxes; 0 leaves the source's own noise out.
    min_pixels, sigma
        The cuts.
    block, margin : int
        Core and overlap of the blocks [pixel].

    Yields
    ------
    Source
        Kron fluxes above the background, in the tile's unit.

    Raises
    ------
    Fault
        When the tile has no finite pixels, or no contrast.
    """
    zeros_are_gaps = _zeros_are_gaps(tile)
    ny, nx = tile.shape
    any_good = False
    for y0 in range(0, ny, block):
        for x0 in range(0, nx, block):
            top, left = max(y0 - margin, 0), max(x0 - margin, 0)
            part = np.ascontiguousarray(
                tile[top : min(y0 + block + margin, ny), left : min(x0 + block + margin, nx)],
                dtype=np.float32,
            )
            gaps = ~np.isfinite(part) | ((part == 0) & zeros_are_gaps)
            if gaps.all():
                continue
            any_good = True
            for one in _search(part, gaps, gain, min_pixels, sigma):
                x, y = one.x + left, one.y + top
                if x0 - 0.5 <= x < x0 + block - 0.5 and y0 - 0.5 <= y < y0 + block - 0.5:
                    yield Source(**{**one.__dict__, "x": x, "y": y})
    if not any_good:
        raise Fault("blank_stamp", "the tile has no finite pixels")


def _zeros_are_gaps(tile: NDArray[Any]) -> bool:
    rows = tile[:: max(1, tile.shape[0] // 512)]
    return bool((rows == 0).mean() > NO_DATA_SHARE)


def _search(
    part: NDArray[np.float32], gaps: NDArray[np.bool_], gain: float, min_pixels: int, sigma: float
) -> Iterator[Source]:
    import sep

    filled = np.where(gaps, 0.0, part).astype(np.float32)
    mesh = min(BACKGROUND_MESH, *part.shape)
    background = sep.Background(filled, mask=gaps, bw=mesh, bh=mesh, fw=3, fh=3)
    noise = float(background.globalrms)
    if not noise > 0:
        return
    flat = filled - np.asarray(background.back(), dtype=np.float32)
    found, segments = _extract(flat, sigma * noise, gaps, min_pixels)
    if not len(found):
        return
    own = {"mask": gaps, "segmap": segments, "seg_id": np.arange(1, len(found) + 1, dtype=np.int32)}
    x, y, a, b = found["x"], found["y"], found["a"], found["b"]
    theta = np.clip(found["theta"], -math.pi / 2, math.pi / 2)
    kron, kron_flag = sep.kron_radius(flat, x, y, a, b, theta, 6.0, **own)
    radius = np.where(np.isfinite(kron) & (kron > 0), np.maximum(2.5 * kron, 3.5), 6.0)
    flux, flux_err, flag = sep.sum_ellipse(
        flat, x, y, a, b, theta, radius, err=noise, gain=gain or None, subpix=5, **own
    )
    half, half_flag = sep.flux_radius(
        flat, x, y, 6.0 * a, 0.5, normflux=np.where(flux > 0, flux, found["flux"]), subpix=5, **own
    )
    flags = found["flag"] | kron_flag | flag | half_flag
    for k in range(len(found)):
        yield Source(
            float(x[k]), float(y[k]), int(found["npix"][k]), float(a[k]), float(b[k]), float(theta[k]),
            float(flux[k]), float(flux_err[k]), float(half[k]), float(found["peak"][k]), int(flags[k]), noise,
        )  # fmt: skip


def _extract(
    flat: NDArray[np.float32], threshold: float, gaps: NDArray[np.bool_], min_pixels: int
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """sep.extract with its map of segments, with buffers grown until the sources fit."""
    import sep

    pixels, objects = 1_000_000, 1024
    while True:
        sep.set_extract_pixstack(pixels)
        sep.set_sub_object_limit(objects)
        try:
            found, segments = sep.extract(
                flat, threshold, minarea=min_pixels, mask=gaps, segmentation_map=True
            )
            return found, segments
        except Exception as exc:  # sep raises plain exceptions
            told = str(exc)
            if "pixel buffer" in told and pixels < flat.size:
                pixels *= 4
            elif "deblending overflow" in told and objects < 1 << 16:
                objects *= 4
            else:
                raise Fault("damaged", f"sources cannot be extracted: {told}") from exc


def cut(tile: NDArray[Any], x: float, y: float, side: int = CUTOUT_SIDE) -> NDArray[np.float32]:
    """A square around a position, NaN where the tile ends or has no data.

    Parameters
    ----------
    tile : ndarray, shape (ny, nx)
        Pixels.
    x, y : float
        Middle, in pixels from 0: it falls into the middle four pixels.
    side : int
        Even side [pixel].

    Returns
    -------
    ndarray of float32, shape (side, side)
    """
    ny, nx = tile.shape
    left, top = corner(x, side), corner(y, side)
    out = np.full((side, side), np.nan, dtype=np.float32)
    y0, y1, x0, x1 = max(top, 0), min(top + side, ny), max(left, 0), min(left + side, nx)
    if y0 < y1 and x0 < x1:
        out[y0 - top : y1 - top, x0 - left : x1 - left] = tile[y0:y1, x0:x1]
    out[~np.isfinite(out)] = np.nan
    return out


def corner(at: float, side: int) -> int:
    """First pixel of a cutout whose middle is nearest to a position."""
    return math.floor(at + 0.5 - (side - 1) / 2.0)


def source_sky(sky: Sky, x: float, y: float) -> tuple[float, float]:
    """Right ascension and declination of a pixel, counted from 0 [deg]."""
    return tan_sky(*tangent(sky.cd, sky.crpix, x + 1.0, y + 1.0), *sky.crval)


def position_angle(sky: Sky, theta: float) -> float:
    """Angle of an axis east of north [deg, 0 to 180), from its angle to the tile's x axis [rad]."""
    cd = sky.cd
    east = cd[0] * math.cos(theta) + cd[1] * math.sin(theta)
    north = cd[2] * math.cos(theta) + cd[3] * math.sin(theta)
    return math.degrees(math.atan2(east, north)) % 180.0


def j_name(ra_deg: float, dec_deg: float) -> str:
    """IAU name of a position, truncated to 0.01 s and 0.1 arcsec: J100141.23+021345.6."""
    ra = math.floor(ra_deg / 15.0 * 3600.0 * 100.0 + 1e-6)  # centiseconds
    dec = math.floor(abs(dec_deg) * 3600.0 * 10.0 + 1e-6)  # tenths of an arcsecond
    h, m, s = ra // 360_000 % 24, ra // 6000 % 60, ra % 6000
    d, dm, ds = dec // 36_000, dec // 600 % 60, dec % 600
    sign = "-" if dec_deg < 0 else "+"
    return f"J{h:02d}{m:02d}{s // 100:02d}.{s % 100:02d}{sign}{d:02d}{dm:02d}{ds // 10:02d}.{ds % 10}"
