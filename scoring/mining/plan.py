"""What a round of a campaign learns from, as SQL over the scores and grades that stand.

Pourrahmani et al. (2018), sections 2.4 to 2.6 of the thesis: the coarse round ranks the whole pool; the fine
round works on the top 6% of it, with what people turned down among the first 300 as hard negatives; the
search round adds the tracers to the positives. Among the first of a list stand the lenses that are looked
for, so what nobody has graded there is neither a lens nor a negative, unless the user says that it is none.
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
LEAST = 10
"""Lenses, and ordinary cutouts, that a round needs to learn from."""

MAY_CHANGE = ("keep", "inspect", "unseen", "simulated_others")
"""Settings that a later round may have otherwise: every round is kept, and replayed, with its own."""


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
    simulated_others : simulated survey sources that a round learns from beside its pool
    unseen : whether what nobody has graded at the top of the list is taken for hard negatives too
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
    simulated_others: int = 0
    unseen: bool = False

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
        if self.simulated_others < 0:
            raise UserError(f"--simulated-others {self.simulated_others}: give 0 or more")


@dataclass(frozen=True)
class RoundPlan:
    """Predicates over view selectable.

    Attributes
    ----------
    base_sql : the campaign's pool, whichever round
    pool_sql : what this round scores and draws ordinary cutouts from
    hard_sql : who is a hard negative; None in the first round
    unseen_sql : who is set aside, as nobody has looked at it; None in the first round
    """

    base_sql: str
    pool_sql: str
    hard_sql: str | None = None
    unseen_sql: str | None = None


def plan_round(pool: Selection | str, config: MineConfig, parent_model_id: int | None) -> RoundPlan:
    """Predicates of a round; those of a later one refer to the ranking by the parent's model version.

    Parameters
    ----------
    pool : Selection or str
        The campaign's selection; or the predicate that its first round made of it, by which it goes on.
    config : MineConfig
    parent_model_id : int or None
        Model version of the round before.
    """
    base = (
        pool if isinstance(pool, str) else f"({pool.where_sql}\n)\nand not {_stray_injection(config.tracers)}"
    )
    if parent_model_id is None:
        return RoundPlan(base, base)
    top = f"target_id in (select target_id from {_list(base, parent_model_id)} as listed where place <="
    inside = f"({base}\n)\nand {top} {config.keep!r} * n_listed)"
    # at most half of what is kept, so that something is left to learn from
    first = f"{top} least({config.inspect}, {config.keep / 2!r} * n_listed))"
    graded = f"target_id in (select target_id from current_grade where grade in {OTHER_GRADES!r})"
    is_none = "target_id in (select target_id from injection where not is_lens)"
    sure = first if config.unseen else f"({first} and {is_none})"
    hard = f"({base}\n)\nand ({graded}\n  or {sure})"
    unseen = None if config.unseen else f"({base}\n)\nand {first} and not {graded} and not {is_none}"
    return RoundPlan(base, inside, hard, unseen)


def _list(base: str, model_id: int) -> str:
    """The pool ranked by a model version; view ranked places them among whatever else that has scored."""
    return (
        "(\n  select target_id, count(*) over () as n_listed, rank() over (order by probability desc)\n"
        "    + (count(*) over (partition by probability) - 1) / cast(2 as double precision) as place\n"
        f"  from current_image_score where model_id = {model_id}\n"
        f"    and target_id in (select target_id from {VIEW} where {base})\n)"
    )


def _stray_injection(tracers: str) -> str:
    """Predicate of simulated lenses that are no tracers: they would fill the top of the list."""
    return (
        "(target_id in (select target_id from injection where is_lens)\n"
        f"  and target_id not in ({named(tracers)}))"
    )


def named(tracers: str) -> str:
    """Query of the targets of a set of tracers."""
    name = tracers.replace("'", "''")
    return f"select target_id from tracer where name = '{name}'"


def too_few(
    number: int, phase: str, n: int, n_pool: int, config: MineConfig, counts: dict[str, int]
) -> UserError:
    """Why a round has too few ordinary cutouts to learn from, and what helps."""
    of = f"of the {n_pool:,} in its pool " + ", ".join(f"{k:,} are {what}" for what, k in counts.items() if k)
    kept = "" if number == 1 else f"keep more of the list (--keep {min(1.0, 10 * config.keep):g}), "
    return UserError(
        f"round {number} ({phase}): {n:,} ordinary cutouts are left to learn from in selection "
        f"{config.pool!r}, {LEAST} are needed; {of.rstrip()}: {kept}ingest more of the survey, name a larger "
        "--pool, or learn from simulated survey sources beside them (--simulated-others 5000)"
    )


def not_a_negative(tracers: str) -> str:
    """Predicate of targets that no round may take for ordinary ones: tracers, graded A or B, known lenses."""
    return (
        f"(target_id in ({named(tracers)})\n"
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
