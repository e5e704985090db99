"""Image models without weights, whose answers a test can foresee."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scoring.models.image_base import ImageModel
from scoring.registry import register_model


@dataclass(frozen=True)
class AnnulusConfig:
    """Inner and outer radius [px]."""

    inner: float = 8.0
    outer: float = 20.0


class Annulus(nn.Module):
    """How bright the brightest g-band light is that lies around the middle."""

    def __init__(self, config: AnnulusConfig) -> None:
        super().__init__()
        at = torch.arange(64) - 31.5
        r = torch.hypot(at[:, None], at[None, :])
        self.register_buffer("ring", ((r > config.inner) & (r < config.outer)).float())

    def forward(self, x: Tensor) -> Tensor:
        light = x[:, 2] * self.ring  # (n, 64, 64), bands i, r, g
        smooth = torch.nn.functional.avg_pool2d(light[:, None], 3, 1, 1)
        logit: Tensor = 30.0 * (smooth.flatten(1).topk(12).values.mean(1) - 0.35)
        return logit


@register_model("annulus_for_tests")
class AnnulusModel(ImageModel):
    """A filter without weights that finds bright arcs."""

    kind = "filter"
    n_band = 3
    band_sets = (("i", "r", "g"),)
    npix = 64
    config_class = AnnulusConfig

    def build(self) -> nn.Module:
        """The filter."""
        return Annulus(self.config)


class Middle(nn.Module):
    """How bright the middle of a stamp is: every source with light is found."""

    def __init__(self, config: AnnulusConfig) -> None:
        super().__init__()
        self.half = int(config.inner)

    def forward(self, x: Tensor) -> Tensor:
        side, h = x.shape[-1] // 2, self.half
        logit: Tensor = x[:, :, side - h : side + h, side - h : side + h].mean((1, 2, 3)) + 1.0
        return logit


@register_model("middle_for_tests")
class MiddleModel(ImageModel):
    """A filter without weights that takes one band of any instrument."""

    kind = "filter"
    npix = 64
    config_class = AnnulusConfig

    def build(self) -> nn.Module:
        """The filter."""
        return Middle(self.config)
