"""Populations of lenses to train on and to measure selection functions with."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from schema.errors import UserError
from scoring.lensing.cosmology import sis_einstein_radius
from scoring.lensing.negatives import render_nonlenses
from scoring.lensing.scene import LensScene
from scoring.light.instruments import HSC_WIDE, Instrument

__all__ = ["KINDS", "Population", "draw_population", "render_nonlenses"]
KINDS = ("collett2015", "thesis_grid")


class Population(NamedTuple):
    """Drawn lenses: the scene, and redshifts of lens and source, each of shape (n,)."""

    scene: LensScene
    z_lens: Tensor
    z_source: Tensor


def draw_population(
    n: int, generator: torch.Generator, kind: str = "collett2015", instrument: Instrument = HSC_WIDE
) -> Population:
    """Draw n lenses from a documented prior (docs/simulator.md)."""
    if kind not in KINDS:
        raise UserError(f"unknown population {kind!r}: known are {', '.join(KINDS)}")

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    def normal(mean: float, sigma: float) -> Tensor:
        return mean + sigma * torch.randn(n, generator=generator)

    z_lens, z_source = uniform(0.2, 0.8), uniform(1.0, 3.0)
    theta_e = sis_einstein_radius(uniform(180, 350), z_lens, z_source)
    phi, q = uniform(0, math.pi), normal(0.75, 0.12).clamp(0.3, 1.0)
    shear, angle = normal(0.0, 0.04).abs().clamp_max(0.2), uniform(0, 2 * math.pi)
    offset, toward = theta_e * 0.6 * uniform(0, 1).sqrt(), uniform(0, 2 * math.pi)
    bands = len(instrument.bands)
    steps = torch.arange(bands, dtype=torch.float32)
    lens = uniform(19.0, 22.0)[:, None] - 0.9 * steps
    source = uniform(22.5, 25.5)[:, None] - 0.2 * steps
    scene = LensScene(
        theta_e=theta_e, lens_q=q, lens_phi=phi,
        gamma1=shear * torch.cos(angle), gamma2=shear * torch.sin(angle),
        lens_r_eff=uniform(0.5, 2.0), lens_n=normal(4.0, 0.6).clamp(2.0, 6.0), lens_light_q=q, lens_light_phi=phi,
        source_x=offset * torch.cos(toward), source_y=offset * torch.sin(toward),
        source_r_eff=uniform(0.1, 0.5), source_n=uniform(0.7, 2.0), source_q=uniform(0.4, 1.0),
        source_phi=uniform(0, math.pi), lens_mag=lens, source_mag=source,
    )  # fmt: skip
    return Population(scene, z_lens, z_source)
