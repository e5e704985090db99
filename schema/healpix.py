"""Positions on the sky as integers: nested HEALPix cells, cones as ranges of cells, separations in SQL.

A nested index of order 29 (0.4 milliarcsec) sorts along a curve on which every coarser cell is one interval:
cell ``c`` of order ``k`` holds ``c << 2 * (29 - k) <= hpx29 < (c + 1) << 2 * (29 - k)``. A cone is therefore
a few ranges of an integer column, on any engine, at the poles and across RA 0 alike (Gorski et al. 2005, ApJ
622, 759; Fernique et al. 2015, A&A 580, A132).
"""

from __future__ import annotations

import math

import astropy.units as u
import numpy as np
from astropy.coordinates import Latitude, Longitude
from cdshealpix import cdshealpix as _rust
from cdshealpix.nested import lonlat_to_healpix
from numpy.typing import ArrayLike, NDArray

from schema.errors import UserError

ORDER = 29
"""Order of the index in column hpx29."""

LENS_ORDER = 11
"""Order of known_lens_cell: cells of 103 arcsec."""

LENS_RADIUS_ARCSEC = 60.0
"""Largest cross-match radius that known_lens_cell serves [arcsec]."""

LENS_SHIFT = 2 * (ORDER - LENS_ORDER)
"""``hpx29 >> LENS_SHIFT`` is the cell of a position in known_lens_cell."""

_CELL_ARCSEC = math.degrees(math.sqrt(math.pi / 3.0)) * 3600.0
"""Side of a cell of order 0 [arcsec]."""

_MARGIN_ARCSEC = 1e-4
"""Added to every cover, against rounding at its rim [arcsec]."""


def hpx29(ra_deg: ArrayLike, dec_deg: ArrayLike) -> NDArray[np.int64]:
    """Nested HEALPix cells of order 29.

    Parameters
    ----------
    ra_deg, dec_deg : array_like, shape (n,)
        ICRS position [deg]; any finite right ascension, declination within [-90, 90].

    Returns
    -------
    ndarray of int64, shape (n,)
        Cells, in [0, 12 * 4**29).

    Raises
    ------
    UserError
        When a coordinate is not finite or a declination lies beyond a pole.
    """
    ra = np.atleast_1d(np.asarray(ra_deg, dtype=np.float64))
    dec = np.atleast_1d(np.asarray(dec_deg, dtype=np.float64))
    bad = ~(np.isfinite(ra) & (np.abs(dec) <= 90.0))
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        raise UserError(
            f"no sky position: ra {ra[k]}, dec {dec[k]} (row {k}); "
            "right ascension must be finite and declination within -90 to 90 degrees"
        )
    if ra.size == 0:
        return np.empty(0, dtype=np.int64)
    cells = lonlat_to_healpix(Longitude(ra, u.deg), Latitude(dec, u.deg), ORDER)
    return np.asarray(cells).astype(np.int64)


def _cover(
    ra_deg: float, dec_deg: float, radius_arcsec: float, order: int, *, flat: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells that a cone touches, and their orders: an inclusive cover."""
    if radius_arcsec > 90 * 3600:  # cdshealpix 0.9 leaves cells out of cones beyond some 130 degrees
        order = order if flat else 0
        whole = np.arange(12 << (2 * order), dtype=np.int64)
        return whole, np.full(len(whole), order, dtype=np.int64)
    radius = math.radians((radius_arcsec + _MARGIN_ARCSEC) / 3600.0)
    cells, depths, _ = _rust.cone_search(
        np.uint8(order),
        np.uint8(min(2, ORDER - order)),
        np.float64(math.radians(ra_deg % 360.0)),
        np.float64(math.radians(dec_deg)),
        np.float64(radius),
        flat,
    )
    return cells.astype(np.int64), depths.astype(np.int64)


def cone_cells(ra_deg: float, dec_deg: float, radius_arcsec: float, order: int) -> NDArray[np.int64]:
    """Nested cells of one order that come within a radius of a position, sorted; shape (k,)."""
    _check_cone(ra_deg, dec_deg, radius_arcsec)
    return np.sort(_cover(ra_deg, dec_deg, radius_arcsec, order, flat=True)[0])


def cone_ranges(ra_deg: float, dec_deg: float, radius_arcsec: float) -> list[tuple[int, int]]:
    """Ranges of hpx29 that together cover a cone.

    Parameters
    ----------
    ra_deg, dec_deg : float
        Centre, ICRS [deg].
    radius_arcsec : float
        Radius [arcsec], 0 to 648000.

    Returns
    -------
    list of (lo, hi)
        Disjoint, ascending; a position within the cone has ``lo <= hpx29 < hi`` for one of them. They cover a
        little more than the cone, so test the separation too (`cone_where` does).
    """
    _check_cone(ra_deg, dec_deg, radius_arcsec)
    size = max(radius_arcsec, 1e-3) / 2.0
    order = int(np.clip(math.ceil(math.log2(_CELL_ARCSEC / size)), 0, ORDER))
    cells, depths = _cover(ra_deg, dec_deg, radius_arcsec, order, flat=False)
    shift = 2 * (ORDER - depths)
    lo = cells << shift
    hi = (cells + 1) << shift
    by = np.argsort(lo)
    merged: list[tuple[int, int]] = []
    for a, b in zip(lo[by].tolist(), hi[by].tolist(), strict=True):
        if merged and a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
        else:
            merged.append((a, b))
    return merged


def sep_arcsec_sql(ra1: str, dec1: str, ra2: str, dec2: str) -> str:
    """Great-circle separation of two positions [arcsec], as an SQL expression of both engines.

    The arguments are SQL expressions in degrees. The haversine is exact to rounding at small separations; its
    argument is clipped to 1, since rounding can exceed it at the antipode, where asin fails.
    """
    return (
        f"7200.0 * degrees(asin(sqrt(least(1.0, "
        f"power(sin(radians(({dec1}) - ({dec2})) / 2), 2) + "
        f"cos(radians({dec1})) * cos(radians({dec2})) * power(sin(radians(({ra1}) - ({ra2})) / 2), 2)))))"
    )


def cone_where(ra_deg: float, dec_deg: float, radius_arcsec: float, alias: str = "") -> str:
    """SQL predicate that is true within a cone: ranges of the indexed cell, then the exact separation.

    Parameters
    ----------
    ra_deg, dec_deg : float
        Centre, ICRS [deg].
    radius_arcsec : float
        Radius [arcsec].
    alias : str
        Table or alias that holds hpx29, ra_deg and dec_deg; empty for unqualified columns.

    Returns
    -------
    str
        A parenthesised predicate.
    """
    dot = f"{alias}." if alias else ""
    ranges = cone_ranges(ra_deg, dec_deg, radius_arcsec)
    cover = " or ".join(f"({dot}hpx29 >= {lo} and {dot}hpx29 < {hi})" for lo, hi in ranges)
    sep = sep_arcsec_sql(f"{dot}ra_deg", f"{dot}dec_deg", repr(float(ra_deg)), repr(float(dec_deg)))
    return f"(({cover}) and {sep} <= {float(radius_arcsec)!r})"


def lens_cells(
    ra_deg: ArrayLike, dec_deg: ArrayLike, radius_arcsec: float = LENS_RADIUS_ARCSEC, order: int = LENS_ORDER
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells near each of many positions: the rows of known_lens_cell.

    Parameters
    ----------
    ra_deg, dec_deg : array_like, shape (n,)
        Positions, ICRS [deg].
    radius_arcsec : float
        A position within this radius of lens ``i`` lies in one of the cells of lens ``i`` [arcsec].
    order : int
        Order of the cells.

    Returns
    -------
    row, cell : ndarray of int64, shape (m,) each
        Index into the positions, and a cell near that position: about five each at 60 arcsec and order 11.
    """
    ra = np.atleast_1d(np.asarray(ra_deg, dtype=np.float64))
    dec = np.atleast_1d(np.asarray(dec_deg, dtype=np.float64))
    hpx29(ra, dec)  # refuses what is no position
    found = [_cover(a, d, radius_arcsec, order, flat=True)[0] for a, d in zip(ra, dec, strict=True)]
    counts = np.fromiter((len(c) for c in found), dtype=np.int64, count=len(found))
    cells = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
    return np.repeat(np.arange(len(found), dtype=np.int64), counts), cells


def _check_cone(ra_deg: float, dec_deg: float, radius_arcsec: float) -> None:
    hpx29(ra_deg, dec_deg)
    if not 0.0 <= radius_arcsec <= 648000.0:
        raise UserError(f"radius {radius_arcsec} arcsec; allowed are 0 to 648000 arcsec (180 degrees)")
