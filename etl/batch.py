"""What reading some files gives: rows of every table, ready to be loaded in one transaction."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from etl.checks import Fault, Note
from etl.pixels import Placed
from schema.grid import NPIX, PIX0
from schema.ids import hashed_id
from schema.shards import ARRAYS

SPECTRUM_SCHEMA = pa.schema(
    [
        ("spectrum_id", pa.int64()),
        ("target_id", pa.int64()),
        ("source_file_id", pa.int64()),
        ("hdu", pa.int32()),
        ("source_row", pa.int64()),
        ("shard_id", pa.int64()),
        ("shard_row", pa.int64()),
        ("run2d", pa.string()),
        ("pix_first", pa.int32()),
        ("pix_last", pa.int32()),
        ("n_good", pa.int32()),
        ("n_good_window", pa.int32()),
        ("content_hash", pa.string()),
        ("is_primary", pa.bool_()),
    ]
)


@dataclass
class Batch:
    """Rows read from some files; what goes together into the database.

    ``replaced`` holds the files among them that an earlier ingest loaded with other content, ``failed``
    those that cannot be read any more (their old rows stay). ``deferred`` names files that are not spec
    files and are read by the main process. ``settled`` gives the modification time of files that are as the
    database has them but for it.
    """

    target: pa.Table | None = None
    spec_obj: pa.Table | None = None
    spectrum: pa.Table | None = None
    shard: dict[str, Any] | None = None
    files: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    replaced: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    deferred: list[str] = field(default_factory=list)
    settled: dict[int, datetime.datetime] = field(default_factory=dict)
    unchanged: int = 0
    n_files: int = 0


def source_file_id(path: str) -> int:
    """Key of a file by its absolute path or URL."""
    return hashed_id("source_file", path)


def reject_row(path: str, note: Note) -> dict[str, Any]:
    """One row of table reject."""
    file_id = source_file_id(path)
    return {
        "reject_id": hashed_id(
            "reject", file_id, note.hdu, note.row, note.code, note.reason if note.row is None else ""
        ),
        "source_file_id": file_id,
        "path": path,
        "hdu": note.hdu,
        "row_index": note.row,
        "native_id": note.native_id,
        "reason_code": note.code,
        "reason": note.reason,
        "fatal": note.fatal,
        "rejected_at": now(),
    }


def found_unchanged(batch: Batch, path: str, modified_at: datetime.datetime | None) -> None:
    """Count a file whose content is that of the database, and keep its time for the next ingest."""
    batch.unchanged += 1
    if modified_at is not None:
        batch.settled[source_file_id(path)] = modified_at


def fault_note(fault: Fault) -> Note:
    """A fatal fault of a whole file as a note."""
    return Note(fault.code, fault.reason, True, fault.hdu)


def file_row(
    path: str,
    kind: str | None,
    content_hash: str,
    size: int,
    n_rows: int,
    n_rejected: int,
    modified_at: datetime.datetime | None = None,
) -> dict[str, Any]:
    """One row of table source_file; without ``modified_at`` the file is hashed at every ingest."""
    return {
        "source_file_id": source_file_id(path),
        "path": path,
        "kind": kind,
        "content_hash": content_hash,
        "size_bytes": size,
        "n_rows": n_rows,
        "n_rejected": n_rejected,
        "ingested_at": now(),
        "modified_at": modified_at,
    }


def shard_row(name: str, n_rows: int) -> dict[str, Any]:
    """One row of table pixel_shard."""
    pixel_bytes = sum(np.dtype(kind).itemsize for kind, _ in ARRAYS.values())
    return {
        "shard_id": shard_id(name),
        "name": name,
        "pix0": PIX0,
        "npix": NPIX,
        "n_rows": n_rows,
        "arrays": list(ARRAYS),
        "size_bytes": n_rows * NPIX * pixel_bytes,
        "created_at": now(),
    }


def shard_id(name: str) -> int:
    """Key of a shard by its name."""
    return hashed_id("shard", name)


def spectrum_row(
    path: str, hdu: int, row: int, target_id: int, run2d: str | None, placed: Placed
) -> dict[str, Any]:
    """One row of table spectrum; its shard is filled in when the shard has its name."""
    return {
        "spectrum_id": hashed_id("spectrum", path, hdu, row),
        "target_id": target_id,
        "source_file_id": source_file_id(path),
        "hdu": hdu,
        "source_row": row,
        "shard_id": 0,
        "shard_row": placed.shard_row,
        "run2d": run2d,
        "pix_first": placed.pix_first,
        "pix_last": placed.pix_last,
        "n_good": placed.n_good,
        "n_good_window": placed.n_good_window,
        "content_hash": placed.content_hash,
        "is_primary": True,
    }


def spectra_table(rows: list[dict[str, Any]], shard: str | None) -> pa.Table | None:
    """Spectrum rows as an Arrow table, with their shard."""
    if not rows or shard is None:
        return None
    table = pa.Table.from_pylist(rows, schema=SPECTRUM_SCHEMA)
    column = SPECTRUM_SCHEMA.get_field_index("shard_id")
    return table.set_column(column, "shard_id", pa.array(np.full(len(rows), shard_id(shard), dtype=np.int64)))


def now() -> datetime.datetime:
    """The time, in UTC."""
    return datetime.datetime.now(datetime.UTC)
