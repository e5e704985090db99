"""The skew-normal line profile, its derivatives, and its three usual numbers of asymmetry.

Li et al. (2018, section 4) fit "a skew normal profile plus a horizontal line". The skew-normal density with
location xi, scale omega and shape alpha is (Azzalini 1985)

    p(x) = 2 / omega * phi(t) * Phi(alpha * t),    t = (x - xi) / omega

The paper's skewness is the *shape parameter alpha*: Table 1 lists values up to 5.45, while the third
standardised moment of a skew-normal stays below 0.9953. What is reported as ``skewness`` is therefore alpha.

The fit itself moves in the centred parameters (mean, ln of the standard deviation, moment skewness gamma)
because the derivatives to xi and alpha coincide at alpha = 0, where the covariance matrix would be singular
(Azzalini 1985, section 4). Both describe the same curve, so the errors carry over by the chain rule.

A skew-normal convolved with a Gaussian is again skew-normal, so the spectrograph's resolution is inside the
profile: flux, width and alpha are those of the observed line, as in the paper, not corrected for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

ROOT_2_PI = np.sqrt(2.0 / np.pi)
MOMENT = (4.0 - np.pi) / 2.0
GAMMA_FLOOR = 1e-6
"""Below it |gamma| counts as this, which keeps the derivatives finite and moves the curve by under 1e-6."""

GAUSS_NODES = np.array([-np.sqrt(0.6), 0.0, np.sqrt(0.6)]) / 2.0
GAUSS_WEIGHTS = np.array([5.0, 8.0, 5.0]) / 18.0
"""Three-point Gauss-Legendre rule over a pixel of unit width."""


def gamma_from_alpha(alpha: ArrayLike) -> Array:
    """Moment skewness of a skew-normal.

    Parameters
    ----------
    alpha : array_like, any shape
        Shape parameter.

    Returns
    -------
    ndarray, same shape
        Third standardised moment, inside (-0.9953, 0.9953).
    """
    a = np.asarray(alpha, dtype=np.float64)
    m = ROOT_2_PI * a / np.sqrt(1.0 + a * a)
    return MOMENT * m**3 / (1.0 - m * m) ** 1.5


def _shape(gamma: Array) -> tuple[Array, Array, Array, Array]:
    """alpha, mean offset m [omega], dm/dgamma and dalpha/dm of a moment skewness."""
    g = np.where(np.abs(gamma) < GAMMA_FLOOR, np.where(gamma < 0, -GAMMA_FLOOR, GAMMA_FLOOR), gamma)
    r = np.cbrt(g / MOMENT)
    m = r / np.sqrt(1.0 + r * r)
    dm = (1.0 + r * r) ** -1.5 * r / (3.0 * g)
    delta = m / ROOT_2_PI
    alpha = delta / np.sqrt(1.0 - delta * delta)
    return alpha, m, dm, (1.0 - delta * delta) ** -1.5 / ROOT_2_PI


def alpha_from_gamma(gamma: ArrayLike) -> tuple[Array, Array]:
    """Shape parameter and its derivative to the moment skewness.

    Parameters
    ----------
    gamma : array_like, any shape
        Third standardised moment, inside (-0.9952, 0.9952).

    Returns
    -------
    alpha, dalpha_dgamma : ndarray, same shape
        The derivative grows without bound towards gamma = 0: alpha of a symmetric line is poorly known.
    """
    alpha, _, dm, dalpha = _shape(np.asarray(gamma, dtype=np.float64))
    return alpha, dalpha * dm


def skew_normal(wave: ArrayLike, mean: ArrayLike, sigma: ArrayLike, alpha: ArrayLike) -> Array:
    """Skew-normal density of given mean and standard deviation, not integrated over pixels.

    Parameters
    ----------
    wave : array_like, shape (..., p)
        Wavelength [Angstrom].
    mean, sigma : array_like, shape (...)
        Mean and standard deviation of the profile [Angstrom].
    alpha : array_like, shape (...)
        Shape parameter; 0 is a Gaussian, positive a red tail.

    Returns
    -------
    ndarray, shape (..., p)
        Density [1 / Angstrom], of unit integral.
    """
    a = np.asarray(alpha, dtype=np.float64)[..., None]
    s = np.asarray(sigma, dtype=np.float64)[..., None]
    m = ROOT_2_PI * a / np.sqrt(1.0 + a * a)
    omega = s / np.sqrt(1.0 - m * m)
    t = (np.asarray(wave) - np.asarray(mean)[..., None]) / omega + m
    return 2.0 / omega * np.exp(-0.5 * t * t) / np.sqrt(2.0 * np.pi) * ndtr(a * t)


def line_model(theta: Array, wave: Array, dwave: Array) -> tuple[Array, Array]:
    """Line plus constant, averaged over each pixel, with its derivatives.

    Parameters
    ----------
    theta : ndarray, shape (n, 5)
        Line flux F, mean wavelength [Angstrom], ln(standard deviation / Angstrom), moment skewness, constant.
    wave, dwave : ndarray, shape (n, p)
        Pixel centres and widths [Angstrom].

    Returns
    -------
    model : ndarray, shape (n, p)
        In units of F per Angstrom.
    jacobian : ndarray, shape (n, p, 5)
        Derivative to each parameter.
    """
    flux, mean, log_sigma, gamma = (theta[:, k, None, None] for k in range(4))
    alpha, m, dm, dalpha = _shape(gamma)
    s = np.sqrt(1.0 - m * m)
    omega = np.exp(log_sigma) / s
    x = wave[..., None] + dwave[..., None] * GAUSS_NODES  # (n, p, 3)
    t = (x - mean) / omega + m
    gauss = np.exp(-0.5 * t * t) / np.sqrt(2.0 * np.pi)
    cdf = ndtr(alpha * t)
    density = 2.0 / omega * gauss * cdf
    edge = (
        2.0 / omega * gauss * np.exp(-0.5 * (alpha * t) ** 2) / np.sqrt(2.0 * np.pi)
    )  # d density / d(alpha t)
    d_t = -t * density + alpha * edge
    d_xi = -d_t / omega
    d_omega = -(density + t * d_t) / omega
    domega_dm = omega * m / (s * s)
    d_m = d_omega * domega_dm + d_xi * (-omega - m * domega_dm) + t * edge * dalpha
    parts = [density, flux * d_xi, flux * omega * (d_omega - m * d_xi), flux * d_m * dm]
    jac = np.empty((*wave.shape, 5))
    for k, part in enumerate(parts):
        jac[..., k] = part @ GAUSS_WEIGHTS
    jac[..., 4] = 1.0
    return theta[:, 0, None] * jac[..., 0] + theta[:, 4, None], jac


def mode_offset(alpha: ArrayLike) -> tuple[Array, Array]:
    """Where a skew-normal peaks, and how high.

    Parameters
    ----------
    alpha : array_like, shape (n,)
        Shape parameter.

    Returns
    -------
    offset : ndarray, shape (n,)
        Mode minus mean, in standard deviations.
    height : ndarray, shape (n,)
        Density at the mode times the standard deviation; 0.3989 for a Gaussian.
    """
    a = np.atleast_1d(np.asarray(alpha, dtype=np.float64))
    m = ROOT_2_PI * a / np.sqrt(1.0 + a * a)
    s = np.sqrt(1.0 - m * m)
    lo, hi = np.full_like(a, -1.0), np.full_like(a, 1.0)  # the mode lies between -1 and 1 omega of xi
    for _ in range(50):
        t = 0.5 * (lo + hi)
        ratio = np.exp(-0.5 * (a * t) ** 2) / np.sqrt(2.0 * np.pi) / ndtr(a * t)
        rising = a * ratio > t
        lo, hi = np.where(rising, t, lo), np.where(rising, hi, t)
    t = 0.5 * (lo + hi)
    height = 2.0 * np.exp(-0.5 * t * t) / np.sqrt(2.0 * np.pi) * ndtr(a * t) * s
    return (t - m) / s, height
