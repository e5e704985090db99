"""Rows in bulk: insert, insert-or-update and delete, fast on both engines.

DuckDB reads Arrow tables in place; PostgreSQL takes a binary COPY built from the same Arrow buffers. All of
it runs inside the caller's transaction, and needs no per-row Python.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from schema.ahead import ahead
from schema.engine import declares_keys, driver_errors, raw_connection
from schema.errors import DataError
from schema.pgcopy import encode

Rows: TypeAlias = "Sequence[Mapping[str, Any]] | pa.Table"

BULK_ROWS = 50_000
"""Rows from which `bulk_load` drops and remakes keys and indexes."""

ROW_GROUP = 122_880
"""Rows of DuckDB's row groups: batches of so many are compressed in parallel, smaller ones one by one."""

_serial = itertools.count()


def insert_rows(conn: sa.Connection, table: sa.Table, rows: Rows) -> int:
    """Append rows; a key that is there already is an error.

    Parameters
    ----------
    conn : sqlalchemy.Connection
        The rows become visible when its transaction commits.
    table : sqlalchemy.Table
        Table to fill.
    rows : list of dict, or pyarrow.Table
        Columns by name; a column of the table that is missing becomes null. Dicts may differ in their keys.

    Returns
    -------
    int
        Rows inserted.

    Raises
    ------
    DataError
        When a column is unknown to the table, or a value does not fit its type.
    """
    data = to_arrow(table, rows)
    if data.num_rows:
        _load(conn, table, data, _quoted(conn, table.name))
    return data.num_rows


def upsert_rows(
    conn: sa.Connection,
    table: sa.Table,
    rows: Rows,
    key: Sequence[str],
    update: Sequence[str] | None = None,
) -> int:
    """Insert rows, or update those whose key is there.

    Parameters
    ----------
    conn, table, rows
        As for `insert_rows`.
    key : sequence of str
        Columns of the primary key or of a unique constraint. Of rows with one key the last wins.
    update : sequence of str or None
        Columns to overwrite where the key is there; None leaves such a row as it is.

    Returns
    -------
    int
        Distinct keys in the batch.
    """
    data = _last_of_each(to_arrow(table, rows), key)
    if not data.num_rows:
        return 0
    stage = f"stage_{table.name}_{next(_serial)}"
    columns = [_quoted(conn, c) for c in data.column_names]
    keys = [_quoted(conn, c) for c in key]
    name = _quoted(conn, table.name)
    # "create ... as" with no rows copies the columns' types without the constraints
    conn.execute(
        sa.text(f"create temporary table {stage} as select {', '.join(columns)} from {name} where 1 = 0")
    )
    _load(conn, table, data, stage)
    same = " and ".join(f"{name}.{k} = {stage}.{k}" for k in keys)
    if update:
        sets = ", ".join(f"{_quoted(conn, c)} = {stage}.{_quoted(conn, c)}" for c in update)
        conn.execute(sa.text(f"update {name} set {sets} from {stage} where {same}"))
    conn.execute(
        sa.text(
            f"insert into {name} ({', '.join(columns)}) select {', '.join(columns)} from {stage} "
            f"where not exists (select 1 from {name} where {same})"
            + (f" on conflict ({', '.join(keys)}) do nothing" if conn.dialect.name == "postgresql" else "")
        )
    )
    conn.execute(sa.text(f"drop table {stage}"))
    return data.num_rows


def delete_keys(conn: sa.Connection, table: sa.Table, column: str, values: Any) -> int:
    """Delete the rows whose column has one of the values; returns how many.

    Parameters
    ----------
    conn, table
        As for `insert_rows`.
    column : str
        Column that is compared.
    values : sequence, ndarray or pyarrow.Array
        Values; repeats and nulls are ignored.
    """
    kind = _arrow_type(table.c[column].type)
    wanted = pa.array(values, type=kind) if not isinstance(values, pa.Array | pa.ChunkedArray) else values
    data = pa.table({column: pc.unique(pc.drop_null(wanted.cast(kind)))})
    if not data.num_rows:
        return 0
    stage = f"stage_{table.name}_{next(_serial)}"
    name, quoted = _quoted(conn, table.name), _quoted(conn, column)
    conn.execute(sa.text(f"create temporary table {stage} as select {quoted} from {name} where 1 = 0"))
    _load(conn, table, data, stage)
    done = conn.execute(
        sa.text(f"delete from {name} where {quoted} in (select {stage}.{quoted} from {stage})")
    )
    conn.execute(sa.text(f"drop table {stage}"))
    return int(done.rowcount)


@contextlib.contextmanager
def bulk_load(conn: sa.Connection, tables: Sequence[sa.Table], n_rows: int) -> Iterator[None]:
    """Around a load that is large against what is there: drops keys and indexes, and makes them anew.

    Checking a foreign key row by row and growing an index costs more than the COPY itself; in one sweep at
    the end both take a fraction. It is one transaction, so a killed load leaves keys, indexes and rows as
    they were. The tables are locked until it commits. Nothing is done on DuckDB, or for a small load.

    Parameters
    ----------
    conn : sqlalchemy.Connection
        Its transaction must last around the whole load.
    tables : sequence of sqlalchemy.Table
        Tables that are filled.
    n_rows : int
        Rows that are expected in each.
    """
    large = [t for t in tables if declares_keys(conn) and n_rows >= max(BULK_ROWS, _rows_about(conn, t))]
    for table in large:
        for index in table.indexes:
            conn.execute(sa.text(f"drop index if exists {index.name}"))
        for fk in table.foreign_key_constraints:
            conn.execute(sa.text(f"alter table {table.name} drop constraint if exists {fk.name}"))
    yield
    for table in large:
        for index in table.indexes:
            conn.execute(sa.schema.CreateIndex(index))
        for fk in table.foreign_key_constraints:
            conn.execute(sa.schema.AddConstraint(fk, isolate_from_table=False))


def _rows_about(conn: sa.Connection, table: sa.Table) -> int:
    """Rows of a PostgreSQL table by its statistics."""
    query = sa.text("select greatest(reltuples, 0) from pg_class where oid = to_regclass(:name)")
    return int(conn.execute(query, {"name": table.name}).scalar() or 0)


def to_arrow(table: sa.Table, rows: Rows) -> pa.Table:
    """Rows as an Arrow table with exactly the types of the table's columns.

    NaN stays NaN, and None becomes null: the caller says which is meant.
    """
    if isinstance(rows, pa.Table):
        given = rows
        names = given.column_names
    else:
        rows = list(rows)
        names = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
        given = None
    unknown = [n for n in names if n not in table.c]
    if unknown:
        raise DataError(
            f"table {table.name} has no column {', '.join(unknown)}; it has {', '.join(table.c.keys())}"
        )
    arrays = []
    for name in names:
        column = table.c[name]
        kind = _arrow_type(column.type)
        try:
            if given is not None:
                values = given.column(name)
                arrays.append(values if values.type in (kind, _coded(kind)) else _cast(values, kind))
            else:
                arrays.append(_from_python([row.get(name) for row in rows], column.type, kind))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as exc:
            raise DataError(f"{table.name}.{name} takes {kind}: {exc}") from exc
        if pa.types.is_string(kind):
            _refuse_nul(table.name, name, arrays[-1])
    return pa.table(arrays, names=names)


def _from_python(values: list[Any], kind: Any, arrow: pa.DataType) -> pa.Array:
    if isinstance(kind, sa.JSON):
        values = [
            None if v is None else v if isinstance(v, str) else json.dumps(v, default=_plain) for v in values
        ]
    return pa.array(
        [v.item() if isinstance(v, np.generic) else v for v in values], type=arrow, from_pandas=False
    )


def _coded(kind: pa.DataType) -> pa.DataType | None:
    """The form of text that both engines take without its being spelled out row by row."""
    return pa.dictionary(pa.int32(), pa.string()) if pa.types.is_string(kind) else None


def _plain(value: Any) -> Any:
    """What json.dumps cannot write, as plain Python."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def _cast(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_timestamp(values.type) and values.type.tz is None:
        values = pc.assume_timezone(values.cast(pa.timestamp("us")), "UTC")
    return values.cast(kind)


def _arrow_type(kind: Any) -> pa.DataType:
    """Arrow type of a column."""
    if isinstance(kind, sa.BigInteger):
        return pa.int64()
    if isinstance(kind, sa.SmallInteger):
        return pa.int16()
    if isinstance(kind, sa.Integer):
        return pa.int32()
    if isinstance(kind, sa.Boolean):
        return pa.bool_()
    if isinstance(kind, sa.Double):
        return pa.float64()
    if isinstance(kind, sa.Float):
        return pa.float32()
    if isinstance(kind, sa.DateTime):
        return pa.timestamp("us", tz="UTC")
    if isinstance(kind, sa.String | sa.JSON):
        return pa.string()
    raise TypeError(f"no Arrow type for column type {kind!r}")


def _refuse_nul(table: str, name: str, array: pa.Array | pa.ChunkedArray) -> None:
    """PostgreSQL's text cannot hold a zero byte; refuse it on both engines alike."""
    for chunk in array.chunks if isinstance(array, pa.ChunkedArray) else [array]:
        words = chunk.dictionary if isinstance(chunk, pa.DictionaryArray) else chunk
        data = words.buffers()[2]
        text = np.frombuffer(data if data is not None else b"", dtype=np.uint8)
        if np.count_nonzero(text) < len(text) and pc.any(pc.match_substring(words, "\0")).as_py():
            raise DataError(f"{table}.{name} holds a zero byte, which text cannot; strip it before loading")


def _last_of_each(data: pa.Table, key: Sequence[str]) -> pa.Table:
    """The last row of each key, in the order of the batch."""
    missing = [k for k in key if k not in data.column_names]
    if missing and data.num_rows:
        raise DataError(f"an upsert needs its key in every row; missing: {', '.join(missing)}")
    if data.num_rows < 2:
        return data
    numbered = data.select(list(key)).append_column("__row", pa.array(np.arange(data.num_rows)))
    last = numbered.group_by(list(key)).aggregate([("__row", "max")])["__row_max"]
    if len(last) == data.num_rows:
        return data
    return data.take(last.take(pc.sort_indices(last)))


def _quoted(conn: sa.Connection, name: str) -> str:
    return conn.dialect.identifier_preparer.quote(name)


def _used_up(batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches, each let go as it is handed over."""
    batches.reverse()
    while batches:
        yield batches.pop()


def _load(conn: sa.Connection, table: sa.Table, data: pa.Table, into: str) -> None:
    """Append an Arrow table to ``into``, which has the columns of ``table``."""
    raw = raw_connection(conn)
    columns = ", ".join(_quoted(conn, c) for c in data.column_names)
    with driver_errors():
        if conn.dialect.name == "duckdb":
            view = f"arrow_{next(_serial)}"
            batches = data.combine_chunks().to_batches(max_chunksize=ROW_GROUP)
            # a reader that is used up: DuckDB keeps the view, and what it holds, until the transaction ends
            raw.register(view, pa.RecordBatchReader.from_batches(data.schema, _used_up(batches)))
            try:
                raw.execute(f"insert into {into} ({columns}) select {columns} from {view}")
            finally:
                raw.unregister(view)
            return
        jsonb = frozenset(c for c in data.column_names if isinstance(table.c[c].type, sa.JSON))
        # values of one size first: encode lays neighbours out as one record
        data = data.select(
            sorted(data.column_names, key=lambda c: isinstance(table.c[c].type, sa.String | sa.JSON))
        )
        columns = ", ".join(_quoted(conn, c) for c in data.column_names)
        with (
            raw.cursor() as cursor,
            cursor.copy(f"copy {into} ({columns}) from stdin (format binary)") as copy,
        ):
            blocks = encode(data, jsonb)
            for block in ahead(blocks) if data.num_rows >= BULK_ROWS else blocks:
                copy.write(block)
