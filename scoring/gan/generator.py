"""The generator of LensGenerator (Pourrahmani 2019, section 4.3, figure 3.1): latent vector to colour stamp.

Four transposed convolutions take a vector of 64 to 3x64x64. The thesis names their number, not their widths;
here they go by 8x8, 16x16 and 32x32 with 128, 64 and 32 maps, batch normalisation and ReLU after all but the
last, tanh at the end, and weights drawn from N(0, 0.02), as in Radford et al. (2015), arXiv:1511.06434.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class GeneratorConfig:
    """Settings of the generator.

    Attributes
    ----------
    latent : length of the latent vector
    widths : feature maps after the first, second and third transposed convolution
    channels : bands of the stamp
    """

    latent: int = 64
    widths: tuple[int, int, int] = (128, 64, 32)
    channels: int = 3


class Generator(nn.Module):
    """Latent vectors (n, latent) to stamps (n, channels, 64, 64) with values 0 to 1."""

    def __init__(self, config: GeneratorConfig | None = None) -> None:
        super().__init__()
        self.config = config or GeneratorConfig()
        a, b, c = self.config.widths
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(self.config.latent, a, 8, 1, 0, bias=False),  # 1 -> 8
            nn.BatchNorm2d(a),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False),  # -> 16
            nn.BatchNorm2d(b),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(b, c, 4, 2, 1, bias=False),  # -> 32
            nn.BatchNorm2d(c),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(c, self.config.channels, 4, 2, 1),  # -> 64
            nn.Tanh(),
        )
        for module in self.modules():
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, latent: Tensor) -> Tensor:
        return 0.5 * (self.layers(latent[:, :, None, None]) + 1.0)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n stamps of random latent vectors, shape (n, channels, 64, 64), with gradients."""
        return self(torch.randn(n, self.config.latent, generator=generator))
