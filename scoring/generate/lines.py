"""Emission-line profiles and their injection into spectra, simulated or real.

The published recipe (Li et al. 2018, section 3.2) adds Gaussians. Real Lyman-alpha is absorbed on its blue
side by outflowing gas: a skew-normal profile with a sharp blue edge and a red tail (their figure 7), in a
minority with a second, blue peak. A skew-normal convolved with a Gaussian is again a skew-normal, so the
spectrograph's line spread function and the pixel width enter in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from schema.grid import DLOGLAM, SPEED_OF_LIGHT_KM_S

FWHM_PER_SIGMA = 2.354820045
PIXEL_KM_S = 69.0298  # c ln(10) 1e-4
GAUSSIAN, SKEWED, DOUBLE_PEAK, OII_DOUBLET = range(4)
KINDS = ("gaussian", "skewed", "double_peak", "oii_doublet")
OII_SPLIT_KM_S = 223.6  # 3727.09 and 3729.88 Angstrom
LN10 = 2.302585093


@dataclass
class Lines:
    """One line for each spectrum of a batch; a flux of 0 means none.

    Attributes
    ----------
    wave_angstrom : Tensor, shape (n,)  observed vacuum wavelength of the profile's peak, before blurring
    flux : Tensor, shape (n,)  total flux [1e-17 erg/s/cm2]
    fwhm_kms : Tensor, shape (n,)  full width at half maximum of the intrinsic profile, as of a Gaussian of
        equal scale [km/s]
    skew : Tensor, shape (n,)  shape parameter alpha of the skew-normal, 0 for a Gaussian
    kind : Tensor of int64, shape (n,)  index into `KINDS`
    """

    wave_angstrom: Tensor
    flux: Tensor
    fwhm_kms: Tensor
    skew: Tensor
    kind: Tensor

    def __len__(self) -> int:
        return len(self.flux)

    def take(self, rows: Tensor) -> Lines:
        """The lines of some rows."""
        return Lines(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def no_lines(n: int, device: torch.device | str = "cpu") -> Lines:
    """A table of `n` absent lines."""
    zero = torch.zeros(n, device=device)
    return Lines(zero.clone(), zero.clone(), zero.clone(), zero.clone(), zero.long())


def boss_lsf_pixels(wave: Tensor) -> Tensor:
    """Line spread function of BOSS: one standard deviation in pixels of 1e-4 dex.

    A straight line through the medians of the WDISP arrays of 75 BOSS spectra: 1.33 pixels at 3800 Angstrom
    and 1.02 at 4900 (R = 1390 and 1810 as FWHM).
    """
    return (1.33 - 0.31 * (wave - 3800.0) / 1100.0).clamp(0.75, 1.7)


def line_profiles(wave: Tensor, lines: Lines, lsf_pixels: Tensor | None = None) -> Tensor:
    """Flux density of each line on a wavelength grid.

    Parameters
    ----------
    wave : Tensor, shape (npix,)  grid of 1e-4 dex [Angstrom]
    lines : Lines of n spectra
    lsf_pixels : Tensor, shape (n,), optional
        Line spread function to convolve with, one standard deviation [pixel]; none leaves the intrinsic
        profile, sampled at pixel centres as the published recipe does.

    Returns
    -------
    Tensor, shape (n, npix)  [1e-17 erg/s/cm2/Angstrom]
    """
    grid = torch.log10(wave.double())
    center = torch.log10(lines.wave_angstrom.double().clamp(min=1.0))
    offset = ((grid[None] - center[:, None]) / DLOGLAM).float()  # (n, npix) in pixels from the peak
    scale = lines.fwhm_kms / FWHM_PER_SIGMA / PIXEL_KM_S  # (n,) pixels
    blur = torch.zeros_like(scale) if lsf_pixels is None else (lsf_pixels**2 + 1 / 12).sqrt()
    skewed = _skew_normal(offset, scale, lines.skew, blur)
    density = skewed
    double = (lines.kind == DOUBLE_PEAK).nonzero()[:, 0]
    if len(double):
        gap = (2.2 * scale[double] + 3.0)[:, None]  # (m, 1) pixels between the peaks
        blue = _skew_normal(
            offset[double] + gap, 0.8 * scale[double], -0.5 * lines.skew[double], blur[double]
        )
        density[double] = 0.72 * skewed[double] + 0.28 * blue
    doublet = (lines.kind == OII_DOUBLET).nonzero()[:, 0]
    if len(doublet):
        half = OII_SPLIT_KM_S / PIXEL_KM_S / 2
        no_skew = torch.zeros_like(scale[doublet])
        density[doublet] = 0.45 * _skew_normal(offset[doublet] + half, scale[doublet], no_skew, blur[doublet])
        density[doublet] += 0.55 * _skew_normal(
            offset[doublet] - half, scale[doublet], no_skew, blur[doublet]
        )
    per_angstrom = lines.flux[:, None] / (wave * LN10 * DLOGLAM).float()  # pixel width in Angstrom
    return density * per_angstrom


def _skew_normal(offset: Tensor, scale: Tensor, alpha: Tensor, blur: Tensor) -> Tensor:
    """Skew-normal density per pixel with its mode near offset 0, convolved with a Gaussian of width `blur`.

    If X is skew-normal with scale w and delta = alpha / sqrt(1 + alpha^2), then X + N(0, s^2) is skew-normal
    with w' = sqrt(w^2 + s^2) and delta' = delta w / w' (Azzalini & Dalla Valle 1996).
    """
    delta = alpha / (1 + alpha**2).sqrt()
    width = (scale**2 + blur**2).sqrt().clamp(min=1e-3)
    delta_blurred = (delta * scale / width).clamp(-0.999, 0.999)
    alpha_blurred = delta_blurred / (1 - delta_blurred**2).sqrt()
    mode = delta * scale * 0.7  # the peak of the intrinsic profile lies about there
    t = (offset + mode[:, None]) / width[:, None]
    gauss = torch.exp(-0.5 * t**2) * (0.3989422804 / width[:, None])
    if not bool((alpha != 0).any()):
        return gauss
    return gauss * torch.special.erfc(-alpha_blurred[:, None] * t * 0.70710678)


def flux_from_peak(peak: Tensor, wave_angstrom: Tensor, fwhm_kms: Tensor) -> Tensor:
    """Total flux of a Gaussian of given peak.

    Parameters
    ----------
    peak : Tensor, shape (n,)  [1e-17 erg/s/cm2/Angstrom]
    wave_angstrom : Tensor, shape (n,)
    fwhm_kms : Tensor, shape (n,)

    Returns
    -------
    Tensor, shape (n,)  [1e-17 erg/s/cm2]
    """
    sigma = wave_angstrom * fwhm_kms / SPEED_OF_LIGHT_KM_S / FWHM_PER_SIGMA
    return peak * sigma * 2.5066282746


def inject_lines(
    flux: Tensor, ivar: Tensor, wave: Tensor, lines: Lines, lsf_pixels: Tensor | None = None
) -> Tensor:
    """Spectra with one line more each; pixels without a datum stay as they are.

    Parameters
    ----------
    flux : Tensor, shape (n, npix)  [1e-17 erg/s/cm2/Angstrom]
    ivar : Tensor, shape (n, npix)  inverse variance; lines of interest are faint beside the sky, so it is
        left alone
    wave : Tensor, shape (npix,)  [Angstrom]
    lines : Lines, one a spectrum; a flux of 0 adds nothing
    lsf_pixels : Tensor, shape (n,), optional
        One standard deviation of the line spread function [pixel]; default `boss_lsf_pixels` at each line.

    Returns
    -------
    Tensor, shape (n, npix)  a new tensor
    """
    out = flux.clone()
    rows = (lines.flux != 0).nonzero()[:, 0]
    if len(rows):
        some = lines.take(rows)
        blur = boss_lsf_pixels(some.wave_angstrom) if lsf_pixels is None else lsf_pixels[rows]
        added = line_profiles(wave, some, blur).to(flux.dtype)
        out[rows] += torch.where(ivar[rows] > 0, added, torch.zeros_like(added))
    return out
