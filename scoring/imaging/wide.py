"""Lenses drawn over wide ranges, for networks to learn from beside those of a realistic population."""

from __future__ import annotations

import torch
from torch import Tensor

from scoring.lensing.galaxies import Dice, Light


def widened(
    share: float, low: float, high: float, theta_e: Tensor, bx: Tensor, by: Tensor, lens: Light,
    source: Light, dice: Dice,
) -> tuple[Tensor, Tensor, Tensor, Light, Light]:  # fmt: skip
    """Lenses of which a share is drawn over wide ranges, whatever mass, light and source are in nature.

    A network that saw Collett's population alone knows no ring brighter than its galaxy and none that is wide
    about a faint one, and turns such lenses down. Einstein radii are even in their logarithm from `low` to
    `high`, sources lie further in, galaxies are fainter by up to 3 mag and of any size and Sérsic index.

    theta_e, bx, by : Tensor, shape (n,)  Einstein radius [arcsec]; place of the source over it
    """
    n = len(theta_e)
    odd = dice.below(n, share)

    def either(wide: Tensor, usual: Tensor) -> Tensor:
        return torch.where(odd, wide, usual)

    inwards = either(dice.uniform(n), torch.ones_like(theta_e))
    lens = lens._replace(
        mag_i=either(lens.mag_i + dice.uniform(n, 0.0, 3.0), lens.mag_i),
        r_eff=either(0.3 * (4.0 / 0.3) ** dice.uniform(n), lens.r_eff),
        n=either(dice.uniform(n, 0.6, 6.0), lens.n),
        g_r=either(lens.g_r + dice.normal(n, 0.0, 0.3), lens.g_r),
        r_i=either(lens.r_i + dice.normal(n, 0.0, 0.3), lens.r_i),
    )
    source = source._replace(
        r_eff=either(source.r_eff * 10 ** dice.uniform(n, -0.2, 0.3), source.r_eff),
        g_r=either(source.g_r + dice.normal(n, 0.0, 0.25), source.g_r),
        r_i=either(source.r_i + dice.normal(n, 0.0, 0.2), source.r_i),
    )
    theta_e = either(low * (high / low) ** dice.uniform(n), theta_e)
    return theta_e, bx * inwards, by * inwards, lens, source
