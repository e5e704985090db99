"""What `lensmine db check` proves of cutouts and image shards is found when it is broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from image_files import galaxy, write_hsc

from etl.hsc import ingest_hsc
from schema.check import check_database
from schema.engine import connect_engine, shard_root


def fill(db: str, folder: Path) -> None:
    """Two targets with a cutout each, in one shard."""
    for k, name in enumerate(("A", "B")):
        for band in "gri":
            write_hsc(folder / f"{name}-{band}.fits", galaxy(seed=k), band, CRVAL1=150.0 + k)
    ingest_hsc([str(folder)], db)


def execute(statement: str) -> Callable[[str], None]:
    def spoil(db: str) -> None:
        with connect_engine(db).begin() as conn:
            if conn.dialect.name == "postgresql":  # as a superuser could
                conn.execute(sa.text("set session_replication_role = replica"))
            conn.execute(sa.text(statement))

    return spoil


def cut_short(db: str) -> None:
    (folder,) = shard_root(db).glob("image-*")
    whole = (folder / "stamp.npy").read_bytes()
    (folder / "stamp.npy").write_bytes(whole[:-1])


FAULTS: dict[str, tuple[str, Callable[[str], None]]] = {
    "no shard": ("cutout.shard_id -> image_shard", execute("delete from image_shard")),
    "no target": ("cutout.target_id -> target", execute("delete from target")),
    "no file": ("cutout.source_file_id -> source_file", execute("delete from source_file")),
    "no primary": ("cutout.is_primary", execute("update cutout set is_primary = false")),
    "same row": ("cutout unique (shard_id, shard_row)", execute("update cutout set shard_row = 0")),
    "beyond shard": ("cutout fits image_shard", execute("update cutout set shard_row = shard_row + 2")),
    "other bands": ("cutout fits image_shard", execute("update cutout set bands = 'i,r,g'")),
    "shard shape": ("image shards on disk", execute("update image_shard set nx = 32")),
    "shard bands": ("image shards on disk", execute("update image_shard set bands = 'i,r,g'")),
    "shard gone": ("image shards on disk", execute("update image_shard set name = 'nowhere'")),
    "shard cut short": ("image shards on disk", cut_short),
}


def test_what_ingest_writes_is_sound(db: str, tmp_path: Path) -> None:
    fill(db, tmp_path / "in")
    found = check_database(db)
    assert [f for f in found if not f.ok] == []
    by_name = {f.check: f.n_checked for f in found}
    assert by_name["image shards on disk"] == 1
    assert by_name["cutout fits image_shard"] == 2
    assert np.all([by_name[name] >= 1 for name, _ in FAULTS.values()])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(db: str, tmp_path: Path, fault: str) -> None:
    name, spoil = FAULTS[fault]
    fill(db, tmp_path / "in")
    spoil(db)
    wrong = {f.check: f for f in check_database(db) if not f.ok}
    assert name in wrong
    assert wrong[name].n_bad >= 1
    assert wrong[name].message
