"""The noise of a survey, measured on its own spectra and drawn again for simulated ones.

What is measured, pixel by pixel of the search window:

- ``log sigma(lambda)`` of spectra whose object adds little light: mean curve, principal components, the
  coefficients of every measured spectrum (drawn again with a little jitter) and the pixel scatter left over.
  The bumps of sky lines (Hg 4047 and 4358 first of all) are part of the mean curve.
- the share of variance that the object's own photons add, ``variance = sky variance + poisson * flux``;
- ``chi = (flux - model) sqrt(ivar)`` of well-fitted spectra: its scale from one spectrum to the next (an
  inverse variance is wrong by a few per cent), its autocorrelation (from resampling exposures on the common
  grid) as a moving-average kernel, and its tails as a two-component scale mixture;
- the mean sky spectrum, whose lines say where residuals of sky subtraction are found.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter, uniform_filter1d
from scipy.optimize import least_squares
from scipy.stats import norm
from torch import Tensor

from schema.errors import DataError

SHIPPED = Path(__file__).parent / "data" / "boss_noise.npz"
N_COMPONENTS = 4
N_LAGS = 3
MIN_SPECTRA = 8
JITTER = 0.2


@dataclass(frozen=True)
class NoiseModel:
    """Measured noise of a survey in the search window; every field is an array that goes into the npz file.

    Attributes
    ----------
    log_sigma : shape (npix,)  mean of ln sigma [ln 1e-17 erg/s/cm2/Angstrom]
    components : shape (k, npix)  principal components of ln sigma
    coefficients : shape (m, k)  of the m measured spectra
    pixel_scatter : shape ()  rms of ln sigma about mean and components
    poisson : shape ()  variance added per unit of flux [1e-17 erg/s/cm2/Angstrom]
    kernel : shape (2 N_LAGS + 1,)  moving average with unit sum of squares, giving chi its autocorrelation
    tail_fraction, tail_scale : shape ()  share of pixels whose noise is wider, and by how much
    ivar_scale : shape ()  rms of ln of the ratio between real and quoted sigma, spectrum to spectrum
    sky : shape (npix,)  mean sky spectrum [1e-17 erg/s/cm2/Angstrom]
    """

    log_sigma: NDArray[np.float32]
    components: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    pixel_scatter: NDArray[np.float32]
    poisson: NDArray[np.float32]
    kernel: NDArray[np.float32]
    tail_fraction: NDArray[np.float32]
    tail_scale: NDArray[np.float32]
    ivar_scale: NDArray[np.float32]
    sky: NDArray[np.float32]

    def save(self, path: str | Path) -> None:
        """Write the model as one npz file."""
        np.savez_compressed(path, **{f.name: getattr(self, f.name) for f in fields(self)})

    def figures(self) -> dict[str, float]:
        """The model in a few numbers, for people: sigma at both ends of the window, and the scalars."""
        sigma = np.exp(self.log_sigma.astype(float))
        return {
            "spectra": len(self.coefficients),
            "median_sigma_blue_end": round(float(np.median(sigma[:100])), 3),
            "median_sigma_red_end": round(float(np.median(sigma[-100:])), 3),
            "poisson": round(float(self.poisson), 4),
            "tail_fraction": round(float(self.tail_fraction), 4),
            "tail_scale": float(self.tail_scale),
            "ivar_scale": round(float(self.ivar_scale), 4),
        }

    def sigma(self, flux: Tensor, generator: torch.Generator) -> Tensor:
        """Quoted errors for noiseless spectra.

        Parameters
        ----------
        flux : Tensor, shape (n, npix)  noiseless object flux [1e-17 erg/s/cm2/Angstrom]

        Returns
        -------
        Tensor, shape (n, npix)  one standard deviation per pixel, same unit
        """
        n, device = len(flux), flux.device
        coefficients = torch.as_tensor(self.coefficients, device=device)
        pick = torch.randint(len(coefficients), (n,), generator=generator, device=device)
        width = JITTER * coefficients.std(0)
        drawn = coefficients[pick] + width * torch.randn(
            n, len(width), generator=generator, device=device
        )  # (n, k)
        log_sigma = torch.as_tensor(self.log_sigma, device=device)
        log_sigma = torch.addmm(log_sigma, drawn, torch.as_tensor(self.components, device=device))
        log_sigma.add_(torch.empty_like(log_sigma).normal_(0, float(self.pixel_scatter), generator=generator))
        variance = log_sigma.mul_(2).exp_().add_(flux.clamp(min=0), alpha=float(self.poisson))
        return variance.sqrt_()

    def chi(self, n: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
        """Noise over quoted error, shape (n, npix): correlated, with tails, mis-scaled per spectrum."""
        npix, lags = len(self.log_sigma), N_LAGS
        white = torch.randn(n, npix + 2 * lags, generator=generator, device=device)
        chi = torch.zeros(n, npix, device=device)
        for offset, tap in enumerate(self.kernel):
            chi.add_(white[:, offset : offset + npix], alpha=float(tap))
        self._widen_tails(chi, generator)
        scale = torch.randn(n, 1, generator=generator, device=device)
        return chi.mul_(scale.mul_(float(self.ivar_scale)).exp_())

    def _widen_tails(self, chi: Tensor, generator: torch.Generator) -> None:
        """Multiply a random share of the pixels in place, leaving the variance at one."""
        fraction, scale = float(self.tail_fraction), float(self.tail_scale)
        n = chi.numel()
        hit = torch.randint(n, (round(fraction * n),), generator=generator, device=chi.device)
        flat = chi.view(-1)
        flat[hit] = flat[hit] * scale
        chi.div_((1 + fraction * (scale**2 - 1)) ** 0.5)


def measure_noise(
    flux: NDArray[np.float32], ivar: NDArray[np.float32], model: NDArray[np.float32], sky: NDArray[np.float32]
) -> NoiseModel:
    """Measure the noise of real spectra.

    Parameters
    ----------
    flux, model, sky : ndarray, shape (n, npix)  [1e-17 erg/s/cm2/Angstrom]
    ivar : ndarray, shape (n, npix)  inverse variance of `flux`, 0 where there is no datum

    Raises
    ------
    DataError
        If fewer than 8 spectra are complete, or well fitted by their model.
    """
    full = (ivar > 0).mean(axis=1) > 0.99
    faint = full & (np.median(model, axis=1) < 3.0)
    if faint.sum() < MIN_SPECTRA:
        raise DataError(
            f"the noise needs at least {MIN_SPECTRA} complete spectra fainter than 3e-17 erg/s/cm2/Angstrom"
            f" in the window, got {int(faint.sum())} of {len(flux)}; select more spectra"
        )
    variance = _fill(np.where(ivar > 0, 1 / np.where(ivar > 0, ivar, 1), np.nan)[faint])
    poisson = _poisson_share(variance, model[faint])
    floor = 0.2 * variance
    log_sigma = 0.5 * np.log(np.maximum(variance - poisson * np.clip(model[faint], 0, None), floor))
    mean = log_sigma.mean(axis=0)
    u, s, vt = np.linalg.svd(log_sigma - mean, full_matrices=False)
    k = min(N_COMPONENTS, len(s))
    coefficients = u[:, :k] * s[:k]
    scatter = np.std(log_sigma - mean - coefficients @ vt[:k])
    chi = _clean_chi(flux[full], ivar[full], model[full])
    scales = chi.std(axis=1)
    chi /= scales[:, None]
    fraction, tail = _fit_tails(chi)
    f4: Any = np.float32
    return NoiseModel(
        log_sigma=mean.astype(f4),
        components=vt[:k].astype(f4),
        coefficients=coefficients.astype(f4),
        pixel_scatter=f4(scatter),
        poisson=f4(poisson),
        kernel=_moving_average(chi).astype(f4),
        tail_fraction=f4(fraction),
        tail_scale=f4(tail),
        ivar_scale=f4(np.std(np.log(scales))),
        sky=np.median(sky[full], axis=0).astype(f4),
    )


@cache
def load_noise(path: str | Path = SHIPPED) -> NoiseModel:
    """Read a noise model, by default the one measured on BOSS spectra that the package ships.

    Raises
    ------
    DataError
        If the file is missing or holds something else.
    """
    try:
        with np.load(path) as file:
            return NoiseModel(**{f.name: file[f.name] for f in fields(NoiseModel)})
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} is not a noise model ({error}); make one with: lensmine noise") from error


def _fill(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows with NaN filled by linear interpolation."""
    x = np.arange(values.shape[1])
    for row in values:
        bad = np.isnan(row)
        row[bad] = np.interp(x[bad], x[~bad], row[~bad])
    return values


def _poisson_share(variance: NDArray[np.float64], model: NDArray[np.float32]) -> float:
    """Slope c of ``variance = sky variance + c flux``, from the change of each along a spectrum.

    The shape of the sky variance is common (median of the spectra), so each spectrum is fitted as
    ``variance = a * shape + c * model`` and the median c is kept.
    """
    shape = np.median(variance / np.median(variance, axis=1, keepdims=True), axis=0)
    slopes = []
    for row, light in zip(variance, np.clip(model, 0, None), strict=True):
        if np.median(light) < 0.3:
            continue
        design = (
            np.stack([shape, light], axis=1) / row[:, None]
        )  # relative errors: equal weight to all pixels
        slopes.append(np.linalg.lstsq(design, np.ones(len(row)), rcond=None)[0][1])
    return float(np.clip(np.median(slopes), 0, 0.1)) if slopes else 0.0


def _clean_chi(
    flux: NDArray[np.float32], ivar: NDArray[np.float32], model: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Residual over error of the spectra that their model fits, freed of slow mismatch."""
    chi = (flux - model) * np.sqrt(ivar)
    chi = chi - median_filter(chi, size=(1, 101), mode="nearest")
    wide = [np.mean(chi[:, lag:] * chi[:, :-lag], axis=1) for lag in range(8, 21)]
    structure = np.mean(wide, axis=0) / np.mean(chi**2, axis=1)  # noise has none at such lags, a misfit has
    good = (chi.std(axis=1) < 1.12) & (np.abs(chi).max(axis=1) < 6) & (structure < 0.015)
    if good.sum() < MIN_SPECTRA:
        raise DataError(
            f"only {int(good.sum())} spectra are fitted by their model; the noise needs {MIN_SPECTRA}"
        )
    return chi[good].astype(np.float64)


def _fit_tails(chi: NDArray[np.float64], scale: float = 1.5) -> tuple[float, float]:
    """Share of pixels with `scale` times the width, such that the measured share lies beyond 3 sigma."""
    beyond = np.mean(np.abs(chi) > 3)
    core, wide = 2 * norm.sf(3), 2 * norm.sf(3 / scale)
    return float(np.clip((beyond - core) / (wide - core), 0, 0.2)), scale


def _moving_average(chi: NDArray[np.float64]) -> NDArray[np.float64]:
    """Symmetric kernel whose autocorrelation is the measured one, by least squares over 2 N_LAGS lags."""
    npix = chi.shape[1]
    lags = range(1, 2 * N_LAGS + 1)
    rho = np.array([np.mean(chi[:, : npix - lag] * chi[:, lag:]) / np.mean(chi**2) for lag in lags])

    def kernel(side: NDArray[np.float64]) -> NDArray[np.float64]:
        taps = np.concatenate([side[::-1], [1.0], side])
        return taps / np.sqrt(np.sum(taps**2))

    def misfit(side: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.correlate(kernel(side), kernel(side), mode="full")[2 * N_LAGS + 1 :] - rho

    return kernel(least_squares(misfit, np.zeros(N_LAGS)).x)


def sky_line_contrast(model: NoiseModel, width: int = 61) -> NDArray[np.float32]:
    """Mean sky spectrum over its own running median minus one, shape (npix,): high at sky lines."""
    background = uniform_filter1d(median_filter(model.sky, size=width, mode="nearest"), width, mode="nearest")
    return (model.sky / background - 1).astype(np.float32)
