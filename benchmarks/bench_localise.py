"""Spectra per second of the localiser on one core, against its first form, kept here, in one run.

The first form convolved pixel by pixel and kept the pixels of a block along the last axis; the sums are the
same, so that S/N and wavelengths agree to rounding, which is printed too.

    python -m benchmarks.bench_localise
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from schema.grid import WINDOW_FIRST
from scoring.evaluate.testsets import Spectra, paper_test
from scoring.localise import BLOCK, DEFAULT_FILTER, LineFilter, lens_line_mask, localise, peak


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


def first_line_snr(flux: Tensor, ivar: Tensor, settings: LineFilter = DEFAULT_FILTER) -> Tensor:
    """As scoring.localise.line_snr, by the first form."""
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


def first_localise(
    flux: Tensor, ivar: Tensor, z: Tensor, settings: LineFilter = DEFAULT_FILTER
) -> tuple[Tensor, Tensor]:
    """As scoring.localise.localise over the search window, by the first form."""
    mask = lens_line_mask(z, WINDOW_FIRST, flux.shape[-1], settings.mask_half_width_px)
    return peak(first_line_snr(flux, torch.where(mask, 0.0, ivar), settings), WINDOW_FIRST)


def seconds(work: Callable[[slice], object], n: int, batch: int = 256) -> float:
    """Processor time over n spectra [s]."""
    began = time.process_time()
    for first in range(0, n, batch):
        work(slice(first, first + batch))
    return time.process_time() - began


def measure(n: int, rounds: int) -> dict[str, float]:
    """Rates [spectra/s of processor time], the best of some rounds taken in turn, and how well both agree."""
    spectra: Spectra = next(paper_test(n, 1, batch=n))
    flux, ivar, z = spectra.flux, spectra.ivar, spectra.z
    torch.set_num_threads(1)
    was, now = [], []
    with torch.inference_mode():
        for _ in range(rounds):
            was.append(seconds(lambda p: first_localise(flux[p], ivar[p], z[p]), n))
            now.append(seconds(lambda p: localise(flux[p], ivar[p], z[p]), n))
        wave, snr = first_localise(flux, ivar, z)
        wave2, snr2 = localise(flux, ivar, z)
    return {
        "first_per_core_s": n / min(was),
        "localise_per_core_s": n / min(now),
        "ratio": min(was) / min(now),
        "largest_difference_of_snr": float(((snr2 - snr).abs() / snr.clamp_min(1)).max()),
        "wavelengths_within_0.01_angstrom": float(((wave2 - wave).abs() < 0.01).double().mean()),
    }


def main() -> None:
    """Print figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=8192, help="spectra")
    parser.add_argument("--rounds", type=int, default=5, help="times that each is run")
    given = parser.parse_args()
    print(json.dumps({k: round(v, 7) for k, v in measure(given.n, given.rounds).items()}))


if __name__ == "__main__":
    main()
