"""What the row of one file took from another: table spec_fill, so that a changed file can take it back.

Where two files tell the same observation, spec_obj names the one whose columns come first in
``source_file_id``; what that one leaves blank another has filled, and is listed here. A row without a list
is as its file gave it.

While rows are merged, the tables ``stage_rows`` (the new rows) and ``stage_verdict`` (what becomes of them,
see etl.merge) are there. `stage_given` makes of them one that has for each target the verdict, and names of
columns in one text, between commas: ``own`` those that the changed file itself had filled, ``lesser`` those
of other files that it comes before, ``others`` those of any other file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from schema.tables import spec_fill, spec_obj
from schema.upsert import delete_keys, insert_rows

NOT_FROM_FILES = ("target_id", "is_primary", "primary_target_id", "n_epoch")
"""Columns of spec_obj that ingest works out from many rows."""

COLUMNS = tuple(c.name for c in spec_obj.columns if c.name not in (*NOT_FROM_FILES, "source_file_id"))
"""Columns of spec_obj that one file may fill in another's row."""


def listed(names: str, column: str) -> str:
    """SQL: whether a list of columns holds this one."""
    return f"coalesce(strpos({names}, ',{column},') > 0, false)"


@dataclass(frozen=True)
class Met:
    """What the rows of one merge come to: their verdicts, and whether any of their targets has fills.

    SQL for what does not occur is left out: a batch of spec files is planned for longer than it takes.
    """

    verdicts: frozenset[int]
    has_fills: bool


def stage_given(conn: sa.Connection, precedes: str) -> Met:
    """Make the table stage_given.

    Parameters
    ----------
    conn : sqlalchemy.Connection
        Within a transaction.
    precedes : str
        SQL over f (source_file of the file that filled) and v (stage_verdict): whether the new file comes
        before it.
    """
    other = "p.source_file_id <> s.source_file_id"
    conn.execute(
        sa.text(
            f"""
            create temporary table stage_given as
            select v.target_id, v.verdict,
                string_agg(p.column_names, '') filter (where p.source_file_id = s.source_file_id) as own,
                string_agg(p.column_names, '') filter (where {other} and {precedes}) as lesser,
                string_agg(p.column_names, '') filter (where {other}) as others
            from stage_verdict v
            join stage_rows s on s.target_id = v.target_id
            left join spec_fill p on p.target_id = v.target_id
            left join source_file f on f.source_file_id = p.source_file_id
            group by v.target_id, v.verdict
            """
        )
    )
    found = conn.execute(
        sa.text("select verdict, count(own) + count(others) from stage_given group by verdict")
    ).all()
    return Met(frozenset(int(row[0]) for row in found), any(row[1] for row in found))


def merged_value(column: str, new: str, met: Met, *, has: bool) -> str:
    """SQL: the value of a column after the merge, by stage_given w with its verdict of etl.merge.

    Parameters
    ----------
    column : str
        Column of spec_obj.
    new : str
        Its value in the new row.
    met : Met
        What occurs.
    has : bool
        Whether the new row's file has the column at all.
    """
    old = f'spec_obj."{column}"'
    if column not in COLUMNS:
        return f"case when w.verdict in (1, 3, 5) then {new} else {old} end"
    if not has:
        return f"case w.verdict when 1 then {new} else {old} end"
    if not met.has_fills:
        return (
            f"case when w.verdict in (1, 5) then {new} when w.verdict = 3 then coalesce({new}, {old}) "
            f"else coalesce({old}, {new}) end"
        )
    own, lesser, others = (listed(f"w.{name}", column) for name in ("own", "lesser", "others"))
    return (
        f"case w.verdict when 1 then {new} "
        f"when 2 then case when {own} then null else {old} end "
        f"when 3 then case when {own} then {new} else coalesce({new}, {old}) end "
        f"when 4 then case when {own} then {new} when {lesser} then coalesce({new}, {old}) "
        f"else coalesce({old}, {new}) end "
        f"else case when {others} then coalesce({new}, {old}) else {new} end end"
    )


def lost_value(values: dict[str, str], met: Met, has: frozenset[str]) -> str:
    """SQL: whether a changed file takes a value back (o is spec_obj, w as in `merged_value`)."""
    parts = ["false"]
    for column, new in values.items():
        own, others = listed("w.own", column), listed("w.others", column)
        if column not in has:
            continue
        if met.has_fills:
            parts.append(f'o."{column}" is not null and {own} and (w.verdict = 2 or {new} is null)')
        if 5 in met.verdicts:
            filled = f" and not {others}" if met.has_fills else ""
            parts.append(f'o."{column}" is not null and w.verdict = 5 and {new} is null{filled}')
    return "(" + " or ".join(f"({part})" for part in parts) + ")"


def stage_filled(conn: sa.Connection, values: dict[str, str], met: Met, has: frozenset[str]) -> None:
    """Make the table stage_filled: what stands in spec_fill after the merge; asked before spec_obj changes.

    Parameters
    ----------
    conn : sqlalchemy.Connection
        Within a transaction.
    values : dict of str
        Each of `COLUMNS`, and SQL of its value in the new row s.
    met : Met
        What occurs.
    has : frozenset of str
        Columns that the new rows' file has.
    """
    left, filled, kept = [], [], []
    for column, new in values.items():
        own, lesser, others = (listed(f"w.{name}", column) for name in ("own", "lesser", "others"))
        theirs, given = listed("p.column_names", column), new != "null"
        known = f" and not ({own} or {others})" if met.has_fills else ""
        left.append((column, f'{new} is null and o."{column}" is not null{known}'))
        if given:
            mine = f" or {own} or {lesser}" if met.has_fills else ""
            filled.append((column, f'{new} is not null and (o."{column}" is null{mine})'))
            taken = f"{new} is not null and (w.verdict in (3, 5) or w.verdict = 4 and {lesser})"
            theirs = f"{theirs} and not ({taken})"
        elif column not in has:
            filled.append((column, own))
        kept.append((column, theirs))
    joined = (
        "from stage_given w join stage_rows s on s.target_id = w.target_id "
        "join spec_obj o on o.target_id = w.target_id"
    )
    nothing = "cast(null as bigint)"
    parts = [f"select {nothing} as target_id, {nothing} as source_file_id, '' as column_names where 1 = 0"]
    if 3 in met.verdicts:
        parts.append(
            f"select w.target_id, o.source_file_id, {_names(left)} {joined} "
            "where w.verdict = 3 and o.source_file_id is not null"
        )
    if 4 in met.verdicts:
        parts.append(f"select w.target_id, s.source_file_id, {_names(filled)} {joined} where w.verdict = 4")
    if met.has_fills:
        parts.append(
            f"select w.target_id, p.source_file_id, {_names(kept)} {joined} "
            "join spec_fill p on p.target_id = w.target_id and p.source_file_id <> s.source_file_id "
            "where w.verdict <> 1"
        )
    conn.execute(
        sa.text(
            "create temporary table stage_filled as select * from "
            f"({' union all '.join(parts)}) every_file where column_names <> ','"
        )
    )


def _names(columns: Sequence[tuple[str, str]]) -> str:
    """SQL: the names of the columns that fulfil their condition, between commas."""
    return "','" + "".join(f" || case when {when} then '{name},' else '' end" for name, when in columns)


def note_fills(conn: sa.Connection, met: Met) -> None:
    """Bring spec_fill to what stage_filled says of the targets in stage_given.

    Rows that stay are updated: DuckDB does not take a key that the same transaction has deleted.
    """
    same = "t.target_id = spec_fill.target_id and t.source_file_id = spec_fill.source_file_id"
    if met.has_fills:
        conn.execute(
            sa.text(
                "delete from spec_fill where target_id in (select w.target_id from stage_given w) "
                f"and not exists (select 1 from stage_filled t where {same})"
            )
        )
        conn.execute(
            sa.text(
                f"update spec_fill set column_names = t.column_names from stage_filled t where {same} "
                "and spec_fill.column_names <> t.column_names"
            )
        )
    conn.execute(
        sa.text(
            "insert into spec_fill (target_id, source_file_id, column_names) "
            "select t.target_id, t.source_file_id, t.column_names from stage_filled t "
            "where not exists (select 1 from spec_fill p where p.target_id = t.target_id "
            "and p.source_file_id = t.source_file_id)"
        )
    )


def take_back(conn: sa.Connection, files: Sequence[int], kept: Any) -> NDArray[np.int64]:
    """Take out what files filled in rows of targets that they do not tell any more.

    Parameters
    ----------
    conn : sqlalchemy.Connection
        Within a transaction.
    files : sequence of int
        Changed files.
    kept : sequence of int or ndarray of int64
        Targets that they still tell.

    Returns
    -------
    ndarray of int64
        Targets whose rows lost a value.
    """
    given = ", ".join(str(int(i)) for i in files)
    conn.execute(sa.text("create temporary table stage_kept (target_id bigint)"))
    still = sa.Table("stage_kept", sa.MetaData(), sa.Column("target_id", sa.BigInteger))
    insert_rows(conn, still, pa.table({"target_id": pa.array(np.asarray(kept, dtype=np.int64))}))
    conn.execute(
        sa.text(
            "create temporary table stage_gone as select target_id, string_agg(column_names, '') as names "
            f"from spec_fill where source_file_id in ({given}) "
            "and target_id not in (select k.target_id from stage_kept k) group by target_id"
        )
    )
    ids = np.fromiter(conn.execute(sa.text("select target_id from stage_gone")).scalars(), dtype=np.int64)
    if len(ids):
        sets = ", ".join(
            f'"{c}" = case when {listed("g.names", c)} then null else spec_obj."{c}" end' for c in COLUMNS
        )
        conn.execute(
            sa.text(f"update spec_obj set {sets} from stage_gone g where spec_obj.target_id = g.target_id")
        )
        conn.execute(
            sa.text(
                f"delete from spec_fill where source_file_id in ({given}) "
                "and target_id in (select g.target_id from stage_gone g)"
            )
        )
    for name in ("stage_kept", "stage_gone"):
        conn.execute(sa.text(f"drop table {name}"))
    return ids


def drop_rows(conn: sa.Connection, ids: Any) -> None:
    """Delete rows of spec_obj, with what other files filled in them."""
    delete_keys(conn, spec_obj, "target_id", ids)
    delete_keys(conn, spec_fill, "target_id", ids)
