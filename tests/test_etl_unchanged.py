"""Files that need not be read to know that they are unchanged, and those that must be."""

from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path

import fsspec
from astropy.io import fits
from ingest_state import content, select
from sdss_files import plate_files, row, spec_file, table
from typer.testing import CliRunner

from etl.sdss import ingest_sdss

HOUR_NS = 3600 * 1_000_000_000
TIMES = "select path, modified_at from source_file order by path"


def aged(path: Path, hours: int = 1) -> int:
    """Give a file a time of some hours ago, in whole microseconds and a bit; returns it [ns]."""
    stamp = (time.time_ns() - hours * HOUR_NS) // 1000 * 1000 + 345
    os.utime(path, ns=(stamp, stamp))
    return stamp


def swapped_bytes(path: Path) -> None:
    """Change a value in place and put the time back: neither size nor time tells."""
    stat = path.stat()
    data = path.read_bytes()
    assert data.count(b"GALAXY") > 0
    path.write_bytes(data.replace(b"GALAXY", b"QSO   "))
    os.utime(path, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size


def test_size_and_time_tell_that_a_file_is_unchanged(db: str, tmp_path: Path) -> None:
    """Such a file is not read at all, unless it is asked for: a change that they do not tell shows it."""
    path = spec_file(tmp_path / "spec-1.fits")
    stamp = aged(path)
    ingest_sdss([str(path)], db)
    ((_, noted),) = select(db, TIMES)
    assert round(noted.timestamp() * 1e6) == stamp // 1000
    before = content(db)
    swapped_bytes(path)
    done = ingest_sdss([str(path)], db)
    assert (done.nothing_new, done.unchanged, done.files) == (True, 1, 1)
    assert content(db) == before
    done = ingest_sdss([str(path)], db, rehash=True)
    assert (done.loaded, done.unchanged) == (1, 0)
    assert select(db, "select class from spec_obj") == [("QSO",)]
    assert ingest_sdss([str(path)], db, rehash=True).nothing_new


def test_another_time_or_size_has_the_file_read(db: str, tmp_path: Path) -> None:
    path = spec_file(tmp_path / "spec-1.fits")
    aged(path, 5)
    ingest_sdss([str(path)], db)
    swapped_bytes(path)
    stamp = aged(path, 9)  # older than before: any difference counts
    assert ingest_sdss([str(path)], db).loaded == 1
    path.write_bytes(path.read_bytes() + bytes(2880))
    os.utime(path, ns=(stamp, stamp))
    done = ingest_sdss([str(path)], db)
    assert (done.loaded, done.unchanged) == (1, 0)


def test_a_time_alone_that_changed_is_noted(db: str, tmp_path: Path) -> None:
    """The file is hashed once; then its new time is known, and the rows are as they were."""
    path = spec_file(tmp_path / "spec-1.fits")
    aged(path, 5)
    ingest_sdss([str(path)], db)
    before = content(db)
    stamp = aged(path, 2)
    assert ingest_sdss([str(path)], db).nothing_new
    assert content(db) == before
    ((_, noted),) = select(db, TIMES)
    assert round(noted.timestamp() * 1e6) == stamp // 1000
    swapped_bytes(path)
    assert ingest_sdss([str(path)], db).nothing_new


def test_a_file_written_a_moment_ago_is_hashed_again(db: str, tmp_path: Path) -> None:
    """It may be written again within the same tick of the clock; also a time in the future says nothing."""
    path = spec_file(tmp_path / "spec-1.fits")
    later = spec_file(tmp_path / "spec-2.fits", FIBERID=8, PLUG_DEC=5.0)
    aged(later, -3)
    ingest_sdss([str(tmp_path)], db)
    assert [t for _, t in select(db, TIMES)] == [None, None]
    swapped_bytes(path)
    assert ingest_sdss([str(tmp_path)], db).loaded == 1
    aged(path)
    assert ingest_sdss([str(tmp_path)], db).nothing_new
    assert [t is None for _, t in select(db, TIMES)] == [False, True]


def test_a_rejected_file_is_not_read_again_until_it_changes(db: str, tmp_path: Path) -> None:
    good = spec_file(tmp_path / "good.fits").read_bytes()
    cut, packed = tmp_path / "spec-1.fits", tmp_path / "spec-2.fits.gz"
    cut.write_bytes(good[:20000])
    packed.write_bytes(gzip.compress(good)[:9000])
    (tmp_path / "good.fits").unlink()
    stamps = [aged(cut), aged(packed)]
    assert ingest_sdss([str(tmp_path)], db).rejected == 2
    assert [round(t.timestamp() * 1e6) for _, t in select(db, TIMES)] == [s // 1000 for s in stamps]
    assert ingest_sdss([str(tmp_path)], db).nothing_new
    cut.write_bytes(good)
    os.utime(cut, ns=(stamps[0], stamps[0]))
    done = ingest_sdss([str(tmp_path)], db)
    assert (done.loaded, done.unchanged) == (1, 1)
    cut.write_bytes(good[:20000])  # gone bad, and then back as it was, with the same time
    aged(cut, 3)
    assert ingest_sdss([str(tmp_path)], db).rejected == 1
    cut.write_bytes(good)
    os.utime(cut, ns=(stamps[0], stamps[0]))
    assert ingest_sdss([str(tmp_path)], db).loaded == 1
    assert select(db, "select path, reason_code from reject") == [(str(packed), "truncated")]


def test_catalogues_plates_and_urls(db: str, tmp_path: Path) -> None:
    """A catalogue is known by its time; a plate, which is two files, and a URL are hashed every time."""
    catalogue = tmp_path / "specObj-1.fits"
    fits.HDUList([fits.PrimaryHDU(), table([row(FIBERID=900, PLUG_RA=9.0)])]).writeto(catalogue)
    plate, zbest = plate_files(tmp_path)
    remote = fsspec.filesystem("memory")
    remote.pipe("/times/spec-4.fits", spec_file(tmp_path / "x", FIBERID=44, PLUG_RA=80.0).read_bytes())
    for path in (catalogue, plate, zbest):
        aged(path)
    paths = [str(catalogue), str(plate), "memory://times/*.fits"]
    assert ingest_sdss(paths, db).loaded == 3
    noted = dict(select(db, TIMES))
    assert noted[str(catalogue)] is not None
    assert noted[str(plate)] is noted["memory:///times/spec-4.fits"] is None
    assert ingest_sdss(paths, db).nothing_new
    swapped_bytes(catalogue)
    assert ingest_sdss(paths, db).nothing_new
    zbest.unlink()
    assert ingest_sdss(paths, db).loaded == 1
    assert ingest_sdss(paths, db, rehash=True).loaded == 1
    assert select(db, "select class from spec_obj where fiber_id = 900") == [("QSO",)]


def test_rehash_of_the_command(db: str, tmp_path: Path) -> None:
    import lensmine

    path = spec_file(tmp_path / "spec-1.fits")
    aged(path)
    ingest_sdss([str(path)], db)
    swapped_bytes(path)
    for options, loaded in ((["--json"], 0), (["--json", "--rehash"], 1)):
        run = CliRunner().invoke(lensmine.app, ["ingest", "sdss", str(path), "--db", db, *options])
        assert run.exit_code == 0, run.output
        assert json.loads(run.stdout)["loaded"] == loaded
