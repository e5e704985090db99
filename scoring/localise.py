"""Where in a spectrum is the strongest line that is not the lens's own, and how significant is it.

Every scored spectrum gets this position and S/N, whatever model scored it, and the matched filter is built on
the same sums. At each pixel a Gaussian of fixed width and a straight continuum are fitted together, weighted
by the errors, over a box around it; the S/N is that of the Gaussian's amplitude. Since line and continuum are
fitted at once the line cannot bias the continuum, and masked pixels (ivar 0) simply do not count. With the
continuum known this is the filter of Bolton et al. (2004, AJ 127, 1860) and Shu et al. (2016, ApJ 824, 86):
S/N = sum(f g ivar) / sqrt(sum(g^2 ivar)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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

PIECE = 128
"""Spectra worked on at a time, so that what is computed of them stays in the cache."""


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


def filter_beside(config: object) -> LineFilter:
    """The localiser for a model: it masks the lens's lines as widely as the model's configuration says.

    A line that the model sees and the localiser masks would be given the place of the next best bump.
    """
    for name in ("mask_half_width_px", "mask_half_width"):
        width = getattr(config, name, None)
        if width is not None:
            return replace(DEFAULT_FILTER, mask_half_width_px=int(width))
    return DEFAULT_FILTER


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
    """Weighted straight line about each block of BLOCK pixels; every field has shape (n, 1, block).

    The line is level + slope (x - middle), with x in box half widths from the centre of the block. About the
    weighted mean of x, ``middle``, level and slope are uncorrelated.
    """

    level: Tensor
    slope: Tensor
    middle: Tensor
    var_level: Tensor
    var_slope: Tensor
    chi2: Tensor  # about the line, in the box
    n_good: Tensor

    def none(self) -> _Continuum:
        """The same box with the continuum known to be zero; ``chi2`` must be the one about zero."""
        zero = torch.zeros_like(self.level)
        return self._replace(level=zero, slope=zero, var_level=zero, var_slope=zero)


def _continuum(moments: Sequence[Tensor], half_blocks: int, fit: bool) -> _Continuum:
    """Fit the straight line in the box of ``2 half_blocks + 1`` blocks about each block.

    Parameters
    ----------
    moments : sequence of Tensor, shapes (n, k, block), 7 rows in all
        Of each block the sums of w, w x, w x^2, w f, w f x, w f^2, and the number of good pixels; x is the
        place of a pixel in its block in box half widths.
    half_blocks : int
        Half width of the box [block].
    fit : bool
        False where the continuum is known to be zero.
    """
    n, _, n_block = moments[0].shape
    h = half_blocks
    # sums over boxes are differences of one cumulative sum, in double for that
    total = moments[0].new_zeros((n, 7, n_block + 2 * h + 1), dtype=torch.float64)
    m = total[..., h + 1 : h + 1 + n_block]
    at = 0
    for part in moments:
        m[:, at : at + part.shape[1]] = part
        at += part.shape[1]
    t = torch.arange(n_block, dtype=torch.float64, device=m.device).sub_(n_block // 2).div_(h)
    # from the block's own origin to a common one, so that blocks can be added up
    m[:, 2].addcmul_(torch.addcmul(2 * m[:, 1], m[:, 0], t), t)
    m[:, 1::3].addcmul_(m[:, 0:4:3], t)
    total = total.cumsum_(-1)
    s0, s1, s2, f0, f1, ff, n_good = (total[..., 2 * h + 1 :] - total[..., :n_block]).unbind(1)
    inv0 = 1.0 / s0.clamp_min(1e-30)
    mean = s1 * inv0
    spread = torch.addcmul(s2, s1, mean, value=-1)
    covariance = torch.addcmul(f1, f0, mean, value=-1)
    # a box of one pixel has neither slope nor level: variances of 0 leave the line at 0
    known = spread > 1e-9 * s0
    inv1 = torch.where(known, 1.0 / spread, 0.0)
    inv0 *= known
    level, slope = f0 * inv0, covariance * inv1
    out = torch.stack([level, slope, mean - t, inv0, inv1, ff, n_good], 1).float()
    line = _Continuum(*out.split(1, 1))
    if not fit:
        return line.none()
    ff.addcmul_(level, f0, value=-1).addcmul_(slope, covariance, value=-1)
    return line._replace(chi2=ff.float()[:, None])


def _taps(settings: LineFilter, half: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of the convolutions that take w, w f and the good pixels of blocks to sums at each pixel.

    With the pixels of a block as channels a convolution over blocks gives every pixel's sum at once, which is
    several times faster than one over pixels with a single channel.

    Returns
    -------
    on_w : Tensor, shape (3 kernel BLOCK + 3, BLOCK, tap)
        Sums of g, g x and g^2 of each kernel, x counted from the centre of the block; then 1, x, x^2.
    on_wf : Tensor, shape (kernel BLOCK + 2, BLOCK, tap)
        Sum of g of each kernel; then 1, x.
    on_good : Tensor, shape (BLOCK + 1, BLOCK, tap)
        Share of the middle kernel's energy; then 1.
    """
    reach = int(min(half, round(3.2 * max(settings.sigmas_px))))
    far = -(-reach // BLOCK)
    place = torch.arange(BLOCK, dtype=torch.float64)
    # distance from output pixel (first axis) to input pixel, both counted in the block of the output
    at = place[:, None] + BLOCK * torch.arange(-far, far + 1)  # (BLOCK in, tap)
    d = at - place[:, None, None]  # (BLOCK out, BLOCK in, tap)
    x = ((at - (BLOCK - 1) / 2) / half).expand_as(d)
    own = (torch.arange(-far, far + 1) == 0).expand(BLOCK, -1).double()
    kernels = [torch.exp(-0.5 * (d / s) ** 2) * (d.abs() <= reach) for s in settings.sigmas_px]
    energy = kernels[len(kernels) // 2] ** 2
    energy = energy / torch.exp(-((torch.arange(-reach, reach + 1) / _middle(settings)) ** 2)).sum()
    block = [own[None], (own * x[0])[None], (own * x[0] ** 2)[None]]
    on_w = torch.cat([k for g in kernels for k in (g, g * x, g * g)] + block)
    on_wf = torch.cat(kernels + block[:2])
    on_good = torch.cat([energy, block[0]])
    return on_w.float().to(device), on_wf.float().to(device), on_good.float().to(device)


def _over_blocks(x: Tensor, tap: Tensor) -> Tensor:
    """Convolution over blocks, shape (n, out, block), of ``x``, shape (n, BLOCK, block)."""
    far = tap.shape[-1] // 2
    if x.device.type == "cpu":
        return F.conv1d(x, tap, padding=far)
    # cuDNN rounds to TF32, ten bits, and the continuum is still to be subtracted; products of matrices do not
    return torch.einsum("oct,ncbt->nob", tap, F.pad(x, (far, far)).unfold(2, tap.shape[-1], 1))


def _middle(settings: LineFilter) -> float:
    """Width of the kernel whose coverage decides [pixel]."""
    return settings.sigmas_px[len(settings.sigmas_px) // 2]


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
    half_blocks = max(1, round(settings.half_width_px / BLOCK))
    taps = _taps(settings, float(half_blocks * BLOCK), flux.device)
    parts = [
        _line_snr(f, w, settings, half_blocks, taps)
        for f, w in zip(flux.split(PIECE), ivar.split(PIECE), strict=True)
    ]
    return torch.cat(parts) if len(parts) != 1 else parts[0]


def _line_snr(
    flux: Tensor, ivar: Tensor, settings: LineFilter, half_blocks: int, taps: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """`line_snr` of a piece."""
    n, npix = flux.shape
    # flux - flux is NaN where flux is not finite; comparisons and masks would take several times longer
    w = (ivar + (flux - flux)).nan_to_num_(0.0, 0.0, 0.0).clamp_min_(0.0).float()
    f = flux.nan_to_num(0.0, 0.0, 0.0).float()
    # the unit of ivar is free: keep single precision off its ends
    unit = w.amax(-1, keepdim=True).clamp_min(1e-30)

    def by_phase(x: Tensor) -> Tensor:
        whole = F.pad(x, (0, -npix % BLOCK)) if npix % BLOCK else x
        return whole.view(n, -1, BLOCK).transpose(1, 2).contiguous()

    w, f = by_phase(w / unit), by_phase(f)  # each (n, BLOCK, block)
    wf = w * f
    sums, signal, cover = (_over_blocks(x, tap) for x, tap in zip((w, wf, w.sign()), taps, strict=True))
    wff = wf.mul_(f).sum(1, keepdim=True)
    line = _continuum((sums[:, -3:], signal[:, -2:], wff, cover[:, -1:]), half_blocks, settings.fit_continuum)
    scale = unit[..., None]  # (n, 1, 1)
    per_dof = scale / (line.n_good - 3).clamp_min(1)
    scatter = line.chi2 * per_dof
    spare = cover[:, :BLOCK] - settings.min_coverage + torch.where(line.n_good > 3, 0.0, -torch.inf)
    out = []
    for k in range(len(settings.sigmas_px)):
        sg, sxg, sgg = sums[:, 3 * k * BLOCK : 3 * (k + 1) * BLOCK].split(BLOCK, 1)
        sxg = torch.addcmul(sxg, sg, line.middle, value=-1)
        top = torch.addcmul(signal[:, k * BLOCK : (k + 1) * BLOCK], sg, line.level, value=-1)
        top.addcmul_(sxg, line.slope, value=-1)
        bottom = torch.addcmul(sgg, sg * sg, line.var_level, value=-1)
        bottom.addcmul_(sxg.square_(), line.var_slope, value=-1)
        seen = torch.minimum(spare, bottom - 1e-3 * sgg) >= 0
        if settings.rescale_errors:
            snr2 = (top * top).div_(bottom)
            bottom *= torch.addcmul(scatter, snr2, per_dof, value=-1).clamp_min_(1.0)
        snr = torch.where(seen, top.mul_(scale.sqrt()).div_(bottom.sqrt_()), 0.0)
        out.append(snr.transpose(1, 2).reshape(n, -1)[:, :npix])
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
    npix = snr.shape[2]
    flat = snr.flatten(1)
    best, where = flat.max(1)
    pixel = where % npix
    inside = pixel.clamp(1, npix - 2)
    at = (where - pixel + inside)[:, None] + torch.arange(-1, 2, device=snr.device)  # (n, 3)
    left, mid, right = flat.gather(1, at).unbind(1)
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
