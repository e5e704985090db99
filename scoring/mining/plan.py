"""What a round of a campaign learns from, as SQL over the scores and grades that stand.

Pourrahmani et al. (2018), sections 2.4 to 2.6 of the thesis: the coarse round ranks the whole pool; the fine
round works on the top 6% of it, with what people turned down among the first 300 as hard negatives; the
search round adds the tracers to the positives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from schema.errors import UserError
from scoring.predicate import VIEW
from scoring.selection import Selection

PHASES = ("coarse", "fine", "search")
LENS_GRADES, OTHER_GRADES = ("A", "B"), ("C", "X")


@dataclass(frozen=True)
class MineConfig:
    """Settings of a campaign, enough to replay its rounds.

    Attributes
    ----------
    model : str  registered image model
    pool : str  selection that is searched
    positives : str or None  selection of lenses to learn from; None for simulated ones
    tracers : str  set of tracers that judges each round, and that no round takes for negatives
    phases : tuple of str  of coarse, fine and search, in order
    keep : share of the ranked list that the next round works on
    inspect : places at the top of the list that hard negatives come from
    negatives : most ordinary cutouts that a round draws from its pool
    hard_weight : how many times a hard negative stands among the negatives
    epochs : of each round
    simulated : lenses to simulate when `positives` is None
    start : ``shipped``, ``fresh``, or a weights file that the first round starts from
    seed : of the draw, the weights and the batches
    """

    model: str
    pool: str
    tracers: str
    positives: str | None = None
    phases: tuple[str, ...] = PHASES
    keep: float = 0.06
    inspect: int = 300
    negatives: int = 50_000
    hard_weight: int = 5
    epochs: int = 20
    simulated: int = 3200
    start: str = "shipped"
    seed: int = 1

    def __post_init__(self) -> None:
        unknown = [p for p in self.phases if p not in PHASES]
        if unknown or not self.phases:
            raise UserError(f"phase {unknown[0]!r} is unknown" if unknown else "no phase given") from None
        if not 0 < self.keep <= 1:
            raise UserError(
                f"--keep {self.keep:g}: give a share of the list above 0 and up to 1, such as 0.06"
            )
        for name in ("inspect", "negatives", "hard_weight", "epochs", "simulated"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: give 1 or more")


@dataclass(frozen=True)
class RoundPlan:
    """Predicates over view selectable: who is in the pool, and who is a hard negative."""

    pool_sql: str
    hard_sql: str | None


def plan_round(pool: Selection, config: MineConfig, phase: str, parent_model_id: int | None) -> RoundPlan:
    """Predicates of a round; those of a later one refer to the ranking by the parent's model version.

    Parameters
    ----------
    pool : Selection
        The campaign's selection, in the version that it began with.
    config : MineConfig
    phase : str
        coarse, fine or search.
    parent_model_id : int or None
        Model version of the round before.
    """
    if parent_model_id is None:
        return RoundPlan(pool.where_sql, None)
    top = f"select target_id from ranked where model_id = {parent_model_id}"
    inside = f"({pool.where_sql}\n)\nand target_id in ({top} and ordinality <= {config.keep!r})"
    graded = f"select target_id from current_grade where grade in {OTHER_GRADES!r}"
    hard = (
        f"({pool.where_sql}\n)\nand (target_id in ({top} and place <= {config.inspect})\n"
        f"  or target_id in ({graded}))"
    )
    return RoundPlan(inside, hard)


def not_a_negative(tracers: str) -> str:
    """Predicate of targets that no round may take for ordinary ones: tracers, graded A or B, known lenses."""
    name = tracers.replace("'", "''")
    return (
        f"(target_id in (select target_id from tracer where name = '{name}')\n"
        f"  or target_id in (select target_id from current_grade where grade in {LENS_GRADES!r})\n"
        "  or target_id in (select target_id from known_lens_match)\n"
        "  or target_id in (select target_id from injection where is_lens))"
    )


def targets(conn: sa.Connection, where_sql: str) -> NDArray[np.int64]:
    """Targets with a cutout that a predicate selects, in the order of their keys, shape (n,)."""
    bare = conn.execution_options(no_parameters=True)
    query = (
        f"select target_id from {VIEW} where (\n{where_sql}\n) and cutout_id is not null order by target_id"
    )
    return np.array([row[0] for row in bare.exec_driver_sql(query)], dtype=np.int64)
