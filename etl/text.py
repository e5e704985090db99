"""Text of survey tables: fixed-width bytes into trimmed Arrow strings, without a Python object a row.

A column with few distinct values, as nearly all are, becomes an Arrow dictionary array: each value is
trimmed once, and a row holds its number. A null is a null number; no value of a dictionary is null or blank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

BLANK = " \t\r\n\0"
"""Characters that are trimmed from both ends."""

PROBE_ROWS = 8192
"""Rows that tell whether a column has few distinct values: a quarter of them at most."""


def text(values: Any) -> pa.Array:
    """Trimmed strings, blank as null.

    Parameters
    ----------
    values : ndarray of bytes, pyarrow.Array or ndarray of str, shape (n,)
        Bytes end at the first zero byte; bytes beyond ASCII, which only damage writes, are read as Latin-1.

    Returns
    -------
    pyarrow.StringArray or pyarrow.DictionaryArray, shape (n,)
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.DictionaryArray):
        values = plain(values)
    if isinstance(values, pa.Array):
        return _blank_to_null(pc.utf8_trim(values.cast(pa.string()), characters=BLANK))
    if values.dtype.kind != "S":
        return _blank_to_null(pc.utf8_trim(pa.array(values.tolist(), pa.string()), characters=BLANK))
    if not len(values):
        return pa.array([], pa.string())
    data = np.ascontiguousarray(values)
    probe = _as_binary(data[:: max(1, len(data) // PROBE_ROWS)])
    if pc.count_distinct(probe).as_py() * 4 > len(probe):
        return _many(data)
    return _few(data)


def plain(array: pa.Array) -> pa.Array:
    """The same as plain strings."""
    return array.cast(pa.string()) if isinstance(array, pa.DictionaryArray) else array


def codes(array: pa.DictionaryArray) -> NDArray[np.int32]:
    """Numbers of the values, -1 for null; shape (n,)."""
    return np.asarray(array.indices.fill_null(-1) if array.null_count else array.indices, dtype=np.int32)


def from_codes(numbers: NDArray[np.int32], values: list[str]) -> pa.DictionaryArray:
    """Strings by their number in a list; -1 is null."""
    null = numbers < 0
    if null.any():
        indices = pa.array(np.where(null, 0, numbers), pa.int32(), mask=null)
    else:
        indices = pa.array(numbers, pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, pa.string()))


def constant(value: str | None, n: int) -> pa.DictionaryArray:
    """One value for n rows, or n nulls."""
    return from_codes(
        np.full(n, -1 if value is None else 0, dtype=np.int32), [] if value is None else [value]
    )


def encoded(array: pa.Array) -> pa.DictionaryArray:
    """The same as a dictionary array."""
    if isinstance(array, pa.DictionaryArray):
        return array
    made = array.dictionary_encode()
    return pa.DictionaryArray.from_arrays(made.indices.cast(pa.int32()), made.dictionary)


def matches(array: pa.Array, test: Callable[[str], bool]) -> NDArray[np.bool_]:
    """Whether each value passes a test, which sees every distinct value once; False for null."""
    words = encoded(array)
    passed = np.array([test(v) for v in words.dictionary.to_pylist()] + [False], dtype=bool)
    return passed[codes(words)]


def first_known(*arrays: pa.Array) -> pa.DictionaryArray:
    """Of several columns, row by row the first value that is not null."""
    numbers: dict[str, int] = {}
    out: NDArray[np.int32] | None = None
    for array in arrays:
        words = encoded(array)
        known = [numbers.setdefault(v, len(numbers)) for v in words.dictionary.to_pylist()]
        new = np.array([*known, -1], dtype=np.int32)[codes(words)]
        out = new if out is None else np.where(out < 0, new, out)
    assert out is not None
    return from_codes(out, list(numbers))


def _as_binary(data: NDArray[np.bytes_]) -> pa.FixedSizeBinaryArray:
    data = np.ascontiguousarray(data)
    kind = pa.binary(data.dtype.itemsize)
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(data), [None, pa.py_buffer(data.view(np.uint8))])


def _few(data: NDArray[np.bytes_]) -> pa.DictionaryArray:
    found = _as_binary(data).dictionary_encode()
    numbers: dict[str, int] = {}
    new = [
        numbers.setdefault(word, len(numbers)) if (word := _trimmed(value)) else -1
        for value in found.dictionary.to_pylist()
    ]
    return from_codes(np.array(new, dtype=np.int32)[np.asarray(found.indices)], list(numbers))


def _trimmed(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode("latin-1").strip(BLANK)


def _many(data: NDArray[np.bytes_]) -> pa.Array:
    n, width = len(data), data.dtype.itemsize
    if n * width >= 1 << 31:
        raise ValueError("rows in one piece exceed 2 GiB of text")
    blob = data.view(np.uint8)
    if (blob >= 128).any():
        return _blank_to_null(pa.array([_trimmed(v) for v in data.tolist()], pa.string()))
    matrix = blob.reshape(n, width)
    zero = matrix == 0
    if zero.any() and (zero[:, :-1] & ~zero[:, 1:]).any():  # a value ends at its first zero byte
        matrix = np.where(np.maximum.accumulate(zero, axis=1), np.uint8(32), matrix)
    offsets = np.arange(n + 1, dtype=np.int32) * np.int32(width)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(matrix).reshape(-1))]
    strings = pa.Array.from_buffers(pa.string(), n, buffers)
    return _blank_to_null(pc.ascii_trim(strings, characters=BLANK))


def _blank_to_null(strings: pa.Array) -> pa.Array:
    blank = pc.equal(strings, "")
    return pc.if_else(blank, pa.scalar(None, pa.string()), strings) if pc.any(blank).as_py() else strings
