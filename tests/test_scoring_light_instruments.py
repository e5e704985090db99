"""Magnitudes, noise and the instruments' figures: right numbers out, and wrong numbers refused."""

from __future__ import annotations

import pytest
import torch

from schema.errors import UserError
from scoring.light.instruments import HSC_WIDE, INSTRUMENTS, get_instrument
from scoring.light.noise import add_noise
from scoring.light.photometry import counts_to_mag, mag_to_counts


def test_a_source_at_the_zero_point_gives_one_count_a_second() -> None:
    assert mag_to_counts(torch.tensor([27.0]), 27.0).item() == pytest.approx(1.0)
    assert mag_to_counts(torch.tensor([27.0]), 27.0, 600.0).item() == pytest.approx(600.0)
    assert mag_to_counts(torch.tensor([torch.inf]), 27.0).item() == 0.0


def test_magnitudes_come_back() -> None:
    mag = torch.tensor([15.0, 22.5, 27.3], dtype=torch.float64)
    assert torch.allclose(counts_to_mag(mag_to_counts(mag, 25.9, 100.0), 25.9, 100.0), mag)
    assert bool(torch.isnan(counts_to_mag(torch.tensor([0.0, -3.0]), 27.0)).all())


@pytest.mark.parametrize("value", [1234.5, -99.0, 0.03, float("nan"), -float("inf")])
def test_a_flux_or_a_sentinel_is_no_magnitude(value: float) -> None:
    with pytest.raises(UserError, match=r"not an AB magnitude between 5 and 40"):
        mag_to_counts(torch.tensor([22.0, value]), 27.0)


def test_unknown_zero_points_are_refused() -> None:
    with pytest.raises(UserError, match="unknown zero point"):
        mag_to_counts(torch.tensor([22.0]), None)
    with pytest.raises(UserError, match="not finite"):
        mag_to_counts(torch.tensor([22.0]), float("nan"))


def test_noise_has_the_variance_of_sky_and_photons() -> None:
    image = torch.full((40, 1, 64, 64), 2.0)
    noisy = add_noise(image, torch.tensor([50.0]), torch.tensor([0.1]), torch.Generator().manual_seed(1))
    assert noisy.mean().item() == pytest.approx(2.0, abs=3e-3)
    assert noisy.var().item() == pytest.approx(0.1**2 + 2.0 / 50.0, rel=0.02)


def test_noise_repeats_with_its_seed() -> None:
    image = torch.rand(2, 3, 8, 8)
    gain, sigma = torch.tensor(HSC_WIDE.gain), HSC_WIDE.background_sigma()
    a, b, c = (add_noise(image, gain, sigma, torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_noise_wants_positive_gain() -> None:
    with pytest.raises(UserError, match="gain"):
        add_noise(torch.zeros(1, 1, 4, 4), torch.tensor([0.0]), torch.tensor([1.0]), torch.Generator())


@pytest.mark.parametrize("name", sorted(INSTRUMENTS))
def test_a_star_at_the_depth_has_five_sigma(name: str) -> None:
    instrument = get_instrument(name)
    for k, psf in enumerate(instrument.psf()):
        flux = mag_to_counts(
            torch.tensor([instrument.depth_5sigma[k]], dtype=torch.float64), instrument.zero_point[k]
        )
        sigma = instrument.background_sigma()[k]
        snr = flux * psf.square().sum().sqrt() / sigma  # of the optimal fit of a known PSF
        assert snr.item() == pytest.approx(5.0, rel=1e-6)


@pytest.mark.parametrize("name", sorted(INSTRUMENTS))
def test_psfs_have_the_stated_width(name: str) -> None:
    instrument = get_instrument(name)
    for psf, fwhm in zip(instrument.psf(), instrument.psf_fwhm_arcsec, strict=True):
        assert psf.sum().item() == pytest.approx(1.0)
        row = psf[len(psf) // 2]
        near = int(fwhm / 2 / instrument.pixel_scale_arcsec)
        a, b = row[len(row) // 2 + near], row[len(row) // 2 + near + 1]
        half = row.max() / 2
        assert b <= half <= a


def test_unknown_instruments_are_named() -> None:
    with pytest.raises(UserError, match="known are hsc"):
        get_instrument("kids")
