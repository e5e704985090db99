"""Point spread functions: analytic kernels, and the check of any kernel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from schema.errors import UserError

SUM_TOLERANCE = 1e-3


def _radius2(size: int) -> Tensor:
    half = (size - 1) / 2
    at = torch.arange(size, dtype=torch.float64) - half
    return at[:, None] ** 2 + at[None, :] ** 2


def gaussian_psf(fwhm_px: float, size: int | None = None) -> Tensor:
    """Gaussian kernel that sums to one, shape (size, size), odd; `fwhm_px` in pixels."""
    sigma = fwhm_px / (2 * math.sqrt(2 * math.log(2)))
    kernel = torch.exp(-0.5 * _radius2(size or _odd(5 * sigma)) / sigma**2)
    return kernel / kernel.sum()


def moffat_psf(fwhm_px: float, beta: float = 3.0, size: int | None = None) -> Tensor:
    """Moffat kernel ``(1 + (r/alpha)^2)^-beta`` that sums to one, shape (size, size), odd."""
    alpha = fwhm_px / (2 * math.sqrt(2 ** (1 / beta) - 1))
    kernel = (1 + _radius2(size or _odd(4 * fwhm_px)) / alpha**2) ** -beta
    return kernel / kernel.sum()


def _odd(half: float) -> int:
    return 2 * max(1, math.ceil(half)) + 1


def check_kernel(psf: Tensor, bands: int) -> Tensor:
    """The kernel, or `UserError` unless it is square, odd, finite, of sum 1, one for all bands or each."""
    if psf.ndim not in (2, 3) or psf.shape[-1] != psf.shape[-2] or psf.shape[-1] % 2 == 0:
        raise UserError(
            f"PSF of shape {tuple(psf.shape)}: allowed is (size, size) or (bands, size, size), size odd"
        )
    if psf.ndim == 3 and psf.shape[0] not in (1, bands):
        raise UserError(f"PSF of {psf.shape[0]} bands for an instrument of {bands}")
    if not bool(torch.isfinite(psf).all()):
        raise UserError("PSF holds values that are not finite")
    total = psf.sum((-1, -2)).reshape(-1)
    if bool(((total - 1).abs() > SUM_TOLERANCE).any()):
        raise UserError(
            f"PSF sums to {', '.join(f'{v:.4f}' for v in total.tolist())}, not 1: normalise it if the light "
            "that is missing lies beyond its edge (load_psf(..., normalise=True))"
        )
    return psf
