"""EZnet of Pourrahmani (2019), sections 3.1 and 4.5, Table 4.2: a densely connected network given by a table.

A block applies batch normalisation, tanh and a convolution to the feature maps it is given, appends the
result to the newest of them, and resizes all by interpolation. A different table makes a different network.

What the thesis leaves open, and what is done here. How many earlier outputs a block sees (the branching
rate b, figure 3.5): 4, which costs 49 million multiply-adds a stamp (b = 2: 34, b = 8: 70). Interpolation:
bilinear, and the mean where 8x8 shrinks to 1x1, since bilinear would look at the four middle pixels alone.
The two fully connected layers: 64 and 32 neurons with tanh. The two sigmoid neurons are trained with the
cross-entropy of the pair, so the logit of a stamp is their difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scoring.models.image_base import ImageModel
from scoring.registry import register_model


@dataclass(frozen=True)
class Block:
    """One row of the architecture table.

    Attributes
    ----------
    kernels : int  convolution kernels, that is new feature maps
    kernel_size : int  side of a kernel [px]
    output_size : int  side that all feature maps leave with [px]
    keep : int  newest outputs (the image counts as the first) that the block sees; older ones are truncated
    concatenate : bool  whether what it saw goes on beside its own output
    """

    kernels: int
    kernel_size: int
    output_size: int
    keep: int = 4
    concatenate: bool = True


TABLE_4_2: tuple[Block, ...] = (
    Block(16, 5, 50),
    Block(12, 4, 40),
    Block(12, 3, 32),
    Block(12, 3, 24),
    *(Block(12, 3, 16),) * 6,  # 5-10
    *(Block(12, 3, 12),) * 10,  # 11-20
    *(Block(12, 3, 8),) * 20,  # 21-40
    *(Block(32, 1, 1),) * 10,  # 41-50
)
"""Blocks 1 to 50 of Table 4.2 (labelled 4.1 in the thesis's text)."""


def plan(table: tuple[Block, ...], channels: int) -> list[list[int]]:
    """Widths of the outputs that each block sees, oldest first; the last entry is what leaves the last block.

    channels : bands of the image, which count as the first output
    """
    seen, widths = [channels], []
    for block in table:
        seen = seen[-block.keep :]
        widths.append(list(seen))
        seen = [*seen, block.kernels] if block.concatenate else [block.kernels]
    last = table[-1].keep
    return [*widths, seen[-last:]]


def multiply_adds(table: tuple[Block, ...], channels: int, npix: int) -> int:
    """Multiply-adds of the convolutions for one stamp."""
    total, size = 0, npix
    for block, seen in zip(table, plan(table, channels), strict=False):
        total += size * size * block.kernels * block.kernel_size**2 * sum(seen)
        size = block.output_size
    return total


class EZnetBlock(nn.Module):
    """Normalisation, tanh, convolution, concatenation, resize: (n, seen, h, w) to (n, passed, out, out)."""

    def __init__(self, block: Block, seen: int, size: int, drop: int) -> None:
        super().__init__()
        k = block.kernel_size
        self.norm = nn.BatchNorm2d(seen)
        pad = ((k - 1) // 2, k // 2)  # as many pixels out as in, also for an even kernel
        self.pad: nn.Module = nn.ZeroPad2d(pad + pad) if k % 2 == 0 else nn.Identity()
        self.conv = nn.Conv2d(seen, block.kernels, k, padding=0 if k % 2 == 0 else k // 2, bias=False)
        self.concatenate, self.drop = block.concatenate, drop
        self.size, self.resize = block.output_size, block.output_size != size
        self.mode = "area" if block.output_size * 2 < size else "bilinear"

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv(self.pad(torch.tanh(self.norm(x))))
        if self.concatenate:
            new = torch.cat([x[:, self.drop :], new], dim=1)
        if not self.resize:
            return new
        if self.mode == "area":
            return nn.functional.adaptive_avg_pool2d(new, self.size)
        return nn.functional.interpolate(
            new, size=(self.size, self.size), mode="bilinear", align_corners=False
        )


class EZnetFeatures(nn.Module):
    """The chain of blocks: (n, channels, npix, npix) to (n, features)."""

    def __init__(self, table: tuple[Block, ...], channels: int, npix: int) -> None:
        super().__init__()
        widths, size, blocks = plan(table, channels), npix, []
        for i, block in enumerate(table):
            after = len(widths[i]) + 1 if block.concatenate else 1
            keep = table[i + 1].keep if i + 1 < len(table) else block.keep
            drop = sum(widths[i][: max(0, after - keep)])  # what the next block will not see is not passed on
            blocks.append(EZnetBlock(block, sum(widths[i]), size, drop))
            size = block.output_size
        self.blocks = nn.Sequential(*blocks)
        self.features = sum(widths[-1]) * size * size

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x).flatten(1)


@dataclass(frozen=True)
class EZnetConfig:
    """Settings of `eznet` and `eznet_1band`.

    Attributes
    ----------
    table : rows of the architecture
    dense : neurons of the two fully connected layers
    npix : side of a stamp [px]
    """

    table: tuple[Block, ...] = TABLE_4_2
    dense: tuple[int, int] = (64, 32)
    npix: int = 64


class EZnet(nn.Module):
    """The network: (n, channels, 64, 64) to a logit (n,)."""

    calibration: Tensor

    def __init__(self, config: EZnetConfig, channels: int) -> None:
        super().__init__()
        self.features = EZnetFeatures(config.table, channels, config.npix)
        first, second = config.dense
        self.dense = nn.Sequential(
            nn.Linear(self.features.features, first),
            nn.Tanh(),
            nn.Linear(first, second),
            nn.Tanh(),
            nn.Linear(second, 2),
        )
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        pair = self.dense(self.features(x))  # (n, 2): negative, positive
        return self.calibration[0] * (pair[:, 1] - pair[:, 0]) + self.calibration[1]


@register_model("eznet")
class EZnetGRI(ImageModel):
    """Pourrahmani (2019), Table 4.2: 50 blocks on 64x64 stamps, bands i, r, g as red, green, blue."""

    reference = "Pourrahmani 2019, PhD thesis, UC Irvine, chapter 4"
    pixels = "stamp"
    n_band = 3
    band_sets = (("i", "r", "g"), ("HSC-I", "HSC-R", "HSC-G"))
    npix = 64
    field_arcsec = None
    default_recipe = "hsc"
    config_class = EZnetConfig
    config: EZnetConfig

    def build(self) -> nn.Module:
        """The network of Table 4.2 with fresh weights."""
        return EZnet(self.config, self.n_band)


@register_model("eznet_1band")
class EZnetOneBand(ImageModel):
    """The same network on one band: 64 pixels of 0.1 arcsec."""

    reference = "Pourrahmani 2019, PhD thesis, UC Irvine, chapter 4; here on one band"
    pixels = "stamp"
    n_band = 1
    npix = 64
    field_arcsec = 6.4
    default_recipe = "space"
    config_class = EZnetConfig
    config: EZnetConfig

    def build(self) -> nn.Module:
        """The network of Table 4.2 with fresh weights, for one band."""
        return EZnet(self.config, self.n_band)
