"""Catalogues of spectra: specObj, spAll and spZbest tables and SkyServer CSVs, read a piece at a time.

A piece is a dict of the fields of etl.columns. Tables are mapped and copied column by column in blocks
that stay in the processor's cache; what the fast reader does not recognise goes through astropy.
"""

from __future__ import annotations

import io
import mmap
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etl.checks import Fault, Note
from etl.columns import IDENTITY, REDSHIFT, make_plan, require
from etl.fits_fast import Buffer, FitsBytes, Hdu, NotRecognised, unscaled

PIECE_ROWS = 245_760
"""Rows to a piece: two row groups of DuckDB."""

BLOCK_ROWS = 2048
TABLES_SEARCHED = 3
_KEYS = {"PLATE", "MJD", "FIBERID"}

CSV_FIELDS = {
    "plate": "plate",
    "mjd": "mjd",
    "fiberid": "fiber_id",
    "ra": "ra_deg",
    "dec": "dec_deg",
    "objid": "best_obj_id",
    "bestobjid": "best_obj_id",
    "class": "class",
    "subclass": "subclass",
    "redshift": "z",
    "zerr": "z_err",
    "zwarning": "z_warning",
    "run2d": "run2d",
    "instrument": "instrument",
    "survey": "survey_name",
    "programname": "programname",
    "sourcetype": "sourcetype",
    "veldisp": "vdisp",
    "veldisperr": "vdisp_err",
    "snmedian": "sn_median_all",
}
"""SkyServer's column names and ours; its z is a redshift only in a table that holds no magnitudes."""

CSV_TEXT = {
    "class",
    "subclass",
    "run2d",
    "instrument",
    "survey_name",
    "programname",
    "sourcetype",
    "best_obj_id",
}


@dataclass
class Piece:
    """Some rows of a catalogue.

    ``first_row`` is the number of the first of them in the HDU ``hdu``; ``notes`` says what was left out, and
    ``numbers`` gives the number of each row, shape (n,), where some were.
    """

    fields: dict[str, Any]
    hdu: int | None
    first_row: int
    notes: tuple[Note, ...] = ()
    numbers: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.fields["plate"])


def find_table(fits: FitsBytes) -> Hdu | None:
    """The first of the leading tables that names spectra by plate, MJD and fibre, or by two of them."""
    for k in range(1, TABLES_SEARCHED):
        hdu = fits.hdu(k)
        if hdu is None:
            return None
        if hdu.kind == "BINTABLE" and len(_KEYS & set(fits.layout(hdu).columns)) > 1:
            return hdu
    return None


def catalogue_kind(path: str, names: set[str]) -> str:
    """specobj, spall or spzbest, by the file's name, else by its columns."""
    base = PurePosixPath(path.split("::", 1)[0]).name.lower()
    for kind in ("specobj", "spall", "spzbest"):
        if base.startswith(kind):
            return kind
    return "specobj" if {"SPECPRIMARY", "SURVEY"} <= names else "spall"


def read_catalogue(path: str, buf: Buffer) -> tuple[str, int, Iterator[Piece]]:
    """Open a FITS catalogue.

    Returns
    -------
    kind : str
        specobj, spall or spzbest.
    n_rows : int
        Rows of the table.
    pieces : iterator of Piece
        The rows, `PIECE_ROWS` at a time.

    Raises
    ------
    Fault
        When the file is no catalogue of spectra, is damaged, or lacks columns.
    """
    try:
        fits = FitsBytes(buf)
        hdu = find_table(fits)
        if hdu is None:
            raise Fault("not_sdss", f"{_describe(fits)}: not a spec, spPlate, spZbest, specObj or spAll file")
        layout = fits.layout(hdu)
        _check(set(layout.columns), {f.name for f in make_plan(layout).fields}, layout.n_rows, hdu.index)
        return catalogue_kind(path, set(layout.columns)), layout.n_rows, _fast_pieces(fits, hdu)
    except NotRecognised:
        return _slow_catalogue(path, buf)


def _check(names: set[str], have: set[str], n_rows: int, hdu: int) -> None:
    if len(names & _KEYS) < len(_KEYS):
        missing = ", ".join(sorted(_KEYS - names))
        raise Fault("missing_columns", f"HDU {hdu} lacks the columns {missing}", hdu)
    require(have, IDENTITY + REDSHIFT, hdu)
    if n_rows < 1:
        raise Fault("empty", f"the table in HDU {hdu} has no rows", hdu)


def _describe(fits: FitsBytes) -> str:
    """The first HDUs by name, to say what a foreign file looks like."""
    parts = []
    for k in range(6):
        try:
            hdu = fits.hdu(k)
        except (Fault, NotRecognised):
            break
        if hdu is None:
            break
        name = hdu.get("EXTNAME")
        parts.append(name if isinstance(name, str) and name else ("PRIMARY" if k == 0 else hdu.kind.lower()))
    return f"HDUs {', '.join(parts)}"


def _fast_pieces(fits: FitsBytes, hdu: Hdu) -> Iterator[Piece]:
    n = fits.layout(hdu).n_rows
    for first in range(0, n, PIECE_ROWS):
        yield Piece(copy_fields(fits, hdu, first, min(PIECE_ROWS, n - first)), hdu.index, first)
        if isinstance(fits.buf, mmap.mmap):
            fits.buf.madvise(mmap.MADV_DONTNEED)  # pages read once need not count as ours


def copy_fields(fits: FitsBytes, hdu: Hdu, first: int, count: int) -> dict[str, NDArray[Any]]:
    """Fields of some rows as native arrays of shape (count,); text as bytes."""
    plan = make_plan(fits.layout(hdu))
    records = fits.rows(hdu, plan.dtype, first, count)
    out = {f.name: np.empty(count, dtype=plan.dtype[f.name].newbyteorder("=")) for f in plan.fields}
    for lo in range(0, count, BLOCK_ROWS):
        block = records[lo : lo + BLOCK_ROWS]
        for name, values in out.items():
            values[lo : lo + BLOCK_ROWS] = block[name]
    return {f.name: unscaled(out[f.name], c) for f, c in zip(plan.fields, plan.columns, strict=True)}


def _slow_catalogue(path: str, buf: Buffer) -> tuple[str, int, Iterator[Piece]]:
    from astropy.io import fits as astropy_fits

    from etl.fits_slow import astropy_file, slow_fields

    with astropy_file(buf) as hdus:
        table = None
        for k in range(1, TABLES_SEARCHED):
            if k < len(hdus) and isinstance(hdus[k], astropy_fits.BinTableHDU):
                names = {n.strip().upper() for n in hdus[k].columns.names}
                if len(names & _KEYS) > 1:
                    table = (k, names)
                    break
        if table is None:
            seen = ", ".join(h.name or type(h).__name__ for h in hdus[:6])
            raise Fault("not_sdss", f"HDUs {seen}: not a spec, spPlate, spZbest, specObj or spAll file")
        k, names = table
        n = len(hdus[k].data)
        fields = slow_fields(hdus[k])
        _check(names, set(fields), n, k)
        fields = {name: np.array(values) for name, values in fields.items()}

    def pieces() -> Iterator[Piece]:
        for first in range(0, n, PIECE_ROWS):
            yield Piece({name: v[first : first + PIECE_ROWS] for name, v in fields.items()}, k, first)

    return catalogue_kind(path, names), n, pieces()


def read_csv(buf: Buffer) -> Iterator[Piece]:
    """Rows of a SkyServer CSV.

    A spreadsheet may have ruined objid and specobjid (1.24E+18), so specobjid is not read, an objid only
    where it is all digits, and a row is known by plate, MJD and fibre.

    Raises
    ------
    Fault
        When it is no CSV of SDSS spectra.
    """
    import csv

    head = bytes(buf[:4096])
    try:
        first_line = head.decode("utf-8-sig", "strict" if len(head) < 4096 else "ignore").splitlines()[0]
    except (UnicodeDecodeError, IndexError):
        raise Fault("not_sdss", "neither a FITS file nor a CSV in UTF-8") from None
    lines = io.TextIOWrapper(io.BytesIO(bytes(buf)), encoding="utf-8-sig", newline="")
    reader = csv.reader(lines)
    try:
        if first_line.startswith("#"):  # CasJobs writes '#Table1' above the header
            next(reader)
        header = next(reader, [])
        picks = _csv_picks(header)
        yield from _csv_pieces(reader, len(header), picks)
    except (csv.Error, UnicodeDecodeError) as exc:
        raise Fault("damaged", f"the CSV cannot be read: {' '.join(str(exc).split())[:200]}") from exc


def _csv_pieces(reader: Any, n_fields: int, picks: dict[str, int]) -> Iterator[Piece]:
    """Rows of a CSV: blank fields may lack at a line's end or be too many; other lines are left out."""
    pick = operator.itemgetter(*picks.values())
    kept: list[tuple[str, ...]] = []
    numbers: list[int] = []
    notes: list[Note] = []
    n = first = n_kept = 0
    for row in reader:
        if not row:
            continue
        if len(row) < n_fields:
            row += [""] * (n_fields - len(row))
        if any(row[n_fields:]):
            reason = f"line {reader.line_num} has {len(row)} fields, the header {n_fields}"
            notes.append(Note("bad_row", reason, True, None, n))
        else:
            kept.append(pick(row))
            numbers.append(n)
        n += 1
        if n - first == PIECE_ROWS:
            n_kept += len(kept)
            _some(n_kept, n, n_fields)
            yield Piece(_csv_fields(picks, kept), None, first, tuple(notes), np.array(numbers, np.int64))
            kept, numbers, notes, first = [], [], [], n
    if not n:
        raise Fault("empty", "the CSV has no rows")
    _some(n_kept + len(kept), n, n_fields)
    if n > first:
        yield Piece(_csv_fields(picks, kept), None, first, tuple(notes), np.array(numbers, np.int64))


def _some(n_kept: int, n: int, n_fields: int) -> None:
    if not n_kept:
        raise Fault(
            "damaged",
            f"each of the first {n} lines of the CSV has more fields than the {n_fields} of its header",
        )


def _csv_picks(header: list[str]) -> dict[str, int]:
    """Which field of a line each of our fields is."""
    given = {name.strip().lower(): k for k, name in reversed(list(enumerate(header)))}
    mapped = {ours: given[theirs] for theirs, ours in CSV_FIELDS.items() if theirs in given}
    if "z" not in mapped and "z" in given and not {"u", "g", "r", "i"} <= set(given):
        mapped["z"] = given["z"]
    missing = [k for k in ("plate", "mjd", "fiberid", "ra", "dec") if k not in given]
    if {"plate", "mjd", "fiberid"} & set(missing):
        raise Fault(
            "not_sdss", f"a CSV without the columns {', '.join(missing)}: no SDSS spectra can be told from it"
        )
    if missing:
        raise Fault("missing_columns", f"the CSV lacks the columns {', '.join(missing)}")
    return mapped


def _csv_fields(picks: dict[str, int], rows: list[tuple[str, ...]]) -> dict[str, Any]:
    """Fields by our name: text as Arrow strings, the rest as floats with NaN for what is no number."""
    import pandas as pd

    out: dict[str, Any] = {}
    for k, ours in enumerate(picks):
        values = [row[k] for row in rows]
        if ours in CSV_TEXT:
            # a zero byte ends text, as in FITS
            out[ours] = pa.array([v.partition("\0")[0] if "\0" in v else v for v in values], pa.string())
        else:
            numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce")
            out[ours] = numbers.to_numpy(dtype=np.float64)
    return out
