"""Cells of a selection function: planes of two parameters, lines of one, and who falls into which."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring.selfunc.parameters import Parameter


@dataclass(frozen=True)
class Plane:
    """A grid of cells over two parameters, or over one when `y` is None.

    Attributes
    ----------
    x, y : Parameter
    x_edges, y_edges : ndarray, shape (nx + 1,), (ny + 1,)
        Edges of the cells; `y_edges` is one dummy cell on a line.
    """

    x: Parameter
    y: Parameter | None
    x_edges: NDArray[np.float64]
    y_edges: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int]:
        """Cells along x and y."""
        return len(self.x_edges) - 1, len(self.y_edges) - 1

    @property
    def n_cells(self) -> int:
        """Number of cells; cell i * ny + j is the i-th along x and the j-th along y."""
        nx, ny = self.shape
        return nx * ny

    def bounds(self) -> NDArray[np.float64]:
        """x_lo, x_hi, y_lo, y_hi of every cell, shape (n_cells, 4)."""
        nx, ny = self.shape
        i, j = np.divmod(np.arange(nx * ny), ny)
        return np.stack([self.x_edges[i], self.x_edges[i + 1], self.y_edges[j], self.y_edges[j + 1]], axis=1)

    def cell_of(self, x: NDArray[np.float64], y: NDArray[np.float64] | None) -> NDArray[np.int64]:
        """Cell of each lens, shape (n,); -1 outside, and for what has no value."""
        i = _bin(self.x_edges, x)
        if self.y is None or y is None:
            return i
        j = _bin(self.y_edges, y)
        return np.where((i >= 0) & (j >= 0), i * self.shape[1] + j, -1)


def _bin(edges: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.int64]:
    inside = (values >= edges[0]) & (values <= edges[-1])
    index = np.searchsorted(edges, np.where(inside, values, edges[0]), side="right") - 1
    return np.where(inside, np.minimum(index, len(edges) - 2), -1)


def planes(
    axes: Sequence[Parameter], bins: int, bins_line: int, alone: Sequence[Parameter] = ()
) -> list[Plane]:
    """A plane for every pair of parameters, then a line for every parameter, also for those `alone`."""
    dummy = np.array([0.0, 1.0])
    out = [
        Plane(x, y, np.linspace(x.lo, x.hi, bins + 1), np.linspace(y.lo, y.hi, bins + 1))
        for x, y in itertools.combinations(axes, 2)
    ]
    return out + [Plane(x, None, np.linspace(x.lo, x.hi, bins_line + 1), dummy) for x in (*axes, *alone)]
