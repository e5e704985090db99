"""Whether the bands of a cutout fit each other, and where it may lie on the sky."""

from __future__ import annotations

import math

from etl.image_batch import Cutout
from etl.image_names import NamePosition
from etl.image_planes import Plane

BAND_ORDER = ("u", "g", "r", "i", "z", "y")


def by_scale(planes: list[Plane]) -> str | None:
    """HSC's coadds have 0.168 arcsec a pixel, as no other survey has, and often do not say what they are."""
    scales = {round(p.pixscale, 3) for p in planes if p.pixscale}
    return "hsc" if scales == {0.168} and all(p.band in BAND_ORDER[1:] for p in planes) else None


def mismatch(a: Plane, b: Plane) -> str | None:
    """In what two bands of one cutout differ, or None."""
    if a.pixels.shape != b.pixels.shape:
        (ny, nx), (by, bx) = a.pixels.shape, b.pixels.shape
        return f"has {bx} x {by} pixels, the others {nx} x {ny}"
    if a.sky is None or b.sky is None:
        return None
    scale = a.sky.pixscale_arcsec
    if not abs(b.sky.pixscale_arcsec / scale - 1.0) < 0.01:
        return f"has {b.sky.pixscale_arcsec:.4f} arcsec a pixel, the others {scale:.4f}"
    apart = separation(a.sky.ra_deg, a.sky.dec_deg, b.sky.ra_deg, b.sky.dec_deg)
    if apart > 0.5 * scale:
        return f"lies {apart:.2f} arcsec away from the others, more than half a pixel"
    if a.orientation is not None and b.orientation is not None and a.orientation.differs(b.orientation):
        mirrored = "" if a.orientation.parity == b.orientation.parity else ", mirrored"
        return (
            f"has its y axis at {b.orientation.orientat_deg:.1f} deg east of north, the others at "
            f"{a.orientation.orientat_deg:.1f}{mirrored}"
        )
    return None


def separation(ra1: float, dec1: float, ra2: float, dec2: float) -> float:
    """Angle between two positions [deg] in arcsec."""
    d1, d2, dr = math.radians(dec1), math.radians(dec2), math.radians(ra2 - ra1)
    h = math.sin((d2 - d1) / 2) ** 2 + math.cos(d1) * math.cos(d2) * math.sin(dr / 2) ** 2
    return 2 * math.degrees(math.asin(min(1.0, math.sqrt(h)))) * 3600.0


def outside(ra: float, dec: float, name: NamePosition, cutout: Cutout) -> bool:
    """Whether a position lies outside what a name allows, with half the cutout to spare."""
    reach = max(cutout.image.shape[1:]) * (cutout.pixscale or 0.3) / 2.0
    d_dec = abs(dec - name.dec_deg) * 3600.0
    d_ra = abs((ra - name.ra_deg + 180.0) % 360.0 - 180.0) * 3600.0
    near_pole = max(math.cos(math.radians(dec)), 1e-6)
    return d_dec > name.half_dec_arcsec * 1.5 + reach or d_ra > name.half_ra_arcsec * 1.5 + reach / near_pole
