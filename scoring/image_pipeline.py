"""From rows of image shards to scores: bands chosen, cutouts read, brought to the model's grid, inferred."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schema.errors import DataError
from schema.image_shards import ImageShard
from scoring.pipeline import Clock, Piece, Pipeline, sigmoid
from scoring.tasks import IMAGE, MIN_GOOD_FRACTION

if TYPE_CHECKING:
    from scoring.backends import Backend
    from scoring.leases import Lease
    from scoring.models.image_base import ImageModel


class OpenShard(NamedTuple):
    """An image shard with the bands of it that the model looks at."""

    shard: ImageShard
    bands: tuple[str, ...]


class ImagePipeline(Pipeline):
    """Cutouts: read as the uint8 stamps or float images that the model asks for, and inferred.

    Parameters
    ----------
    model : ImageModel
        Its bands, field and preprocessing.
    backend : Backend
        Runs its network.
    shards : Path
        Folder of the image shards.
    """

    def __init__(self, model: ImageModel, backend: Backend, shards: Path) -> None:
        super().__init__(backend, IMAGE, shards)
        self.model = model

    def open(self, path: Path) -> OpenShard:
        """An image shard that holds the model's pixels and bands."""
        shard = ImageShard(path)
        bands = self.model.choose_bands(shard.bands)
        if bands is None:
            raise DataError(
                f"image shard {shard.name} holds bands {', '.join(shard.bands)}, but its cutouts are entered "
                f"with bands that {self.model.name} can use; ingest its files again"
            )
        if self.model.pixels not in shard.arrays:
            raise DataError(
                f"image shard {shard.name} holds no {self.model.pixels}, which {self.model.name} needs; it "
                f"holds {', '.join(shard.arrays)}; ingest its files again"
            )
        return OpenShard(shard, bands)

    def compute(
        self, shard: OpenShard, lease: Lease, part: slice, clock: Clock
    ) -> tuple[Piece, Counter[str]]:
        """Probability of some cutouts; ``keep`` indexes them within the chunk."""
        rows_read = read_rows(shard.shard, self.model.pixels, lease.shard_row[part], shard.bands)
        pixels = torch.from_numpy(rows_read)
        clock.lap("read")
        few, flat = unusable(pixels)
        fit = ~(few | flat)
        rows = torch.nonzero(fit).flatten()
        logit = np.zeros(0, dtype=np.float32)
        if len(rows):
            pixscale = torch.from_numpy(lease.carried[part])
            if len(rows) < len(pixels):
                pixels, pixscale = pixels[rows], pixscale[rows]
            x = self.model.preprocess(self.on_device(pixels), pixscale)
            clock.lap("preprocess")
            logit = self.backend.logits(x)
            clock.lap("infer")
        finite = np.isfinite(logit)
        skipped = Counter(
            few_pixels=int(few.sum()), no_contrast=int((flat & ~few).sum()), not_finite=int((~finite).sum())
        )
        return {
            "keep": part.start + rows.numpy()[finite],
            "probability": sigmoid(logit)[finite],
        }, skipped


def read_rows(
    shard: ImageShard, array: str, rows: NDArray[np.int64], bands: tuple[str, ...]
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Rows in increasing order: one sweep where most of their span is wanted, else gathered."""
    low, span = int(rows[0]), int(rows[-1] - rows[0]) + 1
    if span == len(rows) or span > 2 * len(rows):
        return shard.read(array, rows, bands)
    return shard.read(array, slice(low, low + span), bands)[rows - low]


def unusable(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Cutouts that no model can judge: too few finite pixels in a band, or a band without contrast.

    Parameters
    ----------
    pixels : Tensor, shape (n, bands, ny, nx)

    Returns
    -------
    few, flat : Tensor of bool, shape (n,)
    """
    if not pixels.is_floating_point():
        low, high = pixels.flatten(2).aminmax(dim=2)
        return torch.zeros(len(pixels), dtype=torch.bool), (low == high).any(1)
    low, high = pixels.flatten(2).aminmax(dim=2)  # NaN where a pixel is
    if bool(torch.isfinite(low).all() & torch.isfinite(high).all()):
        return torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device), (low == high).any(1)
    good = torch.isfinite(pixels).flatten(2)
    few = (good.float().mean(2) < MIN_GOOD_FRACTION).any(1)
    values = pixels.flatten(2)
    low = torch.where(good, values, torch.inf).amin(2)
    high = torch.where(good, values, -torch.inf).amax(2)
    return few, ~(high > low).all(1)
