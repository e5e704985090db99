"""Cutouts of lenses: their PSFs, lenstronomy's files, positions, the labelled challenge; on both engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_files import (
    HSC_SCALE,
    bands_of,
    galaxy,
    reasons,
    rows,
    sound,
    write_challenge,
    write_hsc,
    write_lenstronomy,
)

from etl.hsc import ingest_hsc
from etl.hst import ingest_hst


def test_psfs_beside_the_images(db: str, tmp_path: Path) -> None:
    from astropy.io import fits

    folder = tmp_path / "imaging" / "S" / "A"
    bands_of(db, folder, "gri")
    y, x = np.mgrid[:41, :41] - 20.0
    psf = np.exp(-(x**2 + y**2) / (2 * 2.0**2))
    psf /= psf.sum()
    (tmp_path / "psf" / "S" / "A").mkdir(parents=True)
    for band, factor in (("g", 1.0), ("i", 3.0)):
        fits.PrimaryHDU(psf * factor).writeto(tmp_path / "psf" / "S" / "A" / f"psf-{band}.fits")
    ingest_hsc([str(tmp_path / "imaging")], db)
    (cut,) = rows(db, "select psf_path, psf_fwhm_arcsec from cutout")
    assert [Path(p).name for p in cut["psf_path"].split(",")] == ["psf-g.fits", "", "psf-i.fits"]
    assert cut["psf_fwhm_arcsec"] == pytest.approx(2.3548 * 2.0 * HSC_SCALE, rel=0.02)
    (told,) = rows(db, "select * from reject where reason_code = 'psf_sum'")
    assert told["path"].endswith("psf-i.fits")
    assert not told["fatal"]
    assert len(rows(db, "select * from source_file where kind = 'psf'")) == 2
    assert ingest_hsc([str(tmp_path / "imaging")], db).nothing_new


def test_lenstronomy_files_choose_f814w(db: str, tmp_path: Path) -> None:
    folder = tmp_path / "SDSSJ1020+1122"
    write_lenstronomy(folder / "image_SDSSJ1020+1122_F606W.h5", galaxy(130, 130), 0.0498)
    write_lenstronomy(folder / "image_SDSSJ1020+1122_F814W.h5", galaxy(104, 104, 1))
    mask = np.zeros((104, 104), "f4")
    mask[:26] = 1
    import h5py

    with h5py.File(folder / "mask_SDSSJ1020+1122_F814W.h5", "w") as file:
        file["mask"] = mask
    done = ingest_hst([str(folder)], db)
    assert (done.cutouts, done.loaded) == (2, 3)
    found = rows(db, "select * from cutout order by bands")
    assert [(r["bands"], r["is_primary"], r["instrument"]) for r in found] == [
        ("F606W", False, "acs"), ("F814W", True, "acs"),
    ]  # fmt: skip
    assert found[1]["frac_good"] == pytest.approx(0.75)
    assert found[1]["noise"] == {"F814W": 0.006}
    assert found[1]["exposure_s"] == {"F814W": 2200.0}
    assert len(rows(db, "select * from target")) == 1
    assert reasons(db) == {"coarse_position": 1, "unknown_zeropoint": 2}
    assert sound(db)


def test_a_header_mends_a_coarse_position(db: str, tmp_path: Path) -> None:
    write_lenstronomy(tmp_path / "a" / "image_SDSSJ1020+1122_F814W.h5", galaxy(104, 104, 1))
    ingest_hst([str(tmp_path / "a")], db)
    assert reasons(db)["coarse_position"] == 1
    write_hsc(tmp_path / "b" / "SDSSJ1020+1122_F814W.fits", galaxy(), "F814W", USER=None, FLUXMAG0=None,
              INSTRUME="ACS", CRVAL1=155.0951, CRVAL2=11.3753, CD1_1=-1.4e-5, CD2_2=1.4e-5)  # fmt: skip
    ingest_hst([str(tmp_path / "b")], db)
    (row,) = rows(db, "select * from target")
    assert (row["ra_deg"], row["dec_deg"]) == (pytest.approx(155.0951), pytest.approx(11.3753))
    assert "coarse_position" not in reasons(db)
    assert sound(db)


def test_a_known_lens_gives_the_position(db: str, tmp_path: Path) -> None:
    from etl.lenses import ingest_lenses

    lens = tmp_path / "lenses.csv"
    lens.write_text(
        "name,RA [deg],DEC [deg],zlens,type,grading,ref\n"
        "J102022+112231,155.095,11.3754,0.28,galaxy,confident,x\n"
    )
    ingest_lenses([str(lens)], db)
    write_lenstronomy(tmp_path / "a" / "image_SDSSJ1020+1122_F814W.h5", galaxy(104, 104, 1))
    ingest_hst([str(tmp_path / "a")], db)
    (row,) = rows(db, "select * from target")
    assert (row["ra_deg"], row["dec_deg"]) == (155.095, 11.3754)
    assert "coarse_position" not in reasons(db)


def test_lenses_loaded_later_mend_a_coarse_position(db: str, tmp_path: Path) -> None:
    from etl.lenses import ingest_lenses

    folder = tmp_path / "a"
    for band in ("F606W", "F814W"):
        write_lenstronomy(folder / f"image_SDSSJ1020+1122_{band}.h5", galaxy(104, 104, 1))
    write_lenstronomy(folder / "image_SDSSJ1525+3327_F814W.h5", galaxy(104, 104, 2))
    ingest_hst([str(folder)], db)
    assert reasons(db)["coarse_position"] == 2
    lens = tmp_path / "lenses.csv"
    lens.write_text(
        "name,RA [deg],DEC [deg],zlens,type,grading,ref\n"
        "J102022+112231,155.095,11.3754,0.28,galaxy,confident,x\n"
    )
    ingest_lenses([str(lens)], db)
    done = ingest_hst([str(folder)], db)
    assert not done.nothing_new
    where = rows(db, "select ra_deg, dec_deg from target where native_id = 'SDSSJ1020+1122'")
    assert where == [{"ra_deg": 155.095, "dec_deg": 11.3754}]
    assert len(rows(db, "select * from known_lens_match")) == 1, "it is known as the lens that it is"
    assert reasons(db)["coarse_position"] == 1, "of the other lens no catalogue says more"
    assert ingest_hst([str(folder)], db).nothing_new
    write_lenstronomy(folder / "image_SDSSJ1525+3327_F814W.h5", galaxy(104, 104, 3))
    ingest_hst([str(folder)], db)
    assert reasons(db)["coarse_position"] == 1, "other pixels do not make its position better"
    assert sound(db)


def test_the_challenge_has_truth_and_no_place(db: str, tmp_path: Path) -> None:
    for folder, number in (("lens", 100002), ("nolens", 100004)):
        for k, band in enumerate("UGRI"):
            pixels = galaxy(101, 101, seed=k) * 1e-12
            if band == "U":
                pixels[:10, :10] = 100.0
            path = tmp_path / "ground_based" / folder / f"imageSDSS_{band}-{number}.fits"
            write_challenge(path, pixels.astype("f4"))
    done = ingest_hst([str(tmp_path)], db)
    assert (done.files, done.cutouts) == (8, 2)
    found = rows(
        db,
        "select t.native_id, t.survey, t.is_injection, i.is_lens, c.bands, c.frac_good, c.clip from target t "
        "join injection i on i.target_id = t.target_id join cutout c on c.target_id = t.target_id "
        "order by t.native_id",
    )
    assert [(r["native_id"], r["survey"], r["is_injection"], r["is_lens"]) for r in found] == [
        ("ground-100002", "bologna", True, True), ("ground-100004", "bologna", True, False),
    ]  # fmt: skip
    assert found[0]["bands"] == "u,g,r,i"
    assert found[0]["frac_good"] == pytest.approx(1 - 100 / (4 * 101 * 101))
    assert found[0]["clip"]["u"][1] < 1e-10  # the 100 was masked
    assert reasons(db)["fake_position"] == 2
    assert sound(db)
