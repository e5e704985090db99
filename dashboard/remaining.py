"""What is left of a queue for one reviewer: its order, and which of its objects are still to come."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from dashboard.blind import Mix
from dashboard.queues import Ids, Order, QueueSpec
from dashboard.standing import Standing


class Remaining:
    """The objects of an order that are still to come.

    Parameters
    ----------
    order : Order
        The queue.
    wanted : ndarray of bool, shape (n,)
        What the filters leave of it.
    """

    def __init__(self, order: Order, wanted: NDArray[np.bool_]) -> None:
        self.order, self._open = order, wanted
        self._lock = threading.Lock()

    @property
    def n(self) -> int:
        """How many there are."""
        return int(self._open.sum())

    def first(self, n: int) -> list[int]:
        """The next n."""
        with self._lock:
            return [int(t) for t in self.order.target_id[np.flatnonzero(self._open)[:n]]]

    def leave(self, target_id: int) -> None:
        """Let an object come no more."""
        with self._lock:
            self._open[self.order.target_id == target_id] = False

    def come_again(self, target_id: int) -> None:
        """Let an object come again, at its place in the order."""
        with self._lock:
            self._open[self.order.target_id == target_id] = True

    def leave_until(self, target_id: int) -> None:
        """Let an object, and all before it, come no more."""
        with self._lock:
            for last in np.flatnonzero(self.order.target_id == target_id):
                self._open[: last + 1] = False

    def before(self, here: Sequence[int]) -> Ids:
        """What stands in the order before the first object that is here or still to come, shape (k,)."""
        with self._lock:
            ids = self.order.target_id
            left = self._open | np.isin(ids, np.array(here, dtype=np.int64))
            return ids[: int(left.argmax())] if left.any() else ids

    def renew(self, order: Order, wanted: NDArray[np.bool_]) -> None:
        """Take in a newer order; what was passed stays out."""
        with self._lock:
            passed = self.order.target_id[~self._open]
            self.order, self._open = order, wanted & ~np.isin(order.target_id, passed)


def wanted_of(
    conn: sa.Connection, order: Order, spec: QueueSpec, standing: Standing, mix: Mix
) -> NDArray[np.bool_]:
    """Which objects of an order the filters leave, shape (n,); calibrators come of their own."""
    ids = order.target_id
    wanted = np.ones(len(ids), dtype=bool)
    if spec.hide_graded and not spec.is_settling:
        wanted &= ~np.isin(ids, np.array(list(standing.mine), dtype=np.int64))
    if spec.hide_enough and not spec.is_settling:
        done = conn.execute(
            sa.text("select target_id from grade_count where n_grade >= :n"), {"n": standing.enough_at}
        ).scalars()
        wanted &= ~np.isin(ids, np.array(list(done), dtype=np.int64))
    if spec.hide_known:
        wanted &= ~order.is_known
    if mix.is_on:
        wanted &= ~np.isin(ids, np.array(list(mix.truth), dtype=np.int64))
    return wanted
