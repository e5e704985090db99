"""Where in a spectrum is the strongest line that is not the lens's own, and how significant is it.

Every scored spectrum gets this position and S/N, whatever model scored it, and the matched filter is built on
the same sums. At each pixel a Gaussian of fixed width and a straight continuum are fitted together, weighted
by the errors, over a box around it; the S/N is that of the Gaussian's amplitude. Since line and continuum are
fitted at once the line cannot bias the continuum, and masked pixels (ivar 0) simply do not count. With the
continuum known this is the filter of Bolton et al. (2004, AJ 127, 1860) and Shu et al. (2016, ApJ 824, 86):
S/N = sum(f g ivar) / sqrt(sum(g^2 ivar)).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from schema.grid import DLOGLAM, WINDOW_FIRST

LENS_LINES_ANGSTROM: tuple[float, ...] = (3346.79, 3426.85, 3728.48, 3869.86)
"""Rest vacuum wavelengths masked by Li et al. (2018): [NeV] 3347, 3427, [OII], [NeIII] 3869 [Angstrom]."""

BALMER_LINES_ANGSTROM: tuple[float, ...] = (3889.75, 3971.20, 4102.89, 4341.69, 4862.69)
"""H zeta to H beta, to be added to the mask where lenses may form stars [Angstrom]."""


BLOCK = 4
"""Pixels that share one box of continuum: the box moves in steps of this many pixels."""


@dataclass(frozen=True)
class LineFilter:
    """Settings of the filter; the defaults were chosen on real BOSS galaxies, see docs/evaluation.md.

    Attributes
    ----------
    sigmas_px : tuple of float
        Standard deviations of the Gaussian kernels [pixel of 1e-4 dex = 69 km/s].
    half_width_px : int
        Half width of the box in which the continuum is fitted beside the line [pixel].
    mask_half_width_px : int
        Half width of the mask on each line of the lens [pixel].
    lens_lines_angstrom : tuple of float
        Rest vacuum wavelengths of the lines masked [Angstrom].
    min_coverage : float
        Least fraction of the kernel's energy that must fall on good pixels.
    fit_continuum : bool
        Fit a straight continuum with the line; False where a model of the galaxy has been subtracted already.
    rescale_errors : bool
        Divide the S/N by the local scatter about the fit where that exceeds the errors.
    """

    sigmas_px: tuple[float, ...] = (2.0,)
    half_width_px: int = 40
    mask_half_width_px: int = 12
    lens_lines_angstrom: tuple[float, ...] = LENS_LINES_ANGSTROM
    min_coverage: float = 0.7
    fit_continuum: bool = True
    rescale_errors: bool = True


DEFAULT_FILTER = LineFilter()


def lens_line_mask(
    z: Tensor,
    first_pixel: int,
    npix: int,
    half_width_px: int = DEFAULT_FILTER.mask_half_width_px,
    lines_angstrom: tuple[float, ...] = LENS_LINES_ANGSTROM,
) -> Tensor:
    """Pixels on the lens's own emission lines.

    Parameters
    ----------
    z : Tensor, shape (n,)
        Redshift of the lens; a NaN masks nothing.
    first_pixel, npix : int
        Grid index of the first pixel, number of pixels.
    half_width_px : int
        Half width of the mask [pixel of 1e-4 dex].
    lines_angstrom : tuple of float
        Rest vacuum wavelengths [Angstrom].

    Returns
    -------
    Tensor of bool, shape (n, npix)
        True on a line.
    """
    shift = torch.log10(1.0 + z.to(torch.float64)) / DLOGLAM - first_pixel
    rest = torch.tensor([log(w, 10) / DLOGLAM for w in lines_angstrom], dtype=torch.float64, device=z.device)
    reach = torch.arange(-half_width_px, half_width_px + 1, device=z.device)
    centre = torch.nan_to_num(shift[:, None] + rest, nan=-1e6).round().long()  # (n, line)
    at = (centre[..., None] + reach).clamp(-1, npix).flatten(
        1
    ) + 1  # (n, line * width), 0 and npix + 1 outside
    mask = torch.zeros((len(z), npix + 2), dtype=torch.bool, device=z.device)
    mask = mask.scatter_(1, at, True)[:, 1:-1]
    return mask


class _Continuum(NamedTuple):
    """Weighted straight line about each block of BLOCK pixels; every field has shape (n, block, 1)."""

    level: Tensor  # at the centre of the block
    slope: Tensor  # per box half width
    v00: Tensor  # inverse of the normal matrix
    v01: Tensor
    v11: Tensor
    chi2: Tensor  # about the line, in the box
    n_good: Tensor
    sum2: Tensor  # the same about zero

    def none(self) -> _Continuum:
        """The same box with the continuum known to be zero."""
        zero = torch.zeros_like(self.level)
        return self._replace(level=zero, slope=zero, v00=zero, v01=zero, v11=zero, chi2=self.sum2)


def _continuum(w: Tensor, f: Tensor, offset: Tensor, half_blocks: int) -> _Continuum:
    """Fit the straight line in the box of ``2 half_blocks + 1`` blocks about each block.

    ``w`` and ``f`` have shape (n, block, BLOCK) and hold 0 where a pixel does not count; ``offset`` is the
    place of a pixel in its block in box half widths. Running sums are differences of cumulative sums, in
    double for that.
    """
    n_block = w.shape[1]
    powers = torch.stack([torch.ones_like(offset), offset, offset * offset], 1)  # (BLOCK, 3)
    wf = w * f
    sums = [w @ powers, wf @ powers[:, :2], (wf * f).sum(-1, keepdim=True), (w > 0).sum(-1, keepdim=True)]
    a0, a1, a2, b0, b1, c, good = torch.cat(sums, -1).double().unbind(-1)  # each (n, block)
    t = torch.arange(n_block, dtype=torch.float64, device=w.device).sub_(n_block // 2).div_(half_blocks)
    moments = [a0, a1 + t * a0, a2 + t * (2 * a1 + t * a0), b0, b1 + t * b0, c, good]
    total = torch.cumsum(torch.stack(moments, 1), -1)  # (n, 7, block)
    h = half_blocks
    edge = torch.arange(n_block, device=w.device)
    before = torch.where(edge - h - 1 >= 0, total[..., (edge - h - 1).clamp_min(0)], 0.0)
    s0, s1, s2, f0, f1, ff, n_good = (total[..., (edge + h).clamp_max(n_block - 1)] - before).unbind(1)
    sx, sxx, fx = s1 - t * s0, s2 - t * (2 * s1 - t * s0), f1 - t * f0
    det = s0 * sxx - sx * sx
    ok = det > 1e-9 * s0 * s0
    inv = torch.where(ok, 1.0 / torch.where(ok, det, 1.0), 0.0)
    v00, v01, v11 = sxx * inv, -sx * inv, s0 * inv
    level, slope = v00 * f0 + v01 * fx, v01 * f0 + v11 * fx
    chi2 = ff - level * f0 - slope * fx
    return _Continuum(*(x.float()[..., None] for x in (level, slope, v00, v01, v11, chi2, n_good, ff)))


def line_snr(flux: Tensor, ivar: Tensor, settings: LineFilter = DEFAULT_FILTER) -> Tensor:
    """Signal-to-noise ratio of an emission line at every pixel and kernel width.

    Parameters
    ----------
    flux : Tensor, shape (n, npix)
        Flux density, with or without its continuum [1e-17 erg/s/cm2/Angstrom].
    ivar : Tensor, shape (n, npix)
        Inverse variance; 0 where a pixel must not count.
    settings : LineFilter
        Kernel widths, box and coverage.

    Returns
    -------
    Tensor, shape (n, kernel, npix)
        S/N of the amplitude; 0 where too little of the kernel is covered.
    """
    n, npix = flux.shape
    half_blocks = max(1, round(settings.half_width_px / BLOCK))
    half = float(half_blocks * BLOCK)
    good = (ivar > 0) & (ivar < torch.inf) & torch.isfinite(flux)
    w = torch.where(good, ivar, 0.0).float()
    unit = w.amax(-1, keepdim=True).clamp_min(
        1e-30
    )  # the unit of ivar is free: keep single precision off its ends
    pad = -npix % BLOCK
    w = F.pad(w / unit, (0, pad))
    f = F.pad(torch.where(good, flux, 0.0).float(), (0, pad))
    offset = (torch.arange(BLOCK, dtype=torch.float32, device=flux.device) - (BLOCK - 1) / 2) / half
    by_block = (n, -1, BLOCK)
    line = _continuum(w.view(by_block), f.view(by_block), offset, half_blocks)
    if not settings.fit_continuum:
        line = line.none()
    reach = int(min(half, round(3.2 * max(settings.sigmas_px))))
    x = torch.arange(-reach, reach + 1, dtype=torch.float32, device=flux.device)
    kernels = [torch.exp(-0.5 * (x / s) ** 2) for s in settings.sigmas_px]
    on_w = torch.stack([k for g in kernels for k in (g, g * x / half, g * g)])[:, None]  # (3 kernel, 1, tap)
    sums = F.conv1d(w[:, None], on_w, padding=reach)
    signal = F.conv1d((w * f)[:, None], torch.stack(kernels)[:, None], padding=reach)
    middle = kernels[len(kernels) // 2] ** 2
    covered = F.conv1d((w > 0).float()[:, None], (middle / middle.sum())[None, None], padding=reach)[:, 0]
    usable = (covered.view(by_block) >= settings.min_coverage) & (line.n_good > 3)
    inv_dof = 1.0 / (line.n_good - 3).clamp_min(1)
    out = []
    for k in range(len(kernels)):
        sg, sxg, sgg = (sums[:, 3 * k + j].view(by_block) for j in range(3))
        sxg = torch.addcmul(sxg, sg, offset)
        top = signal[:, k].view(by_block) - sg * line.level - sxg * line.slope
        bottom = sgg - sg * (sg * line.v00 + 2 * sxg * line.v01) - sxg * sxg * line.v11
        ok = usable & (bottom > 1e-3 * sgg)
        snr2 = top * top / torch.where(ok, bottom, torch.inf)
        if settings.rescale_errors:
            worse = (line.chi2 - snr2) * unit[..., None] * inv_dof
            snr2 = snr2 / worse.clamp_min(1.0)
        out.append(torch.copysign(torch.sqrt(snr2 * unit[..., None]), top).view(n, -1)[:, :npix])
    return torch.stack(out, 1)


def peak(snr: Tensor, first_pixel: int) -> tuple[Tensor, Tensor]:
    """Wavelength and S/N of the highest point of S/N curves.

    Parameters
    ----------
    snr : Tensor, shape (n, kernel, npix)
        S/N at every pixel and kernel width.
    first_pixel : int
        Grid index of the first pixel.

    Returns
    -------
    wave : Tensor of float64, shape (n,)
        Vacuum wavelength of the maximum, to a fraction of a pixel by a parabola [Angstrom].
    snr : Tensor, shape (n,)
        S/N there.
    """
    n, _, npix = snr.shape
    best, where = snr.reshape(n, -1).max(1)
    pixel = where % npix
    row = torch.gather(snr, 1, (where // npix)[:, None, None].expand(n, 1, npix))[:, 0]
    inside = pixel.clamp(1, npix - 2)
    left, mid, right = (torch.gather(row, 1, (inside + d)[:, None])[:, 0] for d in (-1, 0, 1))
    curve = left - 2 * mid + right
    bend = (curve < 0) & (inside == pixel)
    shift = torch.where(bend, 0.5 * (left - right) / torch.where(bend, curve, -1.0), 0.0).clamp(-0.5, 0.5)
    wave = torch.pow(10.0, (first_pixel + pixel.double() + shift.double()) * DLOGLAM)
    return wave, best


def localise(
    flux: Tensor,
    ivar: Tensor,
    z: Tensor | None = None,
    first_pixel: int = WINDOW_FIRST,
    settings: LineFilter = DEFAULT_FILTER,
) -> tuple[Tensor, Tensor]:
    """Position and S/N of the strongest emission line off the lens's own lines.

    Parameters
    ----------
    flux : Tensor, shape (n, npix)
        Flux density [1e-17 erg/s/cm2/Angstrom]; the continuum is fitted here.
    ivar : Tensor, shape (n, npix)
        Inverse variance; 0 where a pixel must not count.
    z : Tensor, shape (n,), optional
        Redshift of the lens, whose lines are masked; nothing is masked without it or where it is NaN.
    first_pixel : int
        Grid index of the first pixel (schema.grid).
    settings : LineFilter
        Kernel widths, box, mask.

    Returns
    -------
    wave_angstrom : Tensor of float64, shape (n,)
        Vacuum wavelength of the maximum [Angstrom].
    snr : Tensor, shape (n,)
        Its S/N; 0 where a spectrum has no usable pixel.
    """
    if z is not None:
        mask = lens_line_mask(
            z, first_pixel, flux.shape[-1], settings.mask_half_width_px, settings.lens_lines_angstrom
        )
        ivar = torch.where(mask, 0.0, ivar)
    return peak(line_snr(flux, ivar, settings), first_pixel)
