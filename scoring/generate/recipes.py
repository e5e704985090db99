"""Recipes that turn a galaxy bank and a noise model into labelled spectra, a batch at a time.

`PublishedRecipe` is that of Li et al. (2018, section 3.2); where the paper is silent its fields say what was
chosen. `RealisticRecipe` adds what real spectra have: skewed lines behind a line spread function, and the
contaminants of `scoring.generate.contaminants`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from schema.errors import UserError
from schema.grid import LYA_ANGSTROM, SPEED_OF_LIGHT_KM_S, WINDOW_NPIX, window_wave
from scoring.generate import contaminants
from scoring.generate.galaxies import template_bank
from scoring.generate.lines import (
    DOUBLE_PEAK,
    GAUSSIAN,
    OII_DOUBLET,
    SKEWED,
    Lines,
    boss_lsf_pixels,
    flux_from_peak,
    inject_lines,
    line_profiles,
    no_lines,
)
from scoring.noise import NoiseModel, load_noise
from scoring.pca import GalaxyBank


@dataclass
class Batch:
    """Simulated spectra of the search window with their truth.

    Attributes
    ----------
    flux : Tensor, shape (n, 1192)  [1e-17 erg/s/cm2/Angstrom]
    ivar : Tensor, shape (n, 1192)  inverse variance, 0 where there is no datum
    z : Tensor, shape (n,)  redshift of the galaxy
    label : Tensor, shape (n,)  1.0 with a line that is not the galaxy's own, else 0.0
    lines : Lines of n spectra, flux 0 where there is none
    model : Tensor, shape (n, 1192), or None  the galaxy as a pipeline's template fit would give it
    """

    flux: Tensor
    ivar: Tensor
    z: Tensor
    label: Tensor
    lines: Lines
    model: Tensor | None = None

    def more(self, rows: Tensor | None = None) -> dict[str, Tensor]:
        """What `SpectralModel.preprocess` may take besides flux, ivar and z, of some rows."""
        if self.model is None:
            return {}
        return {"model": self.model if rows is None else self.model[rows]}


def choose_rows(n: int, fraction: float, generator: torch.Generator) -> Tensor:
    """Random rows that get a line: as many as `fraction` says, a remainder by chance."""
    exact = n * fraction
    extra = torch.rand((), generator=generator, device=generator.device) < exact - int(exact)
    count = int(exact) + int(extra)
    return torch.randperm(n, generator=generator, device=generator.device)[:count]


def log_uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Numbers uniform in the logarithm, shape (n,)."""
    u = torch.rand(n, generator=generator, device=generator.device)
    return low * (high / low) ** u


@dataclass(frozen=True)
class PublishedRecipe:
    """Li et al. (2018): PCA galaxies, noise and sky, Gaussian lines in one spectrum of fifteen.

    The paper gives no distribution of peaks above the limit. By default they are log-uniform from 1.5 to 15,
    which covers the fluxes of its table 1 (12 to 51 for a width of 4 Angstrom). Nor does it give that of
    redshifts: as BOSS.

    Attributes
    ----------
    positive_fraction : float  10,000 of 150,000 in the paper
    fwhm_mean_kms, fwhm_sd_kms : float  normal distribution of widths [km/s]
    fwhm_min_angstrom : float  redrawn until wider, at rest [Angstrom]
    peak_min, peak_max : float  [1e-17 erg/s/cm2/Angstrom]
    peak_law : str  "log-uniform" (the harder: half of the peaks below 4.7) or "uniform" (half below 8.2)
    wave_min, wave_max : float  line centres, uniform [Angstrom]
    sky_rms : float  share of the mean sky spectrum left in every spectrum, one standard deviation
    template : bool  give the pipeline's galaxy model too
    """

    name: ClassVar[str] = "published"
    PEAK_LAWS: ClassVar[tuple[str, ...]] = ("log-uniform", "uniform")
    positive_fraction: float = 1 / 15
    fwhm_mean_kms: float = 300.0
    fwhm_sd_kms: float = 200.0
    fwhm_min_angstrom: float = 0.5
    peak_min: float = 1.5
    peak_max: float = 15.0
    peak_law: str = "log-uniform"
    wave_min: float = 3800.0
    wave_max: float = 5000.0
    sky_rms: float = 0.01
    template: bool = False

    def __post_init__(self) -> None:
        if self.peak_law not in self.PEAK_LAWS:
            raise UserError(f"peak_law is {self.peak_law!r}; choose {' or '.join(self.PEAK_LAWS)}")

    def sample(
        self,
        n: int,
        generator: torch.Generator,
        bank: GalaxyBank | None = None,
        noise: NoiseModel | None = None,
    ) -> Batch:
        """Draw `n` labelled spectra on the generator's device.

        Parameters
        ----------
        n : int
        generator : torch.Generator  seeded; the same seed gives the same batch
        bank : GalaxyBank, optional  default: from kcorrect's templates
        noise : NoiseModel, optional  default: measured on BOSS
        """
        bank, noise = _materials(bank, noise, generator)
        flux, z = bank.sample(n, generator)
        galaxy = flux.clone() if self.template else None
        sigma = noise.sigma(flux, generator)
        lines = self.draw_lines(n, generator)
        rows = lines.flux.nonzero()[:, 0]
        flux[rows] += line_profiles(_wave(generator), lines.take(rows))
        flux.addcmul_(noise.chi(n, generator, flux.device), sigma)
        left = self.sky_rms * torch.randn(n, 1, generator=generator, device=flux.device)
        flux.addmm_(left, _sky(noise, generator)[None])
        model = None if galaxy is None else contaminants.template_fit(galaxy, generator)
        return Batch(flux, sigma.square_().reciprocal_(), z, (lines.flux > 0).float(), lines, model)

    def draw_lines(self, n: int, generator: torch.Generator) -> Lines:
        """Lines for `n` spectra, absent in most."""
        rows = choose_rows(n, self.positive_fraction, generator)
        m, device = len(rows), generator.device
        lines = no_lines(n, device)
        fwhm_min = self.fwhm_min_angstrom / LYA_ANGSTROM * SPEED_OF_LIGHT_KM_S
        wave = self.wave_min + (self.wave_max - self.wave_min) * torch.rand(
            m, generator=generator, device=device
        )
        fwhm = truncated_normal(m, self.fwhm_mean_kms, self.fwhm_sd_kms, fwhm_min, generator)
        if self.peak_law == "uniform":
            span = self.peak_max - self.peak_min
            peak = self.peak_min + span * torch.rand(m, generator=generator, device=device)
        else:
            peak = log_uniform(m, self.peak_min, self.peak_max, generator)
        lines.wave_angstrom[rows] = wave
        lines.fwhm_kms[rows] = fwhm
        lines.flux[rows] = flux_from_peak(peak, wave, fwhm)
        return lines


@dataclass(frozen=True)
class RealisticRecipe:
    """Spectra as BOSS really gives them.

    Lines are skewed (Lyman alpha), double-peaked, Gaussian (other lines of a background galaxy) or [OII]
    doublets, blurred by the BOSS line spread function and integrated over pixels. Every spectrum may suffer
    from sky residuals, cosmic rays, the galaxy's own lines off its redshift, absorption, wrong errors and
    gaps.

    Attributes
    ----------
    positive_fraction : float
    flux_min, flux_max : float  total line flux, log-uniform [1e-17 erg/s/cm2]
    fwhm_min_kms, fwhm_max_kms : float  intrinsic width, log-uniform [km/s]
    skew_max : float  largest shape parameter of the skew-normal
    shares : relative numbers of Gaussian, skewed, double-peaked lines and [OII] doublets
    template : bool  give the pipeline's galaxy model too, which knows nothing of what is added to the galaxy
    """

    name: ClassVar[str] = "realistic"
    positive_fraction: float = 0.35
    flux_min: float = 3.0
    flux_max: float = 80.0
    fwhm_min_kms: float = 80.0
    fwhm_max_kms: float = 700.0
    skew_max: float = 8.0
    shares: tuple[float, float, float, float] = (0.25, 0.55, 0.1, 0.1)
    wave_min: float = 3800.0
    wave_max: float = 5000.0
    template: bool = False

    def sample(
        self,
        n: int,
        generator: torch.Generator,
        bank: GalaxyBank | None = None,
        noise: NoiseModel | None = None,
    ) -> Batch:
        """Draw `n` labelled spectra on the generator's device; parameters as `PublishedRecipe.sample`."""
        bank, noise = _materials(bank, noise, generator)
        flux, z = bank.sample(n, generator)
        galaxy = flux.clone() if self.template else None
        contaminants.add_fluxing_errors(flux, generator)
        contaminants.add_absorption(flux, generator)
        contaminants.add_own_lines(flux, z, generator)
        sigma = noise.sigma(flux, generator)
        contaminants.add_cosmic_rays(flux, sigma, generator)
        contaminants.add_sky_residuals(flux, _sky(noise, generator), generator)
        lines = self.draw_lines(n, generator)
        ivar = torch.ones_like(flux)
        spread = 1 + 0.08 * torch.randn(n, generator=generator, device=flux.device)
        flux = inject_lines(
            flux, ivar, _wave(generator), lines, boss_lsf_pixels(lines.wave_angstrom) * spread
        )
        flux.addcmul_(noise.chi(n, generator, flux.device), sigma)
        ivar = sigma.square_().reciprocal_()
        contaminants.rescale_ivar(ivar, generator)
        contaminants.cut_gaps(flux, ivar, generator)
        model = None if galaxy is None else contaminants.template_fit(galaxy, generator)
        return Batch(flux, ivar, z, (lines.flux > 0).float(), lines, model)

    def draw_lines(self, n: int, generator: torch.Generator) -> Lines:
        """Lines for `n` spectra, absent in some."""
        rows = choose_rows(n, self.positive_fraction, generator)
        m, device = len(rows), generator.device
        lines = no_lines(n, device)
        kinds = torch.tensor([GAUSSIAN, SKEWED, DOUBLE_PEAK, OII_DOUBLET], device=device)
        kind = kinds[
            torch.multinomial(
                torch.tensor(self.shares, device=device), max(m, 1), replacement=True, generator=generator
            )
        ][:m]
        asymmetric = ((kind == SKEWED) | (kind == DOUBLE_PEAK)).float()
        u = torch.rand(2, m, generator=generator, device=device)
        lines.kind[rows] = kind
        lines.wave_angstrom[rows] = self.wave_min + (self.wave_max - self.wave_min) * u[0]
        lines.fwhm_kms[rows] = log_uniform(m, self.fwhm_min_kms, self.fwhm_max_kms, generator)
        lines.flux[rows] = log_uniform(m, self.flux_min, self.flux_max, generator)
        lines.skew[rows] = asymmetric * (0.5 + (self.skew_max - 0.5) * u[1])
        return lines


Recipe = PublishedRecipe | RealisticRecipe
RECIPES: dict[str, type[PublishedRecipe] | type[RealisticRecipe]] = {
    "published": PublishedRecipe,
    "realistic": RealisticRecipe,
}


def get_recipe(name: str, **changes: Any) -> Recipe:
    """Recipe by name with some fields changed.

    Raises
    ------
    UserError
        If there is none of that name, or no such field.
    """
    if name not in RECIPES:
        raise UserError(f"no recipe is called {name!r}; choose from {', '.join(RECIPES)}")
    try:
        return RECIPES[name](**changes)
    except TypeError as error:
        raise UserError(f"recipe {name}: {error}") from error


def describe(recipe: Recipe) -> dict[str, Any]:
    """Name and fields, for a model card."""
    return {"name": recipe.name, **asdict(recipe)}


def truncated_normal(n: int, mean: float, sd: float, low: float, generator: torch.Generator) -> Tensor:
    """Normal numbers, those below `low` drawn again until none is left, shape (n,)."""
    x = torch.empty(n, device=generator.device).normal_(mean, sd, generator=generator)
    while bool((bad := x <= low).any()):
        x[bad] = torch.empty(int(bad.sum()), device=x.device).normal_(mean, sd, generator=generator)
    return x


def _materials(
    bank: GalaxyBank | None, noise: NoiseModel | None, generator: torch.Generator
) -> tuple[GalaxyBank, NoiseModel]:
    bank = template_bank() if bank is None else bank
    if bank.z.device != generator.device:
        bank = bank.to(generator.device)
    return bank, load_noise() if noise is None else noise


def _wave(generator: torch.Generator) -> Tensor:
    wave = torch.from_numpy(window_wave())
    assert len(wave) == WINDOW_NPIX
    return wave.to(generator.device)


def _sky(noise: NoiseModel, generator: torch.Generator) -> Tensor:
    return torch.as_tensor(noise.sky, device=generator.device)
