"""The matched filter as a registered model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from schema.grid import WINDOW_NPIX
from scoring.evaluate.testsets import paper_test
from scoring.models.matched_filter_lae import MatchedFilterConfig, MatchedFilterLae
from scoring.registry import get_model


def test_a_hit_has_six_sigma() -> None:
    model = get_model("matched_filter_lae")
    flux = torch.zeros(60, WINDOW_NPIX)
    gauss = torch.exp(-0.5 * ((torch.arange(WINDOW_NPIX) - 500) / 2.0) ** 2)
    height = torch.linspace(1, 6, 60)[:, None]
    z = torch.full((60,), 0.6)
    p = model.probability(flux + height * gauss, torch.ones_like(flux), z)
    assert (p.diff() > 0).all()  # monotone in S/N
    reach = np.arange(-6, 7)
    g = np.exp(-0.5 * (reach / 2.0) ** 2)
    snr = height[:, 0].numpy() * np.sqrt((g**2).sum())
    hit = (p >= model.default_threshold).numpy()
    assert not hit[snr < 5.9].any()
    assert hit[snr > 6.6].all()  # fitting the continuum costs up to a tenth


def test_template_variant_is_the_published_formula() -> None:
    model = get_model("matched_filter_lae_template")
    assert "model" in model.inputs
    rng = torch.Generator().manual_seed(3)
    galaxy = 3 + torch.sin(torch.arange(WINDOW_NPIX) / 9.0).expand(4, -1)
    sigma = 0.5 + torch.rand(4, WINDOW_NPIX, generator=rng)
    flux = galaxy + sigma * torch.randn(4, WINDOW_NPIX, generator=rng)
    flux[:, 700] += 20
    x = model.preprocess(flux, sigma**-2, torch.full((4,), 0.9), model=galaxy)
    config = MatchedFilterConfig(continuum="template", rescale_errors=False)
    logit = MatchedFilterLae(config).network()(x)
    g = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    f, w = (flux - galaxy).double().numpy(), (sigma**-2).double().numpy()
    best = [
        max(
            (f[i, c - 6 : c + 7] * g * w[i, c - 6 : c + 7]).sum()
            / np.sqrt((g**2 * w[i, c - 6 : c + 7]).sum())
            for c in range(6, WINDOW_NPIX - 6)
        )
        for i in range(4)
    ]
    want = (np.array(best) - config.snr_even) * config.logit_per_snr
    assert logit.numpy() == pytest.approx(want, abs=1e-2)


def test_settings_enter_the_hashes() -> None:
    one = MatchedFilterLae()
    assert one.preprocessing_hash == MatchedFilterLae().preprocessing_hash
    assert (
        one.preprocessing_hash != MatchedFilterLae(MatchedFilterConfig(sigmas_px=(2.5,))).preprocessing_hash
    )
    assert one.weights_hash != MatchedFilterLae(MatchedFilterConfig(snr_even=4.0)).weights_hash


def test_probabilities_are_calibrated_on_the_published_recipe() -> None:
    model = get_model("matched_filter_lae")
    total = positives = 0.0
    for batch in paper_test(2000, seed=11):
        p = model.probability(batch.flux, batch.ivar, batch.z)
        total += float(p.sum())
        positives += float(batch.label.sum())
    assert total == pytest.approx(positives, rel=0.15)
