"""A corrected spec file or plate replaces what its earlier version gave, also into the row of a catalogue."""

from __future__ import annotations

import datetime
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from ingest_state import content, select
from sdss_files import PIX_FIRST, pixels, plate_files, row, spec_file, table

from etl.sdss import ingest_sdss
from schema.engine import shard_root
from schema.shards import Shard

ROW = "select z, cmodel_mag_i, subclass, vdisp from spec_obj order by fiber_id"
FAINT = [23.0, 22.0, 21.0, 21.5, 20.0]
BRIGHT = [23.0, 22.0, 21.0, 18.5, 20.0]


def catalogue(path: Path, *fibers: int, **given: Any) -> Path:
    """A specObj without magnitudes, and blank where its rows say nothing."""
    values = {"CMODELMAG": None, "SUBCLASS": "", "VDISP": float("nan"), **given}
    rows = [row(FIBERID=k, **values) for k in fibers or (7,)]
    fits.HDUList([fits.PrimaryHDU(), table(rows)]).writeto(path, overwrite=True)
    return path


def chosen_flux(db: str) -> np.ndarray:
    """Flux of the spectrum in use, which must be one."""
    (name, index), = select(db, "select p.name, s.shard_row from spectrum s join pixel_shard p on "
                                "p.shard_id = s.shard_id where s.is_primary")  # fmt: skip
    return Shard(shard_root(db) / name).read("flux", [index], PIX_FIRST, len(pixels()["flux"]))[0]


@pytest.mark.parametrize("catalogue_first", [True, False])
def test_a_corrected_spec_file_under_a_catalogue(db: str, tmp_path: Path, catalogue_first: bool) -> None:
    """What the file gave is the new version's; the catalogue's redshift stays; the pixels are others."""
    files = [catalogue(tmp_path / "specObj-1.fits", Z=0.5), tmp_path / "spec-1.fits"]
    spec_file(files[1], Z=0.51, CMODELMAG=FAINT, SUBCLASS="AGN", VDISP=150.0)
    for path in files if catalogue_first else reversed(files):
        ingest_sdss([str(path)], db)
    assert select(db, ROW) == [(0.5, 21.5, "AGN", 150.0)]
    ((was,),) = select(db, "select content_hash from spectrum")
    spec_file(files[1], seed=9, Z=0.6, CMODELMAG=BRIGHT, SUBCLASS="STARFORMING", VDISP=None)
    assert ingest_sdss([str(tmp_path)], db).loaded == 1
    assert select(db, ROW) == [(0.5, 18.5, "STARFORMING", None)]
    ((now,),) = select(db, "select content_hash from spectrum")
    assert was != now
    np.testing.assert_array_equal(chosen_flux(db), pixels(9)["flux"])
    assert ingest_sdss([str(tmp_path)], db).nothing_new
    catalogue(files[0], Z=0.25)  # it changes after that: the file's values stay, and it need not be read
    os.utime(files[1], (1, 1))
    ingest_sdss([str(files[0])], db)
    assert select(db, ROW) == [(0.25, 18.5, "STARFORMING", None)]
    catalogue(files[0], Z=float("nan"))
    spec_file(files[1], seed=9, Z=0.7, CMODELMAG=BRIGHT)
    ingest_sdss([str(tmp_path)], db)
    assert select(db, "select z from spec_obj") == [(pytest.approx(0.7),)]


@pytest.mark.parametrize("old_first", [True, False])
@pytest.mark.parametrize("with_catalogue", [True, False])
def test_a_corrected_spec_file_under_a_new_path(
    db: str, tmp_path: Path, old_first: bool, with_catalogue: bool
) -> None:
    """Of two files of one spectrum and reduction the one written later stands, even with fewer pixels."""
    old, new = tmp_path / "b" / "spec-1.fits", tmp_path / "c" / "spec-1.fits"
    for path in (old, new):
        path.parent.mkdir()
    spec_file(old, Z=0.51, CMODELMAG=FAINT, SUBCLASS="AGN", VDISP=150.0)
    masked = {"ivar": np.where(np.arange(700) < 50, 0.0, 1.0).astype(">f4")}
    spec_file(new, seed=9, change=masked, Z=0.6, CMODELMAG=BRIGHT, SUBCLASS="STARFORMING", VDISP=None)
    os.utime(old, (1.7e9, 1.7e9))
    os.utime(new, (1.8e9 - 5e7, 1.8e9 - 5e7))
    z = 0.5 if with_catalogue else pytest.approx(0.6)
    if with_catalogue:
        ingest_sdss([str(catalogue(tmp_path / "specObj-1.fits"))], db)
    for path in (old, new) if old_first else (new, old):
        ingest_sdss([str(path)], db)
    assert select(db, ROW) == [(z, 18.5, "STARFORMING", 150.0)]
    np.testing.assert_array_equal(chosen_flux(db), pixels(9)["flux"])
    copy = tmp_path / "a.fits"  # the same pixels again: the spectrum in use, and its scores, stay
    shutil.copy(new, copy)
    primary = select(db, "select f.path from spectrum s join source_file f on f.source_file_id = "
                         "s.source_file_id where s.is_primary")  # fmt: skip
    assert primary == [(str(new),)]
    ingest_sdss([str(copy)], db)
    assert select(db, ROW) == [(z, 18.5, "STARFORMING", 150.0)]


def test_a_corrected_plate_under_a_catalogue(db: str, tmp_path: Path) -> None:
    plate, zbest = plate_files(tmp_path)
    rows = [row(FIBERID=k, PLUG_RA=236.0, Z=0.9, SN_MEDIAN_ALL=float("nan")) for k in range(1, 6)]
    fits.HDUList([fits.PrimaryHDU(), table(rows)]).writeto(tmp_path / "specObj-1.fits")
    ingest_sdss([str(tmp_path)], db)
    told = "select z, sn_median_all from spec_obj where fiber_id = 3"
    assert select(db, told) == [(pytest.approx(0.9), 3.0)]
    before = select(db, "select content_hash from spectrum where source_row = 2")
    with fits.open(plate, mode="update") as hdus:
        hdus[0].data[2] += 1
    with fits.open(zbest, mode="update") as hdus:
        hdus[1].data["SN_MEDIAN_ALL"][2] = 7.0
        hdus[1].data["Z"][2] = 0.4
    ingest_sdss([str(tmp_path)], db)
    assert select(db, told) == [(pytest.approx(0.9), 7.0)]
    assert select(db, "select content_hash from spectrum where source_row = 2") != before
    assert select(db, "select count(*) from spectrum") == [(5,)]


def test_a_file_that_is_another_spectrum_now_takes_its_values_along(db: str, tmp_path: Path) -> None:
    ingest_sdss([str(catalogue(tmp_path / "specObj-1.fits", 7, 8))], db)
    spec = spec_file(tmp_path / "spec-1.fits", FIBERID=7, CMODELMAG=FAINT, SUBCLASS="AGN")
    ingest_sdss([str(spec)], db)
    spec_file(spec, FIBERID=8, CMODELMAG=BRIGHT, SUBCLASS="AGN")
    ingest_sdss([str(spec)], db)
    told = [(0.5, None, None, None), (0.5, 18.5, "AGN", 210.0)]
    assert select(db, ROW) == told
    assert select(db, "select column_names from spec_fill where column_names like '%subclass%'") != []
    spec_file(spec, FIBERID=8, CMODELMAG=BRIGHT, SUBCLASS="AGN", RUN2D="v5_4_45")  # of an older reduction
    ingest_sdss([str(spec)], db)
    assert select(db, ROW) == [(0.5, None, None, None)] * 2
    assert select(db, "select count(*) from spec_fill") == [(0,)]


def test_what_a_corrected_file_leaves_blank_is_read_from_another(db: str, tmp_path: Path) -> None:
    one, two = tmp_path / "spec-1.fits", tmp_path / "spec-2.fits"
    spec_file(one, CMODELMAG=FAINT, SUBCLASS="AGN", VDISP=150.0)
    spec_file(two, CMODELMAG=BRIGHT, SUBCLASS="AGN", VDISP=160.0)
    os.utime(two, (1.7e9, 1.7e9))
    ingest_sdss([str(catalogue(tmp_path / "specObj-1.fits"))], db)
    for path in (one, two):
        ingest_sdss([str(path)], db)
    assert select(db, ROW) == [(0.5, 21.5, "AGN", 150.0)]
    spec_file(one, CMODELMAG=FAINT, SUBCLASS="", VDISP=None)
    ingest_sdss([str(one)], db)
    assert select(db, ROW) == [(0.5, 21.5, "AGN", 160.0)]
    before = content(db)
    assert ingest_sdss([str(tmp_path)], db).nothing_new
    assert content(db) == before


def test_a_corrected_catalogue_under_another(db: str, tmp_path: Path) -> None:
    ingest_sdss([str(catalogue(tmp_path / "specObj-1.fits", 7))], db)
    other = tmp_path / "spAll-1.fits"
    for mag, told in ((FAINT, 21.5), (BRIGHT, 18.5), ([0.0] * 5, None)):
        fits.HDUList([fits.PrimaryHDU(), table([row(Z=0.8, CMODELMAG=mag)])]).writeto(other, overwrite=True)
        ingest_sdss([str(other)], db)
        assert select(db, "select z, cmodel_mag_i from spec_obj") == [(0.5, told)]
    fits.HDUList([fits.PrimaryHDU(), table([row(FIBERID=9)])]).writeto(other, overwrite=True)
    ingest_sdss([str(other)], db)
    assert select(db, "select z, sn_median_all, vdisp from spec_obj where fiber_id = 7") == [(0.5, 3.0, None)]


def test_a_file_of_a_moment_ago_is_the_latest(db: str, tmp_path: Path) -> None:
    """Its time is not kept; that of its ingest stands for it."""
    old, new = (spec_file(tmp_path / f"{k}.fits", seed=k, CMODELMAG=m) for k, m in ((2, FAINT), (1, BRIGHT)))
    os.utime(old, (1.7e9, 1.7e9))
    ingest_sdss([str(new)], db)
    ingest_sdss([str(old)], db)
    assert select(db, "select cmodel_mag_i from spec_obj") == [(18.5,)]
    ((noted,),) = select(db, "select modified_at from source_file where path like '%/2.fits'")
    assert noted.astimezone(datetime.UTC).year == 2023
    np.testing.assert_array_equal(chosen_flux(db), pixels(1)["flux"])
