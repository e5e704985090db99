"""The same readings through astropy, for whatever the fast reader does not recognise."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etl.checks import Fault
from etl.columns import FIELDS, Field
from etl.fits_fast import Buffer
from etl.spec import PIXEL_COLUMNS, TABLES_SEARCHED, RawSpec, check_parts, is_coadd

_COUNT = re.compile(rb"(NAXIS|TFIELDS) *= *(-?[0-9]+)")
_MOST = 999  # of axes or columns (FITS standard 4.0, sections 4.4.1 and 7.3.1)


def _refuse_absurd_counts(buf: bytes) -> None:
    """A damaged NAXIS of a million million would keep astropy counting axes for hours."""
    for match in _COUNT.finditer(buf):
        if match.start() % 80 == 0 and not 0 <= int(match[2]) <= _MOST:
            name, value = match[1].decode(), match[2].decode()
            raise Fault("damaged", f"{name} is {value}, allowed is 0 to {_MOST}: the header is damaged")


@contextlib.contextmanager
def astropy_file(buf: Buffer) -> Iterator[Any]:
    """The file as an astropy HDUList; whatever astropy stumbles over becomes a Fault."""
    from astropy.io import fits

    whole = bytes(buf)
    _refuse_absurd_counts(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with fits.open(io.BytesIO(whole), lazy_load_hdus=True) as hdus:
                yield hdus
        except Fault:
            raise
        except Exception as exc:
            said = " ".join(str(exc).split())[:200] or type(exc).__name__
            code = "truncated" if "truncated" in said.lower() else "damaged"
            raise Fault(code, f"astropy cannot read it either: {said}") from exc


def read_spec_slow(buf: Buffer) -> RawSpec:
    """Read a spec file through astropy; the same values as etl.spec.read_spec_fast."""
    from astropy.io import fits

    with astropy_file(buf) as hdus:
        pixels: dict[str, NDArray[Any]] = {}
        row: dict[str, Any] | None = None
        found: tuple[int, set[str], int, str | None] | None = None
        for k in range(1, TABLES_SEARCHED):
            try:
                hdu = hdus[k]
            except IndexError:
                break
            if not isinstance(hdu, fits.BinTableHDU):
                continue
            names = {n.strip().upper(): n for n in reversed(hdu.columns.names)}
            if found is None and is_coadd(set(names)):
                unit = hdu.columns[names["FLUX"]].unit if "FLUX" in names else None
                found = (k, set(names), len(hdu.data) if hdu.data is not None else 0, unit)
                if found[2]:
                    pixels = {
                        n.lower(): np.asarray(hdu.data.field(names[n])) for n in PIXEL_COLUMNS if n in names
                    }
            elif row is None and {"PLATE", "MJD", "FIBERID"} <= set(names) and hdu.header["NAXIS2"] == 1:
                row = {name: _plain(values[0]) for name, values in slow_fields(hdu).items()}
        if found is None:
            raise Fault("not_sdss", "no table with flux, loglam and ivar: not an SDSS spectrum")
        check_parts(found[1], found[2], found[0], row is not None)
        assert row is not None
        for name, values in pixels.items():
            if values.ndim != 1 or values.dtype.kind not in "iufb":
                raise Fault("bad_column", f"column {name.upper()} holds no plain numbers", found[0])
        header = hdus[0].header
        unit0 = header.get("BUNIT")
        return RawSpec(
            pixels,
            row,
            found[0],
            (unit0 if isinstance(unit0, str) else None, found[3]),
            header.get("SIMULATD") is True,
        )


def slow_fields(hdu: Any, first: int = 0, count: int | None = None) -> dict[str, NDArray[Any]]:
    """Fields of etl.columns from an astropy table HDU, shape (count,) each; text as bytes."""
    names = {n.strip().upper(): n for n in reversed(hdu.columns.names)}
    last = None if count is None else first + count
    out = {}
    for field in FIELDS:
        values = _source(hdu, names, field)
        if values is not None:
            out[field.name] = values[first:last]
    return out


def _source(hdu: Any, names: dict[str, str], field: Field) -> NDArray[Any] | None:
    for name, element in field.sources:
        if name not in names:
            continue
        values = np.asarray(hdu.data.field(names[name]))
        text = values.dtype.kind in "SU"
        if values.dtype.kind not in "SUiufb" or (name == "OBJID" and not text):
            continue
        if values.ndim > 1 and not text:
            values = values.reshape(len(values), -1)
            if values.shape[1] <= element:
                continue
            values = values[:, element]
        elif element or values.ndim > 1:
            continue
        if (field.kind == "text") != text and field.kind != "id":
            raise Fault("bad_column", f"column {name} has another type than the {field.kind} needed")
        return np.char.encode(values, "latin-1") if values.dtype.kind == "U" else values
    return None


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
