"""Stamps that galaxies and patterns are painted on, before the PSF and the noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scoring.lensing.galaxies import Light
from scoring.lensing.raster import CHUNK_PIXELS, Blobs, convolve, pixel_grid, render_blobs
from scoring.light.instruments import Instrument
from scoring.light.kernels import check_kernel
from scoring.light.photometry import mag_to_counts

PATTERN_SAMPLES = 2


class Canvas:
    """n stamps in the bands of an instrument; `image` has shape (n, bands, npix, npix) [counts]."""

    def __init__(self, n: int, instrument: Instrument, npix: int, device: torch.device) -> None:
        self.instrument, self.npix, self.scale = instrument, npix, instrument.pixel_scale_arcsec
        self.side = npix * self.scale
        self.image = torch.zeros((n, len(instrument.bands), npix, npix), device=device)
        self.grid = pixel_grid(npix, self.scale, PATTERN_SAMPLES, torch.zeros(1, device=device))

    def galaxies(self, row: Tensor, x: Tensor, y: Tensor, light: Light) -> None:
        """Add Sérsic galaxies at (x, y) [arcsec] to the stamps `row`."""
        chunk = max(1, CHUNK_PIXELS // self.npix**2)
        blobs = Blobs(x, y, light.r_eff, light.n, light.q, light.phi)
        mags = light.mags(self.instrument)
        for start in range(0, len(row), chunk):
            part = slice(start, start + chunk)
            stamps = render_blobs(Blobs(*(v[part] for v in blobs)), self.npix, self.scale)
            self.add(row[part], stamps, mags[part])

    def add(self, row: Tensor, stamps: Tensor, mags: Tensor) -> None:
        """Add unit-flux stamps (m, npix, npix) of the given magnitudes (m, bands) to the stamps `row`."""
        zero = torch.tensor(self.instrument.zero_point)
        counts = mag_to_counts(mags.clamp(5.0, 40.0), zero)
        self.image.index_add_(0, row, counts[:, :, None, None] * stamps[:, None])

    def pattern(self, row: Tensor, surface: Tensor, mags: Tensor) -> None:
        """Add surface brightness sampled on `grid`, brought to the magnitudes within the stamp."""
        stamps = torch.nn.functional.avg_pool2d(surface, PATTERN_SAMPLES)
        total = stamps.sum((1, 2), keepdim=True).clamp_min(1e-20)
        self.add(row, stamps / total, mags)

    def convolved(self, psf: Tensor | None) -> Tensor:
        """The stamps through the PSF, the instrument's own by default."""
        bands = len(self.instrument.bands)
        return convolve(self.image, self.instrument.psf() if psf is None else check_kernel(psf, bands))


def polar(canvas: Canvas, x: Tensor, y: Tensor, q: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    """Radius [arcsec] and angle [rad] of the grid in discs inclined to axis ratio q, each (m, side, side)."""
    gx, gy = canvas.grid
    dx, dy = gx - x[:, None, None], gy - y[:, None, None]
    c, s, q = torch.cos(phi)[:, None, None], torch.sin(phi)[:, None, None], q[:, None, None]
    u, v = c * dx + s * dy, (c * dy - s * dx) / q
    return torch.hypot(u, v), torch.atan2(v, u)


def spiral_arms(
    radius: Tensor, angle: Tensor, scale: Tensor, arms: Tensor, pitch: Tensor, start: Tensor
) -> Tensor:
    """Logarithmic spirals on a disc: ``exp(-r/h) max(0, cos(m (angle - ln(r/h)/tan pitch)))^2``."""
    h, m, p, a = (v[:, None, None] for v in (scale, arms, pitch, start))
    wind = torch.log(radius / h + 0.05) / torch.tan(p)
    return torch.exp(-radius / h) * torch.cos(m * (angle - wind) + a).clamp_min(0.0).square()


def ring(radius: Tensor, at: Tensor, width: Tensor) -> Tensor:
    """Gaussian ring of radius `at` and standard deviation `width` [arcsec]."""
    return torch.exp(-0.5 * ((radius - at[:, None, None]) / width[:, None, None]) ** 2)


def arc(radius: Tensor, angle: Tensor, at: Tensor, width: Tensor, extent: Tensor) -> Tensor:
    """Part of a ring: Gaussian across, and along it with standard deviation `extent` [rad] about angle 0."""
    turn = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
    return ring(radius, at, width) * torch.exp(-0.5 * (turn / extent[:, None, None]) ** 2)
