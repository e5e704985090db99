"""Test sets with known truth: the paper's own, and lines injected into real spectra.

For a threshold at a false-positive rate of one in a thousand there are far too few real galaxies at hand, so
negatives are put together from real parts: the pipeline's model of one galaxy (its continuum at its
redshift) plus residuals of real spectra in units of their error, taken in blocks from several donors.
Correlated noise, imperfect sky subtraction and errors that are too small enter as they are; the galaxies'
own spectra without injection are scored beside them as a check. What no donor shows, the negatives do not
hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schema.errors import UserError
from schema.grid import LYA_ANGSTROM, SPEED_OF_LIGHT_KM_S, WINDOW_FIRST, WINDOW_NPIX, wave_angstrom
from scoring.generate.lines import GAUSSIAN, SKEWED, Lines, inject_lines, no_lines
from scoring.generate.recipes import PublishedRecipe, truncated_normal
from scoring.localise import lens_line_mask

BLOCK_PX = 149
"""Length of a block of residuals taken from one donor [pixel]; an eighth of the search window."""

FADE_PX = 24
"""Length over which one donor fades into the next [pixel]."""

SHIFT_PX = 30
"""Largest shift of a block, which keeps airglow and mercury lines near their wavelengths [pixel]."""


@dataclass
class Spectra:
    """Spectra of known truth over any range of the grid.

    Attributes
    ----------
    flux, ivar : Tensor, shape (n, npix)
        Flux density [1e-17 erg/s/cm2/Angstrom] and its inverse variance, 0 where there is no datum.
    z : Tensor, shape (n,)
        Redshift of the galaxy.
    lines : Lines of n spectra
        What was put in; flux 0 in negatives.
    host : ndarray of int, shape (n,)
        Which galaxy a spectrum was made from; spectra of one host share its continuum and noise.
    model : Tensor, shape (n, npix), or None
        The pipeline's galaxy model, where there is one.
    first_pixel : int
        Grid index of the first pixel.
    """

    flux: Tensor
    ivar: Tensor
    z: Tensor
    lines: Lines
    host: NDArray[np.int64]
    model: Tensor | None = None
    first_pixel: int = WINDOW_FIRST

    def __len__(self) -> int:
        return len(self.flux)

    @property
    def label(self) -> NDArray[np.bool_]:
        """True where a line was put in, shape (n,)."""
        return (self.lines.flux > 0).numpy()

    def take(self, rows: Tensor) -> Spectra:
        """Some of the spectra."""
        model = None if self.model is None else self.model[rows]
        host = self.host[rows.numpy()]
        return Spectra(
            self.flux[rows],
            self.ivar[rows],
            self.z[rows],
            self.lines.take(rows),
            host,
            model,
            self.first_pixel,
        )


def paper_test(
    n: int, seed: int, recipe: PublishedRecipe | None = None, batch: int = 5000
) -> Iterator[Spectra]:
    """Spectra of the published recipe, in batches: one in fifteen holds a line (Li et al. 2018, section 3.2).

    Parameters
    ----------
    n : int
        Spectra in all; the paper's test tenth is 15,000.
    seed : int
        Seed of torch's generator; training uses other seeds, so that no test spectrum was ever trained on.
    recipe : PublishedRecipe, optional
        Default: as published.
    batch : int
        Spectra at a time.
    """
    recipe = recipe or PublishedRecipe()
    generator = torch.Generator().manual_seed(seed)
    for first in range(0, n, batch):
        drawn = recipe.sample(min(batch, n - first), generator)
        host = np.arange(first, first + len(drawn.flux), dtype=np.int64)
        yield Spectra(drawn.flux, drawn.ivar, drawn.z, drawn.lines, host)


def near_real_negatives(hosts: Spectra, n: int, generator: torch.Generator) -> Spectra:
    """Negatives out of real parts: model of one galaxy plus blocks of residuals of others.

    Parameters
    ----------
    hosts : Spectra
        Real galaxies with their pipeline models.
    n : int
        Negatives to make.
    generator : torch.Generator
        Seeded.

    Returns
    -------
    Spectra
        `host` is the galaxy that gave continuum, redshift and errors.

    Raises
    ------
    UserError
        If the hosts lack the pipeline's model.
    """
    if hosts.model is None:
        raise UserError("negatives need the pipeline model of the galaxies, and their shards hold none")
    n_host, npix = hosts.flux.shape
    good = hosts.ivar > 0
    chi = torch.where(good, (hosts.flux - hosts.model) * hosts.ivar.sqrt(), 0.0)
    # a donor's own lines would be lines at a wavelength where the new galaxy has no mask
    own = lens_line_mask(hosts.z, hosts.first_pixel, npix) | ~good
    chi = torch.where(own, torch.randn(chi.shape, generator=generator), chi)
    noise = _from_donors(chi, n, generator)
    host = torch.arange(n) % n_host
    ivar = hosts.ivar[host]
    flux = hosts.model[host] + torch.where(ivar > 0, noise / ivar.clamp_min(1e-12).sqrt(), 0.0)
    return Spectra(
        flux, ivar, hosts.z[host], no_lines(n), hosts.host[host.numpy()], hosts.model[host], hosts.first_pixel
    )


def _from_donors(chi: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Residuals of unit error, shape (n, npix), a row put together from blocks of several donors.

    Where blocks meet one fades into the other with weights whose squares add up to 1, so that the scatter
    stays and a step between the donors' levels does not look like an edge; where they meet is random.
    """
    n_donor, npix = chi.shape
    n_block = -(-npix // BLOCK_PX) + 1
    start = torch.randint(BLOCK_PX, (n, 1), generator=generator)
    place = torch.arange(npix) + start  # (n, npix)
    block, within = place // BLOCK_PX, place % BLOCK_PX
    donor = torch.randint(n_donor, (n, n_block + 1), generator=generator)
    shift = torch.randint(-SHIFT_PX, SHIFT_PX + 1, (n, n_block + 1), generator=generator)

    def of(which: Tensor) -> Tensor:
        return chi[donor.gather(1, which), (torch.arange(npix) + shift.gather(1, which)) % npix]

    phase = (within - (BLOCK_PX - FADE_PX)).clamp_min(0) / FADE_PX * (torch.pi / 2)
    return torch.cos(phase) * of(block) + torch.sin(phase) * of(block + 1)


def injected(
    hosts: Spectra,
    fluxes: tuple[float, ...],
    n_each: int,
    generator: torch.Generator,
    profile: str = "skewed",
) -> Spectra:
    """Lines of given flux put into real spectra, which otherwise stay as observed.

    Widths are those of Li et al. (2018, section 3.2): normal with mean 300 and standard deviation 200 km/s,
    above 0.5 Angstrom at rest; wavelengths are uniform over the search window; profiles are convolved with
    the line spread function of BOSS.

    Parameters
    ----------
    hosts : Spectra
        Real galaxies.
    fluxes : tuple of float
        Line fluxes [1e-17 erg/s/cm2].
    n_each : int
        Lines of each flux, spread evenly over the hosts.
    generator : torch.Generator
        Seeded.
    profile : str
        ``skewed`` for Lyman alpha with a red tail (shape parameter uniform from 0.5 to 8), or ``gaussian``.
    """
    if profile not in ("skewed", "gaussian"):
        raise UserError(f"no line profile is called {profile!r}; choose from skewed, gaussian")
    n = n_each * len(fluxes)
    host = torch.arange(n) % len(hosts)
    recipe = PublishedRecipe()
    narrowest = recipe.fwhm_min_angstrom / LYA_ANGSTROM * SPEED_OF_LIGHT_KM_S
    skewed = profile == "skewed"
    lines = Lines(
        wave_angstrom=recipe.wave_min
        + (recipe.wave_max - recipe.wave_min) * torch.rand(n, generator=generator),
        flux=torch.tensor(fluxes, dtype=torch.float32).repeat_interleave(n_each),
        fwhm_kms=truncated_normal(n, recipe.fwhm_mean_kms, recipe.fwhm_sd_kms, narrowest, generator),
        skew=(0.5 + 7.5 * torch.rand(n, generator=generator)) * float(skewed),
        kind=torch.full((n,), SKEWED if skewed else GAUSSIAN),
    )
    wave = torch.from_numpy(wave_angstrom(hosts.first_pixel + np.arange(hosts.flux.shape[1])))
    base = hosts.take(host)
    flux = torch.cat(
        [
            inject_lines(base.flux[i : i + 2000], base.ivar[i : i + 2000], wave, lines.take(rows))
            for i in range(0, n, 2000)
            for rows in [torch.arange(i, min(i + 2000, n))]
        ]
    )
    return Spectra(flux, base.ivar, base.z, lines, base.host, base.model, base.first_pixel)


def window(spectra: Spectra, first_pixel: int = WINDOW_FIRST, npix: int = WINDOW_NPIX) -> Spectra:
    """The same spectra cut to a wavelength window."""
    part = slice(first_pixel - spectra.first_pixel, first_pixel - spectra.first_pixel + npix)
    model = None if spectra.model is None else spectra.model[:, part]
    return Spectra(
        spectra.flux[:, part],
        spectra.ivar[:, part],
        spectra.z,
        spectra.lines,
        spectra.host,
        model,
        first_pixel,
    )
