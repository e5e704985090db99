"""Levenberg-Marquardt for many small least-squares problems at once.

One problem a row: thousands of line fits share each matrix operation, where scipy.optimize.curve_fit would
be called once per line. Bounds are kept by an active set: a parameter that stands at its bound and is
pushed outward is frozen for that step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Model = Callable[[Array, NDArray[np.int64]], tuple[Array, Array]]


@dataclass(frozen=True)
class Solution:
    """Best parameters of n problems.

    Attributes
    ----------
    theta : ndarray, shape (n, k)
        Best parameters.
    chi2 : ndarray, shape (n,)
        Their chi-squared.
    hessian : ndarray, shape (n, k, k)
        J^T W J there; its inverse is the covariance.
    converged : ndarray of bool, shape (n,)
        False where the iterations ran out.
    """

    theta: Array
    chi2: Array
    hessian: Array
    converged: NDArray[np.bool_]


def solve(
    model: Model,
    data: Array,
    weight: Array,
    start: Array,
    lower: Array,
    upper: Array,
    free: NDArray[np.bool_] | None = None,
    max_iter: int = 150,
    tol: float = 1e-5,
) -> Solution:
    """Minimise sum(weight * (data - model)^2) in every row.

    Parameters
    ----------
    model : callable
        ``model(theta, rows)`` gives values (m, p) and Jacobian (m, p, k) of the problems ``rows``.
    data, weight : ndarray, shape (n, p)
        Measurements and their inverse variances; weight 0 leaves a pixel out.
    start, lower, upper : ndarray, shape (n, k)
        First guess and bounds.
    free : ndarray of bool, shape (k,), optional
        False holds a parameter at its start. All are free by default.
    max_iter : int
        Most iterations.
    tol : float
        Converged when an accepted step lowers chi-squared by less than this, absolute plus relative,
        twice in a row.

    Returns
    -------
    Solution
    """
    theta = np.clip(start, lower, upper)
    n, k = theta.shape
    held = np.zeros(k, dtype=bool) if free is None else ~free
    chi2, grad, hess = np.empty(n), np.empty((n, k)), np.empty((n, k, k))
    lam = np.full(n, 1e-3)
    calm = np.zeros(n, dtype=np.int64)

    def normal_equations(th: Array, rows: NDArray[np.int64]) -> tuple[Array, Array, Array]:
        value, jac = model(th, rows)
        w, r = weight[rows], data[rows] - value
        wj = w[..., None] * jac
        return (w * r * r).sum(1), np.einsum("npk,np->nk", wj, r), np.einsum("npk,npl->nkl", wj, jac)

    todo = np.arange(n)
    chi2, grad, hess = normal_equations(theta, todo)
    for _ in range(max_iter):
        if not len(todo):
            break
        g, h, th = grad[todo], hess[todo], theta[todo]
        stuck = held | ((th <= lower[todo]) & (g < 0)) | ((th >= upper[todo]) & (g > 0))
        trial = np.clip(th + _step(h, g, lam[todo], stuck), lower[todo], upper[todo])
        new = normal_equations(trial, todo)
        gain = chi2[todo] - new[0]
        good = np.isfinite(new[0]) & (gain >= 0)
        rows = todo[good]
        theta[rows], chi2[rows], grad[rows], hess[rows] = (
            trial[good],
            new[0][good],
            new[1][good],
            new[2][good],
        )
        small = good & (gain <= tol * (1.0 + chi2[todo]))
        calm[todo] = np.where(small, calm[todo] + 1, np.where(good, 0, calm[todo]))
        lam[todo] = np.where(good, np.maximum(lam[todo] / 5.0, 1e-9), lam[todo] * 4.0)
        calm[todo] = np.where(lam[todo] > 1e10, 2, calm[todo])  # no step downhill is left
        todo = todo[calm[todo] < 2]
    return Solution(theta, chi2, hess, calm >= 2)


def _step(hess: Array, grad: Array, lam: Array, stuck: NDArray[np.bool_]) -> Array:
    """Damped Newton step, shape (n, k), with Marquardt's scaling; zero along stuck parameters."""
    k = grad.shape[1]
    scale = np.sqrt(np.maximum(np.einsum("nkk->nk", hess), 1e-30))
    a = hess / (scale[:, :, None] * scale[:, None, :])
    b = np.where(stuck, 0.0, grad / scale)
    off = stuck[:, :, None] | stuck[:, None, :]
    a = np.where(off, 0.0, a) + np.eye(k) * np.where(stuck, 1.0, lam[:, None])[:, :, None]
    return np.linalg.solve(a + 1e-12 * np.eye(k), b[..., None])[..., 0] / scale


def covariance(hess: Array) -> Array:
    """Inverse of J^T W J, shape (n, k, k); infinite variances where a parameter is not constrained."""
    scale = np.sqrt(np.maximum(np.einsum("nkk->nk", hess), 1e-30))
    a = hess / (scale[:, :, None] * scale[:, None, :])
    inverse = np.linalg.inv(a + 1e-12 * np.eye(hess.shape[-1]))
    return inverse / (scale[:, :, None] * scale[:, None, :])
