"""Intervals of figures: binomial ones in closed form, and the bootstrap over groups that share noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv
from scipy.stats import norm

Array = NDArray[np.float64]


def wilson(k: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
    """Score interval of a binomial fraction (Wilson 1927, J. Am. Stat. Assoc. 22, 209).

    Its coverage is close to `level` on average; near 0 and 1 it may fall short for some true fractions.

    Parameters
    ----------
    k, n : array_like of int, same shape
        Successes and trials; without trials the interval is (0, 1).
    level : float
        Coverage.

    Returns
    -------
    lo, hi : ndarray, same shape
        Ends of the interval.
    """
    k_, n_ = np.broadcast_arrays(np.asarray(k, dtype=float), np.asarray(n, dtype=float))
    z2 = float(norm.ppf(0.5 + level / 2)) ** 2
    trials = np.maximum(n_, 1)
    p = k_ / trials
    middle = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = np.sqrt(z2 * (p * (1 - p) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    lo = np.where(k_ <= 0, 0.0, middle - half)
    hi = np.where(k_ >= n_, 1.0, middle + half)
    return np.where(n_ > 0, lo, 0.0), np.where(n_ > 0, hi, 1.0)


def clopper_pearson(k: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
    """Exact interval of a binomial fraction (Clopper & Pearson 1934, Biometrika 26, 404).

    It covers the truth at least as often as `level` says, whatever the truth. Parameters and returns as
    `wilson`.
    """
    k_, n_ = np.broadcast_arrays(np.asarray(k, dtype=float), np.asarray(n, dtype=float))
    tail = (1 - level) / 2
    with np.errstate(invalid="ignore"):
        lo = np.where(k_ > 0, betaincinv(np.maximum(k_, 1e-9), n_ - k_ + 1, tail), 0.0)
        hi = np.where(k_ < n_, betaincinv(k_ + 1, np.maximum(n_ - k_, 1e-9), 1 - tail), 1.0)
    return np.where(n_ > 0, lo, 0.0), np.where(n_ > 0, hi, 1.0)


def bootstrap(
    figure: Callable[[NDArray[np.int64]], ArrayLike],
    groups: ArrayLike,
    n_resamples: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Array, Array]:
    """Percentile interval of any figure, by drawing whole groups with replacement.

    Objects of one group share what scatters (a host galaxy, a field), so they are drawn together; where every
    object stands alone give each a group of its own.

    Parameters
    ----------
    figure : callable
        Maps row numbers, shape (m,), to a figure or an array of figures; a NaN is left out.
    groups : array_like, shape (n,)
        Group of each row.
    n_resamples : int
        Resamples drawn.
    seed : int
        Seed of the draws.
    level : float
        Coverage.

    Returns
    -------
    lo, hi : ndarray, shape of the figure
        Ends of the interval; NaN where every resample gave NaN.
    """
    labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    order = np.argsort(labels, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(labels))[:-1])
    rng = np.random.default_rng(seed)
    alone = len(rows) == len(order)
    values = []
    for _ in range(n_resamples):
        drawn = rng.integers(len(rows), size=len(rows))
        sample = order[drawn] if alone else np.concatenate([rows[g] for g in drawn])
        values.append(np.asarray(figure(sample), dtype=float))
    stack = np.ma.masked_invalid(np.stack(values))
    tail = 50 * (1 - level)
    filled = np.ma.filled(stack, np.nan)
    empty = np.isnan(filled).all(axis=0)
    safe = np.where(empty, 0.0, filled)
    lo, hi = np.nanpercentile(safe, [tail, 100 - tail], axis=0)
    return np.where(empty, np.nan, lo), np.where(empty, np.nan, hi)
