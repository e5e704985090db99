"""Galaxy spectra for a user who has none yet: mixtures of the templates that the kcorrect package ships.

The bank has the same form as one measured on real spectra (`scoring.pca`), so the published recipe runs
unchanged on it. The mixtures are old (the LRG template), with a little younger light; they are scaled
to the flux of BOSS galaxies, and given the absorption lines that the templates are too coarse for and a
minority's emission lines.
"""

from __future__ import annotations

import importlib.metadata
import math
from functools import cache
from pathlib import Path

import numpy as np
import torch
from astropy.io import fits
from torch import Tensor

from schema.errors import DataError
from schema.grid import DLOGLAM, WINDOW_FIRST, WINDOW_NPIX
from scoring.pca import BIN_WIDTH, N_COMPONENTS, GalaxyBank

REST_FIRST = 32600  # 1820 Angstrom: the window's blue end at z = 1.09
REST_NPIX = 4000  # up to 4571 Angstrom
PER_BIN = 96
TEMPLATE_FILES = ("kcorrect-lrg1-v4.fits", "kcorrect-default-v4.fits")
MIXTURE_MEAN = (1.0, 0.02, 0.01, 0.02, 0.35, 0.04)  # lrg1, then the five of the default set
LEVEL_AT_Z055 = 1.4  # flux at rest 4200 Angstrom in a BOSS fibre [1e-17 erg/s/cm2/Angstrom]
LEVEL_SCATTER = 0.55
ABSORPTION = (  # rest Angstrom, largest depth: lines blurred away in the templates
    (2374.5, 0.15), (2382.8, 0.2), (2586.7, 0.2), (2600.2, 0.25),
    (2796.4, 0.45), (2803.5, 0.4), (2853.0, 0.35),
)  # fmt: skip
EMISSION = (  # rest Angstrom, share of galaxies, median flux [1e-17 erg/s/cm2]
    (3346.8, 0.02, 3.0), (3426.9, 0.03, 6.0), (3728.5, 0.35, 6.0), (3869.8, 0.04, 4.0),
)  # fmt: skip


def template_paths() -> list[Path]:
    """Files of the installed kcorrect distribution, found without importing it.

    Raises
    ------
    DataError
        If the distribution or one of its files is missing.
    """
    try:
        files = importlib.metadata.files("kcorrect") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise DataError("galaxy templates come with the package kcorrect: pip install kcorrect") from error
    found = {Path(str(f)).name: Path(str(f.locate())) for f in files}
    missing = [name for name in TEMPLATE_FILES if name not in found or not found[name].is_file()]
    if missing:
        raise DataError(f"the installed kcorrect lacks {', '.join(missing)}: reinstall kcorrect>=5.1.3")
    return [found[name] for name in TEMPLATE_FILES]


@cache
def rest_templates() -> Tensor:
    """The six templates on the 1e-4 dex grid at rest, one at 4100-4300 Angstrom, shape (6, REST_NPIX)."""
    wave = np.power(10.0, (REST_FIRST + np.arange(REST_NPIX)) * DLOGLAM)
    anchor = (wave > 4100) & (wave < 4300)
    rows = []
    for path in template_paths():
        table = fits.getdata(path, 1)
        for flux in np.atleast_2d(table["flux"][0]):
            row = np.interp(wave, table["wave"][0], flux)
            rows.append(row / row[anchor].mean())
    return torch.from_numpy(np.array(rows)).float()


def template_spectra(n: int, z: float, generator: torch.Generator) -> Tensor:
    """Noiseless spectra of `n` galaxies at one redshift.

    Parameters
    ----------
    n : int
    z : float  0.3 to 1.0; rounded to the pixel grid

    Returns
    -------
    Tensor, shape (n, 1192)  [1e-17 erg/s/cm2/Angstrom]
    """
    first = WINDOW_FIRST - round(math.log10(1 + z) / DLOGLAM) - REST_FIRST
    templates = rest_templates()[:, first : first + WINDOW_NPIX]
    rest = torch.pow(10.0, (REST_FIRST + first + torch.arange(WINDOW_NPIX, dtype=torch.float64)) * DLOGLAM)
    mean = torch.tensor(MIXTURE_MEAN)
    mix = mean * -torch.log(torch.rand(n, len(mean), generator=generator).clamp(min=1e-6))  # exponential
    mix[:, 0] = mean[0] * (0.5 + torch.rand(n, generator=generator))
    mix /= mix.sum(1, keepdim=True)
    level = LEVEL_AT_Z055 * (0.55 / z) ** 0.8
    level = level * torch.exp(LEVEL_SCATTER * torch.randn(n, 1, generator=generator))
    flux = level * (mix @ templates)
    sigma = torch.exp(math.log(220.0) + 0.25 * torch.randn(n, 1, generator=generator)) / 69.03  # pixels
    log_rest = torch.log10(rest) / DLOGLAM
    for line, depth in ABSORPTION:
        gauss = torch.exp(-0.5 * ((log_rest - math.log10(line) / DLOGLAM).float() / sigma) ** 2)
        flux = flux * (1 - depth * torch.rand(n, 1, generator=generator) * gauss)
    pixel = (rest * (1 + z) * math.log(10) * DLOGLAM).float()  # observed Angstrom
    for line, share, median in EMISSION:
        present = (torch.rand(n, 1, generator=generator) < share).float()
        total = present * median * torch.exp(0.8 * torch.randn(n, 1, generator=generator))
        width = 1.6 + 2.5 * torch.rand(n, 1, generator=generator)
        gauss = torch.exp(-0.5 * ((log_rest - math.log10(line) / DLOGLAM).float() / width) ** 2)
        flux = flux + total * gauss / (2.5066 * width * pixel)
    return flux


def boss_redshift_weight(z: Tensor, floor: float = 0.05) -> Tensor:
    """Relative numbers of BOSS galaxies at z > 0.3: LOWZ's tail and CMASS (Dawson et al. 2013, figure 1).

    Parameters
    ----------
    z : Tensor
    floor : float  added everywhere, so that no redshift is unknown to what is trained; CMASS peaks at 8.9
    """
    lowz = 0.25 / 0.06 * torch.exp(-0.5 * ((z - 0.34) / 0.06) ** 2)
    cmass = 0.75 / 0.085 * torch.exp(-0.5 * ((z - 0.55) / 0.085) ** 2)
    return lowz + cmass + floor


@cache
def template_bank(seed: int = 0, z_min: float = 0.3, z_max: float = 1.0, floor: float = 0.05) -> GalaxyBank:
    """Six principal components in redshift bins of 0.0025 of simulated galaxies.

    Parameters
    ----------
    seed : int
    z_min, z_max : float  range of the bins; the templates reach down to 0.1
    floor : float  least weight of a redshift; see `boss_redshift_weight`

    Returns
    -------
    GalaxyBank, with weights as BOSS galaxies are distributed in redshift
    """
    generator = torch.Generator().manual_seed(seed)
    bins = torch.arange(round((z_max - z_min) / BIN_WIDTH), dtype=torch.float64)
    centers = z_min + BIN_WIDTH * (bins + 0.5)
    bases, coefficients = [], []
    for z in centers.tolist():
        flux = template_spectra(PER_BIN, z, generator)
        mean = flux.mean(0)
        _, _, components = torch.linalg.svd(flux - mean, full_matrices=False)
        components = components[:N_COMPONENTS]
        bases.append(torch.cat([mean[None], components]))
        coefficients.append((flux - mean) @ components.T)
    z_bins = centers.float()
    return GalaxyBank(
        z_bins, boss_redshift_weight(z_bins, floor), torch.stack(bases), torch.stack(coefficients)
    )
