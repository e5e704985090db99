"""Pieces that the networks share: residual block, focal loss, robust continuum and noise scale.

Networks keep spectra as images of height one in channels-last order: on CPU that trains twice as fast as
one-dimensional convolutions, and the arithmetic is the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK = 8  # pixels averaged before the continuum is smoothed


def conv(n_in: int, n_out: int, kernel: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """Convolution along wavelength that keeps the length, up to its stride."""
    return nn.Conv2d(n_in, n_out, (1, kernel), (1, stride), (0, kernel // 2), bias=bias)


class ResidualBlock(nn.Module):
    """``relu(x + F(x))`` with F a chain of convolutions, each followed by batch norm (He et al. 2015).

    The shortcut is the identity, or a convolution of kernel 1 where the number of channels changes.
    """

    def __init__(self, n_in: int, n_out: int, n_conv: int, kernel: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(n_conv):
            layers += [conv(n_in if i == 0 else n_out, n_out, kernel), nn.BatchNorm2d(n_out)]
            if i < n_conv - 1:
                layers.append(nn.ReLU(inplace=True))
        self.body = nn.Sequential(*layers)
        self.shortcut: nn.Module = nn.Identity() if n_in == n_out else conv(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.body(x), inplace=True)


def as_image(x: Tensor) -> Tensor:
    """(n, channels, npix) to (n, channels, 1, npix) in channels-last memory order."""
    return x.unsqueeze(2).contiguous(memory_format=torch.channels_last)


def channels_last(network: nn.Module) -> nn.Module:
    """The network with its convolution kernels in channels-last order."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def focal_loss(logit: Tensor, label: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean of equation 1 of Li et al. (2018), after Lin et al. (2017): ``-(1 - p_true)^gamma log p_true``.

    Parameters
    ----------
    logit, label : Tensor of equal shape
    gamma : float  0 gives the cross entropy
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logit, label, reduction="none")
    p_true = torch.exp(-cross_entropy)
    return ((1 - p_true) ** gamma * cross_entropy).mean()


def noise_scale(flux: Tensor, weight: Tensor, half_blocks: int = 8) -> Tensor:
    """Pixel noise along each spectrum, from the flux alone.

    The running mean of absolute differences two pixels apart, which for Gaussian noise is 1.128 standard
    deviations; differences beyond five times the spectrum's mean count as that much, so that lines do not.

    Parameters
    ----------
    flux : Tensor, shape (n, npix)
    weight : Tensor, shape (n, npix)  1 for pixels to use, 0 for others
    half_blocks : int  half width of the running mean [8 pixels]

    Returns
    -------
    Tensor, shape (n, npix)  one standard deviation, in the unit of `flux`
    """
    step = F.pad((flux[:, 2:] - flux[:, :-2]).abs(), (1, 1))
    both = F.pad(weight[:, 2:] * weight[:, :-2], (1, 1))
    mean = (step * both).sum(1, keepdim=True) / both.sum(1, keepdim=True).clamp(min=1)
    return (smooth(torch.minimum(step, 5 * mean), both, half_blocks) / 1.128).clamp(min=0.05 * mean + 1e-6)


def smooth(values: Tensor, weight: Tensor, half_blocks: int) -> Tensor:
    """Weighted running mean, in blocks of 8 pixels and back by linear interpolation.

    Parameters
    ----------
    values, weight : Tensor, shape (n, npix), npix a multiple of 8
    half_blocks : int  blocks on either side that enter the mean

    Returns
    -------
    Tensor, shape (n, npix)
    """
    n, npix = values.shape
    sums = torch.stack([values * weight, weight], dim=1)  # (n, 2, npix)
    blocks = sums.view(n, 2, npix // BLOCK, BLOCK).sum(-1)
    size = 2 * half_blocks + 1
    running = F.avg_pool1d(blocks, size, stride=1, padding=half_blocks, count_include_pad=True)
    mean = running[:, 0] / running[:, 1].clamp(min=1e-12)  # (n, npix / 8)
    return F.interpolate(mean[:, None], size=npix, mode="linear", align_corners=False)[:, 0]


def continuum(flux: Tensor, weight: Tensor, half_blocks: int = 7, clip: float = 3.0) -> Tensor:
    """Smooth continuum that lines do not lift: a weighted running mean, then one without outliers.

    Parameters
    ----------
    flux : Tensor, shape (n, npix)
    weight : Tensor, shape (n, npix)  inverse variance, 0 for pixels to leave out
    half_blocks : int  half width [8 pixels]
    clip : float  blocks of a pixel's residual beyond this many standard deviations are left out of the second
        pass

    Returns
    -------
    Tensor, shape (n, npix)
    """
    first = smooth(flux, weight, half_blocks)
    chi = (flux - first) * weight.sqrt()
    outlier = F.max_pool1d(chi.abs()[:, None], 5, stride=1, padding=2)[:, 0] > clip
    return smooth(flux, torch.where(outlier, torch.zeros_like(weight), weight), half_blocks)
