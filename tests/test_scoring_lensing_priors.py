"""Populations and ordinary sources: in their stated ranges, repeatable, and alike in what must not tell."""

from __future__ import annotations

import math

import pytest
import torch
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM

from schema.errors import UserError
from scoring.lensing.cosmology import angular_diameter_mpc, comoving_mpc, hubble, sis_einstein_radius
from scoring.lensing.galaxies import Dice, draw_deflectors
from scoring.lensing.priors import (
    FRACTIONS,
    GRID,
    NEGATIVE_KINDS,
    draw_population,
    render_environment,
    render_nonlenses,
    simulate_lenses,
)
from scoring.lensing.scene import render
from scoring.light.instruments import ACS_F814W, EUCLID_VIS, HSC_WIDE


def _dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_distances_agree_with_astropy() -> None:
    cosmology = FlatLambdaCDM(70, 0.3, Tcmb0=0)
    z = torch.tensor([0.01, 0.3, 0.77, 1.5, 4.0, 19.0], dtype=torch.float64)
    theirs = torch.from_numpy(cosmology.comoving_distance(z.numpy()).to_value(u.Mpc))
    assert torch.allclose(comoving_mpc(z), theirs, rtol=1e-5)
    theirs = torch.from_numpy(cosmology.angular_diameter_distance(z.numpy()).to_value(u.Mpc))
    assert torch.allclose(angular_diameter_mpc(z), theirs, rtol=1e-5)
    assert torch.allclose(hubble(z), torch.from_numpy(cosmology.efunc(z.numpy())), rtol=1e-9)


def test_einstein_radius_of_a_sphere() -> None:
    cosmology = FlatLambdaCDM(70, 0.3, Tcmb0=0)
    ratio = float(
        cosmology.angular_diameter_distance_z1z2(0.5, 2.0) / cosmology.angular_diameter_distance(2.0)
    )
    want = 4 * math.pi * (250 / 299792.458) ** 2 * ratio * 206264.806
    z = torch.tensor([0.5, 2.0], dtype=torch.float64)
    got = sis_einstein_radius(torch.tensor(250.0, dtype=torch.float64), z[0], z[1])
    assert got.item() == pytest.approx(want, rel=1e-5)
    assert sis_einstein_radius(torch.tensor(250.0), torch.tensor(1.0), torch.tensor(0.5)).item() == 0


def test_velocity_dispersions_follow_choi_weighted_by_cross_section() -> None:
    sigma, z = draw_deflectors(20000, Dice(_dice()))
    s = torch.linspace(100, 450, 3001, dtype=torch.float64)
    density = (s / 161) ** 1.32 * torch.exp(-((s / 161) ** 2.67)) * s**4
    assert sigma.mean().item() == pytest.approx(float((s * density).sum() / density.sum()), rel=0.01)
    assert float(z.min()) >= 0.05
    assert float(z.max()) <= 1.5


@pytest.mark.parametrize("instrument", [HSC_WIDE, EUCLID_VIS, ACS_F814W], ids=lambda i: i.name)
def test_realistic_lenses_meet_their_conditions(instrument: object) -> None:
    from scoring.light.instruments import Instrument

    assert isinstance(instrument, Instrument)
    scene, z_lens, z_source = draw_population(200, _dice(1), "collett2015", instrument)
    scene.check()
    assert len(scene) == 200
    assert bool((z_source > z_lens).all())
    beta = torch.hypot(scene.source_x - scene.lens_x, scene.source_y - scene.lens_y)
    assert bool((beta <= scene.theta_e * (1 + 1e-5)).all())
    seeing = min(instrument.psf_fwhm_arcsec)
    assert bool((scene.theta_e >= 1.2 * seeing * 0.999).all())
    assert bool((scene.theta_e**2 > scene.source_r_eff**2).all())
    assert scene.lens_mag.shape == (200, len(instrument.bands))


def test_realistic_lenses_look_as_the_literature_says() -> None:
    scene, z_lens, z_source = draw_population(600, _dice(2))
    assert 0.6 < scene.theta_e.median() < 1.5
    assert 0.4 < z_lens.median() < 0.9
    assert 1.2 < z_source.median() < 2.6
    colour = scene.lens_mag[:, 0] - scene.lens_mag[:, 2]
    assert (
        colour.median() > (scene.source_mag[:, 0] - scene.source_mag[:, 2]).median() + 1.0
    )  # red before blue
    assert 0.6 < scene.lens_q.mean() < 0.85


def test_thesis_grid_stays_in_its_ranges() -> None:
    scene, z_lens, _ = draw_population(500, _dice(3), "thesis_grid")
    assert bool(torch.isnan(z_lens).all())
    for got, name in (
        (scene.theta_e, "theta_e"), (scene.lens_mag[:, 0], "lens_g"), (scene.source_mag[:, 0], "source_g"),
        (scene.lens_r_eff, "lens_r_eff"), (scene.lens_n, "lens_n"),
        (1 - scene.lens_light_q, "lens_ellipticity"),
    ):  # fmt: skip
        low, high = GRID[name]
        assert low - 1e-3 <= float(got.min()) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < float(got.max()) <= high + 1e-3
    flux = 10 ** (-0.4 * scene.lens_mag)
    assert torch.allclose(flux[:, 1] / flux[:, 0], torch.tensor(5.5), rtol=1e-3)
    assert torch.allclose(flux[:, 2] / flux[:, 0], torch.tensor(20.5), rtol=1e-3)
    assert torch.hypot(scene.source_x, scene.source_y)[0].item() == pytest.approx(0.17)
    assert 1 / scene.lens_q[0].item() == pytest.approx(1.8)
    assert bool(torch.isfinite(render(scene[:16], HSC_WIDE)).all())


def test_draws_repeat_with_their_seed() -> None:
    a, b, c = (draw_population(20, _dice(s)).scene for s in (7, 7, 8))
    assert torch.equal(a.source_mag, b.source_mag)
    assert not torch.equal(a.source_mag, c.source_mag)
    (x, kx), (y, ky) = (render_nonlenses(20, HSC_WIDE, 32, _dice(7)) for _ in range(2))
    assert torch.equal(x, y)
    assert torch.equal(kx, ky)


@pytest.mark.parametrize("instrument", [HSC_WIDE, ACS_F814W], ids=lambda i: i.name)
def test_every_kind_of_ordinary_source_is_painted(instrument: object) -> None:
    from scoring.light.instruments import Instrument

    assert isinstance(instrument, Instrument)
    for index, name in enumerate(NEGATIVE_KINDS):
        images, kind = render_nonlenses(6, instrument, 40, _dice(index), fractions={name: 1.0})
        assert images.shape == (6, len(instrument.bands), 40, 40)
        assert bool((kind == index).all())
        assert bool(torch.isfinite(images).all())
        if name != "empty":
            assert float(images.amax((1, 2, 3)).min()) > 0


def test_kinds_come_in_their_shares() -> None:
    _, kind = render_nonlenses(600, HSC_WIDE, 16, _dice(9))
    share = torch.bincount(kind, minlength=len(FRACTIONS)) / 600
    assert sum(FRACTIONS.values()) == pytest.approx(1.0)
    assert float((share - torch.tensor(list(FRACTIONS.values()))).abs().max()) < 0.06


def test_lens_galaxies_and_plain_ellipticals_are_alike() -> None:
    scene = draw_population(300, _dice(11)).scene
    lens = render(scene, HSC_WIDE, components="lens") + render_environment(300, HSC_WIDE, 64, _dice(12))
    plain, _ = render_nonlenses(300, HSC_WIDE, 64, _dice(13), fractions={"elliptical": 1.0})
    for band in range(3):
        a, b = (torch.log(v[:, band, 26:38, 26:38].sum((1, 2))) for v in (lens, plain))
        assert float((a.mean() - b.mean()).abs()) < 4 * float(torch.sqrt((a.var() + b.var()) / 300))


def test_neighbours_surround_lenses_too() -> None:
    images, population = simulate_lenses(40, _dice(14))
    alone = render(population.scene, HSC_WIDE)
    assert images.shape == alone.shape
    extra = (images - alone).sum((1, 2, 3))
    assert 0.5 < float((extra > 0.5).float().mean()) <= 1.0


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(UserError, match="known are collett2015, thesis_grid"):
        draw_population(3, _dice(), "oguri2010")
    with pytest.raises(UserError, match="allowed are shares from 0 of elliptical"):
        render_nonlenses(3, HSC_WIDE, 16, _dice(), fractions={"galaxy": 1.0})
    with pytest.raises(UserError, match="n = -1"):
        draw_population(-1, _dice())
