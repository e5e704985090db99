"""From scenes to pixels: sampling, pixel integration and convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from schema.errors import UserError
from scoring.lensing.sie import shear_deflection, sie_deflection
from scoring.light.sersic import sersic

if TYPE_CHECKING:
    from scoring.lensing.scene import LensScene


def pixel_grid(npix: int, scale: float, oversample: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (x, y) of the samples [arcsec], each of shape (npix * oversample, npix * oversample)."""
    n = npix * oversample
    at = (torch.arange(n, dtype=like.dtype, device=like.device) - (n - 1) / 2) * (scale / oversample)
    y, x = torch.meshgrid(at, at, indexing="ij")
    return x, y


def _column(value: Tensor) -> Tensor:
    return value[:, None, None]


def lens_light(scene: LensScene, x: Tensor, y: Tensor) -> Tensor:
    """Unit-flux light of the lens at (x, y), shape (n, *x.shape) [1/arcsec^2]."""
    shape = (scene.lens_r_eff, scene.lens_n, scene.lens_light_q, scene.lens_light_phi)
    return sersic(x, y, *(_column(p) for p in (*shape, scene.lens_x, scene.lens_y)))


def source_light(scene: LensScene, x: Tensor, y: Tensor) -> Tensor:
    """Lensed light at (x, y) of a source of unit unlensed flux, shape (n, *x.shape) [1/arcsec^2]."""
    mass = (scene.theta_e, scene.lens_q, scene.lens_phi, scene.lens_x, scene.lens_y)
    ax, ay = sie_deflection(x, y, *(_column(p) for p in mass))
    sx, sy = shear_deflection(x, y, _column(scene.gamma1), _column(scene.gamma2))
    shape = (scene.source_r_eff, scene.source_n, scene.source_q, scene.source_phi)
    centre = (scene.source_x, scene.source_y)
    return sersic(x - ax - sx, y - ay - sy, *(_column(p) for p in (*shape, *centre)))


def render_components(
    scene: LensScene, npix: int, scale: float, oversample: int | str, components: str
) -> tuple[Tensor | None, Tensor | None]:
    """Pixel-integrated lens and source of unit flux, each (n, npix, npix) or None."""
    k = 4 if oversample == "adaptive" else oversample
    if not isinstance(k, int) or not 1 <= k <= 64:
        raise UserError(f"oversample = {oversample!r}: allowed are 'adaptive' and whole numbers 1 to 64")
    x, y = pixel_grid(npix, scale, k, scene.theta_e)

    def pixels(light: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(light, k) * (scale * scale)

    lens = None if components == "source" else pixels(lens_light(scene, x, y))
    source = None if components == "lens" else pixels(source_light(scene, x, y))
    return lens, source


def convolve(image: Tensor, psf: Tensor) -> Tensor:
    """Image convolved with the PSF, zero beyond the edge.

    image : Tensor, shape (n, bands, h, w); psf : Tensor, shape (size, size) or (bands, size, size)
    """
    kernel = psf.to(image).expand(image.shape[1], *psf.shape[-2:])
    h, w = image.shape[-2:]
    size = kernel.shape[-1]
    shape = (h + size - 1, w + size - 1)
    full = torch.fft.irfft2(torch.fft.rfft2(image, shape) * torch.fft.rfft2(kernel, shape), shape)
    half = size // 2
    return full[..., half : half + h, half : half + w]
