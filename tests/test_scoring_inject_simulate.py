"""Simulated lenses in the database: every row, every pixel, and nothing twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from schema.check import check_database
from schema.engine import connect_engine, shard_root
from schema.errors import UserError
from schema.image_shards import ImageShard, percentile_stamp, pixel_hashes
from scoring.inject.rows import positions
from scoring.inject.simulate import simulate_lenses


def rows(db: str, sql: str) -> list[dict[str, Any]]:
    with connect_engine(db, read_only=True).connect() as conn:
        return [dict(r) for r in conn.execute(sa.text(sql)).mappings()]


def one(db: str, sql: str) -> Any:
    return next(iter(rows(db, sql)[0].values()))


def test_every_lens_has_target_photometry_cutout_and_truth(db: str) -> None:
    done = simulate_lenses(db, 30, n_nonlenses=20, seed=4)
    assert (done.n_lenses, done.n_nonlenses, done.n_existing) == (30, 20, 0)
    assert one(db, "select count(*) from target where survey = 'sim' and is_injection") == 50
    assert one(db, "select count(*) from selectable where cutout_id is not null and mag_i is not null") == 50
    assert one(db, "select count(*) from injection where is_lens") == 30
    assert one(db, "select count(*) from injection where not is_lens and z_lens is null") == 20
    truth = rows(
        db,
        "select l.*, i.z_lens, i.z_source, p.mag_g, p.z_phot from injection_lens l "
        "join injection i on i.target_id = l.target_id join phot_obj p on p.target_id = l.target_id",
    )
    assert len(truth) == 30
    for row in truth:
        assert row["band"] == "g"
        assert row["theta_e_arcsec"] > 0
        assert row["z_source"] > row["z_lens"] > 0
        assert row["z_phot"] == row["z_lens"]
        assert row["weight"] == 1
        assert row["arc_snr"] > 0
        # the catalogue sees lens and arcs together
        together = 10 ** (-0.4 * row["lens_mag"]) + 10 ** (-0.4 * row["arc_mag"])
        assert row["mag_g"] == pytest.approx(-2.5 * np.log10(together), abs=1e-4)
        assert row["arc_mag"] == pytest.approx(
            row["source_mag"] - 2.5 * np.log10(row["magnification"]), abs=1e-3
        )
    assert [f for f in check_database(db) if not f.ok] == []


def test_pixels_are_those_that_the_rows_name(db: str) -> None:
    simulate_lenses(db, 12, seed=9)
    shard_name = one(db, "select name from image_shard")
    shard = ImageShard(shard_root(db) / shard_name)
    image = shard.read("image", slice(0, 12))
    assert image.shape == (12, 3, 64, 64)
    stamp, clip = percentile_stamp(image)
    np.testing.assert_array_equal(shard.read("stamp", slice(0, 12)), stamp)
    found = rows(db, "select content_hash, clip, zeropoint, bands from cutout order by shard_row")
    assert [row["content_hash"] for row in found] == pixel_hashes(image)
    first = found[0]["clip"] if isinstance(found[0]["clip"], dict) else json.loads(found[0]["clip"])
    np.testing.assert_allclose([first[b] for b in ("g", "r", "i")], clip[0], rtol=1e-5)
    # the light is as bright as the catalogue says, neighbours on top of it
    truth = rows(db, "select p.mag_i, c.shard_row from phot_obj p join cutout c on c.target_id = p.target_id")
    excess = [27.0 - 2.5 * np.log10(float(image[row["shard_row"], 2].sum())) - row["mag_i"] for row in truth]
    assert -0.4 < np.median(excess) < 0.15
    assert max(excess) < 0.5


def test_the_same_call_makes_nothing_twice_and_a_larger_one_adds(db: str) -> None:
    first = simulate_lenses(db, 20, seed=1)
    before = rows(db, "select c.target_id, c.content_hash from cutout c order by 1")
    again = simulate_lenses(db, 20, seed=1)
    assert (again.n_lenses, again.n_existing) == (0, 20)
    assert rows(db, "select c.target_id, c.content_hash from cutout c order by 1") == before
    more = simulate_lenses(db, 35, seed=1)
    assert (more.n_lenses, more.n_existing, more.tags) == (15, 20, first.tags)
    assert one(db, "select count(*) from injection_lens") == 35
    simulate_lenses(db, 5, seed=2)
    assert one(db, "select count(*) from injection_lens") == 40
    assert one(db, "select count(distinct content_hash) from cutout") == 40


def test_the_same_seed_gives_the_same_pixels_in_another_database(tmp_path: Path) -> None:
    from schema.engine import upgrade

    hashes = []
    for name in ("a.duckdb", "b.duckdb"):
        file = str(tmp_path / name)
        upgrade(file)
        simulate_lenses(file, 10, n_nonlenses=5, seed=3)
        hashes.append(rows(file, "select target_id, content_hash from cutout order by 1"))
    assert hashes[0] == hashes[1]


def hashes(file: str) -> dict[str, str]:
    found = rows(file, "select t.native_id, c.content_hash from cutout c join target t using (target_id)")
    return {r["native_id"]: r["content_hash"] for r in found}


def test_a_name_fixes_its_pixels_whatever_else_is_made(tmp_path: Path) -> None:
    """In steps or at once, alone or among others: source 70 is the same."""
    from schema.engine import upgrade

    files = [str(tmp_path / name) for name in ("once.duckdb", "steps.duckdb")]
    for file in files:
        upgrade(file)
    simulate_lenses(files[0], 150, n_nonlenses=90, seed=3)
    for n, others in ((5, 0), (70, 3), (150, 90)):
        simulate_lenses(files[1], n, n_nonlenses=others, seed=3)
    assert hashes(files[0]) == hashes(files[1])
    # and so where a few were taken out
    with connect_engine(files[1]).begin() as conn:
        for table in ("cutout", "injection_lens", "injection", "phot_obj"):
            conn.execute(
                sa.text(
                    f"delete from {table} where target_id in (select target_id from target "
                    "where substr(native_id, length(native_id) - 2) in ('007', '066', '131'))"
                )
            )
        conn.execute(
            sa.text(
                "delete from target where substr(native_id, length(native_id) - 2) in ('007', '066', '131')"
            )
        )
    assert len(hashes(files[1])) == 240 - 5
    simulate_lenses(files[1], 150, n_nonlenses=90, seed=3)
    assert hashes(files[0]) == hashes(files[1])


def test_a_killed_call_leaves_a_shard_that_the_next_one_takes(
    db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scoring.inject import rows as module

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "upsert_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            simulate_lenses(db, 6, seed=3)
    assert one(db, "select count(*) from target") == 0
    assert len(list(shard_root(db).iterdir())) == 1
    assert simulate_lenses(db, 6, seed=3).n_lenses == 6
    shard = next(shard_root(db).iterdir())
    image = ImageShard(shard).read("image", slice(0, 6))
    found = rows(db, "select content_hash from cutout order by shard_row")
    assert [row["content_hash"] for row in found] == pixel_hashes(image)


@pytest.mark.parametrize(("name", "bands", "npix"), [("acs", "F814W", 100), ("vis", "VIS", 101)])
def test_one_band_instruments(db: str, name: str, bands: str, npix: int) -> None:
    simulate_lenses(db, 4, instrument=name, n_nonlenses=2)
    found = rows(db, "select instrument, bands, ny, nx from cutout")
    assert {tuple(r.values()) for r in found} == {(name, bands, npix, npix)}


def test_positions_are_even_and_reproducible() -> None:
    index = np.arange(4000)
    ra, dec = positions("a-tag", index)
    assert np.array_equal(positions("a-tag", index)[0], ra)
    assert not np.allclose(positions("b-tag", index)[0], ra)
    octants = np.bincount(4 * (dec > 0) + (ra // 90).astype(int), minlength=8)
    assert octants.min() > 450
    assert octants.max() < 550


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instrument": "webb"}, "unknown instrument 'webb'"),
        ({"prior": "uniform"}, "unknown population 'uniform'"),
        ({"band": "F814W"}, "hsc has no band 'F814W'"),
        ({"npix": 4}, "allowed are 16 to 512"),
        ({"n": 0}, "at least one source"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_written(
    db: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        simulate_lenses(db, **({"n": 5} | change))
    assert one(db, "select count(*) from target") == 0


def test_command(db: str) -> None:
    from lensmine import app

    run = CliRunner().invoke(app, ["simulate", "lenses", "--n", "3", "--db", db, "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["n_lenses"] == 3
    text = CliRunner().invoke(app, ["simulate", "lenses", "--n", "3", "--db", db]).stdout
    assert "0 lenses and 0 other sources simulated, 3 were there" in text
