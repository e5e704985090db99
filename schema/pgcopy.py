"""Arrow tables as PostgreSQL's binary COPY format, built a block of rows at a time with numpy.

Each row of the format is an int16 count of columns and, for each column, an int32 length and the value in
network byte order; a null is the length -1 alone (PostgreSQL documentation, "COPY", section "Binary Format").
A block of rows is laid out as one byte matrix in which every value has its widest size, and the bytes that a
row does not use are masked out: no Python loop over rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
BLOCK_BYTES = 8 << 20
"""Largest byte matrix, so that memory stays flat."""

_EPOCH_US = 946_684_800_000_000
"""2000-01-01, PostgreSQL's epoch, in microseconds since 1970."""

_FIXED: dict[Any, str] = {
    pa.int16(): ">i2",
    pa.int32(): ">i4",
    pa.int64(): ">i8",
    pa.float32(): ">f4",
    pa.float64(): ">f8",
    pa.bool_(): ">u1",
    pa.timestamp("us", tz="UTC"): ">i8",
}


@dataclass
class _Column:
    """One column as numpy buffers: fixed-width ``values``, or ``text`` bytes cut at ``offsets``."""

    valid: NDArray[np.bool_] | None
    values: NDArray[Any] | None = None
    text: NDArray[np.uint8] | None = None
    offsets: NDArray[np.int64] | None = None
    prefix: int = 0
    """Bytes put before the text: 1 for jsonb, its version."""

    def width(self, lo: int, hi: int) -> int:
        """Bytes of the longest value among rows lo to hi."""
        if self.values is not None:
            return self.values.dtype.itemsize
        assert self.offsets is not None
        return self.prefix + int(np.diff(self.offsets[lo : hi + 1]).max(initial=0))


def _column(array: pa.Array, jsonb: bool) -> _Column:
    valid = None
    if array.null_count:
        valid = np.asarray(array.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    if array.type in _FIXED:
        code = _FIXED[array.type]
        if pa.types.is_timestamp(array.type):
            array = array.cast(pa.int64())
        elif pa.types.is_boolean(array.type):
            array = array.cast(pa.uint8())
        data = np.frombuffer(array.buffers()[1], dtype=np.dtype(code).newbyteorder("="))
        data = data[array.offset : array.offset + len(array)]
        return _Column(valid, values=data.astype(code))
    array = array.cast(pa.large_binary())
    _, starts, data = array.buffers()
    offsets = np.frombuffer(starts, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    text = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, np.uint8)
    return _Column(valid, text=text, offsets=offsets, prefix=1 if jsonb else 0)


def encode(table: pa.Table, jsonb: frozenset[str] = frozenset()) -> Iterator[memoryview | bytes]:
    """Blocks of a binary COPY stream, header and trailer included.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of the types int16/32/64, float32/64, bool, timestamp[us, UTC], string or binary.
    jsonb : frozenset of str
        Text columns whose database type is jsonb.
    """
    yield HEADER
    for batch in table.combine_chunks().to_batches():
        columns = []
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            column = _column(array, name in jsonb)
            if pa.types.is_timestamp(array.type) and column.values is not None:
                column.values = (column.values.astype(np.int64) - _EPOCH_US).astype(">i8")
            columns.append(column)
        yield from _blocks(columns, 0, batch.num_rows)
    yield TRAILER


def _blocks(columns: list[_Column], lo: int, hi: int) -> Iterator[memoryview]:
    """Rows lo to hi, halved until their matrix is small enough or one row is left."""
    if hi <= lo:
        return
    widths = [c.width(lo, hi) for c in columns]
    stride = 2 + sum(4 + w for w in widths)
    rows = hi - lo
    if rows * stride > BLOCK_BYTES and rows > 1:
        step = max(1, min((rows + 1) // 2, BLOCK_BYTES // stride * 4 // 5 or 1))
        if step * 2 >= rows:
            step = (rows + 1) // 2
        for first in range(lo, hi, step):
            yield from _blocks(columns, first, min(first + step, hi))
        return
    yield _block(columns, widths, stride, lo, hi)


def _block(columns: list[_Column], widths: list[int], stride: int, lo: int, hi: int) -> memoryview:
    n = hi - lo
    names, formats, offsets = ["count"], [">i2"], [0]
    at = 2
    for k, (column, width) in enumerate(zip(columns, widths, strict=True)):
        names += [f"n{k}"]
        formats += [">i4"]
        offsets += [at]
        if column.values is not None:
            names += [f"v{k}"]
            formats += [column.values.dtype.str]
            offsets += [at + 4]
        at += 4 + width
    record = np.zeros(
        n, dtype=np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": stride})
    )
    matrix = record.view(np.uint8).reshape(n, stride)  # (n, stride)
    flat = matrix.reshape(-1)
    keep: NDArray[np.bool_] | None = None
    record["count"] = len(columns)
    at = 2
    for k, (column, width) in enumerate(zip(columns, widths, strict=True)):
        valid = None if column.valid is None else column.valid[lo:hi]
        if column.values is not None:
            record[f"v{k}"] = column.values[lo:hi]
            if valid is None:
                record[f"n{k}"] = width
            else:
                record[f"n{k}"] = np.where(valid, width, -1)
                keep = np.ones((n, stride), dtype=bool) if keep is None else keep
                keep[:, at + 4 : at + 4 + width] = valid[:, None]
        else:
            assert column.offsets is not None
            assert column.text is not None
            ends = column.offsets[lo : hi + 1]
            length = np.diff(ends)
            if valid is not None:
                length = np.where(valid, length, 0)
            size = length + column.prefix
            record[f"n{k}"] = size if valid is None else np.where(valid, size, -1)
            if column.prefix:
                matrix[:, at + 4] = 1
            total = int(length.sum())
            if total:
                run = np.repeat(np.arange(n) * stride - (np.cumsum(length) - length), length)
                into = run + (np.arange(total) + (at + 4 + column.prefix))
                if valid is None:
                    flat[into] = column.text[ends[0] : ends[-1]]
                else:
                    source = np.repeat(ends[:-1] - (np.cumsum(length) - length), length) + np.arange(total)
                    flat[into] = column.text[source]
            used = size if valid is None else np.where(valid, size, 0)
            if width and (used != width).any():
                keep = np.ones((n, stride), dtype=bool) if keep is None else keep
                keep[:, at + 4 : at + 4 + width] = np.arange(width) < used[:, None]
        at += 4 + width
    return (flat if keep is None else flat[keep.reshape(-1)]).data
