"""Pairs of positions within a small angle of each other, by sorting them into strips of declination.

Strips are as high as the radius, so partners lie in one strip or in two neighbours; within a strip positions
are in order of right ascension, and partners are next to each other. Only pairs that are near in both are
measured, on unit vectors, so poles and RA 0 are nothing special.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_STRIDE = 1024.0
"""Between the sorting keys of two strips; right ascensions reach 540 degrees in them."""

AT_ONCE = 262_144
"""Positions whose partners are looked up at once, so that memory holds little more than the sorted keys."""

_SLACK_DEG = 1e-6
"""Added to every interval searched, against rounding [deg]."""


def unit_vectors(ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions on the unit sphere, shape (n, 3)."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def pairs_within(
    ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64], radius_arcsec: float
) -> NDArray[np.int64]:
    """All pairs of positions within a radius.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray of float64, shape (n,)
        Positions, ICRS [deg]; right ascension within [0, 360].
    radius_arcsec : float
        Radius [arcsec].

    Returns
    -------
    ndarray of int64, shape (m, 2)
        Indices, the smaller first; each pair once.
    """
    none = np.empty((0, 2), dtype=np.int64)
    if len(ra_deg) < 2:
        return none
    height = radius_arcsec / 3600.0 + _SLACK_DEG
    reach = _reach(dec_deg, height, radius_arcsec)
    around = np.flatnonzero(ra_deg <= reach)  # these stand again beyond 360 degrees
    source = np.concatenate([np.arange(len(ra_deg)), around])
    strip = np.floor((dec_deg[source] + 90.0) / height)
    key = strip * _STRIDE + ra_deg[source]
    key[len(ra_deg) :] += 360.0
    order = np.argsort(key)
    key, source = key[order], source[order]
    reach = reach[source]
    found: list[NDArray[np.int64]] = []
    for lo in range(0, len(key), AT_ONCE):
        here, span = key[lo : lo + AT_ONCE], reach[lo : lo + AT_ONCE]
        who = np.arange(lo, lo + len(here))
        above = np.searchsorted(key, here + (_STRIDE - span))
        found += _runs(key, who, who + 1, here + span)
        found += _runs(key, who, above, here + (_STRIDE + span))
    if not found:
        return none
    pairs = np.concatenate(found)  # (m, 2) places in the order of keys
    pairs = np.sort(source[pairs], axis=1)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    pairs = np.stack(np.divmod(np.unique(pairs[:, 0] * len(ra_deg) + pairs[:, 1]), len(ra_deg)), axis=1)
    radius = math.radians(radius_arcsec / 3600.0)
    chord = 2.0 * math.sin(radius / 2.0) * (1.0 + 1e-9)
    a, b = (unit_vectors(ra_deg[pairs[:, k]], dec_deg[pairs[:, k]]) for k in (0, 1))
    near: NDArray[np.int64] = pairs[np.sum((a - b) ** 2, axis=1) <= chord**2]
    return near


def _reach(dec_deg: NDArray[np.float64], height: float, radius_arcsec: float) -> NDArray[np.float64]:
    """Difference in right ascension beyond which nothing in the same or the next strip is near [deg]."""
    edge = np.minimum(np.abs(dec_deg) + 2.0 * height, 90.0)
    half = math.sin(math.radians(radius_arcsec / 3600.0) / 2.0)
    with np.errstate(divide="ignore"):
        ratio = np.minimum(1.0, half / np.maximum(np.cos(np.radians(edge)), 0.0))
    return np.minimum(180.0, np.degrees(2.0 * np.arcsin(ratio))) + _SLACK_DEG


def _runs(
    key: NDArray[np.float64], who: NDArray[np.int64], at: NDArray[np.int64], upto: NDArray[np.float64]
) -> list[NDArray[np.int64]]:
    """Pairs of each row with those from its place on whose keys are not beyond a limit."""
    found = []
    while len(who):
        inside = at < len(key)
        inside[inside] = key[at[inside]] <= upto[inside]
        who, at, upto = who[inside], at[inside], upto[inside]
        if len(who):
            found.append(np.stack([who, at], axis=1))
        at = at + 1
    return found
