"""What a search is trained and judged on: lenses of a prior and ordinary sources, in like surroundings."""

from __future__ import annotations

import torch
from torch import Tensor

from scoring.lensing.environment import render_environment
from scoring.lensing.negatives import FRACTIONS, NEGATIVE_KINDS, render_nonlenses
from scoring.lensing.population import GRID, KINDS, Population, draw_population
from scoring.lensing.scene import render
from scoring.light.instruments import HSC_WIDE, Instrument

__all__ = [
    "FRACTIONS", "GRID", "KINDS", "NEGATIVE_KINDS", "Population", "draw_population", "render_environment",
    "render_nonlenses", "simulate_lenses",
]  # fmt: skip


def simulate_lenses(
    n: int,
    generator: torch.Generator,
    kind: str = "collett2015",
    instrument: Instrument = HSC_WIDE,
    npix: int = 64,
    psf: Tensor | None = None,
) -> tuple[Tensor, Population]:
    """Noiseless images of drawn lenses among the same neighbours that `render_nonlenses` gives its galaxies.

    Returns
    -------
    images : Tensor, shape (n, bands, npix, npix)  counts
    population : Population of the n lenses
    """
    population = draw_population(n, generator, kind, instrument)
    images: Tensor = render(population.scene, instrument, npix=npix, psf=psf)
    return images + render_environment(n, instrument, npix, generator, psf=psf), population
