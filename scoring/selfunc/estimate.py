"""From injected and selected lenses to shares with intervals, weighted or not.

A cell's share is the weighted mean of its outcomes, sum(w s) / sum(w), round by round; rounds are joined by
their effective numbers, (sum w)^2 / sum(w^2) (Kish 1965). Its interval is Wilson's for that effective number.
Where every weight is one, that is the ordinary binomial share and its ordinary Wilson interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring.evaluate.intervals import wilson

Array = NDArray[np.float64]
GRADE_DRAWS = 4000


@dataclass
class Shares:
    """Outcome of every cell of a plane; arrays of shape (n_cells,).

    Attributes
    ----------
    n_injected, n_selected : lenses, and of these selected ones
    n_eff : effective number
    p, lo, hi : share and its 95% interval; share NaN, interval 0 to 1, with fewer than `min_per_cell`
    """

    n_injected: NDArray[np.int64]
    n_selected: NDArray[np.int64]
    n_eff: Array
    p: Array
    lo: Array
    hi: Array


def shares(
    cell: NDArray[np.int64],
    n_cells: int,
    selected: NDArray[np.bool_],
    weight: Array,
    stratum: NDArray[np.int64],
    min_per_cell: float = 1.0,
) -> Shares:
    """Share selected in each cell.

    Parameters
    ----------
    cell : ndarray, shape (n,)
        Cell of each lens, -1 outside.
    n_cells : int
        Number of cells.
    selected : ndarray of bool, shape (n,)
        Outcome of each lens.
    weight : ndarray, shape (n,)
        Density of the prior over that of the draw.
    stratum : ndarray of int, shape (n,)
        Round in which it was drawn: weights are comparable within a round.
    min_per_cell : float
        Effective number below which a cell has no share.
    """
    n_injected = _count(cell, n_cells)
    n_selected = _count(cell[selected], n_cells)
    n_eff, k_eff = np.zeros(n_cells), np.zeros(n_cells)
    for s in np.unique(stratum):
        mine = (stratum == s) & (cell >= 0)
        c, w = cell[mine], weight[mine]
        total = np.bincount(c, w, n_cells)
        square = np.bincount(c, w * w, n_cells)
        hit = np.bincount(c, w * selected[mine], n_cells)
        some = total > 0
        kish = np.divide(total**2, square, out=np.zeros(n_cells), where=some)
        n_eff += kish
        k_eff += kish * np.divide(hit, total, out=np.zeros(n_cells), where=some)
    return _with_interval(n_injected, n_selected, n_eff, k_eff, min_per_cell)


def graded_shares(
    cell: NDArray[np.int64],
    n_cells: int,
    reached: NDArray[np.bool_],
    graded: NDArray[np.bool_],
    accepted: NDArray[np.bool_],
    weight: Array,
    min_per_cell: float = 1.0,
    seed: int = 0,
) -> Shares:
    """Share that reviewers accept: P(reaches them) times P(accepted | reached and graded).

    People grade some of what reaches them, so the second factor comes from the graded ones alone. The
    interval is that of the product of two Beta laws, each with Jeffreys' prior and its effective numbers.

    Parameters
    ----------
    reached, graded, accepted : ndarray of bool, shape (n,)
        Passed the cuts; has a standing grade; that grade is A or B.
    """
    one = np.zeros(len(cell), dtype=np.int64)
    first = shares(cell, n_cells, reached, weight, one, min_per_cell)
    seen = reached & graded
    second = shares(cell[seen], n_cells, accepted[seen], weight[seen], one[seen], min_per_cell)
    rng = np.random.default_rng(seed)

    def beta(s: Shares) -> Array:
        k = np.nan_to_num(s.p) * s.n_eff
        return rng.beta(k + 0.5, s.n_eff - k + 0.5, size=(GRADE_DRAWS, n_cells))

    product = beta(first) * beta(second)
    lo, hi = np.quantile(product, [0.025, 0.975], axis=0)
    none_reach = first.p == 0.0
    p = np.where(none_reach, 0.0, first.p * second.p)
    lo = np.where(none_reach | (p == 0), 0.0, lo)
    hi = np.where(none_reach, first.hi, hi)
    unknown = ~np.isfinite(p)
    return Shares(
        first.n_injected,
        _count(cell[seen & accepted], n_cells),
        np.minimum(first.n_eff, np.where(none_reach, first.n_eff, second.n_eff)),
        p,
        np.where(unknown, 0.0, lo),
        np.where(unknown, np.where(first.n_eff >= min_per_cell, first.hi, 1.0), hi),
    )


def _with_interval(
    n_injected: NDArray[np.int64], n_selected: NDArray[np.int64], n_eff: Array, k_eff: Array, least: float
) -> Shares:
    enough = n_eff >= least
    p = np.divide(k_eff, n_eff, out=np.full(len(n_eff), np.nan), where=enough & (n_eff > 0))
    # rounding must not make none or all of the lenses a little more or less than that
    k = np.where(n_selected == 0, 0.0, np.where(n_selected == n_injected, n_eff, k_eff))
    p = np.where(np.isnan(p), p, np.clip(np.where(n_eff > 0, k / np.maximum(n_eff, 1e-12), p), 0.0, 1.0))
    lo, hi = _wilson(k, n_eff)
    lo, hi = np.fmin(lo, p), np.fmax(hi, p)  # nor put the share outside its interval
    return Shares(n_injected, n_selected, n_eff, p, np.where(enough, lo, 0.0), np.where(enough, hi, 1.0))


def _wilson(k: Array, n: Array) -> tuple[Array, Array]:
    """Wilson's interval for effective numbers, which need not be whole and may be below one."""
    safe = np.maximum(n, 1.0)
    lo, hi = wilson(k * safe / np.maximum(n, 1e-12), safe)
    return np.where(n > 0, lo, 0.0), np.where(n > 0, hi, 1.0)


def _count(cell: NDArray[np.int64], n_cells: int) -> NDArray[np.int64]:
    return np.bincount(cell[cell >= 0], minlength=n_cells)
