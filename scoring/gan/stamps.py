"""Simulated HSC stamps, i, r and g as red, green and blue, for the augmentation and its ablation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schema.errors import UserError
from schema.image_shards import percentile_stamp
from scoring.imaging.scenes import KINDS, MIXES
from scoring.imaging.sets import ImageSet, simulate, simulated

RGB = ("i", "r", "g")
FAMILY = "hsc"
MIN_SNR = 60.0
"""Signal to noise of the arcs of the lenses: people found the thesis's few by eye."""


def simulated_stamps(
    folder: Path, n_lens: int, n_other: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Stamps of conspicuous lenses and of survey sources, drawn into a folder once and read from there.

    Parameters
    ----------
    folder : Path
        Where the images are kept; see `scoring.imaging.sets.simulate`.
    n_lens, n_other : int
        How many of each.
    seed : int

    Returns
    -------
    ndarray of uint8, shape (n_lens, 3, 64, 64), and ndarray of uint8, shape (n_other, 3, 64, 64)
    """
    simulate(folder, FAMILY, n_lens, n_other, seed, replace(MIXES[FAMILY], min_snr=MIN_SNR))
    lenses, others = simulated(folder)
    survey = [part for part in others.parts if (part.kind == KINDS.index("ordinary")).all()]
    return stamps_of(lenses), stamps_of(ImageSet(survey))


def stamps_of(images: ImageSet, chunk: int = 512) -> NDArray[np.uint8]:
    """Colour stamps of a set's images, in a fixed random order, shape (n, 3, ny, nx).

    Raises
    ------
    UserError
        If an image lacks a band.
    """
    made: list[NDArray[np.uint8]] = []
    for part in images.parts:
        missing = [band for band in RGB if band not in part.bands]
        if missing:
            raise UserError(
                f"images without band {missing[0]} (they have {', '.join(part.bands)}): i, r, g needed"
            )
        rows = [part.bands.index(band) for band in RGB]
        for first in range(0, len(part.pixels), chunk):
            block = np.asarray(part.pixels[first : first + chunk][:, rows], dtype=np.float32)
            made.append(percentile_stamp(block)[0])
    stamps = np.concatenate(made)
    order = np.random.default_rng(len(stamps)).permutation(len(stamps))  # chunks of one kind lie together
    return np.asarray(stamps[order])
