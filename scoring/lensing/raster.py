"""From scenes to pixels: where the light is steep a pixel is integrated, elsewhere one sample serves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from schema.errors import UserError
from scoring.lensing.fused import Lensed, lensed_grid, lensed_points, prepare, profile, unit_circle
from scoring.lensing.quadrature import cusp_square, gauss_square
from scoring.lensing.sie import shear_deflection, sie_deflection
from scoring.light.sersic import sersic

if TYPE_CHECKING:
    from scoring.lensing.scene import LensScene


@dataclass(frozen=True)
class Accuracy:
    """How hard the adaptive rule works.

    Attributes
    ----------
    tolerance : error of a pixel, over the source's brightest, from which it gets `order` squared samples
    steep : the same for `steep_order` squared samples
    drop : a source whose light falls by this much (in ln) across a pixel is sought between the pixel centres
    rings : samples along a side for the lens's light in the pixels 1, 2, ... away from its centre
    """

    tolerance: float = 1.5e-3
    steep: float = 5e-2
    order: int = 3
    steep_order: int = 6
    drop: float = 0.2
    cusp_order: int = 6
    rings: tuple[int, ...] = (8, 4, 3, 2)


DEFAULT = Accuracy()
Light = Callable[[Tensor, Tensor, Tensor], Tensor]
CHUNK_PIXELS = 64 * 64 * 64
CHUNK_PIXELS_GPU = 2**26
"""Pixels worked on at a time: their temporaries stay in the cache."""


def pixel_centres(npix: int, scale: float, like: Tensor) -> Tensor:
    """Positions of pixel centres along a side [arcsec], shape (npix,)."""
    return (torch.arange(npix, dtype=like.dtype, device=like.device) - (npix - 1) / 2) * scale


def pixel_grid(npix: int, scale: float, oversample: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (x, y) of the samples [arcsec], each of shape (npix * oversample, npix * oversample)."""
    at = pixel_centres(npix * oversample, scale / oversample, like)
    y, x = torch.meshgrid(at, at, indexing="ij")
    return x, y


def lens_light(scene: Any, x: Tensor, y: Tensor) -> Tensor:
    """Unit-flux light of the lens at (x, y) [1/arcsec^2]; the scene's parameters broadcast from the right."""
    return sersic(
        x, y, scene.lens_r_eff, scene.lens_n, scene.lens_light_q, scene.lens_light_phi,
        scene.lens_x, scene.lens_y,
    )  # fmt: skip


def source_light(scene: Any, x: Tensor, y: Tensor) -> Tensor:
    """Lensed light at (x, y) of a source of unit unlensed flux [1/arcsec^2]; as `lens_light`."""
    ax, ay = sie_deflection(x, y, scene.theta_e, scene.lens_q, scene.lens_phi, scene.lens_x, scene.lens_y)
    sx, sy = shear_deflection(x, y, scene.gamma1, scene.gamma2)
    return sersic(
        x - ax - sx, y - ay - sy, scene.source_r_eff, scene.source_n, scene.source_q, scene.source_phi,
        scene.source_x, scene.source_y,
    )  # fmt: skip


def chunk_size(npix: int, oversample: int | str, device: torch.device) -> int:
    """How many stamps to work on at a time; `UserError` for an unknown way to sample."""
    if oversample != "adaptive" and (not isinstance(oversample, int) or not 1 <= oversample <= 64):
        raise UserError(f"oversample = {oversample!r}: allowed are 'adaptive' and whole numbers 1 to 64")
    samples = npix * npix * (1 if isinstance(oversample, str) else oversample**2)
    return max(1, (CHUNK_PIXELS if device.type == "cpu" else CHUNK_PIXELS_GPU) // samples)


def render_components(
    scene: LensScene,
    npix: int,
    scale: float,
    oversample: int | str,
    components: str,
    accuracy: Accuracy = DEFAULT,
) -> tuple[Tensor | None, Tensor | None]:
    """Pixel-integrated lens and source of unit flux, each (n, npix, npix), or None where not asked for.

    All at once: `render` cuts a long scene into chunks.
    """
    lens = None if components == "source" else _lens(scene, npix, scale, oversample, accuracy)
    source = None if components == "lens" else _source(scene, npix, scale, oversample, accuracy)
    return lens, source


class _Columns:
    """A scene's parameters shaped to broadcast against positions."""

    def __init__(self, scene: LensScene, row: Tensor | None = None) -> None:
        for name, value in scene.items():
            setattr(self, name, value[:, None, None] if row is None else value[row])


def _uniform(scene: LensScene, light: Any, npix: int, scale: float, k: int) -> Tensor:
    """Mean of k by k samples of every pixel, times its area; differentiable."""
    x, y = pixel_grid(npix, scale, k, scene.theta_e)
    fine = light(_Columns(scene), x, y).expand(len(scene), npix * k, npix * k)
    return torch.nn.functional.avg_pool2d(fine, k) * (scale * scale)


def _tracked(scene: LensScene) -> bool:
    return torch.is_grad_enabled() and any(value.requires_grad for _, value in scene.items())


class Blobs(NamedTuple):
    """Elliptical Sérsic profiles of unit flux on a stamp; every field has shape (m,), lengths in arcsec."""

    x: Tensor
    y: Tensor
    r_eff: Tensor
    n: Tensor
    q: Tensor
    phi: Tensor


def _lens(scene: LensScene, npix: int, scale: float, oversample: int | str, accuracy: Accuracy) -> Tensor:
    """Pixel-integrated lens light: one sample a pixel, more in a window around its centre."""
    if isinstance(oversample, int):
        return _uniform(scene, lens_light, npix, scale, oversample)
    blobs = Blobs(
        scene.lens_x, scene.lens_y, scene.lens_r_eff, scene.lens_n, scene.lens_light_q, scene.lens_light_phi
    )
    if not _tracked(scene):
        return render_blobs(blobs, npix, scale, accuracy)
    image = _uniform(scene, lens_light, npix, scale, 1)

    def light(row: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return lens_light(_Columns(scene, row), x, y)

    return _refine_centre(image, blobs, light, npix, scale, accuracy)


def render_blobs(blobs: Blobs, npix: int, scale: float, accuracy: Accuracy = DEFAULT) -> Tensor:
    """Pixel-integrated Sérsic profiles of unit flux, shape (m, npix, npix); no gradients."""
    shape = profile(blobs.r_eff, blobs.n)
    m = unit_circle(blobs.r_eff, blobs.q, blobs.phi).view(-1, 4).t()
    at = pixel_centres(npix, scale, blobs.x)
    dx, dy = at - blobs.x[:, None, None], at[:, None] - blobs.y[:, None, None]
    m0, m1, m2, m3 = m[:, :, None, None]
    r2 = (m0 * dx + m1 * dy).square_()
    p2 = m2 * dx + m3 * dy
    image = shape.columns().light_(r2.addcmul_(p2, p2)).mul_(scale * scale)

    def light(row: Tensor, x: Tensor, y: Tensor) -> Tensor:
        m0, m1, m2, m3 = m[:, row]
        x, y = x - blobs.x[row], y - blobs.y[row]
        p1 = (x * m0).addcmul_(y, m1)
        p2 = x.mul_(m2).addcmul_(y, m3)
        return shape.take(row).light_(p1.square_().addcmul_(p2, p2))

    return _refine_centre(image, blobs, light, npix, scale, accuracy)


def _refine_centre(
    image: Tensor, blobs: Blobs, light: Light, npix: int, scale: float, accuracy: Accuracy
) -> Tensor:
    """Image with the pixels around each centre integrated: the cusp's own by a rule made for cusps."""
    px, py = blobs.x / scale + (npix - 1) / 2, blobs.y / scale + (npix - 1) / 2
    ix, iy = px.detach().round().long(), py.detach().round().long()
    where, value = [], []
    reach = len(accuracy.rings)
    step = torch.arange(-reach, reach + 1, device=image.device)
    dj, di = step.repeat(len(step)), step.repeat_interleave(len(step))
    ring = torch.maximum(di.abs(), dj.abs())
    for level in range(reach + 1):
        on = (ring == level).nonzero()[:, 0]
        col, line = ix[:, None] + dj[on], iy[:, None] + di[on]
        row, slot = ((col >= 0) & (col < npix) & (line >= 0) & (line < npix)).nonzero(as_tuple=True)
        col, line = col[row, slot], line[row, slot]
        if level == 0:
            fx, fy = ((p - i).clamp(-0.5, 0.5)[row] for p, i in ((px, ix), (py, iy)))
            dx, dy, weight = cusp_square(accuracy.cusp_order, fx, fy)  # moves with the centre, slopes too
        else:
            dx, dy, weight = (v[:, None] for v in gauss_square(accuracy.rings[level - 1], image))
        x, y = (((at - (npix - 1) / 2) + d) * scale for at, d in ((col, dx), (line, dy)))
        where.append((row * npix + line) * npix + col)
        value.append((light(row, x, y) * weight).sum(0) * (scale * scale))
    return _put(image, torch.cat(where), torch.cat(value))


def _put(image: Tensor, where: Tensor, value: Tensor) -> Tensor:
    return image.reshape(-1).index_copy(0, where, value).view(image.shape)


def _source(scene: LensScene, npix: int, scale: float, oversample: int | str, accuracy: Accuracy) -> Tensor:
    """Pixel-integrated lensed source: one sample a pixel, more where that would err."""
    if isinstance(oversample, int):
        return _uniform(scene, source_light, npix, scale, oversample)
    with torch.no_grad():
        lensed = prepare(scene)
        at = pixel_centres(npix, scale, scene.theta_e)
        image, r2, inverse = lensed_grid(lensed, at, at)
        levels = _levels(lensed, image, r2, inverse, scale, accuracy)
    tracked = _tracked(scene)
    if tracked:
        image = _uniform(scene, source_light, npix, scale, 1)
    else:
        image.mul_(scale * scale)
    for where, order in levels:
        row, line, col = where // (npix * npix), where // npix % npix, where % npix
        dx, dy, weight = gauss_square(order, image)
        x, y = (scale * (d[:, None] + (p - (npix - 1) / 2)) for d, p in ((dx, col), (dy, line)))
        sampled = source_light(_Columns(scene, row), x, y) if tracked else lensed_points(lensed, row, x, y)
        value = (weight @ sampled) * (scale * scale)
        image = (
            _put(image, where, value)
            if tracked
            else image.view(-1).index_copy_(0, where, value).view_as(image)
        )
    return image


def _levels(
    lensed: Lensed, image: Tensor, r2: Tensor, inverse: Tensor, scale: float, accuracy: Accuracy
) -> list[tuple[Tensor, int]]:
    """Flat indices of the pixels to integrate, with the order of the rule for each group.

    The midpoint rule errs by ``h^2/24`` times the Laplacian, which differences of neighbours estimate. They
    cannot see a source that falls between pixel centres; it is sought by its distance in the source plane,
    against the size of the pixel there (eigenvalues of an isothermal lens: 1 and 1 - 2 kappa).
    """
    bend = torch.zeros_like(image)
    inner = bend[:, 1:-1, 1:-1]
    torch.add(image[:, :-2, 1:-1], image[:, 2:, 1:-1], out=inner)
    inner.add_(image[:, 1:-1, :-2]).add_(image[:, 1:-1, 2:]).sub_(image[:, 1:-1, 1:-1], alpha=4)
    error = bend.abs_().mul_(1 / 24)
    brightest = image.amax((1, 2), keepdim=True)
    footprint = lensed.stretch * (scale * math.sqrt(0.5))
    fall = torch.exp(lensed.source.power * 2 * footprint.log() + lensed.source.log_b)
    reach = torch.where(fall > accuracy.drop, footprint, 0.0)[:, None, None]
    stretch = (inverse * lensed.theta[:, None, None]).sub_(1.0).clamp_(min=1.0)
    steep = (error > brightest * accuracy.steep).logical_or_(r2 < stretch.mul_(reach).square_())
    mild = (error > brightest * accuracy.tolerance).logical_and_(~steep)
    found = [
        (steep.view(-1).nonzero()[:, 0], accuracy.steep_order),
        (mild.view(-1).nonzero()[:, 0], accuracy.order),
    ]
    return [(where, order) for where, order in found if len(where)]


def convolve(image: Tensor, psf: Tensor) -> Tensor:
    """Image convolved with the PSF; beyond the edge the light is taken as its mirror image.

    Zeros there would darken the rim of every stamp with an extended galaxy.

    image : Tensor, shape (n, bands, h, w); psf : Tensor, shape (size, size) or (bands, size, size), odd
    """
    if not len(image):
        return image  # no transform of nothing
    kernel = psf.to(image).expand(image.shape[1], *psf.shape[-2:])
    h, w = image.shape[-2:]
    half = kernel.shape[-1] // 2
    pad = min(half, h - 1, w - 1)
    image = torch.nn.functional.pad(image, (pad, pad, pad, pad), mode="reflect")
    reach = max(pad + half, 2 * half + 1 - min(h, w))  # what wraps around then lands in the padding
    shape = (_fast_size(h + reach), _fast_size(w + reach))
    wrapped = image.new_zeros((len(kernel), *shape))
    wrapped[:, : kernel.shape[-2], : kernel.shape[-1]] = kernel
    response = torch.fft.rfft2(torch.roll(wrapped, (-half, -half), (1, 2)))
    full = torch.fft.irfft2(torch.fft.rfft2(image, shape).mul(response), shape)
    return full[..., pad : pad + h, pad : pad + w]


def _fast_size(n: int) -> int:
    """Smallest even number from n that factors into 2, 3 and 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1 and n % 2 == 0:
            return n
        n += 1
