"""Identifiers that come out the same on every engine, every machine and every re-ingest.

Keys are computed from what they name, never from a sequence, so rows can be built in bulk before any of
them is in the database, and the same survey file gives the same keys in DuckDB and in PostgreSQL.
"""

from __future__ import annotations

import secrets
import threading
import time

import numpy as np
import xxhash
from numpy.typing import ArrayLike, NDArray

_HASHED = 1 << 62
_lock = threading.Lock()
_last_ms = 0


def sdss_target_id(plate: ArrayLike, mjd: ArrayLike, fiber: ArrayLike) -> NDArray[np.int64]:
    """Pack plate, MJD and fibre into one positive 64-bit target key.

    Parameters
    ----------
    plate, mjd, fiber : array_like of int, shape (n,)
        Plate number (below 2^20), Modified Julian Date [d] (below 2^20) and fibre number (below 2^16).

    Returns
    -------
    ndarray of int64, shape (n,)
        ``plate << 36 | mjd << 16 | fiber``; always below 2^56, so it never meets a hashed key.
    """
    p = np.asarray(plate, dtype=np.int64)
    m = np.asarray(mjd, dtype=np.int64)
    f = np.asarray(fiber, dtype=np.int64)
    return (p << 36) | (m << 16) | f


def sdss_native_id(plate: int, mjd: int, fiber: int) -> str:
    """Name a spectrum as the literature does: ``PLATE-MJD-FIBER`` without padding."""
    return f"{int(plate)}-{int(mjd)}-{int(fiber)}"


def hashed_id(kind: str, *parts: object) -> int:
    """Deterministic positive key of anything named by text.

    Parameters
    ----------
    kind : str
        What is named, for example ``"source_file"``; keys of different kinds never coincide by design.
    *parts : object
        What names it, joined as text.

    Returns
    -------
    int
        In [2^62, 2^63): the lower 62 bits of an xxh3 hash with bit 62 set.
    """
    digest = xxhash.xxh3_64_intdigest("\x1f".join([kind, *map(str, parts)]).encode())
    return _HASHED | (digest & (_HASHED - 1))


def new_run_id() -> int:
    """A new time-ordered key, unique across processes: milliseconds since 1970 << 20, then 20 random bits."""
    global _last_ms
    with _lock:
        _last_ms = max(_last_ms + 1, time.time_ns() // 1_000_000)
        return (_last_ms << 20) | secrets.randbits(20)
