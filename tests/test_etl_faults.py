"""Bad files, bad rows, full disks and kills: what ingest refuses, repairs and leaves."""

from __future__ import annotations

import gzip
import os
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from astropy.io import fits
from ingest_state import content, select
from sdss_files import NPIX, PIX_FIRST, pixels, row, spec_file, table

from etl.sdss import ingest_sdss
from schema.engine import shard_root
from schema.errors import TransientError
from schema.grid import NPIX as FULL
from schema.grid import PIX0
from schema.processes import temporary_name
from schema.shards import Shard

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
    dead = root / temporary_name("sdss").replace(f"~{os.getpid()}~", "~999999999~")
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


def test_a_kill_after_a_catalogue_that_failed_is_finished(duck: str, tmp_path: Path) -> None:
    """The first rows that stay come after a catalogue that is rolled back: they too are marked unfinished."""
    bad = tmp_path / "bad.csv"
    head = "plate,mjd,fiberid,ra,dec,z\n"
    bad.write_bytes((head + "4055,55359,1,1.0,1.0,0.5\n" * 300_000).encode() + b"\xff\xff\n")
    for k in (1, 2):
        spec_file(tmp_path / f"spec-{k}.fits", FIBERID=k, PLUG_RA=1.0, SN_MEDIAN_ALL=float(k))
    paths = [str(bad), str(tmp_path / "spec-*.fits")]
    pid = os.fork()
    if pid == 0:
        from etl.sdss import Ingest

        killed = Ingest(paths, duck, 1, 10, None)
        killed._finish = lambda unfinished: os._exit(9)  # type: ignore[method-assign]
        killed.run()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert select(duck, "select count(*), sum(n_epoch) from spec_obj") == [(2, 2)]
    assert select(duck, "select reason_code from reject") == [("damaged",)]
    assert ingest_sdss(paths, duck).nothing_new
    assert select(duck, "select fiber_id, is_primary from spec_obj order by 1") == [(1, False), (2, True)]


def test_lines_of_a_csv_with_other_fields_than_its_header(db: str, tmp_path: Path) -> None:
    """A line too long is rejected by number, and later rows keep theirs; what is only blank is no field."""
    lines = ["#Table1", "plate,mjd,fiberid,ra,dec,z,class", "4055,55359,1,1.0,1.0,0.5,GALAXY",
             "4055,55359,2,2.0,1.0,0.5,GALAXY,x,y", "", "4055,55359,3,x,1.0,0.5,QSO",
             "4055,55359,4,4.0,1.0,0.5", '4055,55359,5,5.0,1.0,0.5,"GALAXY",,']  # fmt: skip
    path = tmp_path / "sky.csv"
    path.write_text("\n".join(lines) + "\n")
    done = ingest_sdss([str(path)], db)
    assert (done.loaded, done.rows, done.rejects_fatal) == (1, 3, 2)
    assert select(db, "select row_index, reason_code, fatal, native_id from reject order by 1") == [
        (1, "bad_row", True, None), (2, "bad_position", True, "4055-55359-3"),
    ]  # fmt: skip
    assert select(db, "select reason from reject where row_index = 1") == [
        ("line 4 has 9 fields, the header 7",),
    ]
    assert select(db, "select fiber_id, class from spec_obj order by 1") == [
        (1, "GALAXY"), (4, None), (5, "GALAXY"),
    ]  # fmt: skip
    assert select(db, "select n_rows, n_rejected from source_file") == [(3, 2)]
    path.write_text("plate,mjd,fiberid,ra,dec\n" + "4055,55359,1,1.0,1.0,0.5\n" * 3)
    ingest_sdss([str(path)], db)
    assert select(db, "select reason_code, row_index from reject") == [("damaged", None)]


def test_folders_that_others_write_are_left_alone(duck: str, tmp_path: Path) -> None:
    """A temporary folder goes when its process is surely gone, or, of another host, a day old."""
    root = shard_root(duck)
    own = temporary_name("sdss")
    prefix, host, boot, pid, started, token = own.removesuffix(".tmp").split("~")
    names = {
        "own": own,
        "own, dead": f"{prefix}~{host}~{boot}~999999999~{started}~{token}.tmp",
        "own number, used anew": f"{prefix}~{host}~{boot}~{pid}~1~{token}.tmp",
        "other host": f"{prefix}~else.where-1~0a0a0a0a~999999999~{started}~{token}.tmp",
        "other boot": f"{prefix}~{host}~0a0a0a0a~999999999~{started}~{token}.tmp",
        "other host, a day ago": f"image-1~else.where-1~0a0a0a0a~{pid}~{started}~{token}.tmp",
        "other host, written to": f"image-2~else.where-1~0a0a0a0a~{pid}~{started}~{token}.tmp",
        "of an earlier version": "sdss-999999999-00000000.tmp",
        "of an earlier version, a day ago": "sdss-999999999-00000001.tmp",
        "not ours, a day ago": "my-own-folder.tmp",
    }
    day_ago = time.time() - 25 * 3600
    for what, name in names.items():
        (root / name).mkdir(parents=True)
        (root / name / "flux.npy").write_bytes(b"x")
        if "day ago" in what:
            os.utime(root / name / "flux.npy", (day_ago, day_ago))
        if "day ago" in what or "written to" in what:
            os.utime(root / name, (day_ago, day_ago))
    ingest_sdss([str(spec_file(tmp_path / "spec-1.fits"))], duck)
    left = {what for what, name in names.items() if (root / name).exists()}
    assert set(names) - left == {
        "own, dead", "own number, used anew", "other host, a day ago", "of an earlier version, a day ago",
    }  # fmt: skip
