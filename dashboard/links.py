"""Addresses of the surveys' own viewers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote


def viewer_links(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and address of each viewer that may show the object.

    Parameters
    ----------
    row : dict
        survey, ra_deg, dec_deg, and plate, mjd, fiber_id where it has a spectrum.
    """
    ra, dec = f"{row['ra_deg']:.6f}", f"{row['dec_deg']:.6f}"
    place = quote(f"{ra} {dec}")
    out = []
    if row.get("survey") == "sdss" and row.get("plate"):
        query = f"plateid={row['plate']}&mjd={row['mjd']}&fiber={row['fiber_id']}"
        out.append(("SDSS spectrum", f"https://dr18.sdss.org/optical/spectrum/view?{query}"))
    out += [
        ("SDSS sky", f"https://skyserver.sdss.org/dr18/VisualTools/explore/summary?ra={ra}&dec={dec}"),
        ("Legacy Surveys", f"https://www.legacysurvey.org/viewer?ra={ra}&dec={dec}&zoom=15&layer=ls-dr10"),
        (
            "HSC map",
            f"https://hsc-release.mtk.nao.ac.jp/hscMap-pdr3/app/#/?_=%7B%22view%22%3A%7B%22a%22%3A{ra}%2C%22d%22%3A{dec}%7D%7D",
        ),
        ("Aladin", f"https://aladin.cds.unistra.fr/AladinLite/?target={place}&fov=0.02"),
        (
            "SIMBAD",
            (f"https://simbad.cds.unistra.fr/simbad/sim-coo?Coord={place}&Radius=10&Radius.unit=arcsec"),
        ),
        (
            "NED",
            f"https://ned.ipac.caltech.edu/conesearch?search_type=Near%20Position%20Search&ra={ra}d&dec={dec}d&radius=0.2",
        ),
    ]
    return out
