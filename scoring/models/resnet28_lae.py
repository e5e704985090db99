"""The residual network of Li et al. (2019, MNRAS 482, 313), section 3.3.

Eight residual blocks and 28 convolutions in all, max-pooling between any two blocks, dropout before the
fully-connected layer, focal loss (their equation 1). The spectrum from 3800 to 5000 Angstrom enters as flux,
with the lens's own [NeV] 3347, [NeV] 3427, [OII] 3727 and [NeIII] 3869 masked.

The paper gives neither widths, kernels nor the normalisation. Here: one stem convolution, three in each
block, and three of kernel 1 on the shortcuts where the width grows (1 + 24 + 3 = 28); widths that cost 9
MFLOP a spectrum; the flux of each spectrum less its median, over its pixel noise as the flux itself shows it
from pixel to pixel, a running mean. The errors are not used, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from schema.grid import WINDOW_FIRST, WINDOW_NPIX
from scoring.localise import lens_line_mask
from scoring.models.base import SpectralModel
from scoring.models.layers import ResidualBlock, as_image, channels_last, conv, noise_scale, smooth
from scoring.registry import register_model


@dataclass(frozen=True)
class ResNet28Config:
    """Settings of `resnet28_lae`.

    Attributes
    ----------
    widths : channels of the eight blocks
    convolutions : in each block
    kernel, stem_kernel : lengths [pixel]
    dropout : share of features dropped before the dense layer
    gamma : exponent of the focal loss
    mask_half_width : of each of the lens's lines [pixel of 69 km/s]
    clip : largest normalised flux passed on [noise standard deviations]
    """

    widths: tuple[int, ...] = (8, 16, 16, 24, 24, 32, 32, 32)
    convolutions: int = 3
    kernel: int = 3
    stem_kernel: int = 7
    dropout: float = 0.3
    gamma: float = 2.0
    mask_half_width: int = 12
    clip: float = 50.0


class ResNet28(nn.Module):
    """The network: (n, 1, npix) to a logit (n,)."""

    calibration: Tensor

    def __init__(self, config: ResNet28Config) -> None:
        super().__init__()
        widths = config.widths
        self.stem = nn.Sequential(
            conv(1, widths[0], config.stem_kernel), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)
        )
        blocks: list[nn.Module] = []
        for i, width in enumerate(widths):
            if i > 0:
                blocks.append(nn.MaxPool2d((1, 2)))
            blocks.append(ResidualBlock(widths[max(i - 1, 0)], width, config.convolutions, config.kernel))
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(config.dropout)
        length = WINDOW_NPIX // 2 ** (len(widths) - 1)
        self.dense = nn.Linear(widths[-1] * length, 1)
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        features = self.blocks(self.stem(as_image(x)))  # (n, width, 1, 9)
        logit = self.dense(self.dropout(features.flatten(1)))[:, 0]
        return self.calibration[0] * logit + self.calibration[1]


@register_model("resnet28_lae")
class ResNet28LAE(SpectralModel):
    """Li et al. (2018): 8 blocks, 28 convolutions, on the normalised flux."""

    reference = "Li et al. 2019, MNRAS 482, 313"
    kind = "network"
    default_threshold = 0.5
    inputs = ("flux", "ivar")
    needs_redshift = True
    preprocessing = (lens_line_mask, noise_scale, smooth)
    config_class = ResNet28Config
    config: ResNet28Config

    def preprocess(self, flux: Tensor, ivar: Tensor, z: Tensor, **more: Tensor) -> Tensor:
        """Flux less its median over its pixel noise; the lens's lines and gaps filled by their surroundings.

        See `SpectralModel.preprocess`; one channel.
        """
        half = self.config.mask_half_width
        good = (ivar > 0) & ~lens_line_mask(z, WINDOW_FIRST, flux.shape[1], half)
        weight = good.to(flux.dtype)
        filled = torch.where(good, flux, smooth(flux, weight, 6))
        normalised = (filled - filled.median(dim=1, keepdim=True).values) / noise_scale(flux, weight)
        return normalised.clamp_(-self.config.clip, self.config.clip)[:, None]

    def build(self) -> nn.Module:
        """The network of section 3.3 with fresh weights."""
        return channels_last(ResNet28(self.config))
