"""``lensmine ingest lenses``: catalogues of known lenses, every name kept, every lens once.

Entries are one lens when they lie within the smaller of their types' radii of the best of them: 3 arcsec
for a galaxy or an unknown type, 5 for a group, 10 for a cluster, whose published centres differ by that
much while the systems found in one cluster are further apart. The best entry gives name and position: a
confident grade first, then a known redshift, then lenscat before others, then the name. Redshifts that
differ by more than 0.05 (1 + z) leave the lens without one; what each catalogue says stays in
known_lens_name.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from etl.batch import Batch, fault_note, file_row, reject_row, source_file_id
from etl.checks import Fault
from etl.epochs import assign, pairs_within, unit_vectors
from etl.lens_files import LensFile, packaged_catalogue, read_lens_file
from etl.load import load_files
from etl.sources import is_url, opened
from schema.engine import connect_engine
from schema.healpix import hpx29, lens_cells
from schema.ids import hashed_id
from schema.tables import known_lens, known_lens_cell, known_lens_name
from schema.upsert import delete_keys, insert_rows, upsert_rows

RADIUS_ARCSEC = {"galaxy": 3.0, "group": 5.0, "cluster": 10.0}
UNKNOWN_RADIUS_ARCSEC = 3.0
SAME_REDSHIFT = 0.05
"""Redshifts within this times (1 + z) are taken for one."""

CONFIDENT = {"confident", "A"}
PROBABLE = {"probable", "B", "C", "p"}
CATALOGUE_RANK = {"lenscat": 0, "masterlens": 1}


@dataclass
class LensSummary:
    """What an ingest of lenses did; the keys of its JSON.

    ``still_rejected`` counts those of the unchanged files that were rejected before.
    """

    files: int = 0
    loaded: int = 0
    unchanged: int = 0
    rejected: int = 0
    still_rejected: int = 0
    names: int = 0
    lenses: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return {**self.__dict__, "reasons": dict(sorted(self.reasons.items()))}

    @property
    def nothing_new(self) -> bool:
        """Whether every catalogue was as the database has it."""
        return self.unchanged == self.files


def ingest_lenses(paths: list[str], db: str | None = None) -> LensSummary:
    """Load catalogues of known lenses and merge all that the database holds.

    Parameters
    ----------
    paths : list of str
        lenscat CSVs or Master Lens Database dumps, as paths or fsspec URLs; empty for the packaged lenscat.
    db : str, optional
        Database, as for `schema.engine.resolve_url`.

    Returns
    -------
    LensSummary
        What was done; `lenses` counts all lenses in the database.

    Raises
    ------
    UserError
        When there is no packaged catalogue, or the database cannot be used.
    """
    started = time.monotonic()
    engine = connect_engine(db)
    files = [p if is_url(p) else str(Path(p).expanduser().absolute()) for p in paths] or [
        str(packaged_catalogue())
    ]
    summary = LensSummary(files=len(files))
    with engine.begin() as conn:
        changed = [_load_file(conn, path, summary) for path in files]
        if any(changed):
            _rebuild(conn)
        summary.names, summary.lenses = (
            conn.execute(sa.select(sa.func.count()).select_from(t)).scalar_one()
            for t in (known_lens_name, known_lens)
        )
    summary.seconds = round(time.monotonic() - started, 3)
    return summary


def _load_file(conn: sa.Connection, path: str, summary: LensSummary) -> bool:
    """Entries of one catalogue into known_lens_name, each a lens of its own for now; False when nothing
    changed.
    """
    file_id = source_file_id(path)
    had = conn.execute(
        sa.text("select content_hash from source_file where source_file_id = :f"), {"f": file_id}
    ).scalar()
    content_hash, size = "", 0
    batch = Batch(replaced=[file_id] if had is not None else [])
    read: LensFile | None = None
    try:
        with opened(path) as content:
            content_hash, size = content.content_hash, content.size
            if had != content_hash:
                read = read_lens_file(bytes(content.buf))
    except Fault as fault:
        content_hash, size = content_hash or fault.content_hash, size or fault.size
        if had is not None and had == content_hash:
            _count_unchanged(conn, file_id, summary)
            return False
        summary.rejected += 1
        summary.reasons[fault.code] += 1
        failed = Batch(
            files=[file_row(path, None, content_hash, size, 0, 1)],
            rejects=[reject_row(path, fault_note(fault))],
            failed=[file_id] if had is not None else [],
        )
        load_files(conn, failed)
        return False
    if read is None:
        _count_unchanged(conn, file_id, summary)
        return False
    rows = _name_rows(read, file_id)
    keys = set(rows["lens_name_id"].to_pylist())
    old = conn.execute(
        sa.text("select lens_name_id from known_lens_name where source_file_id = :f"), {"f": file_id}
    ).scalars()
    gone = [k for k in old if k not in keys]
    _stand_in_lenses(conn, rows)
    upsert_rows(
        conn, known_lens_name, rows, key=["lens_name_id"],
        update=[c for c in rows.column_names if c not in ("lens_name_id", "lens_id")],
    )  # fmt: skip
    delete_keys(conn, known_lens_name, "lens_name_id", pa.array(gone, pa.int64()))
    batch.rejects = [reject_row(path, n) for n in read.notes]
    n_fatal = sum(n.fatal for n in read.notes)
    batch.files = [file_row(path, read.catalogue, content_hash, size, len(rows), n_fatal)]
    load_files(conn, batch)
    summary.loaded += 1
    summary.reasons.update(n.code for n in read.notes)
    return True


def _count_unchanged(conn: sa.Connection, file_id: int, summary: LensSummary) -> None:
    whole_file = "select 1 from reject where source_file_id = :f and fatal and row_index is null limit 1"
    summary.unchanged += 1
    summary.still_rejected += conn.execute(sa.text(whole_file), {"f": file_id}).first() is not None


def _name_rows(read: LensFile, file_id: int) -> pa.Table:
    fields: dict[str, list[Any]] = {c.name: [] for c in known_lens_name.columns}
    for entry in read.entries:
        key = hashed_id("lens_name", read.catalogue, entry.name, entry.row)
        values = {
            "lens_name_id": key,
            "lens_id": hashed_id("lens", key),
            "source_file_id": file_id,
            "catalogue": read.catalogue,
            **{k: v for k, v in entry.__dict__.items() if k != "row"},
        }
        for name, value in values.items():
            fields[name].append(value)
    types = {
        name: pa.int64() if name.endswith("_id") else pa.float64() if _is_number(name) else pa.string()
        for name in fields
    }
    return pa.table({name: pa.array(values, types[name]) for name, values in fields.items()})


def _is_number(name: str) -> bool:
    return isinstance(known_lens_name.c[name].type, sa.Double)


def _stand_in_lenses(conn: sa.Connection, rows: pa.Table) -> None:
    """A lens for each new entry, so that its foreign key holds until all are merged."""
    ra, dec = (np.asarray(rows[c]) for c in ("ra_deg", "dec_deg"))
    lenses = pa.table(
        {
            "lens_id": rows["lens_id"],
            "name": rows["name"],
            "ra_deg": rows["ra_deg"],
            "dec_deg": rows["dec_deg"],
            "hpx29": hpx29(ra, dec),
        }
    )
    upsert_rows(conn, known_lens, lenses, key=["lens_id"])


def _rebuild(conn: sa.Connection) -> None:
    """Merge all entries into lenses, and rewrite what differs."""
    from schema.engine import read_frame

    names = read_frame(conn, "select * from known_lens_name order by lens_name_id")
    rank = _rank(names)
    ra, dec = names["ra_deg"].to_numpy(float), names["dec_deg"].to_numpy(float)
    best = group_entries(ra, dec, _texts(names["lens_type"]), rank)
    lens_ids = np.array([hashed_id("lens", k) for k in names["lens_name_id"].tolist()], dtype=np.int64)
    members: dict[int, list[int]] = {}
    for k in np.argsort(rank).tolist():  # best first
        members.setdefault(int(best[k]), []).append(k)
    lenses = _lens_table(names, members, lens_ids)
    others = [c for c in lenses.column_names if c != "lens_id"]
    upsert_rows(conn, known_lens, lenses, key=["lens_id"], update=others)
    moved = names["lens_id"].to_numpy(np.int64) != lens_ids[best]
    if moved.any():
        keys = names["lens_name_id"].to_numpy(np.int64)[moved]
        link = pa.table(
            {"lens_name_id": keys, "lens_id": lens_ids[best][moved], "name": names["name"][moved].tolist()}
        )
        upsert_rows(conn, known_lens_name, link, key=["lens_name_id"], update=["lens_id"])
    _rewrite_cells(conn, lenses)
    have = conn.execute(sa.select(known_lens.c.lens_id)).scalars()
    wanted = set(lenses["lens_id"].to_pylist())
    delete_keys(conn, known_lens, "lens_id", pa.array([k for k in have if k not in wanted], pa.int64()))


def _rewrite_cells(conn: sa.Connection, lenses: pa.Table) -> None:
    """known_lens_cell for lenses that lack it or moved; away with those of lenses that are gone."""
    row, cell = lens_cells(np.asarray(lenses["ra_deg"]), np.asarray(lenses["dec_deg"]))
    ids = np.asarray(lenses["lens_id"])[row]
    wanted = set(zip(ids.tolist(), cell.tolist(), strict=True))
    have = {tuple(r) for r in conn.execute(sa.select(known_lens_cell.c.lens_id, known_lens_cell.c.cell))}
    surplus = {k for k, _ in have - wanted}
    if surplus:  # a lens's cells go together: rare, and the rest is put back below
        delete_keys(conn, known_lens_cell, "lens_id", pa.array(sorted(surplus), pa.int64()))
        have = {r for r in have if r[0] not in surplus}
    new = sorted(wanted - have)
    if new:
        insert_rows(
            conn, known_lens_cell,
            pa.table({"lens_id": [k for k, _ in new], "cell": [c for _, c in new]}),
        )  # fmt: skip


def _texts(values: Any) -> list[str | None]:
    """A text column with None where pandas has NaN."""
    return [v if isinstance(v, str) else None for v in values.tolist()]


def _rank(names: Any) -> NDArray[np.int64]:
    """Order of trust in the entries, 0 the best."""
    keys = [
        (
            0 if g in CONFIDENT else 1 if g in PROBABLE else 2,
            0 if z == z and z is not None else 1,
            CATALOGUE_RANK.get(c, 9),
            n,
            k,
        )
        for g, z, c, n, k in zip(
            names["grading"],
            names["z_lens"],
            names["catalogue"],
            names["name"],
            names["lens_name_id"],
            strict=True,
        )
    ]
    rank = np.empty(len(keys), dtype=np.int64)
    rank[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    return rank


def group_entries(
    ra_deg: NDArray[np.float64],
    dec_deg: NDArray[np.float64],
    types: list[str | None],
    rank: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Which entries are one lens.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray, shape (n,)
        Positions [deg].
    types : list of str or None
        galaxy, group or cluster.
    rank : ndarray of int64, shape (n,)
        Order of trust, 0 the best.

    Returns
    -------
    ndarray of int64, shape (n,)
        Index of the best entry of the lens that each entry belongs to.
    """
    reach = np.array([RADIUS_ARCSEC.get(t or "", UNKNOWN_RADIUS_ARCSEC) for t in types])
    pairs = pairs_within(ra_deg, dec_deg, max(RADIUS_ARCSEC.values()))
    spot = unit_vectors(ra_deg, dec_deg)
    chord = np.linalg.norm(spot[pairs[:, 0]] - spot[pairs[:, 1]], axis=1)
    sep = np.degrees(2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0))) * 3600.0
    return assign(pairs[sep <= np.minimum(reach[pairs[:, 0]], reach[pairs[:, 1]])], rank)


def _lens_table(names: Any, members: dict[int, list[int]], lens_ids: NDArray[np.int64]) -> pa.Table:
    """Rows of known_lens: what the best entry says, completed by the others in order of trust."""
    columns = {c: names[c].tolist() for c in ("name", "ra_deg", "dec_deg")}
    columns |= {c: _texts(names[c]) for c in ("lens_type", "grading")}
    numbers = {c: names[c].to_numpy(float) for c in ("z_lens", "z_source", "theta_e_arcsec")}
    rows: dict[str, list[Any]] = {c.name: [] for c in known_lens.columns if c.name != "hpx29"}
    for best, group in members.items():
        rows["lens_id"].append(int(lens_ids[best]))
        for c in ("name", "ra_deg", "dec_deg"):
            rows[c].append(columns[c][best])
        rows["z_lens"].append(_agreed(numbers["z_lens"][group]))
        rows["z_source"].append(_agreed(numbers["z_source"][group]))
        radii = numbers["theta_e_arcsec"][group]
        rows["theta_e_arcsec"].append(next((float(r) for r in radii if r == r), None))
        rows["lens_type"].append(
            next((columns["lens_type"][k] for k in group if columns["lens_type"][k]), None)
        )
        grades = {columns["grading"][k] for k in group}
        rows["grading"].append(
            "confident" if grades & CONFIDENT else "probable" if grades & PROBABLE else None
        )
        rows["n_names"].append(len(group))
    table = pa.table(
        {
            name: pa.array(values, pa.int64() if name == "lens_id" else None)
            if name in ("lens_id", "name", "ra_deg", "dec_deg", "n_names")
            else pa.array(values, pa.string() if name in ("lens_type", "grading") else pa.float64())
            for name, values in rows.items()
        }
    )
    cells = hpx29(np.asarray(table["ra_deg"]), np.asarray(table["dec_deg"]))
    return table.append_column("hpx29", pa.array(cells))


def _agreed(values: NDArray[np.float64]) -> float | None:
    """The first redshift, unless another differs from it."""
    known = values[np.isfinite(values)]
    if not len(known) or (np.abs(known - known[0]) > SAME_REDSHIFT * (1.0 + known[0])).any():
        return None
    return float(known[0])
