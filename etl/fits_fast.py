"""FITS tables straight from bytes: headers parsed once per layout, rows mapped as numpy records.

Only what spec files and catalogues need is understood: binary tables with columns of the kinds A, B, I,
J, K, E and D, integers stored with an offset included, and plain images (FITS standard 4.0, sections 4.4
and 7.3). Anything else raises `NotRecognised`, and the caller turns to astropy (etl.fits_slow).
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from etl.checks import Fault

Buffer = bytes | mmap.mmap
BLOCK = 2880
CARD = 80
END = b"END" + b" " * 77
MAX_HEADER = 4 << 20
"""A header longer than this many bytes is taken for damage."""

_NUMPY = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_OTHER_BYTES = {"L": 1, "C": 8, "M": 16, "P": 8, "Q": 16}
_layouts: dict[bytes, Layout] = {}
_LAYOUTS_KEPT = 512


class NotRecognised(Exception):
    """The fast reader does not understand this; astropy may."""


@dataclass(frozen=True)
class Column:
    """One column of a binary table: where its values stand in a row and what they mean."""

    name: str
    offset: int
    code: str
    repeat: int
    scale: float
    zero: float | int
    has_null: bool
    unit: str | None

    @property
    def is_text(self) -> bool:
        """Whether the column holds characters."""
        return self.code == "A"

    def numpy_type(self) -> str:
        """Type of one element as stored; for text, of the whole value."""
        if self.code == "A":
            return f"S{self.repeat}"
        if self.code not in _NUMPY or self.has_null:
            raise NotRecognised(f"column {self.name} has format {self.repeat}{self.code}")
        return _NUMPY[self.code]


@dataclass
class Layout:
    """What a table's header says: row length, columns by upper-case name, and plans made for it so far."""

    row_bytes: int
    n_rows: int
    heap: int
    columns: dict[str, Column]
    plans: dict[int, Any] = field(default_factory=dict)


@dataclass
class Hdu:
    """Position and kind of one HDU in the buffer."""

    index: int
    header: bytes
    kind: str
    data_start: int
    data_bytes: int

    def get(self, key: str) -> Any:
        """Value of the first card of that keyword; None where there is none."""
        return card_value(self.header, key)


class FitsBytes:
    """The HDUs of a FITS file held in memory or mapped, found as they are asked for."""

    def __init__(self, buf: Buffer) -> None:
        self.buf = buf
        self.size = len(buf)
        self._hdus: list[Hdu] = []
        self._next = 0
        if bytes(buf[:6]) != b"SIMPLE":
            raise Fault("not_fits", "the file does not begin with SIMPLE: it is no FITS file")

    def hdu(self, index: int) -> Hdu | None:
        """The HDU of that number, or None when the file has fewer."""
        while len(self._hdus) <= index:
            if self._next >= self.size:
                return None
            self._hdus.append(self._read(len(self._hdus)))
        return self._hdus[index]

    def _read(self, index: int) -> Hdu:
        start = self._next
        at = self.buf.find(END, start, start + MAX_HEADER)
        while at >= 0 and (at - start) % CARD:
            at = self.buf.find(END, at + 1, start + MAX_HEADER)
        if at < 0:
            if index and bytes(self.buf[start : start + 8]) not in (b"XTENSION",):
                raise NotRecognised("bytes after the last HDU")
            raise Fault("truncated", f"HDU {index} has no END card: the file is cut short or damaged", index)
        header = bytes(self.buf[start:at])
        kind = "IMAGE" if index == 0 else card_value(header, "XTENSION")
        if not isinstance(kind, str):
            raise NotRecognised("no XTENSION")
        data_start = start + -(-(at + CARD - start) // BLOCK) * BLOCK
        size = data_size(header)
        if data_start + size > self.size:
            raise Fault(
                "truncated",
                f"HDU {index} needs {data_start + size} bytes, the file has {self.size}: it is cut short",
                index,
            )
        self._next = data_start + -(-size // BLOCK) * BLOCK
        return Hdu(index, header, kind.strip(), data_start, size)

    def layout(self, hdu: Hdu) -> Layout:
        """Columns of a binary table, parsed once for each distinct header."""
        key = xxhash.xxh3_128_digest(hdu.header)
        found = _layouts.get(key)
        if found is None:
            if len(_layouts) >= _LAYOUTS_KEPT:
                _layouts.pop(next(iter(_layouts)))
            found = _layouts[key] = parse_layout(hdu.header)
        return found

    def rows(self, hdu: Hdu, dtype: np.dtype[Any], first: int = 0, count: int | None = None) -> NDArray[Any]:
        """Rows of a table as records, without a copy; shape (count,)."""
        layout = self.layout(hdu)
        n = layout.n_rows - first if count is None else count
        return np.frombuffer(self.buf, dtype=dtype, count=n, offset=hdu.data_start + first * layout.row_bytes)

    def image(self, hdu: Hdu) -> NDArray[Any]:
        """Pixels of an image HDU in C order, scaled where the header says so."""
        kinds = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
        bitpix, naxis = hdu.get("BITPIX"), hdu.get("NAXIS")
        if bitpix not in kinds or not isinstance(naxis, int) or naxis < 1:
            raise NotRecognised("no image")
        shape = tuple(hdu.get(f"NAXIS{k}") for k in range(naxis, 0, -1))
        data = np.frombuffer(
            self.buf, dtype=kinds[bitpix], count=math.prod(shape), offset=hdu.data_start
        ).reshape(shape)
        zero, scale = hdu.get("BZERO") or 0, hdu.get("BSCALE")
        if zero or (scale not in (None, 1, 1.0)):
            raise NotRecognised("scaled image")
        return data


def card_value(header: bytes, key: str) -> Any:
    """Value of the first card with that keyword: str, bool, int or float; None where absent or blank."""
    wanted = key.encode("ascii").ljust(8) + b"="
    at = header.find(wanted)
    while at >= 0 and at % CARD:
        at = header.find(wanted, at + 1)
    return None if at < 0 else parse_value(header[at + 9 : at + CARD])


def parse_value(text: bytes) -> Any:
    """Value field of a card, which may be followed by a comment."""
    body = text.strip()
    if body[:1] == b"'":
        at = 1
        while True:
            at = body.find(b"'", at)
            if at < 0:
                raise NotRecognised("an unfinished string in a header")
            if body[at + 1 : at + 2] != b"'":
                break
            at += 2
        try:
            return body[1:at].replace(b"''", b"'").decode("ascii").rstrip()
        except UnicodeDecodeError as exc:
            raise NotRecognised("a header that is not ASCII") from exc
    body = body.split(b"/", 1)[0].strip()
    if not body:
        return None
    if body in (b"T", b"F"):
        return body == b"T"
    try:
        return int(body)
    except ValueError:
        pass
    try:
        return float(body.upper().replace(b"D", b"E"))
    except ValueError as exc:
        raise NotRecognised(f"header value {body!r}") from exc


def data_size(header: bytes) -> int:
    """Bytes of an HDU's data without padding."""
    bitpix, naxis = card_value(header, "BITPIX"), card_value(header, "NAXIS")
    if not isinstance(bitpix, int) or bitpix not in (8, 16, 32, 64, -32, -64) or not isinstance(naxis, int):
        raise NotRecognised("no BITPIX or NAXIS")
    if naxis == 0:
        return 0
    if not 0 < naxis < 1000:
        raise NotRecognised(f"NAXIS {naxis}")
    sides = [card_value(header, f"NAXIS{k}") for k in range(1, naxis + 1)]
    if not all(type(s) is int and s >= 0 for s in sides):
        raise NotRecognised(f"NAXISn {sides}")
    pcount, gcount = card_value(header, "PCOUNT"), card_value(header, "GCOUNT")
    extra = pcount if isinstance(pcount, int) else 0
    groups = gcount if isinstance(gcount, int) else 1
    if extra < 0 or groups != 1 or card_value(header, "GROUPS") is True:
        raise NotRecognised("PCOUNT or GCOUNT")
    return (abs(bitpix) // 8) * (extra + math.prod(sides))


def parse_layout(header: bytes) -> Layout:
    """Columns of a binary table from its header."""
    cards: dict[bytes, bytes] = {}
    for at in range(0, len(header), CARD):
        if header[at + 8 : at + 9] == b"=":
            cards.setdefault(header[at : at + 8].rstrip(), header[at + 9 : at + CARD])

    def value(name: str) -> Any:
        raw = cards.get(name.encode())
        return None if raw is None else parse_value(raw)

    n_fields, row_bytes, n_rows = value("TFIELDS"), value("NAXIS1"), value("NAXIS2")
    if value("XTENSION") != "BINTABLE" or value("NAXIS") != 2 or value("BITPIX") != 8:
        raise NotRecognised("no plain binary table")
    if not all(type(v) is int for v in (n_fields, row_bytes, n_rows)) or not 0 <= n_fields <= 999:
        raise NotRecognised("TFIELDS, NAXIS1 or NAXIS2")
    columns: dict[str, Column] = {}
    offset = 0
    for k in range(1, n_fields + 1):
        name, form = value(f"TTYPE{k}"), value(f"TFORM{k}")
        if not isinstance(form, str):
            raise NotRecognised(f"TFORM{k}")
        digits = len(form) - len(form.lstrip("0123456789"))
        repeat, code = int(form[:digits] or 1), form[digits : digits + 1]
        if repeat > row_bytes:
            raise NotRecognised(f"TFORM{k} {form}")
        if code == "A":
            width = repeat
            if len(form) > digits + 1:
                raise NotRecognised(f"TFORM{k} {form}")
        elif code == "X":
            width = -(-repeat // 8)
        elif code in _NUMPY:
            width = repeat * np.dtype(_NUMPY[code]).itemsize
        elif code in _OTHER_BYTES:
            width = repeat * _OTHER_BYTES[code]
        else:
            raise NotRecognised(f"TFORM{k} {form}")
        if isinstance(name, str):
            scale, zero, unit = value(f"TSCAL{k}"), value(f"TZERO{k}"), value(f"TUNIT{k}")
            if not all(v is None or type(v) in (int, float) for v in (scale, zero)):
                raise NotRecognised(f"TSCAL{k} or TZERO{k}")
            columns.setdefault(
                name.strip().upper(),
                Column(
                    name.strip().upper(),
                    offset,
                    code,
                    repeat,
                    1.0 if scale is None else float(scale),
                    0 if zero is None else zero,
                    f"TNULL{k}".encode() in cards,
                    unit if isinstance(unit, str) else None,
                ),
            )
        offset += width
    if offset != row_bytes:
        raise NotRecognised(f"columns take {offset} bytes of a row of {row_bytes}")
    return Layout(row_bytes, n_rows, value("PCOUNT") or 0, columns)


def unscaled(values: NDArray[Any], column: Column) -> NDArray[Any]:
    """Stored values in native byte order with TSCAL and TZERO applied; text is left as it is."""
    if column.is_text:
        return values
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    if column.scale == 1.0 and column.zero == 0:
        return native
    if values.dtype.kind in "iu" and column.scale == 1.0 and float(column.zero).is_integer():
        zero = int(column.zero)
        if zero == 1 << 63 and values.dtype.itemsize == 8:
            return native.view(np.uint64) ^ np.uint64(1 << 63)  # adding 2^63 flips the sign bit
        if abs(zero) < 1 << 62 and values.dtype.itemsize < 8:
            return native.astype(np.int64) + zero
    return native.astype(np.float64) * column.scale + float(column.zero)
