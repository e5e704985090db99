"""AB magnitudes and image counts, with the mistakes that catalogues make caught before they become pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from schema.errors import UserError

MAG_RANGE = (5.0, 40.0)


def check_zero_point(zero_point: Tensor | float | None) -> Tensor:
    """The zero point as a tensor, or `UserError` when it is unknown or not finite."""
    if zero_point is None:
        raise UserError(
            "unknown zero point: give the AB magnitude of one image count (HSC coadds 27.0, or from "
            "FLUXMAG0, MAGZERO or PHOTFLAM of the header)"
        )
    zero = torch.as_tensor(zero_point, dtype=torch.float64)
    if not bool(torch.isfinite(zero).all()):
        raise UserError(f"zero point {zero.tolist()} is not finite: give the AB magnitude of one image count")
    return zero


def check_magnitudes(mag: Tensor, name: str = "magnitude") -> None:
    """`UserError` when a magnitude lies outside 5..40, as fluxes and sentinels do; +inf means no light."""
    low, high = MAG_RANGE
    bad = ~(((mag >= low) & (mag <= high)) | (mag == math.inf))
    if bool(bad.any()):
        value = mag.detach()[bad].flatten()[0].item()
        raise UserError(
            f"{name} = {value:g} is not an AB magnitude between {low:g} and {high:g}: is it a flux or a "
            "sentinel? Convert fluxes with 22.5 - 2.5 log10(nanomaggies) or 31.4 - 2.5 log10(nJy)"
        )


def mag_to_counts(mag: Tensor, zero_point: Tensor | float | None, exposure_s: Tensor | float = 1.0) -> Tensor:
    """Counts of a source: ``exposure 10^(-0.4 (mag - zero point))``.

    Parameters
    ----------
    mag : Tensor  AB magnitude; +inf gives 0
    zero_point : AB magnitude of one count a second (or of one count where `exposure_s` is 1)
    exposure_s : exposure time [s]
    """
    zero = check_zero_point(zero_point).to(mag.device, mag.dtype)
    check_magnitudes(mag)
    return torch.as_tensor(exposure_s, dtype=mag.dtype, device=mag.device) * torch.pow(
        10.0, -0.4 * (mag - zero)
    )


def counts_to_mag(
    counts: Tensor, zero_point: Tensor | float | None, exposure_s: Tensor | float = 1.0
) -> Tensor:
    """AB magnitude of counts; NaN where the counts are not positive."""
    zero = check_zero_point(zero_point).to(counts.device, counts.dtype)
    rate = counts / torch.as_tensor(exposure_s, dtype=counts.dtype, device=counts.device)
    return torch.where(rate > 0, zero - 2.5 * torch.log10(rate.clamp_min(1e-30)), torch.nan)
