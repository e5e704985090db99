"""Principal components of noisy spectra with gaps, one basis for each narrow redshift bin (Li et al. 2018).

The components come from expectation maximisation with inverse-variance weights (Bailey 2012, PASP 124, 1015):
coefficients by weighted least squares given the components, then each component by weighted least squares
given the coefficients, until both settle. A pixel without a datum has weight 0 and is filled by the other
spectra.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from schema.errors import DataError
from schema.grid import DLOGLAM, WINDOW_NPIX

N_COMPONENTS = 6
BIN_WIDTH = 0.0025
MIN_PER_BIN = 12
WANTED_PER_BIN = 64
BORROW_DZ = 0.1


@dataclass
class GalaxyBank:
    """A basis for each redshift bin and the coefficients measured with it.

    Attributes
    ----------
    z : Tensor, shape (b,)  centre of each bin
    weight : Tensor, shape (b,)  relative number of spectra to draw from each bin
    basis : Tensor, shape (b, 1 + k, npix)  mean spectrum, then k components [1e-17 erg/s/cm2/Angstrom]
    coefficients : Tensor, shape (b, m, k)  of m spectra in each bin, repeated where a bin has fewer
    """

    z: Tensor
    weight: Tensor
    basis: Tensor
    coefficients: Tensor

    def to(self, device: torch.device | str) -> GalaxyBank:
        """The bank on another device."""
        return GalaxyBank(*(t.to(device) for t in (self.z, self.weight, self.basis, self.coefficients)))

    def sample(self, n: int, generator: torch.Generator, jitter: float = 0.25) -> tuple[Tensor, Tensor]:
        """Noiseless galaxy spectra drawn from the bank.

        Coefficients are those of a measured spectrum plus a Gaussian of `jitter` times their scatter in the
        bin, with the variance shrunk back to the measured one (smoothed bootstrap; Silverman 1986, section
        6.4).

        Returns
        -------
        (flux, z) : Tensor, shape (n, npix) [1e-17 erg/s/cm2/Angstrom], and Tensor, shape (n,)
        """
        device = self.z.device
        bins = torch.multinomial(self.weight, n, replacement=True, generator=generator)
        bins = bins.sort().values
        pick = torch.randint(self.coefficients.shape[1], (n,), generator=generator, device=device)
        mean, scatter = self.coefficients.mean(1)[bins], self.coefficients.std(1)[bins]
        noise = torch.randn(n, self.coefficients.shape[2], generator=generator, device=device)
        drawn = self.coefficients[bins, pick] - mean + jitter * scatter * noise
        drawn = mean + drawn / (1 + jitter**2) ** 0.5
        weights = torch.cat([torch.ones(n, 1, device=device), drawn], dim=1)  # (n, 1 + k)
        flux = torch.empty(n, self.basis.shape[2], device=device)
        order = torch.randperm(n, generator=generator, device=device)  # bins are mixed in what is returned
        present, counts = torch.unique_consecutive(bins, return_counts=True)
        for b, rows, weight in zip(
            present.tolist(), order.split(counts.tolist()), weights.split(counts.tolist()), strict=True
        ):
            flux[rows] = weight @ self.basis[b]
        z = torch.empty(n, device=device)
        z[order] = self.z[bins]
        return flux, z


def weighted_pca(
    flux: Tensor, weight: Tensor, n_components: int = N_COMPONENTS, n_iterations: int = 15, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Mean and principal components by weighted expectation maximisation.

    Parameters
    ----------
    flux : Tensor, shape (m, npix)
    weight : Tensor, shape (m, npix)  inverse variance, 0 for a gap
    n_components : int
    n_iterations : int

    Returns
    -------
    (basis, coefficients) : Tensor, shape (1 + k, npix): the weighted mean, then orthonormal components by
        falling share of the variance; Tensor, shape (m, k)

    Raises
    ------
    DataError
        With no more spectra than components.
    """
    m, npix = flux.shape
    if m <= n_components:
        raise DataError(f"{n_components} components need more than {n_components} spectra, got {m}")
    flux, weight = flux.double(), weight.double()
    total = weight.sum(0)
    mean = torch.where(total > 0, (weight * flux).sum(0) / total.clamp(min=1e-30), torch.zeros_like(total))
    flux = torch.where(weight > 0, flux, torch.zeros_like(flux))
    residual = torch.where(weight > 0, flux - mean, flux)
    start = torch.Generator().manual_seed(seed)
    components = torch.linalg.qr(torch.randn(npix, n_components, generator=start, dtype=torch.float64))[0].T
    for _ in range(n_iterations):
        coefficients = _solve(residual, weight, components)
        components = _solve(residual.T, weight.T, coefficients.T).T  # (k, npix)
        components = torch.linalg.qr(components.T)[0].T
        model = _solve(residual, weight, components) @ components
        mean = (weight * (flux - model)).sum(0) / total.clamp(min=1e-30)  # gaps bias a mean taken before
        residual = torch.where(weight > 0, flux - mean, torch.zeros_like(flux))
    mean = _bridge(mean, total > 0)
    coefficients = _solve(residual, weight, components)
    _, _, rotation = torch.linalg.svd(coefficients - coefficients.mean(0), full_matrices=False)
    return torch.cat([mean[None], rotation @ components]).float(), (coefficients @ rotation.T).float()


def _solve(values: Tensor, weight: Tensor, vectors: Tensor) -> Tensor:
    """Weighted least-squares coefficients (m, k) of `values` (m, n) in `vectors` (k, n), slightly ridged."""
    normal = torch.einsum("mn,kn,ln->mkl", weight, vectors, vectors)
    ridge = 1e-6 * normal.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
    normal = normal + ridge[:, None, None] * torch.eye(len(vectors), dtype=values.dtype)
    return torch.linalg.solve(normal, torch.einsum("mn,mn,kn->mk", weight, values, vectors))


def _bridge(mean: Tensor, known: Tensor) -> Tensor:
    """Pixels without any datum interpolated from their neighbours."""
    if bool(known.all()) or not bool(known.any()):
        return mean
    x = np.arange(len(mean))
    inside = known.numpy()
    return torch.from_numpy(np.interp(x, x[inside], mean.numpy()[inside]))


def bank_from_spectra(
    flux: Tensor,
    ivar: Tensor,
    z: Tensor,
    margin: int,
    *,
    z_min: float = 0.3,
    z_max: float = 1.0,
    npix: int = WINDOW_NPIX,
    seed: int = 0,
) -> GalaxyBank:
    """Bases in redshift bins of 0.0025 from real spectra.

    A bin with fewer than 64 spectra of its own takes the nearest in redshift, up to 0.1 away, each shifted by
    whole pixels so that its rest frame falls on the bin's.

    Parameters
    ----------
    flux, ivar : Tensor, shape (m, npix + 2 margin)  spectra that reach `margin` pixels beyond the window
    z : Tensor, shape (m,)
    margin : int  pixels available for shifting
    z_min, z_max : float  range of the bins; those with no spectrum within 0.1 are left out

    Raises
    ------
    DataError
        If no bin finds 12 spectra.
    """
    edges = z_min + BIN_WIDTH * torch.arange(round((z_max - z_min) / BIN_WIDTH), dtype=torch.float64)
    centers, bases, coefficients, weights = [], [], [], []
    rng = torch.Generator().manual_seed(seed)
    best = 0
    for center in (edges + BIN_WIDTH / 2).tolist():
        rows, own = _bin_members(z.double(), center, margin)
        best = max(best, len(rows))
        if len(rows) < MIN_PER_BIN:
            continue
        shift = torch.round((np.log10(1 + center) - torch.log10(1 + z[rows].double())) / DLOGLAM).long()
        columns = margin - shift[:, None] + torch.arange(npix)
        basis, coefficient = weighted_pca(
            flux[rows[:, None], columns], ivar[rows[:, None], columns], seed=seed
        )
        pick = torch.randint(len(rows), (WANTED_PER_BIN,), generator=rng)
        pick[: min(len(rows), WANTED_PER_BIN)] = torch.arange(min(len(rows), WANTED_PER_BIN))
        centers.append(center)
        bases.append(basis)
        coefficients.append(coefficient[pick])
        weights.append(own + 0.1)
    if not centers:
        raise DataError(
            f"no redshift bin between {z_min} and {z_max} finds {MIN_PER_BIN} spectra within {BORROW_DZ} in"
            f" redshift (the best has {best} of {len(z)}): select more galaxies, or train on templates"
            " (leave out --selection)"
        )
    return GalaxyBank(
        torch.tensor(centers, dtype=torch.float32),
        torch.tensor(weights, dtype=torch.float32),
        torch.stack(bases),
        torch.stack(coefficients),
    )


def _bin_members(z: Tensor, center: float, margin: int) -> tuple[Tensor, float]:
    """Rows for one bin, its own first and then the nearest, and how many are its own."""
    distance = (z - center).abs()
    reach = (torch.log10((1 + z) / (1 + center)).abs() / DLOGLAM) <= margin
    near = ((distance <= BORROW_DZ) & reach).nonzero()[:, 0]
    near = near[distance[near].argsort(stable=True)]
    own = int((distance <= BIN_WIDTH / 2).sum())
    return near[: max(own, WANTED_PER_BIN)], float(own)
