"""Augmentation of images: the eight symmetries of the square, and random crops brought back to size."""

from __future__ import annotations

import torch
from torch import Tensor


def symmetries(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image turned and mirrored at random: one of the 8 elements of the square's symmetry group.

    Parameters
    ----------
    x : Tensor, shape (n, channels, h, h)

    Returns
    -------
    Tensor, shape (n, channels, h, h)
    """
    which = torch.randint(8, (len(x),), generator=generator)
    out = torch.empty_like(x)
    for k in range(8):
        at = (which == k).nonzero()[:, 0].to(x.device)
        if len(at):
            out[at] = symmetry(x[at], k)
    return out


def symmetry(x: Tensor, k: int) -> Tensor:
    """Images under element k of 0 to 7: turned by k quarter turns, from 4 on mirrored first."""
    return torch.rot90(x.flip(-1) if k >= 4 else x, k % 4, (-2, -1))


def random_crops(x: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A square of `side` pixels at a random place of each image, interpolated back to the image's size.

    Pourrahmani (2019, section 2.2) takes 90x90 of 100x100 pixels.

    Parameters
    ----------
    x : Tensor, shape (n, channels, h, h)
    side : int  at most h
    """
    h = x.shape[-1]
    corner = torch.randint(0, h - side + 1, (len(x), 2), generator=generator).to(x.device)
    rows, columns = (corner[:, i : i + 1] + torch.arange(side, device=x.device) for i in (0, 1))
    n, channels = x.shape[:2]
    cut = x.gather(2, rows[:, None, :, None].expand(n, channels, side, h))
    cut = cut.gather(3, columns[:, None, None, :].expand(n, channels, side, side))
    return torch.nn.functional.interpolate(cut, size=(h, h), mode="bilinear", align_corners=False)
