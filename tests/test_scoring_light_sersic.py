"""Sérsic light: the constant b_n, the total flux, the convention of the effective radius, and its slopes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammainc

from scoring.light.sersic import b_n, sersic


def test_half_the_light_lies_within_b_n() -> None:
    n = torch.cat([torch.linspace(0.1, 0.6, 40), torch.linspace(0.6, 10, 60)]).double()
    inside = gammainc(2 * n.numpy(), b_n(n).numpy())
    assert np.abs(inside - 0.5).max() < 1e-9


def test_b_n_agrees_with_ciotti_and_bertin_for_de_vaucouleurs() -> None:
    assert float(b_n(torch.tensor(4.0, dtype=torch.float64))) == pytest.approx(7.669249442500804, rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(n=st.floats(0.4, 3.0), q=st.floats(0.2, 1.0), phi=st.floats(-3.0, 3.0), r=st.floats(0.5, 1.5))
def test_flux_is_one_and_half_of_it_lies_in_the_ellipse_of_geometric_mean_radius(
    n: float, q: float, phi: float, r: float
) -> None:
    # polar grid in the profile's own ellipse: area element is that of the circle of equal area
    p = [torch.tensor(v, dtype=torch.float64) for v in (r, n, q, phi, 0.3, -0.2)]
    radius = torch.logspace(-7, math.log10(r * 40**n), 8001, dtype=torch.float64)
    u = radius / math.sqrt(q)
    x, y = p[4] + u * math.cos(phi), p[5] + u * math.sin(phi)
    light = sersic(x, y, *p)
    growth = torch.cumulative_trapezoid(2 * math.pi * radius * light, radius)
    assert float(growth[-1]) == pytest.approx(1.0, abs=2e-4)
    half = np.interp(r, radius[1:].numpy(), growth.numpy())
    assert half == pytest.approx(0.5, abs=2e-4)


def test_axis_ratio_stretches_along_phi() -> None:
    one = torch.ones((), dtype=torch.float64)
    q, phi = one * 0.5, one * 0.7
    at = [(math.cos(0.7), math.sin(0.7)), (-math.sin(0.7) * 0.5, math.cos(0.7) * 0.5)]
    along, across = (sersic(one * x, one * y, one, one * 2, q, phi, one * 0, one * 0) for x, y in at)
    assert float(along) == pytest.approx(float(across), rel=1e-12)


def test_slopes_are_right() -> None:
    x = torch.tensor([0.1, 0.7, -1.3], dtype=torch.float64)
    values = [0.8, 2.3, 0.6, 0.4, 0.05, -0.1]
    p = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]
    assert torch.autograd.gradcheck(lambda *a: sersic(x, x * 0.5 + 0.2, *a), p)


def test_centre_is_finite_with_its_slopes() -> None:
    p = [torch.tensor(v, requires_grad=True) for v in (1.0, 4.0, 0.7, 0.3, 0.0, 0.0)]
    light = sersic(torch.zeros(1), torch.zeros(1), *p)
    light.sum().backward()
    assert bool(torch.isfinite(light).all())
    assert all(bool(torch.isfinite(v.grad).all()) for v in p if v.grad is not None)
