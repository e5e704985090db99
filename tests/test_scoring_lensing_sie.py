"""Deflections against lenstronomy and caustics, the round limit, magnification and critical curves."""

from __future__ import annotations

import math

import caustics
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.Util.param_util import phi_q2_ellipticity

from scoring.lensing.sie import caustic, critical_curve, magnification, shear_deflection, sie_deflection

SIDES = (9.9999e-4, 1.00001e-3)  # of 1 - q^2 where the series takes over
LENS = {
    "theta_e": st.floats(0.1, 6.0), "q": st.floats(0.2, 1.0), "phi": st.floats(-math.pi, math.pi),
    "x0": st.floats(-1.0, 1.0), "y0": st.floats(-1.0, 1.0),
}  # fmt: skip


def _grid() -> tuple[torch.Tensor, torch.Tensor]:
    at = torch.linspace(-5.03, 4.9, 24, dtype=torch.float64)
    y, x = torch.meshgrid(at, at, indexing="ij")
    return x, y


def _t(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(v, dtype=torch.float64) for v in values]


@settings(max_examples=40, deadline=None)
@given(g1=st.floats(-0.2, 0.2), g2=st.floats(-0.2, 0.2), **LENS)
def test_deflections_agree_with_lenstronomy(
    theta_e: float, q: float, phi: float, x0: float, y0: float, g1: float, g2: float
) -> None:
    x, y = _grid()
    ax, ay = sie_deflection(x, y, *_t(theta_e, q, phi, x0, y0))
    sx, sy = shear_deflection(x, y, *_t(g1, g2))
    e1, e2 = phi_q2_ellipticity(phi, q)
    model = LensModel(["SIE", "SHEAR"])
    theirs = model.alpha(
        x.numpy().ravel(), y.numpy().ravel(),
        [
            {"theta_E": theta_e, "e1": e1, "e2": e2, "center_x": x0, "center_y": y0},
            {"gamma1": g1, "gamma2": g2},
        ],
    )  # fmt: skip
    for ours, other in zip((ax + sx, ay + sy), theirs, strict=True):
        # lenstronomy keeps q below 0.9999 or so: its round lens is off by as much
        assert np.abs(ours.numpy().ravel() - other).max() < 1e-4 * theta_e


@settings(max_examples=40, deadline=None)
@given(**LENS)
def test_deflections_agree_with_caustics(theta_e: float, q: float, phi: float, x0: float, y0: float) -> None:
    x, y = _grid()
    ours = sie_deflection(x, y, *_t(theta_e, q, phi, x0, y0))
    lens = caustics.SIE(
        cosmology=caustics.FlatLambdaCDM(name="c"), z_l=0.5, z_s=1.0, x0=x0, y0=y0, q=q, phi=phi, Rein=theta_e
    )
    theirs = lens.to(dtype=torch.float64).reduced_deflection_angle(x, y)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine - other).abs().max() < 1e-5 * theta_e


def test_round_lens_is_a_sphere_and_the_limit_is_smooth() -> None:
    x, y = _grid()
    r = torch.hypot(x, y)
    for q in (1.0, 1 - 1e-9, 1 - 1e-6, 1 - 4e-4, 1 - 6e-4):
        ax, ay = sie_deflection(x, y, *_t(1.5, q, 0.3, 0.0, 0.0))
        assert (ax - 1.5 * x / r).abs().max() < 0.8 * (1 - q) + 1e-6
        assert (ay - 1.5 * y / r).abs().max() < 0.8 * (1 - q) + 1e-6
    series, closed = (sie_deflection(x, y, *_t(1.5, math.sqrt(1 - e), 0.3, 0.0, 0.0)) for e in SIDES)
    assert (series[0] - closed[0]).abs().max() < 1e-7


@pytest.mark.parametrize("q", [1.0, 0.99999, 0.7])
def test_slopes_are_right(q: float) -> None:
    x, y = _t(0.4, -0.9)
    p = [
        torch.tensor(v, dtype=torch.float64, requires_grad=True)
        for v in (1.2, min(q, 1 - 1e-6), 0.4, 0.1, -0.1)
    ]
    assert torch.autograd.gradcheck(lambda *a: sie_deflection(x, y, *a), p)


def test_centre_is_finite_with_its_slopes() -> None:
    for dtype in (torch.float32, torch.float64):
        for q in (1.0, 0.5):
            p = [torch.tensor(v, dtype=dtype, requires_grad=True) for v in (1.0, q, 0.3, 0.0, 0.0)]
            ax, ay = sie_deflection(torch.zeros(2, dtype=dtype), torch.tensor([0.0, 1e-9], dtype=dtype), *p)
            (ax.sum() + ay.sum()).backward()
            assert bool(torch.isfinite(ax).all() and torch.isfinite(ay).all())
            assert all(bool(torch.isfinite(v.grad).all()) for v in p if v.grad is not None)


@settings(max_examples=25, deadline=None)
@given(q=st.floats(0.3, 0.999), phi=st.floats(0.0, 3.0), g1=st.floats(-0.1, 0.1), g2=st.floats(-0.1, 0.1))
def test_magnification_agrees_with_lenstronomy(q: float, phi: float, g1: float, g2: float) -> None:
    x, y = _grid()
    ours = magnification(x, y, *_t(1.3, q, phi, 0.1, 0.0, g1, g2)).numpy().ravel()
    e1, e2 = phi_q2_ellipticity(phi, q)
    lens = [
        {"theta_E": 1.3, "e1": e1, "e2": e2, "center_x": 0.1, "center_y": 0.0},
        {"gamma1": g1, "gamma2": g2},
    ]
    theirs = LensModel(["SIE", "SHEAR"]).magnification(x.numpy().ravel(), y.numpy().ravel(), lens)
    assert np.abs(1 / ours - 1 / theirs).max() < 2e-3


@settings(max_examples=25, deadline=None)
@given(q=st.floats(0.3, 1.0), phi=st.floats(0.0, 3.0), g1=st.floats(-0.1, 0.1), g2=st.floats(-0.1, 0.1))
def test_light_on_the_critical_curve_is_magnified_without_bound(
    q: float, phi: float, g1: float, g2: float
) -> None:
    x, y = critical_curve(1.3, q, phi, 0.2, -0.1, g1, g2)
    mu = magnification(x, y, *_t(1.3, q, phi, 0.2, -0.1, g1, g2))
    assert float((1 / mu).abs().max()) < 1e-9
    assert float(torch.hypot(x[0] - x[-1], y[0] - y[-1])) < 1e-9


@pytest.mark.parametrize("q", [1.0, 0.8, 0.4])
def test_einstein_radius_is_that_of_the_area_inside_the_critical_curve(q: float) -> None:
    x, y = critical_curve(1.7, q, 0.5, points=4001)
    area = 0.5 * torch.sum(x[:-1] * y[1:] - x[1:] * y[:-1])
    assert float(area) == pytest.approx(math.pi * 1.7**2, rel=1e-5)


def test_caustic_shrinks_to_a_point_for_a_round_lens() -> None:
    x, y = caustic(1.5, 1.0, 0.0, 0.3, 0.1)
    assert float(torch.hypot(x - 0.3, y - 0.1).max()) < 1e-4
    wide = caustic(1.5, 0.6, 0.0)
    assert float(torch.hypot(*wide).max()) > 0.2
