"""Where lenses are injected: an even first round, then a second one where the function is uncertain or steep.

In a slice (other parameters fixed) each cell is a stratum. How many lenses the second round puts into a cell
follows from its neighbours' outcomes of the first round, never from its own, so given the design the
outcomes of a cell are independent trials, and its share and interval are those of a binomial experiment.

In a population the second round is drawn from the prior, thinned to where all planes together ask for more;
the known ratio of the two densities is the weight of each lens (importance sampling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from scoring.evaluate.intervals import wilson
from scoring.selfunc.cells import Plane

Array = NDArray[np.float64]
FLOOR = 0.03
"""Least gradient that is assumed, change of the share from cell to cell: flat regions get some too."""

DEFENSIVE = 0.25
"""Share of the second round that is drawn from the prior itself: no weight exceeds its inverse."""


@dataclass
class Points:
    """Where slices are sampled: plane, cell and position of each lens; arrays of shape (n,)."""

    plane: NDArray[np.int64]
    cell: NDArray[np.int64]
    x: Array
    y: Array

    def __len__(self) -> int:
        return len(self.plane)


def spread(planes: Sequence[Plane], per_cell: Sequence[NDArray[np.int64]], seed: int) -> Points:
    """Points in cells, by a scrambled Sobol sequence in each plane (Owen 1998).

    Parameters
    ----------
    planes : sequence of Plane
    per_cell : sequence of int arrays, shape (n_cells,) each
        How many points each cell gets.
    seed : int
        Seed of the scrambling.
    """
    parts = []
    for number, (plane, counts) in enumerate(zip(planes, per_cell, strict=True)):
        cell = np.repeat(np.arange(plane.n_cells), counts)
        sobol = qmc.Sobol(2, scramble=True, rng=np.random.default_rng([seed, number]))
        u = sobol.random_base2(int(np.ceil(np.log2(max(len(cell), 1)))))[: len(cell)]
        bounds = plane.bounds()[cell]
        x = bounds[:, 0] + u[:, 0] * (bounds[:, 1] - bounds[:, 0])
        y = bounds[:, 2] + u[:, 1] * (bounds[:, 3] - bounds[:, 2])
        parts.append((np.full(len(cell), number), cell, x, y))
    plane_no, cell, x, y = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Points(plane_no, cell, x, y)


def refine(
    planes: Sequence[Plane],
    tried: Sequence[NDArray[np.int64]],
    hits: Sequence[NDArray[np.int64]],
    budget: int,
) -> list[NDArray[np.int64]]:
    """How many points the second round puts into each cell.

    The acquisition of a cell is the standard deviation of an outcome there, sqrt(p (1 - p)), times how steep
    the function is, |grad p| + `FLOOR`; p and its gradient are judged by the neighbours alone.

    Parameters
    ----------
    planes : sequence of Plane
    tried, hits : sequence of int arrays, shape (n_cells,) each
        First round.
    budget : int
        Points to share out.
    """
    wanted = [
        acquisition(n.reshape(p.shape), k.reshape(p.shape)).ravel()
        for p, n, k in zip(planes, tried, hits, strict=True)
    ]
    every = np.concatenate(wanted)
    # rounding the running sum gives whole numbers that add up to the budget
    running = np.round(np.cumsum(every) / every.sum() * budget).astype(np.int64)
    counts = np.diff(running, prepend=0)
    return np.split(counts, np.cumsum([p.n_cells for p in planes])[:-1])


def acquisition(n: NDArray[np.int64], k: NDArray[np.int64]) -> Array:
    """Acquisition of every cell of a plane from the outcomes of the cells around it, shape as given."""
    p = (k + 0.5) / (n + 1.0)
    around = np.pad(p, 1, constant_values=np.nan)
    sides = [(0, 1), (2, 1), (1, 0), (1, 2)]
    corners = [(0, 0), (0, 2), (2, 0), (2, 2)]

    def shifted(di: int, dj: int) -> Array:
        return around[di : di + p.shape[0], dj : dj + p.shape[1]]

    near = np.stack([shifted(*s) for s in sides] + [shifted(*s) for s in corners])
    weight = np.where(np.isnan(near), 0.0, np.array([2.0] * 4 + [1.0] * 4)[:, None, None])
    mean = (np.nan_to_num(near) * weight).sum(0) / weight.sum(0)
    with np.errstate(invalid="ignore"):
        slopes = np.stack([_half_range(near[0], near[1]), _half_range(near[2], near[3])])
    steep = np.sqrt((np.nan_to_num(slopes) ** 2).sum(0))
    return np.sqrt(mean * (1 - mean)) * (steep + FLOOR)


def _half_range(a: Array, b: Array) -> Array:
    """Half the difference of two opposite neighbours; 0 at an edge, where there is one alone."""
    return np.where(np.isnan(a) | np.isnan(b), 0.0, np.abs(a - b) / 2)


def plane_acquisition(n_eff: Array, p: Array, shape: tuple[int, int]) -> Array:
    """Width of each cell's interval times (gradient + `FLOOR`), shape (n_cells,); 0 to 1 in an empty one."""
    k = np.nan_to_num(p) * n_eff
    lo, hi = wilson(k, np.maximum(n_eff, 1e-9))
    width = np.where(n_eff > 0, hi - lo, 1.0)
    grid = np.where(np.isnan(p), 0.5, p).reshape(shape)
    slope = np.zeros(shape)
    for axis in (0, 1):
        if shape[axis] > 1:
            slope = np.hypot(slope, np.gradient(grid, axis=axis))
    out: Array = width * (slope.ravel() + FLOOR)
    return out


def thin(score: Array, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], Array]:
    """Pick `n` of many draws from the prior in proportion to their score, a share of them regardless of it.

    Parameters
    ----------
    score : ndarray, shape (m,)
        Acquisition of draws from the prior, at least 0; m is many times n.
    n : int
        Draws to keep.
    rng : Generator

    Returns
    -------
    index : ndarray of int, shape (n,)
        Draws kept.
    weight : ndarray, shape (n,)
        Density of the prior over that of the kept draws; 1 on average over them, at most 1 / `DEFENSIVE`.
    """
    kept = np.ones_like(score) if score.mean() <= 0 else score / score.mean()
    most = 0.5 * len(score) / n
    for _ in range(20):  # so that no draw is asked for more often than it is there
        kept = np.minimum(kept / kept.mean(), most)
    ratio = DEFENSIVE + (1 - DEFENSIVE) * kept / kept.mean()
    order = rng.permutation(len(score))
    running = np.cumsum(ratio[order])
    at = (rng.random() + np.arange(n)) / n * running[-1]  # systematic
    index = order[np.searchsorted(running, at)]
    return index, 1.0 / ratio[index]
