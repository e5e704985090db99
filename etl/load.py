"""Batches into the database: everything of a batch, or nothing, in the caller's transaction."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from etl.batch import Batch
from etl.checks import run2d_order
from etl.fills import drop_rows, take_back
from etl.merge import WRITTEN, Blanked, Origin, existing_ids, merge_rows, staged
from etl.sources import is_url
from schema.tables import pixel_shard, reject, source_file, spec_obj, spectrum
from schema.upsert import delete_keys, insert_rows, upsert_rows

AGAIN = "again"
"""Stands for the content hash of a file that is to be read again."""


def load_batch(conn: sa.Connection, batch: Batch, kind: str = "spec") -> NDArray[np.int64]:
    """Load a batch.

    Parameters
    ----------
    conn : sqlalchemy.Connection
        Within a transaction.
    batch : Batch
        Rows of files that were read whole.
    kind : str
        Kind of the files.

    Returns
    -------
    ndarray of int64
        Targets whose spec_obj or spectrum rows changed.
    """
    load_files(conn, batch)  # first: the rows are merged by their files' times
    changed, blanked = start_replacing(conn, batch)
    if batch.target is not None and batch.spec_obj is not None:
        merge_rows(conn, batch.target, batch.spec_obj, Origin(kind, None, blanked))
        changed.append(np.asarray(batch.target["target_id"]))
    if batch.shard is not None:
        upsert_rows(conn, pixel_shard, [batch.shard], key=["shard_id"])
    if batch.spectrum is not None:
        load_spectra(conn, batch.spectrum)
        changed.append(np.asarray(batch.spectrum["target_id"]))
    if batch.replaced:
        read_again(conn, blanked.target_id, batch.replaced)
    ids = np.unique(np.concatenate(changed))
    if batch.spectrum is not None or batch.replaced:
        choose_spectra(conn, ids)
    return ids


def start_replacing(conn: sa.Connection, batch: Batch) -> tuple[list[NDArray[np.int64]], Blanked]:
    """Take out what changed files gave before and do not give now; returns the targets concerned, and those
    whose rows lost a value.
    """
    touched, blanked = [np.empty(0, dtype=np.int64)], Blanked()
    if not batch.replaced:
        return touched, blanked
    files = ", ".join(str(int(i)) for i in batch.replaced)
    new_spectra = [] if batch.spectrum is None else batch.spectrum["spectrum_id"].to_pylist()
    new_targets = [] if batch.spec_obj is None else batch.spec_obj["target_id"].to_pylist()
    for table, key, new in ((spectrum, "spectrum_id", new_spectra), (spec_obj, "target_id", new_targets)):
        rows = conn.execute(
            sa.text(f"select {key}, target_id from {table.name} where source_file_id in ({files})")
        ).all()
        keep = set(new)
        gone = [row for row in rows if row[0] not in keep]
        if gone:
            keys = [row[0] for row in gone]
            if table is spec_obj:
                drop_rows(conn, keys)
            else:
                delete_keys(conn, table, key, keys)
            touched.append(np.array([row[1] for row in gone], dtype=np.int64))
    blanked.parts.append(take_back(conn, batch.replaced, new_targets))
    return [*touched, *blanked.parts], blanked


def load_spectra(conn: sa.Connection, rows: pa.Table) -> None:
    """Insert spectra, or replace those whose file changed."""
    there = existing_ids(conn, spectrum, "spectrum_id", rows["spectrum_id"])
    if not len(there):
        insert_rows(conn, spectrum, rows)
        return
    others = [c for c in rows.column_names if c != "spectrum_id"]
    upsert_rows(conn, spectrum, rows, key=["spectrum_id"], update=others)


def load_files(conn: sa.Connection, batch: Batch) -> None:
    """Rows of source_file and reject; the rejects of a file are those of its present content.

    A file that went bad keeps the rows of its last good content, and its row says so by its reject.
    """
    if batch.replaced or batch.failed:
        delete_keys(conn, reject, "source_file_id", [*batch.replaced, *batch.failed])
    failed = set(batch.failed)
    good = [f for f in batch.files if f["source_file_id"] not in failed]
    if good:
        there = existing_ids(
            conn, source_file, "source_file_id", pa.chunked_array([[f["source_file_id"] for f in good]])
        )
        if len(there):
            others = [c for c in good[0] if c != "source_file_id"]
            upsert_rows(conn, source_file, good, key=["source_file_id"], update=others)
        else:
            insert_rows(conn, source_file, good)
    bad = [f for f in batch.files if f["source_file_id"] in failed]
    upsert_rows(
        conn,
        source_file,
        bad,
        key=["source_file_id"],
        update=["content_hash", "size_bytes", "n_rejected", "ingested_at", "modified_at"],
    )
    upsert_rows(conn, reject, batch.rejects, key=["reject_id"], update=["reason", "fatal", "rejected_at"])


def note_times(conn: sa.Connection, settled: dict[int, datetime.datetime]) -> None:
    """Modification times of files whose content the database has."""
    if not settled:
        return
    ids = pa.array(list(settled), pa.int64())
    times = pa.array(list(settled.values()), pa.timestamp("us", tz="UTC"))
    rows = pa.table({"source_file_id": ids, "modified_at": times})
    stage = staged(conn, source_file, "stage_times", rows)
    conn.execute(
        sa.text(
            f"update source_file set modified_at = s.modified_at from {stage.name} s "
            "where source_file.source_file_id = s.source_file_id"
        )
    )
    conn.execute(sa.text(f"drop table {stage.name}"))


def read_again(conn: sa.Connection, ids: NDArray[np.int64], but: Sequence[int] = ()) -> None:
    """Mark files, ``but`` these, to be read again that may fill what a changed file left blank in targets.

    Spectra of an older reduction than the catalogue's row say nothing about it; files that are gone are left
    as they are.
    """
    if not len(ids):
        return
    stage = staged(conn, spectrum, "stage_blanked", pa.table({"target_id": ids}))
    rows = conn.execute(
        sa.text(
            "select distinct f.source_file_id, f.path, s.run2d as run2d, o.run2d as row_run2d "
            f"from {stage.name} b join spectrum s on s.target_id = b.target_id "
            "join spec_obj o on o.target_id = b.target_id "
            "join source_file f on f.source_file_id = s.source_file_id"
        )
    ).all()
    conn.execute(sa.text(f"drop table {stage.name}"))
    files = {
        row.source_file_id
        for row in rows
        if row.source_file_id not in but
        and run2d_order(row.run2d) >= run2d_order(row.row_run2d)
        and (is_url(row.path) or os.path.exists(row.path))
    }
    if not files:
        return
    marked = pa.table({"source_file_id": pa.array(sorted(files), pa.int64())})
    stage = staged(conn, source_file, "stage_again", marked)
    conn.execute(
        sa.text(
            f"update source_file set content_hash = '{AGAIN}', modified_at = null "
            f"where source_file_id in (select a.source_file_id from {stage.name} a)"
        )
    )
    conn.execute(sa.text(f"drop table {stage.name}"))


def choose_spectra(conn: sa.Connection, ids: NDArray[np.int64]) -> None:
    """Mark, of several spectra of one target, the one to use.

    The latest reduction; of several files of one kind the pixels of the one written last; then the most good
    pixels, then the first path. Reads and writes only targets that have more than one spectrum, or whose only
    one is not marked.
    """
    if not len(ids):
        return
    stage = staged(conn, spectrum, "stage_chosen", pa.table({"target_id": ids}))
    rows = conn.execute(
        sa.text(
            f"""
            select s.target_id, s.spectrum_id, s.run2d, s.n_good, s.content_hash, s.is_primary, f.path,
                f.kind, {WRITTEN.format("f")} as written
            from spectrum s
            left join source_file f on f.source_file_id = s.source_file_id
            where s.target_id in (
                select x.target_id from spectrum x join {stage.name} c on c.target_id = x.target_id
                group by x.target_id having count(*) > 1 or not bool_or(x.is_primary)
            )
            """
        )
    ).all()
    conn.execute(sa.text(f"drop table {stage.name}"))
    latest: dict[tuple[Any, ...], Any] = {}
    for row in sorted((r for r in rows if r.written is not None), key=lambda r: r.written):
        latest[row.target_id, run2d_order(row.run2d), row.kind] = row.content_hash
    best: dict[int, tuple[Any, int]] = {}
    for row in rows:
        order = run2d_order(row.run2d)
        old = latest.get((row.target_id, order, row.kind), row.content_hash) != row.content_hash
        merit = (-order, old, -(row.n_good or 0), row.path or "", row.spectrum_id)
        if row.target_id not in best or merit < best[row.target_id][0]:
            best[row.target_id] = (merit, row.spectrum_id)
    wrong: dict[bool, list[int]] = {True: [], False: []}
    for row in rows:
        chosen = best[row.target_id][1] == row.spectrum_id
        if chosen != row.is_primary:
            wrong[chosen].append(row.spectrum_id)
    for chosen, spectra in wrong.items():
        if spectra:
            mark = staged(
                conn, spectrum, "stage_marked", pa.table({"spectrum_id": pa.array(spectra, pa.int64())})
            )
            conn.execute(
                sa.text(
                    f"update spectrum set is_primary = {'true' if chosen else 'false'} "
                    f"where spectrum_id in (select m.spectrum_id from {mark.name} m)"
                )
            )
            conn.execute(sa.text(f"drop table {mark.name}"))
