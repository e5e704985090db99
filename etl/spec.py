"""Spec files: one spectrum with its catalogue row, lite or full, from SDSS, BOSS or eBOSS.

HDU 1 holds the co-added pixels, HDU 2 one row of specObj or spAll; names of HDUs, the order of columns
and their case differ between reductions and are not relied upon. The header's RA and DEC are the plate's,
so the position comes from HDU 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etl.checks import Fault
from etl.columns import pick_row
from etl.fits_fast import Buffer, FitsBytes, Hdu, Layout, NotRecognised, unscaled

PIXEL_COLUMNS = ("LOGLAM", "FLUX", "IVAR", "AND_MASK", "MODEL", "SKY")
NEEDED = ("FLUX", "LOGLAM", "IVAR", "AND_MASK")
TABLES_SEARCHED = 4
"""The pixels and the row are looked for among the HDUs 1 to this number less one."""


@dataclass
class RawSpec:
    """What a spec file says, before any check of its values.

    ``pixels`` holds loglam [dex], flux and model and sky [1e-17 erg/s/cm2/Angstrom], ivar and and_mask,
    each of shape (npix,), native or big-endian; model and sky may be absent. ``row`` holds the fields of
    etl.columns.
    """

    pixels: dict[str, NDArray[Any]]
    row: dict[str, Any]
    hdu: int
    units: tuple[str | None, ...]
    simulated: bool


def read_spec(buf: Buffer) -> RawSpec:
    """Read a spec file by the fast reader, or by astropy where that does not recognise it.

    Raises
    ------
    Fault
        When the file is no spec file or is damaged; the code says which.
    """
    try:
        return read_spec_fast(buf)
    except NotRecognised:
        from etl.fits_slow import read_spec_slow

        return read_spec_slow(buf)


def read_spec_fast(buf: Buffer) -> RawSpec:
    """Read a spec file from its bytes; NotRecognised where its layout is not understood."""
    fits = FitsBytes(buf)
    primary = fits.hdu(0)
    assert primary is not None
    coadd: tuple[Hdu, Layout] | None = None
    objects: Hdu | None = None
    for k in range(1, TABLES_SEARCHED):
        hdu = fits.hdu(k)
        if hdu is None:
            break
        if hdu.kind != "BINTABLE":
            continue
        layout = fits.layout(hdu)
        if coadd is None and is_coadd(set(layout.columns)):
            coadd = (hdu, layout)
        elif objects is None and {"PLATE", "MJD", "FIBERID"} <= set(layout.columns) and layout.n_rows == 1:
            objects = hdu
        if coadd is not None and objects is not None:
            break
    if coadd is None:
        raise Fault("not_sdss", "no table with flux, loglam and ivar: not an SDSS spectrum")
    check_parts(set(coadd[1].columns), coadd[1].n_rows, coadd[0].index, objects is not None)
    assert objects is not None
    unit = coadd[1].columns["FLUX"].unit
    return RawSpec(
        _pixels(fits, *coadd),
        pick_row(fits, objects),
        coadd[0].index,
        (_text(primary.get("BUNIT")), unit),
        primary.get("SIMULATD") is True,
    )


def is_coadd(names: set[str]) -> bool:
    """Whether a table's columns are those of co-added pixels, even if one is missing."""
    return len(names & {"FLUX", "LOGLAM", "IVAR"}) >= 2


def check_parts(names: set[str], n_rows: int, hdu: int, has_row: bool) -> None:
    """Refuse pixels that lack columns or rows, and a file without the row of specObj."""
    missing = [n for n in NEEDED if n not in names]
    if missing:
        raise Fault("missing_columns", f"HDU {hdu} lacks the columns {', '.join(missing)}", hdu)
    if n_rows < 1:
        raise Fault("empty", f"HDU {hdu} has no pixels", hdu)
    if not has_row:
        raise Fault(
            "missing_hdu", "no HDU with the one row of specObj or spAll: the object's position is unknown"
        )


def _pixels(fits: FitsBytes, hdu: Hdu, layout: Layout) -> dict[str, NDArray[Any]]:
    dtype = layout.plans.get(1)
    if dtype is None:
        names = [n for n in PIXEL_COLUMNS if n in layout.columns]
        columns = [layout.columns[n] for n in names]
        for column in columns:
            if column.is_text or column.repeat != 1:
                raise Fault(
                    "bad_column", f"column {column.name} has format {column.repeat}{column.code}", hdu.index
                )
        dtype = layout.plans[1] = np.dtype(
            {
                "names": names,
                "formats": [c.numpy_type() for c in columns],
                "offsets": [c.offset for c in columns],
                "itemsize": layout.row_bytes,
            }
        )
    records = fits.rows(hdu, dtype)
    out = {}
    for name in dtype.names or ():
        column = layout.columns[name]
        plain = column.scale == 1.0 and column.zero == 0
        out[name.lower()] = records[name] if plain else unscaled(records[name], column)
    return out


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
