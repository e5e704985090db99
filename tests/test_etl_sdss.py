"""Ingest of SDSS files on both engines: what loads, what is refused, and that doing it again changes nothing."""  # noqa: E501

from __future__ import annotations

import gzip
import json
import os
import resource
import shutil
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import sqlalchemy as sa
import xxhash
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from sdss_files import NPIX, PIX_FIRST, pixels, plate_files, row, spec_file, table
from typer.testing import CliRunner

from etl.epochs import assign, pairs_within
from etl.pixels import ShardWriter
from etl.prune import prune
from etl.sdss import ingest_sdss
from schema.engine import connect_engine, shard_root
from schema.errors import TransientError, UserError
from schema.grid import NPIX as FULL
from schema.grid import PIX0
from schema.shards import Shard


def select(db: str, sql: str) -> list[tuple[Any, ...]]:
    with connect_engine(db, read_only=True).connect() as conn:
        return [tuple(r) for r in conn.execute(sa.text(sql))]


def content(db: str) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that ingest writes, times aside."""
    out = {
        t: select(db, f"select * from {t} order by 1")
        for t in ("target", "spec_obj", "spectrum", "pixel_shard")
    }
    out["reject"] = select(
        db, "select reject_id, source_file_id, reason_code, reason, fatal from reject order by 1"
    )
    out["source_file"] = select(
        db, "select source_file_id, path, kind, content_hash, n_rows from source_file order by 1"
    )
    return out


def folder_state(root: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_mtime_ns) for p in root.rglob("*"))


def test_all_real_files(db: str, data_dir: Path) -> None:
    paths = [str(data_dir / "spectra"), str(data_dir / "catalogs" / "derived")]
    done = ingest_sdss(paths, db)
    assert (done.files, done.loaded, done.rejected, done.spectra) == (135, 130, 5, 128)
    assert dict(done.reasons) == {"missing_hdu": 1, "not_sdss": 4, "no_good_pixels": 1, "duplicate_row": 1}
    (n_target, n_spec), = select(db, "select (select count(*) from target), (select count(*) from spec_obj)")  # fmt: skip # noqa: E501
    assert n_target == n_spec == 127
    assert select(db, "select count(*) from spectrum where is_primary") == [(127,)]
    # six epochs of one quasar, one of SDSS and five of BOSS: the best of them chosen
    six = select(db, "select n_epoch, count(*), sum(case when is_primary then 1 else 0 end) from spec_obj "
                      "where n_epoch > 2 group by n_epoch")  # fmt: skip
    assert six == [(6, 6, 1)]
    assert select(db, "select spec_obj_id from spec_obj where plate = 10000 and fiber_id = 4") == [
        (str((10000 << 50) | (4 << 38) | (7346 << 24) | (1000 << 10)),)
    ]
    # objtype tells sky fibres, SDSS rows have no fits without QSO templates, the position is the object's
    assert select(db, "select count(*) from spec_obj where objtype = 'SKY'")[0][0] >= 2
    assert select(db, "select count(*) from spec_obj where instrument = 'SDSS' and z_noqso is not null") == [
        (0,)
    ]
    # pixels come back as the file has them
    (path, shard, index, first, last), = select(db, "select f.path, p.name, s.shard_row, s.pix_first, s.pix_last "  # noqa: E501
        "from spectrum s join pixel_shard p on p.shard_id = s.shard_id join source_file f "
        "on f.source_file_id = s.source_file_id where f.path like '%spec-5400-56308-0220.fits'")  # fmt: skip
    with fits.open(path) as hdus:
        flux = hdus[1].data["flux"]
    assert last - first + 1 == len(flux) == 710
    held = Shard(shard_root(db) / shard)
    np.testing.assert_array_equal(held.read("flux", [index], first, len(flux))[0], flux)
    before, shards = content(db), folder_state(shard_root(db))
    again = ingest_sdss(paths, db)
    assert again.nothing_new
    assert again.as_dict()["unchanged"] == 135
    assert content(db) == before
    assert folder_state(shard_root(db)) == shards


def test_a_changed_file_replaces_what_came_from_it(db: str, tmp_path: Path) -> None:
    one, two = (spec_file(tmp_path / f"spec-{k}.fits", FIBERID=k, PLUG_RA=10.0 + k, seed=k) for k in (1, 2))
    negative = {"ivar": np.where(np.arange(NPIX) < 3, -1.0, 1.0).astype(">f4")}
    spec_file(two, FIBERID=2, PLUG_RA=12.0, change=negative)
    ingest_sdss([str(tmp_path)], db)
    kept = select(
        db, "select * from spectrum s join target t on t.target_id = s.target_id where t.native_id like '%-1'"
    )
    assert select(db, "select reason_code, fatal from reject") == [("negative_ivar", False)]
    spec_file(two, FIBERID=2, PLUG_RA=12.5, Z=0.9, seed=9)
    done = ingest_sdss([str(tmp_path)], db)
    assert (done.loaded, done.unchanged) == (1, 1)
    assert select(db, "select t.ra_deg, o.z from target t join spec_obj o on o.target_id = t.target_id order by 1") == [  # noqa: E501
        (11.0, 0.5), (12.5, pytest.approx(0.9)),
    ]  # fmt: skip
    assert select(db, "select count(*) from reject") == [(0,)]
    assert select(db, "select count(*) from spectrum") == [(2,)]
    assert kept == select(
        db, "select * from spectrum s join target t on t.target_id = s.target_id where t.native_id like '%-1'"
    )
    # now it is another object's: its old row and spectrum go
    spec_file(two, FIBERID=3, PLUG_RA=12.5, seed=9)
    ingest_sdss([str(tmp_path)], db)
    assert select(
        db, "select o.fiber_id from spec_obj o join spectrum s on s.target_id = o.target_id order by 1"
    ) == [(1,), (3,)]
    assert select(db, "select count(*) from spec_obj") == [(2,)]
    assert one.exists()


def test_a_file_gone_bad_keeps_its_rows_and_says_so(db: str, tmp_path: Path) -> None:
    path = spec_file(tmp_path / "spec-1.fits")
    good = path.read_bytes()
    ingest_sdss([str(path)], db)
    before = select(db, "select * from spectrum"), select(db, "select * from spec_obj")
    path.write_bytes(good[: len(good) // 2])
    done = ingest_sdss([str(path)], db)
    assert (done.rejected, done.loaded) == (1, 0)
    assert (select(db, "select * from spectrum"), select(db, "select * from spec_obj")) == before
    assert select(db, "select reason_code, fatal from reject") == [("truncated", True)]
    assert ingest_sdss([str(path)], db).nothing_new
    path.write_bytes(good)
    ingest_sdss([str(path)], db)
    assert select(db, "select count(*) from reject") == [(0,)]


BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "nan position": ("bad_position", {"PLUG_RA": float("nan")}),
    "dec beyond the pole": ("bad_position", {"PLUG_DEC": 91.0}),
    "another unit": ("bad_unit", {"bunit": "Jy"}),
    "no flux": ("missing_columns", {"drop": ("flux",)}),
    "no mask": ("missing_columns", {"drop": ("and_mask",)}),
    "no position": ("missing_columns", {"PLUG_RA": None, "RA": None}),
    "no plate": ("bad_identity", {"PLATE": 0}),
    "off the grid": ("off_grid", {"change": {"loglam": (np.arange(NPIX) * 1.03e-4 + 3.56).astype(">f4")}}),
    "wavelengths not in order": ("off_grid", {"change": {"loglam": pixels()["loglam"][::-1].copy()}}),
    "infrared": ("outside_grid", {"change": {"loglam": (pixels()["loglam"] + 1.0).astype(">f4")}}),
}


@pytest.fixture
def duck(duckdb_template: Path, tmp_path: Path) -> str:
    """A DuckDB database, where the engine does not matter."""
    return str(shutil.copy(duckdb_template, tmp_path / "duck.duckdb"))


def test_bad_files_are_rejected_and_good_ones_load(duck: str, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    expected = {}
    for k, (name, (code, given_)) in enumerate(BAD.items()):
        spec_file(files / f"spec-{name.replace(' ', '_')}.fits", **{"FIBERID": k + 1, **given_})
        expected[f"spec-{name.replace(' ', '_')}.fits"] = code
    good = spec_file(files / "spec-good.fits", FIBERID=500)
    (files / "spec-cut.fits").write_bytes(good.read_bytes()[:20000])
    (files / "spec-cut.fits.gz").write_bytes(gzip.compress(good.read_bytes())[:9000])
    (files / "spec-text.fits").write_text("not a FITS file")
    (files / "spec-empty.fits").write_bytes(b"")
    (files / "other.csv").write_text("a,b\n1,2\n")
    expected |= {"spec-cut.fits": "truncated", "spec-cut.fits.gz": "truncated", "spec-text.fits": "not_sdss",
                 "spec-empty.fits": "not_sdss", "other.csv": "not_sdss"}  # fmt: skip
    done = ingest_sdss([str(files)], duck)
    found = {Path(p).name: (c, f) for p, c, f in select(duck, "select path, reason_code, fatal from reject")}
    assert found == {name: (code, True) for name, code in expected.items()}
    assert select(duck, "select native_id from target") == [("4055-55359-500",)]
    assert (done.loaded, done.rejected) == (1, len(expected))
    assert "'Jy'" in select(duck, "select reason from reject where reason_code = 'bad_unit'")[0][0]
    assert ingest_sdss([str(files)], duck).nothing_new


def test_repairs_are_noted(duck: str, tmp_path: Path) -> None:
    flux, ivar = pixels()["flux"].copy(), pixels()["ivar"].copy()
    flux[[5, 6]] = np.nan, np.inf
    ivar[10:14] = -2.0
    spec_file(tmp_path / "spec-1.fits", FIBERID=1, change={"flux": flux, "ivar": ivar})
    spec_file(
        tmp_path / "spec-2.fits",
        FIBERID=2,
        change={"ivar": np.zeros(NPIX, ">f4")},
        OBJTYPE="SKY",
        PLUG_DEC=5.0,
    )
    ingest_sdss([str(tmp_path / "spec-*.fits")], duck)
    notes = select(duck, "select native_id, reason_code, fatal from reject order by 1, 2")
    assert notes == [("4055-55359-1", "negative_ivar", False), ("4055-55359-1", "nonfinite", False),
                     ("4055-55359-2", "no_good_pixels", False)]  # fmt: skip
    assert select(duck, "select n_good from spectrum order by 1") == [(0,), (NPIX - 6,)]
    assert select(duck, "select objtype from spec_obj where fiber_id = 2") == [("SKY",)]
    name, index = select(duck, "select p.name, s.shard_row from spectrum s join pixel_shard p on p.shard_id = s.shard_id "  # noqa: E501
                               "where s.n_good > 0")[0]  # fmt: skip
    shard = Shard(shard_root(duck) / name)
    read = {a: shard.read(a, [index])[0] for a in shard.arrays}
    assert read["flux"].shape == (FULL,)
    at = PIX_FIRST - PIX0
    assert np.isfinite(read["flux"]).all()
    assert (read["ivar"][at + 10 : at + 14] == 0).all()
    assert (read["ivar"][:at] == 0).all()
    assert (read["mask"][:at] == 1 << 24).all()
    np.testing.assert_array_equal(read["model"][at : at + NPIX], pixels()["model"])
    digest = xxhash.xxh3_128()
    for array in ("flux", "ivar", "mask", "model"):
        digest.update(read[array].tobytes())
    assert select(duck, "select content_hash from spectrum where n_good > 0") == [(digest.hexdigest(),)]


def test_bad_rows_of_a_catalogue(db: str, tmp_path: Path) -> None:
    rows = [row(FIBERID=k, PLUG_RA=float(k), Z=0.1 * k) for k in range(1, 6)]
    rows[1]["PLUG_RA"] = float("nan")
    rows[2]["PLUG_DEC"] = -95.0
    rows[4]["FIBERID"] = 4
    fits.HDUList([fits.PrimaryHDU(), table(rows)]).writeto(tmp_path / "spAll-x.fits")
    done = ingest_sdss([str(tmp_path / "spAll-x.fits")], db)
    assert (done.loaded, done.rows) == (1, 2)
    found = select(db, "select row_index, reason_code, fatal, hdu from reject order by 1")
    assert found == [
        (1, "bad_position", True, 1),
        (2, "bad_position", True, 1),
        (3, "duplicate_row", False, 1),
    ]
    assert select(db, "select fiber_id, z from spec_obj order by 1") == [
        (1, pytest.approx(0.1)), (4, pytest.approx(0.5)),
    ]  # fmt: skip
    assert select(db, "select n_rows, n_rejected, kind from source_file") == [(2, 2, "spall")]


def test_a_plate_with_its_redshifts(db: str, tmp_path: Path) -> None:
    plate, zbest = plate_files(tmp_path)
    done = ingest_sdss([str(tmp_path)], db)
    assert (done.loaded, done.spectra) == (2, 5)
    assert select(db, "select fiber_id, z from spec_obj order by 1")[4] == (5, pytest.approx(0.5))
    (name, index), = select(db, "select p.name, s.shard_row from spectrum s join pixel_shard p on "
                                "p.shard_id = s.shard_id where s.source_row = 3")  # fmt: skip
    shard = Shard(shard_root(db) / name)
    for ours, theirs in (("flux", "flux"), ("model", "model"), ("sky", "sky"), ("mask", "and_mask")):
        np.testing.assert_array_equal(shard.read(ours, [index], PIX_FIRST, NPIX)[0], pixels(3)[theirs])
    assert ingest_sdss([str(plate), str(zbest)], db).nothing_new
    zbest.unlink()
    assert ingest_sdss([str(plate)], db).loaded == 1
    assert select(db, "select reason_code, fatal from reject") == [("no_redshift_file", False)]


def test_catalogue_and_spec_file_merge_in_either_order(duck: str, tmp_path: Path) -> None:
    fits.HDUList([fits.PrimaryHDU(), table([row(Z=0.5, SUBCLASS="", VDISP=None)])]).writeto(
        tmp_path / "specObj-1.fits"
    )
    spec_file(tmp_path / "spec-1.fits", Z=0.51, SUBCLASS="AGN", VDISP=150.0)
    newer = tmp_path / "spec-2.fits"
    spec_file(newer, Z=0.6, SUBCLASS=" ", RUN2D="v5_10_0", VDISP=None)
    states = []
    for order in (("specObj-1.fits", "spec-1.fits"), ("spec-1.fits", "specObj-1.fits")):
        db = str(shutil.copy(duck, tmp_path / f"{order[0]}.duckdb"))
        for name in order:
            ingest_sdss([str(tmp_path / name)], db)
        merged = select(db, "select z, subclass, vdisp, run2d from spec_obj")
        assert merged == [(0.5, "AGN", 150.0, "v5_7_0")]
        ingest_sdss([str(newer)], db)
        states.append(select(db, "select z, subclass, vdisp, run2d from spec_obj"))
        assert select(db, "select f.path from spectrum s join source_file f on f.source_file_id = s.source_file_id "  # noqa: E501
                          "where s.is_primary") == [(str(newer),)]  # fmt: skip
    assert states[0] == states[1] == [(pytest.approx(0.6), None, None, "v5_10_0")]


def test_a_spec_file_gives_its_row_again_when_the_catalogue_drops_it(duck: str, tmp_path: Path) -> None:
    catalogue = tmp_path / "specObj-1.fits"
    both = [row(FIBERID=1, PLUG_RA=1.0), row(FIBERID=2, PLUG_RA=2.0)]
    fits.HDUList([fits.PrimaryHDU(), table(both)]).writeto(catalogue)
    spec_file(tmp_path / "spec-1.fits", FIBERID=1, PLUG_RA=1.0, Z=0.77)
    ingest_sdss([str(tmp_path)], duck)
    fits.HDUList([fits.PrimaryHDU(), table(both[1:])]).writeto(catalogue, overwrite=True)
    ingest_sdss([str(tmp_path)], duck)
    assert select(duck, "select fiber_id, z from spec_obj order by 1") == [(1, pytest.approx(0.77)), (2, 0.5)]


def test_epochs_at_the_pole_and_across_ra_zero(db: str, tmp_path: Path) -> None:
    spots = [(0.0, 89.9999), (180.0, 89.9999), (359.9999, 10.0), (0.0001, 10.0), (50.0, 20.0), (50.0, 20.01)]
    rows = [row(FIBERID=k + 1, PLUG_RA=a, PLUG_DEC=d, SN_MEDIAN_ALL=float(k), ZWARNING=4 if k == 3 else 0)
            for k, (a, d) in enumerate(spots)]  # fmt: skip
    fits.HDUList([fits.PrimaryHDU(), table(rows)]).writeto(tmp_path / "specObj-1.fits")
    ingest_sdss([str(tmp_path / "specObj-1.fits")], db)
    found = select(db, "select o.fiber_id, o.n_epoch, o.is_primary, p.fiber_id from spec_obj o "
                       "join spec_obj p on p.target_id = o.primary_target_id order by 1")  # fmt: skip
    assert found == [
        (1, 2, False, 2),
        (2, 2, True, 2),
        (3, 2, True, 3),
        (4, 2, False, 3),
        (5, 1, True, 5),
        (6, 1, True, 6),
    ]
    # a better epoch arrives later and takes over
    spec_file(
        tmp_path / "spec-9.fits", FIBERID=9, PLUG_RA=50.0, PLUG_DEC=20.0 + 1.0 / 3600, SN_MEDIAN_ALL=99.0
    )
    ingest_sdss([str(tmp_path / "spec-9.fits")], db)
    found = select(
        db, "select fiber_id, n_epoch, is_primary from spec_obj where fiber_id in (5, 6, 9) order by 1"
    )
    assert found == [(5, 2, False), (6, 1, True), (9, 2, True)]


@given(
    st.lists(st.tuples(st.floats(0, 359.9999), st.floats(-90, 90)), min_size=2, max_size=40),
)
def test_pairs_are_those_of_all_against_all(spots: list[tuple[float, float]]) -> None:
    near = [(a + 1e-4, d) for a, d in spots[::2]]
    ra, dec = (np.array(x) for x in zip(*spots, *near, strict=True))
    a, d = np.radians(ra), np.radians(dec)
    sep = 2 * np.arcsin(np.sqrt(np.clip(np.sin((d[:, None] - d) / 2) ** 2 + np.cos(d[:, None]) * np.cos(d)
                                        * np.sin((a[:, None] - a) / 2) ** 2, 0, 1)))  # fmt: skip
    arcsec = np.degrees(sep) * 3600
    surely = {(i, j) for i, j in zip(*np.nonzero(arcsec < 1.9999), strict=True) if i < j}
    maybe = {(i, j) for i, j in zip(*np.nonzero(arcsec < 2.0001), strict=True) if i < j}
    pairs = pairs_within(ra, dec, 2.0)
    found = [tuple(sorted(p)) for p in pairs.tolist()]
    assert len(found) == len(set(found))
    assert surely <= set(found) <= maybe
    rank = np.random.default_rng(0).permutation(len(ra))
    primary = assign(pairs, rank)
    assert (primary[primary] == primary).all()
    for k, p in enumerate(primary.tolist()):
        assert p == k or (tuple(sorted((p, k))) in set(found) and rank[p] < rank[k])


def test_urls_archives_and_compressed_files(duck: str, tmp_path: Path) -> None:
    files = tmp_path / "in"
    files.mkdir()
    path = spec_file(files / "spec-1.fits", FIBERID=1)
    spec_file(tmp_path / "b.fits", FIBERID=2, PLUG_DEC=3.0)
    (files / "spec-2.fits.gz").write_bytes(gzip.compress((tmp_path / "b.fits").read_bytes()))
    third = spec_file(tmp_path / "c.fits", FIBERID=3, PLUG_DEC=4.0)
    with zipfile.ZipFile(files / "plate.zip", "w") as archive:
        archive.write(third, "sub/spec-3.fits")
    memory = fsspec.filesystem("memory")
    memory.pipe("/sdss/spec-4.fits", spec_file(tmp_path / "d.fits", FIBERID=4, PLUG_DEC=5.0).read_bytes())
    done = ingest_sdss([str(files), str(files / "plate.zip"), "memory://sdss/*.fits", f"file://{path}"], duck)
    assert (done.files, done.rejected) == (5, 0)
    assert select(duck, "select fiber_id from spec_obj order by 1") == [(1,), (2,), (3,), (4,)]
    assert ingest_sdss([str(files), str(files / "plate.zip"), "memory://sdss/*.fits"], duck).nothing_new
    for bad in (str(tmp_path / "nowhere"), "memory://none/*.fits", "nosuch://x/y"):
        with pytest.raises(UserError):
            ingest_sdss([bad], duck)


def test_skyserver_csv_is_known_by_plate_mjd_and_fibre(duck: str, tmp_path: Path) -> None:
    path = tmp_path / "sky.csv"
    path.write_text("objid,ra,dec,u,g,r,i,z,specobjid,class,redshift,plate,mjd,fiberid\n"
                    "1.24E+18,183.5,0.09,19.4,17.0,15.9,15.5,15.2,3.72E+18,STAR,-8.96E-06,3306,54922,491\n"
                    "1.24E+18,183.6,x,19.4,17.0,15.9,15.5,15.2,3.72E+18,STAR,0.1,3306,54922,492\n")  # fmt: skip # noqa: E501
    done = ingest_sdss([str(path)], duck)
    assert done.rows == 1
    assert select(duck, "select plate, mjd, fiber_id, z, spec_obj_id, best_obj_id from spec_obj") == [
        (3306, 54922, 491, -8.96e-06, None, None)
    ]
    assert select(duck, "select row_index, reason_code from reject") == [(1, "bad_position")]


def test_processes_give_the_same_as_one(duck: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tmp_path / "in"
    files.mkdir()
    for k in range(1, 41):
        spec_file(files / f"spec-{k:03d}.fits", FIBERID=k, PLUG_RA=float(k), seed=k)
    monkeypatch.setattr("etl.sdss.FILES_WORTH_A_POOL", 1)
    other = str(shutil.copy(duck, tmp_path / "other.duckdb"))
    assert ingest_sdss([str(files)], duck, processes=2).spectra == 40
    assert ingest_sdss([str(files)], other, processes=1, batch_files=7).spectra == 40
    ours = "select target_id, content_hash, n_good from spectrum order by 1"
    assert select(duck, ours) == select(other, ours)
    assert select(duck, "select * from spec_obj order by 1") == select(
        other, "select * from spec_obj order by 1"
    )


def test_a_full_disk_leaves_nothing_behind(duck: str, tmp_path: Path) -> None:
    files = tmp_path / "in"
    files.mkdir()
    for k in range(1, 80):
        spec_file(files / f"spec-{k:03d}.fits", FIBERID=k, PLUG_RA=float(k))
    before = content(duck)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(TransientError, match="make room"):
            ingest_sdss([str(files)], duck, processes=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content(duck) == before
    assert not list(shard_root(duck).iterdir())
    assert ingest_sdss([str(files)], duck, processes=1).spectra == 79


def test_what_a_kill_leaves_is_cleaned_and_finished(duck: str, tmp_path: Path) -> None:
    spec_file(tmp_path / "spec-1.fits", FIBERID=1, PLUG_RA=1.0)
    spec_file(tmp_path / "spec-2.fits", FIBERID=2, PLUG_RA=1.0, SN_MEDIAN_ALL=9.0)
    root = shard_root(duck)
    dead = root / "sdss-999999999-00000000.tmp"
    dead.mkdir(parents=True)
    # killed after its rows were committed and before epochs were found
    from etl.sdss import Ingest

    killed = Ingest([str(tmp_path / "spec-*.fits")], duck, 1, 10, None)
    killed._finish = lambda unfinished: os._exit(9)  # type: ignore[method-assign]
    pid = os.fork()
    if pid == 0:
        killed.run()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert select(duck, "select count(*), sum(n_epoch) from spec_obj") == [(2, 2)]
    again = ingest_sdss([str(tmp_path / "spec-*.fits")], duck)
    assert again.nothing_new
    assert not dead.exists()
    assert select(duck, "select fiber_id, is_primary, n_epoch from spec_obj order by 1") == [
        (1, False, 2),
        (2, True, 2),
    ]
    assert select(duck, "select status from job order by job_id") == [("failed",), ("done",)]


def test_prune_removes_only_what_nothing_refers_to(duck: str, tmp_path: Path) -> None:
    path = spec_file(tmp_path / "spec-1.fits")
    ingest_sdss([str(path)], duck)
    spec_file(path, seed=5)
    ingest_sdss([str(path)], duck)
    root = shard_root(duck)
    assert len(list(root.iterdir())) == 2
    done = prune(duck)
    assert (done.shards, done.folders) == (1, 1)
    kept = select(duck, "select name from pixel_shard")
    assert [p.name for p in root.iterdir()] == [kept[0][0]]
    assert prune(duck).shards == 0


def test_a_shard_of_the_same_spectra_is_written_once(tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        writer = ShardWriter(tmp_path)
        for seed in range(70):
            writer.add(pixels(seed))
        names.append(writer.close())
    assert names[0] == names[1]
    assert [p.name for p in tmp_path.iterdir()] == names[:1]
    shard = Shard(tmp_path / str(names[0]))
    assert shard.n_rows == 70
    np.testing.assert_array_equal(shard.read("flux", [69], PIX_FIRST, NPIX)[0], pixels(69)["flux"])


def test_the_command(duck: str, tmp_path: Path) -> None:
    import lensmine

    path = spec_file(tmp_path / "spec-1.fits")
    run = CliRunner().invoke(lensmine.app, ["ingest", "sdss", str(path), "--db", duck, "--json"])
    assert run.exit_code == 0, run.output
    told = json.loads(run.stdout)
    assert (told["files"], told["loaded"], told["spectra"]) == (1, 1, 1)
    again = CliRunner().invoke(lensmine.app, ["ingest", "sdss", str(path), "--db", duck])
    assert "nothing new" in again.stdout
    quiet = CliRunner().invoke(lensmine.app, ["ingest", "sdss", str(path), "--db", duck, "--quiet"])
    assert (quiet.exit_code, quiet.stdout) == (0, "")
