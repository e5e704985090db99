"""`lens_gan`: LensGenerator of Pourrahmani (2019, section 4.3), which draws lenses and scores none.

It stands in the registry so that its weights, card and hash are kept like those of every other model; asked
to score, it refuses. scoring.gan has the networks and their training.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from schema.errors import UserError
from scoring.gan.generator import Generator, GeneratorConfig
from scoring.models.image_base import ImageModel
from scoring.registry import register_model


@register_model("lens_gan")
class LensGan(ImageModel):
    """Generator of lens stamps, 3x64x64 with bands i, r, g."""

    reference = "Pourrahmani 2019, PhD thesis, UC Irvine, section 4.3; Radford et al. 2015, arXiv:1511.06434"
    kind: ClassVar[Literal["generator"]] = "generator"  # type: ignore[assignment]
    n_band = 3
    band_sets = (("i", "r", "g"),)
    default_recipe = "hsc"
    config_class = GeneratorConfig
    config: GeneratorConfig

    def preprocess(self, pixels: Tensor, pixscale: Tensor | float | None = None) -> Tensor:
        """Refuses: a generator looks at nothing."""
        raise UserError("lens_gan draws lenses and scores none; score with eznet, which it helps to train")

    def build(self) -> nn.Module:
        """A fresh generator."""
        return Generator(self.config)

    @torch.no_grad()
    def draw(self, n: int, seed: int) -> Tensor:
        """n stamps, uint8, shape (n, 3, 64, 64).

        Batch normalisation uses each batch's own statistics, as in training.
        """
        network = self.network()
        assert isinstance(network, Generator)
        random = torch.Generator().manual_seed(seed)
        network.train()
        try:
            size = max(64, n)
            made = network.draw(size, random)[:n]
        finally:
            network.eval()
        return (made * 255.0 + 0.5).clamp(0, 255).to(torch.uint8)
