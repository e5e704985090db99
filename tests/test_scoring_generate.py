"""Simulated spectra: repeatable, as the recipe says, with lines that carry the flux they should."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import skewnorm

from schema.errors import UserError
from schema.grid import LYA_ANGSTROM, WINDOW_NPIX, wave_angstrom, window_wave
from scoring.generate import contaminants
from scoring.generate.galaxies import template_bank, template_spectra
from scoring.generate.lines import (
    DOUBLE_PEAK,
    GAUSSIAN,
    OII_DOUBLET,
    SKEWED,
    Lines,
    inject_lines,
    line_profiles,
)
from scoring.generate.recipes import (
    PublishedRecipe,
    RealisticRecipe,
    choose_rows,
    get_recipe,
    truncated_normal,
)

WAVE = torch.from_numpy(window_wave())


def lines(wave: float, flux: float, fwhm: float, skew: float = 0.0, kind: int = GAUSSIAN) -> Lines:
    one = torch.ones(1)
    return Lines(one * wave, one * flux, one * fwhm, one * skew, torch.tensor([kind]))


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("recipe", [PublishedRecipe(), RealisticRecipe()])
def test_a_seed_makes_the_same_spectra_again(recipe: PublishedRecipe) -> None:
    first, again, other = (
        recipe.sample(64, seeded(1)),
        recipe.sample(64, seeded(1)),
        recipe.sample(64, seeded(2)),
    )
    assert torch.equal(first.flux, again.flux)
    assert torch.equal(first.ivar, again.ivar)
    assert not torch.equal(first.flux, other.flux)


def test_one_in_fifteen_holds_a_line_of_the_published_kind() -> None:
    recipe = PublishedRecipe()
    batch = recipe.sample(3000, seeded())
    assert int(batch.label.sum()) == 200
    found = batch.lines.take(batch.label.nonzero()[:, 0])
    rest_width = found.fwhm_kms / 299792.458 * LYA_ANGSTROM
    sigma = found.wave_angstrom * found.fwhm_kms / 299792.458 / 2.35482
    peak = found.flux / (sigma * math.sqrt(2 * math.pi))
    assert float(rest_width.min()) > 0.5
    assert 1.5 <= float(peak.min()) < float(peak.max()) <= 15.0001
    assert float(found.wave_angstrom.min()) > 3800
    assert float(found.wave_angstrom.max()) < 5000


def test_a_line_adds_its_peak_to_the_spectrum() -> None:
    with_line = PublishedRecipe(positive_fraction=1.0).sample(16, seeded(9))
    profile = line_profiles(WAVE, with_line.lines)
    sigma = with_line.lines.wave_angstrom * with_line.lines.fwhm_kms / 299792.458 / 2.35482
    peak = with_line.lines.flux / (sigma * math.sqrt(2 * math.pi))
    wide = with_line.lines.fwhm_kms > 250
    inside = (with_line.lines.wave_angstrom > 3810) & (with_line.lines.wave_angstrom < 4990)
    assert torch.allclose(profile.max(1).values[wide & inside], peak[wide & inside], rtol=0.05)


@pytest.mark.parametrize(
    ("kind", "skew"), [(GAUSSIAN, 0.0), (SKEWED, 5.0), (DOUBLE_PEAK, 3.0), (OII_DOUBLET, 0.0)]
)
def test_lines_carry_their_flux(kind: int, skew: float) -> None:
    one = lines(4400.0, 25.0, 250.0, skew, kind)
    density = line_profiles(WAVE, one, torch.tensor([1.2]))
    width = WAVE * math.log(10) * 1e-4
    assert float((density[0] * width).sum()) == pytest.approx(25.0, rel=2e-3)


def test_a_skewed_line_behind_the_spectrograph_is_the_numerical_convolution() -> None:
    fine = np.arange(-40, 40, 0.02)  # pixels
    scale, alpha, blur = 300.0 / 2.354820045 / 69.0298, 6.0, 1.3
    mode = alpha / math.sqrt(1 + alpha**2) * scale * 0.7
    intrinsic = skewnorm.pdf(fine, alpha, loc=-mode, scale=scale)
    kernel = np.exp(-0.5 * (fine / blur) ** 2)
    blurred = np.convolve(intrinsic, kernel / kernel.sum(), mode="same")
    per_pixel = np.array([blurred[(fine >= k - 0.5) & (fine < k + 0.5)].mean() for k in range(-15, 16)])
    first = 36400
    grid = torch.from_numpy(wave_angstrom(np.arange(first - 15, first + 16)))
    one = lines(float(wave_angstrom(first)), 1.0, 300.0, alpha, SKEWED)
    density = line_profiles(grid, one, torch.tensor([blur]))[0]
    found = (density * grid * math.log(10) * 1e-4).numpy()
    assert np.abs(found - per_pixel).max() < 0.02 * per_pixel.max()


def test_injection_leaves_gaps_and_lineless_spectra_alone() -> None:
    flux, ivar = torch.zeros(2, WINDOW_NPIX), torch.ones(2, WINDOW_NPIX)
    ivar[0, 500:560] = 0
    two = Lines(
        torch.tensor([float(WAVE[530]), 0.0]), torch.tensor([30.0, 0.0]), torch.tensor([900.0, 0.0]),
        torch.zeros(2), torch.zeros(2, dtype=torch.int64),
    )  # fmt: skip
    out = inject_lines(flux, ivar, WAVE, two)
    assert float(out[0, 500:560].abs().max()) == 0
    assert float(out[1].abs().max()) == 0
    assert float(flux.abs().max()) == 0  # the input is not changed
    assert float(inject_lines(flux, torch.ones_like(ivar), WAVE, two)[0].max()) > 1


def test_template_galaxies_look_like_boss() -> None:
    for z, low, high in ((0.35, 0.3, 2.0), (0.55, 0.08, 0.7), (0.68, 0.03, 0.5)):
        level = template_spectra(200, z, seeded()).median(1).values.median()
        assert low < float(level) < high, z


def test_the_bank_draws_what_it_was_made_of() -> None:
    bank = template_bank()
    assert bank.basis.shape == (280, 7, WINDOW_NPIX)
    drawn, z = bank.sample(4000, seeded())
    assert set(np.round(z.unique().numpy(), 5)) <= set(np.round(bank.z.numpy(), 5))
    near = (z > 0.54) & (z < 0.56)
    wanted = torch.cat([template_spectra(100, 0.55, seeded(8))])
    assert float(drawn[near].mean()) == pytest.approx(float(wanted.mean()), rel=0.2)
    assert float(drawn[near].mean(1).std()) == pytest.approx(float(wanted.mean(1).std()), rel=0.35)


def test_contaminants_touch_the_share_they_say() -> None:
    n = 4000
    zero, one = torch.zeros(n, WINDOW_NPIX), torch.ones(n, WINDOW_NPIX)
    hit = zero.clone()
    contaminants.add_cosmic_rays(hit, one, seeded(), share=0.1)
    assert 0.08 < float((hit.max(1).values > 4.9).float().mean()) < 0.12
    assert int((hit > 0).sum(1).max()) <= 2
    flux, ivar = one.clone(), one.clone()
    contaminants.cut_gaps(flux, ivar, seeded(), share=0.1)
    assert torch.equal(flux, ivar)
    assert 0.08 < float((ivar.min(1).values == 0).float().mean()) < 0.12
    own = zero[:200].clone()
    contaminants.add_own_lines(own, torch.full((200,), 0.32), seeded(), share=1.0)
    strongest = WAVE[own.sum(0).argmax()]
    assert abs(float(strongest) - 3728.5 * 1.32) < 25


def test_redrawn_normals_and_row_choice() -> None:
    x = truncated_normal(5000, 300, 200, 123.3, seeded())
    assert float(x.min()) > 123.3
    assert float(x.mean()) == pytest.approx(366.5, abs=6)  # mean of the truncated normal
    counts = [len(choose_rows(10, 0.25, seeded(s))) for s in range(200)]
    assert set(counts) == {2, 3}
    assert np.mean(counts) == pytest.approx(2.5, abs=0.15)


def test_an_unknown_recipe_or_field_is_refused() -> None:
    with pytest.raises(UserError, match="choose from published, realistic"):
        get_recipe("publshed")
    with pytest.raises(UserError, match="peek_min"):
        get_recipe("published", peek_min=2.0)


@pytest.mark.parametrize("name", ["published", "realistic"])
def test_a_pipelines_model_changes_nothing_else_and_leaves_the_line(name: str) -> None:
    plain = get_recipe(name).sample(256, torch.Generator().manual_seed(7))
    batch = get_recipe(name, template=True).sample(256, torch.Generator().manual_seed(7))
    assert plain.more() == {}
    assert torch.equal(plain.flux, batch.flux)
    assert torch.equal(plain.ivar, batch.ivar)
    rows = torch.tensor([3, 5])
    assert torch.equal(batch.more(rows)["model"], batch.more()["model"][rows])
    assert batch.model is not None
    residual = (batch.flux - batch.model) * batch.ivar.sqrt()
    assert 0.9 < float(residual[batch.label == 0].square().mean(1).median().sqrt()) < 1.2
    strong = (batch.lines.flux > 30).nonzero()[:, 0]
    pixel = (torch.from_numpy(window_wave())[None] - batch.lines.wave_angstrom[strong, None]).abs().argmin(1)
    near = torch.stack([residual[r, max(p - 3, 0) : p + 4].max() for r, p in zip(strong, pixel, strict=True)])
    assert len(strong) > 3
    assert float(near.median()) > 5


def test_a_template_fit_is_right_at_large_and_a_little_wrong_in_features() -> None:
    generator = torch.Generator().manual_seed(3)
    galaxy = template_spectra(300, 0.5, generator)
    fit = contaminants.template_fit(galaxy, generator)
    off = fit / galaxy - 1
    assert 0.002 < float(off.mean(1).std()) < 0.05
    assert 1e-3 < float((off - off.mean(1, keepdim=True)).std(1).median()) < 0.03
    assert torch.equal(galaxy, contaminants.template_fit(galaxy, generator, 0.0, 0.0, 0.0))
