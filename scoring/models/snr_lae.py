"""`snr_lae`: dense line detection on the residual in units of its error.

What a matched filter knows and the flux alone does not tell is the error of every pixel. The network
therefore sees the continuum-subtracted flux over its error, with the continuum's own S/N (template residuals
scale with it), the excess of the error over its surroundings (sky lines), the good-pixel mask and the places
of other lines that a lens may emit. A residual trunk gives a logit l_i at each of 149 positions along
wavelength; a spectrum holds a line if any position does,

    logit = a log(sum_i exp(l_i)) + b,

with a and b fitted after training on held-out spectra so that the probability is calibrated (Platt 1999), at
the base rate that the card states. Being convolutional to the end, it is equivariant in wavelength, like the
filter. It is trained on the realistic recipe, with a second loss on the l_i, since the generator knows where
the line is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from schema.grid import DLOGLAM, WINDOW_FIRST
from scoring.generate.lines import Lines
from scoring.localise import lens_line_mask
from scoring.models.base import SpectralModel
from scoring.models.layers import ResidualBlock, as_image, channels_last, continuum, conv, smooth
from scoring.registry import register_model

OTHER_LINES_ANGSTROM = (2799.1, 3889.7, 3969.6, 4102.9, 4341.7)
"""Rest vacuum wavelengths where a lens may shine but is not masked: MgII and Balmer lines [Angstrom]."""


@dataclass(frozen=True)
class SnrConfig:
    """Settings of `snr_lae`.

    Attributes
    ----------
    widths : channels of stem and first block, second and third
    stem_kernel : [pixel]; the stem has stride 2
    kernel : of the blocks
    dropout : share of channels dropped before the detection layer
    gamma : exponent of the focal loss; 0, since focal loss distorts the probabilities
    dense_weight : weight of the loss on positions
    mask_half_width : of each of the lens's lines [pixel of 69 km/s]
    clip : largest S/N of a pixel passed on
    """

    widths: tuple[int, int, int] = (16, 32, 32)
    stem_kernel: int = 17
    kernel: int = 3
    dropout: float = 0.1
    gamma: float = 0.0
    dense_weight: float = 1.0
    mask_half_width: int = 8
    clip: float = 30.0


class SnrNet(nn.Module):
    """The network: (n, 5, npix) to a logit (n,)."""

    calibration: Tensor

    def __init__(self, config: SnrConfig) -> None:
        super().__init__()
        a, b, c = config.widths
        self.stem = nn.Sequential(conv(5, a, config.stem_kernel, 2), nn.BatchNorm2d(a), nn.ReLU(inplace=True))
        self.trunk = nn.Sequential(
            ResidualBlock(a, a, 2, config.kernel),
            nn.MaxPool2d((1, 2)),
            ResidualBlock(a, b, 2, config.kernel),
            nn.MaxPool2d((1, 2)),
            ResidualBlock(b, c, 2, config.kernel),
        )
        self.dropout = nn.Dropout2d(config.dropout)
        self.detect = conv(c, 1, 1, bias=True)
        assert self.detect.bias is not None
        nn.init.constant_(self.detect.bias, -6.0)  # lines are rare: start from a low probability everywhere
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))
        self._start_as_matched_filter()

    @torch.no_grad()
    def _start_as_matched_filter(self, sigmas: tuple[float, ...] = (1.2, 1.8, 2.7, 4.0)) -> None:
        """Let the first stem kernels be Gaussians on the residual S/N: matched filters of four widths."""
        kernel: Tensor = self.stem[0].weight  # type: ignore[assignment]  # (a, 5, 1, k)
        offset = torch.arange(kernel.shape[3]) - kernel.shape[3] // 2
        for i, sigma in enumerate(sigmas):
            gauss = torch.exp(-0.5 * (offset / sigma) ** 2)
            kernel[i].zero_()
            kernel[i, 0, 0] = gauss / gauss.norm()

    def positions(self, x: Tensor) -> Tensor:
        """Logit of a line at each of npix / 8 positions, shape (n, npix / 8)."""
        return self.detect(self.dropout(self.trunk(self.stem(as_image(x)))))[:, 0, 0]

    def forward(self, x: Tensor) -> Tensor:
        return self.calibration[0] * torch.logsumexp(self.positions(x), dim=1) + self.calibration[1]


@register_model("snr_lae")
class SnrLAE(SpectralModel):
    """Dense detection on continuum-subtracted S/N, with calibrated probabilities."""

    reference = "this package; after Li et al. 2019, MNRAS 482, 313, and Shu et al. 2016, ApJ 824, 86"
    kind = "network"
    default_recipe = "realistic"
    default_threshold = 0.5  # its probability is calibrated; the cuts that follow ask for completeness
    threshold_at_precision = False
    inputs: ClassVar[tuple[str, ...]] = ("flux", "ivar")
    needs_redshift = True
    preprocessing: ClassVar[tuple[Callable[..., Any], ...]] = (lens_line_mask, continuum, smooth)
    config_class = SnrConfig
    config: SnrConfig

    def preprocess(self, flux: Tensor, ivar: Tensor, z: Tensor, **more: Tensor) -> Tensor:
        """Residual S/N, asinh of continuum S/N, excess of the error over its surroundings, mask, lines.

        See `SpectralModel.preprocess`; five channels.
        """
        good = (ivar > 0) & ~lens_line_mask(z, WINDOW_FIRST, flux.shape[1], self.config.mask_half_width)
        weight = torch.where(good, ivar, torch.zeros_like(ivar))
        root = weight.sqrt()
        level = continuum(flux, weight)
        mask = good.to(flux.dtype)
        residual = ((flux - level) * root).clamp_(-self.config.clip, self.config.clip)
        light = torch.asinh(level * root)
        ratio = smooth(root, mask, 3).clamp(min=1e-6) / root.clamp(min=1e-6)
        excess = torch.where(good, ratio.log().clamp(-1, 2), torch.zeros_like(root))
        other = lens_line_mask(
            z, WINDOW_FIRST, flux.shape[1], self.config.mask_half_width, OTHER_LINES_ANGSTROM
        )
        return torch.stack([residual, light, excess, mask, other.to(flux.dtype)], dim=1)

    def build(self) -> nn.Module:
        """A fresh network, uncalibrated."""
        return channels_last(SnrNet(self.config))

    def loss(self, network: nn.Module, inputs: Tensor, label: Tensor, lines: Lines) -> Tensor:
        """Cross entropy of spectra plus that of positions; a line's cell and its neighbours count as one.

        Parameters
        ----------
        inputs : Tensor, shape (n, 5, npix)
        label : Tensor, shape (n,)
        lines : Lines of the n spectra
        """
        assert isinstance(network, SnrNet)
        logit = network.positions(inputs)  # (n, positions)
        whole = F.binary_cross_entropy_with_logits(torch.logsumexp(logit, dim=1), label)
        cell = inputs.shape[2] // logit.shape[1]
        pixel = torch.log10(lines.wave_angstrom.double().clamp(min=1.0)) / DLOGLAM - WINDOW_FIRST
        place = (pixel / cell).long().clamp(0, logit.shape[1] - 1)
        near = (torch.arange(logit.shape[1], device=logit.device) - place[:, None]).abs() <= 1
        near &= label[:, None] > 0
        own = torch.where(near, logit, logit.new_full((), -30.0)).logsumexp(
            1
        )  # any of the line's cells may fire
        rest = torch.where(near, logit.new_full((), -30.0), logit).logsumexp(1)
        dense = F.softplus(-own[label > 0]).sum() + F.softplus(rest).sum()
        return whole + self.config.dense_weight * dense / len(label)
