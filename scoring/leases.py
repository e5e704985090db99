"""Chunks of a scoring run in the database: planned in SQL, leased with a fencing token, committed.

Every function is one short transaction's work on a connection that the caller opens late and closes soon. A
lease raises the chunk's token, and a commit names the token it holds: a worker that was given up for dead
cannot commit any more.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from schema.processes import is_dead
from schema.processes import owner_name as owner_name
from schema.tables import run_chunk, scoring_run
from schema.upsert import insert_rows
from scoring.tasks import Task


@dataclasses.dataclass
class Lease:
    """One leased chunk and what is to be scored in it, in the order of the shard rows.

    Attributes
    ----------
    item_id : spectrum_id or cutout_id
    carried : what preprocessing needs beside the pixels: redshift, or pixel scale [arcsec]; NaN where null
    """

    chunk_no: int
    token: int
    shard_id: int
    row_first: int
    row_last: int
    item_id: NDArray[np.int64]
    target_id: NDArray[np.int64]
    shard_row: NDArray[np.int64]
    carried: NDArray[np.float64]
    content_hash: list[str]

    def __len__(self) -> int:
        return len(self.shard_row)


def bare(conn: sa.Connection) -> sa.Connection:
    """The connection, told to hand SQL to the driver untouched: % and : are plain text in it."""
    return conn.execution_options(no_parameters=True)


def count_task(conn: sa.Connection, task: Task) -> dict[str, int]:
    """How many targets are selected; of them with pixels (``items``), without score (``todo``); and how many
    cannot be scored, by reason.
    """
    found = {why: int(n) for why, n in bare(conn).exec_driver_sql(task.count_sql)}
    todo = bare(conn).exec_driver_sql(f"select count(*) from ({task.todo_sql()}) as t").scalar_one()
    targets, reasons = sum(found.values()), {why: found.get(why, 0) for why in task.reasons}
    n_items = targets - reasons[task.modality.absent]
    return {"targets": targets, "items": n_items, "todo": int(todo), **reasons}


def plan_chunks(conn: sa.Connection, task: Task, run_id: int, chunk: int, limit: int | None) -> int:
    """Cut what is to be scored into chunks of shard rows, inside the database; returns how many rows."""
    first = f" order by c.shard_id, c.shard_row limit {int(limit)}" if limit is not None else ""
    bare(conn).exec_driver_sql(f"""
        insert into run_chunk
            (run_id, chunk_no, shard_id, row_first, row_last, n_spectra, state, lease_token)
        select {run_id}, row_number() over (order by shard_id, part) - 1, shard_id,
            min(shard_row), max(shard_row), count(*), 'todo', 0
        from (
            select shard_id, shard_row, cast(floor(
                (row_number() over (partition by shard_id order by shard_row) - 1) / {float(chunk)}
            ) as integer) as part
            from ({task.todo_sql()}{first}) as todo
        ) as numbered
        group by shard_id, part""")
    total = sa.select(sa.func.coalesce(sa.func.sum(run_chunk.c.n_spectra), 0))
    return int(conn.execute(total.where(run_chunk.c.run_id == run_id)).scalar_one())


# ---------------------------------------------------------------------- lease, renew, release, commit


def free_dead(conn: sa.Connection, run_id: int) -> int:
    """Return the chunks of dead processes of this host to the pool; returns how many."""
    c = run_chunk.c
    held = conn.execute(
        sa.select(c.lease_owner).distinct().where(c.run_id == run_id, c.state == "leased")
    ).scalars()
    dead = [owner for owner in held if owner and is_dead(owner)]
    if not dead:
        return 0
    freed = conn.execute(
        run_chunk.update()
        .where(c.run_id == run_id, c.state == "leased", c.lease_owner.in_(dead))
        .values(state="todo", lease_owner=None, lease_until=None)
        .returning(c.chunk_no)
    ).all()
    return len(freed)


def _until(seconds: int) -> sa.TextClause:
    return sa.text(f"current_timestamp + interval '{int(seconds)} seconds'")


def take(
    conn: sa.Connection, task: Task, run_id: int, owner: str, *, items: int, lease_s: int
) -> list[Lease]:
    """Lease free chunks for about `items` spectra or cutouts and list what is to be scored in them.

    A chunk is free when nobody took it, its lease has lapsed, or its owner is a dead process of this host.
    """
    free_dead(conn, run_id)
    c = run_chunk.c
    lapsed = sa.and_(c.state == "leased", c.lease_until < sa.func.current_timestamp())
    free = sa.or_(c.state == "todo", lapsed)
    offered = conn.execute(
        sa.select(c.chunk_no, c.n_spectra).where(c.run_id == run_id, free).order_by(c.chunk_no).limit(1024)
    ).all()
    wanted: list[int] = []
    total = 0
    for chunk_no, n_spectra in offered:
        if wanted and total + n_spectra > items:
            break
        wanted.append(chunk_no)
        total += n_spectra
    if not wanted:
        return []
    taken = conn.execute(
        run_chunk.update()
        .where(c.run_id == run_id, c.chunk_no.in_(wanted), free)
        .values(state="leased", lease_owner=owner, lease_token=c.lease_token + 1, lease_until=_until(lease_s))
        .returning(c.chunk_no, c.lease_token, c.shard_id, c.row_first, c.row_last)
    ).all()
    return _items_of(conn, task, sorted(tuple(row) for row in taken)) if taken else []


def _items_of(conn: sa.Connection, task: Task, taken: list[tuple[int, ...]]) -> list[Lease]:
    shards = ", ".join(str(s) for s in sorted({row[2] for row in taken}))
    low, high = min(row[3] for row in taken), max(row[4] for row in taken)
    within = f"shard_id in ({shards}) and shard_row between {low} and {high}"
    query = f"{task.todo_sql(within)} order by c.shard_id, c.shard_row"
    rows = bare(conn).exec_driver_sql(query).all()
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [()] * 6
    ids, targets, shard, row = (np.array(column, dtype=np.int64) for column in columns[:4])
    hashes = list(columns[4])
    carried = np.array([np.nan if value is None else value for value in columns[5]], dtype=np.float64)
    leases = []
    for chunk_no, token, shard_id, first, last in taken:
        at = np.flatnonzero((shard == shard_id) & (row >= first) & (row <= last))
        leases.append(
            Lease(
                chunk_no, token, shard_id, first, last, ids[at], targets[at], row[at], carried[at],
                [hashes[i] for i in at],
            )
        )  # fmt: skip
    return leases


def _held(leases: list[Lease]) -> sa.ColumnElement[bool]:
    c = run_chunk.c
    return sa.or_(*(sa.and_(c.chunk_no == each.chunk_no, c.lease_token == each.token) for each in leases))


def renew(conn: sa.Connection, run_id: int, leases: list[Lease], lease_s: int) -> None:
    """Put off the end of leases that are still held."""
    c = run_chunk.c
    if leases:
        conn.execute(
            run_chunk.update()
            .where(c.run_id == run_id, c.state == "leased", _held(leases))
            .values(lease_until=_until(lease_s))
        )


def release(conn: sa.Connection, run_id: int, owner: str) -> None:
    """Give back every lease of a process that ends, also one that a signal kept it from noting."""
    c = run_chunk.c
    conn.execute(
        run_chunk.update()
        .where(c.run_id == run_id, c.state == "leased", c.lease_owner == owner)
        .values(state="todo", lease_owner=None, lease_until=None)
    )


def commit(
    conn: sa.Connection, task: Task, run_id: int, finished: list[tuple[Lease, dict[str, Any]]]
) -> tuple[int, int]:
    """Write the scores of chunks and mark them done, in the caller's transaction.

    Parameters
    ----------
    conn : Connection
        In a transaction that the caller commits at once.
    task : Task
        Model and selection.
    run_id : int
        The run.
    finished : list of (Lease, dict)
        Chunks with ``keep`` (index of what was scored), its ``probability`` and the modality's figures.

    Returns
    -------
    n_scored, n_lost : int
        Scores written, and scores of chunks that another worker holds by now, which were not.
    """
    c = run_chunk.c
    if not finished:
        return 0, 0
    held = set(
        conn.execute(
            run_chunk.update()
            .where(c.run_id == run_id, c.state == "leased", _held([lease for lease, _ in finished]))
            .values(state="done", done_at=sa.func.current_timestamp(), lease_until=None)
            .returning(c.chunk_no)
        ).scalars()
    )
    ours = [(lease, got) for lease, got in finished if lease.chunk_no in held]
    tables = [_score_rows(task, run_id, lease, got) for lease, got in ours]
    rows = pa.concat_tables(tables) if tables else None
    n_scored = rows.num_rows if rows is not None else 0
    if rows is not None and n_scored:
        insert_rows(conn, task.modality.scores, rows)
    r = scoring_run.c
    conn.execute(scoring_run.update().where(r.run_id == run_id).values(n_scored=r.n_scored + n_scored))
    return n_scored, sum(len(got["keep"]) for lease, got in finished if lease.chunk_no not in held)


def _score_rows(task: Task, run_id: int, lease: Lease, got: dict[str, Any]) -> pa.Table:
    keep, m = got["keep"], task.modality
    n = len(keep)
    columns = {
        m.key: lease.item_id[keep],
        "model_id": np.full(n, task.model_id, dtype=np.int64),
        "run_id": np.full(n, run_id, dtype=np.int64),
        "target_id": lease.target_id[keep],
        "content_hash": pa.array([lease.content_hash[i] for i in keep], type=pa.string()),
        "probability": pa.array(got["probability"], type=pa.float64()),
    }
    if m.carried_as:
        carried = lease.carried[keep]
        columns[m.carried_as] = pa.array(carried, mask=np.isnan(carried))
    for name in m.figures:
        columns[name] = pa.array(got[name], type=pa.float64(), from_pandas=True)
    return pa.table(columns)


def count_chunks(conn: sa.Connection, run_id: int) -> dict[str, int]:
    """Number of chunks of a run by state."""
    c = run_chunk.c
    rows = conn.execute(sa.select(c.state, sa.func.count()).where(c.run_id == run_id).group_by(c.state))
    return {"todo": 0, "leased": 0, "done": 0} | {state: int(n) for state, n in rows}


def shard_names(conn: sa.Connection, task: Task, shard_ids: set[int]) -> dict[int, str]:
    """Folder names of shards."""
    c = task.modality.shards.c
    rows = conn.execute(sa.select(c.shard_id, c.name).where(c.shard_id.in_(sorted(shard_ids))))
    return {int(key): name for key, name in rows}
