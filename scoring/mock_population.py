"""Who sits on the plates of a mock survey: galaxies, stars, quasars, sky, lenses, and what looks like lenses.

The proportions follow BOSS: 1000 fibres a plate of which 80 see sky and 20 a standard star; luminous red
galaxies of LOWZ and CMASS (Dawson et al. 2013, AJ 145, 10). Lenses and look-alikes are far more
frequent than on the sky, since their numbers have to say something. The look-alikes are those that Shu et
al. (2016, ApJ 824, 86) and Li et al. (2018) remove: residuals of airglow at one observed wavelength, of
the galaxy template at one rest wavelength, cosmic rays, bad pixels, [OII] emitters along the line of sight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from schema.errors import UserError
from schema.grid import LYA_ANGSTROM

FIBERS_PER_PLATE = 1000
FIRST_PLATE = 16001
"""SDSS-V ends at plate 15,500-odd, so mock plates are not mistaken for real ones; specObjID holds 16,383."""
FIRST_MJD = 57001
OII_ANGSTROM = 3728.48
AIRGLOW_ANGSTROM = 4421.0
"""An airglow feature that no mask lists, so that the cut on over-densities has to find it [Angstrom]."""
RESIDUAL_REST_ANGSTROM = 2966.0
"""Rest wavelength at which the mock galaxies differ from their template [Angstrom]."""
SUBCLASSES = ("STARFORMING", "STARBURST", "AGN", "BROADLINE")
LEFT_OUT = ("STARFORMING", "AGN", "BROADLINE")


@dataclass(frozen=True)
class MockRecipe:
    """What a mock survey holds.

    Attributes
    ----------
    n_spectra : int
        Fibres, 1000 to a plate.
    n_lenses, n_known : int
        Lenses nobody knows yet, and lenses that stand in the catalogue of known lenses.
    flux_min, flux_max : float
        Range of the Lyman-alpha line flux, drawn evenly in its logarithm [1e-17 erg/s/cm2].
    n_oii, n_airglow, n_residual, n_cosmic, n_bad_pixel : int
        Look-alikes of each kind.
    n_repeat : int
        Galaxies observed a second time, on the last plate.
    seed : int
        Everything follows from it.
    """

    n_spectra: int = 3000
    n_lenses: int = 150
    n_known: int = 8
    flux_min: float = 6.0
    flux_max: float = 60.0
    n_oii: int = 24
    n_airglow: int = 30
    n_residual: int = 30
    n_cosmic: int = 30
    n_bad_pixel: int = 20
    n_repeat: int = 20
    seed: int = 1

    @classmethod
    def of_size(cls, n_spectra: int, seed: int = 1) -> MockRecipe:
        """The default proportions at another size.

        Raises
        ------
        UserError
            For fewer than 300 spectra, where an over-density cannot be told from chance.
        """
        if not 300 <= n_spectra <= 380_000:
            raise UserError(f"a mock survey of {n_spectra} spectra: give 300 to 380000")
        share = n_spectra / cls.n_spectra
        counts = ("n_lenses", "n_oii", "n_airglow", "n_residual", "n_cosmic", "n_bad_pixel", "n_repeat")
        least = {"n_airglow": 12, "n_residual": 12}  # an over-density has to be one
        scaled = {name: max(least.get(name, 3), round(share * getattr(cls, name))) for name in counts}
        return cls(n_spectra=n_spectra, seed=seed, n_known=max(3, round(share * cls.n_known)), **scaled)


def draw_population(recipe: MockRecipe) -> pd.DataFrame:
    """Draw the objects of a mock survey.

    Parameters
    ----------
    recipe : MockRecipe
        Numbers and seed.

    Returns
    -------
    DataFrame, one row per fibre
        plate, mjd, fiber; ra_deg, dec_deg; class, subclass, objtype; z, z_warning; mag_i [AB mag];
        young (share of young stars); tilt; kind (plain, lens, known_lens, oii, airglow, residual,
        cosmic, bad_pixel, sky, star, qso); and for those with a line: line, wave_angstrom,
        line_flux [1e-17 erg/s/cm2], sigma_angstrom, skewness, z_source.
    """
    rng = np.random.default_rng(recipe.seed)
    n = recipe.n_spectra
    fiber = np.arange(n) % FIBERS_PER_PLATE + 1
    plate_no = np.arange(n) // FIBERS_PER_PLATE
    sky = pd.DataFrame(
        {
            "plate": FIRST_PLATE + plate_no,
            "mjd": FIRST_MJD + 7 * plate_no,
            "fiber": fiber,
            "class": "GALAXY",
            "subclass": "",
            "objtype": "GALAXY",
            "kind": "plain",
            "z_warning": 0,
        }
    )
    _place(sky, plate_no, rng)
    sky["z"] = _galaxy_redshifts(n, rng)
    sky["mag_i"] = np.clip(rng.normal(17.9 + 2.9 * sky["z"], 0.55), 17.0, 20.6)
    sky["young"] = np.where(rng.random(n) < 0.3, rng.exponential(0.05, n), 0.0).clip(0, 0.4)
    sky["tilt"] = rng.normal(0.0, 0.15, n)
    _assign_others(sky, rng)
    for column in ("wave_angstrom", "line_flux", "sigma_angstrom", "skewness", "z_source"):
        sky[column] = np.nan
    sky["line"] = ""
    _assign_kinds(sky, recipe, rng)
    _repeat(sky, recipe.n_repeat, rng)
    return sky


def paper_selection(sky: pd.DataFrame) -> NDArray[np.bool_]:
    """Rows that the selection of Li et al. (2018, section 3.2) would take."""
    chosen = (sky["class"] == "GALAXY") & ~sky["subclass"].isin(LEFT_OUT) & (sky["z"] > 0.3)
    return chosen.to_numpy()


def fwhm_km_s(
    sigma_angstrom: NDArray[np.float64], skewness: NDArray[np.float64], wave: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Full width at half maximum of skew-normal lines [km/s]."""
    alphas = np.linspace(0.0, 8.0, 33)
    ratio = np.array([_fwhm_in_sigma(a) for a in alphas])
    width: NDArray[np.float64] = np.interp(skewness, alphas, ratio) * sigma_angstrom / wave * 299792.458
    return width


def _fwhm_in_sigma(alpha: float) -> float:
    from scoring.fits.profile import skew_normal

    x = np.linspace(-4, 5, 4501)
    p = skew_normal(x, np.array(0.0), np.array(1.0), np.array(alpha))
    above = x[p >= p.max() / 2]
    return float(above[-1] - above[0])


def _place(sky: pd.DataFrame, plate_no: NDArray[np.int64], rng: np.random.Generator) -> None:
    """Positions in discs of 1.49 degrees around the plate centres, the first of which straddles RA 0."""
    centre_ra = (0.4 + 31.0 * plate_no) % 360.0
    centre_dec = 2.0 + (17.0 * plate_no) % 50.0
    r, phi = 1.49 * np.sqrt(rng.random(len(sky))), 2 * np.pi * rng.random(len(sky))
    sky["dec_deg"] = centre_dec + r * np.sin(phi)
    sky["ra_deg"] = (centre_ra + r * np.cos(phi) / np.cos(np.radians(sky["dec_deg"]))) % 360.0


def _galaxy_redshifts(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    cmass = rng.random(n) < 0.72
    z = np.where(cmass, rng.normal(0.55, 0.08, n), rng.normal(0.31, 0.08, n))
    clipped: NDArray[np.float64] = np.clip(z, 0.05, 0.85)
    return clipped


def _assign_others(sky: pd.DataFrame, rng: np.random.Generator) -> None:
    """Sky fibres, standard stars, stray stars and quasars, and galaxies with emission-line subclasses."""
    draw = rng.random(len(sky))
    is_sky = (sky["fiber"] % 25 == 1).to_numpy()  # 40 in each half of the plate
    is_standard = (sky["fiber"] % 50 == 2).to_numpy()
    is_star = (is_standard | (draw < 0.02)) & ~is_sky
    is_qso = (draw > 0.985) & ~is_sky & ~is_star
    has_subclass = (draw > 0.94) & ~is_sky & ~is_star & ~is_qso
    labels: tuple[tuple[NDArray[np.bool_], dict[str, str | int]], ...] = (
        (is_sky, {"kind": "sky", "objtype": "SKY", "z_warning": 5}),
        (is_star, {"kind": "star", "class": "STAR", "objtype": "SPECTROPHOTO_STD", "subclass": "F9"}),
        (is_qso, {"kind": "qso", "class": "QSO", "objtype": "QSO"}),
    )
    for rows, values in labels:
        for name, value in values.items():
            sky.loc[rows, name] = value
    sky.loc[is_star, "z"] = rng.normal(0, 2e-4, int(is_star.sum()))
    sky.loc[is_qso, "z"] = rng.uniform(0.7, 3.3, int(is_qso.sum()))
    sky.loc[has_subclass, "subclass"] = rng.choice(
        SUBCLASSES, int(has_subclass.sum()), p=(0.6, 0.1, 0.2, 0.1)
    )
    sky.loc[has_subclass, "young"] = rng.uniform(0.4, 0.9, int(has_subclass.sum()))


def _assign_kinds(sky: pd.DataFrame, recipe: MockRecipe, rng: np.random.Generator) -> None:
    """Choose hosts among the galaxies that the paper would search, and give each its line."""
    hosts = np.flatnonzero(paper_selection(sky) & (sky["kind"] == "plain").to_numpy())
    rng.shuffle(hosts)
    wanted = {
        "lens": recipe.n_lenses,
        "known_lens": recipe.n_known,
        "oii": recipe.n_oii,
        "residual": recipe.n_residual,
        "cosmic": recipe.n_cosmic,
        "bad_pixel": recipe.n_bad_pixel,
        "airglow": recipe.n_airglow,
    }
    if sum(wanted.values()) > len(hosts):
        raise UserError(
            f"the recipe asks for {sum(wanted.values())} special galaxies, but only {len(hosts)} of"
            f" {len(sky)} fibres have one that would be searched; ask for fewer or for more spectra"
        )
    at = 0
    for kind, count in wanted.items():
        rows = hosts[at : at + count]
        at += count
        sky.loc[rows, "kind"] = kind
        _give_line(sky, rows, kind, recipe, rng)


def _give_line(
    sky: pd.DataFrame, rows: NDArray[np.int64], kind: str, recipe: MockRecipe, rng: np.random.Generator
) -> None:
    m, z_lens = len(rows), sky.loc[rows, "z"].to_numpy()
    flux = np.exp(rng.uniform(np.log(recipe.flux_min), np.log(recipe.flux_max), m))
    z_source, skewness, line = np.full(m, np.nan), np.zeros(m), ""
    width = rng.uniform(1.2, 1.8, m)
    if kind in ("lens", "known_lens"):
        z_source = rng.uniform(2.145, 3.09, m)
        wave = LYA_ANGSTROM * (1 + z_source)
        km_s = np.clip(rng.normal(380.0, 130.0, m), 240.0, 800.0)
        width, skewness, line = wave * km_s / 299792.458 / 2.3, rng.uniform(1.7, 6.0, m), "lya"
    elif kind == "oii":
        z_source = rng.uniform(0.03, 0.32, m)
        wave, line = OII_ANGSTROM * (1 + z_source), "oii"
        width = wave * 90.0 / 299792.458
    elif kind == "airglow":
        wave = AIRGLOW_ANGSTROM + rng.normal(0, 0.4, m)
        flux = rng.uniform(8.0, 25.0, m)
    elif kind == "residual":
        wave = RESIDUAL_REST_ANGSTROM * (1 + z_lens) + rng.normal(0, 0.6, m)
        width, flux = rng.uniform(1.8, 3.0, m), rng.uniform(8.0, 25.0, m)
    else:
        wave = rng.uniform(3850.0, 4950.0, m)
        width = rng.uniform(0.35, 0.55, m) if kind == "cosmic" else rng.uniform(1.5, 2.5, m)
    sky.loc[rows, "wave_angstrom"] = wave
    sky.loc[rows, "line_flux"] = flux
    sky.loc[rows, "sigma_angstrom"] = width
    sky.loc[rows, "skewness"] = skewness
    sky.loc[rows, "z_source"] = z_source
    sky.loc[rows, "line"] = line


def _repeat(sky: pd.DataFrame, n_repeat: int, rng: np.random.Generator) -> None:
    """Let the last fibres see plain galaxies of the first plate once more."""
    plain = np.flatnonzero((sky["kind"] == "plain").to_numpy() & (sky["class"] == "GALAXY").to_numpy())
    first, last = plain[:n_repeat], plain[-n_repeat:]
    shared = ["ra_deg", "dec_deg", "z", "mag_i", "young", "tilt", "class", "subclass", "objtype"]
    if len(plain) >= 2 * n_repeat:
        sky.loc[last, shared] = sky.loc[first, shared].to_numpy()
        sky.loc[last, "dec_deg"] = sky.loc[last, "dec_deg"].astype(float) + rng.normal(0, 2e-5, n_repeat)
