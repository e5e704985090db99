"""Point spread functions: analytic kernels, and those of files."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
