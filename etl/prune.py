"""``lensmine ingest prune``: remove shards that no spectrum or cutout refers to any more."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass

import pyarrow as pa
import sqlalchemy as sa

from etl.pixels import clean_stale
from schema.engine import connect_engine, shard_root
from schema.tables import image_shard, pixel_shard
from schema.upsert import delete_keys

YOUNG_SECONDS = 3600.0
"""A folder younger than this may be a running ingest's that has not committed yet."""


@dataclass
class Pruned:
    """Shards dropped from the database, folders removed, and bytes freed."""

    shards: int = 0
    folders: int = 0
    bytes: int = 0


def prune(db: str | None = None) -> Pruned:
    """Remove shards without spectra or cutouts, folders that the database does not know, and leftovers of
    killed runs.

    Only folders that ingest itself named (sdss-..., image-...) are touched.

    Parameters
    ----------
    db : str, optional
        Database, as for `schema.engine.resolve_url`.
    """
    engine, root = connect_engine(db), shard_root(db)
    done = Pruned(folders=clean_stale(root))
    with engine.begin() as conn:
        unused = conn.execute(
            sa.text(
                "select shard_id from pixel_shard p where p.name like 'sdss-%' "
                "and not exists (select 1 from spectrum s where s.shard_id = p.shard_id)"
            )
        ).scalars()
        done.shards = delete_keys(conn, pixel_shard, "shard_id", pa.array(list(unused), pa.int64()))
        unused = conn.execute(
            sa.text(
                "select shard_id from image_shard p where p.name like 'image-%' "
                "and not exists (select 1 from cutout c where c.shard_id = p.shard_id)"
            )
        ).scalars()
        done.shards += delete_keys(conn, image_shard, "shard_id", pa.array(list(unused), pa.int64()))
        known = set(conn.execute(sa.text("select name from pixel_shard")).scalars())
        known |= set(conn.execute(sa.text("select name from image_shard")).scalars())
    for folder in sorted([*root.glob("sdss-*"), *root.glob("image-*")]):
        young = time.time() - folder.stat().st_mtime < YOUNG_SECONDS
        if folder.name in known or folder.name.endswith(".tmp") or (young and not done.shards):
            continue
        done.bytes += sum(f.stat().st_size for f in folder.iterdir())
        shutil.rmtree(folder, ignore_errors=True)
        done.folders += 1
    return done
