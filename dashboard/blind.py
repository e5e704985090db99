"""Calibrators in one reviewer's queue: mixed in unmarked, where chance puts them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sa

from dashboard.queues import Ids, QueueSpec, mixed

SEEN = 200
"""So many of its first objects say what pixels the objects of a queue have."""
MOST_RATE = 0.9


@dataclass
class Mix:
    """The calibrators of one reviewer.

    Attributes
    ----------
    reviewer_id : int  decides where they come, together with the count of grades
    truth : dict  whether it is a lens, by target, of every calibrator of the database
    rate : float  share of what is shown; 0 mixes none in
    pool : list of int  those still to come, next first
    """

    reviewer_id: int
    truth: dict[int, bool]
    rate: float
    pool: list[int] = field(default_factory=list)

    @property
    def is_on(self) -> bool:
        """Whether calibrators are mixed in, so that nothing may tell them from the rest."""
        return self.rate > 0 and bool(self.truth)

    def hides(self, target_id: int) -> bool:
        """Whether an object is a calibrator that nothing may tell from the rest."""
        return self.is_on and target_id in self.truth

    def into(self, ordinary: Sequence[int], n: int, given: int) -> list[int]:
        """The next n objects after so many grades; calibrators come while there is something between them."""
        rest, pool, out = list(ordinary), list(self.pool), list[int]()
        while rest and len(out) < n:
            out.append(pool.pop(0) if pool and self._chance(given + len(out)) < self.rate else rest.pop(0))
        return out

    def _chance(self, given: int) -> float:
        """A number in [0, 1) that only reviewer and count decide, so that a restart goes on the same way."""
        key = np.array([given ^ (self.reviewer_id & 0xFFFFFFFF)], dtype=np.int64)
        return float(mixed(key, 1)[0]) / 2**64

    def leave(self, target_id: int) -> None:
        """Let a calibrator come no more."""
        if target_id in self.pool:
            self.pool.remove(target_id)

    def come_again(self, target_id: int) -> None:
        """Let a calibrator come again, as the next of them."""
        if target_id not in self.pool:
            self.pool.insert(0, target_id)


def load_mix(
    conn: sa.Connection, reviewer_id: int, spec: QueueSpec, queue: Ids, mine: Collection[int], rate: float
) -> Mix:
    """The calibrators that are new to a reviewer and fit a queue; none where disagreements are settled."""
    known = conn.execute(sa.text("select target_id, is_lens from calibrator")).all()
    mix = Mix(
        reviewer_id,
        {int(t): bool(k) for t, k in known},
        0.0 if spec.is_settling else float(np.clip(rate, 0.0, MOST_RATE)),
    )
    if mix.is_on:
        fits = _fitting(conn, spec, queue)
        fresh = np.array([t for t in mix.truth if t in fits and t not in mine], dtype=np.int64)
        mix.pool = [int(t) for t in fresh[np.argsort(mixed(fresh, reviewer_id % 2**31))]]
    return mix


def _fitting(conn: sa.Connection, spec: QueueSpec, queue: Ids) -> set[int]:
    """Calibrators with what the queue is about, or with what its first objects have: others stand out."""
    pixels = {"candidate": ["spectrum"], "image_candidate": ["cutout"]}.get(spec.source)
    if pixels is None:
        seen: sa.BindParameter[Any] = sa.bindparam("ids", [int(t) for t in queue[:SEEN]], expanding=True)
        pixels = [
            table
            for table in ("spectrum", "cutout")
            if conn.execute(
                sa.text(f"select 1 from {table} where target_id in :ids limit 1").bindparams(seen)
            ).first()
        ]
    query = "select target_id from calibrator where target_id in (select target_id from {0})"
    return {int(t) for table in pixels for t in conn.execute(sa.text(query.format(table))).scalars()}
