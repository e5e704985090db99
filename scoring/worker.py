"""One process's part in a scoring run: lease, compute, commit, until no chunk is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa

from schema.engine import connect_engine, shard_root
from schema.errors import DataError, TransientError
from schema.processes import uninterrupted
from schema.tables import run_chunk, scoring_run
from scoring import leases
from scoring.leases import Lease
from scoring.pipeline import Piece, make_pipeline
from scoring.report import ScoreReport
from scoring.tasks import Task

if TYPE_CHECKING:
    from scoring.backends import Backend
    from scoring.models.base import Model

LOCK_PATIENCE_SECONDS = 120.0
POLL_SECONDS = 1.0

Progress = Callable[[int, int], None]
_T = TypeVar("_T")


def patiently(work: Callable[[], _T], patience_s: float = LOCK_PATIENCE_SECONDS) -> _T:
    """Do a short piece of database work, again while another process holds the file.

    Parameters
    ----------
    work : callable
        Opens its own connection and leaves nothing half done when it fails.
    patience_s : float
        How long to try before the TransientError is passed on [s].
    """
    until = time.monotonic() + patience_s
    pause = 0.05
    while True:
        try:
            with uninterrupted():
                return work()
        except TransientError:
            if time.monotonic() > until:
                raise
            time.sleep(pause)
            pause = min(1.0, 2 * pause)


class Worker:
    """Works on one run.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    task : Task
        Model version and selection.
    model : Model
        Loaded model.
    backend : Backend
        Runs its network.
    run_id : int
        The run, planned already.
    chunk : int
        Spectra or cutouts to lease and to commit at a time.
    lease_s : int
        Length of a lease [s]; renewed after a third of it.
    report : ScoreReport
        Filled in as the work goes on.
    progress : callable
        Called with how many were just scored and how many are to score in all.
    """

    def __init__(
        self,
        db: str | None,
        task: Task,
        model: Model,
        backend: Backend,
        run_id: int,
        *,
        chunk: int,
        lease_s: int,
        report: ScoreReport,
        progress: Progress | None = None,
    ) -> None:
        self.db, self.task, self.run_id, self.chunk, self.lease_s = db, task, run_id, chunk, lease_s
        self.report = report
        self.progress = progress
        self.owner = leases.owner_name()
        self.pipeline = make_pipeline(model, backend, shard_root(db))
        self.held: list[tuple[Lease, list[Future[Piece]]]] = []
        self.ready: list[tuple[Lease, Piece]] = []
        self.broken: list[Lease] = []
        self.faults: list[str] = []
        self.renew_at = time.monotonic() + lease_s / 3
        report.run_id, report.threads = run_id, self.pipeline.threads

    def run(self, began: float) -> None:
        """Work until the run has no chunk left for this process, then note how it ended.

        Parameters
        ----------
        began : float
            time.perf_counter() when the command began, from which the rate is reckoned.

        Raises
        ------
        DataError
            When a shard was missing or damaged; what does not need it is scored all the same.
        """
        status, message = "failed", ""
        try:
            self._work()
            status = "failed" if self.faults else "done"
            message = self.faults[0] if self.faults else ""
        except KeyboardInterrupt:
            status, message = "stopped", "interrupted; the same command goes on where it stopped"
            raise
        except BaseException as error:
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise
        finally:
            self.pipeline.close()
            self._close(status, message, began)
        if self.faults:
            n = len(self.faults)
            raise DataError(
                f"{message} ({n} chunk{'s' if n > 1 else ''} of run {self.run_id} failed; "
                f"{self.report.n_scored:,} {self.task.modality.noun} were scored and kept)"
            )

    def _work(self) -> None:
        self._exchange()
        while self.held or self._wait_for_others():
            if not self.held:
                continue
            lease, futures = self.held[0]
            got = self._gather(lease, futures)
            self.held.pop(0)
            if got is not None:
                self.ready.append((lease, got))
            ready = sum(len(each) for each, _ in self.ready)
            if ready >= self.chunk or self._n_held() < self.chunk:
                self._exchange()

    def _n_held(self) -> int:
        return sum(len(lease) for lease, _ in self.held)

    def _gather(self, lease: Lease, futures: list[Future[Piece]]) -> Piece | None:
        """Result of a chunk once its threads are through; None where its shard is at fault."""
        parts = []
        try:
            for future in futures:
                parts.append(future.result())
                if self.progress is not None:
                    self.progress(len(parts[-1]["keep"]), self.report.n_todo)
                if time.monotonic() > self.renew_at:
                    self._renew()
        except DataError as error:
            for future in futures:
                future.cancel()
            self._fault(lease, str(error))
            return None
        return self.pipeline.joined(parts)

    def _fault(self, lease: Lease, message: str) -> None:
        self.faults.append(message)
        self.broken.append(lease)

    def _every_lease(self) -> list[Lease]:
        return [lease for lease, _ in self.held] + [lease for lease, _ in self.ready] + self.broken

    def _renew(self) -> None:
        def renew() -> None:
            with connect_engine(self.db, check=False).begin() as conn:
                leases.renew(conn, self.run_id, self._every_lease(), self.lease_s)

        patiently(renew)
        self.renew_at = time.monotonic() + self.lease_s / 3

    def _exchange(self) -> None:
        """In one short transaction commit what is ready and lease the next chunks, which start at once."""
        began = time.perf_counter()
        room = 2 * self.chunk - self._n_held()

        def exchange() -> tuple[int, int, list[Lease], dict[int, str]]:
            with connect_engine(self.db, check=False).begin() as conn:
                n_scored, n_lost = leases.commit(conn, self.task, self.run_id, self.ready)
                taken = leases.take(
                    conn, self.task, self.run_id, self.owner, items=room, lease_s=self.lease_s
                )
                names = leases.shard_names(conn, self.task, {each.shard_id for each in taken})
                return n_scored, n_lost, taken, names

        n_scored, n_lost, taken, names = patiently(exchange)
        self.ready = []
        self.report.n_scored += n_scored
        self.report.skip("lost", n_lost)
        for lease in taken:
            try:
                self.held.append((lease, self.pipeline.submit(lease, names.get(lease.shard_id))))
            except DataError as error:
                self._fault(lease, str(error))
        self.pipeline.seconds["write" if n_scored else "select"] += time.perf_counter() - began

    def _wait_for_others(self) -> bool:
        """Whether another worker still holds chunks; then waits a little and takes what has come free."""

        def look() -> bool:
            c = run_chunk.c
            with connect_engine(self.db, read_only=True, check=False).connect() as conn:
                mine = [lease.chunk_no for lease in self.broken]
                query = sa.select(sa.func.count()).where(
                    c.run_id == self.run_id, c.state != "done", c.chunk_no.not_in(mine)
                )
                return bool(conn.execute(query).scalar_one())

        if not patiently(look):
            return False
        time.sleep(POLL_SECONDS)
        self._exchange()
        return True

    def _close(self, status: str, message: str, began: float) -> None:
        """Give back what is held and note in the run how it ended."""
        report, c = self.report, scoring_run.c
        wall = time.perf_counter() - began
        report.status, report.message = status, message
        for why, n in self.pipeline.skipped.items():
            report.skip(why, n)
        for stage, spent in self.pipeline.seconds.items():
            report.seconds[stage] = report.seconds.get(stage, 0.0) + spent
        report.seconds["wall"] = wall
        report.spectra_per_s = report.n_scored / wall if wall else 0.0

        def close() -> None:
            with connect_engine(self.db, check=False).begin() as conn:
                leases.release(conn, self.run_id, self.owner)
                was = conn.execute(
                    sa.select(c.seconds, c.status, c.n_scored).where(c.run_id == self.run_id)
                ).one()
                total = {k: v + (was.seconds or {}).get(k, 0.0) for k, v in report.seconds.items()}
                ended = "failed" if was.status == "failed" else status
                if status == "stopped" and leases.count_chunks(conn, self.run_id)["leased"]:
                    ended = "running"  # another worker goes on
                conn.execute(
                    scoring_run.update()
                    .where(c.run_id == self.run_id)
                    .values(
                        status=ended,
                        finished_at=sa.func.current_timestamp(),
                        seconds={stage: round(spent, 3) for stage, spent in total.items()},
                        spectra_per_s=was.n_scored / total["wall"] if total["wall"] else None,
                        message=message or None,
                    )
                )

        patiently(close)
