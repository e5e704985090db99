"""``lensmine ingest sdss``: whatever SDSS serves, into rows and pixel shards.

Catalogues and plates are read here, spec files by worker processes, a few thousand to a batch. A batch's
pixels are in their shard on disk before its rows are committed, all in one transaction; what a kill
leaves undone the next run does. A file whose content hash the database has is left alone; one of the size
and modification time that it was ingested with is not even read. A changed file replaces what came from it;
one that has become unreadable keeps the rows of its last good content and gets a reject.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from etl.batch import Batch, fault_note, file_row, found_unchanged, now, reject_row, source_file_id
from etl.checks import Fault
from etl.epochs import group_epochs
from etl.fits_fast import Buffer, FitsBytes, NotRecognised
from etl.known import KnownFiles
from etl.load import AGAIN, load_batch, note_times
from etl.plates import is_plate, zbest_of
from etl.sources import discover, opened
from etl.summary import Summary
from etl.whole import CatalogueLoader, plate_batch, plate_hash
from etl.worker import read_files
from schema.engine import connect_engine, shard_root
from schema.ids import new_run_id
from schema.processes import clean_temporary
from schema.tables import job
from schema.upsert import upsert_rows

BATCH_FILES = 2048
"""Spec files read, and committed, at once."""

FILES_WORTH_A_POOL = 400
"""Below this many files starting processes costs more than it saves."""

_CATALOGUE_NAMES = ("specobj", "spall", "spplate", "spzbest")


def ingest_sdss(
    paths: list[str],
    db: str | None = None,
    *,
    processes: int | None = None,
    batch_files: int = BATCH_FILES,
    rehash: bool = False,
    on_files: Callable[[int, int], None] | None = None,
) -> Summary:
    """Load SDSS files.

    Parameters
    ----------
    paths : list of str
        Files, folders, globs, .zip archives or fsspec URLs.
    db : str, optional
        Database, as for `schema.engine.resolve_url`.
    processes : int, optional
        Worker processes; all cores unless given. 1 reads in this process.
    batch_files : int
        Spec files to a batch.
    rehash : bool
        Read every file, also those that have the size and modification time that they were ingested with.
    on_files : callable, optional
        Told after every batch how many files are done, and of how many.

    Returns
    -------
    Summary
        What was done.

    Raises
    ------
    UserError
        When a path names nothing or the database cannot be used.
    TransientError
        When the database or a disk is in the way.
    """
    return Ingest(paths, db, processes, batch_files, on_files, rehash).run()


class Ingest:
    """One run of ingest; see `ingest_sdss` for its parameters."""

    def __init__(
        self,
        paths: list[str],
        db: str | None,
        processes: int | None,
        batch_files: int,
        on_files: Callable[[int, int], None] | None,
        rehash: bool = False,
    ) -> None:
        self.engine = connect_engine(db)
        self.root = shard_root(db)
        self.paths = discover(paths)
        self.processes = processes or _cores()
        self.batch_files = batch_files
        self.on_files = on_files
        self.rehash = rehash
        self.summary = Summary(files=len(self.paths))
        self.changed: list[NDArray[np.int64]] = []
        self.positions: dict[str, NDArray[Any]] | None = None
        self.job_id = 0
        self.done = 0

    def run(self) -> Summary:
        """Read everything, then find epochs."""
        started = time.monotonic()
        clean_temporary(self.root)
        with self.engine.connect() as conn:
            self.known = KnownFiles(conn)
            unfinished = _unfinished(conn)
        self.by_name = {PurePosixPath(p.split("::", 1)[0]).name: p for p in self.paths}
        first, others = _catalogues_first(self._to_read(self.paths))
        try:
            for path in first:
                self._read_other(path)
            self._read_spec_files(others)
            self._read_orphans(unfinished)
            self._finish(unfinished)
        except BaseException as exc:
            self._failed(exc)
            raise
        summary = self.summary
        summary.seconds = round(time.monotonic() - started, 3)
        summary.files_per_s = round(summary.files / max(summary.seconds, 1e-9), 1)
        return summary

    def _to_read(self, paths: list[str]) -> list[str]:
        """Files that may have changed, by size and modification time; the others are done."""
        if self.rehash:
            return paths
        left = [p for p in paths if not self.known.is_as_ingested(p)]
        self._commit(Batch(unchanged=len(paths) - len(left), n_files=len(paths) - len(left)))
        return left

    # -- spec files ---------------------------------------------------------------------------------------

    def _read_spec_files(self, paths: list[str]) -> None:
        size = min(self.batch_files, max(32, -(-len(paths) // self.processes)))
        chunks = [paths[k : k + size] for k in range(0, len(paths), size)]
        remote = any(p.startswith("memory://") for p in paths)  # lives in this process only
        if self.processes == 1 or len(paths) < FILES_WORTH_A_POOL or remote:
            for chunk in chunks:
                self._commit(read_files(chunk, self.known.hashes(chunk), self.root))
            return
        self._read_in_pool(chunks)

    def _read_in_pool(self, chunks: list[list[str]]) -> None:
        left = dict(enumerate(chunks))
        waiting: dict[Future[Batch], int] = {}
        todo = iter(list(left))
        try:
            with ProcessPoolExecutor(self.processes, mp_context=get_context("spawn")) as pool:
                try:
                    while True:
                        while len(waiting) <= self.processes and (k := next(todo, None)) is not None:
                            known = self.known.hashes(left[k])
                            waiting[pool.submit(read_files, left[k], known, self.root)] = k
                        if not waiting:
                            return
                        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                            k = waiting.pop(future)
                            batch = future.result()
                            del left[k]
                            self._commit(batch)
                except BaseException:
                    for future in waiting:
                        future.cancel()
                    raise
        except BrokenProcessPool:  # a worker was killed, or this program cannot be started a second time
            clean_temporary(self.root)
            for chunk in left.values():
                self._commit(read_files(chunk, self.known.hashes(chunk), self.root))

    def _commit(self, batch: Batch, kind: str = "spec") -> None:
        """Load what a batch holds, in one transaction, then read what it put off."""
        if batch.files:
            self._open_job()
            with self.engine.begin() as conn:
                self.changed.append(load_batch(conn, batch, kind))
        if batch.settled:
            with self.engine.begin() as conn:
                note_times(conn, batch.settled)
        self._count(batch)
        for path in batch.deferred:
            self._read_other(path)
        self._progress(batch.n_files - len(batch.deferred))

    def _count(self, batch: Batch) -> None:
        summary = self.summary
        summary.unchanged += batch.unchanged
        bad = {r["path"] for r in batch.rejects if r["fatal"] and r["row_index"] is None}
        summary.rejected += len(bad)
        summary.loaded += len(batch.files) - len(bad)
        summary.rows += 0 if batch.spec_obj is None else len(batch.spec_obj)
        summary.spectra += 0 if batch.spectrum is None else len(batch.spectrum)
        for row in batch.rejects:
            summary.reasons[row["reason_code"]] += 1
            summary.rejects_fatal += row["fatal"]
            summary.rejects_repaired += not row["fatal"]

    def _progress(self, n: int) -> None:
        self.done += n
        if self.on_files and n:
            self.on_files(self.done, len(self.paths))

    # -- catalogues and plates ----------------------------------------------------------------------------

    def _read_other(self, path: str) -> None:
        """A file that is no spec file: a catalogue, a CSV, a plate, or none of ours."""
        had = self.known.hash_of(path)
        content_hash, size, modified_at = "", 0, None
        same = Batch(n_files=1)
        try:
            with contextlib.ExitStack() as stack:
                content = stack.enter_context(opened(path))
                content_hash, size, modified_at = content.content_hash, content.size, content.modified_at
                plate = bytes(content.buf[:6]) == b"SIMPLE" and _is_plate(content.buf)
                if plate:  # it is its spZbest as well, whose time is not kept, so it is hashed every time
                    modified_at = None
                zbest = zbest_of(path, self.by_name) if plate else None
                partner = stack.enter_context(opened(zbest)) if zbest else None
                content_hash = plate_hash(content, partner)
                if had == content_hash:
                    found_unchanged(same, path, modified_at)
                    self._commit(same)
                elif plate:
                    batch = plate_batch(path, content, partner, had is not None, self.root)
                    self._commit(batch, "spplate")
                else:
                    self._load_catalogue(CatalogueLoader(path, content, had is not None))
        except Fault as fault:
            if not content_hash:
                content_hash, size, modified_at = fault.content_hash, fault.size, fault.modified_at
            if had is not None and had == content_hash:
                found_unchanged(same, path, modified_at)
                self._commit(same)
                return
            self._commit(
                Batch(
                    files=[file_row(path, None, content_hash, size, 0, 1, modified_at)],
                    rejects=[reject_row(path, fault_note(fault))],
                    failed=[source_file_id(path)] if had is not None else [],
                    n_files=1,
                )
            )

    def _load_catalogue(self, loader: CatalogueLoader) -> None:
        """One transaction for the whole table."""
        self._open_job()
        with self.engine.begin() as conn:
            batch, n_rows, changed = loader.load(conn)
        self.positions = None if self.changed else loader.positions
        self.changed.append(changed)
        batch.n_files = 1
        self._count(batch)
        self.summary.rows += n_rows
        self._progress(1)

    def _read_orphans(self, unfinished: bool) -> None:
        """Spec files whose catalogue row, or values of it, went with a changed catalogue: read again."""
        if not self.changed and not unfinished:
            return
        with self.engine.connect() as conn:
            paths = (
                conn.execute(
                    sa.text(
                        "select distinct f.path from spectrum s "
                        "join source_file f on f.source_file_id = s.source_file_id "
                        "where not exists (select 1 from spec_obj o where o.target_id = s.target_id) "
                        f"union select path from source_file where content_hash = '{AGAIN}'"
                    )
                )
                .scalars()
                .all()
            )
        if paths:
            self.known.forget(paths)
            told, self.summary, self.on_files = self.summary, Summary(), None
            self._read_spec_files(sorted(paths))
            self.summary = told

    # -- the end --------------------------------------------------------------------------------------------

    def _finish(self, unfinished: bool) -> None:
        if not self.job_id and not unfinished:
            return
        self._open_job()
        with self.engine.begin() as conn:
            changed = None if unfinished else np.concatenate([np.empty(0, np.int64), *self.changed])
            alone = self.positions if len(self.changed) == 1 and not unfinished else None
            self.summary.regrouped = group_epochs(conn, changed, alone)
            left = sa.update(job).where(
                job.c.command == "ingest", job.c.status == "running", job.c.job_id < self.job_id
            )
            conn.execute(left.values(status="failed", message="stopped before its end"))
            self._close_job(conn, "done", 0, f"{self.summary.loaded} of {self.summary.files} files loaded")

    def _open_job(self) -> None:
        """Tell the database that rows come in whose epochs are not found yet.

        In a transaction of its own: that of the first rows may be rolled back and others follow.
        """
        if self.job_id:
            return
        self.job_id = new_run_id()
        row = {"job_id": self.job_id, "command": "ingest", "status": "running", "started_at": now()}
        with self.engine.begin() as conn:
            upsert_rows(conn, job, [row], key=["job_id"])

    def _close_job(self, conn: sa.Connection, status: str, exit_code: int, message: str) -> None:
        summary = {k: v for k, v in self.summary.as_dict().items() if k not in ("seconds", "files_per_s")}
        ended = {
            "status": status,
            "exit_code": exit_code,
            "finished_at": now(),
            "summary": summary,
            "message": message,
        }
        upsert_rows(
            conn,
            job,
            [{"job_id": self.job_id, "command": "ingest", **ended}],
            key=["job_id"],
            update=list(ended),
        )

    def _failed(self, exc: BaseException) -> None:
        """Note the failure, where the database still takes notes; the next ingest finds the epochs."""
        if not self.job_id:
            return
        with contextlib.suppress(Exception), self.engine.begin() as conn:
            self._close_job(conn, "failed", getattr(exc, "exit_code", 1), " ".join(str(exc).split())[:500])


def _is_plate(buf: Buffer) -> bool:
    try:
        return is_plate(FitsBytes(buf))
    except NotRecognised:
        return False


def _catalogues_first(paths: list[str]) -> tuple[list[str], list[str]]:
    """Files that are catalogues or plates by their name, and the others."""
    first: list[str] = []
    others: list[str] = []
    for path in paths:
        base = PurePosixPath(path.split("::", 1)[0]).name.lower()
        (first if base.startswith(_CATALOGUE_NAMES) or base.endswith((".csv", ".csv.gz")) else others).append(
            path
        )
    return first, others


def _unfinished(conn: sa.Connection) -> bool:
    """Whether an ingest since the last whole one was stopped before it had found epochs."""
    left = conn.execute(
        sa.text(
            "select count(*) from job where command = 'ingest' and status in ('running', 'failed') "
            "and job_id > "
            "(select coalesce(max(job_id), 0) from job where command = 'ingest' and status = 'done')"
        )
    ).scalar_one()
    return bool(left)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
