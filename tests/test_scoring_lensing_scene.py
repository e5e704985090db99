"""Pixels against lenstronomy and caustics, the adaptive rule against brute force, slopes and bad input."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bench_simulate import ONE_BAND, caustics_renderer, lenses, lenstronomy_renderer
from schema.errors import UserError
from scoring.lensing.population import draw_population
from scoring.lensing.raster import Accuracy, convolve, render_components
from scoring.lensing.scene import LensScene, arc_magnitude, observe, render
from scoring.light.instruments import HSC_WIDE
from scoring.light.psf import gaussian_psf


def _scene(n: int = 4, seed: int = 1, kind: str = "collett2015") -> LensScene:
    return draw_population(n, torch.Generator().manual_seed(seed), kind).scene


DUST = 1e-10
"""Share of the brightest pixel below which a Fourier transform leaves nothing to compare."""


@st.composite
def one_lens(draw: st.DrawFn) -> LensScene:
    """Any lens that fills a few pixels, in one band."""

    def f(low: float, high: float) -> torch.Tensor:
        return torch.tensor([draw(st.floats(low, high))], dtype=torch.float64)

    zero = torch.zeros(1, dtype=torch.float64)
    return LensScene(
        theta_e=f(0.3, 3.0), lens_q=f(0.3, 0.99), lens_phi=f(0, 3.1), gamma1=zero, gamma2=zero,
        lens_r_eff=f(0.3, 2.5), lens_n=f(0.6, 5.0), lens_light_q=f(0.3, 0.99), lens_light_phi=f(0, 3.1),
        source_x=f(-1, 1), source_y=f(-1, 1), source_r_eff=f(0.15, 1.0), source_n=f(0.6, 4.0),
        source_q=f(0.3, 0.99), source_phi=f(0, 3.1),
        lens_mag=f(18, 22)[:, None], source_mag=f(20, 25)[:, None],
        lens_x=f(-0.3, 0.3), lens_y=f(-0.3, 0.3),
    )  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(scene=one_lens(), samples=st.sampled_from([1, 2, 3]))
def test_pixels_agree_with_lenstronomy(scene: LensScene, samples: int) -> None:
    delta = no_psf()
    ours = render(scene, ONE_BAND, oversample=samples, psf=delta)[:, 0]
    theirs = lenstronomy_renderer(scene, ONE_BAND, samples, psf=delta)()
    assert bool(((ours - theirs).abs() <= 1e-4 * theirs + DUST * theirs.max()).all())


@settings(max_examples=6, deadline=None)
@given(scene=one_lens(), samples=st.sampled_from([1, 2, 3]))
def test_convolved_pixels_agree_with_lenstronomy(scene: LensScene, samples: int) -> None:
    ours = render(scene, ONE_BAND, oversample=samples)[:, 0, 16:-16, 16:-16]  # it takes zero beyond the edge
    theirs = lenstronomy_renderer(scene, ONE_BAND, samples)()[:, 16:-16, 16:-16]
    assert bool(((ours - theirs).abs() <= 1e-4 * theirs + DUST * theirs.max()).all())


@settings(max_examples=12, deadline=None)
@given(scene=one_lens())
def test_pixels_agree_with_caustics(scene: LensScene) -> None:
    ours = render(scene, ONE_BAND, oversample=1, psf=no_psf())[:, 0]
    theirs = caustics_renderer(scene, ONE_BAND, 1, torch.float64, psf=no_psf(), quad_level=1)()
    # the grid of caustics is single precision: the slope of the light tells what its rounding does
    slope = torch.stack(torch.gradient(theirs, dim=(1, 2))).abs().amax(0)
    allowed = 1e-4 * theirs + 1e-5 * slope + DUST * theirs.max()
    assert bool(((ours - theirs).abs() <= allowed).all())


def test_converged_pixels_agree_with_caustics_quadrature() -> None:
    scene = lenses(6, "smooth")
    ours = render(scene.to(torch.float64), ONE_BAND, oversample=16)[:, 0, 8:-8, 8:-8]
    theirs = caustics_renderer(scene, ONE_BAND, 2, torch.float64, quad_level=8)()[:, 8:-8, 8:-8]
    assert float(((ours - theirs).abs().amax((1, 2)) / theirs.amax((1, 2))).max()) < 2e-3


@pytest.mark.parametrize("kind", ["realistic", "smooth"])
def test_adaptive_rule_errs_by_less_than_half_a_percent_of_the_peak(kind: str) -> None:
    scene = lenses(24, kind)
    rough = render(scene, ONE_BAND)[:, 0].double()
    fine = Accuracy(
        tolerance=1e-5, steep=1e-3, order=6, steep_order=24, cusp_order=20, rings=(24, 16, 8, 8, 4)
    )
    lens, source = render_components(scene.to(torch.float64), 64, 0.168, "adaptive", "all", fine)
    assert lens is not None
    assert source is not None
    flux = [10 ** (-0.4 * (m[:, 0].double() - 27))[:, None, None] for m in (scene.lens_mag, scene.source_mag)]
    exact = convolve((flux[0] * lens + flux[1] * source)[:, None], ONE_BAND.psf())[:, 0]
    error = (rough - exact).abs().amax((1, 2)) / exact.amax((1, 2))
    assert float(error.median()) < 1e-3
    assert float(error.quantile(0.9)) < 5e-3


def test_the_fine_rule_is_itself_the_limit_of_brute_force() -> None:
    scene = replace(lenses(4, "smooth"), source_n=torch.full((4,), 1.0)).to(torch.float64)
    fine = Accuracy(
        tolerance=1e-6, steep=1e-4, order=8, steep_order=24, cusp_order=20, rings=(24, 16, 8, 8, 4)
    )
    for part in ("lens", "source"):
        a = next(v for v in render_components(scene, 32, 0.168, "adaptive", part, fine) if v is not None)
        b = next(v for v in render_components(scene, 32, 0.168, 40, part) if v is not None)
        assert float(((a - b).abs().amax((1, 2)) / b.amax((1, 2))).max()) < 2e-3


def test_a_compact_source_between_pixels_is_not_lost() -> None:
    scene = replace(lenses(5), source_r_eff=torch.full((5,), 0.02), source_n=torch.ones(5))
    rough = render_components(scene, 64, 0.168, "adaptive", "source")[1]
    exact = render_components(scene.to(torch.float64), 64, 0.168, 24, "source")[1]
    assert rough is not None
    assert exact is not None
    ratio = rough.double().sum((1, 2)) / exact.sum((1, 2))
    assert float((ratio - 1).abs().median()) < 0.03
    assert float((ratio - 1).abs().max()) < 0.3


def test_single_precision_suffices() -> None:
    scene = _scene(8)
    a, b = render(scene, HSC_WIDE), render(scene.to(torch.float64), HSC_WIDE)
    assert float(((a - b).abs().amax((1, 2, 3)) / b.amax((1, 2, 3))).max()) < 1e-4


def test_gradient_path_gives_the_same_pixels() -> None:
    scene = _scene(4).to(torch.float64)
    tracked = replace(scene, theta_e=scene.theta_e.clone().requires_grad_())
    assert torch.allclose(render(tracked, HSC_WIDE), render(scene, HSC_WIDE), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("oversample", [2, "adaptive"])
def test_slopes_are_right(oversample: int | str) -> None:
    scene = _scene(1, seed=4).to(torch.float64)
    names = [
        "theta_e", "lens_q", "lens_phi", "gamma1", "gamma2", "lens_r_eff", "lens_n", "lens_light_q",
        "source_x", "source_y", "source_r_eff", "source_n", "source_q", "source_phi",
        "lens_mag", "source_mag", "lens_x",
    ]  # fmt: skip

    def image(*values: torch.Tensor) -> torch.Tensor:
        now = replace(scene, **dict(zip(names, values, strict=True)))
        out: torch.Tensor = render(now, HSC_WIDE, npix=12, oversample=oversample)
        return out

    start = [getattr(scene, name).clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(image, start, eps=1e-7, atol=1e-4, rtol=1e-3, fast_mode=True)


def test_flux_and_truth() -> None:
    scene = replace(_scene(5), theta_e=torch.full((5,), 1e-6), lens_r_eff=torch.full((5,), 0.4))
    scene = replace(scene, source_r_eff=torch.full((5,), 0.2), source_n=torch.ones(5), gamma1=torch.zeros(5))
    scene = replace(scene, gamma2=torch.zeros(5), lens_n=torch.ones(5))
    image, truth = render(scene, HSC_WIDE, components="source", with_truth=True)
    assert float((truth.magnification - 1).abs().max()) < 0.015  # no lens, no magnification
    assert torch.allclose(truth.arc_mag, scene.source_mag, atol=0.02)
    assert torch.allclose(image.sum((2, 3)), 10 ** (-0.4 * (scene.source_mag - 27)), rtol=0.02)
    lens = render(scene, HSC_WIDE, components="lens")
    assert torch.allclose(lens.sum((2, 3)), 10 ** (-0.4 * (scene.lens_mag - 27)), rtol=0.02)
    assert torch.allclose(render(scene, HSC_WIDE), image + lens, rtol=1e-4, atol=1e-5)


def test_a_point_behind_a_sphere_is_magnified_as_the_textbook_says() -> None:
    scene = _scene(1)
    one = torch.ones(1)
    scene = replace(
        scene, theta_e=one * 1.5, lens_q=one, gamma1=0 * one, gamma2=0 * one,
        source_x=one * 0.5, source_y=0 * one,
        source_r_eff=one * 0.02, source_n=one * 0.5, source_q=one, lens_x=0 * one, lens_y=0 * one,
    )  # fmt: skip
    mu = render(scene.to(torch.float64), HSC_WIDE, with_truth=True, oversample=32)[1].magnification
    assert mu.item() == pytest.approx(2 * 1.5 / 0.5, rel=0.01)
    assert arc_magnitude(scene, HSC_WIDE)[0, 2].item() == pytest.approx(
        scene.source_mag[0, 2].item() - 2.5 * math.log10(6), abs=0.1
    )


def test_convolution_with_a_wide_kernel_and_at_the_edge() -> None:
    image = torch.rand(2, 3, 20, 20, dtype=torch.float64)
    for size in (1, 7, 61):
        kernel = gaussian_psf(2.5, size)
        got = convolve(image, kernel)
        want = torch.nn.functional.conv2d(
            torch.nn.functional.pad(image, (19,) * 4, mode="reflect").reshape(6, 1, 58, 58),
            kernel[None, None],
            padding="same",
        )[..., 19:39, 19:39]  # fmt: skip
        assert torch.allclose(got, want.reshape_as(got), atol=1e-10)
    flat = convolve(torch.ones(1, 1, 16, 16), gaussian_psf(3.0, 9))
    assert torch.allclose(flat, torch.ones_like(flat), atol=1e-6)


def test_scenes_are_cut_joined_and_moved() -> None:
    scene = _scene(5)
    assert len(scene) == 5
    assert len(scene[1:3]) == 2
    picked = scene[torch.tensor([4, 0])]
    assert torch.equal(picked.theta_e, scene.theta_e[[4, 0]])
    assert torch.equal(LensScene.cat([scene[:2], scene[2:]]).source_mag, scene.source_mag)
    assert scene.to(torch.float64).lens_mag.dtype == torch.float64
    assert render(scene[:0], HSC_WIDE).shape == (0, 3, 64, 64)


def test_batches_do_not_change_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = _scene(5)
    whole = render(scene, HSC_WIDE)
    monkeypatch.setattr("scoring.lensing.raster.CHUNK_PIXELS", 64 * 64 * 2)
    assert torch.allclose(render(scene, HSC_WIDE), whole, rtol=1e-5, atol=1e-5 * float(whole.max()))


def test_observed_images_repeat_with_their_seed() -> None:
    image = render(_scene(2), HSC_WIDE)
    a, b = (observe(image, HSC_WIDE, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a, b)
    rim = (a - image)[:, :, :8, :8].std((0, 2, 3))
    assert torch.allclose(rim.double(), HSC_WIDE.background_sigma(), rtol=0.3)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("lens_q", 0.0, r"lens_q = 0 \(row 1\): allowed is 0.05 to 1"),
        ("lens_q", 1.2, r"lens_q = 1.2"),
        ("source_q", -0.3, r"source_q = -0.3"),
        ("lens_r_eff", -1.0, r"lens_r_eff = -1"),
        ("source_r_eff", 0.0, r"source_r_eff = 0"),
        ("source_n", 20.0, r"source_n = 20"),
        ("theta_e", float("nan"), r"theta_e = nan"),
        ("theta_e", -0.5, r"theta_e = -0.5"),
        ("source_x", float("inf"), r"source_x = inf .*finite"),
        ("gamma1", 0.9, r"gamma1 = 0.9"),
        ("lens_mag", 3000.0, r"lens_mag = 3000 is not an AB magnitude"),
        ("source_mag", -99.0, r"source_mag = -99 is not an AB magnitude"),
    ],
)
def test_unphysical_parameters_are_named(name: str, value: float, says: str) -> None:
    scene = _scene(3)
    bad = getattr(scene, name).clone()
    bad[1] = value
    with pytest.raises(UserError, match=says):
        render(replace(scene, **{name: bad}), HSC_WIDE)


def test_other_bad_input() -> None:
    scene = _scene(2)
    with pytest.raises(UserError, match="the scene has 1 lens"):
        render(replace(scene, lens_mag=scene.lens_mag[:, :1], source_mag=scene.source_mag[:, :1]), HSC_WIDE)
    with pytest.raises(UserError, match="components"):
        render(scene, HSC_WIDE, components="arc")
    with pytest.raises(UserError, match="oversample"):
        render(scene, HSC_WIDE, oversample=0)
    with pytest.raises(UserError, match=r"lens_q has shape \(3,\)"):
        replace(scene, lens_q=torch.ones(3))
    with pytest.raises(UserError, match=r"sums to 0\.9700"):
        render(scene, HSC_WIDE, psf=gaussian_psf(3.0, 15) * 0.97)


def no_psf() -> torch.Tensor:
    """A PSF that does nothing; caustics wants more than one pixel to convolve at all."""
    kernel = torch.zeros(3, 3, dtype=torch.float64)
    kernel[1, 1] = 1
    return kernel


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_pixels() -> None:
    scene = _scene(8)
    on_gpu = render(scene, HSC_WIDE, device="cuda").cpu()
    assert torch.allclose(on_gpu, render(scene, HSC_WIDE), rtol=1e-3, atol=1e-3)
