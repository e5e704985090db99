"""Arclet's preprocessing: what noise, centre, shape and profile it finds, and what it leaves of an arc."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scoring.models.arclet import galaxy_shape, median, middle, noise_units, smooth_galaxy, squash
from scoring.models.eznet import TABLE_4_2, multiply_adds
from scoring.registry import get_model


def galaxy(n: int, q: float, phi: float, x0: float = 0.0, y0: float = 0.0, peak: float = 400.0) -> Tensor:
    """Elliptical exponential galaxies of 60x60 pixels without noise, shape (n, 1, 60, 60)."""
    at = torch.arange(60) - 29.5
    y, x = torch.meshgrid(at - y0, at - x0, indexing="ij")
    angle = torch.tensor(phi)
    u, v = x * angle.cos() + y * angle.sin(), -x * angle.sin() + y * angle.cos()
    r = torch.sqrt(q * u**2 + v**2 / q + 0.3)
    return (peak * torch.exp(-r / 4)).expand(n, 1, 60, 60).clone()


def noise(n: int, seed: int, sigma: float = 1.0) -> Tensor:
    return sigma * torch.randn(n, 1, 60, 60, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("gain", [1e-11, 1.0, 300.0])
def test_noise_is_the_unit_whatever_the_counts(gain: float) -> None:
    x = noise_units(gain * (galaxy(4, 0.8, 0.3) + noise(4, 1)) + 5 * gain)
    rim = x[..., :3, :]
    assert float(rim.std()) == pytest.approx(1.0, abs=0.15)
    assert float(rim.median().abs()) < 1.0


def test_padding_is_not_taken_for_noise() -> None:
    x = galaxy(2, 0.8, 0.3) + noise(2, 2)
    inner = noise_units(x)
    x[..., :4, :] = x[..., -4:, :] = 0.7
    x[..., :4] = x[..., -4:] = 0.7
    padded = noise_units(x)
    ratio = (padded[..., 25:35, 25:35] / inner[..., 25:35, 25:35]).median()
    assert float(ratio) == pytest.approx(1.0, abs=0.2)


def test_a_cutout_without_contrast_is_zero() -> None:
    assert bool((noise_units(torch.full((1, 2, 60, 60), 3.0)) == 0).all())


@pytest.mark.parametrize("n", [7, 8])
def test_medians_and_asinh_of_numpy_are_those_of_torch(n: int) -> None:
    x = torch.randn(3, 2, n, generator=torch.Generator().manual_seed(n)) * 50
    assert torch.equal(median(x), x.median(-1).values)
    assert torch.allclose(squash(x), 0.4 * torch.asinh(x / 2), atol=2e-6)
    again = x.clone().requires_grad_()
    assert torch.allclose(squash(again), squash(x), atol=2e-6)
    assert torch.equal(median(again), median(x))


@pytest.mark.parametrize(("q", "phi"), [(1.0, 0.0), (0.7, 0.5), (0.5, 2.2)])
def test_centre_and_ellipticity_are_found(q: float, phi: float) -> None:
    centre, e = galaxy_shape((galaxy(8, q, phi, 1.3, -0.8) + noise(8, 3))[:, 0])
    assert torch.allclose(centre.mean(0), torch.tensor([1.3, -0.8]), atol=0.25)
    wanted = (
        (1 - q**2)
        / (1 + q**2)
        * torch.tensor([torch.cos(torch.tensor(2 * phi)), torch.sin(torch.tensor(2 * phi))])
    )
    assert torch.allclose(e.mean(0), wanted, atol=0.08)


def test_the_galaxy_goes_and_the_arc_stays() -> None:
    at = torch.arange(60) - 29.5
    y, x = torch.meshgrid(at, at, indexing="ij")
    r, angle = torch.hypot(x, y), torch.atan2(y, x)
    arc = 15.0 * torch.exp(-0.5 * ((r - 12) / 1.2) ** 2) * (angle.abs() < 0.7)
    x = noise_units(galaxy(4, 0.7, 0.5) + noise(4, 4) + arc)
    left = x - smooth_galaxy(x, *galaxy_shape(x[:, 0]))
    assert float(left[..., arc > 10].mean()) > 0.75 * float(arc[arc > 10].mean())
    elsewhere = left[..., (r > 6) & (r < 25) & (arc < 0.01)]
    assert abs(float(elsewhere.mean())) < 0.6
    assert float(elsewhere.std()) < 1.8


def test_a_full_ring_is_not_taken_for_the_galaxy() -> None:
    at = torch.arange(60) - 29.5
    r = torch.hypot(at[:, None], at)
    ring = 10.0 * torch.exp(-0.5 * ((r - 16) / 1.2) ** 2)
    x = noise_units(galaxy(4, 1.0, 0.0, peak=100.0) + noise(4, 5) + ring)
    left = x - smooth_galaxy(x, *galaxy_shape(x[:, 0]))
    assert float(left[..., ring > 8].mean()) > 0.5 * float(ring[ring > 8].mean())


def test_squash_is_asinh_and_odd() -> None:
    x = torch.linspace(-500, 500, 2001)
    assert torch.allclose(squash(x), torch.asinh(x / 2) * 0.4, atol=1e-5)
    assert torch.allclose(squash(-x), -squash(x), atol=1e-6)


@pytest.mark.parametrize(("name", "channels", "npix"), [("arclet", 2, 52), ("arclet_gri", 7, 56)])
def test_networks_cost_less_than_half_of_eznets_multiply_adds(name: str, channels: int, npix: int) -> None:
    model = get_model(name, None)
    counted = 0

    def count(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal counted
        weight = module.weight
        assert isinstance(weight, Tensor)
        counted += output[0].numel() * weight[0].numel()

    for module in model.network().modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)
    pixels = torch.randn(2, model.n_band, 64, 64, generator=torch.Generator().manual_seed(6))
    x = model.preprocess(pixels, 0.1)
    assert x.shape == (2, channels, npix, npix)
    assert bool(torch.isfinite(x).all())
    assert model.network()(x).shape == (2,)
    assert counted < 0.5 * multiply_adds(TABLE_4_2, 3, 64)


@pytest.mark.parametrize("name", ["arclet", "arclet_gri"])
def test_the_network_sees_the_middle_and_the_rim_tells_the_noise(name: str) -> None:
    model = get_model(name, None)
    pixels = torch.randn(2, model.n_band, model.npix, model.npix, generator=torch.Generator().manual_seed(8))
    pixels[..., 20:-20, 20:-20] += 50.0
    x, louder = model.preprocess(pixels, 0.1), pixels.clone()
    inner = torch.zeros_like(pixels, dtype=torch.bool)
    inner[..., 10:-10, 10:-10] = True
    louder[~inner] *= 3.0
    assert torch.equal(x[:, 0], middle(squash(noise_units(pixels))[:, 0], x.shape[-1]))
    assert float(model.preprocess(louder, 0.1)[:, 0].amax()) < float(x[:, 0].amax())


def test_colour_of_the_galaxy_goes_from_g() -> None:
    model = get_model("arclet_gri", None)
    base = torch.nn.functional.pad(galaxy(1, 0.9, 0.0), (2, 2, 2, 2))
    shapes = torch.cat([base, 0.6 * base, 0.25 * base], dim=1)
    pixels = shapes + torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(7))
    x = model.preprocess(pixels, 0.168)[0]
    g, blue = x[2, 30:34, 30:34], x[6, 30:34, 30:34]
    assert float(g.mean()) > 1.0
    assert abs(float(blue.mean())) < 0.4
