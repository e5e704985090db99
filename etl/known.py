"""Which files the database has, and with what content."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import sqlalchemy as sa

from etl.batch import source_file_id


class KnownFiles:
    """Content hashes of the files in the database: 24 bytes a file."""

    def __init__(self, conn: sa.Connection) -> None:
        ids, hashes = [], []
        result = conn.execution_options(yield_per=50_000).execute(
            sa.text("select source_file_id, content_hash from source_file")
        )
        for part in result.partitions():
            ids.append(np.array([r[0] for r in part], dtype=np.int64))
            hashes.append(np.array([r[1] for r in part], dtype="S65"))
        every = np.concatenate(ids) if ids else np.empty(0, dtype=np.int64)
        order = np.argsort(every)
        self.ids = every[order]
        self.values = np.concatenate(hashes)[order] if hashes else np.empty(0, dtype="S65")

    def hash_of(self, path: str) -> str | None:
        """Hash that the database has of one file; None where it has not met it."""
        key = source_file_id(path)
        k = int(np.searchsorted(self.ids, key))
        if k == len(self.ids) or self.ids[k] != key:
            return None
        return bytes(self.values[k]).decode()

    def hashes(self, paths: list[str]) -> list[str | None]:
        """Hashes of several files."""
        return [self.hash_of(p) for p in paths]

    def forget(self, paths: Iterable[str]) -> None:
        """Have these files read again."""
        for path in paths:
            k = int(np.searchsorted(self.ids, source_file_id(path)))
            if k < len(self.ids):
                self.values[k] = b"again"
