"""Cutouts into shards and rows: bands put together, faults told, reruns without effect; on both engines."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from image_files import DEC, HSC_SCALE, RA, bands_of, galaxy, reasons, rows, sound, write_hsc
from numpy.typing import NDArray

from etl.hsc import ingest_hsc
from etl.prune import prune
from schema.engine import connect_engine, shard_root
from schema.errors import UserError
from schema.image_shards import ImageShard, percentile_stamp, pixel_hashes

TABLES = ("target", "cutout", "phot_obj", "image_shard", "injection", "source_file", "reject")


def everything(db: str) -> dict[str, list[tuple[Any, ...]]]:
    with connect_engine(db, read_only=True).connect() as conn:
        return {
            t: sorted(map(str, (tuple(r) for r in conn.execute(sa.text(f"select * from {t}")))))
            for t in TABLES
        }


def test_bands_become_one_cutout(db: str, tmp_path: Path) -> None:
    folder = tmp_path / "galaxy 7"
    bands_of(db, folder)
    done = ingest_hsc([str(folder)], db)
    assert (done.files, done.loaded, done.rejected, done.cutouts) == (5, 5, 0, 1)
    (row,) = rows(db, "select * from selectable")
    assert (row["survey"], row["native_id"], row["bands"]) == ("hsc", "galaxy 7", "g,r,i,z,y")
    (cut,) = rows(db, "select * from cutout")
    assert cut["zeropoint"] == dict.fromkeys("grizy", pytest.approx(27.0))
    assert cut["is_primary"]
    assert cut["hdu"] == "0,0,0,0,0"
    assert cut["pixscale_arcsec"] == pytest.approx(HSC_SCALE)
    assert set(cut["noise"]) == set("grizy")
    assert all(0.03 < v < 0.08 for v in cut["noise"].values())  # drawn with 0.05
    (named,) = rows(db, "select name from image_shard")
    shard = ImageShard(shard_root(db) / named["name"])
    image = shard.read("image", [0])
    want = np.stack([galaxy(seed=k) for k in range(5)])
    np.testing.assert_array_equal(image[0], want)
    stamp, clip = percentile_stamp(image)
    np.testing.assert_array_equal(shard.read("stamp", [0]), stamp)
    assert cut["clip"]["i"] == pytest.approx(clip[0, 2].tolist())
    assert cut["content_hash"] == pixel_hashes(image)[0]
    (target,) = rows(db, "select ra_deg, dec_deg, is_injection from target")
    assert (target["ra_deg"], target["dec_deg"]) == (pytest.approx(RA), pytest.approx(DEC))
    assert sound(db)


def test_a_rerun_changes_nothing(db: str, tmp_path: Path) -> None:
    bands_of(db, tmp_path / "in" / "A")
    write_hsc(tmp_path / "in" / "B" / "stamp-g.fits", np.full((64, 64), np.nan), "g")
    (tmp_path / "in" / "C-r.fits").write_bytes(b"no FITS")
    first = ingest_hsc([str(tmp_path / "in")], db)
    assert (first.loaded, first.rejected) == (5, 2)
    before = everything(db)
    again = ingest_hsc([str(tmp_path / "in")], db)
    assert again.nothing_new
    assert (again.unchanged, again.cutouts, again.rejects_fatal) == (7, 0, 0)
    assert everything(db) == before


def test_a_changed_band_replaces_the_pixels(db: str, tmp_path: Path) -> None:
    folder = tmp_path / "A"
    bands_of(db, folder, "gri")
    ingest_hsc([str(folder)], db)
    (before,) = rows(db, "select * from cutout")
    write_hsc(folder / "stamp-r.fits", galaxy(seed=99), "r")
    done = ingest_hsc([str(folder / "stamp-r.fits")], db)  # the other bands are found beside it
    assert (done.files, done.cutouts) == (3, 1)
    (after,) = rows(db, "select * from cutout")
    assert after["cutout_id"] == before["cutout_id"]
    assert after["bands"] == "g,r,i"
    assert after["content_hash"] != before["content_hash"]
    assert len(rows(db, "select * from target")) == 1
    assert sound(db)
    assert prune(db).shards == 1  # the shard with the old pixels
    assert sound(db)


def test_a_band_that_comes_later_joins(db: str, tmp_path: Path) -> None:
    folder = tmp_path / "A"
    bands_of(db, folder, "gr")
    assert ingest_hsc([str(folder)], db).reasons["missing_bands"] == 1
    write_hsc(folder / "stamp-i.fits", galaxy(seed=5), "i")
    ingest_hsc([str(folder)], db)
    assert [r["bands"] for r in rows(db, "select bands from cutout")] == ["g,r,i"]
    assert "missing_bands" not in reasons(db)


def test_a_file_gone_bad_keeps_its_last_good_rows(db: str, tmp_path: Path) -> None:
    folder = tmp_path / "A"
    bands_of(db, folder, "gri")
    ingest_hsc([str(folder)], db)
    before = rows(db, "select * from cutout")
    good = (folder / "stamp-i.fits").read_bytes()
    (folder / "stamp-i.fits").write_bytes(good[:5000])
    done = ingest_hsc([str(folder)], db)
    assert (done.cutouts, done.reasons["truncated"]) == (0, 1)
    assert rows(db, "select * from cutout") == before
    assert ingest_hsc([str(folder)], db).nothing_new
    (folder / "stamp-i.fits").write_bytes(good)
    ingest_hsc([str(folder)], db)
    assert rows(db, "select content_hash from cutout")[0]["content_hash"] == before[0]["content_hash"]
    assert reasons(db) == {}
    assert sound(db)


def cut_file_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9000])


def holed(share: float = 0.8) -> NDArray[np.float32]:
    """A galaxy of which so much is missing."""
    pixels = galaxy()
    pixels[: round(64 * share)] = np.nan
    return pixels


BAD: dict[str, tuple[str, Callable[[Path], object]]] = {
    "size": ("band_mismatch", lambda f: write_hsc(f / "stamp-z.fits", galaxy(60, 60), "z")),
    "place": ("band_mismatch", lambda f: write_hsc(f / "stamp-z.fits", galaxy(), "z", CRVAL2=DEC + 0.001)),
    "scale": (
        "band_mismatch",
        lambda f: write_hsc(f / "stamp-z.fits", galaxy(), "z", CD1_1=-1e-4, CD2_2=1e-4),
    ),
    "all NaN": ("blank_stamp", lambda f: write_hsc(f / "stamp-z.fits", np.full((64, 64), np.nan), "z")),
    "four fifths NaN": ("blank_stamp", lambda f: write_hsc(f / "stamp-z.fits", holed(), "z")),
    "constant": ("blank_stamp", lambda f: write_hsc(f / "stamp-z.fits", np.full((64, 64), 7.0), "z")),
    "cut short": (
        "truncated",
        lambda f: cut_file_short(write_hsc(f / "stamp-z.fits", galaxy(), "z")),
    ),
    "no FITS": ("not_image", lambda f: (f / "stamp-z.fits").write_bytes(b"\x00" * 3000)),
    "line map": (
        "bad_unit",
        lambda f: write_hsc(f / "stamp-z.fits", galaxy(), "z", BUNIT="1e-15 erg / (arcsec2 cm2 s)"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_band_is_left_out_and_told_and_the_others_load(db: str, tmp_path: Path, fault: str) -> None:
    code, spoil = BAD[fault]
    bands_of(db, tmp_path / "A", "gri")
    spoil(tmp_path / "A")
    done = ingest_hsc([str(tmp_path / "A")], db)
    assert (done.cutouts, done.rejected) == (1, 1)
    assert [r["bands"] for r in rows(db, "select bands from cutout")] == ["g,r,i"]
    (told,) = rows(db, "select * from reject")
    assert (told["reason_code"], told["fatal"]) == (code, True)
    assert told["path"].endswith("stamp-z.fits")
    assert len(told["reason"]) > 15
    assert sound(db)


def test_a_cutout_with_holes_in_every_band_keeps_its_bands(db: str, tmp_path: Path) -> None:
    """What is left of it is told by frac_good, by which models skip it."""
    for band in "gr":
        write_hsc(tmp_path / "A" / f"stamp-{band}.fits", holed(), band)
    assert ingest_hsc([str(tmp_path / "A")], db).cutouts == 1
    (cut,) = rows(db, "select bands, frac_good from cutout")
    assert (cut["bands"], cut["frac_good"]) == ("g,r", pytest.approx(0.2, abs=0.01))


def test_two_files_of_one_band(db: str, tmp_path: Path) -> None:
    bands_of(db, tmp_path / "A", "gri")
    packed = tmp_path / "A" / "stamp-g.fits.gz"
    packed.write_bytes(gzip.compress((tmp_path / "A" / "stamp-g.fits").read_bytes()))
    done = ingest_hsc([str(tmp_path / "A")], db)
    assert (done.cutouts, dict(done.reasons)) == (1, {"duplicate_object": 1})


def test_cubes_and_extensions(db: str, tmp_path: Path) -> None:
    from astropy.io import fits

    cube = np.stack([galaxy(seed=k) for k in range(5)])
    write_hsc(tmp_path / "40000000000000001.fits", cube, None)
    write_hsc(tmp_path / "40000000000000002.fits", cube[:3], None, BANDS="g,r,i")
    write_hsc(tmp_path / "40000000000000003.fits", cube[:3], None)
    hdus = [fits.PrimaryHDU()]
    for k, band in enumerate("gri"):
        single = fits.getheader(write_hsc(tmp_path / "tmp.fits", cube[k], band))
        single["EXTNAME"] = f"HSC-{band.upper()}"
        hdus.append(fits.ImageHDU(cube[k], single))
    (tmp_path / "tmp.fits").unlink()
    fits.HDUList(hdus).writeto(tmp_path / "40000000000000004.fits")
    mask = np.zeros((64, 64), np.int32)
    mask[:16] = 1
    coadd = [fits.PrimaryHDU(), fits.ImageHDU(cube[0], name="IMAGE"), fits.ImageHDU(mask, name="MASK"),
             fits.ImageHDU(np.full((64, 64), 0.04, "f4"), name="VARIANCE")]  # fmt: skip
    coadd[1].header.update(fits.getheader(tmp_path / "40000000000000001.fits"), FILTER="HSC-I")
    coadd[1].header["EXTNAME"] = "IMAGE"
    fits.HDUList(coadd).writeto(tmp_path / "40000000000000005.fits")
    done = ingest_hsc([str(tmp_path)], db)
    assert done.cutouts == 4
    found = rows(db, "select t.native_id, c.* from cutout c join target t on t.target_id = c.target_id")
    by_name = {r["native_id"][-1]: r for r in found}
    assert {k: r["bands"] for k, r in by_name.items()} == {
        "1": "g,r,i,z,y", "2": "g,r,i", "4": "g,r,i", "5": "i",
    }  # fmt: skip
    assert by_name["1"]["hdu"] == "0[0],0[1],0[2],0[3],0[4]"
    assert by_name["4"]["hdu"] == "1,2,3"
    assert by_name["5"]["frac_good"] == pytest.approx(0.75)
    assert by_name["5"]["noise"] == {"i": pytest.approx(0.2)}
    assert reasons(db) == {"assumed_bands": 1, "unknown_band": 1}
    done = ingest_hsc([str(tmp_path / "40000000000000003.fits")], db, bands=("i", "r", "g"))
    assert (done.cutouts, done.unchanged) == (1, 0)  # what was wanting is there now
    assert reasons(db) == {"assumed_bands": 1}
    assert sound(db)


def test_bands_may_be_given(db: str, tmp_path: Path) -> None:
    write_hsc(tmp_path / "40000000000000003.fits", np.stack([galaxy(seed=k) for k in range(3)]), None)
    assert ingest_hsc([str(tmp_path)], db, bands=("i", "r", "g")).cutouts == 1
    (cut,) = rows(db, "select * from cutout")
    assert (cut["bands"], cut["hdu"]) == ("g,r,i", "0[2],0[1],0[0]")


def test_npz_with_filters_takes_its_position_from_the_catalogue(db: str, tmp_path: Path) -> None:
    images = np.stack([galaxy(58, 48, seed=k) for k in range(5)])
    np.savez(tmp_path / "hsc_cosmos_35.npz", images=images, filters=np.array(list("grizy")),
             variance=np.full_like(images, 0.01))  # fmt: skip
    assert dict(ingest_hsc([str(tmp_path)], db).reasons)["no_position"] == 1
    assert rows(db, "select * from cutout") == []
    assert not any(shard_root(db).glob("image-*"))  # nothing refers to its pixels
    (tmp_path / "where.csv").write_text("object_id,ra,dec\nhsc_cosmos_35,150.2,2.1\n")
    assert ingest_hsc([str(tmp_path)], db).cutouts == 1  # the file is as it was, its position is known now
    assert ingest_hsc([str(tmp_path)], db).nothing_new
    (row,) = rows(db, "select * from selectable")
    assert (row["native_id"], row["ra_deg"], row["ny"], row["nx"]) == ("hsc_cosmos_35", 150.2, 58, 48)


def test_pickles_are_never_unpacked(db: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", images=np.array([{"a": 1}], dtype=object))
    done = ingest_hsc([str(tmp_path)], db)
    assert dict(done.reasons) == {"pickled": 1}


def test_positions_in_the_name_beat_a_header_copied_from_a_tile(db: str, tmp_path: Path) -> None:
    write_hsc(tmp_path / "X_000_44.440647_-28.792948_g.fits", galaxy(), "g", USER=None, FLUXMAG0=None,
              CRPIX1=5000.5, CRPIX2=5000.5)  # fmt: skip
    ingest_hsc([str(tmp_path)], db)
    (row,) = rows(db, "select * from target")
    assert (row["ra_deg"], row["dec_deg"]) == (44.440647, -28.792948)
    assert reasons(db)["position_mismatch"] == 1


def test_a_saturated_stamp_is_noted(db: str, tmp_path: Path) -> None:
    flat = np.minimum(galaxy(peak=50.0), 8.0)
    write_hsc(tmp_path / "A-g.fits", flat, "g")
    limited = galaxy(peak=50.0, seed=1)
    write_hsc(tmp_path / "B-g.fits", limited, "g", SATURATE=20.0)
    write_hsc(tmp_path / "C-g.fits", galaxy(seed=2), "g", SATURATE=20.0, CRVAL1=RA + 0.1)
    ingest_hsc([str(tmp_path)], db)
    found = {
        r["native_id"]: r["frac_saturated"]
        for r in rows(db, "select native_id, frac_saturated from cutout c join target t using (target_id)")
    }
    assert found["A"] == pytest.approx((flat == 8.0).mean())
    assert found["B"] == pytest.approx((limited >= 20.0).mean())
    assert found["C"] == 0
    told = rows(db, "select native_id from reject where reason_code = 'saturated'")
    assert {r["native_id"] for r in told} == {"A", "B"}


def test_infinite_pixels_are_masked_and_told(db: str, tmp_path: Path) -> None:
    pixels = galaxy()
    pixels[:2] = np.inf
    write_hsc(tmp_path / "A-g.fits", pixels, "g")
    ingest_hsc([str(tmp_path)], db)
    (cut,) = rows(db, "select frac_good from cutout")
    assert cut["frac_good"] == pytest.approx(62 / 64)
    assert reasons(db)["nonfinite"] == 1


def test_many_stamps_share_a_shard_and_processes_agree(db: str, tmp_path: Path) -> None:
    for k in range(450):
        write_hsc(tmp_path / "in" / f"{40_000_000_000_000_000 + k}-i.fits", galaxy(16, 16, k), "i",
                  CRVAL1=RA + k * 0.01)  # fmt: skip
    done = ingest_hsc([str(tmp_path / "in")], db, processes=2)
    assert done.cutouts == 450
    assert len(rows(db, "select * from image_shard")) == 1
    (n,) = rows(db, "select count(distinct content_hash) as n from cutout where is_primary")
    assert n["n"] == 450
    assert sound(db)


def test_the_same_pixels_under_two_paths_are_two_cutouts_of_one_target(db: str, tmp_path: Path) -> None:
    bands_of(db, tmp_path / "one" / "A", "gri")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    ingest_hsc([str(tmp_path / "one")], db)
    ingest_hsc([str(tmp_path / "two")], db)
    found = rows(db, "select * from cutout")
    assert len(found) == 2
    assert len({r["content_hash"] for r in found}) == 1
    assert sorted(r["is_primary"] for r in found) == [False, True]
    assert sound(db)


def test_nothing_at_a_path(db: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to ingest"):
        ingest_hsc([str(tmp_path)], db)
