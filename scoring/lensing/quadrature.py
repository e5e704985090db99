"""Where to sample inside a pixel: Gauss-Legendre points, and points that crowd around a cusp."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

CUSP_POWER = 3


@cache
def _gauss(order: int) -> tuple[list[float], list[float]]:
    at, weight = np.polynomial.legendre.leggauss(order)
    return (at / 2).tolist(), (weight / 2).tolist()


def gauss_square(order: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gauss-Legendre points of the unit pixel: dx, dy in -0.5..0.5 and weights of sum 1, each (order^2,)."""
    at, weight = (torch.tensor(v, dtype=like.dtype, device=like.device) for v in _gauss(order))
    return at.repeat(order), at.repeat_interleave(order), (weight[:, None] * weight).flatten()


def cusp_line(order: int, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Points of -0.5..0.5 that crowd around `centre`, and weights of sum 1.

    Either side of the centre is mapped by ``t^3``, which makes a Sérsic cusp smooth to the rule.

    Parameters
    ----------
    centre : Tensor, shape (n,)  within -0.5..0.5

    Returns
    -------
    at, weight : Tensor, shape (2 order, n)
    """
    node, weight = (torch.tensor(v, dtype=centre.dtype, device=centre.device)[:, None] for v in _gauss(order))
    t = node + 0.5
    power, slope = t**CUSP_POWER, CUSP_POWER * t ** (CUSP_POWER - 1) * weight
    left, right = centre + 0.5, 0.5 - centre
    return torch.cat([centre - left * power, centre + right * power]), torch.cat(
        [left * slope, right * slope]
    )


def cusp_square(order: int, cx: Tensor, cy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points of the unit pixel around its cusp at (cx, cy): dx, dy, weight of shape (4 order^2, n)."""
    x, wx = cusp_line(order, cx)
    y, wy = cusp_line(order, cy)
    m = 2 * order
    return x.repeat(m, 1), y.repeat_interleave(m, 0), (wy[:, None] * wx).reshape(m * m, -1)
