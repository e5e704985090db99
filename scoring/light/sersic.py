"""Sérsic light: surface brightness of unit total flux, with the exact b_n and normalisation.

Conventions: `r_eff` is the intermediate-axis (geometric mean) effective radius. The isophote through it is
``R = sqrt(q u^2 + v^2 / q)`` with u along the major axis, so half of the light lies inside an ellipse of
semi-axes ``r_eff / sqrt(q)`` and ``r_eff sqrt(q)``. lenstronomy writes the same profile with ``R_sersic`` =
`r_eff` (but its own approximate b_n), caustics with ``Re = r_eff / sqrt(q)``: see docs/simulator.md.

Sérsic (1963); Graham & Driver (2005) PASA 22, 118; b_n: Ciotti & Bertin (1999) A&A 352, 447.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scoring.lensing.sie import rotate

SERIES_FROM = 0.5
"""Smallest index for which the asymptotic series is trusted before refinement."""


def b_n(n: Tensor) -> Tensor:
    """The constant with which half of the light lies within the effective radius.

    The series of Ciotti & Bertin (1999, eq. 18), for n < 0.5 the polynomial of MacArthur et al. (2003, A4),
    then two Newton steps on ``P(2n, b) = 1/2``. Slopes come from the series.

    Parameters
    ----------
    n : Tensor  Sérsic index, > 0
    """
    wide = n.double()
    series = (
        2 * wide - 1 / 3 + 4 / (405 * wide) + 46 / (25515 * wide**2)
        + 131 / (1148175 * wide**3) - 2194697 / (30690717750 * wide**4)
    )  # fmt: skip
    small = 0.01945 - 0.8902 * wide + 10.95 * wide**2 - 19.67 * wide**3 + 13.43 * wide**4
    b = torch.where(wide < SERIES_FROM, small, series)
    with torch.no_grad():
        exact = b.clone()
        a = 2 * wide
        for _ in range(3):
            slope = torch.exp((a - 1) * exact.log() - exact - torch.lgamma(a))
            exact = (exact - (torch.special.gammainc(a, exact) - 0.5) / slope).clamp_min(1e-3)
    return (b + (exact - b).detach()).to(n.dtype)


def unit_amplitude(r_eff: Tensor, n: Tensor, b: Tensor) -> Tensor:
    """Central surface brightness of a profile of unit total flux [1/arcsec^2]."""
    wide, k = n.double(), b.double()
    log = 2 * wide * k.log() - torch.lgamma(2 * wide) - (2 * torch.pi * wide).log()
    return (log.exp() / r_eff.double() ** 2).to(r_eff.dtype)


def sersic(
    x: Tensor, y: Tensor, r_eff: Tensor, n: Tensor, q: Tensor, phi: Tensor, x0: Tensor, y0: Tensor
) -> Tensor:
    """Surface brightness of an elliptical Sérsic profile of unit total flux.

    Parameters
    ----------
    x, y : Tensor  position [arcsec]
    r_eff : Tensor  intermediate-axis effective radius [arcsec]
    n : Tensor  Sérsic index
    q : Tensor  axis ratio, 0 < q <= 1
    phi : Tensor  position angle of the major axis [rad]
    x0, y0 : Tensor  centre [arcsec]

    Returns
    -------
    Tensor  flux per square arcsec of a source of total flux 1. All arguments broadcast.
    """
    u, v = rotate(x - x0, y - y0, phi)
    b = b_n(n)
    r2 = (q * u * u + v * v / q) / (r_eff * r_eff)
    shape = torch.exp(-b * torch.exp(torch.log(r2 + 1e-30) * (0.5 / n)))  # r2 + tiny: finite slope at 0
    return unit_amplitude(r_eff, n, b) * shape
