"""Cutouts of targets, as training sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from schema.engine import connect_engine, shard_root
from schema.image_shards import ImageShard
from schema.tables import cutout, image_shard
from scoring.imaging.sets import ImageSet, Part
from scoring.tasks import MAX_SATURATED_FRACTION, MIN_GOOD_FRACTION

if TYPE_CHECKING:
    from scoring.models.image_base import ImageModel

BATCH = 10_000
"""Targets asked for in one statement."""


def images_of(
    db: str | None, target_ids: Sequence[int] | NDArray[np.int64], model: ImageModel
) -> tuple[ImageSet, NDArray[np.int64]]:
    """Primary cutouts of targets in the pixels and bands that a model looks at.

    What the model would not score is left out: cutouts without the bands, of too few good or too many
    saturated pixels, that cover less than half of the model's field, or whose shard lacks such pixels.

    Parameters
    ----------
    db : str or None
        Database.
    target_ids : sequence of int, shape (n,)
    model : ImageModel

    Returns
    -------
    ImageSet of m <= n images, and the target of each, shape (m,)

    Raises
    ------
    DataError
        A shard that is gone or damaged.
    """
    c, s = cutout.c, image_shard.c
    found: dict[str, list[tuple[int, int, float | None]]] = {}
    wanted = [int(t) for t in target_ids]
    with connect_engine(db, read_only=True).connect() as conn:
        for first in range(0, len(wanted), BATCH):
            query = (
                sa.select(s.name, c.shard_row, c.target_id, c.pixscale_arcsec)
                .join(image_shard, s.shard_id == c.shard_id)
                .where(
                    c.is_primary,
                    c.target_id.in_(wanted[first : first + BATCH]),
                    sa.func.coalesce(c.frac_good, 1.0) >= MIN_GOOD_FRACTION,
                    sa.func.coalesce(c.frac_saturated, 0.0) <= MAX_SATURATED_FRACTION,
                )
            )
            for name, row, target, scale in conn.execute(query):
                found.setdefault(name, []).append((int(row), int(target), scale))
    parts, targets = [], []
    for name, rows in sorted(found.items()):
        shard = ImageShard(shard_root(db) / name)
        bands = model.choose_bands(shard.bands)
        if bands is None or model.pixels not in shard.arrays:
            continue
        for scale in sorted({r[2] for r in rows}, key=lambda v: (v is None, v)):
            if not model.coverage(shard.ny, shard.nx, scale) >= 0.5:
                continue
            some = sorted(r[:2] for r in rows if r[2] == scale)
            pixels = shard.read(model.pixels, np.array([r[0] for r in some]), bands)
            parts.append(Part(pixels, bands, scale, np.full(len(some), -1, np.int8)))
            targets.append(np.array([r[1] for r in some], dtype=np.int64))
    return ImageSet(parts), np.concatenate(targets) if targets else np.zeros(0, dtype=np.int64)
