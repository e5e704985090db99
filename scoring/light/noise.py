"""Photon noise of the objects and the background noise of the survey, drawn from a seeded generator."""

from __future__ import annotations

import torch
from torch import Tensor

from schema.errors import UserError


def add_noise(image: Tensor, gain: Tensor, background_sigma: Tensor, generator: torch.Generator) -> Tensor:
    """Image with Poisson noise of its own light and Gaussian noise of sky and read-out.

    Parameters
    ----------
    image : Tensor, shape (n, bands, h, w)  noiseless counts
    gain : Tensor, shape (bands,)  electrons a count
    background_sigma : Tensor, shape (bands,)  rms of a pixel without objects [counts]
    generator : the only source of chance; on the image's device

    Returns
    -------
    Tensor, shape (n, bands, h, w)
    """
    for name, value in (("gain", gain), ("background_sigma", background_sigma)):
        if not bool((torch.isfinite(value) & (value > 0)).all()):
            raise UserError(f"{name} = {value.tolist()}: allowed are finite values above 0")
    g = gain.to(image)[:, None, None]
    sigma = background_sigma.to(image)[:, None, None]
    electrons = torch.poisson((image * g).clamp_min(0.0), generator=generator)
    normal = torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
    return electrons / g + sigma * normal
