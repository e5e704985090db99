"""Fit of a skew-normal line plus a constant to many hits at once (Li et al. 2018, section 4).

The pipeline's galaxy model, where there is one, takes the shape of the lens's continuum out and leaves its
level: what is fitted is flux - model + median(model), so that a "horizontal line" does for the continuum.
Errors come from the covariance (J^T W J)^-1 of SDSS's own inverse variances, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schema.grid import DLOGLAM, LYA_ANGSTROM, wave_angstrom
from scoring.fits.levmar import Solution, covariance, solve
from scoring.fits.profile import alpha_from_gamma, gamma_from_alpha, line_model, mode_offset

Array = NDArray[np.float64]

OK = "ok"
AT_SKEW_BOUND = "ok, skewness at its bound"
STATUSES = {
    OK: "The fit converged inside its bounds.",
    AT_SKEW_BOUND: "The edge is sharper than the pixels tell: take the skewness as a limit.",
    "few good pixels": "Too few pixels with positive ivar in the window.",
    "gap at the line": "Half of the pixels on the line itself are masked.",
    "not converged": "The iterations ran out.",
    "no line": "The best flux is not positive.",
    "width at its bound": "Too broad for a line of the source: a bump of the continuum.",
    "centre at its bound": "No line within the search distance of the hit.",
    "parameters undetermined": "The pixels do not constrain the parameters.",
}
"""What line_fit.status can say; a status that begins with "ok" is a fit that the cuts use."""


@dataclass(frozen=True)
class FitConfig:
    """Settings of the line fit; all of them enter the fit's version."""

    half_pixels: int = 30
    """Half width of the fitted window [pixels of 1e-4 dex, close to 1 Angstrom]."""
    max_shift_pixels: float = 8.0
    """How far the mean of the line may lie from the hit [pixels]."""
    max_alpha: float = 20.0
    """Bound of the shape parameter: beyond it the edge is sharper than a pixel."""
    min_sigma: float = 0.5
    max_sigma: float = 12.0
    """Bounds of the standard deviation [Angstrom]; the resolution of BOSS is 1.0 to 1.3 there."""
    min_good: int = 20
    """Fewest good pixels in the window."""
    near_pixels: int = 10
    """Masked pixels are counted within this distance of the hit."""
    start_sigmas: tuple[float, ...] = (1.2, 2.2, 4.5)
    start_alphas: tuple[float, ...] = (1.5, -1.5)
    """First guesses: the best of every width and shift is followed for each sign of the skewness."""


DEFAULT_FIT = FitConfig()

BAD_BITS = (1 << 18) | (1 << 22) | (1 << 23) | (1 << 24) | (1 << 25) | (1 << 27) | (1 << 28)
"""AND_MASK bits of a bad pixel: FULLREJECT, NOSKY, BRIGHTSKY, NODATA, COMBINEREJ, BADSKYCHI, REDMONSTER."""


@dataclass(frozen=True)
class Windows:
    """Pixels around n hits.

    Attributes
    ----------
    wave, dwave : ndarray, shape (n, p)
        Pixel centres and widths [Angstrom].
    flux : ndarray, shape (n, p)
        Flux density with the shape of the continuum taken out [1e-17 erg/s/cm2/Angstrom].
    ivar : ndarray, shape (n, p)
        Inverse variance; 0 where there is nothing to fit.
    n_mask_near : ndarray of int, shape (n,)
        Masked or ivar-0 pixels near the hit.
    """

    wave: Array
    dwave: Array
    flux: Array
    ivar: Array
    n_mask_near: NDArray[np.int64]


def cut_windows(
    pix0: int,
    hit_wave: Array,
    flux: NDArray[np.floating],
    ivar: NDArray[np.floating],
    model: NDArray[np.floating] | None = None,
    mask: NDArray[np.integer] | None = None,
    config: FitConfig = DEFAULT_FIT,
) -> Windows:
    """Take the pixels around each hit out of whole spectra.

    Parameters
    ----------
    pix0 : int
        Grid index of the first pixel of the spectra.
    hit_wave : ndarray, shape (n,)
        Wavelength of the hit [Angstrom].
    flux, ivar : ndarray, shape (n, npix)
        Spectra [1e-17 erg/s/cm2/Angstrom] and inverse variances.
    model : ndarray, shape (n, npix), optional
        Pipeline model of the galaxy.
    mask : ndarray of int, shape (n, npix), optional
        AND_MASK bits.

    Returns
    -------
    Windows
    """
    half = config.half_pixels
    centre = np.rint(np.log10(hit_wave) / DLOGLAM).astype(np.int64)
    index = centre[:, None] + np.arange(-half, half + 1)  # (n, p)
    column = index - pix0
    inside = (column >= 0) & (column < flux.shape[1])
    column = np.clip(column, 0, flux.shape[1] - 1)

    def take(array: NDArray[np.generic]) -> Array:
        return np.take_along_axis(array, column, axis=1).astype(np.float64)

    f, iv = take(flux), take(ivar)
    good = inside & np.isfinite(f) & np.isfinite(iv) & (iv > 0)
    if model is not None:
        galaxy = take(model)
        fine = np.isfinite(galaxy).all(axis=1)
        galaxy[~fine] = 0.0
        f = f - galaxy + np.median(galaxy, axis=1, keepdims=True)
    bad = ~good
    if mask is not None:
        bad |= (np.take_along_axis(mask, column, axis=1).astype(np.int64) & BAD_BITS) != 0
    near = slice(half - config.near_pixels, half + config.near_pixels + 1)
    wave = wave_angstrom(index)
    dwave = _pixel_width(wave)
    return Windows(wave, dwave, np.where(good, f, 0.0), np.where(good, iv, 0.0), bad[:, near].sum(axis=1))


def _pixel_width(wave: Array) -> Array:
    """Width of the pixels at a wavelength [Angstrom]."""
    return wave * np.log(10.0) * DLOGLAM


def fit_lines(windows: Windows, hit_wave: Array, config: FitConfig = DEFAULT_FIT) -> dict[str, NDArray]:
    """Fit every hit; the columns of table line_fit that describe the line.

    Parameters
    ----------
    windows : Windows
        Pixels around n hits.
    hit_wave : ndarray, shape (n,)
        Wavelength of each hit [Angstrom].

    Returns
    -------
    dict of ndarray, shape (n,)
        status, wave_angstrom (mean of the profile), peak_wave_angstrom, line_flux, peak_flux, sigma_angstrom,
        skewness (shape parameter alpha), constant, their ``_err``, chi2, dof, line_snr, delta_chi2_gaussian,
        z_lya (of the mean wavelength) and n_mask_near. NaN where a fit failed.
    """
    n = len(hit_wave)
    half = config.half_pixels
    n_good = (windows.ivar > 0).sum(axis=1)
    core = (windows.ivar[:, half - 2 : half + 3] > 0).sum(axis=1)
    status = np.full(n, OK, dtype=object)
    status[n_good < config.min_good] = "few good pixels"
    status[(n_good >= config.min_good) & (core < 3)] = "gap at the line"
    todo = np.flatnonzero(status == OK)
    out: dict[str, NDArray] = {name: np.full(n, np.nan) for name in _COLUMNS}
    if len(todo):
        sub = Windows(*(getattr(windows, f)[todo] for f in ("wave", "dwave", "flux", "ivar", "n_mask_near")))
        skewed, gauss = _best_fits(sub, hit_wave[todo], config)
        values = _describe(skewed, gauss, hit_wave[todo], config)
        for name, column in values.items():
            (status if name == "status" else out[name])[todo] = column
        out["dof"][todo] = n_good[todo] - 5
    failed = np.array([not str(s).startswith(OK) for s in status])
    for name in _COLUMNS:
        out[name][failed] = np.nan
    return {"status": status, **out, "n_mask_near": windows.n_mask_near}


def _best_fits(w: Windows, hit_wave: Array, config: FitConfig) -> tuple[Solution, Solution]:
    """Best skew-normal fit over the starts, and the best Gaussian one."""
    n = len(hit_wave)
    shift = config.max_shift_pixels * _pixel_width(hit_wave)
    bound = float(gamma_from_alpha(config.max_alpha))
    lower = np.stack(
        [
            np.full(n, -np.inf),
            hit_wave - shift,
            np.full(n, np.log(config.min_sigma)),
            np.full(n, -bound),
            np.full(n, -np.inf),
        ],
        1,
    )
    upper = np.stack(
        [
            np.full(n, np.inf),
            hit_wave + shift,
            np.full(n, np.log(config.max_sigma)),
            np.full(n, bound),
            np.full(n, np.inf),
        ],
        1,
    )

    def model(theta: Array, rows: NDArray[np.int64]) -> tuple[Array, Array]:
        return line_model(theta, w.wave[rows], w.dwave[rows])

    fits = [
        solve(model, w.flux, w.ivar, _start(w, hit_wave, float(gamma_from_alpha(a)), config), lower, upper)
        for a in config.start_alphas
    ]
    only_gauss = np.array([True, True, True, False, True])
    gauss = solve(model, w.flux, w.ivar, _start(w, hit_wave, 0.0, config), lower, upper, free=only_gauss)
    best = np.argmin([f.chi2 for f in fits], axis=0)
    pick = lambda name: np.stack([getattr(f, name) for f in fits])[best, np.arange(n)]  # noqa: E731
    return Solution(pick("theta"), pick("chi2"), pick("hessian"), pick("converged")), gauss


def _start(w: Windows, hit_wave: Array, gamma: float, config: FitConfig) -> Array:
    """First guess, shape (n, 5): the width and shift that leave the least chi-squared."""
    n = len(hit_wave)
    best = np.full(n, np.inf)
    theta = np.zeros((n, 5))
    sw = w.ivar.sum(1)
    sd = (w.ivar * w.flux).sum(1)
    for sigma in config.start_sigmas:
        for shift in (-2.0, 0.0, 2.0):
            guess = np.stack(
                [np.ones(n), hit_wave + shift, np.full(n, np.log(sigma)), np.full(n, gamma), np.zeros(n)], 1
            )
            p = line_model(guess, w.wave, w.dwave)[0]
            sp, spp = (w.ivar * p).sum(1), (w.ivar * p * p).sum(1)
            spd = (w.ivar * p * w.flux).sum(1)
            det = np.maximum(sw * spp - sp * sp, 1e-30)
            guess[:, 0] = (sw * spd - sp * sd) / det
            guess[:, 4] = (spp * sd - sp * spd) / det
            chi2 = (w.ivar * (w.flux - guess[:, :1] * p - guess[:, 4:]) ** 2).sum(1)
            better = chi2 < best
            best[better], theta[better] = chi2[better], guess[better]
    return theta


_COLUMNS = (
    "wave_angstrom", "wave_err_angstrom", "peak_wave_angstrom", "line_flux", "line_flux_err",
    "peak_flux", "peak_flux_err", "sigma_angstrom", "sigma_err_angstrom", "skewness", "skewness_err",
    "constant", "constant_err", "chi2", "dof", "line_snr", "delta_chi2_gaussian", "z_lya",
)  # fmt: skip


def _describe(fit: Solution, gauss: Solution, hit_wave: Array, config: FitConfig) -> dict[str, NDArray]:
    """Physical quantities and their errors from the fitted parameters."""
    flux, mean, log_sigma, gamma, constant = fit.theta.T
    cov = covariance(fit.hessian)
    err = np.sqrt(np.maximum(np.einsum("nkk->nk", cov), 0.0))
    sigma = np.exp(log_sigma)
    alpha, dalpha = alpha_from_gamma(gamma)
    offset, height = mode_offset(alpha)
    step = 1e-4
    slope = (
        mode_offset(alpha_from_gamma(gamma + step)[0])[1] - mode_offset(alpha_from_gamma(gamma - step)[0])[1]
    ) / (2 * step)
    to_peak = np.stack([height / sigma, 0 * flux, -flux * height / sigma, flux * slope / sigma, 0 * flux], 1)
    peak_err = np.sqrt(np.maximum(np.einsum("nk,nkl,nl->n", to_peak, cov, to_peak), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = flux / err[:, 0]
    return {
        "status": _status(fit, err, hit_wave, config),
        "wave_angstrom": mean, "wave_err_angstrom": err[:, 1],
        "peak_wave_angstrom": mean + sigma * offset,
        "line_flux": flux, "line_flux_err": err[:, 0],
        "peak_flux": flux * height / sigma, "peak_flux_err": peak_err,
        "sigma_angstrom": sigma, "sigma_err_angstrom": sigma * err[:, 2],
        "skewness": np.clip(alpha, -config.max_alpha, config.max_alpha),
        "skewness_err": np.abs(dalpha) * err[:, 3],
        "constant": constant, "constant_err": err[:, 4],
        "chi2": fit.chi2, "line_snr": snr,
        "delta_chi2_gaussian": gauss.chi2 - fit.chi2,
        "z_lya": mean / LYA_ANGSTROM - 1.0,
    }  # fmt: skip


def _status(fit: Solution, err: Array, hit_wave: Array, config: FitConfig) -> NDArray[np.object_]:
    """One of STATUSES for every fit; the first that holds."""
    flux, mean, log_sigma, gamma, _ = fit.theta.T
    shift = config.max_shift_pixels * _pixel_width(hit_wave)
    edge = float(gamma_from_alpha(config.max_alpha))
    checks = [
        (~fit.converged, "not converged"),
        (~(flux > 0), "no line"),
        (np.exp(log_sigma) >= 0.999 * config.max_sigma, "width at its bound"),
        (np.abs(mean - hit_wave) >= 0.999 * shift, "centre at its bound"),
        (~np.isfinite(err).all(axis=1), "parameters undetermined"),
        (np.abs(gamma) >= 0.9999 * edge, AT_SKEW_BOUND),
    ]
    return np.select([c for c, _ in checks], [s for _, s in checks], OK).astype(object)
