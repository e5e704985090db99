"""Which files the database has, with what content, and which need not be opened to know it."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
import sqlalchemy as sa

from etl.batch import source_file_id
from etl.sources import is_url


class KnownFiles:
    """Content hashes, sizes and modification times of the files in the database: 90 bytes a file."""

    def __init__(self, conn: sa.Connection) -> None:
        ids, hashes, stamps = [], [], []
        result = conn.execution_options(yield_per=50_000).execute(
            sa.text(
                "select source_file_id, content_hash, coalesce(size_bytes, -1), "
                "coalesce(cast(round(extract(epoch from modified_at) * 1000000) as bigint), -1) "
                "from source_file"
            )
        )
        for part in result.partitions():
            ids.append(np.array([r[0] for r in part], dtype=np.int64))
            hashes.append(np.array([r[1] for r in part], dtype="S65"))
            stamps.append(np.array([(r[2], r[3]) for r in part], dtype=np.int64))
        every = np.concatenate(ids) if ids else np.empty(0, dtype=np.int64)
        order = np.argsort(every)
        self.ids = every[order]
        self.values = np.concatenate(hashes)[order] if hashes else np.empty(0, dtype="S65")
        self.stamps = np.concatenate(stamps)[order] if stamps else np.empty((0, 2), dtype=np.int64)

    def hash_of(self, path: str) -> str | None:
        """Hash that the database has of one file; None where it has not met it."""
        k = self._place(path)
        return None if k is None else bytes(self.values[k]).decode()

    def is_as_ingested(self, path: str) -> bool:
        """Whether a local file has the size and the modification time that it was ingested with.

        A file whose time is not known, or that was written within 2 s of its ingest, never has.
        """
        k = self._place(path)
        if k is None or self.stamps[k, 1] < 0 or is_url(path):
            return False
        try:
            stat = os.stat(path)
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns // 1000) == tuple(self.stamps[k].tolist())

    def _place(self, path: str) -> int | None:
        key = source_file_id(path)
        k = int(np.searchsorted(self.ids, key))
        return k if k < len(self.ids) and self.ids[k] == key else None

    def hashes(self, paths: list[str]) -> list[str | None]:
        """Hashes of several files."""
        return [self.hash_of(p) for p in paths]

    def forget(self, paths: Iterable[str]) -> None:
        """Have these files read again."""
        for path in paths:
            k = self._place(path)
            if k is not None:
                self.values[k], self.stamps[k] = b"again", -1
