"""Survey files as SDSS and BOSS serve them, written fast enough for a mock survey of thousands.

``spec-PLATE-MJD-FIBER.fits`` in the BOSS "lite" layout: PRIMARY, COADD, one row of spAll, SPZLINE;
``specObj`` as one binary table of the 126 SDSS columns. An empty file is laid out once by astropy and
its bytes are then filled in place, so that a file costs about one copy of its 216 kB.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

CARD = 80
BLOCK = 2880
PRIMARY_CARDS: tuple[tuple[str, Any, str], ...] = (
    ("TELESCOP", "SDSS 2.5-M", "Sloan Digital Sky Survey"),
    ("FLAVOR", "science", "exposure type, SDSS spectro style"),
    ("MJD", 0, "APO MJD day at start of exposure"),
    ("RA", 0.0, "RA of telescope boresight (deg)"),
    ("DEC", 0.0, "DEC of telescope boresight (deg)"),
    ("EQUINOX", 2000.0, ""),
    ("RADECSYS", "FK5", ""),
    ("PLATEID", 0, "The currently loaded plate"),
    ("EXPTIME", 5400.0, "Minimum of exposure times for all cameras"),
    ("RUN2D", "v5_13_0", "Spectro-2D reduction name"),
    ("VACUUM", True, "Wavelengths are in vacuum"),
    ("COEFF0", 0.0, "Central wavelength (log10) of first pixel"),
    ("COEFF1", 1e-4, "Log10 dispersion per pixel"),
    ("DC-FLAG", 1, "Log-linear flag"),
    ("BUNIT", "1E-17 erg/cm^2/s/Ang", "flux units"),
    ("PLUG_RA", 0.0, "RA of object [deg]"),
    ("PLUG_DEC", 0.0, "dec of object [deg]"),
    ("FIBERID", 0, "Fiber number (1-1000)"),
    ("SIMULATD", True, "A mock spectrum: simulated, not observed"),
)


@cache
def layout(table: str) -> tuple[tuple[str, str], ...]:
    """Names and FITS formats of the columns of coadd, spall, spzline or specobj, in the surveys' order."""
    text = resources.files("scoring").joinpath("data/mock_columns.json").read_text()
    return tuple((name, form) for name, form in json.loads(text)[table])


def empty_table(table: str, n_rows: int, name: str) -> fits.BinTableHDU:
    """A binary table of zeros and blanks with the survey's columns."""
    columns = fits.ColDefs([fits.Column(name=c, format=form) for c, form in layout(table)])
    return fits.BinTableHDU.from_columns(columns, nrows=n_rows, name=name)


class SpecFile:
    """The bytes of one spec file, laid out once and filled for each spectrum.

    Parameters
    ----------
    pix0 : int
        Grid index of the first pixel (log10 wavelength / 1e-4).
    npix : int
        Number of pixels.
    """

    def __init__(self, pix0: int, npix: int) -> None:
        self.pix0, self.npix = pix0, npix
        primary = fits.PrimaryHDU()
        for key, value, comment in PRIMARY_CARDS:
            primary.header[key] = (value, comment)
        tables = [
            empty_table("coadd", npix, "COADD"),
            empty_table("spall", 1, "SPALL"),
            empty_table("spzline", 32, "SPZLINE"),
        ]
        self._bytes, starts = _join([primary, *tables])
        self._cards = {key: primary.header.index(key) * CARD for key, _, _ in PRIMARY_CARDS}
        self.coadd = _view(self._bytes, starts[1], tables[0])
        self.row = _view(self._bytes, starts[2], tables[1])
        self._blank = self.row.copy()
        self.coadd["loglam"] = (pix0 + np.arange(npix)) * 1e-4

    def fill(self, header: dict[str, Any], row: dict[str, Any], pixels: dict[str, NDArray[Any]]) -> None:
        """Put one spectrum in.

        Parameters
        ----------
        header : dict
            Values of numeric cards of the primary header.
        row : dict
            Values of spAll columns; those not named are zero or blank.
        pixels : dict of array, shape (npix,)
            COADD columns: flux, ivar, and_mask, or_mask, wdisp, sky, model.
        """
        for key, value in header.items():
            at = self._cards[key] + 10
            text = f"{value:20.8f}" if isinstance(value, float) else f"{value:20d}"
            self._bytes[at : at + 20] = np.frombuffer(text.encode("ascii"), np.uint8)
        self.row[:] = self._blank
        _fill_rows(self.row, {k: [v] for k, v in row.items()})
        for column, values in pixels.items():
            self.coadd[column] = values

    def write(self, path: Path) -> int:
        """Write the file as it stands now; returns its size [byte]."""
        return path.write_bytes(self._bytes.data)


def write_specobj(path: Path, columns: dict[str, Any], n_rows: int) -> None:
    """Write a specObj table of the 126 SDSS columns.

    Parameters
    ----------
    path : Path
        File to write.
    columns : dict of array_like, shape (n_rows, ...)
        Values by column name; columns not named are zero or blank.
    n_rows : int
        Number of rows.
    """
    table = empty_table("specobj", n_rows, "")
    raw, starts = _join([fits.PrimaryHDU(), table])
    _fill_rows(_view(raw, starts[1], table), columns)
    path.write_bytes(raw.data)


def specobj_id(plate: NDArray[Any], mjd: NDArray[Any], fiber: NDArray[Any], run2d: str) -> NDArray[np.uint64]:
    """SDSS specObjID: plate << 50 | fibre << 38 | (MJD - 50000) << 24 | run2d << 10, unsigned 64-bit."""
    major, minor, patch = (int(x) for x in run2d.lstrip("v").split("_"))
    run = np.uint64((major - 5) * 10000 + minor * 100 + patch)
    p, m, f = (np.asarray(x).astype(np.uint64) for x in (plate, mjd, fiber))
    shift = [np.uint64(s) for s in (50, 38, 24, 10)]
    packed: NDArray[np.uint64] = (
        (p << shift[0]) | (f << shift[1]) | ((m - np.uint64(50000)) << shift[2]) | (run << shift[3])
    )
    return packed


def _join(hdus: list[Any]) -> tuple[NDArray[np.uint8], list[int]]:
    """Bytes of the HDUs one after another, and where the data of each begins."""
    pieces: list[bytes] = []
    starts, at = [], 0
    for hdu in hdus:
        head = hdu.header.tostring().encode("ascii")
        data = b"" if hdu.data is None else hdu.data.view(np.ndarray).tobytes()
        starts.append(at + len(head))
        pieces += [head, data + b"\0" * (-len(data) % BLOCK)]
        at += len(head) + len(pieces[-1])
    return np.frombuffer(b"".join(pieces), np.uint8).copy(), starts


def _view(raw: NDArray[np.uint8], start: int, hdu: fits.BinTableHDU) -> NDArray[Any]:
    dtype = hdu.data.dtype.newbyteorder(">")
    return raw[start : start + dtype.itemsize * len(hdu.data)].view(dtype)


def _fill_rows(rows: NDArray[Any], columns: dict[str, Any]) -> None:
    """Assign by name; text is padded with blanks as FITS writers do."""
    for name, values in columns.items():
        kind = rows.dtype[name]
        if kind.kind == "S":
            text = np.char.ljust(np.asarray(values).astype(str), kind.itemsize)
            rows[name] = text.astype(f"S{kind.itemsize}")
        else:
            rows[name] = values
