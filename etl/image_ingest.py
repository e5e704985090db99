"""One run of ``lensmine ingest hsc``, ``hst`` or ``cosmos``: catalogues first, then cutouts, batch by batch.

A batch's pixels are in their shards on disk before its rows are committed, all in one transaction; what a
kill leaves undone the next run does. A file whose content hash the database has is left alone. A changed
file replaces what came from it; one that has become unreadable keeps the rows of its last good content.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import sqlalchemy as sa

from etl.batch import Batch
from etl.checks import Fault
from etl.image_batch import ImageBatch
from etl.image_groups import Group, ImageOptions, group_files
from etl.image_load import drop_unused, load_images
from etl.image_names import SUFFIX, parse_name
from etl.image_places import Places
from etl.images import read_groups
from etl.known import KnownFiles
from etl.photometry_files import looks_like_table
from etl.photometry_load import SMALL_BYTES, load_catalogue, refused
from etl.sources import discover, is_url
from schema.engine import connect_engine, shard_root
from schema.processes import clean_temporary

IMAGE_SUFFIXES = (
    ".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.fz", ".h5", ".hdf5", ".npz", ".csv", ".csv.gz",
    ".parquet", ".pq",
)  # fmt: skip
TABLE_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".pq")
FITS_SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz")
BATCH_BYTES = 64 << 20
"""Size of the files that are read, and committed, at once [byte]; memory follows it."""

BATCH_GROUPS = 2048
TABLES_TOGETHER = 64
GROUPS_WORTH_A_POOL = 400
"""Below this many groups starting processes costs more than it saves."""


@dataclass
class ImageSummary:
    """What an ingest of images did; the keys of its JSON."""

    files: int = 0
    loaded: int = 0
    unchanged: int = 0
    rejected: int = 0
    cutouts: int = 0
    rows: int = 0
    rejects_fatal: int = 0
    rejects_repaired: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    files_per_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return {**self.__dict__, "reasons": dict(sorted(self.reasons.items()))}

    @property
    def nothing_new(self) -> bool:
        """Whether every file was as the database has it."""
        return self.unchanged == self.files


class ImageIngest:
    """One run over some paths; parameters as for `ingest_images`."""

    def __init__(
        self,
        paths: list[str],
        db: str | None,
        options: ImageOptions,
        processes: int | None = None,
        on_files: Callable[[int, int], None] | None = None,
    ) -> None:
        self.engine = connect_engine(db)
        self.root = shard_root(db)
        self.paths = discover(paths, IMAGE_SUFFIXES)
        self.options = options
        self.processes = processes or _cores()
        self.on_files = on_files
        self.summary = ImageSummary()
        self.places = Places()
        self.done = 0

    def run(self) -> ImageSummary:
        """Read everything."""
        started = time.monotonic()
        clean_temporary(self.root)
        with self.engine.connect() as conn:
            self.known = KnownFiles(conn)
        tables = [p for p in self.paths if _is_table(p)]
        listed = set(tables)
        images = [p for p in self.paths if p not in listed]
        images = sorted(set(images) | set(self._siblings(images)))
        self.total = len(tables) + len(images)
        self.read_tables(tables)
        self._forget_curable()
        groups, others = group_files(self.special(images))
        self._count(ImageBatch(unchanged=len(others), n_files=len(others)))
        self._read_groups(groups)
        summary = self.summary
        summary.files = self.total
        summary.seconds = round(time.monotonic() - started, 3)
        summary.files_per_s = round(summary.files / max(summary.seconds, 1e-9), 1)
        return summary

    def read_tables(self, tables: list[str]) -> None:
        """Catalogues: small ones share a transaction, a large one has its own."""
        small = [p for p in tables if not is_url(p) and _size(p) <= SMALL_BYTES and not p.endswith(".gz")]
        for k in range(0, len(small), TABLES_TOGETHER):
            with self.engine.begin() as conn:
                for path in small[k : k + TABLES_TOGETHER]:
                    try:
                        done = load_catalogue(conn, path, self.known.hash_of(path), self.options.survey)
                    except Fault as fault:
                        done = refused(conn, path, fault, self.known.hash_of(path)), 0
                    self._count_table(*done)
        for path in sorted(set(tables) - set(small)):
            had = self.known.hash_of(path)
            try:
                with self.engine.begin() as conn:
                    done = load_catalogue(conn, path, had, self.options.survey)
            except Fault as fault:
                with self.engine.begin() as conn:
                    done = refused(conn, path, fault, had), 0
            self._count_table(*done)

    def _count_table(self, done: Batch, n_rows: int) -> None:
        self.summary.rows += n_rows
        self._count(ImageBatch(files=done.files, rejects=done.rejects, unchanged=done.unchanged, n_files=1))

    def _forget_curable(self) -> None:
        """Have files read again that lacked what is there now: bands, orientation, position, a better one."""
        cures = [
            "r.reason_code = 'no_position' and ("
            "exists (select 1 from target t where t.native_id = r.native_id) or "
            "exists (select 1 from known_lens_name n where upper(replace(n.name, ' ', '')) = "
            "upper(r.native_id)))"
        ]
        if self.options.bands:
            cures.append("r.reason_code = 'unknown_band'")
        with self.engine.connect() as conn:
            for cure in cures:
                query = sa.text(f"select r.path from reject r where r.fatal and {cure}")
                self.known.forget(conn.execute(query).scalars().all())
            # cutouts of before there was a column for how they lie on the sky
            query = sa.text(
                "select f.path from source_file f where exists (select 1 from cutout c where "
                "c.source_file_id = f.source_file_id and c.sky_parity is null) and not exists "
                "(select 1 from reject r where r.source_file_id = f.source_file_id and r.fatal)"
            )
            self.known.forget(conn.execute(query).scalars().all())
            query = sa.text("select path, native_id from reject where reason_code = 'coarse_position'")
            coarse = conn.execute(query).all()
            self.known.forget(
                path
                for path, native in coarse
                if self.places.is_known(conn, native, parse_name(path).position)
            )

    def special(self, images: list[str]) -> list[str]:
        """Load the images that a survey treats in its own way; returns the others."""
        return images

    def _siblings(self, images: list[str]) -> Iterator[str]:
        """The other bands, masks and noise maps of local files that were named one by one."""
        given = set(images)
        wanted = {parse_name(p).group for p in images if not is_url(p)}
        for folder in sorted({os.path.dirname(p) for p in images if not is_url(p)}):
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):
                    path = os.path.join(folder, name)
                    if path in given or not SUFFIX.search(name):
                        continue
                    group = parse_name(path).group
                    if "*" in group and group in wanted:
                        yield path

    # -- cutouts --------------------------------------------------------------------------------------------

    def _read_groups(self, groups: list[Group]) -> None:
        chunks = list(_chunks(groups))
        remote = any(p.startswith("memory://") for g in groups for p in g.paths)
        if self.processes == 1 or len(groups) < GROUPS_WORTH_A_POOL or remote:
            for chunk in chunks:
                self._commit(read_groups(chunk, self._hashes(chunk), self.root, self.options))
            return
        self._read_in_pool(chunks)

    def _read_in_pool(self, chunks: list[list[Group]]) -> None:
        left = dict(enumerate(chunks))
        waiting: dict[Future[ImageBatch], int] = {}
        todo = iter(list(left))
        try:
            with ProcessPoolExecutor(self.processes, mp_context=get_context("spawn")) as pool:
                try:
                    while True:
                        while len(waiting) <= self.processes and (k := next(todo, None)) is not None:
                            known = self._hashes(left[k])
                            waiting[pool.submit(read_groups, left[k], known, self.root, self.options)] = k
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
                self._commit(read_groups(chunk, self._hashes(chunk), self.root, self.options))

    def _hashes(self, groups: list[Group]) -> dict[str, str]:
        paths = [p for g in groups for p in g.paths]
        return {p: h for p, h in zip(paths, self.known.hashes(paths), strict=True) if h is not None}

    def _commit(self, batch: ImageBatch) -> None:
        """Load what a batch holds, in one transaction."""
        if batch.files:
            with self.engine.begin() as conn:
                n_cutouts, n_rows = load_images(conn, batch, self.places)
            self.summary.cutouts += n_cutouts
            self.summary.rows += n_rows
            with self.engine.connect() as conn:
                drop_unused(batch, conn, self.root)
        self._count(batch)

    def _count(self, batch: ImageBatch) -> None:
        summary = self.summary
        summary.unchanged += batch.unchanged
        images = {f["path"] for f in batch.files if f["kind"] != "psf"}
        bad = {r["path"] for r in batch.rejects if r["fatal"] and r["row_index"] is None} & images
        summary.rejected += len(bad)
        summary.loaded += len(images) - len(bad)
        for row in {r["reject_id"]: r for r in batch.rejects}.values():
            summary.reasons[row["reason_code"]] += 1
            summary.rejects_fatal += row["fatal"]
            summary.rejects_repaired += not row["fatal"]
        self.done += batch.n_files
        if self.on_files and batch.n_files:
            self.on_files(self.done, self.total)


def _chunks(groups: list[Group]) -> Iterator[list[Group]]:
    """Groups in batches of `BATCH_BYTES` or `BATCH_GROUPS`."""
    chunk: list[Group] = []
    size = 0
    for group in groups:
        size += sum(_size(p) for p in group.paths)
        chunk.append(group)
        if size >= BATCH_BYTES or len(chunk) >= BATCH_GROUPS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _is_table(path: str) -> bool:
    """A catalogue by its ending, or a FITS file whose name holds no band and that begins with a table."""
    base = path.lower().split("::", 1)[0]
    if base.endswith(TABLE_SUFFIXES):
        return True
    if is_url(path) or not base.endswith(FITS_SUFFIXES):
        return False
    return parse_name(path).band is None and looks_like_table(path)


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 1 << 20


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ingest_images(
    survey: str,
    paths: list[str],
    db: str | None = None,
    *,
    bands: tuple[str, ...] | None = None,
    processes: int | None = None,
    on_files: Callable[[int, int], None] | None = None,
    how: type[ImageIngest] = ImageIngest,
) -> ImageSummary:
    """Load images and catalogues: what the commands ``ingest hsc``, ``cosmos`` and ``hst`` share.

    Parameters
    ----------
    survey : str
        Survey of what does not say its own.
    paths : list of str
        Files, folders, globs, .zip archives or fsspec URLs.
    db : str, optional
        Database, as for `schema.engine.resolve_url`.
    bands : tuple of str, optional
        Bands of the images of a file, in order, where files do not say.
    processes : int, optional
        Reading processes; all cores unless given. 1 reads in this process.
    on_files : callable, optional
        Told after every batch how many files are done, and of how many.
    how : class
        `ImageIngest` or one with a way of its own for some files.

    Returns
    -------
    ImageSummary
        What was done.

    Raises
    ------
    UserError
        When a path names nothing or the database cannot be used.
    TransientError
        When the database or a disk is in the way.
    """
    return how(paths, db, ImageOptions(survey, bands), processes, on_files).run()
