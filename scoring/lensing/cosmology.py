"""Distances of a flat universe of matter and a cosmological constant, on tensors."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

H0_KM_S_MPC = 70.0
OMEGA_M = 0.3
SPEED_OF_LIGHT_KM_S = 299792.458
ARCSEC_PER_RADIAN = 206264.80624709636
NODES = 16384
MAX_Z = 20.0


def comoving_mpc(z: Tensor) -> Tensor:
    """Comoving distance [Mpc] of redshifts up to 20."""
    table, step = _comoving()
    distance = table.to(z.device)
    at = z.double() / step
    low = at.long().clamp(0, NODES - 2)
    d = torch.lerp(distance[low], distance[low + 1], at - low)
    return (d * (SPEED_OF_LIGHT_KM_S / H0_KM_S_MPC)).to(z.dtype)


@cache
def _comoving() -> tuple[Tensor, float]:
    """Comoving distance over the Hubble distance at `NODES` redshifts, and their step."""
    grid = torch.linspace(0.0, MAX_Z, NODES, dtype=torch.float64)
    inv_e = (OMEGA_M * (1 + grid) ** 3 + 1 - OMEGA_M) ** -0.5
    middle = (OMEGA_M * (1 + (grid[1:] + grid[:-1]) / 2) ** 3 + 1 - OMEGA_M) ** -0.5
    step = grid[1] - grid[0]
    simpson = (inv_e[1:] + 4 * middle + inv_e[:-1]) * (step / 6)
    return torch.cat([grid.new_zeros(1), simpson.cumsum(0)]), float(step)


def hubble(z: Tensor) -> Tensor:
    """Expansion rate over today's, ``E(z)``."""
    return torch.sqrt(OMEGA_M * (1 + z) ** 3 + 1 - OMEGA_M)


def angular_diameter_mpc(z: Tensor) -> Tensor:
    """Angular diameter distance [Mpc]."""
    return comoving_mpc(z) / (1 + z)


def sis_einstein_radius(sigma_km_s: Tensor, z_lens: Tensor, z_source: Tensor) -> Tensor:
    """Einstein radius [arcsec] of an isothermal sphere, ``4 pi (sigma/c)^2 D_ls / D_s``, not below 0."""
    return sis_radius(sigma_km_s, behind(z_lens, z_source))


def behind(z_lens: Tensor, z_source: Tensor) -> Tensor:
    """``D_ls / D_s`` of a flat universe, not below 0."""
    return (1 - comoving_mpc(z_lens) / comoving_mpc(z_source)).clamp_min(0.0)


def sis_radius(sigma_km_s: Tensor, ratio: Tensor) -> Tensor:
    """Einstein radius [arcsec] of an isothermal sphere where ``D_ls / D_s`` is `ratio`."""
    return 4 * torch.pi * (sigma_km_s / SPEED_OF_LIGHT_KM_S) ** 2 * ratio * ARCSEC_PER_RADIAN
