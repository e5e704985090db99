"""Proof by query that a database holds together: what `lensmine db check` runs, alike on both engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from schema.engine import HEAD, connect_engine, current_revision, resolve_url, shard_root, shown
from schema.errors import DataError
from schema.healpix import LENS_RADIUS_ARCSEC, LENS_SHIFT, hpx29
from schema.image_shards import ImageShard
from schema.shards import Shard
from schema.tables import image_shard, known_lens, metadata, pixel_shard, target
from schema.views.order import VIEW_ORDER

SOFT_REFS = (
    ("reject", "source_file_id", "source_file", "source_file_id"),
    ("spec_obj", "source_file_id", "source_file", "source_file_id"),
    ("spectrum", "source_file_id", "source_file", "source_file_id"),
    ("known_lens_name", "source_file_id", "source_file", "source_file_id"),
    ("spec_fill", "target_id", "spec_obj", "target_id"),
    ("spec_fill", "source_file_id", "source_file", "source_file_id"),
    ("spec_obj", "primary_target_id", "spec_obj", "target_id"),
    ("cutout", "source_file_id", "source_file", "source_file_id"),
    ("phot_obj", "source_file_id", "source_file", "source_file_id"),
    ("injection_lens", "target_id", "injection", "target_id"),
    ("tracer", "target_id", "target", "target_id"),
)
"""References that no foreign key declares, as the parent is written last: child, column, parent, column."""

UNIQUE = (
    ("target", ("survey", "native_id")),
    ("spectrum", ("shard_id", "shard_row")),
    ("cutout", ("shard_id", "shard_row")),
)
"""Keys that no constraint declares, to spare every load an index."""

CHUNK = 500_000
"""Positions recomputed at a time, so that memory stays flat."""


@dataclass(frozen=True)
class Finding:
    """Outcome of one check: how many rows, files or views are wrong, and what to do about them."""

    check: str
    n_checked: int
    n_bad: int
    message: str = ""

    @property
    def ok(self) -> bool:
        """True when nothing is wrong."""
        return self.n_bad == 0


def check_database(db: str | None = None, progress: Callable[[str], None] | None = None) -> list[Finding]:
    """Check a database and its pixel shards.

    Parameters
    ----------
    db : str or None
        As for `schema.engine.resolve_url`.
    progress : callable or None
        Called with the name of each check as it is done.

    Returns
    -------
    list of Finding
        One a check. At another migration than this lensmine's there is only that one.
    """
    findings: list[Finding] = []
    url = resolve_url(db)
    with connect_engine(db, check=False, read_only=True).connect() as conn:
        for finding in _all_checks(conn, url):
            findings.append(finding)
            if progress:
                progress(finding.check)
    return findings


def _all_checks(conn: sa.Connection, url: str) -> Iterator[Finding]:
    revision = current_revision(conn)
    if revision != HEAD:
        todo = (
            f"at migration {revision}, this lensmine needs {HEAD}; run: lensmine db upgrade --db {shown(url)}"
        )
        yield Finding("migration", 1, 1, todo)
        return
    yield Finding("migration", 1, 0)
    yield _views(conn)
    for table in metadata.sorted_tables:
        for column in table.c:
            if column.info.get("ref"):
                parent, parent_column = column.info["ref"].split(".")
                yield _reference(conn, table.name, column.name, parent, parent_column)
    for child, name, parent, parent_column in SOFT_REFS:
        yield _reference(conn, child, name, parent, parent_column)
    for table in metadata.sorted_tables:
        yield _unique(conn, table.name, tuple(c.name for c in table.primary_key.columns))
        for constraint in table.constraints:
            if isinstance(constraint, sa.UniqueConstraint):
                yield _unique(conn, table.name, tuple(c.name for c in constraint.columns))
    for name, columns in UNIQUE:
        yield _unique(conn, name, columns)
    yield from _primaries(conn)
    yield _cells(conn, target, "target_id")
    yield _cells(conn, known_lens, "lens_id")
    yield _lens_cover(conn)
    yield from _shards(conn, shard_root(url))
    yield from _image_shards(conn, shard_root(url))
    yield _settings(conn)


def _count(conn: sa.Connection, sql: str) -> int:
    return int(conn.execute(sa.text(sql)).scalar() or 0)


def _views(conn: sa.Connection) -> Finding:
    missing = sorted(set(VIEW_ORDER) - set(sa.inspect(conn).get_view_names()))
    todo = f"missing: {', '.join(missing)}; rebuild them with: lensmine db upgrade" if missing else ""
    return Finding("views", len(VIEW_ORDER), len(missing), todo)


def _reference(conn: sa.Connection, child: str, column: str, parent: str, parent_column: str) -> Finding:
    n = _count(conn, f"select count({column}) from {child}")
    bad = _count(
        conn,
        f"select count(*) from {child} as c left join {parent} as p on p.{parent_column} = c.{column} "
        f"where c.{column} is not null and p.{parent_column} is null",
    )
    todo = (
        f"{bad} rows of {child} name a {parent} that is not there; ingest their files again, or delete them"
    )
    return Finding(f"{child}.{column} -> {parent}", n, bad, todo if bad else "")


def _unique(conn: sa.Connection, table: str, columns: tuple[str, ...]) -> Finding:
    names = ", ".join(columns)
    n = _count(conn, f"select count(*) from {table}")
    bad = _count(
        conn, f"select count(*) from (select 1 as one from {table} group by {names} having count(*) > 1) as d"
    )
    todo = f"{bad} values of ({names}) stand in several rows of {table}; delete the older ones"
    return Finding(f"{table} unique ({names})", n, bad, todo if bad else "")


def _primaries(conn: sa.Connection) -> Iterator[Finding]:
    """Exactly one primary spectrum and cutout a target, and one primary epoch an object."""
    for table, group, what in (
        ("spectrum", "target_id", "targets have none, or several, primary spectra"),
        ("cutout", "target_id", "targets have none, or several, primary cutouts"),
        (
            "spec_obj",
            "coalesce(primary_target_id, target_id)",
            "objects have none, or several, primary epochs",
        ),
    ):
        n = _count(conn, f"select count(distinct {group}) from {table}")
        bad = _count(
            conn,
            f"select count(*) from (select {group} as g from {table} group by {group} "
            "having sum(case when is_primary then 1 else 0 end) <> 1) as d",
        )
        todo = f"{bad} {what}; ingest their files again" if bad else ""
        yield Finding(f"{table}.is_primary", n, bad, todo)
    bad = _count(
        conn,
        "select count(*) from spec_obj as o inner join spec_obj as p on p.target_id = o.primary_target_id "
        "where not p.is_primary",
    )
    todo = f"{bad} rows of spec_obj name a primary epoch that is not primary; ingest their files again"
    yield Finding(
        "spec_obj.primary_target_id", _count(conn, "select count(*) from spec_obj"), bad, todo if bad else ""
    )


def _cells(conn: sa.Connection, table: sa.Table, key: str) -> Finding:
    """The stored cell is that of the stored position."""
    c = table.c
    n = bad = 0
    first = ""
    last = -(2**63)
    while True:
        query = (
            sa.select(c[key], c.ra_deg, c.dec_deg, c.hpx29).where(c[key] > last).order_by(c[key]).limit(CHUNK)
        )
        rows = conn.execute(query).all()
        if not rows:
            break
        ids, ra, dec, stored = (np.array(v) for v in zip(*rows, strict=True))
        last = int(ids[-1])
        here = np.isfinite(ra) & (np.abs(dec) <= 90)
        wrong = ~here
        wrong[here] = hpx29(ra[here], dec[here]) != stored[here]
        n += len(rows)
        bad += int(wrong.sum())
        if wrong.any() and not first:
            k = int(np.flatnonzero(wrong)[0])
            first = f"{key} {ids[k]} at ra {ra[k]}, dec {dec[k]}"
    todo = (
        f"{bad} cells of {table.name} are not those of the position, first {first}; ingest their files again"
    )
    return Finding(f"{table.name}.hpx29", n, bad, todo if bad else "")


def _lens_cover(conn: sa.Connection) -> Finding:
    bad = _count(
        conn,
        f"select count(*) from known_lens as l where not exists (select 1 from known_lens_cell as c "
        f"where c.lens_id = l.lens_id and c.cell = (l.hpx29 >> {LENS_SHIFT}))",
    )
    todo = f"{bad} known lenses lack their cells, so they match nothing; run: lensmine ingest lenses"
    n = _count(conn, "select count(*) from known_lens")
    return Finding("known_lens_cell covers known_lens", n, bad, todo if bad else "")


def _shards(conn: sa.Connection, root: Path) -> Iterator[Finding]:
    """Every shard is on disk in the shape that its row says, and every spectrum lies within its shard."""
    rows = conn.execute(sa.select(pixel_shard)).mappings().all()
    faults = []
    for row in rows:
        try:
            shard = Shard(root / row["name"])
            shard.verify()
            if (shard.pix0, shard.npix, shard.n_rows) != (row["pix0"], row["npix"], row["n_rows"]):
                faults.append(f"shard {row['name']} has another shape than its row in pixel_shard")
        except DataError as exc:
            faults.append(str(exc))
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    yield Finding("pixel shards on disk", len(rows), len(faults), faults[0] + more if faults else "")
    bad = _count(
        conn,
        "select count(*) from spectrum as s inner join pixel_shard as p on p.shard_id = s.shard_id "
        "where s.shard_row < 0 or s.shard_row >= p.n_rows",
    )
    todo = f"{bad} spectra name a row beyond their shard; ingest their files again" if bad else ""
    yield Finding("spectrum.shard_row", _count(conn, "select count(*) from spectrum"), bad, todo)


def _image_shards(conn: sa.Connection, root: Path) -> Iterator[Finding]:
    """Every image shard is on disk as its row says, and every cutout lies within its shard and fits it."""
    rows = conn.execute(sa.select(image_shard)).mappings().all()
    faults = []
    for row in rows:
        try:
            shard = ImageShard(root / row["name"])
            shard.verify()
            stated = (row["bands"], row["n_rows"], row["ny"], row["nx"])
            if (",".join(shard.bands), shard.n_rows, shard.ny, shard.nx) != stated:
                faults.append(f"image shard {row['name']} has another shape than its row in image_shard")
        except DataError as exc:
            faults.append(str(exc))
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    yield Finding("image shards on disk", len(rows), len(faults), faults[0] + more if faults else "")
    bad = _count(
        conn,
        "select count(*) from cutout as c inner join image_shard as p on p.shard_id = c.shard_id "
        "where c.shard_row < 0 or c.shard_row >= p.n_rows "
        "or c.bands <> p.bands or c.ny <> p.ny or c.nx <> p.nx",
    )
    todo = (
        f"{bad} cutouts name a row beyond their shard, or differ from it in bands or size; "
        "ingest their files again"
    )
    yield Finding(
        "cutout fits image_shard", _count(conn, "select count(*) from cutout"), bad, todo if bad else ""
    )


def _settings(conn: sa.Connection) -> Finding:
    radius = conn.execute(
        sa.text("select value from cut_setting where name = 'known_lens_radius_arcsec'")
    ).scalar()
    if radius is None:
        todo = "known_lens_radius_arcsec is missing, so known_lens_match is empty; run: lensmine db upgrade"
        return Finding("cut_setting", 1, 1, todo)
    if not 0 <= radius <= LENS_RADIUS_ARCSEC:
        todo = f"known_lens_radius_arcsec is {radius}; allowed are 0 to {LENS_RADIUS_ARCSEC:g}"
        return Finding("cut_setting", 1, 1, todo)
    return Finding("cut_setting", 1, 0)
