"""The networks are what the paper says, look where they should, and find lines."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from schema.grid import WINDOW_FIRST, WINDOW_NPIX
from scoring.generate.recipes import PublishedRecipe, RealisticRecipe
from scoring.localise import lens_line_mask
from scoring.models.layers import continuum, focal_loss, noise_scale, smooth
from scoring.registry import get_model, model_class

NETWORKS = ("resnet28_lae", "snr_lae")


def megaflop(name: str) -> float:
    """Twice the multiply-adds of the convolutions of one spectrum."""
    model = model_class(name)()
    network, total = model.network(), [0.0]
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(
                lambda part, _, out: total.append(2e-6 * part.weight.numel() * out.shape[-1])
            )
    spectrum = torch.zeros(1, WINDOW_NPIX)
    network(model.preprocess(spectrum, torch.ones_like(spectrum), torch.tensor([0.5])))
    return sum(total)


def test_resnet_has_8_blocks_28_convolutions_and_dropout_before_the_dense_layer() -> None:
    network = model_class("resnet28_lae")().network()
    kinds = [type(m).__name__ for m in network.modules()]
    assert kinds.count("Conv2d") == 28
    assert kinds.count("ResidualBlock") == 8
    assert kinds.count("MaxPool2d") == 7  # between any two blocks
    assert kinds.count("Linear") == 1
    assert kinds.index("Dropout") == kinds.index("Linear") - 1


def test_costs_stay_bounded() -> None:
    assert megaflop("resnet28_lae") < 12
    assert megaflop("snr_lae") <= megaflop("resnet28_lae")


def test_focal_loss_is_equation_1() -> None:
    p = torch.tensor([0.1, 0.6, 0.9, 0.3])
    y = torch.tensor([1.0, 1.0, 0.0, 0.0])
    by_hand = [
        -(0.9**2) * math.log(0.1),
        -(0.4**2) * math.log(0.6),
        -(0.9**2) * math.log(0.1),
        -(0.3**2) * math.log(0.7),
    ]
    assert float(focal_loss(torch.logit(p), y)) == pytest.approx(sum(by_hand) / 4, rel=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_lens_own_lines_do_not_count(name: str) -> None:
    model = get_model(name)
    batch = PublishedRecipe(positive_fraction=0.0).sample(64, torch.Generator().manual_seed(3))
    own = lens_line_mask(batch.z, WINDOW_FIRST, WINDOW_NPIX, model.config.mask_half_width)
    assert own.any()
    bright = torch.where(own, batch.flux + 50.0, batch.flux)
    before = model.preprocess(batch.flux, batch.ivar, batch.z)
    assert torch.equal(before, model.preprocess(bright, batch.ivar, batch.z))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_bright_line_is_found_and_its_absence_too(name: str) -> None:
    model = get_model(name)
    generator = torch.Generator().manual_seed(4)
    recipe = PublishedRecipe(
        positive_fraction=0.5, peak_min=6.0, wave_min=4000, wave_max=4900, fwhm_min_angstrom=1.0
    )
    batch = recipe.sample(256, generator)
    hit = model.probability(batch.flux, batch.ivar, batch.z) >= model.default_threshold
    assert float(hit[batch.label > 0].float().mean()) > 0.93
    assert int(hit[batch.label == 0].sum()) <= 1


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_missing_gives_a_number_and_no_hit(name: str) -> None:
    model = get_model(name)
    flux, ivar, z = torch.zeros(3, WINDOW_NPIX), torch.zeros(3, WINDOW_NPIX), torch.tensor([0.4, 0.5, 0.9])
    ivar[1, 600:] = 4.0
    flux[1, 600:] = 0.5 * torch.randn(WINDOW_NPIX - 600, generator=torch.Generator().manual_seed(5))
    ivar[2] = 1e-12
    p = model.probability(flux, ivar, z)
    assert torch.isfinite(p).all()
    assert float(p.max()) < model.default_threshold


@pytest.mark.parametrize("name", NETWORKS)
def test_a_spectrum_scores_the_same_in_any_company(name: str) -> None:
    model = get_model(name)
    batch = RealisticRecipe().sample(40, torch.Generator().manual_seed(6))
    together = model.probability(batch.flux, batch.ivar, batch.z)
    alone = torch.cat(
        [
            model.probability(batch.flux[i : i + 1], batch.ivar[i : i + 1], batch.z[i : i + 1])
            for i in (0, 17, 39)
        ]
    )
    assert torch.allclose(together[[0, 17, 39]], alone, atol=1e-5)


def test_the_unit_of_flux_does_not_matter_to_the_resnet() -> None:
    model = get_model("resnet28_lae")
    batch = PublishedRecipe().sample(32, torch.Generator().manual_seed(7))
    scaled = model.preprocess(batch.flux * 100, batch.ivar / 1e4, batch.z)
    assert torch.allclose(scaled, model.preprocess(batch.flux, batch.ivar, batch.z), atol=1e-3)


def test_noise_scale_measures_the_noise_and_not_the_line() -> None:
    generator = torch.Generator().manual_seed(8)
    sigma = torch.linspace(1.0, 0.3, WINDOW_NPIX).expand(64, -1)
    flux = sigma * torch.randn(64, WINDOW_NPIX, generator=generator)
    flux[:, 600:604] += 20.0
    found = noise_scale(flux, torch.ones_like(flux)).mean(0)
    assert torch.allclose(found[100:500], sigma[0, 100:500], rtol=0.1)
    assert float(found[600]) < 1.4 * float(sigma[0, 600])


def test_continuum_follows_the_galaxy_under_a_line_and_across_a_gap() -> None:
    wave = torch.arange(WINDOW_NPIX, dtype=torch.float32)
    galaxy = (1 + 0.5 * torch.sin(wave / 300)).repeat(2, 1)
    line = 10 * torch.exp(-0.5 * ((wave - 500) / 2.5) ** 2)
    weight = torch.full_like(galaxy, 25.0)
    weight[1, 800:860] = 0
    level = continuum(galaxy + line, weight)
    assert float((level - galaxy)[:, 20:-20].abs().max()) < 0.08
    assert torch.allclose(smooth(galaxy, torch.ones_like(galaxy), 3), galaxy, atol=0.12)
