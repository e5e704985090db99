"""Ingest of SDSS files: what loads, and that doing it again changes nothing."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from astropy.io import fits
from ingest_state import content, folder_state, select
from sdss_files import NPIX, PIX_FIRST, pixels, plate_files, spec_file
from typer.testing import CliRunner

from etl.pixels import ShardWriter
from etl.prune import prune
from etl.sdss import ingest_sdss
from schema.engine import shard_root
from schema.errors import UserError
from schema.shards import Shard


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


@pytest.fixture
def duck(duckdb_template: Path, tmp_path: Path) -> str:
    """A DuckDB database, where the engine does not matter."""
    return str(shutil.copy(duckdb_template, tmp_path / "duck.duckdb"))


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


def with_an_unused_shard(db: str, folder: Path) -> Path:
    """Ingest a file, change it and ingest it again; returns the folder of the shards."""
    path = spec_file(folder / "spec-1.fits")
    ingest_sdss([str(path)], db)
    spec_file(path, seed=5)
    ingest_sdss([str(path)], db)
    return shard_root(db)


def test_prune_removes_only_what_nothing_refers_to(duck: str, tmp_path: Path) -> None:
    root = with_an_unused_shard(duck, tmp_path)
    assert len(list(root.iterdir())) == 2
    done = prune(duck)
    assert (done.shards, done.folders) == (1, 1)
    kept = select(duck, "select name from pixel_shard")
    assert [p.name for p in root.iterdir()] == [kept[0][0]]
    assert prune(duck).shards == 0


def test_prune_leaves_the_shard_of_an_ingest_that_runs(duck: str, tmp_path: Path) -> None:
    """Its folder is finished before its rows are committed, and young; an old one that nobody knows goes."""
    root = with_an_unused_shard(duck, tmp_path)
    finished = []
    for seed in (8, 9):
        writer = ShardWriter(root)
        writer.add(pixels(seed))
        finished.append(root / str(writer.close()))
    hour_ago = finished[1].stat().st_mtime - 2 * 3600
    os.utime(finished[1], (hour_ago, hour_ago))
    done = prune(duck)
    assert (done.shards, done.folders) == (1, 2)
    (kept,) = select(duck, "select name from pixel_shard")
    assert sorted(p.name for p in root.iterdir()) == sorted([finished[0].name, kept[0]])


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
