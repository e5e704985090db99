"""Catalogues into the database, each in one transaction.

A target has one row of photometry. Where several catalogues list it, values are merged: a value is never
replaced by null, and where both have one that of the better catalogue stands (`etl.photometry.KINDS`, rank).
So the order in which they are loaded does not matter. A changed catalogue replaces its own rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from etl.batch import Batch, fault_note, file_row, reject_row, source_file_id
from etl.checks import Fault
from etl.load import load_files
from etl.merge import existing_ids, staged
from etl.photometry import PhotMaker, PhotRows
from etl.photometry_files import read_table
from etl.photometry_kinds import KINDS
from etl.rows import unlisted
from etl.sources import opened
from schema.tables import phot_obj, target
from schema.upsert import bulk_load, delete_keys, insert_rows

SMALL_BYTES = 8 << 20
"""Catalogues up to this size share a transaction [byte]: on DuckDB to open and close one takes 0.2 s."""


def load_catalogue(conn: sa.Connection, path: str, had: str | None, survey: str) -> tuple[Batch, int]:
    """Load one catalogue.

    Parameters
    ----------
    conn : sqlalchemy.Connection
        Within a transaction.
    path : str
        CSV, FITS or Parquet file.
    had : str or None
        Content hash that the database has of it.
    survey : str
        Survey of a plain list of object_id, ra and dec.

    Returns
    -------
    batch : Batch
        Its files and rejects, which are loaded already; empty but for `unchanged` when nothing is new.
    n_rows : int
        Rows loaded.

    Raises
    ------
    Fault
        When nothing can be loaded. Of a file up to `SMALL_BYTES` nothing was written then; of a larger one
        the transaction must be given up.
    """
    digest, size = "", 0
    try:
        with opened(path) as content:
            digest, size = content.content_hash, content.size
            if had == digest:
                return Batch(unchanged=1, n_files=1), 0
            return _load(conn, path, content, had, survey)
    except Fault as fault:
        digest, size = digest or fault.content_hash, size or fault.size
        if had is not None and had == digest:
            return Batch(unchanged=1, n_files=1), 0
        fault.content_hash, fault.size = digest, size
        raise


def refused(conn: sa.Connection, path: str, fault: Fault, had: str | None) -> Batch:
    """Note a catalogue of which nothing was loaded; rows of its last good content stay."""
    file_id = source_file_id(path)
    batch = Batch(
        files=[file_row(path, None, fault.content_hash, fault.size, 0, 1)],
        rejects=[reject_row(path, fault_note(fault))],
        failed=[file_id] if had is not None else [],
        n_files=1,
    )
    load_files(conn, batch)
    return batch


def _load(conn: sa.Connection, path: str, content: Any, had: str | None, survey: str) -> tuple[Batch, int]:
    table = read_table(content.buf)
    plan = table.plan
    file_id = source_file_id(path)
    maker = PhotMaker(plan, file_id, survey)
    notes = []
    ids: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    pieces: Iterator[PhotRows] = map(maker.make, table.pieces)
    if content.size <= SMALL_BYTES:  # its faults are found before anything is written
        pieces = iter(list(pieces))
    with bulk_load(conn, (target, phot_obj), content.size // 100):
        for made in pieces:
            notes += made.notes
            _merge(conn, made.targets, made.rows, plan.kind.name, file_id)
            ids.append(np.asarray(made.rows["target_id"]))
    notes += [*table.notes, *unlisted(maker.counts)]
    new = np.concatenate(ids)
    if had is not None:
        delete_gone(conn, file_id, new)
    n_fatal = sum(n.fatal for n in notes)
    batch = Batch(
        files=[
            file_row(path, f"phot_{plan.kind.name}", content.content_hash, content.size, len(new), n_fatal)
        ],
        rejects=[reject_row(path, n) for n in notes],
        replaced=[file_id] if had is not None else [],
        n_files=1,
    )
    load_files(conn, batch)
    return batch, len(new)


def _merge(conn: sa.Connection, targets: pa.Table, rows: pa.Table, kind: str, file_id: int) -> None:
    """Rows of one piece, each target once."""
    if not len(rows):
        return
    there = existing_ids(conn, target, "target_id", targets["target_id"])
    known = np.isin(np.asarray(targets["target_id"]), there)
    insert_rows(conn, target, targets.filter(pa.array(~known)))
    if known.any():
        _move(conn, targets.filter(pa.array(known)), file_id)
        load_rows(conn, rows, kind, file_id)
    else:
        insert_rows(conn, phot_obj, rows)


def load_rows(conn: sa.Connection, rows: pa.Table, kind: str, file_id: int) -> None:
    """Load rows of phot_obj, each target once, whose targets are there.

    Parameters
    ----------
    conn : sqlalchemy.Connection
        Within a transaction.
    rows : pyarrow.Table
        Rows of phot_obj.
    kind : str
        Catalogue that they are of, which decides whose values stand.
    file_id : int
        File that they are from.
    """
    met = existing_ids(conn, phot_obj, "target_id", rows["target_id"])
    old = np.isin(np.asarray(rows["target_id"]), met)
    insert_rows(conn, phot_obj, rows.filter(pa.array(~old)))
    if old.any():
        _merge_met(conn, rows.filter(pa.array(old)), kind, file_id)


def delete_gone(conn: sa.Connection, file_id: int, new: NDArray[np.int64]) -> None:
    """Take out the rows of a changed file that it does not give any more."""
    rows = conn.execute(sa.text("select target_id from phot_obj where source_file_id = :f"), {"f": file_id})
    delete_keys(conn, phot_obj, "target_id", np.setdiff1d(np.fromiter(rows.scalars(), dtype=np.int64), new))


def _move(conn: sa.Connection, targets: pa.Table, file_id: int) -> None:
    """A catalogue gives positions to its own targets, and to those that have a coarse one from a name."""
    stage = staged(conn, target, "stage_phot_target", targets)
    conn.execute(
        sa.text(
            f"""
            update target set ra_deg = s.ra_deg, dec_deg = s.dec_deg, hpx29 = s.hpx29
            from {stage.name} s
            where target.target_id = s.target_id
                and (target.ra_deg <> s.ra_deg or target.dec_deg <> s.dec_deg)
                and (
                    exists (
                        select 1 from phot_obj p
                        where p.target_id = s.target_id and p.source_file_id = :f
                            and not exists (select 1 from spec_obj o where o.target_id = s.target_id)
                    )
                    or exists (
                        select 1 from reject r
                        where r.reason_code = 'coarse_position' and r.native_id = s.native_id
                    )
                )
            """
        ),
        {"f": file_id},
    )
    conn.execute(
        sa.text(
            "delete from reject where reason_code = 'coarse_position' "
            f"and native_id in (select s.native_id from {stage.name} s)"
        )
    )
    conn.execute(sa.text(f"drop table {stage.name}"))


def _merge_met(conn: sa.Connection, rows: pa.Table, kind: str, file_id: int) -> None:
    """Rows whose target has photometry already."""
    ranks = {k.name: k.rank for k in KINDS}
    rank_of = " ".join(f"when '{name}' then {rank}" for name, rank in ranks.items())
    stage = staged(conn, phot_obj, "stage_phot", rows)
    sets = []
    for column in phot_obj.columns:
        if column.name == "target_id":
            continue
        new = f's."{column.name}"' if column.name in stage.c else "null"
        old = f'phot_obj."{column.name}"'
        sets.append(
            f'"{column.name}" = case when phot_obj.source_file_id = {file_id} then {new} '
            f"when {ranks.get(kind, 0)} > case phot_obj.catalog {rank_of} else 0 end "
            f"then coalesce({new}, {old}) "
            f"else coalesce({old}, {new}) end"
        )
    conn.execute(
        sa.text(
            f"update phot_obj set {', '.join(sets)} from {stage.name} s "
            "where phot_obj.target_id = s.target_id"
        )
    )
    conn.execute(sa.text(f"drop table {stage.name}"))
