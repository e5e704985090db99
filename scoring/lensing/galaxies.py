"""Galaxies as surveys see them: colours, sizes and magnitudes of early types and of faint sources.

Early types follow Collett (2015) ApJ 811, 20: velocity dispersions of Choi, Park & Vogeley (2007) ApJ 658,
884, luminosity and size by Hyde & Bernardi (2009) MNRAS 394, 1978, ellipticity by his eq. 4. Where he takes
spectral templates, colours here are tables over redshift: medians of zCOSMOS-bright galaxies with Subaru
photometry (Lilly et al. 2007 ApJS 172, 70; Capak et al. 2007 ApJS 172, 99), continued beyond z = 1 by
kcorrect's red template (Blanton & Roweis 2007 AJ 133, 734).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from schema.errors import UserError
from scoring.lensing.cosmology import ARCSEC_PER_RADIAN, angular_diameter_mpc, comoving_mpc, hubble
from scoring.light.instruments import Instrument

SIGMA_STAR, ALPHA, BETA = 161.0, 2.32, 2.67  # Choi et al. (2007), km/s
SIGMA_RANGE = (100.0, 450.0)
Z_LENS_RANGE = (0.05, 1.5)
MAG_I_RANGE = (20.0, 27.5)
COUNT_SLOPE = 0.33
"""Slope of log10 of galaxy counts per magnitude, i of 20 to 27 (Capak et al. 2007, fig. 13)."""

Z_NODES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)
RED_G_R = (0.75, 0.88, 1.20, 1.50, 1.68, 1.72, 1.72, 1.80, 1.90, 2.00, 1.95, 1.75, 1.50)
RED_R_I = (0.38, 0.45, 0.52, 0.58, 0.63, 0.77, 0.97, 1.14, 1.22, 1.20, 1.15, 1.20, 1.30)
RED_K_I = (-0.37, -0.33, -0.26, -0.18, -0.08, 0.03, 0.16, 0.34, 0.60, 0.91, 1.22, 1.75, 2.10)
"""i magnitude less the rest-frame r magnitude of a passive galaxy, of kcorrect's red template."""
BLUE_Z = (0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
BLUE_G_R = (0.40, 0.75, 0.94, 0.77, 0.52, 0.36, 0.25, 0.25, 0.35, 0.60, 1.00, 1.50)
BLUE_R_I = (0.25, 0.26, 0.37, 0.62, 0.74, 0.45, 0.25, 0.15, 0.12, 0.12, 0.15, 0.30)
PASSIVE_EVOLUTION = 0.85  # magnitudes per unit redshift, Bernardi et al. (2003) AJ 125, 1849


class Dice:
    """Chance from one generator, as tensors on the generator's device."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator, self.device = generator, generator.device

    def uniform(self, n: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Shape (n,), even between `low` and `high`."""
        return low + (high - low) * torch.rand(n, generator=self.generator, device=self.device)

    def normal(self, n: int, mean: float = 0.0, sigma: float = 1.0) -> Tensor:
        """Shape (n,), Gaussian."""
        return mean + sigma * torch.randn(n, generator=self.generator, device=self.device)

    def angle(self, n: int) -> Tensor:
        """Shape (n,), position angles 0 to pi [rad]."""
        return self.uniform(n, 0.0, math.pi)

    def disc(self, n: int) -> tuple[Tensor, Tensor]:
        """Points (x, y) even in the unit disc."""
        r, a = self.uniform(n).sqrt(), self.uniform(n, 0.0, 2 * math.pi)
        return r * torch.cos(a), r * torch.sin(a)

    def below(self, n: int, chance: Tensor | float) -> Tensor:
        """Shape (n,), true with the given chance."""
        return self.uniform(n) < chance

    def inverse(self, n: int, at: Tensor, cdf: Tensor) -> Tensor:
        """Shape (n,), of a density whose integral is given at nodes `at`."""
        return interpolate(self.uniform(n) * float(cdf[-1]), cdf, at)


def cumulative(at: Tensor, density: Tensor) -> Tensor:
    """Integral of a density from the first node to each."""
    return torch.cat([density.new_zeros(1), torch.cumulative_trapezoid(density, at)])


def interpolate(x: Tensor, at: Tensor | tuple[float, ...], value: Tensor | tuple[float, ...]) -> Tensor:
    """Linear interpolation, held constant beyond the nodes."""
    nodes, values = (torch.as_tensor(v, device=x.device).to(x.dtype) for v in (at, value))
    x = x.clamp(nodes[0], nodes[-1])
    high = torch.searchsorted(nodes, x).clamp(1, len(nodes) - 1)
    low = high - 1
    t = (x - nodes[low]) / (nodes[high] - nodes[low]).clamp_min(1e-12)
    return torch.lerp(values[low], values[high], t)


class Light(NamedTuple):
    """Galaxies on the sky, each field of shape (n,).

    mag_i, g_r, r_i : AB magnitude and colours
    r_eff : intermediate-axis effective radius [arcsec]
    n, q, phi : Sérsic index, axis ratio, position angle [rad]
    z : redshift
    """

    mag_i: Tensor
    g_r: Tensor
    r_i: Tensor
    r_eff: Tensor
    n: Tensor
    q: Tensor
    phi: Tensor
    z: Tensor

    def take(self, index: Tensor) -> Light:
        """Some of the galaxies."""
        return Light(*(value[index] for value in self))

    def mags(self, instrument: Instrument) -> Tensor:
        """AB magnitudes in the instrument's bands, shape (n, bands)."""
        return band_mags(self.mag_i, self.g_r, self.r_i, instrument)


def band_mags(mag_i: Tensor, g_r: Tensor, r_i: Tensor, instrument: Instrument) -> Tensor:
    """AB magnitudes in the instrument's bands from i and two colours, shape (n, bands).

    F814W lies a little redward of i (0.1 for red galaxies by kcorrect's template); VIS spans r to z and is
    taken as the mean flux of r and i.
    """
    r = mag_i + r_i
    known = {
        "g": r + g_r, "r": r, "i": mag_i, "F814W": mag_i - 0.12 * r_i,
        "z": mag_i - 0.45 * r_i, "y": mag_i - 0.6 * r_i,
        "VIS": -2.5 * torch.log10(0.5 * (10 ** (-0.4 * r) + 10 ** (-0.4 * mag_i))),
    }  # fmt: skip
    missing = [band for band in instrument.bands if band not in known]
    if missing:
        raise UserError(
            f"no colours for band {missing[0]!r} of {instrument.name}: known are {', '.join(known)}"
        )
    return torch.stack([known[band] for band in instrument.bands], 1)


def draw_deflectors(n: int, dice: Dice, low: float = SIGMA_RANGE[0]) -> tuple[Tensor, Tensor]:
    """Velocity dispersions [km/s] and redshifts of early types above `low`, weighted by sigma^4.

    Their numbers are Choi's function times comoving volume; an isothermal cross-section goes as sigma^4.
    """
    sigma, sigma_cdf, z, z_cdf = _deflector_tables(low, dice.device)
    return dice.inverse(n, sigma, sigma_cdf), dice.inverse(n, z, z_cdf)


@lru_cache(maxsize=256)
def _deflector_tables(low: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Nodes and cumulative densities of velocity dispersion and of redshift."""
    sigma = torch.linspace(max(low, SIGMA_RANGE[0]), SIGMA_RANGE[1], 512, device=device)
    x = sigma / SIGMA_STAR
    z = torch.linspace(*Z_LENS_RANGE, 512, device=device)
    volume = comoving_mpc(z) ** 2 / hubble(z)
    return sigma, cumulative(sigma, x ** (ALPHA - 1) * torch.exp(-(x**BETA)) * x**4), z, cumulative(z, volume)


def early_types(sigma: Tensor, z: Tensor, dice: Dice) -> Light:
    """Light of early types of given velocity dispersion [km/s] and redshift."""
    n, v = len(z), torch.log10(sigma)
    curve = (0.37**2 - 4 * 0.006 * (2.97 + v)).clamp_min(0)
    mag_r = (-0.37 + curve.sqrt()) / (2 * 0.006) + dice.normal(n, 0.0, 0.25)
    size_kpc = 10 ** (2.46 - 2.79 * v + 0.84 * v * v + dice.normal(n, 0.0, 0.11))
    d_a = angular_diameter_mpc(z)
    modulus = 5 * torch.log10(d_a * (1 + z) ** 2) + 25
    mag_i = mag_r + modulus + interpolate(z, Z_NODES, RED_K_I) - PASSIVE_EVOLUTION * z
    rayleigh = (0.378 - 5.72e-4 * sigma).clamp_min(0.08) * (
        -2 * torch.log(dice.uniform(n).clamp_min(1e-7))
    ).sqrt()
    return Light(
        mag_i,
        interpolate(z, Z_NODES, RED_G_R) + dice.normal(n, 0.0, 0.08),
        interpolate(z, Z_NODES, RED_R_I) + dice.normal(n, 0.0, 0.05),
        size_kpc / 1e3 / d_a * ARCSEC_PER_RADIAN,
        dice.normal(n, 4.0, 0.9).clamp(2.0, 6.5),
        (1 - rayleigh).clamp(0.2, 1.0),
        dice.angle(n),
        z,
    )


class FieldDraw(NamedTuple):
    """What chance says of galaxies of the field; what follows from it is made where it is asked for.

    Few of many draws are seen as lensed: colours and shapes of the others would be most of the work.
    """

    mag_i: Tensor
    z: Tensor
    red: Tensor
    size_dex: Tensor
    n_red: Tensor
    n_blue_dex: Tensor
    q_red: Tensor
    q_blue: Tensor
    g_r: Tensor
    r_i: Tensor
    phi: Tensor

    def take(self, index: Tensor) -> FieldDraw:
        """Some of the galaxies."""
        return FieldDraw(*(value[index] for value in self))

    def r_eff(self) -> Tensor:
        """Effective radius [arcsec], shape (n,)."""
        return (10 ** (-0.42 - 0.10 * (self.mag_i - 23) + self.size_dex)).clamp(0.03, 5.0)

    def light(self) -> Light:
        """The galaxies."""
        g_r = torch.where(
            self.red, interpolate(self.z, Z_NODES, RED_G_R), interpolate(self.z, BLUE_Z, BLUE_G_R)
        )
        r_i = torch.where(
            self.red, interpolate(self.z, Z_NODES, RED_R_I), interpolate(self.z, BLUE_Z, BLUE_R_I)
        )
        index = torch.where(self.red, self.n_red, 10**self.n_blue_dex).clamp(0.5, 6.0)
        q = torch.where(self.red, self.q_red, self.q_blue).clamp(0.2, 1.0)
        return Light(self.mag_i, g_r + self.g_r, r_i + self.r_i, self.r_eff(), index, q, self.phi, self.z)


def draw_field(n: int, dice: Dice, low: float = MAG_I_RANGE[0], high: float = MAG_I_RANGE[1]) -> FieldDraw:
    """Galaxies of the field by their counts in i: mostly small, blue discs.

    Redshifts: ``p(z | i) ~ z^2 exp(-z/z0)``, ``z0 = 0.0417 i - 0.744`` (LSST Science Book 3.7.2). Half-light
    radii: median ``10^(-0.42 - 0.10 (i - 23))`` arcsec, 0.18 dex scatter, after COSMOS (Leauthaud et al. 2007
    ApJS 172, 219).
    """
    u = dice.uniform(n)
    a, b = 10 ** (COUNT_SLOPE * low), 10 ** (COUNT_SLOPE * high)
    mag_i = torch.log10(a + u * (b - a)) / COUNT_SLOPE
    z0 = 0.0417 * mag_i - 0.744
    gamma = -torch.log(torch.stack([dice.uniform(n).clamp_min(1e-7) for _ in range(3)])).sum(0)
    z = (z0.clamp_min(0.02) * gamma).clamp(0.05, 4.0)
    red = dice.below(n, 0.15) & (z < 1.2)
    return FieldDraw(
        mag_i, z, red, dice.normal(n, 0.0, 0.18), dice.normal(n, 3.5, 0.8), dice.normal(n, 0.05, 0.15),
        dice.normal(n, 0.75, 0.15), dice.uniform(n, 0.2, 1.0), dice.normal(n, 0.0, 0.15),
        dice.normal(n, 0.0, 0.10), dice.angle(n),
    )  # fmt: skip


def field_galaxies(n: int, dice: Dice, low: float = MAG_I_RANGE[0], high: float = MAG_I_RANGE[1]) -> Light:
    """Light of `draw_field`."""
    return draw_field(n, dice, low, high).light()
