"""Which spectra are of one object, and which of them stands for it.

Targets within 2 arcsec of each other are epochs of one object. The primary epoch is one whose spectrum the
database has, since no other can be searched; of these one with ZWARNING 0, then the highest median S/N, then
the latest MJD, then the largest key; the others name it in
``primary_target_id``. Every member lies within 2 arcsec of its primary: where a chain of neighbours is
longer than that, what is too far from the best epoch makes a group of its own. Simulated targets are left
as they are: an injection shares its position with the galaxy that it was made from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from etl.merge import staged
from etl.pairs import pairs_within, unit_vectors
from schema.engine import read_columns, read_frame
from schema.tables import spec_obj

__all__ = ["RADIUS_ARCSEC", "assign", "group_epochs", "pairs_within", "unit_vectors"]

RADIUS_ARCSEC = 2.0
MARGIN_DEG = 10 * RADIUS_ARCSEC / 3600.0
MANY = 100_000
"""From this many changed targets on, all declinations are read."""


def group_epochs(
    conn: sa.Connection,
    changed: NDArray[np.int64] | None = None,
    loaded: dict[str, NDArray[Any]] | None = None,
) -> int:
    """Find epochs and mark the primaries.

    Parameters
    ----------
    conn : sqlalchemy.Connection
        Within a transaction.
    changed : ndarray of int64, optional
        Targets that are new or changed or lost their row; None for all. Only declinations near them are read.
    loaded : dict of ndarray, optional
        target_id, ra_deg and dec_deg of rows that were loaded into an empty table and are marked as epochs of
        their own; where the table still holds these alone, it is not read again.

    Returns
    -------
    int
        Rows of spec_obj that were rewritten.
    """
    if changed is not None and not len(changed):
        return 0
    if loaded is not None and _rows(conn) == len(loaded["target_id"]):
        return _mark(
            conn,
            loaded,
            None,
            "from spec_obj s join target t on t.target_id = s.target_id where true",
            fresh=True,
        )
    bands = None if changed is None else _bands(conn, changed)
    where = "not t.is_injection"
    if bands is not None:
        where += " and (" + " or ".join(f"t.dec_deg between {a!r} and {b!r}" for a, b in bands) + ")"
    source = f"from spec_obj s join target t on t.target_id = s.target_id where {where}"
    sky = read_columns(
        conn,
        f"select s.target_id, t.ra_deg, t.dec_deg {source}",
        {"target_id": "int", "ra_deg": "float", "dec_deg": "float"},
    )
    return _mark(conn, sky, bands, source)


def _rows(conn: sa.Connection) -> int:
    return int(conn.execute(sa.text("select count(*) from spec_obj")).scalar_one())


def _mark(
    conn: sa.Connection,
    sky: dict[str, NDArray[Any]],
    bands: list[tuple[float, float]] | None,
    source: str,
    *,
    fresh: bool = False,
) -> int:
    """Find pairs among these targets and rewrite the marks that are not as they should be."""
    pairs = pairs_within(sky["ra_deg"], sky["dec_deg"], RADIUS_ARCSEC)
    if fresh and not len(pairs):
        return 0
    paired = np.unique(pairs)
    rows = _details(conn, source, sky["target_id"][paired], fresh)
    if not len(rows["target_id"]):
        return 0
    stale = _stale(rows, sky, pairs, paired, bands)
    if not len(stale):
        return 0
    stage = staged(conn, spec_obj, "stage_epochs", stale)
    conn.execute(
        sa.text(
            "update spec_obj set is_primary = e.is_primary, primary_target_id = e.primary_target_id, "
            f"n_epoch = e.n_epoch from {stage.name} e where spec_obj.target_id = e.target_id"
        )
    )
    conn.execute(sa.text(f"drop table {stage.name}"))
    return len(stale)


def _details(
    conn: sa.Connection, source: str, paired: NDArray[np.int64], fresh: bool
) -> dict[str, NDArray[Any]]:
    """What ranks the epochs, of the targets that have a neighbour and of those that are marked to have
    one, which fresh rows are not.
    """
    marked = (
        "not s.is_primary or s.n_epoch is null or s.n_epoch <> 1 or s.primary_target_id is null "
        "or s.primary_target_id <> s.target_id or "
    )
    stage = staged(conn, spec_obj, "stage_paired", pa.table({"target_id": paired}))
    rows = read_columns(
        conn,
        "select s.target_id, t.dec_deg, coalesce(s.z_warning, 1) = 0 as good, "
        "exists (select 1 from spectrum x where x.target_id = s.target_id) as seen, "
        "coalesce(s.sn_median_all, cast(-1e30 as double precision)) as sn, "
        "cast(coalesce(s.mjd, 0) as bigint) as mjd, s.is_primary, "
        "coalesce(s.primary_target_id, -1) as primary_id, cast(coalesce(s.n_epoch, 0) as bigint) as n_epoch "
        f"{source} and ({'' if fresh else marked}s.target_id in (select p.target_id from {stage.name} p))",
        {
            "target_id": "int", "dec_deg": "float", "good": "bool", "seen": "bool", "sn": "float",
            "mjd": "int", "is_primary": "bool", "primary_id": "int", "n_epoch": "int",
        },
    )  # fmt: skip
    conn.execute(sa.text(f"drop table {stage.name}"))
    return rows


def _stale(
    rows: dict[str, NDArray[Any]],
    sky: dict[str, NDArray[Any]],
    pairs: NDArray[np.int64],
    paired: NDArray[np.int64],
    bands: list[tuple[float, float]] | None,
) -> pa.Table:
    """Rows of spec_obj whose marks differ from what the pairs say."""
    ids = rows["target_id"]
    by_id = np.argsort(ids)
    where = by_id[np.searchsorted(ids, sky["target_id"][paired], sorter=by_id)]
    local = where[np.searchsorted(paired, pairs)]  # (m, 2) indices into rows
    best_last = np.lexsort((ids, rows["mjd"], rows["sn"], rows["good"], rows["seen"]))
    rank = np.empty(len(ids), dtype=np.int64)
    rank[best_last] = np.arange(len(ids))[::-1]  # 0 is the best
    primary = assign(local, rank)
    size = np.bincount(primary, minlength=len(ids))[primary]
    is_primary = primary == np.arange(len(ids))
    stale = (
        (rows["primary_id"] != ids[primary]) | (rows["n_epoch"] != size) | (rows["is_primary"] != is_primary)
    )
    if bands is not None:  # near the edge of a band a partner may lie outside it
        inner = np.zeros(len(ids), dtype=bool)
        for lo, hi in bands:
            inner |= (rows["dec_deg"] >= lo + MARGIN_DEG / 2) & (rows["dec_deg"] <= hi - MARGIN_DEG / 2)
        stale &= inner
    return pa.table(
        {
            "target_id": ids[stale],
            "is_primary": pa.array(is_primary[stale]),
            "primary_target_id": ids[primary[stale]],
            "n_epoch": size[stale].astype(np.int32),
        }
    )


def _bands(conn: sa.Connection, changed: NDArray[np.int64]) -> list[tuple[float, float]] | None:
    """Declination intervals that hold the changed targets and what may be grouped with them; None for all."""
    if len(changed) > MANY:
        return None
    stage = staged(conn, spec_obj, "stage_changed", pa.table({"target_id": np.unique(changed)}))
    frame = read_frame(
        conn,
        "select distinct floor(t.dec_deg * 4) as q from target t "
        f"join {stage.name} c on c.target_id = t.target_id",
    )
    conn.execute(sa.text(f"drop table {stage.name}"))
    quarters = np.sort(frame["q"].to_numpy(dtype=float))
    if len(quarters) > 200 or not len(quarters):
        return None
    bands: list[tuple[float, float]] = []
    for q in quarters.tolist():
        lo, hi = q / 4 - MARGIN_DEG, (q + 1) / 4 + MARGIN_DEG
        if bands and lo <= bands[-1][1]:
            bands[-1] = (bands[-1][0], hi)
        else:
            bands.append((lo, hi))
    return bands


def assign(pairs: NDArray[np.int64], rank: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the primary of every row: itself, or a better one that it forms a pair with.

    Parameters
    ----------
    pairs : ndarray of int64, shape (m, 2)
        Rows within the radius of each other.
    rank : ndarray of int64, shape (n,)
        Distinct; the smaller the better.

    Returns
    -------
    ndarray of int64, shape (n,)
        A primary is its own primary.
    """
    primary = np.arange(len(rank))
    near: dict[int, list[int]] = {}
    for a, b in pairs.tolist():
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    taken: set[int] = set()
    for k in sorted(near, key=lambda i: rank[i]):
        if k in taken:
            continue
        taken.add(k)
        for other in near[k]:
            if other not in taken:
                taken.add(other)
                primary[other] = k
    return primary
