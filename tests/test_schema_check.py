"""Each thing that `lensmine db check` proves is found when it is broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import typer
from typer.testing import CliRunner

from schema.check import check_database
from schema.cli import register
from schema.engine import connect_engine, downgrade, shard_root
from schema.healpix import hpx29, lens_cells
from schema.shards import write_shard
from schema.tables import known_lens, known_lens_cell, pixel_shard, source_file, spec_obj, spectrum, target
from schema.upsert import insert_rows


def fill(db: str) -> None:
    """Two targets, of them one observed twice, one lens and one shard: all in order."""
    ra, dec = np.array([10.0, 10.0, 200.0]), np.array([5.0, 5.0, -89.0])
    cells = hpx29(ra, dec).tolist()
    shard = write_shard(shard_root(db), "s1", {"flux": np.zeros((3, 4), "f4")}, 35400)
    with connect_engine(db).begin() as conn:
        insert_rows(conn, source_file, [{"source_file_id": 1, "path": "/a"}])
        insert_rows(
            conn, pixel_shard, [{"shard_id": 1, "name": shard.name, "pix0": 35400, "npix": 4, "n_rows": 3}]
        )
        for k in range(3):
            row = {
                "survey": "sdss",
                "native_id": f"n{k}",
                "ra_deg": ra[k],
                "dec_deg": dec[k],
                "hpx29": cells[k],
            }
            insert_rows(conn, target, [{"target_id": k, "is_injection": False, **row}])
            first = {"is_primary": k != 1, "primary_target_id": 0 if k == 1 else k, "source_file_id": 1}
            insert_rows(conn, spec_obj, [{"target_id": k, **first}])
            pixels = {
                "shard_id": 1,
                "shard_row": k,
                "content_hash": "x",
                "is_primary": True,
                "source_file_id": 1,
            }
            insert_rows(conn, spectrum, [{"spectrum_id": k, "target_id": k, **pixels}])
        insert_rows(
            conn, known_lens, [{"lens_id": 1, "name": "L", "ra_deg": 10.0, "dec_deg": 5.0, "hpx29": cells[0]}]
        )
        near = lens_cells(10.0, 5.0)[1].tolist()
        insert_rows(conn, known_lens_cell, [{"lens_id": 1, "cell": c} for c in near])


def execute(*statements: str) -> Callable[[str], None]:
    def spoil(db: str) -> None:
        with connect_engine(db).begin() as conn:
            if conn.dialect.name == "postgresql":  # as a superuser could
                conn.execute(sa.text("set session_replication_role = replica"))
            for statement in statements:
                conn.execute(sa.text(statement))

    return spoil


def cut_short(db: str) -> None:
    path = shard_root(db) / "s1" / "flux.npy"
    path.write_bytes(path.read_bytes()[:-8])


FAULTS: dict[str, tuple[str, Callable[[str], None]]] = {
    "orphan": ("spectrum.target_id -> target", execute("delete from target where target_id = 2")),
    "source file": ("spec_obj.source_file_id -> source_file", execute("delete from source_file")),
    "view": ("views", execute("drop view image_candidate cascade")),
    "cell": ("target.hpx29", execute("update target set ra_deg = 11 where target_id = 0")),
    "lens cell": ("known_lens_cell covers known_lens", execute("delete from known_lens_cell")),
    "no primary": ("spectrum.is_primary", execute("update spectrum set is_primary = false")),
    "two epochs": ("spec_obj.is_primary", execute("update spec_obj set is_primary = true")),
    "wrong epoch": (
        "spec_obj.primary_target_id",
        execute(
            "update spec_obj set is_primary = false where target_id = 0",
            "update spec_obj set is_primary = true where target_id = 1",
        ),
    ),
    "same name": ("target unique (survey, native_id)", execute("update target set native_id = 'n0'")),
    "same pixels": ("spectrum unique (shard_id, shard_row)", execute("update spectrum set shard_row = 0")),
    "beyond shard": ("spectrum.shard_row", execute("update spectrum set shard_row = 3 + shard_row")),
    "shard shape": ("pixel shards on disk", execute("update pixel_shard set n_rows = 99")),
    "shard gone": ("pixel shards on disk", execute("update pixel_shard set name = 'nowhere'")),
    "shard cut short": ("pixel shards on disk", cut_short),
    "setting": ("cut_setting", execute("update cut_setting set value = 90 where name like 'known_lens%'")),
    "migration": ("migration", lambda db: downgrade(db, "-1") and None),
}  # fmt: skip


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(app, ["db", "check", *arguments])
    return done.exit_code, done.stdout


def test_a_sound_database(db: str) -> None:
    fill(db)
    assert [f for f in check_database(db) if not f.ok] == []
    code, text = run("--db", db)
    assert code == 0
    assert "nothing wrong" in text


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(db: str, fault: str) -> None:
    name, spoil = FAULTS[fault]
    fill(db)
    spoil(db)
    wrong = {f.check: f for f in check_database(db) if not f.ok}
    assert name in wrong
    assert wrong[name].n_bad >= 1
    assert wrong[name].message
    code, text = run("--db", db, "--json")
    assert code == 65
    found: dict[str, Any] = json.loads(text)
    assert found["ok"] is False
    assert {c["check"] for c in found["checks"] if not c["ok"]} == set(wrong)


def test_plain_output_says_what_to_do(db: str, tmp_path: Path) -> None:
    fill(db)
    execute("delete from known_lens_cell")(db)
    code, text = run("--db", db)
    assert code == 65
    assert "lensmine ingest lenses" in " ".join(text.split())
