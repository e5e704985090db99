"""What every image model offers: bands, a field of view, preprocessing of cutouts, and a logit a cutout.

A model asks for a field: ``npix`` pixels across, over ``field_arcsec`` on the sky or, when that is None, at
the cutout's own pixel scale. :func:`regrid` brings a cutout of any size and scale to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from schema.errors import DataError
from scoring.models.base import Model, code_of

MIN_COVERAGE = 0.5
"""Least share of the field's area that a cutout must cover; a smaller one is not scored."""

RED_BANDS = (
    "F814W", "VIS", "i", "I", "ip", "i+", "HSC-I", "r", "R", "HSC-R", "z", "HSC-Z", "F775W", "F850LP",
    "F606W", "F110W", "F125W", "F140W", "F160W", "g", "y",
)  # fmt: skip
"""Bands in which a one-band model looks for arcs, best first."""


class ImageModel(Model):
    """Base class of the models that score image cutouts.

    A subclass sets the class attributes and defines :meth:`build`; it may redefine :meth:`scale` (values of
    the pixels) or all of :meth:`preprocess`. Their source and the configuration enter
    `preprocessing_hash`, as does that of the functions named in `preprocessing`.

    Attributes
    ----------
    pixels : ``stamp`` (uint8 after the percentile normalisation) or ``image`` (calibrated float32)
    n_band : int  bands that the network sees
    band_sets : tuple of tuples of str  choices of bands in the network's order, best first
    npix : int  width and height of the network's input [pixel]
    field_arcsec : width of the field on the sky [arcsec], or None for the central `npix` pixels
    default_recipe : recipe of simulated images that it is trained on
    """

    modality = "image"
    pixels: ClassVar[Literal["stamp", "image"]] = "stamp"
    n_band: ClassVar[int] = 1
    band_sets: ClassVar[tuple[tuple[str, ...], ...]] = tuple((band,) for band in RED_BANDS)
    npix: ClassVar[int] = 64
    field_arcsec: ClassVar[float | None] = None
    default_recipe: ClassVar[str] = ""

    # ------------------------------------------------------------------ what a subclass may redefine

    def scale(self, x: Tensor) -> Tensor:
        """Values that the network sees, from pixels on its grid: a stamp's 0..255 become 0..1.

        Parameters
        ----------
        x : Tensor, shape (n, n_band, npix, npix), float32
        """
        return x / 255.0 if self.pixels == "stamp" else x

    def preprocess(self, pixels: Tensor, pixscale: Tensor | float | None = None) -> Tensor:
        """Network input from cutouts: the field cut out or resampled, and its values scaled.

        Parameters
        ----------
        pixels : Tensor, shape (n, n_band, ny, nx)  uint8 stamps or calibrated float32 images
        pixscale : Tensor, shape (n,), or float  width of a pixel [arcsec]; unused when `field_arcsec` is None

        Returns
        -------
        Tensor, shape (n, channels, npix, npix), float32

        Raises
        ------
        DataError
            If the cutouts cover less than half of the field, or the pixel scale is needed and not known.
        """
        return self.scale(on_grid(pixels, pixscale, self.npix, self.field_arcsec))

    def loss(self, network: nn.Module, inputs: Tensor, label: Tensor) -> Tensor:
        """Training loss of a batch: the cross entropy of the logits.

        Parameters
        ----------
        inputs : Tensor, shape (n, channels, npix, npix)
        label : Tensor, shape (n,)  1 for a lens, else 0
        """
        return F.binary_cross_entropy_with_logits(network(inputs).to(label.dtype), label)

    # ------------------------------------------------------------------ what every image model has

    @classmethod
    def choose_bands(cls, available: tuple[str, ...]) -> tuple[str, ...] | None:
        """Bands of a cutout to look at, in the network's order; None when no choice of the model is there."""
        return next((wanted for wanted in cls.band_sets if set(wanted) <= set(available)), None)

    @classmethod
    def coverage(cls, ny: int, nx: int, pixscale: float | None = None) -> float:
        """Share of the model's field that a cutout covers; NaN when its scale is needed and unknown."""
        return coverage(ny, nx, pixscale, cls.npix, cls.field_arcsec)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the network's input."""
        kind = torch.uint8 if self.pixels == "stamp" else torch.float32
        stamp = torch.zeros((1, self.n_band, self.npix, self.npix), dtype=kind)
        pixscale = None if self.field_arcsec is None else self.field_arcsec / self.npix
        with torch.inference_mode():
            channels, ny, nx = self.preprocess(stamp, pixscale).shape[1:]
        return channels, ny, nx

    @torch.inference_mode()
    def probability(self, pixels: Tensor, pixscale: Tensor | float | None = None) -> Tensor:
        """Probability that each cutout shows a lensed source, shape (n,)."""
        return torch.sigmoid(self.network()(self.preprocess(pixels, pixscale)))

    def hash_parts(self) -> dict[str, Any]:
        """Pixels, bands, field, configuration and code."""
        steps: tuple[Callable[..., Any], ...] = (
            type(self).preprocess,
            type(self).scale,
            *GEOMETRY,
            *self.preprocessing,
        )
        return {
            "pixels": self.pixels,
            "n_band": self.n_band,
            "band_sets": self.band_sets,
            "npix": self.npix,
            "field_arcsec": self.field_arcsec,
            "config": dataclasses.asdict(self.config),
            "code": [code_of(f) for f in steps],
        }


# ---------------------------------------------------------------------- the model's pixel grid


def coverage(ny: int, nx: int, pixscale: float | None, npix: int, field_arcsec: float | None) -> float:
    """Share of a field that a cutout covers: `npix` pixels, or `field_arcsec` on the sky, each way."""
    if field_arcsec is None:
        width = float(npix)
    elif pixscale is None or not pixscale > 0:
        return float("nan")
    else:
        width = field_arcsec / pixscale
    return min(1.0, ny / width) * min(1.0, nx / width)


def on_grid(pixels: Tensor, pixscale: Tensor | float | None, npix: int, field_arcsec: float | None) -> Tensor:
    """Cutouts on a model's grid, each pixel scale by itself.

    Parameters
    ----------
    pixels : Tensor, shape (n, bands, ny, nx)
    pixscale : Tensor, shape (n,), or float  [arcsec]
    npix, field_arcsec : the model's

    Returns
    -------
    Tensor, shape (n, bands, npix, npix), float32
    """
    if field_arcsec is None:
        return regrid(pixels, float(npix), npix)
    scales = torch.as_tensor(float("nan") if pixscale is None else pixscale, dtype=torch.float64).cpu()
    if not bool((scales > 0).all()):
        raise DataError(
            f"a field of {field_arcsec:g} arcsec needs the pixel scale of every cutout; "
            "ingest with one (pixscale_arcsec), or take a model that works in pixels"
        )
    kinds = scales.unique()
    if len(kinds) == 1:
        return regrid(pixels, field_arcsec / float(kinds[0]), npix)
    out = pixels.new_empty((len(pixels), pixels.shape[1], npix, npix), dtype=torch.float32)
    for kind in kinds:
        at = torch.nonzero(scales == kind).flatten().to(pixels.device)
        out[at] = regrid(pixels[at], field_arcsec / float(kind), npix)
    return out


def regrid(pixels: Tensor, width: float, npix: int) -> Tensor:
    """The central `width` pixels of cutouts, on `npix` pixels.

    Cut out when the two agree to a pixel; else averaged over the area of each new pixel when it is the larger
    one, or interpolated linearly. What lies beyond the cutout is the background, the median of its rim.

    Parameters
    ----------
    pixels : Tensor, shape (n, bands, ny, nx)  any type; NaN counts as background
    width : float  pixels of the cutout that the new grid spans
    npix : int  pixels of the new grid

    Returns
    -------
    Tensor, shape (n, bands, npix, npix), float32

    Raises
    ------
    DataError
        If the cutout covers less than half of the new grid.
    """
    ny, nx = pixels.shape[-2:]
    share = min(1.0, ny / width) * min(1.0, nx / width)
    if share < MIN_COVERAGE - 1e-9:
        raise DataError(
            f"a cutout of {ny}x{nx} pixels covers {share:.0%} of a field of {width:.0f} pixels; "
            f"at least {MIN_COVERAGE:.0%} is needed"
        )
    same_scale = abs(width - npix) < 1.0
    if same_scale and ny >= npix and nx >= npix:
        top, left = (ny - npix) // 2, (nx - npix) // 2
        return _finite(pixels[..., top : top + npix, left : left + npix], pixels)
    x = _finite(pixels, pixels)
    if same_scale:  # some of it lies beyond the cutout
        y0, x0 = (npix - ny) // 2, (npix - nx) // 2
        around = (x0, npix - nx - x0, y0, npix - ny - y0)  # a negative one cuts
        level = background(pixels)[..., None, None]
        return F.pad(x - level, around) + level
    across, down = resampler(nx, width, npix).to(x), resampler(ny, width, npix).to(x)
    there = down.sum(1)[:, None] * across.sum(1)  # (npix, npix): share of each new pixel inside the cutout
    inside = down @ x @ across.T
    if bool((there > 1 - 1e-6).all()):
        return inside
    return inside + (1 - there) * background(pixels)[..., None, None]


def _finite(part: Tensor, whole: Tensor) -> Tensor:
    """Part of cutouts as float32, the background of the whole in place of NaN."""
    if not part.is_floating_point():
        return part.float()
    if bool(torch.isfinite(part.sum())):  # one pass: a NaN or infinite pixel makes the sum so
        return part.float()
    good = torch.isfinite(part)
    return torch.where(good, part, background(whole)[..., None, None]).float()


def background(pixels: Tensor) -> Tensor:
    """Median of the rim of each cutout and band, two pixels wide; 0 where it has none, shape (n, bands)."""
    x = pixels.float()
    rim = torch.cat([x[..., :2, :].flatten(-2), x[..., -2:, :].flatten(-2), x[..., :2].flatten(-2),
                     x[..., -2:].flatten(-2)], dim=-1)  # fmt: skip
    return torch.nanmedian(torch.where(torch.isfinite(rim), rim, torch.nan), dim=-1).values.nan_to_num(0.0)


def resampler(n: int, width: float, npix: int) -> Tensor:
    """Weights of `n` pixels in each of `npix` that span the central `width`, shape (npix, n).

    New pixels larger than the old ones average what they cover, so surface brightness stays; smaller ones
    interpolate between the two nearest centres. A row sums to the share of its pixel that the old ones cover.
    """
    step = width / npix
    edge = n / 2 - width / 2 + step * torch.arange(npix, dtype=torch.float64)[:, None]  # left end, old pixels
    left = torch.arange(n, dtype=torch.float64)
    if step >= 1:
        overlap = torch.minimum(edge + step, left + 1) - torch.maximum(edge, left)
        return (overlap.clamp(min=0) / step).float()
    inside = (torch.clamp(edge + step, max=n) - torch.clamp(edge, min=0)).clamp(min=0) / step  # (npix, 1)
    centre = (edge + step / 2).clamp(0.5, n - 0.5)
    return ((1 - (centre - (left + 0.5)).abs()).clamp(min=0) * inside).float()


GEOMETRY = (on_grid, regrid, _finite, background, resampler)
"""Functions that bring cutouts to a grid; their source is part of every image model's preprocessing hash."""
