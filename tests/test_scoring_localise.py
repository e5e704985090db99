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


def test_convolution_and_product_of_matrices_agree() -> None:
    from scoring.localise import _over_blocks, _taps

    x = torch.rand(3, BLOCK, 50, generator=torch.Generator().manual_seed(8))
    for tap in _taps(LineFilter(sigmas_px=(1.5, 4.0)), 40.0, x.device):
        far = tap.shape[-1] // 2
        columns = torch.nn.functional.pad(x, (far, far)).unfold(2, tap.shape[-1], 1)
        product = torch.einsum("oct,ncbt->nob", tap, columns)
        assert torch.allclose(_over_blocks(x, tap), product, atol=1e-5)


def test_the_first_form_of_the_filter_agrees() -> None:
    from benchmarks.bench_localise import first_line_snr, first_localise

    rng = torch.Generator().manual_seed(9)
    flux, ivar = spectra(300, 9)
    flux[:, 200:260] *= 40.0  # a bright, steep continuum, where sums cancel
    flux[7, 5], ivar[8, 6], ivar[9, :400] = float("nan"), float("inf"), -1.0
    at = 20 + (NPIX - 40) * torch.rand(300, 1, generator=rng)
    flux = flux + 4 * torch.rand(300, 1, generator=rng) * torch.exp(
        -0.5 * ((torch.arange(NPIX) - at) / 2.2) ** 2
    )
    z = 0.3 + 0.4 * torch.rand(300, generator=rng)
    for settings in (
        LineFilter(),
        LineFilter(sigmas_px=(1.2, 2.0, 5.0), half_width_px=60, mask_half_width_px=8),
        LineFilter(fit_continuum=False, rescale_errors=False),
    ):
        new, first = line_snr(flux, ivar, settings), first_line_snr(flux, ivar, settings)
        assert ((new - first).abs() / first.abs().clamp_min(1)).max() < 1e-4
        assert ((new == 0) == (first == 0)).all()
        if len(settings.sigmas_px) == 1:
            wave, snr = localise(flux, ivar, z, settings=settings)
            wave1, snr1 = first_localise(flux, ivar, z, settings)
            assert ((wave - wave1).abs() < 0.005).all()  # half a hundredth of what a fit calls another hit
            assert ((snr - snr1).abs() / snr1.clamp_min(1)).max() < 1e-4


@pytest.mark.parametrize(
    ("model", "width"), [("snr_lae", 8), ("resnet28_lae", 12), ("matched_filter_lae", 12)]
)
def test_the_localiser_masks_what_the_model_masks(model: str, width: int) -> None:
    from scoring.localise import filter_beside
    from scoring.registry import get_model

    assert filter_beside(get_model(model).config) == LineFilter(mask_half_width_px=width)
    assert filter_beside(object()) == LineFilter()


def test_a_line_that_only_a_wider_mask_hides_is_found_with_the_narrower() -> None:
    flux, ivar = spectra(1, 10, gaps=0.0)
    z = torch.tensor([0.3847])
    at = int(pixel_index(np.log10(3346.79 * (1 + z.item())))) - WINDOW_FIRST - 10
    flux[0] += 8 * torch.exp(-0.5 * ((torch.arange(NPIX) - at) / 2.0) ** 2)
    found = {w: localise(flux, ivar, z, settings=LineFilter(mask_half_width_px=w)) for w in (8, 12)}
    off = {w: float(torch.log10(wave) * 1e4) - WINDOW_FIRST - at for w, (wave, _) in found.items()}
    assert abs(off[8]) < 1
    assert abs(off[12]) > 1
