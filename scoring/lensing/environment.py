"""The neighbours on a stamp: galaxies of the field and satellites, alike around lenses and around others."""

from __future__ import annotations

import torch
from torch import Tensor

from scoring.lensing.canvas import Canvas
from scoring.lensing.galaxies import Dice, draw_deflectors, early_types, field_galaxies
from scoring.light.instruments import HSC_WIDE, Instrument

FIELD_PER_ARCMIN2 = 50.0
"""Galaxies of i from 19 to 25.5 a square arcminute (Capak et al. 2007, fig. 13)."""
FIELD_MAG = (19.0, 25.5)
SATELLITES = 0.5
"""Mean number of satellites, at 1 to 6 arcsec, a magnitude or more below a massive galaxy."""


def render_environment(
    n: int,
    instrument: Instrument = HSC_WIDE,
    npix: int = 64,
    generator: torch.Generator | None = None,
    psf: Tensor | None = None,
) -> Tensor:
    """Noiseless neighbours for n stamps, to be added to noiseless images of their central objects.

    Returns
    -------
    Tensor, shape (n, bands, npix, npix)  counts, convolved with the PSF
    """
    dice = Dice(generator or torch.Generator().manual_seed(0))
    canvas = Canvas(n, instrument, npix, dice.device)
    paint_environment(canvas, n, dice)
    return canvas.convolved(psf)


def paint_environment(canvas: Canvas, n: int, dice: Dice) -> None:
    """Paint the neighbours of n stamps."""
    area = (canvas.side / 60) ** 2
    row = _rows(n, FIELD_PER_ARCMIN2 * area, dice)
    m, half = len(row), canvas.side / 2
    canvas.galaxies(
        row, dice.uniform(m, -half, half), dice.uniform(m, -half, half), field_galaxies(m, dice, *FIELD_MAG)
    )
    row = _rows(n, SATELLITES, dice)
    m = len(row)
    sigma, z = draw_deflectors(m, dice)
    light = early_types(sigma, z, dice)
    fainter = dice.uniform(m, 1.0, 4.0)
    light = light._replace(mag_i=light.mag_i + fainter, r_eff=light.r_eff * 10 ** (-0.15 * fainter))
    r, a = 6.0 ** dice.uniform(m), dice.uniform(m, 0.0, 2 * torch.pi)
    canvas.galaxies(row, r * torch.cos(a), r * torch.sin(a), light)


def _rows(n: int, mean: float, dice: Dice) -> Tensor:
    """Stamp of each neighbour, their number on every stamp Poisson with the given mean."""
    count = torch.poisson(torch.full((n,), mean, device=dice.device), generator=dice.generator)
    return torch.arange(n, device=dice.device).repeat_interleave(count.long())
