"""Helpers of the tests of scoring runs: rows, and ``lensmine score`` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from schema.engine import connect_engine, shard_root

REPO = Path(__file__).resolve().parent.parent
LENSMINE = [sys.executable, "-m", "lensmine"]


def rows(db: str, query: Any) -> list[Any]:
    until = time.monotonic() + 60
    while True:
        try:
            with connect_engine(db, read_only=True, check=False).connect() as conn:
                return list(conn.execute(sa.text(query) if isinstance(query, str) else query).all())
        except Exception:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def number(db: str, query: str) -> int:
    return int(rows(db, query)[0][0])


def scored_once(db: str, n: int, table: str = "score", key: str = "spectrum_id") -> bool:
    """Every spectrum or cutout has one score, and no chunk is open."""
    return (
        number(db, f"select count(*) from {table}") == n
        and number(db, f"select count(distinct {key}) from {table}") == n
        and number(db, "select count(*) from run_chunk where state <> 'done'") == 0
    )


def environment(db: str) -> dict[str, str]:
    return os.environ | {"LENSMINE_DB": db, "LENSMINE_SHARDS": str(shard_root(db)), "OMP_NUM_THREADS": "1"}


def start(db: str, model: str, selection: str, *options: str) -> subprocess.Popen[str]:
    command = [*LENSMINE, "score", model, selection, "--json", *options]
    return subprocess.Popen(
        command, cwd=REPO, env=environment(db), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_scores(db: str, process: subprocess.Popen[str], n: int, table: str = "score") -> int:
    while process.poll() is None:
        found = number(db, f"select count(*) from {table}")
        if found >= n:
            return found
        time.sleep(0.05)
    raise AssertionError(f"it ended too early: {process.communicate()}")
