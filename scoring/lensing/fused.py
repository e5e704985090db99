"""`sie` and `sersic` written out with few passes over memory, for images without gradients.

Everything a sample needs is linear in the position and in two arc functions of the ellipsoid, so a scene is
boiled down once to a dozen coefficients. Positions `u, v` lie in the frame of the mass; the source enters
as ``(p1, p2)``, in which its isophote through the effective radius is the unit circle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from scoring.lensing.sie import CORE_ARCSEC
from scoring.light.sersic import b_n, unit_amplitude

if TYPE_CHECKING:
    from scoring.lensing.scene import LensScene

TINY = 1e-30


class Profile(NamedTuple):
    """A Sérsic profile as ``exp(log_amplitude - exp(power log r2 + log_b))``; every field has shape (n,)."""

    power: Tensor
    log_b: Tensor
    log_amplitude: Tensor

    def take(self, index: Tensor) -> Profile:
        """The profiles of some rows."""
        return Profile(*(value[index] for value in self))

    def columns(self) -> Profile:
        """The same with shape (n, 1, 1)."""
        return Profile(*(value[:, None, None] for value in self))

    def light_(self, r2: Tensor) -> Tensor:
        """Surface brightness where the squared elliptical radius over r_eff is `r2`, which is overwritten."""
        r2.add_(TINY).log_().mul_(self.power).add_(self.log_b).exp_().neg_().add_(self.log_amplitude)
        return r2.exp_()


def profile(r_eff: Tensor, n: Tensor) -> Profile:
    """Profile of unit total flux [1/arcsec^2]."""
    b = b_n(n.double())
    log_amplitude = unit_amplitude(r_eff.double(), n.double(), b).log()
    return Profile((0.5 / n.double()).to(n.dtype), b.log().to(n.dtype), log_amplitude.to(n.dtype))


def unit_circle(r_eff: Tensor, q: Tensor, phi: Tensor) -> Tensor:
    """Matrix (n, 2, 2) that takes offsets from the centre to coordinates with ``r2 = p1^2 + p2^2``."""
    c, s, root = torch.cos(phi), torch.sin(phi), torch.sqrt(q)
    along, across = root / r_eff, 1 / (root * r_eff)
    rows = torch.stack([along * c, along * s, -across * s, across * c], 1)
    return rows.view(-1, 2, 2)


class Lensed(NamedTuple):
    """A scene's lensed source, ready to be sampled.

    frame : Tensor, shape (6, n)  of the mass: cos, sin of its angle; x, y; q; sqrt(1 - q^2)
    weights : Tensor, shape (n, 2, 5)  (p1, p2) as a linear form of (u, v, atan, atanh, 1)
    source : Profile of the source
    stretch : Tensor, shape (n,)  largest growth of a step of 1 arcsec on its way to (p1, p2), per unit of the
        lens's own stretch
    theta : Tensor, shape (n,)  theta_e sqrt(q)
    """

    frame: Tensor
    weights: Tensor
    source: Profile
    stretch: Tensor
    theta: Tensor


def prepare(scene: LensScene) -> Lensed:
    """Coefficients of each scene; worked out in double precision, kept in the scene's."""
    to = scene.theta_e.dtype
    wide = scene.to(torch.float64)
    q, c, s = wide.lens_q, torch.cos(wide.lens_phi), torch.sin(wide.lens_phi)
    f = torch.sqrt((1 - q * q).clamp_min(1e-6 if to == torch.float32 else 1e-10))
    shape = unit_circle(wide.source_r_eff, wide.source_q, wide.source_phi)
    g1, g2 = wide.gamma1, wide.gamma2
    keep = torch.stack([1 - g1, -g2, -g2, 1 + g1], 1).view(-1, 2, 2)  # position less shear
    turn = torch.stack([c, -s, s, c], 1).view(-1, 2, 2)  # mass frame to sky
    from_position = shape @ keep @ turn
    from_arcs = -(wide.theta_e * torch.sqrt(q) / f)[:, None, None] * (shape @ turn)
    centre = torch.stack([wide.lens_x, wide.lens_y], 1)[:, :, None]
    source = torch.stack([wide.source_x, wide.source_y], 1)[:, :, None]
    constant = shape @ (keep @ centre - source)
    weights = torch.cat([from_position, from_arcs, constant], 2)
    stretch = (1 + torch.hypot(g1, g2)) / (wide.source_r_eff * torch.sqrt(wide.source_q))
    return Lensed(
        torch.stack([c, s, wide.lens_x, wide.lens_y, q, f]).to(to),
        weights.to(to),
        Profile(*(value.to(to) for value in profile(wide.source_r_eff, wide.source_n))),
        stretch.to(to),
        (wide.theta_e * torch.sqrt(q)).to(to),
    )


def arcs_(u: Tensor, v: Tensor, q: Tensor, f: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Fill `a`, `b` with ``atan(f u / psi)`` and ``atanh(f v / psi)``; returns 1 / psi."""
    inverse = (u * q).square_().addcmul_(v, v).add_(CORE_ARCSEC**2).rsqrt_()
    torch.mul(u, inverse, out=a)
    a.mul_(f).atan_()
    torch.mul(v, inverse, out=b)
    b.mul_(f).atanh_()
    return inverse


def lensed_grid(lensed: Lensed, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Source light on the grid of columns x and rows y.

    Returns
    -------
    light : Tensor, shape (n, len(y), len(x))  [1/arcsec^2]
    r2 : Tensor, same shape  squared elliptical radius over the effective radius in the source plane
    inverse : Tensor, same shape  1 / psi, by which the lens stretches: 2 kappa = theta / psi
    """
    c, s, cx, cy, q, f = (value[:, None, None] for value in lensed.frame)
    n, shape = len(lensed.theta), (len(y), len(x))
    dx, dy = x - cx, y[:, None] - cy  # (n, 1, w), (n, h, 1)
    base = torch.empty((n, 4, *shape), dtype=x.dtype, device=x.device)
    u, v, a, b = base.unbind(1)
    torch.add(c * dx, s * dy, out=u)
    torch.sub(c * dy, s * dx, out=v)
    inverse = arcs_(u, v, q, f, a, b)
    flat = base.view(n, 4, len(y) * len(x))
    p = torch.baddbmm(lensed.weights[:, :, 4:], lensed.weights[:, :, :4], flat)  # (n, 2, h w)
    r2 = (p[:, 0].square() + p[:, 1].square()).view(n, *shape)
    return lensed.source.columns().light_(r2.clone()), r2, inverse


def lensed_points(lensed: Lensed, row: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Source light at (x, y) of shape (samples, k), where column j belongs to scene ``row[j]``."""
    c, s, cx, cy, q, f = lensed.frame[:, row]
    w = lensed.weights.view(-1, 10).t().contiguous()[:, row]  # (10, k)
    x, y = x - cx, y - cy
    u, v = (x * c).addcmul_(y, s), (y * c).addcmul_(x, s, value=-1)
    a, b = x, y  # no longer needed
    arcs_(u, v, q, f, a, b)
    p1 = (u * w[0]).addcmul_(v, w[1]).addcmul_(a, w[2]).addcmul_(b, w[3]).add_(w[4])
    p2 = u.mul_(w[5]).addcmul_(v, w[6]).addcmul_(a, w[7]).addcmul_(b, w[8]).add_(w[9])
    return lensed.source.take(row).light_(p1.square_().addcmul_(p2, p2))
