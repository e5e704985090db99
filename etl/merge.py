"""Rows of target and spec_obj into the database, where other files may have rows of the same spectra.

Of two rows of one target the newer reduction (run2d) wins as a whole. Rows of the same reduction, and
rows that do not say theirs, are merged: a value is never replaced by null, and where both have one the
catalogue's stands before that of a spec file (specObj, spAll, spZbest, spPlate, spec file, CSV), and of two
files of one kind that of the one written later. So the order in which files are ingested does not matter. A
file that changed replaces what it had given, also where it had filled the row of another (etl.fills); where
it has a value no longer that it had, or another reduction, `Blanked` tells, so that what other files say can
be read again.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from numpy.typing import NDArray

from etl.checks import run2d_order
from etl.fills import (
    COLUMNS,
    NOT_FROM_FILES,
    Met,
    lost_value,
    merged_value,
    note_fills,
    stage_filled,
    stage_given,
)
from schema.tables import spec_obj, target
from schema.upsert import insert_rows

KIND_RANK = {"specobj": 6, "spall": 5, "spzbest": 4, "spplate": 3, "spec": 2, "skyserver": 1}
"""Which kind of file is believed before which."""

WRITTEN = "coalesce({0}.modified_at, {0}.ingested_at)"
"""SQL: when a file was written, or, where that is not known, read."""

STAGES = (
    "stage_rows",
    "stage_targets",
    "stage_runs",
    "stage_order",
    "stage_verdict",
    "stage_given",
    "stage_filled",
)


@dataclass
class Blanked:
    """Targets of a changed file that lost a value, or are of another reduction than before."""

    parts: list[NDArray[np.int64]] = field(default_factory=list)

    @property
    def target_id(self) -> NDArray[np.int64]:
        """Their keys, shape (n,)."""
        return np.unique(np.concatenate([np.empty(0, np.int64), *self.parts]))


@dataclass(frozen=True)
class Origin:
    """Where rows are from.

    Parameters
    ----------
    kind : str
        Kind of the file, one of `KIND_RANK`.
    provided : frozenset of str, optional
        Columns of spec_obj that the file has: where it changed, the others keep what they hold. All, if None.
    blanked : Blanked, optional
        Is told which targets lost a value because the file changed.
    written : datetime, optional
        When the file was written; as its row of source_file says, if None.
    """

    kind: str
    provided: frozenset[str] | None = None
    blanked: Blanked | None = None
    written: datetime.datetime | None = None


def merge_rows(conn: sa.Connection, targets: pa.Table, rows: pa.Table, origin: Origin) -> int:
    """Load rows of target and spec_obj.

    Parameters
    ----------
    conn : sqlalchemy.Connection
        Within a transaction.
    targets, rows : pyarrow.Table
        Rows of target and of spec_obj in the same order; a target may come more than once.
    origin : Origin
        What is known of their file or files.

    Returns
    -------
    int
        Rows that met a row of the same target.
    """
    merged = 0
    for part in _rounds(np.asarray(targets["target_id"])):
        if part is None:
            merged += _merge_distinct(conn, targets, rows, origin)
        else:
            some = pa.array(part)
            merged += _merge_distinct(conn, targets.take(some), rows.take(some), origin)
    return merged


def _rounds(ids: NDArray[np.int64]) -> list[NDArray[np.int64] | None]:
    """Rows split so that no target comes twice in a part; [None] when all differ already."""
    order = np.argsort(ids, kind="stable")
    ranked = ids[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])) if len(ids) else np.zeros(0, np.int64)
    if len(starts) == len(ids):
        return [None]
    nth = np.arange(len(ids)) - np.repeat(starts, np.diff(np.append(starts, len(ids))))
    return [np.sort(order[nth == k]) for k in range(int(nth.max()) + 1)]


def _merge_distinct(conn: sa.Connection, targets: pa.Table, rows: pa.Table, origin: Origin) -> int:
    there = existing_ids(conn, target, "target_id", targets["target_id"])
    if not len(there):
        insert_rows(conn, target, targets)
        insert_rows(conn, spec_obj, rows)
        return 0
    old = np.isin(np.asarray(targets["target_id"]), there)
    fresh = pa.array(~old)
    insert_rows(conn, target, targets.filter(fresh))
    insert_rows(conn, spec_obj, rows.filter(fresh))
    met = pa.array(old)
    _merge_met(conn, targets.filter(met), rows.filter(met), origin)
    return int(old.sum())


def existing_ids(
    conn: sa.Connection, table: sa.Table, column: str, ids: pa.ChunkedArray
) -> NDArray[np.int64]:
    """Which of the keys the table has.

    A file that is new to the table mostly covers a range of keys in which there is nothing yet.
    """
    if not len(ids):
        return np.empty(0, dtype=np.int64)
    edges = pc.min_max(ids)
    inside = table.c[column].between(edges["min"].as_py(), edges["max"].as_py())
    if conn.execute(sa.select(table.c[column]).where(inside).limit(1)).first() is None:
        return np.empty(0, dtype=np.int64)
    stage = staged(conn, table, "stage_ids", pa.table({column: ids}))
    found = conn.execute(
        sa.text(
            f"select s.{column} from {stage.name} s where s.{column} in (select {column} from {table.name})"
        )
    ).scalars()
    out = np.fromiter(found, dtype=np.int64)
    conn.execute(sa.text(f"drop table {stage.name}"))
    return out


def staged(conn: sa.Connection, table: sa.Table, name: str, rows: pa.Table) -> sa.Table:
    """A temporary table with some columns of another, holding these rows."""
    columns = ", ".join(f'"{c}"' for c in rows.column_names)
    conn.execute(sa.text(f"create temporary table {name} as select {columns} from {table.name} where 1 = 0"))
    stage = sa.Table(name, sa.MetaData(), *(sa.Column(c, table.c[c].type) for c in rows.column_names))
    insert_rows(conn, stage, rows)
    return stage


def _merge_met(conn: sa.Connection, targets: pa.Table, rows: pa.Table, origin: Origin) -> None:
    """Rows whose target is in the database already, each target once."""
    has = frozenset(c.name for c in spec_obj.columns) if origin.provided is None else origin.provided
    orders = pa.array(
        [run2d_order(r) for r in rows["run2d"].to_pylist()]
        if "run2d" in rows.column_names
        else [-1] * len(rows),
        pa.int64(),
    )
    stage = staged(conn, spec_obj, "stage_rows", rows)
    staged(conn, target, "stage_targets", targets)
    runs = conn.execute(sa.text("select distinct run2d from spec_obj")).scalars().all()
    _order_table(conn, [r for r in runs if r is not None], rows["target_id"], orders)
    precedes = _stage_verdict(conn, origin, "run2d" in has)
    conn.execute(
        sa.text(
            """
            update target set ra_deg = s.ra_deg, dec_deg = s.dec_deg, hpx29 = s.hpx29
            from stage_targets s, stage_verdict v
            where target.target_id = s.target_id and v.target_id = s.target_id and v.verdict in (1, 3, 5)
                and (target.ra_deg <> s.ra_deg or target.dec_deg <> s.dec_deg)
            """
        )
    )
    met = stage_given(conn, precedes)
    new = {c.name: f's."{c.name}"' if c.name in stage.c else "null" for c in spec_obj.columns}
    told = {c: new[c] for c in COLUMNS}
    if origin.blanked is not None:
        origin.blanked.parts.append(_lost_values(conn, told, met, has))
    stage_filled(conn, told, met, has)
    sets = ", ".join(
        f'"{c}" = {merged_value(c, value, met, has=c in has)}'
        for c, value in new.items()
        if c not in NOT_FROM_FILES
    )
    conn.execute(
        sa.text(
            f"update spec_obj set {sets} from stage_rows s, stage_given w where spec_obj.target_id = "
            "s.target_id and w.target_id = s.target_id and (w.verdict <> 2 or w.own is not null)"
        )
    )
    columns = ", ".join(f'"{c.name}"' for c in stage.columns)
    conn.execute(
        sa.text(
            f"insert into spec_obj ({columns}) select {columns} from stage_rows "
            "where target_id in (select target_id from stage_verdict where is_new)"
        )
    )
    note_fills(conn, met)
    for name in STAGES:
        conn.execute(sa.text(f"drop table {name}"))


def _stage_verdict(conn: sa.Connection, origin: Origin, has_run2d: bool) -> str:
    """What becomes of each new row; returns SQL that says whether it comes before a file f.

    Verdict 1: the new row replaces, 2: the old row stays, 3: merged, new first, 4: merged, old first, 5: the
    file changed, and the columns that it has are replaced.
    """
    same_run = "a.run_order = coalesce(r.run_order, -1)" if has_run2d else "true"
    ranks = " ".join(f"when '{k}' then {v}" for k, v in KIND_RANK.items())
    theirs = f"case f.kind {ranks} else 0 end"
    mine = str(KIND_RANK[origin.kind])
    precedes = f"({mine} > {theirs} or {mine} = {theirs} and coalesce({{}} >= {WRITTEN.format('f')}, true))"
    written = "cast(:written as timestamp with time zone)" if origin.written else WRITTEN.format("n")
    conn.execute(
        sa.text(
            f"""
            create temporary table stage_verdict as
            select a.target_id,
                case
                    when o.target_id is null then 1
                    when o.source_file_id = s.source_file_id then case when {same_run} then 5 else 1 end
                    when a.run_order >= 0 and r.run_order >= 0 and a.run_order > r.run_order then 1
                    when a.run_order >= 0 and r.run_order >= 0 and a.run_order < r.run_order then 2
                    when a.run_order >= 0 and coalesce(r.run_order, -1) < 0 then 3
                    when a.run_order < 0 and coalesce(r.run_order, -1) >= 0 then 4
                    when {precedes.format(written)} then 3
                    else 4
                end as verdict,
                {written} as written,
                o.target_id is null as is_new
            from stage_order a
            join stage_rows s on s.target_id = a.target_id
            left join source_file n on n.source_file_id = s.source_file_id
            left join spec_obj o on o.target_id = a.target_id
            left join stage_runs r on r.run2d = o.run2d
            left join source_file f on f.source_file_id = o.source_file_id
            """
        ),
        {"written": origin.written.isoformat()} if origin.written else {},
    )
    return precedes.format("v.written")


def _lost_values(
    conn: sa.Connection, told: dict[str, str], met: Met, has: frozenset[str]
) -> NDArray[np.int64]:
    """Targets of a changed file's rows whose reduction is another, or in which a value becomes null."""
    found = conn.execute(
        sa.text(
            "select w.target_id from stage_given w join stage_rows s on s.target_id = w.target_id "
            "join spec_obj o on o.target_id = w.target_id "
            f"where w.verdict = 1 and o.source_file_id = s.source_file_id or {lost_value(told, met, has)}"
        )
    )
    return np.fromiter(found.scalars(), dtype=np.int64)


def _order_table(conn: sa.Connection, runs: list[str], ids: pa.ChunkedArray, orders: pa.Array) -> None:
    """Temporary tables with the order of the reductions: of those in the database, and of each new row."""
    conn.execute(sa.text("create temporary table stage_runs (run2d text, run_order bigint)"))
    known = sa.Table(
        "stage_runs", sa.MetaData(), sa.Column("run2d", sa.Text), sa.Column("run_order", sa.BigInteger)
    )
    insert_rows(conn, known, [{"run2d": r, "run_order": run2d_order(r)} for r in runs])
    conn.execute(sa.text("create temporary table stage_order (target_id bigint, run_order bigint)"))
    new = sa.Table(
        "stage_order",
        sa.MetaData(),
        sa.Column("target_id", sa.BigInteger),
        sa.Column("run_order", sa.BigInteger),
    )
    insert_rows(conn, new, pa.table({"target_id": ids, "run_order": orders}))
