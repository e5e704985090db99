"""What makes real spectra look as if they held a line, or hides one: added to simulated spectra in place.

Each function touches a random share of the rows. None of them changes a label: a network trained on these
spectra learns that residuals of the sky, cosmic rays and the lens's own lines are not the line sought.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from schema.grid import DLOGLAM, WINDOW_FIRST

OWN_LINES = (2799.1, 3346.8, 3426.9, 3728.5, 3869.8, 3889.7, 3969.0, 4102.9, 4341.7)
"""Rest vacuum wavelengths of emission that a lens galaxy may show in the window [Angstrom]."""

OWN_CHANCE = (0.15, 0.3, 0.3, 0.8, 0.4, 0.3, 0.3, 0.3, 0.3)
"""How often each is there in a galaxy that shows any."""


def _rows(n: int, share: float, generator: torch.Generator) -> Tensor:
    drawn = torch.rand(n, generator=generator, device=generator.device)
    return (drawn < share).nonzero()[:, 0]


def add_sky_residuals(
    flux: Tensor, sky: Tensor, generator: torch.Generator, share: float = 0.2, rms: float = 0.012
) -> None:
    """A per cent or two of the sky spectrum left over, a fraction of a pixel out of place.

    Parameters
    ----------
    flux : Tensor, shape (n, npix)  changed in place [1e-17 erg/s/cm2/Angstrom]
    sky : Tensor, shape (npix,)  mean sky spectrum, same unit
    share : float  of the rows
    rms : float  of the residual, in units of the sky; tails as of a Student t with 3 degrees of freedom
    """
    rows = _rows(len(flux), share, generator)
    m, device = len(rows), flux.device
    slope = torch.gradient(sky)[0]
    normal = torch.randn(m, 5, generator=generator, device=device)
    heavy = normal[:, 0] / (normal[:, 2:].square().mean(1)).sqrt().clamp(min=0.25)
    flux[rows] += (rms * heavy)[:, None] * sky + (rms * normal[:, 1])[:, None] * slope


def add_fluxing_errors(
    flux: Tensor, generator: torch.Generator, share: float = 0.3, rms: float = 0.04
) -> None:
    """Slow waves of a few per cent, as flux calibration leaves them, in place."""
    rows = _rows(len(flux), share, generator)
    m, device = len(rows), flux.device
    x = torch.linspace(0, 1, flux.shape[1], device=device)
    period = 1 + 5 * torch.rand(m, 1, generator=generator, device=device)
    phase = 2 * math.pi * torch.rand(m, 1, generator=generator, device=device)
    height = rms * torch.randn(m, 1, generator=generator, device=device)
    flux[rows] *= 1 + height * torch.sin(2 * math.pi * period * x + phase)


def add_cosmic_rays(flux: Tensor, sigma: Tensor, generator: torch.Generator, share: float = 0.015) -> None:
    """Spikes of a pixel and a faint neighbour, narrower than any line, 5 to 40 sigma high, in place."""
    rows = _rows(len(flux), share, generator)
    m, device = len(rows), flux.device
    at = torch.randint(flux.shape[1] - 1, (m,), generator=generator, device=device)
    height = 5 * 8 ** torch.rand(m, generator=generator, device=device) * sigma[rows, at]
    flux[rows, at] += height
    flux[rows, at + 1] += height * torch.rand(m, generator=generator, device=device) * 0.5


def add_own_lines(flux: Tensor, z: Tensor, generator: torch.Generator, share: float = 0.06) -> None:
    """Emission of the lens itself, up to some hundred km/s off its redshift, in place.

    Parameters
    ----------
    flux : Tensor, shape (n, npix)  [1e-17 erg/s/cm2/Angstrom]
    z : Tensor, shape (n,)
    share : float  of the rows that get each of 9 lines with its own chance
    """
    rows = _rows(len(flux), share, generator)
    m, device = len(rows), flux.device
    rest = torch.tensor(OWN_LINES, device=device, dtype=torch.float64)
    off = 3.0 * torch.randn(m, 1, generator=generator, device=device)  # one shift a galaxy [pixel]
    center = torch.log10(rest[None] * (1 + z[rows, None].double())) / DLOGLAM - WINDOW_FIRST
    center = center.float() + off  # (m, lines)
    chance = torch.tensor(OWN_CHANCE, device=device)
    present = (torch.rand(center.shape, generator=generator, device=device) < chance).float()
    total = present * 6 * torch.exp(0.8 * torch.randn(center.shape, generator=generator, device=device))
    width = 1.5 + 3.5 * torch.rand(center.shape, generator=generator, device=device)  # pixels
    pixel = torch.arange(flux.shape[1], device=device)
    for line in range(len(OWN_LINES)):
        inside = ((center[:, line] > -20) & (center[:, line] < flux.shape[1] + 20)).nonzero()[:, 0]
        if len(inside):
            w = width[inside, line, None]
            gauss = torch.exp(-0.5 * ((pixel - center[inside, line, None]) / w) ** 2)
            flux[rows[inside]] += total[inside, line, None] * gauss / (2.5066 * w)


def add_absorption(flux: Tensor, generator: torch.Generator, share: float = 0.2) -> None:
    """Absorption that no template has, intervening or stellar: up to five lines a row, in place."""
    rows = _rows(len(flux), share, generator)
    device = flux.device
    pixel = torch.arange(flux.shape[1], device=device)
    for _ in range(5):
        m = len(rows)
        if m == 0:
            return
        center = flux.shape[1] * torch.rand(m, 1, generator=generator, device=device)
        width = 1.5 + 4 * torch.rand(m, 1, generator=generator, device=device)
        depth = 0.5 * torch.rand(m, 1, generator=generator, device=device)
        flux[rows] *= 1 - depth * torch.exp(-0.5 * ((pixel - center) / width) ** 2)
        rows = rows[torch.rand(m, generator=generator, device=device) < 0.6]


def rescale_ivar(ivar: Tensor, generator: torch.Generator, share: float = 0.05, rms: float = 0.08) -> None:
    """Errors quoted too small or too large, in place."""
    rows = _rows(len(ivar), share, generator)
    normal = torch.randn(len(rows), 1, generator=generator, device=ivar.device)
    ivar[rows] *= torch.exp(2 * rms * normal)


def cut_gaps(flux: Tensor, ivar: Tensor, generator: torch.Generator, share: float = 0.06) -> None:
    """Runs of 1 to 200 pixels without a datum (flux and ivar 0), in place."""
    rows = _rows(len(flux), share, generator)
    m, device = len(rows), flux.device
    length = 200 ** torch.rand(m, 1, generator=generator, device=device)
    start = flux.shape[1] * torch.rand(m, 1, generator=generator, device=device)
    pixel = torch.arange(flux.shape[1], device=device)
    keep = ((pixel < start) | (pixel > start + length)).to(flux.dtype)
    flux[rows] *= keep
    ivar[rows] *= keep


def template_fit(
    galaxy: Tensor,
    generator: torch.Generator,
    features: float = 0.06,
    shift: float = 0.2,
    level: float = 0.005,
    spread: float = 1.2,
    width: int = 61,
) -> Tensor:
    """A galaxy as the template fit of a pipeline gives it: right at large, a little wrong in its features.

    With the defaults the rms of means of 32 residuals, in units of what independent noise would give, has the
    median 1.17 in the realistic recipe and lies above 1.46 for one galaxy in twenty; in 18 BOSS galaxies at
    z > 0.3 it is 0.88 to 1.49, median 1.12.

    Parameters
    ----------
    galaxy : Tensor, shape (n, npix)  without noise [1e-17 erg/s/cm2/Angstrom]
    features : float  rms by which stellar features come out too strong or too weak, relative
    shift : float  rms of the fit's redshift error [pixel of 69 km/s]
    level : float  rms of its level, relative
    spread : float  standard deviation of the logarithm by which a galaxy's fit is better or worse than that
    width : int  pixels of the running mean that features stand out from

    Returns
    -------
    Tensor, shape (n, npix)  the model; `galaxy` is left as it is
    """
    normal = torch.randn(4, len(galaxy), 1, generator=generator, device=galaxy.device)
    normal = normal[:3] * torch.exp(spread * normal[3])
    padded = torch.nn.functional.pad(galaxy[:, None], (width // 2, width // 2), mode="replicate")
    smooth = torch.nn.functional.avg_pool1d(padded, width, 1)[:, 0]
    slope = torch.gradient(galaxy, dim=1)[0]
    model = galaxy + features * normal[0] * (galaxy - smooth) + shift * normal[1] * slope
    return model * (1 + level * normal[2])
