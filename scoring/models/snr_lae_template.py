"""`snr_lae_template`: the network of `snr_lae` on the residual of the pipeline's galaxy model.

Shu et al. (2016, ApJ 824, 86) subtract a template fit before they filter. Where a shard holds the pipeline's
best fit (every SDSS and BOSS spec file does) the network can have the same: the first channel is then flux
less that model, free of the galaxy's stellar features, and the second is the model's own S/N. It starts from
the weights of `snr_lae` and is trained on spectra with such a model, which is a little wrong in the galaxy's
features, redshift and level (`scoring.generate.contaminants.template_fit`) and knows nothing of what else is
in the spectrum; with the weights of `snr_lae` as they are it fell below the filter on real galaxies.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from schema.grid import WINDOW_FIRST
from scoring.localise import lens_line_mask
from scoring.models.layers import smooth
from scoring.models.snr_lae import OTHER_LINES_ANGSTROM, SnrLAE
from scoring.registry import register_model


@register_model("snr_lae_template")
class SnrLAETemplate(SnrLAE):
    """Dense detection on the residual of the pipeline's galaxy model."""

    inputs = ("flux", "ivar", "model")
    preprocessing = (lens_line_mask, smooth)
    training_galaxies: ClassVar[dict[str, float]] = {"z_min": 0.15, "floor": 1.0}

    def preprocess(self, flux: Tensor, ivar: Tensor, z: Tensor, **more: Tensor) -> Tensor:
        """As `SnrLAE.preprocess`, with ``more["model"]``, shape (n, npix), as the continuum."""
        half, clip, npix = self.config.mask_half_width, self.config.clip, flux.shape[1]
        good = (ivar > 0) & ~lens_line_mask(z, WINDOW_FIRST, npix, half)
        root = torch.where(good, ivar, torch.zeros_like(ivar)).sqrt()
        mask = good.to(flux.dtype)
        galaxy = more["model"]
        residual = ((flux - galaxy) * root).clamp_(-clip, clip)
        light = torch.asinh(smooth(galaxy, mask, 7) * root)
        ratio = smooth(root, mask, 3).clamp(min=1e-6) / root.clamp(min=1e-6)
        excess = torch.where(good, ratio.log().clamp(-1, 2), torch.zeros_like(root))
        other = lens_line_mask(z, WINDOW_FIRST, npix, half, OTHER_LINES_ANGSTROM)
        return torch.stack([residual, light, excess, mask, other.to(flux.dtype)], dim=1)
