"""``lensmine ingest prune``: remove shards that no spectrum or cutout refers to any more."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass

import pyarrow as pa
import sqlalchemy as sa

from schema.engine import connect_engine, shard_root
from schema.processes import clean_temporary
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

    Only folders that ingest itself named (sdss-..., image-...) are touched. A young one that is not in the
    database stays, unless its row was dropped just now.

    Parameters
    ----------
    db : str, optional
        Database, as for `schema.engine.resolve_url`.
    """
    engine, root = connect_engine(db), shard_root(db)
    done = Pruned(folders=clean_temporary(root))
    dropped: set[str] = set()
    with engine.begin() as conn:
        for table, prefix, user in ((pixel_shard, "sdss", "spectrum"), (image_shard, "image", "cutout")):
            unused = conn.execute(
                sa.text(
                    f"select shard_id, name from {table.name} p where p.name like '{prefix}-%' "
                    f"and not exists (select 1 from {user} u where u.shard_id = p.shard_id)"
                )
            ).all()
            ids = pa.array([row.shard_id for row in unused], pa.int64())
            done.shards += delete_keys(conn, table, "shard_id", ids)
            dropped |= {row.name for row in unused}
        known = set(conn.execute(sa.text("select name from pixel_shard")).scalars())
        known |= set(conn.execute(sa.text("select name from image_shard")).scalars())
    for folder in sorted([*root.glob("sdss-*"), *root.glob("image-*")]):
        young = time.time() - folder.stat().st_mtime < YOUNG_SECONDS
        if folder.name in known or folder.name.endswith(".tmp") or (young and folder.name not in dropped):
            continue
        done.bytes += sum(f.stat().st_size for f in folder.iterdir())
        shutil.rmtree(folder, ignore_errors=True)
        done.folders += 1
    return done
