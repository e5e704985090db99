"""One round of injections: written as targets, scored by the scoring command, read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from schema.errors import DataError
from scoring.inject.batch import Batch, in_blocks
from scoring.inject.rows import existing, write_batch
from scoring.inject.setup import BATCH
from scoring.light.instruments import Instrument
from scoring.selection import add_selection, checked_selection
from scoring.selfunc.outcome import Outcomes, read_outcomes

if TYPE_CHECKING:
    from scoring.models.base import Model

Say = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Scorer:
    """The model, and how it is run: what `lensmine score` is told.

    Attributes
    ----------
    model : Model
        Loaded.
    model_id : int
        Its version.
    stage : str
        What counts as selected.
    threshold : float
        Probability from which a lens counts as scored.
    weights, backend, precision, device
        As for `scoring.run.score`.
    """

    model: Model
    model_id: int
    stage: str
    threshold: float
    weights: str = "shipped"
    backend: str = "auto"
    precision: str = "fp32"
    device: str | None = None

    def score(self, db: str | None, selection: str, say: Say | None = None) -> None:
        """Score what the model lacks of a selection."""
        from scoring.run import score

        def advance(done: int, todo: int) -> None:
            if say is not None:
                say("score", done, todo)

        score(
            db,
            self.model.name,
            selection,
            backend=self.backend,
            precision=self.precision,
            device=self.device,
            weights=self.weights,
            progress=advance,
        )

    def outcomes(self, db: str | None, selection: str) -> Outcomes:
        """What became of the lenses of a selection.

        Raises
        ------
        DataError
            When not one of them has a score.
        """
        where = checked_selection(db, selection).where
        found = read_outcomes(db, self.model_id, self.model.modality, self.stage, self.threshold, where)
        if len(found) and not found.scored.any():
            raise DataError(
                f"{self.model.name} gave none of the {len(found)} lenses of selection {selection!r} a score; "
                f"see: lensmine score {self.model.name} {selection}"
            )
        return found


def tag_selection(db: str | None, tag: str, what: str) -> str:
    """Name of the selection of the targets of a tag, added if it is not there."""
    name = f"selfunc-{tag}"
    add_selection(db, name, f"starts_with(native_id, '{tag}-') and is_injection", what)
    return name


def write_missing(
    db: str | None,
    tag: str,
    n: int,
    camera: Instrument,
    arrays: tuple[str, ...],
    make: Callable[[NDArray[np.int64]], Batch],
    say: Say | None = None,
) -> None:
    """Write those of the sources 0 to n - 1 of a tag that the database lacks, a batch at a time.

    `make` is given whole blocks of numbers, so that a source is the same whatever else is missing.
    """
    have = existing(db, tag)
    for first in range(0, n, BATCH):
        rows = np.arange(first, min(first + BATCH, n))
        missing = rows[[int(i) not in have for i in rows]]
        if len(missing):
            write_batch(db, tag, missing, in_blocks(missing, n, make), camera, arrays=arrays)
        if say is not None:
            say("simulate", len(rows), n)


def in_order(found: Outcomes, n: int, tag: str) -> NDArray[np.int64]:
    """Place of source 0 to n - 1 of a tag among the outcomes, shape (n,).

    Raises
    ------
    DataError
        When one is missing.
    """
    place = np.full(n, -1, dtype=np.int64)
    for i, name in enumerate(found.native_id):
        start, _, digits = str(name).rpartition("-")
        number = int(digits) if start == tag else n
        if number < n:
            place[number] = i
    if (place < 0).any():
        lost = int((place < 0).argmax())
        raise DataError(f"injected lens {tag}-{lost:07d} is not in the database; was it deleted? Run again.")
    return place
