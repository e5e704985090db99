"""The noise model measures again what it draws, and says so when it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from schema.errors import DataError
from schema.grid import WINDOW_NPIX, window_wave
from scoring.noise import load_noise, measure_noise, sky_line_contrast


def simulated(n: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    noise, generator = load_noise(), torch.Generator().manual_seed(1)
    light = torch.rand(n, 1, generator=generator).expand(-1, WINDOW_NPIX) * 1.5
    sigma = noise.sigma(light, generator)
    flux = light + noise.chi(n, generator) * sigma
    sky = np.tile(noise.sky, (n, 1))
    return flux.numpy(), (1 / sigma**2).numpy(), light.numpy().copy(), sky


def test_measuring_what_was_drawn_gives_the_model_back() -> None:
    shipped, again = load_noise(), measure_noise(*simulated())
    assert np.allclose(again.log_sigma, shipped.log_sigma, atol=0.12)
    assert np.allclose(again.kernel, shipped.kernel, atol=0.03)
    assert float(again.ivar_scale) == pytest.approx(float(shipped.ivar_scale), rel=0.4)
    assert float(again.tail_fraction) == pytest.approx(float(shipped.tail_fraction), abs=0.02)


def test_the_shipped_model_is_that_of_boss() -> None:
    noise, wave = load_noise(), window_wave()
    sigma = np.exp(noise.log_sigma)
    assert 0.4 < np.median(sigma[np.abs(wave - 3900) < 30]) < 1.1
    assert 0.2 < np.median(sigma[np.abs(wave - 4900) < 30]) < 0.5
    lines = wave[np.argsort(-sky_line_contrast(noise))[:8]]
    assert min(abs(lines - 4359.6)) < 1.5  # Hg 4358 in vacuum
    assert min(abs(lines - 4047.7)) < 1.5


def test_noise_has_unit_variance_and_the_measured_correlation() -> None:
    noise = load_noise()
    chi = noise.chi(3000, torch.Generator().manual_seed(2)).numpy()
    assert chi.std() == pytest.approx(1.0, abs=0.02)
    kernel = noise.kernel.astype(float)
    for lag in (1, 2, 3):
        expected = np.sum(kernel[lag:] * kernel[:-lag])
        assert np.mean(chi[:, lag:] * chi[:, :-lag]) == pytest.approx(expected, abs=0.01)


def test_light_adds_photon_noise() -> None:
    noise = load_noise()
    dark = noise.sigma(torch.zeros(500, WINDOW_NPIX), torch.Generator().manual_seed(3))
    lit = noise.sigma(torch.full((500, WINDOW_NPIX), 10.0), torch.Generator().manual_seed(3))
    assert torch.allclose(lit**2 - dark**2, torch.full_like(dark, 10 * float(noise.poisson)), rtol=1e-2)


def test_too_few_spectra_and_a_damaged_file_are_data_errors(tmp_path: Path) -> None:
    flux, ivar, model, sky = simulated(5)
    with pytest.raises(DataError, match="at least 8 complete spectra"):
        measure_noise(flux, ivar, model, sky)
    broken = tmp_path / "noise.npz"
    broken.write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="lensmine noise"):
        load_noise(broken)


def test_a_model_survives_the_file(tmp_path: Path) -> None:
    load_noise().save(tmp_path / "copy.npz")
    again = load_noise(tmp_path / "copy.npz")
    assert np.array_equal(again.components, load_noise().components)
