"""The line localiser against a plain per-spectrum loop, and on injected lines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from schema.grid import WINDOW_FIRST, WINDOW_NPIX, pixel_index, wave_angstrom
from scoring.localise import BLOCK, LineFilter, lens_line_mask, line_snr, localise

NPIX = WINDOW_NPIX


def spectra(n: int, seed: int, gaps: float = 0.03) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    sigma = 0.2 + torch.rand(n, NPIX, generator=rng)
    slope = torch.randn(n, 1, generator=rng) * torch.linspace(-1, 1, NPIX)
    flux = 5 + slope + sigma * torch.randn(n, NPIX, generator=rng)
    ivar = sigma**-2
    ivar[torch.rand(n, NPIX, generator=rng) < gaps] = 0
    return flux, ivar


def brute_force(flux: np.ndarray, ivar: np.ndarray, at: int, settings: LineFilter) -> float:
    """S/N at one pixel by a plain weighted least-squares fit of Gaussian, constant and slope."""
    half_blocks = round(settings.half_width_px / BLOCK)
    block = at // BLOCK
    lo = max(0, (block - half_blocks) * BLOCK)
    hi = min(len(flux), (block + half_blocks + 1) * BLOCK)
    x = np.arange(lo, hi)
    gauss = np.exp(-0.5 * ((x - at) / settings.sigmas_px[0]) ** 2)
    gauss[np.abs(x - at) > round(3.2 * settings.sigmas_px[0])] = 0
    columns = [gauss, np.ones(len(x)), x - at] if settings.fit_continuum else [gauss]
    a = np.stack(columns, 1)
    w = ivar[lo:hi]
    cov = np.linalg.inv((a.T * w) @ a)
    best = cov @ (a.T @ (w * flux[lo:hi]))
    snr = best[0] / np.sqrt(cov[0, 0])
    chi2 = float((w * (flux[lo:hi] - a @ best) ** 2).sum())
    if settings.rescale_errors:
        snr /= np.sqrt(max(1.0, chi2 / ((w > 0).sum() - 3)))
    return float(snr)


@pytest.mark.parametrize("fit_continuum", [True, False])
@pytest.mark.parametrize("rescale", [True, False])
def test_snr_is_that_of_a_least_squares_fit(fit_continuum: bool, rescale: bool) -> None:
    settings = LineFilter(sigmas_px=(2.0,), fit_continuum=fit_continuum, rescale_errors=rescale)
    flux, ivar = spectra(3, 1)
    if not fit_continuum:
        flux = flux - 5
    got = line_snr(flux, ivar, settings)[:, 0]
    for row in range(3):
        for at in (0, 1, 41, 500, 731, NPIX - 2):
            if got[row, at] == 0:
                continue
            want = brute_force(flux[row].double().numpy(), ivar[row].double().numpy(), at, settings)
            assert got[row, at].item() == pytest.approx(want, rel=2e-3, abs=2e-3)


def test_snr_of_noise_has_unit_scatter() -> None:
    flux, ivar = spectra(200, 2)
    snr = line_snr(flux, ivar, LineFilter(rescale_errors=False))
    assert snr[:, 0, 60:-60].std().item() == pytest.approx(1.0, abs=0.03)
    assert snr.mean().item() == pytest.approx(0.0, abs=0.02)


def test_strong_lines_are_found_to_a_fraction_of_a_pixel() -> None:
    flux, ivar = spectra(300, 3, gaps=0.0)
    rng = torch.Generator().manual_seed(4)
    at = 60 + (NPIX - 120) * torch.rand(300, 1, generator=rng)
    flux = flux + 8 * torch.exp(-0.5 * ((torch.arange(NPIX) - at) / 2.2) ** 2)
    wave, snr = localise(flux, ivar)
    off = (torch.log10(wave) * 1e4 - WINDOW_FIRST - at[:, 0]).abs()
    assert off.median() < 0.15
    assert (off < 1.0).double().mean() > 0.98
    assert snr.min() > 5


def test_a_line_on_a_gap_or_without_pixels_scores_nothing() -> None:
    flux, ivar = spectra(2, 5, gaps=0.0)
    flux[0, 300] += 1e4
    ivar[0, 296:305] = 0
    ivar[1] = 0
    flux[1] = float("nan")
    wave, snr = localise(flux, ivar)
    assert snr[0] < 6
    assert snr[1] == 0
    assert torch.isfinite(wave).all()


def test_continuum_is_not_pulled_up_by_the_line() -> None:
    flux = torch.zeros(1, NPIX)
    flux[0] += 10 * torch.exp(-0.5 * ((torch.arange(NPIX) - 600) / 2.0) ** 2)
    ivar = torch.ones(1, NPIX)
    snr = line_snr(flux, ivar, LineFilter(sigmas_px=(2.0,), rescale_errors=False)).amax().item()
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    ideal = 10 * np.sqrt((kernel**2).sum())
    assert 0.92 * ideal < snr <= 1.001 * ideal  # only what fitting level and slope must cost


@pytest.mark.parametrize("z", [0.31, 0.4, 0.44])
def test_lens_lines_are_masked(z: float) -> None:
    flux, ivar = spectra(1, 6, gaps=0.0)
    for rest in (3346.79, 3426.85, 3728.48):
        at = int(pixel_index(np.log10(rest * (1 + z)))) - WINDOW_FIRST
        if 0 <= at < NPIX:
            flux[0, at - 2 : at + 3] += 50
    _, without = localise(flux, ivar)
    wave, snr = localise(flux, ivar, torch.tensor([z]))
    assert without.item() > 10
    assert snr.item() < 6
    mask = lens_line_mask(torch.tensor([z, float("nan")]), WINDOW_FIRST, NPIX)
    at = torch.log10(wave) * 1e4 - WINDOW_FIRST
    assert not mask[0, round(at.item())]
    assert not mask[1].any()
    assert mask[0, int(pixel_index(np.log10(3346.79 * (1 + z)))) - WINDOW_FIRST]


def test_mask_reaches_in_from_outside_the_window() -> None:
    edge = wave_angstrom(WINDOW_FIRST - 5)
    mask = lens_line_mask(torch.tensor([float(edge / 3426.85 - 1)]), WINDOW_FIRST, NPIX)
    assert mask[0, :7].all()
    assert not mask[0, 8]


def test_scaling_flux_and_errors_changes_nothing() -> None:
    flux, ivar = spectra(5, 7)
    wave, snr = localise(flux, ivar)
    wave2, snr2 = localise(flux * 1e6, ivar * 1e-12)
    assert torch.allclose(snr, snr2, rtol=1e-3)
    assert torch.allclose(wave, wave2)
