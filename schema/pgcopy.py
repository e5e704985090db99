"""Arrow tables as PostgreSQL's binary COPY format, a block of rows at a time, without a Python loop.

Each row of the format is an int16 count of columns and, for each column, an int32 length and the value in
network byte order; a null is the length -1 alone (PostgreSQL documentation, "COPY", section "Binary Format").
A row is put together from parts: what has one size in every row is laid out by numpy as one record, text and
values that may be missing follow as binary strings, and Arrow joins the parts row by row.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
BLOCK_BYTES = 4 << 20
"""Bytes aimed at in a block, so that memory stays flat."""

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


def encode(table: pa.Table, jsonb: frozenset[str] = frozenset()) -> Iterator[memoryview | bytes]:
    """Blocks of a binary COPY stream, header and trailer included.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of the types int16/32/64, float32/64, bool, timestamp[us, UTC], string or binary, or
        dictionary of string. Columns of one size that come next to each other are the fastest.
    jsonb : frozenset of str
        Text columns whose database type is jsonb.
    """
    yield HEADER
    for batch in table.combine_chunks().to_batches():
        columns = [
            _prepared(array, name in jsonb)
            for name, array in zip(batch.schema.names, batch.columns, strict=True)
        ]
        yield from _blocks(columns, 0, batch.num_rows)
    yield TRAILER


class _Parts:
    """The parts of some rows, in the order of the columns."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._parts: list[pa.Array] = []
        self._fields: list[tuple[str, Any]] = []

    def fixed(self, kind: str, values: Any) -> None:
        """A value of one size in every row."""
        self._fields.append((kind, values))

    def varying(self, strings: pa.Array) -> None:
        """A binary string without nulls."""
        self._close_record()
        self._parts.append(strings)

    def _close_record(self) -> None:
        if not self._fields:
            return
        kind = np.dtype([(f"f{k}", form) for k, (form, _) in enumerate(self._fields)])
        record = np.empty(self.n, dtype=kind)
        for k, (_, values) in enumerate(self._fields):
            record[f"f{k}"] = values
        self._fields = []
        self._parts.append(_binary(np.arange(self.n + 1, dtype=np.int32) * kind.itemsize, record))

    def joined(self) -> memoryview:
        """The rows, one after the other."""
        self._close_record()
        rows = self._parts[0] if len(self._parts) == 1 else pc.binary_join_element_wise(*self._parts, b"")
        ends = np.frombuffer(rows.buffers()[1], dtype=np.int32)
        return memoryview(rows.buffers()[2])[: ends[self.n]].cast("B")


def _binary(offsets: NDArray[np.int32], data: NDArray[Any]) -> pa.Array:
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


class _Number:
    """Numbers, booleans or times."""

    def __init__(self, array: pa.Array) -> None:
        self.kind = _FIXED[array.type]
        since = 0
        if pa.types.is_timestamp(array.type):
            array, since = array.cast(pa.int64()), _EPOCH_US
        elif pa.types.is_boolean(array.type):
            array = array.cast(pa.uint8())
        self.valid = np.asarray(array.is_valid()) if array.null_count else None
        data = np.frombuffer(array.buffers()[1], dtype=np.dtype(self.kind).newbyteorder("="))
        self.values = data[array.offset : array.offset + len(array)]
        if since:
            self.values = self.values - since
        self.width = np.dtype(self.kind).itemsize

    def bytes_of(self, lo: int, hi: int) -> int:
        """Bytes of rows lo to hi at most."""
        return (hi - lo) * (4 + self.width)

    def put(self, parts: _Parts, lo: int, hi: int) -> None:
        """Append rows lo to hi."""
        values = self.values[lo:hi]
        if self.valid is None:
            parts.fixed(">i4", self.width)
            parts.fixed(self.kind, values)
            return
        valid = self.valid[lo:hi]
        parts.fixed(">i4", np.where(valid, self.width, -1))
        offsets = np.zeros(hi - lo + 1, dtype=np.int32)
        np.cumsum(valid * np.int32(self.width), out=offsets[1:])
        parts.varying(_binary(offsets, values[valid].astype(self.kind)))


class _Words:
    """Text of few distinct values, each with its length before it."""

    def __init__(self, array: pa.DictionaryArray) -> None:
        values = [v.encode() for v in array.dictionary.to_pylist()]
        heads = [struct.pack(">i", len(v)) + v for v in values] + [struct.pack(">i", -1)]
        self.words = pa.array(heads, pa.binary())
        self.width = max(map(len, heads))
        self.numbers = array.indices.fill_null(len(values)) if array.null_count else array.indices

    def bytes_of(self, lo: int, hi: int) -> int:
        """Bytes of rows lo to hi at most."""
        return (hi - lo) * self.width

    def put(self, parts: _Parts, lo: int, hi: int) -> None:
        """Append rows lo to hi."""
        parts.varying(self.words.take(self.numbers.slice(lo, hi - lo)))


class _Text:
    """Any other text, and documents."""

    def __init__(self, array: pa.Array, jsonb: bool) -> None:
        self.strings = array.cast(pa.large_binary())
        starts = np.frombuffer(self.strings.buffers()[1], dtype=np.int64)
        self.offsets = starts[self.strings.offset : self.strings.offset + len(array) + 1]
        self.jsonb = jsonb

    def bytes_of(self, lo: int, hi: int) -> int:
        """Bytes of rows lo to hi at most."""
        return int(self.offsets[hi] - self.offsets[lo]) + 5 * (hi - lo)

    def put(self, parts: _Parts, lo: int, hi: int) -> None:
        """Append rows lo to hi."""
        values = self.strings.slice(lo, hi - lo).cast(pa.binary())
        if self.jsonb:  # its version stands before the text
            values = pc.binary_join_element_wise(pa.scalar(b"\1"), values, b"")
        length = pc.binary_length(values)
        if values.null_count:
            length, values = length.fill_null(-1), values.fill_null(b"")
        parts.fixed(">i4", np.asarray(length))
        parts.varying(values)


_Column = _Number | _Words | _Text


def _prepared(array: pa.Array, jsonb: bool) -> _Column:
    if array.type in _FIXED:
        return _Number(array)
    if isinstance(array, pa.DictionaryArray) and not jsonb:
        return _Words(array)
    return _Text(array, jsonb)


def _blocks(columns: list[_Column], lo: int, hi: int) -> Iterator[memoryview]:
    """Rows lo to hi, halved until they are few enough bytes or one row is left."""
    if hi - lo > 1 and sum(c.bytes_of(lo, hi) for c in columns) > BLOCK_BYTES:
        middle = (lo + hi) // 2
        yield from _blocks(columns, lo, middle)
        yield from _blocks(columns, middle, hi)
    elif hi > lo:
        parts = _Parts(hi - lo)
        parts.fixed(">i2", len(columns))
        for column in columns:
            column.put(parts, lo, hi)
        yield parts.joined()
