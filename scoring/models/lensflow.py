"""LensFlow of Pourrahmani et al. (2018, ApJ 856, 68; thesis 2019, chapter 2, Table 2.1).

Three rounds of 5x5 convolution, tanh and 2x2 pooling, then three dense layers. One band, 100x100 pixels,
whose histogram is matched to a template so that all values lie between 0 and 1.

Where the text and Table 2.1 differ, the table is followed: the first layer is a convolution (the text
calls it an average-pooling of 5x5), the pooling is by maximum with stride 2 (the text says stride 1, yet
96 becomes 48), and the dense layers are followed by ReLU (the text calls the first linear) and each by a
dropout of one half.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from schema.normalise import default_template
from scoring.models.image_base import ImageModel
from scoring.registry import register_model


@dataclass(frozen=True)
class LensFlowConfig:
    """Settings of `lensflow`.

    Attributes
    ----------
    widths : filters of the three convolutions
    kernel : side of a filter [px]
    dense : neurons of the three dense layers
    dropout : share of neurons set to zero in training
    npix : side of an image [px]
    field_arcsec : side of an image on the sky; 200 pixels of 0.03 arcsec
    """

    widths: tuple[int, int, int] = (30, 60, 90)
    kernel: int = 5
    dense: tuple[int, int, int] = (1000, 800, 600)
    dropout: float = 0.5
    npix: int = 100
    field_arcsec: float = 6.0


class LensFlowNet(nn.Module):
    """The network of Table 2.1: (n, 1, 100, 100) to a logit (n,)."""

    calibration: Tensor

    def __init__(self, config: LensFlowConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, size = 1, config.npix
        for width in config.widths:
            layers += [nn.Conv2d(channels, width, config.kernel), nn.Tanh(), nn.MaxPool2d(2)]
            channels, size = width, (size - config.kernel + 1) // 2
        self.features = nn.Sequential(*layers)  # layers 1 to 9, which pretraining transfers
        head: list[nn.Module] = []
        n = channels * size * size  # 7290
        for width in config.dense:
            head += [nn.Linear(n, width), nn.ReLU(), nn.Dropout(config.dropout)]
            n = width
        self.dense = nn.Sequential(*head, nn.Linear(n, 2))
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        pair = self.dense(self.features(x).flatten(1))  # (n, 2): non-lensed, lensed; the softmax's two logits
        return self.calibration[0] * (pair[:, 1] - pair[:, 0]) + self.calibration[1]


@functools.cache
def _template(n: int) -> Tensor:
    """The template's value at each of `n` ranks."""
    quantiles = default_template()
    return torch.from_numpy(
        np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(quantiles)), quantiles)
    ).float()


def match_histogram(x: Tensor) -> Tensor:
    """Images with the template's histogram, rank by rank: `schema.normalise.histogram_match` on tensors.

    Parameters
    ----------
    x : Tensor, shape (n, 1, h, w)  finite

    Returns
    -------
    Tensor, shape (n, 1, h, w)  0 to 1; equal pixels get equal values, that of their middle rank
    """
    flat = x.flatten(1)
    height, place = sort(flat)
    table = _template(flat.shape[1]).to(x)
    value = table.repeat(len(flat), 1)
    tied = (height[:, 1:] == height[:, :-1]).flatten().nonzero()[:, 0]  # with the next of its row
    if len(tied):
        tied += tied // (flat.shape[1] - 1)  # numbers of pixels in rising order, row after row
        first = torch.ones_like(tied, dtype=torch.bool)
        first[1:] = tied[1:] != tied[:-1] + 1
        run = first.cumsum(0) - 1
        length = torch.bincount(run)
        middle = (tied[first] % flat.shape[1] + length.double() / 2).round().long()
        value.view(-1)[tied] = value.view(-1)[tied + 1] = table[middle][run]
    return torch.empty_like(flat).scatter_(1, place, value).reshape(x.shape)


def sort(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each row in rising order, and where its values were; x has shape (n, up to 2^31).

    On the CPU numpy sorts whole numbers with vector instructions, so value and place are packed into one:
    the bits of a float32, turned for negative ones, rise with its value. What is returned for the values then
    are these numbers.
    """
    if x.is_cuda or x.dtype != torch.float32:
        return tuple(x.sort(dim=1))  # type: ignore[return-value]
    bits = (x + 0.0).view(torch.int32)  # -0 becomes 0
    key = bits.bitwise_xor(bits.bitwise_right_shift(31).bitwise_and_(0x7FFFFFFF)).long()
    key.bitwise_left_shift_(31).bitwise_or_(torch.arange(x.shape[1]))
    key.numpy().sort(axis=1)
    return key.bitwise_right_shift(31), key.bitwise_and_(0x7FFFFFFF)


@register_model("lensflow")
class LensFlow(ImageModel):
    """Pourrahmani et al. (2018), Table 2.1: three convolutions and three dense layers on one band."""

    reference = "Pourrahmani, Nayyeri & Cooray 2018, ApJ 856, 68; Pourrahmani 2019, chapter 2"
    pixels = "image"
    n_band = 1
    npix = 100
    field_arcsec = 6.0
    default_recipe = "space"
    preprocessing = (match_histogram, sort, default_template)
    config_class = LensFlowConfig
    config: LensFlowConfig

    def scale(self, x: Tensor) -> Tensor:
        """Pixels matched to the template's histogram, 0 to 1."""
        return match_histogram(x)

    def build(self) -> nn.Module:
        """The network of Table 2.1 with fresh weights."""
        return LensFlowNet(self.config)

    def pack(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Dense layers as int8 with a scale for every row: 9 MB instead of 35."""
        out = dict(state)
        for key in [k for k, v in state.items() if v.ndim == 2 and v.numel() > 10_000]:
            weight = out.pop(key).float()
            scale = weight.abs().amax(1).clamp_min(1e-12) / 127
            out[f"{key}.int8"] = (weight / scale[:, None]).round().to(torch.int8)
            out[f"{key}.scale"] = scale
        return out

    def unpack(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Dense layers as float32 again."""
        out = {key: value for key, value in stored.items() if not key.endswith((".int8", ".scale"))}
        for key in (k.removesuffix(".int8") for k in stored if k.endswith(".int8")):
            out[key] = stored[f"{key}.int8"].float() * stored[f"{key}.scale"][:, None]
        return out
