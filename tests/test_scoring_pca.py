"""Weighted PCA recovers what noisy spectra with gaps share, bin by bin in redshift."""

from __future__ import annotations

import math

import pytest
import torch

from schema.errors import DataError
from schema.grid import WINDOW_FIRST, WINDOW_NPIX
from scoring.pca import bank_from_spectra, weighted_pca


def low_rank(m: int = 80, npix: int = 300, k: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.linspace(0, 1, npix)
    vectors = torch.stack([torch.sin((i + 1) * math.pi * x) for i in range(k)])
    amount = torch.randn(m, k, generator=generator) * torch.tensor([4.0, 2.0, 1.0])[:k]
    return 3 + amount @ vectors, generator_noise(m, npix)


def generator_noise(m: int, npix: int) -> torch.Tensor:
    return torch.randn(m, npix, generator=torch.Generator().manual_seed(2))


def test_gaps_and_bad_pixels_do_not_spoil_the_components() -> None:
    truth, noise = low_rank()
    weight = torch.full_like(truth, 100.0)
    flux = truth + 0.1 * noise
    gap = torch.rand(truth.shape, generator=torch.Generator().manual_seed(3)) < 0.2
    flux[gap], weight[gap] = 1e6, 0.0  # what is masked may hold anything
    basis, coefficients = weighted_pca(flux, weight, 3, n_iterations=25)
    rebuilt = basis[0] + coefficients @ basis[1:]
    assert float((rebuilt - truth).square().mean().sqrt()) < 0.05
    assert torch.allclose(basis[1:] @ basis[1:].T, torch.eye(3), atol=1e-4)
    shares = coefficients.var(0)
    assert bool((shares[:-1] >= shares[1:]).all())


def test_weights_count() -> None:
    truth, noise = low_rank(k=1)
    flux, weight = truth + 0.05 * noise, torch.full_like(truth, 400.0)
    loud = torch.zeros_like(truth)
    loud[:, 100:130] = 40 * torch.randn(80, 1, generator=torch.Generator().manual_seed(4))
    weight[:, 100:130] = 1 / 1600
    heeded, _ = weighted_pca(flux + loud, weight, 1)
    ignored, _ = weighted_pca(flux + loud, torch.ones_like(weight), 1)
    x = torch.sin(math.pi * torch.linspace(0, 1, 300))
    quiet = torch.ones(300, dtype=torch.bool)
    quiet[100:130] = False  # there the spectra tell next to nothing
    wanted = x[quiet] / x[quiet].norm()
    assert abs(float(heeded[1, quiet] @ wanted / heeded[1, quiet].norm())) > 0.99
    assert float(heeded[1, quiet].norm()) > 0.7
    assert float(ignored[1, quiet].norm()) < 0.1  # without weights the loud pixels take the component


def test_too_few_spectra_are_refused() -> None:
    with pytest.raises(DataError, match="got 6"):
        weighted_pca(torch.ones(6, 50), torch.ones(6, 50))


def galaxies(z: torch.Tensor, margin: int) -> torch.Tensor:
    """Spectra with one absorption line at rest 2800 Angstrom."""
    pixel = WINDOW_FIRST - margin + torch.arange(WINDOW_NPIX + 2 * margin, dtype=torch.float64)
    center = (math.log10(2800.0) + torch.log10(1 + z.double())) / 1e-4
    return (1 - 0.8 * torch.exp(-0.5 * ((pixel - center[:, None]) / 5) ** 2)).float()


def test_neighbours_are_borrowed_in_the_rest_frame() -> None:
    margin = 340
    z = torch.linspace(0.45, 0.60, 40)
    flux = galaxies(z, margin)
    bank = bank_from_spectra(flux, torch.full_like(flux, 100.0), z, margin, z_min=0.5, z_max=0.55)
    assert len(bank.z) == 20
    wanted = (math.log10(2800.0) + torch.log10(1 + bank.z.double())) / 1e-4 - WINDOW_FIRST
    found = bank.basis[:, 0].argmin(1)
    assert float((found - wanted).abs().max()) <= 1
    assert float(bank.basis[:, 0].min()) < 0.3  # stacked in the observed frame it would wash out
    drawn, where = bank.sample(50, torch.Generator().manual_seed(5))
    assert drawn.shape == (50, WINDOW_NPIX)
    assert set(where.tolist()) <= set(bank.z.tolist())


def test_a_handful_of_galaxies_is_not_enough() -> None:
    z = torch.tensor([0.4, 0.5, 0.6])
    flux = galaxies(z, 340)
    with pytest.raises(DataError, match=r"finds 12 spectra .*the best has 2 of 3"):
        bank_from_spectra(flux, torch.ones_like(flux), z, 340)
