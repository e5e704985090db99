"""One process's share: spec files into a shard and into rows, without touching the database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from etl.batch import (
    Batch,
    fault_note,
    file_row,
    found_unchanged,
    reject_row,
    shard_row,
    source_file_id,
    spectra_table,
    spectrum_row,
)
from etl.checks import FLUX_UNIT_TEXT, Fault, Note, flux_unit_ok
from etl.columns import FIELDS, IDENTITY, require
from etl.pixels import ShardWriter
from etl.rows import make_rows
from etl.sources import opened
from etl.spec import RawSpec, read_spec
from schema.ids import sdss_native_id, sdss_target_id

_UNSIGNED = (1 << 64) - 1


def read_files(paths: list[str], known: list[str | None], root: Path) -> Batch:
    """Read spec files.

    Parameters
    ----------
    paths : list of str
        Files to read.
    known : list of str or None
        Content hash that the database has of each; a file that still has it is left alone.
    root : Path
        Folder of the shards.

    Returns
    -------
    Batch
        Rows to load. Files that are no spec files are named in ``deferred``.

    Raises
    ------
    TransientError
        When a disk is full; nothing is left behind.
    """
    batch = Batch(n_files=len(paths))
    writer = ShardWriter(root)
    rows: list[dict[str, Any]] = []
    spectra: list[dict[str, Any]] = []
    try:
        for path, had in zip(paths, known, strict=True):
            _read_one(path, had, writer, batch, rows, spectra)
        name = writer.close()
    except BaseException:
        writer.abandon()
        raise
    if name is not None:
        batch.shard = shard_row(name, len(spectra))
        batch.spectrum = spectra_table(spectra, name)
        files = np.array([s["source_file_id"] for s in spectra], dtype=np.int64)
        made = make_rows(gathered(rows), files, hdu=2, one_file=False)
        batch.target, batch.spec_obj = made.target, made.spec_obj
        path_of = [r["_path"] for r in rows]
        for note in made.notes:  # nothing fatal is left: every row was checked before its pixels were placed
            assert note.row is not None
            listed = Note(note.code, note.reason, note.fatal, note.hdu, 0, note.native_id)
            batch.rejects.append(reject_row(path_of[note.row], listed))
    return batch


def _read_one(
    path: str,
    had: str | None,
    writer: ShardWriter,
    batch: Batch,
    rows: list[dict[str, Any]],
    spectra: list[dict[str, Any]],
) -> None:
    content_hash, size, modified_at = "", 0, None
    try:
        with opened(path) as content:
            content_hash, size, modified_at = content.content_hash, content.size, content.modified_at
            if had == content_hash:
                found_unchanged(batch, path, modified_at)
                return
            if bytes(content.buf[:6]) != b"SIMPLE":
                batch.deferred.append(path)
                return
            raw = read_spec(content.buf)
            row = checked_row(raw)
            placed = writer.add(raw.pixels, raw.hdu)
    except Fault as fault:
        if not content_hash:
            content_hash, size, modified_at = fault.content_hash, fault.size, fault.modified_at
        if had is not None and had == content_hash:
            found_unchanged(batch, path, modified_at)
            return
        if fault.code == "not_sdss":
            batch.deferred.append(path)
            return
        batch.files.append(file_row(path, "spec", content_hash, size, 0, 1, modified_at))
        batch.rejects.append(reject_row(path, fault_note(fault)))
        if had is not None:
            batch.failed.append(source_file_id(path))
        return
    key = int(sdss_target_id(row["plate"], row["mjd"], row["fiber_id"]))
    run2d = _words(row.get("run2d"))
    native = sdss_native_id(row["plate"], row["mjd"], row["fiber_id"])
    row["_path"] = path
    rows.append(row)
    spectra.append(spectrum_row(path, raw.hdu, 0, key, run2d, placed))
    batch.files.append(file_row(path, "spec", content_hash, size, 1, 0, modified_at))
    for note in placed.notes:
        batch.rejects.append(reject_row(path, Note(note.code, note.reason, False, note.hdu, None, native)))
    if had is not None:
        batch.replaced.append(source_file_id(path))


def checked_row(raw: RawSpec) -> dict[str, Any]:
    """The catalogue row of a spec file, once its units, identity and position have passed.

    Raises
    ------
    Fault
        When one of them has not.
    """
    for unit in raw.units:
        if not flux_unit_ok(unit):
            raise Fault("bad_unit", f"flux is in {unit!r}; {FLUX_UNIT_TEXT} is needed", raw.hdu)
    row = raw.row
    require(set(row), IDENTITY, 2)
    for name, limit in (("plate", 1 << 20), ("mjd", 1 << 20), ("fiber_id", 1 << 16)):
        value = row[name]
        if isinstance(value, float) and value.is_integer():
            value = row[name] = int(value)
        if type(value) is not int or not 0 < value < limit:
            raise Fault(
                "bad_identity", f"{name} is {value}; whole numbers from 1 to {limit - 1} are allowed", 2
            )
    ra, dec = float(row["ra_deg"]), float(row["dec_deg"])
    if not (-360.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
        raise Fault(
            "bad_position",
            f"ra {ra}, dec {dec}: no position; ra must be within -360 to 360, dec within -90 to 90 degrees",
            2,
        )
    return row


def gathered(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of single files as columns: what one file lacks is null, or NaN among floats."""
    have = {name for row in rows for name in row}
    out: dict[str, Any] = {}
    for field in FIELDS:
        if field.name not in have:
            continue
        values = [row.get(field.name) for row in rows]
        if field.kind == "text":
            out[field.name] = np.array([v if v is not None else b"" for v in values], dtype=np.bytes_)
        elif field.kind == "id":
            out[field.name] = pa.array([_digits(v) for v in values], pa.string())
        elif field.kind == "float":
            out[field.name] = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        else:
            out[field.name] = pa.array([_whole(v) for v in values], pa.int64())
    for name in ("plate", "mjd", "fiber_id"):
        out[name] = np.asarray(out[name])
    return out


def _digits(value: Any) -> str | None:
    """An identifier as text; a negative integer holds the same 64 bits as an unsigned one."""
    if isinstance(value, bytes):
        return _words(value)
    return str(value & _UNSIGNED) if isinstance(value, int) else None


def _words(value: Any) -> str | None:
    return value.split(b"\0", 1)[0].decode("latin-1").strip() or None if isinstance(value, bytes) else None


def _whole(value: Any) -> int | None:
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1 << 62 else None
    return value if isinstance(value, int) and -(1 << 63) <= value < 1 << 63 else None
