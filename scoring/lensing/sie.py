"""Singular isothermal ellipsoid and external shear: deflections, magnification, critical curves.

Conventions (those of lenstronomy's SIE, so its Einstein radii can be compared number by number):

- angles in arcsec on the sky, position angles in radians from +x towards +y, of the major axis;
- `q` is minor over major axis, 0 < q <= 1;
- `theta_e` is the intermediate-axis Einstein radius: ``kappa = theta_e / (2 sqrt(q x^2 + y^2 / q))`` in the
  frame of the major axis. The area inside the critical curve is exactly ``pi theta_e^2`` whatever `q`.

Kormann, Schneider & Bartelmann (1994) A&A 284, 285; with a core: Keeton (2001) astro-ph/0102341.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CORE_ARCSEC = 1e-9
"""Radius of the smooth core that keeps the centre finite [arcsec]; far below any pixel."""

NEARLY_ROUND = 1e-3
"""Below this ``1 - q^2`` the closed form loses digits and its series in ``1 - q^2`` is used."""


def rotate(x: Tensor, y: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates in the frame whose x axis lies at position angle `phi` [rad]."""
    c, s = torch.cos(phi), torch.sin(phi)
    return c * x + s * y, c * y - s * x


def sie_deflection(
    x: Tensor,
    y: Tensor,
    theta_e: Tensor,
    q: Tensor,
    phi: Tensor,
    x0: Tensor,
    y0: Tensor,
    core: float = CORE_ARCSEC,
) -> tuple[Tensor, Tensor]:
    """Deflection of a singular isothermal ellipsoid.

    Parameters
    ----------
    x, y : Tensor  where the light is seen [arcsec]
    theta_e : Tensor  intermediate-axis Einstein radius [arcsec]
    q : Tensor  axis ratio of the mass, 0 < q <= 1
    phi : Tensor  position angle of the major axis [rad]
    x0, y0 : Tensor  centre [arcsec]
    core : float  core radius [arcsec]

    Returns
    -------
    (ax, ay) : Tensor  deflection [arcsec]; the source is at ``(x - ax, y - ay)``. All arguments broadcast.
    """
    u, v = rotate(x - x0, y - y0, phi)
    e = 1.0 - q * q
    psi = torch.sqrt(q * q * (core * core + u * u) + v * v)
    a, b = u / (psi + core), v / (psi + q * q * core)
    round_ = e < NEARLY_ROUND
    f = torch.sqrt(torch.where(round_, NEARLY_ROUND, e))  # where before sqrt: its slope at 0 is infinite
    strength = theta_e * torch.sqrt(q)
    t, w = strength * torch.atan(f * a) / f, strength * torch.atanh(f * b) / f
    if bool(round_.any()):
        ea, eb = e * a * a, e * b * b
        t = torch.where(round_, strength * a * (1 - ea / 3 + ea * ea / 5), t)
        w = torch.where(round_, strength * b * (1 + eb / 3 + eb * eb / 5), w)
    c, s = torch.cos(phi), torch.sin(phi)
    return c * t - s * w, s * t + c * w


def shear_deflection(x: Tensor, y: Tensor, gamma1: Tensor, gamma2: Tensor) -> tuple[Tensor, Tensor]:
    """Deflection of an external shear about the origin: ``(g1 x + g2 y, g2 x - g1 y)`` [arcsec]."""
    return gamma1 * x + gamma2 * y, gamma2 * x - gamma1 * y


def sie_jacobian(
    x: Tensor, y: Tensor, theta_e: Tensor, q: Tensor, phi: Tensor, x0: Tensor, y0: Tensor,
    gamma1: Tensor, gamma2: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Jacobian of the lens equation as ``(convergence, gamma_1, gamma_2)``, the shear included.

    An isothermal ellipsoid's own shear has the size of its convergence and points along the radius vector.
    """
    dx, dy = x - x0, y - y0
    u, v = rotate(dx, dy, phi)
    kappa = 0.5 * theta_e / torch.sqrt(q * u * u + v * v / q + 1e-24)
    r2 = dx * dx + dy * dy + 1e-24
    return kappa, gamma1 - kappa * (dx * dx - dy * dy) / r2, gamma2 - kappa * 2 * dx * dy / r2


def magnification(
    x: Tensor, y: Tensor, theta_e: Tensor, q: Tensor, phi: Tensor, x0: Tensor, y0: Tensor,
    gamma1: Tensor, gamma2: Tensor,
) -> Tensor:  # fmt: skip
    """Signed magnification of a point image at (x, y)."""
    kappa, g1, g2 = sie_jacobian(x, y, theta_e, q, phi, x0, y0, gamma1, gamma2)
    return 1.0 / ((1.0 - kappa) ** 2 - g1 * g1 - g2 * g2)


def critical_curve(
    theta_e: float, q: float, phi: float, x0: float = 0.0, y0: float = 0.0,
    gamma1: float = 0.0, gamma2: float = 0.0, points: int = 256,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Tangential critical curve, for drawing.

    On a ray from the centre the convergence falls as ``k / r`` and the lens's shear keeps its direction, so
    ``det = (1 - k/r)^2 - |gamma - (k/r) e^{2 i angle}|^2`` is linear in ``1/r`` and has one root.

    Returns
    -------
    (x, y) : Tensor, shape (points,)  [arcsec], closed (the last point repeats the first)
    """
    angle = torch.linspace(0.0, 2 * math.pi, points, dtype=torch.float64)
    u, v = torch.cos(angle - phi), torch.sin(angle - phi)
    k = 0.5 * theta_e / torch.sqrt(q * u * u + v * v / q)
    along = gamma1 * torch.cos(2 * angle) + gamma2 * torch.sin(2 * angle)
    r = k * (2.0 - 2.0 * along) / (1.0 - gamma1**2 - gamma2**2)
    return x0 + r * torch.cos(angle), y0 + r * torch.sin(angle)


def caustic(
    theta_e: float, q: float, phi: float, x0: float = 0.0, y0: float = 0.0,
    gamma1: float = 0.0, gamma2: float = 0.0, points: int = 256,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Tangential caustic: the critical curve traced back to the source plane [arcsec], shape (points,)."""
    x, y = critical_curve(theta_e, q, phi, x0, y0, gamma1, gamma2, points)
    t = [torch.tensor(value, dtype=torch.float64) for value in (theta_e, q, phi, x0, y0, gamma1, gamma2)]
    ax, ay = sie_deflection(x, y, t[0], t[1], t[2], t[3], t[4])
    sx, sy = shear_deflection(x, y, t[5], t[6])
    return x - ax - sx, y - ay - sy
