"""Arclet: a small residual network that sees the cutout as it is and with the galaxy's own light taken off.

Ours. Arcs are faint beside the galaxy that bends them, so preprocessing does what a network would have to
spend most of its layers on: the background goes, the noise becomes the unit, and a smooth elliptical
profile, fitted to the middle by adaptive moments (after Hirata & Seljak 2003, MNRAS 343, 459) and falling
outwards, is subtracted. Values go through asinh (Lupton et al. 2004, PASP 116, 133). The rim, which has told
the background, is left out then. What is left for the network costs 19 (one band) and 21 (three bands)
million multiply-adds in plain 3x3 convolutions.

`arclet` looks at one band, 6 arcsec wide at 0.1 arcsec a pixel; `arclet_gri` at three bands of 64x64 pixels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from scoring.models.image_base import ImageModel
from scoring.registry import register_model

RING_EDGES = (
    0.0,
    0.5,
    1.0,
    1.5,
    2.0,
    2.5,
    3.0,
    3.5,
    4.0,
    5.0,
    6.0,
    7.0,
    8.0,
    9.5,
    11.0,
    13.0,
    15.0,
    18.0,
    22.0,
    27.0,
    35.0,
    45.0,
)
"""Radii at which the galaxy's profile is measured [px]."""


# ---------------------------------------------------------------------- preprocessing


def noise_units(x: Tensor) -> Tensor:
    """Cutouts less their background, over their noise as the rim shows it.

    The background is the median of the rim; the noise that of differences between neighbours in the rim,
    which light that varies slowly does not enter.

    Parameters
    ----------
    x : Tensor, shape (n, bands, h, w)

    Returns
    -------
    Tensor, shape (n, bands, h, w)  in standard deviations; a band without any noise is 0 throughout
    """
    depth = 6
    across = torch.cat([x[..., :depth, :], x[..., -depth:, :]], dim=-2)  # (n, bands, 12, w)
    down = torch.cat([x[..., :depth], x[..., -depth:]], dim=-1)  # (n, bands, h, 12)
    level = median(torch.cat([across.flatten(-2), down.flatten(-2)], dim=-1))
    steps = torch.cat(
        [
            (across[..., ::2, 1:] - across[..., ::2, :-1]).flatten(-2),
            (down[..., 1:, ::2] - down[..., :-1, ::2]).flatten(-2),
        ],
        dim=-1,
    )
    steps = steps.abs_()
    if bool((steps.amin(-1) == 0).any()):  # padding has no noise of its own
        steps = torch.where(steps > 0, steps, torch.nan)
        sigma = steps.nanmedian(-1).values.nan_to_num(0.0) / 0.9539
    else:
        sigma = median(steps) / 0.9539  # of a difference of two: 0.6745 * sqrt(2)
    per_sigma = torch.where(sigma > 0, 1 / sigma.clamp_min(1e-30), 0.0)
    return (x - level[..., None, None]) * per_sigma[..., None, None]


def median(x: Tensor) -> Tensor:
    """Lower median along the last axis; on the CPU by numpy, whose selection uses vector instructions."""
    if x.is_cuda or x.requires_grad:
        return x.median(-1).values
    middle = (x.shape[-1] - 1) // 2
    return torch.from_numpy(np.partition(x.numpy(), middle, axis=-1)[..., middle].copy())


def galaxy_shape(x: Tensor, rounds: int = 4, core: float = 1.6, size: float = 4.5) -> tuple[Tensor, Tensor]:
    """Centre and shape of the object in the middle.

    The centre is that of the light under a narrow Gaussian that follows it; the ellipticity that of the
    moments under a wide one which takes on the same ellipticity, over-relaxed since four rounds have to do.

    Parameters
    ----------
    x : Tensor, shape (n, h, w)  background-subtracted
    rounds : int  of adapting
    core, size : float  standard deviation of the narrow and of the wide weight [px]

    Returns
    -------
    centre : Tensor, shape (n, 2)  x and y from the middle [px]
    ellipticity : Tensor, shape (n, 2)  (a^2 - b^2) / (a^2 + b^2), along x and along the diagonal
    """
    h, w = x.shape[-2:]
    half = min(16, h // 2, w // 2)
    x = x[:, h // 2 - half : h // 2 + half, w // 2 - half : w // 2 + half].clamp_min(0.0)
    xs = torch.arange(2 * half, device=x.device, dtype=x.dtype) - half + (0.5 if w % 2 == 0 else 0.0)
    ys = torch.arange(2 * half, device=x.device, dtype=x.dtype) - half + (0.5 if h % 2 == 0 else 0.0)
    cx, cy = x.new_zeros(len(x), 1), x.new_zeros(len(x), 1)
    for _ in range(2 * rounds):
        gx = torch.exp(-0.5 * ((xs - cx) / core) ** 2)  # (n, 32)
        gy = torch.exp(-0.5 * ((ys - cy) / core) ** 2)
        row, column = (x @ gx[:, :, None])[:, :, 0] * gy, (gy[:, None, :] @ x)[:, 0] * gx
        total = row.sum(1, keepdim=True).clamp_min(1e-12)
        cx = (cx + 1.5 * ((column * (xs - cx)).sum(1, keepdim=True) / total)).clamp(-4.0, 4.0)
        cy = (cy + 1.5 * ((row * (ys - cy)).sum(1, keepdim=True) / total)).clamp(-4.0, 4.0)
    dx, dy = xs - cx, ys - cy
    e = x.new_zeros(len(x), 2)
    for _ in range(rounds):
        weight = x * torch.exp(_radius2(dx, dy, e) * (-0.5 / size**2))  # (n, 32, 32)
        xx, yy = (weight.sum(1) * dx * dx).sum(1), (weight.sum(2) * dy * dy).sum(1)
        xy = ((weight @ dx[:, :, None])[:, :, 0] * dy).sum(1)
        moments = torch.stack([xx - yy, 2 * xy], dim=1) / (xx + yy).clamp_min(1e-12)[:, None]
        e = e + 2.0 * (moments - e)
        e = e * (0.85 / e.norm(dim=1, keepdim=True).clamp_min(0.85))
    return torch.cat([cx, cy], dim=1), e


def _radius2(dx: Tensor, dy: Tensor, e: Tensor) -> Tensor:
    """Squared radius of the circle as large as the ellipse: dx (n, w), dy (n, h), e (n, 2) to (n, h, w)."""
    e1, e2 = e[:, :1], e[:, 1:]
    norm = torch.sqrt(1 - e1 * e1 - e2 * e2)
    square = (dy * dy * (1 + e1) / norm)[:, :, None] + (dx * dx * (1 - e1) / norm)[:, None, :]
    return square - (dy * (2 * e2 / norm))[:, :, None] * dx[:, None, :]


def smooth_galaxy(x: Tensor, centre: Tensor, ellipticity: Tensor) -> Tensor:
    """Light of a galaxy whose isophotes are ellipses and whose brightness falls outwards.

    A ring's level is the mean of its pixels that are not far above the others, so an arc hardly enters; a
    level is never above one further in, so a ring of light hardly does.

    Parameters
    ----------
    x : Tensor, shape (n, bands, h, w)
    centre, ellipticity : from `galaxy_shape`

    Returns
    -------
    Tensor, shape (n, bands, h, w)
    """
    n, bands, h, w = x.shape
    xs = torch.arange(w, device=x.device, dtype=x.dtype) - (w - 1) / 2 - centre[:, :1]
    ys = torch.arange(h, device=x.device, dtype=x.dtype) - (h - 1) / 2 - centre[:, 1:]
    radius = _radius2(xs, ys, ellipticity).clamp_min(0.0).sqrt().flatten(1)  # (n, h*w)
    upper_of, low_of, width_of = _ring_tables(x.device)
    half = (
        (radius * 2).long().clamp_max(len(upper_of) - 1).flatten()
    )  # index_select is much faster than bucketize
    upper = upper_of.index_select(0, half).view_as(radius)
    low, width = low_of.index_select(0, half).view_as(radius), width_of.index_select(0, half).view_as(radius)
    share = ((radius - low) * width).clamp(0.0, 1.0)  # of the way from one radius to the next
    near = upper - 1 + (share > 0.5)
    flat, rings = x.flatten(2), x.new_zeros((n, bands, len(RING_EDGES)))
    at = near[:, None].expand(n, bands, h * w)
    pixels = rings[:, 0].scatter_add(1, near, torch.ones_like(radius))[:, None]
    mean = rings.scatter_add(2, at, flat) / pixels.clamp_min(1.0)
    square = rings.scatter_add(2, at, flat * flat) / pixels.clamp_min(1.0)
    spread = (square - mean * mean).clamp_min(1e-12).sqrt()
    limit = mean + spread + 1e-5 * mean.abs()  # more than rounding: a ring of one pixel keeps it
    keep = (flat <= limit.gather(2, at)).to(x.dtype)
    kept = rings.scatter_add(2, at, keep)
    level = rings.scatter_add(2, at, flat * keep) / kept.clamp_min(1.0)
    level = torch.where(kept > 0, level, torch.inf).cummin(dim=2).values.clamp_min(0.0)
    peak = torch.where(level < torch.inf, level, 0.0).amax(2, keepdim=True)
    level = torch.minimum(level, peak)  # rings too small for a pixel, in the middle
    inner, outer = (level.gather(2, i[:, None].expand(n, bands, h * w)) for i in (upper - 1, upper))
    return torch.lerp(inner, outer, share[:, None]).reshape(x.shape)


@functools.cache
def _ring_tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For every half pixel of radius: the next edge's number, the edge before, 1 over their distance."""
    edges = torch.tensor(RING_EDGES)  # all are multiples of half a pixel
    upper = torch.bucketize(torch.arange(0.25, RING_EDGES[-1], 0.5), edges)
    return upper.to(device), edges[upper - 1].to(device), (1 / (edges[upper] - edges[upper - 1])).to(device)


def squash(x: Tensor) -> Tensor:
    """asinh of values in units of the noise, scaled to about -1 to 3: linear within the noise."""
    if x.is_cuda or x.requires_grad:
        half = x.abs() * 0.5
        return torch.log(half + torch.sqrt(half * half + 1)).copysign(x) * 0.4
    out = (x * 0.5).numpy()  # torch.asinh on the CPU is thirty times slower than numpy's
    np.arcsinh(out, out=out)
    out *= np.float32(0.4)
    return torch.from_numpy(out)


def middle(x: Tensor, side: int) -> Tensor:
    """The central `side` x `side` pixels, shape (..., side, side)."""
    top, left = (x.shape[-2] - side) // 2, (x.shape[-1] - side) // 2
    return x[..., top : top + side, left : left + side]


# ---------------------------------------------------------------------- network


@dataclass(frozen=True)
class ArcletConfig:
    """Settings of the Arclet networks.

    Attributes
    ----------
    widths : channels at a half, a quarter and an eighth of the cutout's size
    blocks : residual blocks at each
    stem_kernel : side of the first kernel [px]
    places : channels whose every pixel is looked at by the last layer
    dropout : share of features dropped before the last layer
    side : pixels across that the network sees, the middle of the cutout
    """

    widths: tuple[int, int, int] = (16, 32, 64)
    blocks: tuple[int, int, int] = (1, 2, 2)
    stem_kernel: int = 5
    places: int = 8
    dropout: float = 0.2
    side: int = 52


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class ArcletNet(nn.Module):
    """The network: (n, channels, npix, npix) to a logit (n,)."""

    calibration: Tensor

    def __init__(self, config: ArcletConfig, channels: int, npix: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(channels, config.widths[0], config.stem_kernel, 2)]
        size, before = (npix + 1) // 2, config.widths[0]
        for i, (width, blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
            if i > 0:
                layers.append(_conv(before, width, 3, 2))
                size = (size + 1) // 2
            layers += [Residual(width) for _ in range(blocks)]
            before = width
        self.body = nn.Sequential(*layers)
        self.places = _conv(before, config.places, 1)
        self.dense = nn.Sequential(
            nn.Linear(2 * before + config.places * size * size, 48), nn.ReLU(), nn.Dropout(config.dropout),
            nn.Linear(48, 1),
        )  # fmt: skip
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.body(x)  # (n, width, 8, 8)
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3)), self.places(maps).flatten(1)], dim=1)
        return self.calibration[0] * self.dense(pooled)[:, 0] + self.calibration[1]


# ---------------------------------------------------------------------- models


@register_model("arclet")
class Arclet(ImageModel):
    """Ours: one band, the cutout beside the same without the galaxy's smooth light."""

    reference = "this project"
    pixels = "image"
    n_band = 1
    npix = 60
    field_arcsec = 6.0
    default_recipe = "space"
    preprocessing = (noise_units, median, galaxy_shape, _radius2, smooth_galaxy, _ring_tables, squash, middle)
    config_class = ArcletConfig
    config: ArcletConfig

    def scale(self, x: Tensor) -> Tensor:
        """Two channels: the cutout and what is left of it without the galaxy, both through asinh."""
        x = noise_units(x)
        residual = x - smooth_galaxy(x, *galaxy_shape(x[:, 0]))
        return squash(middle(torch.cat([x, residual], dim=1), self.config.side))

    def build(self) -> nn.Module:
        """A fresh network."""
        return ArcletNet(self.config, 2, self.config.side)


@register_model("arclet_gri")
class ArcletGRI(ImageModel):
    """Ours: bands i, r, g; also what is left of g when the galaxy's colour is taken out with i."""

    reference = "this project"
    pixels = "image"
    n_band = 3
    band_sets = (("i", "r", "g"), ("HSC-I", "HSC-R", "HSC-G"))
    npix = 64
    field_arcsec = None
    default_recipe = "hsc"
    preprocessing = (noise_units, median, galaxy_shape, _radius2, smooth_galaxy, _ring_tables, squash, middle)
    config_class = ArcletConfig
    config: ArcletConfig

    def __init__(self, config: ArcletConfig | None = None) -> None:
        super().__init__(config or ArcletConfig(stem_kernel=3, side=56))

    def scale(self, x: Tensor) -> Tensor:
        """Seven channels: bands, bands without the galaxy, g less i at the galaxy's colour; asinh of all."""
        x = noise_units(x)
        residual = x - smooth_galaxy(x, *galaxy_shape(x.mean(1)))
        core = middle(x, 4).mean((2, 3))  # (n, 3)
        colour = (core[:, 2] / core[:, 0].clamp_min(1.0)).clamp(0.0, 4.0)[:, None, None]
        blue = (x[:, 2] - colour * x[:, 0]) / torch.sqrt(1 + colour**2)
        return squash(middle(torch.cat([x, residual, blue[:, None]], dim=1), self.config.side))

    def build(self) -> nn.Module:
        """A fresh network."""
        return ArcletNet(self.config, 7, self.config.side)
