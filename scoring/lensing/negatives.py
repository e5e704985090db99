"""Ordinary survey sources, drawn by the renderer of the lenses, that a search has to turn down."""

from __future__ import annotations

import torch
from torch import Tensor

from scoring.lensing.raster import convolve, pixel_grid
from scoring.light.instruments import HSC_WIDE, Instrument
from scoring.light.photometry import mag_to_counts
from scoring.light.sersic import sersic

KINDS = ("elliptical", "disc")


def render_nonlenses(
    n: int, instrument: Instrument = HSC_WIDE, npix: int = 64, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Noiseless images of n sources that are no lenses.

    Returns
    -------
    images : Tensor, shape (n, bands, npix, npix)  counts
    kind : Tensor, shape (n,)  index into `KINDS`
    """
    generator = generator or torch.Generator().manual_seed(0)
    kind = torch.randint(len(KINDS), (n,), generator=generator)

    def uniform(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(n, generator=generator))[:, None, None]

    index = torch.where(kind == 0, 4.0, 1.0)[:, None, None]
    x, y = pixel_grid(npix, instrument.pixel_scale_arcsec, 2, torch.zeros(1))
    zero = torch.zeros(1)
    light = sersic(x, y, uniform(0.4, 2.0), index, uniform(0.2, 1.0), uniform(0, 3.14), zero, zero)
    light = torch.nn.functional.avg_pool2d(light, 2) * instrument.pixel_scale_arcsec**2
    steps = torch.arange(len(instrument.bands), dtype=torch.float32)
    mag = uniform(18, 23)[:, 0] - torch.where(kind == 0, 0.9, 0.4)[:, None] * steps
    counts = mag_to_counts(mag, torch.tensor(instrument.zero_point))
    return convolve(counts[:, :, None, None] * light[:, None], instrument.psf()), kind
