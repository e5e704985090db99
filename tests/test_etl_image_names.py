"""What names and headers of image files say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from etl.image_header import instrument_of, is_line_map, sky_of, zeropoint_of
from etl.image_names import MASK, NOISE, PSF, SCIENCE, canonical_band, j_position, parse_name
from etl.image_psf import fwhm_pixels


@pytest.mark.parametrize(
    ("path", "role", "band", "name"),
    [
        ("/d/SDSSJ0920+0034/stamp-g.fits", SCIENCE, "g", "SDSSJ0920+0034"),
        ("/d/SDSSJ0920+0034/v2__stamp-y.fits", SCIENCE, "y", "SDSSJ0920+0034"),
        ("/d/2-cutout-HSC-I2-9813-pdr2_wide.fits", SCIENCE, "i", "2_9813_pdr2_wide"),
        ("/d/42063891789801134-HSC-R.fits", SCIENCE, "r", "42063891789801134"),
        ("/d/x/SL2SJ021411-040502_u_sci.fits", SCIENCE, "u", "SL2SJ021411-040502"),
        ("/d/x/SL2SJ021411-040502_u_rms.fits", NOISE, "u", "SL2SJ021411-040502"),
        ("/d/x/SL2SJ021411-040502_mask.fits", MASK, None, "SL2SJ021411-040502"),
        ("/d/image_SDSSJ0029-0055_F814W.h5", SCIENCE, "F814W", "SDSSJ0029-0055"),
        ("/d/SL2SJ0223-0651/image_SL2SJ0223-0651_F600LP.h5", SCIENCE, "F600LP", "SL2SJ0223-0651"),
        ("/d/psf_F140W.h5", PSF, "F140W", "d"),
        ("/d/DES_000000_44.440647_-28.792948.fits", SCIENCE, None, "DES_000000_44.440647_-28.792948"),
        ("/d/EPFL_candID0029813_r.fits", SCIENCE, "r", "EPFL_candID0029813"),
        ("/d/hsc_ra=150.24071_dec=2.06514.fits", SCIENCE, None, "hsc_ra=150.24071_dec=2.06514"),
        ("/d/1.0_150.416558_1.998697_masknoise.fits", SCIENCE, None, "1.0_150.416558_1.998697"),
    ],
)  # fmt: skip
def test_names(path: str, role: str, band: str | None, name: str) -> None:
    found = parse_name(path)
    assert (found.role, found.band) == (role, band)
    if role == SCIENCE:
        assert found.object_name == name


def test_bands_of_one_object_share_a_group_and_filters_of_hst_do_not() -> None:
    groups = {parse_name(f"/d/X/stamp-{b}.fits").group for b in "grizy"}
    assert len(groups) == 1
    assert parse_name("/d/X/v1__stamp-g.fits").group not in groups
    assert parse_name("/d/Y/stamp-g.fits").group not in groups
    assert len({parse_name(f"/d/image_SDSSJ0029-0055_{f}.h5").group for f in ("F606W", "F814W")}) == 2
    assert len({parse_name(f"/d/lens/imageSDSS_{b}-100002.fits").group for b in "UGRI"}) == 1


def test_the_challenge_is_told_by_its_folder() -> None:
    lens = parse_name("/d/ground_based/lens/imageSDSS_G-100002.fits")
    assert (lens.is_challenge, lens.is_lens, lens.object_name, lens.band) == (
        True,
        True,
        "ground-100002",
        "g",
    )
    other = parse_name("/d/space_based/nolens/imageEUC_VIS-100012.fits")
    assert (other.is_lens, other.object_name, other.band) == (False, "space-100012", "VIS")
    assert parse_name("/d/test/imageEUC_VIS-100012.fits").is_lens is None


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("g.MP9401", "g"), ("R.MP9602", "r"), ("i DECam SDSS c0003 7835.0 1470.0", "i"), ("HSC-Y", "y"),
        ("HSC-R2", "r"), ("f814w", "F814W"), ("ACS WFC1 F814W MJD#53990.6704", "F814W"), ("VIS", "VIS"),
        ("CLEAR1L", None), ("", None), (None, None), ("NB0816", "NB0816"),
    ],
)  # fmt: skip
def test_bands(text: str | None, band: str | None) -> None:
    assert canonical_band(text) == band


@pytest.mark.parametrize(
    "name", ["SDSSJ102022.82+112231.1", "SDSSJ102022+112231", "SDSSJ1020+1122", "J1020.3+1122.5"]
)
def test_j_names_hold_the_position_they_were_made_from(name: str) -> None:
    true = SkyCoord("10h20m22.829s", "+11d22m31.18s")
    found = j_position(name)
    assert found is not None
    assert abs(found.ra_deg - true.ra.deg) * 3600 <= found.half_ra_arcsec * 1.001
    assert abs(found.dec_deg - true.dec.deg) * 3600 <= found.half_dec_arcsec * 1.001


def test_j_names_south_and_nonsense() -> None:
    south = j_position("DESIJ0201-2739")
    assert south is not None
    assert -27 - 40 / 60 <= south.dec_deg <= -27 - 39 / 60
    assert j_position("J2561+0000") is None
    assert j_position("J1060+0000") is None
    assert j_position("candID0029813") is None


@pytest.mark.parametrize("kind", ["cd", "pc", "crota", "cdelt"])
def test_the_middle_of_an_image_is_where_astropy_puts_it(kind: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        scale, angle = rng.uniform(0.03, 0.4) / 3600, rng.uniform(-3, 3)
        cos, sin = math.cos(angle), math.sin(angle)
        head = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg"})
        head["CRVAL1"], head["CRVAL2"] = rng.uniform(0, 360), rng.uniform(-85, 85)
        head["CRPIX1"], head["CRPIX2"] = rng.uniform(-5000, 5000, 2)
        if kind == "cd":
            for key, value in zip(("CD1_1", "CD1_2", "CD2_1", "CD2_2"), (-cos, sin, sin, cos), strict=True):
                head[key] = value * scale
        else:
            head["CDELT1"], head["CDELT2"] = -scale, scale
            if kind == "pc":
                for key, v in zip(("PC1_1", "PC1_2", "PC2_1", "PC2_2"), (cos, -sin, sin, cos), strict=True):
                    head[key] = v
            if kind == "crota":
                head["CROTA2"] = math.degrees(angle)
        ny, nx = 101, 64
        sky = sky_of(head.get, ny, nx)
        assert sky is not None
        ra, dec = WCS(head).wcs_pix2world([[(nx - 1) / 2, (ny - 1) / 2]], 0)[0]
        assert sky.ra_deg == pytest.approx(ra, abs=1e-9)
        assert sky.dec_deg == pytest.approx(dec, abs=1e-9)
        assert sky.pixscale_arcsec == pytest.approx(scale * 3600)


def test_no_usable_coordinates() -> None:
    assert sky_of({}.get, 5, 5) is None
    flat = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 1.0, "CRVAL2": 1.0, "CRPIX1": 1.0,
            "CRPIX2": 1.0, "CD1_1": 0.0, "CD2_2": 0.0}  # fmt: skip
    assert sky_of(flat.get, 5, 5) is None
    assert sky_of({**flat, "CD1_1": float("nan"), "CD2_2": 1e-4}.get, 5, 5) is None


ACS = {"PHOTFLAM": 7.0834177e-20, "PHOTPLAM": 8044.8877}


@pytest.mark.parametrize(
    ("cards", "zero"),
    [
        ({"FLUXMAG0": 63095734448.0194}, 27.0),
        ({"BUNIT": "1.58479740e-02 nanomaggy"}, 27.0),
        ({"BUNIT": "nanomaggy"}, 22.5),
        ({"BUNIT": "uJy"}, 23.9),
        ({"MAGZERO": 30.0}, 30.0),
        ({**ACS, "BUNIT": "ELECTRONS/S"}, 25.93879),
        ({**ACS, "BUNIT": "ELECTRONS", "EXPTIME": 1000.0}, 33.43879),
        ({**ACS, "BUNIT": "ELECTRONS", "EXPTIME": 4056.0, "D001OUUN": "cps"}, 25.93879),
        ({**ACS, "BUNIT": "ELECTRONS"}, None),
        ({"MAGZERO": 0.0}, None),
        ({"FLUXMAG0": 0.0}, None),
        ({}, None),
    ],
)
def test_zero_points(cards: dict[str, object], zero: float | None) -> None:
    found = zeropoint_of(cards.get)
    assert found == (None if zero is None else pytest.approx(zero, abs=1e-4))


def test_instruments_and_line_maps() -> None:
    assert instrument_of({"INSTRUME": "ACS"}.get) == "acs"
    assert instrument_of({"FILTER": "i DECam SDSS c0003"}.get) == "decam"
    assert instrument_of({"FILTER": "R.MP9602"}.get) == "megacam"
    assert instrument_of({"USER": "hsc"}.get) == "hsc"
    assert instrument_of({}.get) is None
    assert is_line_map("1e-15 erg / (arcsec2 cm2 s)")
    assert not is_line_map("erg/cm2/s/Angstrom")
    assert not is_line_map("ELECTRONS/S")


@pytest.mark.parametrize("sigma", [0.85, 1.5, 3.0])
def test_width_of_a_gaussian(sigma: float) -> None:
    y, x = np.mgrid[:41, :41] - 20.0
    psf = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    assert fwhm_pixels(psf) == pytest.approx(2.3548 * sigma, rel=0.04)
    assert fwhm_pixels(np.zeros((9, 9))) is None
    assert fwhm_pixels(np.full((9, 9), np.nan)) is None
