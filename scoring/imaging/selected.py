"""Real cutouts of a selection, as positives or negatives to train and to judge with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schema.engine import connect_engine
from scoring.imaging.sets import ImageSet
from scoring.predicate import VIEW
from scoring.selection import checked_selection

if TYPE_CHECKING:
    from scoring.models.image_base import ImageModel


def selected_images(db: str | None, selection: str, model: ImageModel) -> ImageSet:
    """Primary cutouts of a selection in the pixels and bands that a model looks at; the others are left out.

    Raises
    ------
    UserError
        If there is no such selection.
    DataError
        If a shard is gone or damaged.
    """
    from scoring.mining.pixels import images_of

    chosen = checked_selection(db, selection)
    with connect_engine(db, read_only=True).connect() as conn:
        bare = conn.execution_options(no_parameters=True)
        query = f"select distinct target_id from {VIEW} where {chosen.where} order by target_id"
        targets = [int(row[0]) for row in bare.exec_driver_sql(query)]
    return images_of(db, targets, model)[0]
