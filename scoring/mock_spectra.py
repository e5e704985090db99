"""The light and the noise of mock spectra over the whole range of BOSS, 3,570 to 10,350 Angstrom.

Galaxies are mixtures of kcorrect's templates (Blanton & Roweis 2007, AJ 133, 734), moved to their redshift
on the log-wavelength grid. Inside the search window the noise is the one measured on real BOSS spectra
(scoring.noise); outside, its level follows the median curve of the same spectra, with airglow lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from astropy.io import fits
from numpy.typing import NDArray

from schema.errors import UserError
from schema.grid import WINDOW_FIRST, WINDOW_NPIX, wave_angstrom
from scoring.fits.profile import GAUSS_NODES, GAUSS_WEIGHTS, skew_normal
from scoring.noise import NoiseModel, load_noise

Array = NDArray[np.float32]

REST_FIRST, REST_NPIX = 32400, 7800
"""Rest-frame grid of the templates: 1738 to 10,471 Angstrom in pixels of 1e-4 dex."""
CURVE_WAVE = (3550, 3700, 3900, 4150, 4500, 4850, 5500, 6250, 7000, 8500, 9750, 10400)
CURVE_SIGMA = (3.0, 1.5, 0.72, 0.53, 0.42, 0.36, 0.33, 0.33, 0.28, 0.28, 0.50, 0.90)
"""Median error of BOSS spectra of faint galaxies [1e-17 erg/s/cm2/Angstrom] against wavelength [Angstrom]."""
AIRGLOW_LINES = (5578.9, 5891.6, 5897.6, 6302.0, 6365.5)
NEBULAR = {"oii": 3728.48, "hbeta": 4862.68, "oiii4960": 4960.30, "oiii5008": 5008.24, "halpha": 6564.61}
OII_RATIOS = {"hbeta": 0.35, "oiii4960": 0.25, "oiii5008": 0.75, "halpha": 1.0}
"""Fluxes of a star-forming galaxy's lines in units of [OII] (Kennicutt 1992, ApJ 388, 310)."""
NEARBADPIXEL, FULLREJECT, BRIGHTSKY = 1 << 16, 1 << 18, 1 << 23


@dataclass(frozen=True)
class MockPixels:
    """Pixels of some spectra on one grid, every array of shape (n, npix).

    Attributes
    ----------
    flux, model, sky : float32  [1e-17 erg/s/cm2/Angstrom]
    ivar : float32  inverse variance of flux
    and_mask : int32  SPPIXMASK bits
    wdisp : float32  shape (npix,), dispersion of the spectrograph [pixel]
    """

    flux: Array
    ivar: Array
    and_mask: NDArray[np.int32]
    wdisp: Array
    sky: Array
    model: Array


@cache
def galaxy_templates() -> Array:
    """Old and young galaxy on the rest-frame grid, shape (2, REST_NPIX), median 1 at 5,500-6,500 Angstrom."""
    package = find_spec("kcorrect")  # found but not imported, which would take a second
    if package is None or package.origin is None:
        raise UserError("the galaxy templates come with package kcorrect; install it: pip install kcorrect")
    folder = Path(package.origin).parent / "data" / "templates"
    out = []
    for name, row in (("kcorrect-lrg1-v4.fits", 0), ("kcorrect-default-v4.fits", 3)):
        with fits.open(folder / name) as hdus:
            wave = np.ravel(hdus[1].data["wave"]).astype(float)
            flux = np.asarray(hdus[1].data["flux"], dtype=float).reshape(-1, len(wave))[row]
        rest = wave_angstrom(REST_FIRST + np.arange(REST_NPIX))
        smooth = np.convolve(np.interp(rest, wave, flux), _gaussian(3.0), mode="same")
        out.append(smooth / np.median(smooth[(rest > 5500) & (rest < 6500)]))
    return np.array(out, dtype=np.float32)


def _gaussian(sigma_px: float) -> NDArray[np.float64]:
    x = np.arange(-int(5 * sigma_px), int(5 * sigma_px) + 1)
    kernel = np.exp(-0.5 * (x / sigma_px) ** 2)
    return kernel / kernel.sum()


def continuum(sky: pd.DataFrame, pix0: int, npix: int) -> Array:
    """Light of the objects themselves, without lines from behind.

    Parameters
    ----------
    sky : DataFrame, n rows of `draw_population`
        Objects.
    pix0, npix : int
        Grid of the spectra.

    Returns
    -------
    ndarray, shape (n, npix)
        Flux density [1e-17 erg/s/cm2/Angstrom].
    """
    wave = wave_angstrom(pix0 + np.arange(npix))
    kind = sky["kind"].to_numpy()
    old, young = galaxy_templates()
    z = sky["z"].to_numpy(dtype=float)
    place = (pix0 - np.log10(1 + z) * 1e4 - REST_FIRST)[:, None] + np.arange(npix)  # (n, npix)
    left = np.clip(place.astype(np.int64), 0, REST_NPIX - 2)
    part = (place - left).clip(0, 1).astype(np.float32)
    share = sky["young"].to_numpy(dtype=np.float32)[:, None]
    light = (1 - share) * _between(old, left, part) + share * _between(young, left, part)
    x = np.log(wave / 7500.0).astype(np.float32)
    light *= np.exp(sky["tilt"].to_numpy(dtype=np.float32)[:, None] * x)
    star, qso = kind == "star", kind == "qso"
    light[star] = (wave / 7500.0) ** -1.5 * (1 - 0.3 * np.exp(-0.5 * ((wave - 4862.7) / 8) ** 2))
    for row in np.flatnonzero(qso):
        light[row] = (wave / 7500.0) ** -1.4
        for rest, strength in ((1215.7, 4.0), (1549.5, 1.8), (1908.7, 0.8), (2800.3, 0.9)):
            centre = rest * (1 + z[row])
            light[row] += strength * np.exp(-0.5 * ((wave - centre) / (0.012 * centre)) ** 2)
    red = (wave > 7000) & (wave < 8200)
    level = np.median(light[:, red], axis=1, keepdims=True)
    density = (
        0.5 * 3.07 * 10 ** (-0.4 * (sky["mag_i"].to_numpy(dtype=np.float32) - 19.5))
    )  # half reaches the fibre
    scaled: Array = np.asarray(light / level * density[:, None], dtype=np.float32)
    scaled[kind == "sky"] = 0.0
    return scaled


def _between(template: Array, left: NDArray[np.int64], part: Array) -> Array:
    value: Array = template[left] * (1 - part) + template[left + 1] * part
    return value


def add_line(
    flux: Array,
    rows: NDArray[np.int64],
    pix0: int,
    wave: NDArray[np.float64],
    line_flux: NDArray[np.float64],
    sigma: NDArray[np.float64],
    alpha: NDArray[np.float64],
) -> None:
    """Add skew-normal lines in place, averaged over each pixel.

    Parameters
    ----------
    flux : ndarray, shape (n, npix)
        Spectra [1e-17 erg/s/cm2/Angstrom].
    rows : ndarray, shape (m,)
        Spectra that get a line.
    pix0 : int
        Grid index of the first pixel.
    wave, line_flux, sigma, alpha : ndarray, shape (m,)
        Mean [Angstrom], flux [1e-17 erg/s/cm2], standard deviation [Angstrom] and shape of each line.
    """
    if not len(rows):
        return
    half = 40
    centre = np.rint(np.log10(wave) * 1e4).astype(np.int64) - pix0
    pixel = centre[:, None] + np.arange(-half, half + 1)  # (m, p)
    at = wave_angstrom(pixel[..., None] + pix0 + GAUSS_NODES)  # (m, p, 3)
    flat = at.reshape(len(rows), -1)
    profile = skew_normal(flat, wave, sigma, alpha).reshape(at.shape) @ GAUSS_WEIGHTS
    inside = (pixel >= 0) & (pixel < flux.shape[1])
    r = np.repeat(np.asarray(rows)[:, None], pixel.shape[1], axis=1)
    np.add.at(flux, (r[inside], pixel[inside]), (line_flux[:, None] * profile)[inside].astype(np.float32))


def add_lines_from_behind(flux: Array, sky: pd.DataFrame, pix0: int) -> None:
    """Add the line that each row of the population carries, and the companions of [OII]."""

    def take(rows: NDArray[np.int64], name: str) -> NDArray[np.float64]:
        return sky[name].to_numpy(dtype=float)[rows]

    carries = np.flatnonzero(sky["wave_angstrom"].notna().to_numpy())
    add_line(
        flux,
        carries,
        pix0,
        *(take(carries, c) for c in ("wave_angstrom", "line_flux", "sigma_angstrom", "skewness")),
    )
    oii = np.flatnonzero((sky["kind"] == "oii").to_numpy())
    stretch = take(oii, "wave_angstrom") / NEBULAR["oii"]
    for name, ratio in OII_RATIOS.items():
        wave = NEBULAR[name] * stretch
        add_line(
            flux,
            oii,
            pix0,
            wave,
            ratio * take(oii, "line_flux"),
            wave * 75.0 / 299792.458,
            np.zeros(len(oii)),
        )


def quoted_sigma(light: Array, pix0: int, noise: NoiseModel, seed: int) -> Array:
    """Errors that the pipeline would quote, shape of `light` [1e-17 erg/s/cm2/Angstrom]."""
    npix = light.shape[1]
    wave = wave_angstrom(pix0 + np.arange(npix))
    curve = np.interp(wave, CURVE_WAVE, CURVE_SIGMA)
    lines = np.array(AIRGLOW_LINES)[:, None]
    curve = curve * (1 + 2.5 * np.exp(-0.5 * ((wave - lines) / 2.5) ** 2).sum(axis=0))
    forest = np.zeros(npix)
    forest[np.random.default_rng(7).random(npix) < 0.02] = 6.0  # OH lines: the same pixels in every spectrum
    curve *= 1 + np.where(wave > 7200, np.convolve(forest, _gaussian(1.5), mode="same"), 0)
    lo = WINDOW_FIRST - pix0
    window = slice(lo, lo + WINDOW_NPIX)
    generator = torch.Generator().manual_seed(seed)
    inside = noise.sigma(torch.from_numpy(light[:, window].copy()), generator).numpy()
    typical = np.exp(noise.log_sigma)
    level = np.median(inside / np.sqrt(typical**2 + float(noise.poisson) * light[:, window].clip(0)), axis=1)
    sigma = level[:, None] * curve[None]
    sigma = np.sqrt(sigma**2 + float(noise.poisson) * light.clip(0)).astype(np.float32)
    sigma[:, window] = inside
    return np.asarray(sigma, dtype=np.float32)


def draw_chi(n: int, npix: int, noise: NoiseModel, rng: np.random.Generator) -> Array:
    """Noise in units of the quoted error: correlated between neighbours, with tails, shape (n, npix)."""
    reach = len(noise.kernel) // 2
    white = rng.standard_normal((n, npix + 2 * reach), dtype=np.float32)
    chi = sum(tap * white[:, k : k + npix] for k, tap in enumerate(noise.kernel))
    chi = np.asarray(chi, dtype=np.float32)
    wide = rng.random(chi.shape, dtype=np.float32) < noise.tail_fraction
    chi[wide] *= noise.tail_scale
    scale = np.exp(rng.normal(0, noise.ivar_scale, (n, 1)))
    return np.asarray(
        chi * scale / np.sqrt(1 + noise.tail_fraction * (noise.tail_scale**2 - 1)), dtype=np.float32
    )


def simulate(sky: pd.DataFrame, pix0: int, npix: int, seed: int) -> MockPixels:
    """Simulate the pixels of some fibres.

    Parameters
    ----------
    sky : DataFrame, n rows of `draw_population`
        Objects.
    pix0, npix : int
        Grid index of the first pixel, number of pixels; the grid must hold the search window.
    seed : int
        Seed of the noise.
    """
    rng = np.random.default_rng(seed)
    noise = load_noise()
    sky = sky.reset_index(drop=True)
    model = continuum(sky, pix0, npix)
    light = model.copy()
    add_lines_from_behind(light, sky, pix0)
    sigma = quoted_sigma(light, pix0, noise, seed)
    flux = light + sigma * draw_chi(len(light), npix, noise, rng)
    ivar = (1 / sigma**2).astype(np.float32)
    mask = np.where(sigma > 4 * np.median(sigma, axis=1, keepdims=True), BRIGHTSKY, 0).astype(np.int32)
    _spoil(sky, flux, ivar, mask, pix0, rng)
    wdisp = np.interp(np.arange(npix), (0, npix / 2, npix), (1.55, 1.05, 1.2)).astype(np.float32)
    return MockPixels(flux, ivar, mask, wdisp, np.asarray(sigma**2 * 12, dtype=np.float32), model)


def _spoil(
    sky: pd.DataFrame, flux: Array, ivar: Array, mask: NDArray[np.int32], pix0: int, rng: np.random.Generator
) -> None:
    """Mask what the pipeline would: scattered lost pixels, most cosmic rays, bad columns of the detector."""
    lost = rng.random(ivar.shape, dtype=np.float32) < 0.002
    ivar[lost] = 0
    mask[lost] |= FULLREJECT
    centre = np.rint(np.log10(sky["wave_angstrom"].to_numpy(dtype=float)) * 1e4 - pix0)
    for row in np.flatnonzero(sky["kind"].isin(["cosmic", "bad_pixel"]).to_numpy()):
        at = int(centre[row])
        if sky["kind"].iat[int(row)] == "bad_pixel":
            mask[row, at - 3 : at + 4] |= NEARBADPIXEL | FULLREJECT
            ivar[row, at - 1 : at + 2] = 0
        elif rng.random() < 0.7:  # the rest slips through
            mask[row, at - 1 : at + 2] |= FULLREJECT
            ivar[row, at - 1 : at + 2] = 0
