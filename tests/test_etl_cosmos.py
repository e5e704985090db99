"""ACS tiles: what is found where, how bright, and what is cut out; on drawn and on real galaxies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from astropy.coordinates import SkyCoord
from astropy.io import fits
from numpy.typing import NDArray

from etl.acs_tile import CUTOUT_SIDE, corner, cut, find_sources, j_name, position_angle, source_sky
from etl.cosmos import ingest_cosmos, read_tile
from etl.image_groups import ImageOptions
from etl.image_header import sky_of
from schema.check import check_database
from schema.engine import connect_engine, shard_root
from schema.image_shards import ImageShard
from schema.normalise import block_mean, default_template, histogram_match

SIDE = 1600
SKY, NOISE = 0.01, 0.002
SOURCES = [
    # x, y, half-light radius [pixel], axis ratio, angle [rad], flux
    (400.3, 500.7, 12.0, 0.6, 0.5, 200.0),
    (1000.0, 900.0, 18.0, 0.9, 2.0, 400.0),
    (700.5, 1300.2, 9.0, 0.5, 1.2, 80.0),
    (40.0, 800.0, 10.0, 0.8, 0.0, 100.0),  # near the edge: part of its cutout is missing
    (15.0, 15.0, 10.0, 0.8, 0.0, 100.0),  # in the corner: most of it is
    (1300.0, 300.0, 2.0, 1.0, 0.0, 0.6),  # too small
]


def header(side: int = SIDE) -> fits.Header:
    scale = 0.03 / 3600
    return fits.Header(
        {
            "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.1, "CRVAL2": 2.2,
            "CRPIX1": side / 2, "CRPIX2": side / 2,
            "CD1_1": -scale, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale,
            "BUNIT": "ELECTRONS/S", "PHOTFLAM": 7.07e-20, "PHOTPLAM": 8060.0, "EXPTIME": 2028.0,
            "INSTRUME": "ACS", "FILTER1": "CLEAR1L", "FILTER2": "F814W",
        }
    )  # fmt: skip


ZERO = -2.5 * np.log10(7.07e-20) - 5 * np.log10(8060.0) - 2.408


def tile(sources: list[tuple[float, ...]] = SOURCES, side: int = SIDE) -> NDArray[np.float32]:
    """Exponential discs on a noisy sky."""
    pixels = np.random.default_rng(1).normal(SKY, NOISE, (side, side))
    y, x = np.mgrid[:side, :side]
    for x0, y0, r_half, q, angle, flux in sources:
        dx, dy = x - x0, y - y0
        u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        r = np.sqrt(q * u**2 + v**2 / q) / r_half
        pixels += flux * 1.678**2 / (2 * np.pi * r_half**2) * np.exp(-1.678 * r)
    return pixels.astype(np.float32)


def rows(db: str, sql: str) -> list[dict[str, Any]]:
    with connect_engine(db, read_only=True).connect() as conn:
        return [dict(r) for r in conn.execute(sa.text(sql)).mappings()]


PHOT = (
    "select t.*, p.*, c.hdu, c.frac_good, c.zeropoint, c.pixscale_arcsec, c.shard_row, s.name from target t "
    "join phot_obj p on p.target_id = t.target_id join cutout c on c.target_id = t.target_id "
    "join image_shard s on s.shard_id = c.shard_id order by p.mag_f814w"
)


def test_a_tile(db: str, tmp_path: Path) -> None:
    path = tmp_path / "acs_I_030mas_077_sci.fits"
    pixels = tile()
    fits.PrimaryHDU(pixels, header()).writeto(path)
    done = ingest_cosmos([str(path)], db)
    assert (done.cutouts, done.rows, dict(done.reasons)) == (4, 4, {"edge": 1})
    found = rows(db, PHOT)
    sky = sky_of(header().get, SIDE, SIDE)
    assert sky is not None
    for row, (x, y, r_half, q, angle, flux) in zip(
        found, [SOURCES[1], SOURCES[0], SOURCES[3], SOURCES[2]], strict=True
    ):
        want = SkyCoord(*source_sky(sky, x, y), unit="deg")
        assert want.separation(SkyCoord(row["ra_deg"], row["dec_deg"], unit="deg")).arcsec < 0.015
        assert row["mag_f814w"] == pytest.approx(ZERO - 2.5 * np.log10(flux), abs=0.1)
        assert row["r_eff_arcsec"] == pytest.approx(r_half * 0.03, rel=0.1)
        assert row["axis_ratio"] == pytest.approx(q, abs=0.08)
        assert row["area_pix"] >= 200
        if q < 0.7:
            apart = abs(row["pa_deg"] - position_angle(sky, angle))
            assert min(apart, 180 - apart) < 5
        assert row["survey"] == "cosmos"
        assert row["pixscale_arcsec"] == pytest.approx(0.06)
        assert row["zeropoint"]["F814W"] == pytest.approx(ZERO - 2.5 * np.log10(4))
    assert [r["frac_good"] < 1 for r in found] == [False, False, True, False]
    first = found[0]
    shard = ImageShard(shard_root(db) / first["name"])
    assert shard.arrays == ("image", "stamp", "matched")
    image = shard.read("image", [first["shard_row"]])[0, 0]
    assert image.shape == (100, 100)
    x0, x1, y0, y1 = map(int, re.findall(r"\d+", first["hdu"])[1:])  # a FITS section, counted from 1
    assert (x1 - x0, y1 - y0) == (199, 199)
    assert (abs((x0 + x1) / 2 - 1001), abs((y0 + y1) / 2 - 901)) <= (1, 1)
    np.testing.assert_allclose(image, block_mean(pixels[y0 - 1 : y1, x0 - 1 : x1], 2), rtol=1e-5)
    matched = shard.read("matched", [first["shard_row"]])[0, 0]
    want_matched = histogram_match(image, default_template()) * 255
    assert np.abs(matched - want_matched).max() <= 0.501
    assert ingest_cosmos([str(path)], db).nothing_new
    assert all(f.ok for f in check_database(db))


def test_a_changed_tile_replaces_what_it_gave(db: str, tmp_path: Path) -> None:
    path = tmp_path / "t.fits"
    fits.PrimaryHDU(tile(SOURCES[:3]), header()).writeto(path)
    ingest_cosmos([str(path)], db)
    fits.PrimaryHDU(tile(SOURCES[1:3]), header()).writeto(path, overwrite=True)
    done = ingest_cosmos([str(path)], db)
    assert done.cutouts == 2
    assert len(rows(db, "select * from cutout")) == len(rows(db, "select * from phot_obj")) == 2
    assert all(f.ok for f in check_database(db))


def test_sources_of_overlapping_tiles_and_of_catalogues_are_one_target(db: str, tmp_path: Path) -> None:
    sky = sky_of(header().get, SIDE, SIDE)
    assert sky is not None
    ra, dec = source_sky(sky, *SOURCES[1][:2])
    (tmp_path / "z.csv").write_text(
        f"id_zcosmos,zpec,alpha,delta,mag_sel,i_photzi25\n700137,0.5,{ra},{dec},18.9,18.8\n"
    )
    fits.PrimaryHDU(tile(SOURCES[:3]), header()).writeto(tmp_path / "a.fits")
    moved = header()
    moved["CRPIX1"] = SIDE / 2 - 100  # the same sky, 100 pixels further left
    other = [(x - 100, *rest) for x, *rest in SOURCES[:3]]
    fits.PrimaryHDU(tile(other), moved).writeto(tmp_path / "b.fits")
    done = ingest_cosmos([str(tmp_path)], db)
    assert done.cutouts == 6
    found = rows(db, "select target_id, count(*) as n from cutout group by target_id")
    assert [r["n"] for r in found] == [2, 2, 2]
    row = rows(db, "select * from selectable where native_id = 'zcosmos-700137'")[0]
    assert row["bands"] == "F814W"
    assert (row["mag_f814w"], row["z_spec"]) == (18.9, 0.5)  # the catalogue's stand before the tile's
    assert row["area_pix"] > 200  # and what it lacks comes from the tile
    assert all(f.ok for f in check_database(db))


def test_gaps_and_missing_pixels(db: str, tmp_path: Path) -> None:
    pixels = tile(SOURCES[:3])
    pixels[:, 1500:] = 0.0  # drizzling leaves zeros where there is no exposure
    pixels[490:500, 380:390] = np.nan
    fits.PrimaryHDU(pixels, header()).writeto(tmp_path / "t.fits")
    done = ingest_cosmos([str(tmp_path)], db)
    assert done.cutouts == 3


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"CTYPE1": "LINEAR"}, "no_position"),
        ({"CRVAL1": 0.0, "CRVAL2": 0.0}, "no_position"),
        ({"FILTER2": "CLEAR2L", "INSTRUME": "ACS"}, "unknown_band"),
    ],
)
def test_tiles_that_cannot_be_used(db: str, tmp_path: Path, change: dict[str, Any], code: str) -> None:
    head = header()
    head.update(change)
    fits.PrimaryHDU(tile(SOURCES[:1]), head).writeto(tmp_path / "t.fits")
    done = ingest_cosmos([str(tmp_path)], db)
    assert (done.cutouts, done.rejected, dict(done.reasons)) == (0, 1, {code: 1})


def test_empty_and_cut_short_tiles(db: str, tmp_path: Path) -> None:
    fits.PrimaryHDU(tile([]), header()).writeto(tmp_path / "empty.fits")
    fits.PrimaryHDU(np.full((SIDE, SIDE), np.nan, "f4"), header()).writeto(tmp_path / "nan.fits")
    whole = (tmp_path / "empty.fits").read_bytes()
    (tmp_path / "short.fits").write_bytes(whole[: len(whole) // 2])
    done = ingest_cosmos([str(tmp_path)], db)
    assert dict(done.reasons) == {"no_sources": 1, "blank_stamp": 1, "truncated": 1}


def mag_err(folder: Path, unit: str | None, factor: float) -> tuple[float, float]:
    """Magnitude of a tile's one source and its error; its pixels are `factor` times those in electrons/s."""
    head = header()
    head["BUNIT"] = unit
    path = folder / f"tile-{factor:g}-{(unit or 'none').replace('/', '-')}.fits"
    fits.PrimaryHDU(tile(SOURCES[:1]) * np.float32(factor), head).writeto(path)
    (row,) = read_tile(str(path), None, folder / "shards", ImageOptions("cosmos")).phot
    return row["mag_f814w"], row["mag_err_f814w"]


def test_photon_noise_follows_from_the_unit(tmp_path: Path) -> None:
    mag, rate = mag_err(tmp_path, "ELECTRONS/S", 1.0)
    assert mag_err(tmp_path, "ELECTRONS", 2028.0) == pytest.approx((mag, rate), rel=1e-3)
    janskys = 10 ** (-0.4 * (ZERO - 31.4))  # of one e/s, in nJy: electrons behind it are not known
    same, background = mag_err(tmp_path, "nJy", janskys)
    assert same == pytest.approx(mag, abs=1e-3)
    assert background < 0.9 * rate, "the noise of the sky alone"


def test_no_zero_point_gives_no_magnitudes(db: str, tmp_path: Path) -> None:
    head = header()
    del head["PHOTFLAM"]
    fits.PrimaryHDU(tile(SOURCES[:1]), head).writeto(tmp_path / "t.fits")
    done = ingest_cosmos([str(tmp_path)], db)
    assert dict(done.reasons) == {"unknown_zeropoint": 1}
    (row,) = rows(db, PHOT)
    assert (row["mag_f814w"], row["zeropoint"]) == (None, {"F814W": None})
    assert row["r_eff_arcsec"] > 0


def test_blocks_find_each_source_once() -> None:
    pixels = tile()
    whole = sorted((s.x, s.y, s.flux) for s in find_sources(pixels))
    parts = sorted((s.x, s.y, s.flux) for s in find_sources(pixels, block=512, margin=256))
    assert len(parts) == len(whole) == 5
    for a, b in zip(whole, parts, strict=True):
        assert a[:2] == pytest.approx(b[:2], abs=0.2)
        assert a[2] == pytest.approx(b[2], rel=0.05)


def test_the_cuts_are_the_thesis_ones() -> None:
    faint = [(800.0, 800.0, 12.0, 1.0, 0.0, 2.0)]  # its centre stands 1.2 sigma above the sky at most
    assert list(find_sources(tile(faint))) == []
    found = [s.npix for s in find_sources(tile())]
    assert len(found) == 5, "all but the one that is too small"
    assert min(found) >= 200


def test_cutouts_and_names() -> None:
    pixels = np.arange(250 * 260, dtype=np.float32).reshape(250, 260)
    small = cut(pixels, 124.5, 130.5, 10)
    np.testing.assert_array_equal(small, pixels[126:136, 120:130])
    assert np.isnan(cut(pixels, 0.0, 0.0, 10)[:4]).all()
    assert np.isnan(cut(pixels, -100.0, 0.0, 10)).all()
    assert corner(99.5, CUTOUT_SIDE) == 0
    assert j_name(150.421791667, 2.2293389) == "J100141.23+021345.6"
    assert j_name(0.0, -0.0001) == "J000000.00-000000.3"


def test_real_galaxies_on_a_tile_are_found_where_they_were_put(
    db: str, data_dir: Path, tmp_path: Path
) -> None:
    """Real ACS cutouts of lenses, 0.05 arcsec a pixel and 198 x 198, pasted into noise of their level."""
    paths = sorted((data_dir / "imaging" / "phdenzel__slacs-match" / "198x198").glob("*.fits"))
    if not paths:
        pytest.skip(f"no SLACS cutouts in {data_dir}")
    noise = 0.01
    pixels = np.random.default_rng(2).normal(0.0, noise, (SIDE, SIDE)).astype(np.float32)
    put = []
    for k, path in enumerate(paths):
        stamp = fits.getdata(path).astype(np.float32)
        frame = np.concatenate([stamp[:4].ravel(), stamp[-4:].ravel(), stamp[:, :4].ravel()])
        y0, x0 = 150 + 520 * (k // 3), 120 + 480 * (k % 3)
        pixels[y0 : y0 + 198, x0 : x0 + 198] += stamp - np.median(frame)
        put.append((x0 + 98.5, y0 + 98.5))
    fits.PrimaryHDU(pixels, header()).writeto(tmp_path / "t.fits")
    done = ingest_cosmos([str(tmp_path)], db)
    assert done.cutouts >= len(paths)
    sky = sky_of(header().get, SIDE, SIDE)
    assert sky is not None
    found = rows(db, PHOT)
    at = SkyCoord([r["ra_deg"] for r in found], [r["dec_deg"] for r in found], unit="deg")
    for x, y in put:
        near = SkyCoord(*source_sky(sky, x, y), unit="deg").separation(at).arcsec
        k = int(near.argmin())
        assert near[k] < 0.3  # ten pixels: the cutouts are centred on their galaxy to that
        assert 16 < found[k]["mag_f814w"] < 20.5
