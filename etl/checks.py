"""What can be wrong with a survey file or a row of it, and the small rules by which that is decided.

A *fatal* fault means that nothing was loaded of the file or row; any other was repaired or masked, and
the reject row says how. Every fault has one of the codes in `REASONS`.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schema.errors import DataError

REASONS: dict[str, str] = {
    "not_sdss": "the file is none of the SDSS formats that ingest reads",
    "not_fits": "the file is no FITS file and no SkyServer CSV",
    "unreadable": "the file could not be opened or read",
    "truncated": "the file ends before its header says it does, or its compressed stream is cut short",
    "damaged": "neither the fast reader nor astropy could make sense of the file",
    "empty": "the file or its table has no rows",
    "missing_columns": "columns that a row or spectrum cannot do without are absent",
    "bad_column": "a column has a type from which its value cannot be read",
    "missing_hdu": "an HDU that the format needs is absent",
    "bad_unit": "flux is given in another unit than 1e-17 erg/s/cm2/Angstrom",
    "off_grid": "pixels do not lie on the common grid of 1e-4 dex",
    "outside_grid": "pixels lie outside the range of the shards",
    "bad_position": "right ascension or declination is missing, not finite or out of range",
    "bad_identity": "plate, MJD and fibre do not identify a spectrum",
    "negative_ivar": "pixels with negative inverse variance",
    "nonfinite": "pixels with a flux or inverse variance that is not a finite number",
    "no_good_pixels": "no pixel has a positive inverse variance",
    "specobjid_mismatch": "specObjID disagrees with plate, MJD, fibre and run2d",
    "duplicate_row": "the same plate, MJD and fibre came twice in one file",
    "no_redshift_file": "an spPlate file without its spZbest: no redshifts and no pipeline models",
    "not_image": "the file holds no image that ingest reads",
    "not_catalogue": "the table has no position and no photometry that ingest knows by their column names",
    "pickled": "an array holds pickled Python objects, which are never unpacked",
    "unknown_band": "neither the header nor the name of the file says in which band the image is",
    "assumed_bands": "the bands are not stated and were taken from the number of images",
    "band_mismatch": "the bands of one object differ in size or in their position on the sky",
    "missing_bands": "an object lacks a band that its neighbours have",
    "blank_stamp": "all pixels are missing, or all have one value",
    "saturated": "a share of the pixels stands at the brightest value",
    "unknown_zeropoint": "nothing in the file says what magnitude a count is",
    "odd_pixscale": "the pixel scale is not one of the instrument that the header names",
    "psf_sum": "a point spread function does not sum to one",
    "bad_psf": "a point spread function cannot be read or has no peak",
    "no_position": "neither header, name, catalogue nor known lenses give a position",
    "coarse_position": "the position comes from a name that gives it to arcminutes only",
    "position_mismatch": "the header's position is not the one that the name gives",
    "fake_position": "the position in the file is a stand-in, as the image is simulated",
    "flux_as_magnitude": "a column named as a magnitude holds what can only be fluxes",
    "bad_magnitude": "a magnitude outside 0 to 50 that is no sentinel; null instead",
    "not_primary": "the survey says that the row is a duplicate of another",
    "bad_row": "lines of a table with another number of fields than it has columns",
    "duplicate_object": "the same object came twice in one file",
    "no_sources": "nothing on the tile passes the cuts",
    "edge": "too near the edge of the tile for a whole cutout",
    "more_like_this": "faults of one kind beyond the first thousand of a file are counted, not listed",
}
"""Reason codes and what they mean."""

LISTED_PER_REASON = 1000
"""Non-fatal faults of one kind that are listed row by row for one file."""

_UNIT_WORDS = {"ergs": "erg", "sec": "s", "ang": "a", "angstrom": "a", "angstroms": "a"}
FLUX_UNIT_TEXT = "1e-17 erg/s/cm2/Angstrom"


class Fault(DataError):
    """A fatal fault of a file: `code` from REASONS, the sentence for people, and where it was found.

    ``content_hash``, ``size`` and ``modified_at`` are set where the file's bytes were read before they proved
    bad.
    """

    content_hash = ""
    size = 0
    modified_at: datetime.datetime | None = None

    def __init__(self, code: str, reason: str, hdu: int | None = None) -> None:
        super().__init__(reason)
        self.code, self.reason, self.hdu = code, reason, hdu

    def __reduce__(self) -> tuple[Any, ...]:
        return (Fault, (self.code, self.reason, self.hdu))


@dataclass(frozen=True)
class Note:
    """One row of `reject` before it knows its file."""

    code: str
    reason: str
    fatal: bool
    hdu: int | None = None
    row: int | None = None
    native_id: str | None = None


def flux_unit_ok(text: str | None) -> bool:
    """Whether a unit means 1e-17 erg/s/cm2/Angstrom; a file that states none is taken at SDSS's word."""
    if text is None or not text.strip():
        return True
    plain = re.sub(r"[\s*]+", " ", text.lower().replace("**", "^"))
    number = re.match(r"\s*(1(?:\.0*)?e-17|10 ?\^ ?\(?-17\)?)(.*)", plain)
    if not number:
        return False
    divided = False
    found = {}
    for slash, word, power in re.findall(r"(/)|([a-z]+)\^?\(?(-?\d+)?|[0-9]", number[2]):
        divided |= bool(slash)
        if word:
            found[_UNIT_WORDS.get(word, word)] = (int(power or 1), divided)
    below = all(divided or power < 0 for name, (power, divided) in found.items() if name != "erg")
    return below and {name: abs(power) for name, (power, _) in found.items()} == {
        "erg": 1,
        "s": 1,
        "cm": 2,
        "a": 1,
    }


def run2d_order(run2d: str | None) -> int:
    """Number by which reductions sort: SDSS's 26, 103, 104 first, then v5_4_45 < v5_7_0 < v5_10_0 < v6_0_1.

    An unknown or missing name sorts before all.
    """
    text = (run2d or "").strip()
    if text.isdigit() and text.isascii():
        return min(int(text), 10**8)
    found = re.fullmatch(r"v(\d{1,4})_(\d{1,4})_(\d{1,4})", text)
    if not found:
        return -1
    a, b, c = (int(x) for x in found.groups())
    return 10**9 + (a * 10_000 + b) * 10_000 + c


def run2d_bits(run2d: str | None) -> int:
    """The reduction as SDSS packs it into specObjID: 26 -> 26, v5_7_0 -> 700; -1 where it has no such
    number.
    """
    text = (run2d or "").strip()
    if text.isdigit() and text.isascii():
        number = int(text) if len(text) < 6 else -1
    else:
        found = re.fullmatch(r"v(\d{1,4})_(\d{1,4})_(\d{1,4})", text)
        if not found:
            return -1
        a, b, c = (int(x) for x in found.groups())
        number = (a - 5) * 10_000 + b * 100 + c
    return number if 0 <= number < 1 << 14 else -1


def spec_obj_id(
    plate: ArrayLike, mjd: ArrayLike, fiber: ArrayLike, run2d: ArrayLike
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """SDSS's specObjID from what it packs.

    Parameters
    ----------
    plate, mjd, fiber, run2d : array_like of int, shape (n,)
        ``run2d`` as `run2d_bits` gives it.

    Returns
    -------
    packed : ndarray of uint64, shape (n,)
        ``plate << 50 | fiber << 38 | (mjd - 50000) << 24 | run2d << 10``.
    known : ndarray of bool, shape (n,)
        False where a part does not fit its bits.
    """
    p, m, f, r = (np.asarray(x, dtype=np.int64) for x in (plate, mjd, fiber, run2d))
    m = m - 50_000
    known = (p >= 0) & (p < 1 << 14) & (f >= 0) & (f < 1 << 12) & (m >= 0) & (m < 1 << 14) & (r >= 0)
    up, um, uf, ur = (np.where(known, x, 0).astype(np.uint64) for x in (p, m, f, r))
    shift = [np.uint64(s) for s in (50, 38, 24, 10)]
    return (up << shift[0]) | (uf << shift[1]) | (um << shift[2]) | (ur << shift[3]), known
