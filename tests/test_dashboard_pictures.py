"""Pictures: what they show, that they are made once, and that nobody asks for others'."""

from __future__ import annotations

import io
import os
import time
import xml.etree.ElementTree as ET
from dataclasses import asdict, replace

import numpy as np
import pytest
from dashboard_data import write_search
from PIL import Image, ImageFont

from dashboard import pictures
from dashboard.objects import position_name
from dashboard.pages.look import View
from dashboard.routes import COOKIE_PURPOSE, MONTH_S, TICKET_PURPOSE, TICKET_S, name_of, pass_for
from dashboard.settings import Settings, kept_secret
from dashboard.signing import sign, unsign
from dashboard.spectra import SpectrumStyle, draw_spectrum, draw_thumb, smoothed
from dashboard.stamps import MISSING, SCALINGS, StampStyle, draw_stamp, scale, without_lens
from dashboard.svg import nice_ticks
from schema.engine import shard_root
from schema.errors import DataError, UserError
from schema.grid import wave_angstrom

FIRST, NPIX = 35600, 4200
STAMP = {"kind": "stamp", "shard": "test-images", "row": 0, "hash": "x", "bands": ["i", "r", "g"]}


@pytest.fixture
def settings(duckdb_template, tmp_path):
    import shutil

    db = str(tmp_path / "lensmine.duckdb")
    shutil.copy(duckdb_template, db)
    write_search(db)
    return Settings(db, picture_dir=tmp_path / "pictures", secret=b"s" * 32)


def pixels_of(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def spectrum():
    rng = np.random.default_rng(0)
    flux = 1 + rng.normal(0, 0.3, NPIX)
    return {"flux": flux, "ivar": np.full(NPIX, 1 / 0.09), "model": np.ones(NPIX), "sky": np.full(NPIX, 5.0)}


ABOUT = {
    "z_lens": 0.45, "hit_wave": 4300.0, "wave": 4300.5, "sigma": 3.0, "skewness": 2.0, "skewness_err": 0.5,
    "line_flux": 30.0, "line_flux_err": 2.0, "constant": 1.0, "z_oii": 0.153,
}  # fmt: skip


def test_a_picture_is_made_once_and_by_recipe(settings):
    text = pictures.address(settings, STAMP | {"style": asdict(StampStyle())}).rpartition("/")[2]
    first, kind = pictures.picture(settings, text)
    assert kind == "image/png"
    (kept,) = settings.picture_dir.glob("??/*.png")
    kept.write_bytes(b"kept")
    assert pictures.picture(settings, text)[0] == b"kept"
    other = pictures.address(settings, STAMP | {"hash": "y", "style": asdict(StampStyle())}).rpartition("/")[
        2
    ]
    assert pictures.picture(settings, other)[0] == first  # other pixels by name: another file, drawn anew


def test_only_signed_recipes_are_drawn(settings):
    text = pictures.address(settings, STAMP | {"style": asdict(StampStyle())}).rpartition("/")[2]
    head, _, tail = text.partition(".")
    for forged in (head + "A." + tail, f"{head}.{tail[:-2]}AA", "", ".", "x", "../../etc/passwd"):
        with pytest.raises(UserError, match="not made by this dashboard"):
            pictures.picture(settings, forged)
    with pytest.raises(UserError):
        unsign(settings.secret, "reviewer", sign(settings.secret, "ticket", {"name": "Ada"}))


def test_a_sign_in_ends_and_is_good_for_one_database(settings, monkeypatch):
    """A ticket found in a log signs nobody in, nor does the cookie of another database of the same server."""
    ticket, cookie = (pass_for(settings, p, "Ada") for p in (TICKET_PURPOSE, COOKIE_PURPOSE))
    assert name_of(settings, TICKET_PURPOSE, ticket) == name_of(settings, COOKIE_PURPOSE, cookie) == "Ada"
    other = replace(settings, db="postgresql://reviewer@host/other")
    assert other.cookie != settings.cookie
    with pytest.raises(UserError, match="another database"):
        name_of(other, COOKIE_PURPOSE, cookie)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + TICKET_S + 10)
    with pytest.raises(UserError, match="expired"):
        name_of(settings, TICKET_PURPOSE, ticket)
    assert name_of(settings, COOKIE_PURPOSE, cookie) == "Ada"
    monkeypatch.setattr(time, "time", lambda: now + MONTH_S + 10)
    with pytest.raises(UserError, match="expired"):
        name_of(settings, COOKIE_PURPOSE, cookie)


def test_a_shard_without_its_pixels_is_missing(settings):
    folder = shard_root(settings.db) / "test-images"
    (folder / "image.npy").unlink()
    assert "test-images is missing" in (pictures.missing_shard(settings, "test-images") or "")


@pytest.mark.parametrize("scaling", [s for s in SCALINGS if s != "linear"])
def test_scalings_lift_the_faint_parts_of_a_residual_too(scaling):
    residual = np.random.default_rng(0).normal(0, 1, (1, 32, 32))
    plain, lifted = (scale(residual, StampStyle(scaling=s, residual=True)) for s in ("linear", scaling))
    np.testing.assert_array_equal(np.sign(lifted - 0.5), np.sign(plain - 0.5))
    assert np.abs(lifted - 0.5).mean() > 1.3 * np.abs(plain - 0.5).mean()


def test_a_missing_shard_is_named(settings):
    text = pictures.address(settings, STAMP | {"shard": "gone", "style": asdict(StampStyle())}).rpartition(
        "/"
    )[2]
    with pytest.raises(DataError, match="ingest its files again"):
        pictures.picture(settings, text)
    assert "set LENSMINE_SHARDS" in (pictures.missing_shard(settings, "gone") or "")
    assert pictures.missing_shard(settings, "test-images") is None


def test_the_folder_of_pictures_stays_bounded(tmp_path):
    for k in range(20):
        path = tmp_path / f"{k:02d}" / f"{k}.png"
        path.parent.mkdir()
        path.write_bytes(b"x" * 1000)
        os.utime(path, (k, k))
    assert pictures.sweep(tmp_path, 5500) == 15
    assert sorted(int(p.stem) for p in tmp_path.glob("??/*")) == [15, 16, 17, 18, 19]


def test_the_secret_is_kept_and_closed_to_others(tmp_path):
    made = kept_secret(tmp_path / "p")
    assert kept_secret(tmp_path / "p") == made
    assert (tmp_path / "p" / "secret").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("about", [ABOUT, {"z_lens": None}, {"z_lens": 0.3, "hit_wave": 9000.0}])
@pytest.mark.parametrize("style", [SpectrumStyle(), SpectrumStyle(1, 150.0, True, False, True)])
def test_spectra_are_well_formed_pictures(about, style):
    root = ET.fromstring(draw_spectrum(spectrum(), FIRST, about, style))
    assert root.attrib["role"] == "img"
    assert root[0].text.startswith("Spectrum")
    assert "nan" not in ET.tostring(root, encoding="unicode").lower().replace("nanometre", "")
    ET.fromstring(draw_thumb(spectrum(), FIRST, about))


def test_a_spectrum_without_a_good_pixel_is_drawn_empty():
    dead = spectrum() | {"ivar": np.zeros(NPIX)}
    ET.fromstring(draw_spectrum(dead, FIRST, ABOUT, SpectrumStyle(oii=True)))


def test_marks_stand_at_their_wavelengths():
    text = draw_spectrum(spectrum(), FIRST, ABOUT, SpectrumStyle())
    wave = wave_angstrom(FIRST + np.arange(NPIX))
    x = 52 + (3934.8 * 1.45 - wave[0]) / (wave[-1] - wave[0]) * (1100 - 62)
    assert f"M{x:.1f} " in text
    assert "[OII]" in text
    assert "Lyα" in text


@pytest.mark.parametrize("style", [SpectrumStyle(), SpectrumStyle(zoom=150.0), SpectrumStyle(oii=True)])
@pytest.mark.parametrize("z_lens", [0.1, 0.3, 0.4617, 0.7])
@pytest.mark.parametrize("hit", [3850.0, 4466.9, 4990.0])
def test_labels_of_lines_keep_off_each_other_and_inside_the_frame(style, z_lens, hit):
    about = ABOUT | {"z_lens": z_lens, "hit_wave": hit, "wave": hit}
    root = ET.fromstring(draw_spectrum(spectrum(), FIRST, about, style))
    space = "{http://www.w3.org/2000/svg}"
    for panel in root.iter(f"{space}g"):
        boxes = [box_of(text) for text in panel.iter(f"{space}text")]
        frame = next(
            r for r in root.iter(f"{space}clipPath") if f"#{r.attrib['id']})" in panel.attrib["clip-path"]
        )
        left, width = (float(frame[0].attrib[k]) for k in ("x", "width"))
        assert all(left <= x0 and x1 <= left + width for x0, x1, _, _ in boxes)
        for k, (a0, a1, a2, a3) in enumerate(boxes):
            assert all(a1 <= b0 or b1 <= a0 or a3 <= b2 or b3 <= a2 for b0, b1, b2, b3 in boxes[:k])


def box_of(text: ET.Element) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of a label, as wide as its letters are in a common font [px]."""
    size, at, base = (float(text.attrib[k]) for k in ("font-size", "x", "y"))
    wide = ImageFont.load_default(size).getlength(text.text or "")
    left = at - wide if text.attrib.get("text-anchor") == "end" else at
    return left, left + wide, base - 0.75 * size, base


def test_the_running_mean_is_weighted_and_skips_masked_pixels():
    flux, ivar = np.array([1.0, 5.0, 3.0, 100.0, 2.0]), np.array([1.0, 3.0, 1.0, 0.0, 1.0])
    mean = smoothed(flux, ivar, 3)
    assert mean[1] == pytest.approx((1 + 15 + 3) / 5)
    assert mean[3] == pytest.approx(2.5)
    assert np.isnan(smoothed(flux, ivar, 1)[3])


def test_every_scaling_rises_and_fills_the_range():
    image = np.linspace(-1, 100, 64 * 64).reshape(1, 64, 64)
    for scaling in SCALINGS:
        shown = scale(image, StampStyle(scaling)).ravel()
        assert np.all(np.diff(shown) >= 0)
        assert shown[0] == 0
        assert shown[-1] == 1
    middle = {s: float(np.median(scale(image, StampStyle(s)))) for s in SCALINGS}
    assert middle["linear"] < middle["sqrt"] < middle["asinh"] < middle["log"]
    assert np.median(scale(image, StampStyle("linear", 2.0))) > middle["linear"]


def test_north_is_up_and_missing_pixels_have_a_colour_of_their_own():
    image = np.zeros((3, 10, 10))
    image[:, 9, 0] = 5  # the last row of FITS is the top of the sky
    image[:, 0, 5] = np.nan
    shown = pixels_of(draw_stamp(image, StampStyle(size=10)))
    assert shown[0, 0].min() > 200
    assert tuple(shown[9, 5]) == MISSING
    assert pixels_of(draw_stamp(np.full((1, 8, 8), np.nan), StampStyle(size=8))).shape == (8, 8, 3)


def test_the_residual_takes_the_galaxy_and_leaves_the_arc():
    y, x = np.mgrid[:64, :64] - 31.5
    u, v = x * 0.8 + y * 0.6, -x * 0.6 + y * 0.8
    galaxy = 50 * np.exp(-np.sqrt(0.7 * u**2 + v**2 / 0.7) / 4)
    arc = 3 * np.exp(-(((np.hypot(x, y) - 15) / 1.5) ** 2)) * (np.abs(np.arctan2(y, x)) < 0.6)
    noise = np.random.default_rng(0).normal(0, 0.02, galaxy.shape)
    left = without_lens(galaxy + arc + noise)
    bright = arc > 1.5
    away = (np.hypot(x, y) > 6) & (arc < 0.01)
    assert left[bright].mean() > 0.85 * arc[bright].mean()
    assert np.abs(left[away]).mean() < 0.05 * galaxy[away].mean() + 0.05


@pytest.mark.parametrize(
    ("ra", "dec", "name"),
    [
        (0.0, 0.0, "J000000.00+000000.0"),
        (359.99999, -0.00001, "J235959.99-000000.0"),
        (169.4562500, 1.6769444, "J111749.50+014036.9"),
    ],
)
def test_names_by_position_truncate(ra, dec, name):
    assert position_name(ra, dec) == name


def test_ticks_are_round_and_inside():
    assert nice_ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert nice_ticks(3800, 5000, 6) == [3800, 4000, 4200, 4400, 4600, 4800, 5000]
    assert nice_ticks(1, 1, 5) == [1]


def test_the_look_of_objects_stands_in_the_address():
    look = View(smooth=9, zoom=True, scaling="log", contrast=2.5)
    assert View.from_text(look.as_text()) == look
    assert View().as_text() == ""
    for odd in ("scaling=evil", "contrast=1e9", "smooth=x,zoom", "=,=,", "residual=2"):
        assert View.from_text(odd) in (View(), View(residual=False))
