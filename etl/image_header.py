"""What an image's header says of its pixels: band, instrument, zero point, exposure, position and scale."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from etl.image_names import canonical_band

Get = Callable[[str], Any]
"""Value of a header card; None where it is absent or blank."""

_ZERO_KEYS = ("MAGZERO", "MAGZPT", "MAGZP", "PHOTZP", "ZEROPNT", "SEXMGZPT", "ABMAGZP", "ZPT")
_JANSKY = {"njy": 31.4, "ujy": 23.9, "mjy": 16.4, "jy": 8.9}
_INSTRUMENT_WORDS = (
    ("acs", "acs"), ("wfc3", "wfc3"), ("wfpc2", "wfpc2"), ("megaprime", "megacam"), ("megacam", "megacam"),
    ("decam", "decam"), ("hyper suprime", "hsc"), ("hsc", "hsc"),
)  # fmt: skip
PIXSCALES = {
    "acs": (0.02, 0.11),
    "wfc3": (0.02, 0.20),
    "hsc": (0.16, 0.18),
    "megacam": (0.18, 0.19),
    "decam": (0.25, 0.28),
}
"""Pixel scales in which images of an instrument come, drizzled or not [arcsec]."""


class Orientation(NamedTuple):
    """How an image lies on the sky, rows counted upwards.

    Attributes
    ----------
    orientat_deg : position angle of the +y axis, east of north [deg, 0 to 360), as HST's card ORIENTAT
    parity : 1 where east is a quarter turn counter-clockwise from north, as on the sky; -1 where mirrored
    """

    orientat_deg: float
    parity: int

    def differs(self, other: Orientation, deg: float = 1.0) -> bool:
        """Whether another image is mirrored against this one, or turned by more than some degrees."""
        turned = (other.orientat_deg - self.orientat_deg + 180.0) % 360.0 - 180.0
        return self.parity != other.parity or abs(turned) > deg


@dataclass(frozen=True)
class Sky:
    """Middle of an image on the sky, its pixel scale and orientation, and the header's coordinates."""

    ra_deg: float
    dec_deg: float
    pixscale_arcsec: float
    crpix: tuple[float, float]
    crval: tuple[float, float]
    cd: tuple[float, float, float, float]
    orientation: Orientation

    @property
    def is_stand_in(self) -> bool:
        """Whether the reference position is (0, 0), as simulations write."""
        return self.crval == (0.0, 0.0)


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def text(value: Any) -> str | None:
    """Text that is not blank, or None."""
    return value.strip() or None if isinstance(value, str) else None


def band_of(get: Get) -> str | None:
    """Band by the cards FILTER, BAND, FILTER1, FILTER2 or PHOTMODE."""
    for key in ("FILTER", "BAND", "FILTER1", "FILTER2", "PHOTMODE"):
        band = canonical_band(text(get(key)))
        if band:
            return band
    return None


def instrument_of(get: Get) -> str | None:
    """Instrument by its own cards and by those that only its pipeline writes."""
    named = " ".join(filter(None, (text(get(k)) for k in ("INSTRUME", "PHOTMODE", "DETECTOR", "TELESCOP"))))
    low = named.lower()
    for word, instrument in _INSTRUMENT_WORDS:
        if word in low:
            return instrument
    filters = text(get("FILTER")) or ""
    if "DECam" in filters:
        return "decam"
    if re.search(r"\.MP9\d{3}", filters):
        return "megacam"
    if filters.startswith("HSC-") or text(get("USER")) == "hsc":
        return "hsc"
    return None


def zeropoint_of(get: Get) -> float | None:
    """AB magnitude of one unit of the image; None where the header does not say.

    In order: FLUXMAG0 (the LSST stack's), a unit of maggies or janskys, PHOTFLAM with PHOTPLAM (ACS Data
    Handbook, section 5.1: -2.5 lg PHOTFLAM - 5 lg PHOTPLAM - 2.408, for counts per second), zero point
    cards.
    """
    flux0 = number(get("FLUXMAG0"))
    if flux0 and flux0 > 0:
        return 2.5 * math.log10(flux0)
    unit = (text(get("BUNIT")) or "").lower()
    scale = re.match(r"\s*([0-9.]+(?:e[+-]?\d+)?)", unit)
    factor = float(scale[1]) if scale else 1.0
    word = re.sub(r"^[\s0-9.e+*-]*", "", unit).strip() if scale else unit
    if factor > 0:
        if word.startswith("nanomagg") or word in ("nmgy", "nanomaggies"):
            return 22.5 - 2.5 * math.log10(factor)
        if word in _JANSKY:
            return _JANSKY[word] - 2.5 * math.log10(factor)
    flam, plam = number(get("PHOTFLAM")), number(get("PHOTPLAM"))
    if flam and plam and flam > 0 and plam > 0:
        zero = -2.5 * math.log10(flam) - 5.0 * math.log10(plam) - 2.408
        drizzled = (text(get("D001OUUN")) or "").lower()
        per_second = "cps" in (drizzled, unit) or bool(re.search(r"/\s*s|s-1|per\s*s", unit))
        if per_second:
            return zero
        exposure = number(get("EXPTIME"))
        return zero + 2.5 * math.log10(exposure) if exposure and exposure > 0 and unit else None
    for key in _ZERO_KEYS:
        zero_card = number(get(key))
        if zero_card is not None and 10.0 < zero_card < 45.0:
            return zero_card
    return None


def electrons_per_unit(get: Get) -> float | None:
    """Electrons behind one unit of the image, by its unit and exposure; None where they do not say.

    Counts per second are taken for electrons per second, as the drizzled images of HST are.
    """
    unit = (text(get("BUNIT")) or text(get("D001OUUN")) or "").lower()
    if unit in ("electron", "electrons", "e", "e-"):
        return 1.0
    rate = unit == "cps" or re.match(r"(electrons?|e-?|counts?|ct)\s*(/\s*s|per\s*s|s-1|s\^-1|s\*\*-1)", unit)
    exposure = number(get("EXPTIME"))
    return exposure if rate and exposure and exposure > 0 else None


def is_line_map(unit: str | None) -> bool:
    """Whether a unit is energy without a spectral density: an image of line emission, not of a band."""
    low = (unit or "").lower()
    return "erg" in low and not re.search(r"angstrom|\bhz\b|\ba\b|micron|\bum\b|nm", low)


def sky_of(get: Get, ny: int, nx: int) -> Sky | None:
    """Middle and scale of an image by its gnomonic world coordinates.

    Parameters
    ----------
    get : callable
        The header.
    ny, nx : int
        Size [pixel].

    Returns
    -------
    Sky or None
        None without usable celestial coordinates, or with another projection, which astropy may know.
    """
    kinds = (text(get("CTYPE1")) or "", text(get("CTYPE2")) or "")
    if kinds != ("RA---TAN", "DEC--TAN") or number(get("LONPOLE")) not in (None, 180.0):
        return None
    crpix = [number(get(f"CRPIX{k}")) for k in (1, 2)]
    crval = [number(get(f"CRVAL{k}")) for k in (1, 2)]
    cd = _matrix(get)
    if None in crpix or None in crval or cd is None:
        return None
    (p1, p2), (v1, v2) = (tuple(float(x or 0.0) for x in pair) for pair in (crpix, crval))
    x, y = (nx + 1) / 2.0, (ny + 1) / 2.0
    ra, dec = tan_sky(*tangent(cd, (p1, p2), x, y), v1, v2)
    scale = 3600.0 * math.sqrt(abs(cd[0] * cd[3] - cd[1] * cd[2]))
    return Sky(ra, dec, scale, (p1, p2), (v1, v2), cd, tan_orientation(cd, (p1, p2), (v1, v2), x, y))


Four = tuple[float, float, float, float]
Two = tuple[float, float]


def tangent(cd: Four, crpix: Two, x: float, y: float) -> Two:
    """Point of the tangent plane of a pixel, counted from 1 [deg]."""
    dx, dy = x - crpix[0], y - crpix[1]
    return cd[0] * dx + cd[1] * dy, cd[2] * dx + cd[3] * dy


def tan_orientation(cd: Four, crpix: Two, crval: Two, x: float, y: float) -> Orientation:
    """Orientation at a pixel, counted from 1, of an image in gnomonic projection: by where north is there."""
    return orientation_at(lambda x, y: tan_sky(*tangent(cd, crpix, x, y), *crval), x, y)


def orientation_at(sky: Callable[[float, float], Two], x: float, y: float) -> Orientation:
    """Orientation at a pixel by the sky positions [deg] of points half a pixel around it."""
    dec = sky(x, y)[1]

    def step(dx: float, dy: float) -> Two:
        (ra1, dec1), (ra2, dec2) = sky(x - dx, y - dy), sky(x + dx, y + dy)
        return ((ra2 - ra1 + 180.0) % 360.0 - 180.0) * math.cos(math.radians(dec)), dec2 - dec1

    (east_x, north_x), (east_y, north_y) = step(0.5, 0.0), step(0.0, 0.5)
    return orientation_of(east_x, east_y, north_x, north_y)


def orientation_of(east_x: float, east_y: float, north_x: float, north_y: float) -> Orientation:
    """Orientation by how east (right ascension times cos dec) and north grow along x and y."""
    angle = math.degrees(math.atan2(east_y, north_y)) % 360.0
    return Orientation(angle, 1 if east_x * north_y - east_y * north_x < 0.0 else -1)


def tan_sky(xi_deg: float, eta_deg: float, ra0_deg: float, dec0_deg: float) -> tuple[float, float]:
    """Sky position of a point on the tangent plane (Calabretta & Greisen 2002, section 5.1.3) [deg]."""
    xi, eta = math.radians(xi_deg), math.radians(eta_deg)
    d0 = math.radians(dec0_deg)
    below = math.cos(d0) - eta * math.sin(d0)
    ra = math.radians(ra0_deg) + math.atan2(xi, below)
    dec = math.atan2(math.sin(d0) + eta * math.cos(d0), math.hypot(xi, below))
    return math.degrees(ra) % 360.0, math.degrees(dec)


def _matrix(get: Get) -> tuple[float, float, float, float] | None:
    """CD matrix [deg / pixel], made from PC and CDELT, or CDELT and CROTA2, where it is not given."""
    cd = [number(get(k)) for k in ("CD1_1", "CD1_2", "CD2_1", "CD2_2")]
    if any(v is not None for v in cd):
        full = [v or 0.0 for v in cd]
    else:
        d1, d2 = number(get("CDELT1")), number(get("CDELT2"))
        pc = [number(get(k)) for k in ("PC1_1", "PC1_2", "PC2_1", "PC2_2")]
        if d1 is None or d2 is None:
            return None
        if any(v is not None for v in pc):
            given = [
                v if v is not None else default for v, default in zip(pc, (1.0, 0.0, 0.0, 1.0), strict=True)
            ]
        else:
            angle = math.radians(number(get("CROTA2")) or 0.0)
            ratio = d2 / d1 if d1 else 1.0
            given = [math.cos(angle), -math.sin(angle) * ratio, math.sin(angle) / ratio, math.cos(angle)]
        full = [given[0] * d1, given[1] * d1, given[2] * d2, given[3] * d2]
    if not abs(full[0] * full[3] - full[1] * full[2]) > 0.0:
        return None
    return full[0], full[1], full[2], full[3]
