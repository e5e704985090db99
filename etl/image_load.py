"""Batches of cutouts into the database: everything of a batch, or nothing, in the caller's transaction."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from etl.batch import Batch, reject_row
from etl.image_batch import ImageBatch
from etl.image_places import Places
from etl.load import load_files
from etl.merge import staged
from etl.photometry_load import delete_gone, load_rows
from schema.tables import cutout, image_shard, injection, phot_obj, target
from schema.upsert import delete_keys, to_arrow, upsert_rows

BAND_RANK = ("F814W", "VIS", "i", "F775W", "I", "r", "F606W", "z", "F850LP", "g", "F160W", "F140W", "y", "u")
"""Of cutouts with as many bands, the one with the first of these is primary."""

RECIPE = "Bologna lens challenge (Metcalf et al. 2019)"


def load_images(conn: sa.Connection, batch: ImageBatch, places: Places) -> tuple[int, int]:
    """Load a batch.

    Parameters
    ----------
    conn : sqlalchemy.Connection
        Within a transaction.
    batch : ImageBatch
        Rows without target_id; rejects found while loading are added to it.
    places : Places
        What is known of targets, over the whole run.

    Returns
    -------
    n_cutouts, n_rows : int
        Cutouts and rows of photometry loaded.
    """
    ids, rows, notes, mended = places.settle(conn, batch.places)
    paths = {f["source_file_id"]: f["path"] for f in batch.files}
    for k, note in notes:
        row = batch.cutouts[k]
        batch.rejects.append(reject_row(paths[row["source_file_id"]], note))
        if note.fatal:
            _count_out(batch, row["source_file_id"])
    kept = [{**row, "target_id": t} for row, t in zip(batch.cutouts, ids, strict=True) if t is not None]
    touched = _take_out(conn, batch, {r["cutout_id"] for r in kept})
    if mended:
        _forget_coarse(conn, mended)
    upsert_rows(conn, target, rows, key=["target_id"], update=["ra_deg", "dec_deg", "hpx29"])
    truths = [
        {"target_id": r["target_id"], "is_lens": batch.truths[r["cutout_id"]], "recipe": RECIPE}
        for r in kept
        if batch.truths.get(r["cutout_id"]) is not None
    ]
    upsert_rows(conn, injection, truths, key=["target_id"], update=["is_lens", "recipe"])
    used = {r["shard_id"] for r in kept}
    shards = [s for s in batch.shards if s["shard_id"] in used]
    upsert_rows(conn, image_shard, shards, key=["shard_id"])
    if kept:
        upsert_rows(conn, cutout, kept, key=["cutout_id"], update=[c for c in kept[0] if c != "cutout_id"])
    load_files(
        conn,
        Batch(
            files=list({f["source_file_id"]: f for f in batch.files}.values()),
            rejects=batch.rejects,
            replaced=batch.replaced,
            failed=batch.failed,
        ),
    )
    choose_cutouts(conn, sorted(touched | {r["target_id"] for r in kept}))
    return len(kept), _load_photometry(conn, batch, ids)


def _load_photometry(conn: sa.Connection, batch: ImageBatch, ids: list[int | None]) -> int:
    """Rows measured on the images; of two sources that met one target the first is kept."""
    if not batch.phot:
        return 0
    rows = {t: {"target_id": t, **row} for t, row in zip(ids, batch.phot, strict=True) if t is not None}
    file_id = batch.phot[0]["source_file_id"]
    load_rows(conn, to_arrow(phot_obj, list(rows.values())), batch.phot[0]["catalog"], file_id)
    if batch.replaced:
        delete_gone(conn, file_id, np.fromiter(rows, dtype=np.int64))
    return len(rows)


def drop_unused(batch: ImageBatch, conn: sa.Connection, root: Path) -> None:
    """Remove the shards of a batch of which no cutout came into the database."""
    known = set(conn.execute(sa.text("select name from image_shard")).scalars())
    for shard in batch.shards:
        if shard["name"] not in known:
            shutil.rmtree(Path(root) / shard["name"], ignore_errors=True)


def _count_out(batch: ImageBatch, file_id: int) -> None:
    for row in batch.files:
        if row["source_file_id"] == file_id:
            row["n_rows"], row["n_rejected"] = 0, row["n_rejected"] + 1


def _take_out(conn: sa.Connection, batch: ImageBatch, new: set[int]) -> set[int]:
    """Cutouts that changed files gave before and do not give now; returns their targets, and those of cutouts
    that are there under another target."""
    touched: set[int] = set()
    if batch.replaced:
        files = ", ".join(str(int(i)) for i in batch.replaced)
        rows = conn.execute(
            sa.text(f"select cutout_id, target_id from cutout where source_file_id in ({files})")
        ).all()
        gone = [row.cutout_id for row in rows if row.cutout_id not in new]
        touched = {row.target_id for row in rows}
        delete_keys(conn, cutout, "cutout_id", gone)
    return touched


def _forget_coarse(conn: sa.Connection, targets: list[int]) -> None:
    """The position of these is good now."""
    ids = ", ".join(map(str, targets))
    conn.execute(
        sa.text(
            "delete from reject where reason_code = 'coarse_position' and native_id in "
            f"(select native_id from target where target_id in ({ids}))"
        )
    )


def choose_cutouts(conn: sa.Connection, targets: list[int]) -> None:
    """Mark the primary cutout of targets: the most bands, then the preferred band, then a known zero point,
    then the widest field of good pixels, then the finest pixels, then the key.

    Parameters
    ----------
    conn : sqlalchemy.Connection
        Within a transaction.
    targets : list of int
        Targets that gained or lost cutouts; only those with several, or with none marked, are read.
    """
    if not targets:
        return
    stage = staged(conn, cutout, "stage_chosen", pa.table({"target_id": pa.array(targets, pa.int64())}))
    rows = conn.execute(
        sa.text(
            f"""
            select c.target_id, c.cutout_id, c.bands, c.ny, c.nx, c.pixscale_arcsec, c.is_primary,
                c.zeropoint, c.frac_good
            from cutout c
            where c.target_id in (
                select x.target_id from cutout x join {stage.name} s on s.target_id = x.target_id
                group by x.target_id having count(*) > 1 or not bool_or(x.is_primary)
            )
            """
        )
    ).all()
    conn.execute(sa.text(f"drop table {stage.name}"))
    by_target: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        by_target[row.target_id].append(row)
    wrong: dict[bool, list[int]] = {True: [], False: []}
    for members in by_target.values():
        first = min(members, key=_merit)
        for row in members:
            if (row is first) != row.is_primary:
                wrong[row is first].append(row.cutout_id)
    for chosen, ids in wrong.items():
        if ids:
            mark = staged(conn, cutout, "stage_marked", pa.table({"cutout_id": pa.array(ids, pa.int64())}))
            conn.execute(
                sa.text(
                    f"update cutout set is_primary = {'true' if chosen else 'false'} "
                    f"where cutout_id in (select m.cutout_id from {mark.name} m)"
                )
            )
            conn.execute(sa.text(f"drop table {mark.name}"))


def _merit(row: Any) -> tuple[Any, ...]:
    """The smaller the better."""
    bands = row.bands.split(",")
    preferred = min((BAND_RANK.index(b) if b in BAND_RANK else len(BAND_RANK)) for b in bands)
    scale = row.pixscale_arcsec or 0.0
    unknown = "null" in str(row.zeropoint) or "None" in str(row.zeropoint)
    area = round(row.ny * row.nx * scale**2 * (row.frac_good or 0.0), 2)
    return -len(bands), preferred, unknown, -area, scale, row.cutout_id
