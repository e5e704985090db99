"""How a cutout lies on the sky: from world coordinates of every kind, against astropy; null where unknown."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import sqlalchemy as sa
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from image_files import galaxy, rows, write_challenge, write_hsc, write_lenstronomy

from etl.cosmos import ingest_cosmos
from etl.image_header import orientation_of, sky_of
from etl.image_ingest import ingest_images
from schema.engine import connect_engine
from scoring.inject.orientation import light_angle, pixel_angle, sky_angle


def cd_cards(orientat: float, parity: int, scale: float = 0.05) -> dict[str, float]:
    """CD matrix of an image whose +y axis has this position angle, mirrored where parity is -1."""
    s, a = scale / 3600, math.radians(orientat)
    # +x lies a quarter turn clockwise of +y in the pixels: on the sky that is west of it, or east
    return {
        "CD1_1": -parity * s * math.cos(a), "CD1_2": s * math.sin(a),
        "CD2_1": parity * s * math.sin(a), "CD2_2": s * math.cos(a),
    }  # fmt: skip


def by_astropy(header: fits.Header, x: float, y: float) -> tuple[float, int]:
    """Position angle of +y and parity at a pixel counted from 0, by spherical geometry."""
    wcs = WCS(header).celestial
    at, up, right = (wcs.pixel_to_world(*p).icrs for p in ((x, y), (x, y + 1), (x + 1, y)))
    a, b = (float(at.position_angle(p).deg) for p in (up, right))
    return a, 1 if (b - a) % 360 > 180 else -1


def near(a: float, b: float, deg: float = 0.01) -> bool:
    return abs((a - b + 180.0) % 360.0 - 180.0) < deg


def stored(db: str) -> dict[str, tuple[float | None, int | None]]:
    found = rows(
        db, "select t.native_id, c.orientat_deg, c.sky_parity from cutout c join target t using (target_id)"
    )
    return {r["native_id"]: (r["orientat_deg"], r["sky_parity"]) for r in found}


def header(**cards: Any) -> fits.Header:
    head = fits.Header()
    head.update({"NAXIS": 2, "NAXIS1": 60, "NAXIS2": 48, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
    head.update({"CRVAL1": 10.0, "CRVAL2": 60.0, "CRPIX1": 30.5, "CRPIX2": 24.5})
    head.update(cards)
    return head


@pytest.mark.parametrize("parity", [1, -1])
@pytest.mark.parametrize("orientat", [0.0, 33.0, 90.0, 200.0, 283.96])
def test_cd_matrices_turned_and_mirrored(orientat: float, parity: int) -> None:
    head = header(**cd_cards(orientat, parity))
    sky = sky_of(head.get, 48, 60)
    assert sky is not None
    assert near(sky.orientation.orientat_deg, orientat)
    assert sky.orientation.parity == parity
    angle, hand = by_astropy(head, 29.5, 23.5)
    assert near(sky.orientation.orientat_deg, angle, 1e-4)
    assert hand == parity


@pytest.mark.parametrize(
    "cards",
    [
        {"CDELT1": -1e-5, "CDELT2": 1e-5, "CROTA2": 40.0},
        {"CDELT1": 1e-5, "CDELT2": 1e-5, "CROTA2": -25.0},
        {"CDELT1": -1e-5, "CDELT2": 1e-5, "PC1_1": 0.6, "PC1_2": -0.8, "PC2_1": 0.8, "PC2_2": 0.6},
        {"CDELT1": -1e-5, "CDELT2": 1e-5},
        # a stamp with the header of a tile: north at the stamp is not north at the reference pixel
        {**cd_cards(12.0, 1, 0.25), "CRPIX1": -20_000.0, "CRPIX2": 5_000.0},
    ],
    ids=["rotated", "mirrored", "pc", "plain", "far"],
)
def test_other_ways_to_write_them_agree_with_astropy(cards: dict[str, float]) -> None:
    head = header(**cards)
    sky = sky_of(head.get, 48, 60)
    assert sky is not None
    angle, hand = by_astropy(head, 29.5, 23.5)
    assert near(sky.orientation.orientat_deg, angle, 1e-3)
    assert sky.orientation.parity == hand
    if "CRPIX1" in cards:
        assert not near(sky.orientation.orientat_deg, 12.0, 1.0)


def test_angles_go_to_the_pixels_and_back() -> None:
    """A step on the sky along a position angle is one along `pixel_angle` in the pixels."""
    rng = np.random.default_rng(2)
    for parity in (1, -1):
        orientat, pa = rng.uniform(0, 360, 2)
        wcs = WCS(header(**cd_cards(orientat, parity)))
        at = wcs.pixel_to_world(29.5, 23.5)
        x, y = wcs.world_to_pixel(at.directional_offset_by(pa * units.deg, 0.2 * units.arcsec))
        phi = math.degrees(math.atan2(y - 23.5, x - 29.5))
        assert near(pixel_angle(pa, orientat, parity), phi)
        assert near(sky_angle(phi, orientat, parity), pa)


def test_every_source_keeps_how_its_cutouts_lie(db: str, tmp_path: Path) -> None:
    turned = dict(zip(("CD1_1", "CD1_2", "CD2_1", "CD2_2"), cd_cards(75.0, -1, 0.168).values(), strict=True))
    for k, band in enumerate("gri"):
        write_hsc(tmp_path / "hsc" / f"stamp-{band}.fits", galaxy(seed=k), band, **turned)
    ingest_images("hsc", [str(tmp_path / "hsc")], db)
    angle, parity = next(iter(stored(db).values()))
    assert angle is not None
    assert near(angle, 75.0)
    assert parity == -1

    hst = tmp_path / "hst"
    m = cd_cards(284.0, 1)
    matrix = 3600 * np.array([[m["CD1_1"], m["CD1_2"]], [m["CD2_1"], m["CD2_2"]]])
    for name, given in (("1", matrix), ("2", 0 * matrix)):
        path = hst / f"image_SDSSJ011{name}+0{name}00_F814W.h5"
        write_lenstronomy(path, galaxy(60, 60, seed=7))
        with h5py.File(path, "a") as file:
            file["transform_pix2angle"][...] = given
    ingest_images("hst", [str(hst)], db)
    kept = stored(db)
    assert kept["SDSSJ0111+0100"] == (pytest.approx(284.0, abs=0.01), 1)
    assert kept["SDSSJ0112+0200"] == (None, 0)

    write_challenge(tmp_path / "challenge" / "lens" / "imageEUC_VIS-100002.fits", galaxy(101, 101))
    ingest_images("bologna", [str(tmp_path / "challenge")], db)
    assert stored(db)["space-100002"] == (None, 0)  # at ra 0, dec 0 it lies nowhere on the sky


def test_cutouts_of_a_tile_lie_as_the_tile_does(db: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    tile = rng.normal(0, 0.01, (1600, 1600)).astype(np.float32)
    y, x = np.mgrid[:1600, :1600]
    for at_x, at_y in ((500, 600), (1100, 900)):
        tile += 3.0 * np.exp(-np.hypot(x - at_x, y - at_y) / 8.0)
    head = header(**cd_cards(140.0, 1, 0.03), CRPIX1=800.0, CRPIX2=800.0, CRVAL2=2.0, FILTER="F814W")
    del head["NAXIS"], head["NAXIS1"], head["NAXIS2"]
    fits.PrimaryHDU(tile, head).writeto(tmp_path / "acs_I_030mas_077_sci.fits")
    ingest_cosmos([str(tmp_path)], db)
    found = stored(db)
    assert len(found) == 2
    for angle, parity in found.values():
        assert angle is not None
        assert near(angle, 140.0, 0.02)
        assert parity == 1


def test_bands_that_lie_differently_are_not_one_cutout(db: str, tmp_path: Path) -> None:
    for band, angle in (("g", 20.0), ("r", 20.0), ("i", 24.0)):
        write_hsc(tmp_path / f"stamp-{band}.fits", galaxy(), band, **cd_cards(angle, 1, 0.168))
    ingest_images("hsc", [str(tmp_path)], db)
    assert rows(db, "select bands from cutout") == [{"bands": "g,r"}]
    (told,) = rows(db, "select reason from reject where reason_code = 'band_mismatch'")
    assert "y axis at 24.0 deg east of north, the others at 20.0" in told["reason"]


def test_rows_of_before_learn_it_when_their_file_is_ingested_again(db: str, tmp_path: Path) -> None:
    for band in "gri":
        write_hsc(tmp_path / f"stamp-{band}.fits", galaxy(), band, **cd_cards(20.0, 1, 0.168))
    ingest_images("hsc", [str(tmp_path)], db)
    before = rows(db, "select cutout_id, content_hash from cutout")
    assert ingest_images("hsc", [str(tmp_path)], db).nothing_new
    with connect_engine(db).begin() as conn:
        conn.execute(sa.text("update cutout set orientat_deg = null, sky_parity = null"))
    again = ingest_images("hsc", [str(tmp_path)], db)
    assert not again.nothing_new
    ((angle, parity),) = stored(db).values()
    assert angle is not None
    assert near(angle, 20.0)
    assert parity == 1
    assert rows(db, "select cutout_id, content_hash from cutout") == before
    assert ingest_images("hsc", [str(tmp_path)], db).nothing_new


# ------------------------------------------------------------------------------------ real frames


def test_real_hst_frames_against_their_own_card_and_astropy(db: str, data_dir: Path) -> None:
    """SLACS frames of HST: ORIENTAT is the pipeline's own figure."""
    paths = sorted((data_dir / "imaging" / "phdenzel__slacs-match" / "99x99").glob("*.fits"))
    if not paths:
        pytest.skip(f"no SLACS cutouts in {data_dir}")
    ingest_images("hst", [str(p) for p in paths], db)
    found = stored(db)
    turned = 0
    for path in paths:
        with fits.open(path) as hdus:
            head = next(h.header for h in hdus if h.header.get("NAXIS") == 2)
        angle, parity = found[path.stem]
        assert angle is not None
        assert near(angle, float(head["ORIENTAT"]), 0.05)
        shape = head["NAXIS1"], head["NAXIS2"]
        expected, hand = by_astropy(head, (shape[0] - 1) / 2, (shape[1] - 1) / 2)
        assert near(angle, expected, 1e-3)
        assert parity == hand == 1
        turned += not near(angle, 0.0, 1.0)
    assert turned >= 3


def test_real_galaxies_have_one_position_angle_in_all_their_frames(data_dir: Path) -> None:
    """HST took each at several rolls: the light points elsewhere in the pixels, and one way on the sky."""
    folder = data_dir / "imaging" / "Project-Dinos__dinos-i"
    if not folder.is_dir():
        pytest.skip(f"no HST cutouts of Dinos-I in {data_dir}")
    apart: dict[str, list[float]] = {"pixels": [], "sky": []}
    for galaxy_folder in sorted(p for p in folder.iterdir() if p.is_dir()):
        seen = []
        for path in sorted(galaxy_folder.glob("*image_*F[68]*W.h5")):
            with h5py.File(path) as file:
                image = np.asarray(file["image_data"][()], dtype=np.float32)[None, None]
                matrix = np.asarray(file["transform_pix2angle"][()])
            lies = orientation_of(*matrix.ravel().tolist())
            size = 0.8 / math.sqrt(abs(np.linalg.det(matrix)))
            phi = math.degrees(float(light_angle(image, np.array([size]))[0]))
            seen.append((lies, phi))
        for (a, phi_a), (b, phi_b) in itertools.pairwise(seen):
            turned = (a.orientat_deg - b.orientat_deg) % 180.0
            if 20.0 < turned < 160.0:
                for kind, d in (
                    ("pixels", phi_a - phi_b),
                    ("sky", sky_angle(phi_a, *a) - sky_angle(phi_b, *b)),
                ):
                    apart[kind].append(abs((d + 90.0) % 180.0 - 90.0))
    assert len(apart["sky"]) >= 8
    assert np.median(apart["sky"]) < 12.0
    assert np.median(apart["pixels"]) > 25.0


def test_light_angle_of_a_made_galaxy() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :70]
    for phi in (10.0, 80.0, 135.0):
        a = math.radians(phi)
        dx, dy = x - 35.2, y - 31.1
        u, v = dx * math.cos(a) + dy * math.sin(a), -dx * math.sin(a) + dy * math.cos(a)
        image = 3.0 * np.exp(-np.hypot(u / 6.0, v / 3.5)) + rng.normal(0, 0.05, (1, 3, 64, 70))
        image += 4.0 * np.exp(-np.hypot(x - 60, y - 52) / 2.0)  # a neighbour
        image[0, :, 30, 40] = np.nan
        found = math.degrees(float(light_angle(image.astype(np.float32), np.array([8.0]))[0]))
        assert abs((found - phi + 90.0) % 180.0 - 90.0) < 5.0
    blank = np.zeros((1, 1, 32, 32), dtype=np.float32)
    assert np.isnan(light_angle(blank, np.array([np.nan]))).all()


def test_position_angles_of_astropy_count_the_same_way() -> None:
    """North to east, as here."""
    at = SkyCoord(10.0, 60.0, unit="deg")
    assert float(at.position_angle(SkyCoord(10.001, 60.0, unit="deg")).deg) == pytest.approx(90.0, abs=0.01)
