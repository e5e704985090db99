"""What ingest left in the database and on disk, for its tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from schema.engine import connect_engine


def select(db: str, sql: str) -> list[tuple[Any, ...]]:
    with connect_engine(db, read_only=True).connect() as conn:
        return [tuple(r) for r in conn.execute(sa.text(sql))]


def content(db: str) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that ingest writes, times aside."""
    out = {
        t: select(db, f"select * from {t} order by 1, 2")
        for t in ("target", "spec_obj", "spec_fill", "spectrum", "pixel_shard")
    }
    out["reject"] = select(
        db, "select reject_id, source_file_id, reason_code, reason, fatal from reject order by 1"
    )
    out["source_file"] = select(
        db, "select source_file_id, path, kind, content_hash, n_rows from source_file order by 1"
    )
    return out


def folder_state(root: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_mtime_ns) for p in root.rglob("*"))
