"""Tables of any kind, a piece at a time: CSV, FITS and Parquet with the columns that are wanted."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etl.checks import Fault, Note
from etl.fits_fast import Buffer
from etl.photometry_kinds import Plan, make_plan

PIECE_ROWS = 245_760
HEAD_BYTES = 1 << 16
PARQUET = b"PAR1"


@dataclass
class Table:
    """A catalogue that was opened.

    ``plan`` is its kind and columns, ``pieces`` its columns by the file's names, `PIECE_ROWS` or so at a
    time, and ``notes`` what was left out, complete when the pieces are read.
    """

    plan: Plan
    pieces: Iterator[dict[str, NDArray[Any]]]
    notes: list[Note] = field(default_factory=list)


def read_table(buf: Buffer) -> Table:
    """Open a catalogue.

    Parameters
    ----------
    buf : bytes or mmap
        The file, unpacked.

    Returns
    -------
    Table
        Whose pieces are still to be read.

    Raises
    ------
    Fault
        When it is no table, is damaged, or no catalogue that is known.
    """
    head = bytes(buf[:6])
    if head == b"SIMPLE":
        return _read_fits(buf)
    if head[:4] == PARQUET:
        return _read_parquet(buf)
    return _read_csv(buf)


def looks_like_table(path: str) -> bool:
    """Whether a local FITS file begins with a table rather than an image, by its first 64 kB."""
    try:
        with open(path, "rb") as handle:
            head = handle.read(HEAD_BYTES)
            if head[:2] == b"\x1f\x8b":
                handle.seek(0)
                with gzip.GzipFile(fileobj=handle) as packed:
                    head = packed.read(HEAD_BYTES)
    except (OSError, EOFError):
        return False
    naxis = head.find(b"NAXIS   =")
    sides = head[naxis + 9 : naxis + 80].split(b"/")[0].strip() if naxis >= 0 else b""
    return sides in (b"0", b"1") and b"XTENSION= 'BINTABLE'" in head and b"ZIMAGE" not in head


def _read_csv(buf: Buffer) -> Table:
    import pyarrow.csv as csv

    skip, names = _csv_header(bytes(buf[:HEAD_BYTES]))
    plan = make_plan(names)
    convert = csv.ConvertOptions(
        include_columns=plan.needed,
        column_types=dict.fromkeys(plan.needed, pa.string()),
        strings_can_be_null=False,
    )
    read = csv.ReadOptions(skip_rows=skip + 1, column_names=names, block_size=32 << 20)
    notes: list[Note] = []
    short = 0

    def skip_row(_row: Any) -> str:
        nonlocal short
        short += 1
        return "skip"

    parse = csv.ParseOptions(invalid_row_handler=skip_row)

    def pieces() -> Iterator[dict[str, NDArray[Any]]]:
        n = 0
        try:
            for batch in csv.open_csv(pa.BufferReader(pa.py_buffer(buf)), read, parse, convert):
                n += batch.num_rows
                if batch.num_rows:
                    yield {c: batch.column(c).to_numpy(zero_copy_only=False) for c in plan.needed}
        except (pa.ArrowInvalid, UnicodeDecodeError) as exc:
            raise Fault("damaged", f"the CSV cannot be read: {' '.join(str(exc).split())[:200]}") from exc
        if short:
            told = f"{short} lines have another number of fields than the {len(names)} columns; left out"
            notes.append(Note("bad_row", told, False))
        if not n:
            raise Fault("empty", "the CSV has no rows")

    return Table(plan, pieces(), notes)


def _csv_header(head: bytes) -> tuple[int, list[str]]:
    """Lines to skip, and column names: CAS writes '# object_id,...', CasJobs '#Table1' above the names."""
    import csv

    try:
        lines = head.decode("utf-8-sig", "strict" if len(head) < HEAD_BYTES else "ignore").splitlines()
    except UnicodeDecodeError:
        raise Fault("not_catalogue", "neither FITS nor Parquet, nor a CSV in UTF-8") from None
    for skip, line in enumerate(lines[:20]):
        plain = line.lstrip("#").strip()
        if "," in plain:
            return skip, [c.strip() for c in next(csv.reader([plain]))]
        if plain and not line.startswith("#"):
            break
    raise Fault("not_catalogue", "no line of column names, separated by commas, at the top of the file")


def _read_parquet(buf: Buffer) -> Table:
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(pa.BufferReader(pa.py_buffer(buf)))
    except (pa.ArrowInvalid, OSError) as exc:
        raise Fault(
            "damaged", f"the Parquet file cannot be read: {' '.join(str(exc).split())[:200]}"
        ) from exc
    plan = make_plan(file.schema_arrow.names)
    if not file.metadata.num_rows:
        raise Fault("empty", "the Parquet file has no rows")

    def pieces() -> Iterator[dict[str, NDArray[Any]]]:
        for batch in file.iter_batches(PIECE_ROWS, columns=plan.needed):
            yield {c: _plain(batch.column(c)) for c in plan.needed}

    return Table(plan, pieces())


def _plain(column: pa.Array) -> NDArray[Any]:
    """An Arrow column as numpy; integers with nulls as text, so that no digit is lost."""
    if column.null_count and pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _read_fits(buf: Buffer) -> Table:
    from astropy.io import fits

    from etl.fits_slow import astropy_file

    with astropy_file(buf) as hdus:
        tables = [h for h in hdus if isinstance(h, fits.BinTableHDU | fits.TableHDU)]
        if not tables:
            raise Fault("not_catalogue", "the FITS file has no table")
        fault: Fault | None = None
        for hdu in tables[:3]:
            try:
                plan = make_plan(hdu.columns.names)
            except Fault as exc:
                fault = fault or exc
                continue
            if not len(hdu.data):
                raise Fault("empty", "the table has no rows")
            columns = {c: _scalar(np.array(hdu.data[c]), c) for c in plan.needed}
            return Table(plan, _slices(columns))
        raise fault or Fault("not_catalogue", "the FITS file has no table")


def _scalar(values: NDArray[Any], name: str) -> NDArray[Any]:
    if values.ndim != 1:
        raise Fault("bad_column", f"column {name} holds {values.shape[1:]} values a row, one is needed")
    return values.astype(values.dtype.newbyteorder("=")) if values.dtype.kind in "fiu" else values


def _slices(columns: dict[str, NDArray[Any]]) -> Iterator[dict[str, NDArray[Any]]]:
    n = len(next(iter(columns.values())))
    for first in range(0, n, PIECE_ROWS):
        yield {name: v[first : first + PIECE_ROWS] for name, v in columns.items()}
