"""One reviewer going through one queue: what comes next, what is on screen, what was graded.

Everything that must outlive the process is in the database and in the page's address; what is kept here can
be
made again from them, and is of bounded size.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from dashboard import store
from dashboard.objects import ReviewObject, load_objects
from dashboard.queues import Order, Place, QueueSpec, load_order, mixed
from dashboard.store import Grade, Reviewer
from dashboard.trail import Step, Trail
from schema.errors import UserError

AHEAD = 24
"""Objects loaded in one go."""
KEEP_OBJECTS = 160
LOOK_AGAIN_S = 60.0
"""The queue and what others graded are looked at anew so often [s]."""
SEEN = 200
"""So many of its first objects say what pixels the objects of a queue have."""
MOST_RATE = 0.9
NOWHERE = Place()


@dataclass
class Shown:
    """An object on screen; its token makes a grade of this showing a single one."""

    target_id: int
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    since: float = field(default_factory=time.monotonic)
    revealed: bool = False
    done: bool = False
    returned: bool = False
    """Whether the reviewer went back to it."""


class ReviewSession:
    """State of one reviewer on one queue.

    Parameters
    ----------
    db : str or None
        Database.
    reviewer : Reviewer
        Who grades; every save of this session carries this key and no other.
    spec : QueueSpec
        The queue.
    place : Place
        Where to go on, as `place` of an earlier session gave it.
    """

    def __init__(self, db: str | None, reviewer: Reviewer, spec: QueueSpec, place: Place = NOWHERE) -> None:
        if spec.source == "disagreement" and not reviewer.is_adjudicator:
            raise UserError(
                f"disagreements are settled by adjudicators, and {reviewer.name} is none; choose another"
                " queue, or let someone run: lensmine review reviewers --adjudicator NAME"
            )
        self.db, self.reviewer, self.spec = db, reviewer, spec
        self.key = uuid.uuid4().hex
        self.order: Order = load_order(db, spec)
        self.current: Shown | None = None
        self.trail = Trail()
        self.revealed: set[int] = set()
        """Objects whose identity was on screen; a grade of one does not calibrate any more."""
        self._objects: OrderedDict[int, ReviewObject] = OrderedDict()
        self._lock = threading.Lock()
        self.acting = threading.RLock()
        self._loading: threading.Thread | None = None
        self._looked = time.monotonic()
        store.reading(db, self._load)
        self.resume(place)

    # ------------------------------------------------------------ loading

    def _load(self, conn: sa.Connection) -> None:
        """The reviewer's own grades (or verdicts), what has enough, the calibrators and their rate."""
        setting: dict[str, float] = dict(
            conn.execute(sa.text("select name, value from cut_setting where name like 'review_%'")).all()
        )
        mine = conn.execute(
            sa.text(
                "select target_id, grade from current_grade where reviewer_id = :r and is_adjudication = :v"
            ),
            {"r": self.reviewer.reviewer_id, "v": self.settling},
        ).all()
        self.mine: dict[int, str] = {int(t): str(g) for t, g in mine}
        self.noted: set[int] = set(
            conn.execute(
                sa.text("select target_id from review_note where reviewer_id = :r and removed_at is null"),
                {"r": self.reviewer.reviewer_id},
            ).scalars()
        )
        self.n_given = int(
            conn.execute(
                sa.text("select count(*) from grade where reviewer_id = :r"), {"r": self.reviewer.reviewer_id}
            ).scalar()
            or 0
        )
        self.enough_at = max(1, int(setting.get("review_grades_enough", 3)))
        self.rate = float(np.clip(setting.get("review_calibration_rate", 0.0), 0.0, MOST_RATE))
        self.truth: dict[int, bool] = {
            int(t): bool(k)
            for t, k in conn.execute(sa.text("select target_id, is_lens from calibrator")).all()
        }
        self._open = self._wanted(conn, self.order)
        if self.blind:
            fits = self._fitting(conn)
            fresh = np.array([t for t in self.truth if t in fits and t not in self.mine], dtype=np.int64)
            self._pool = [int(t) for t in fresh[np.argsort(mixed(fresh, self.reviewer.reviewer_id % 2**31))]]
        else:
            self._pool = []
        for row in reversed(store.last_grades(conn, self.reviewer.reviewer_id, verdicts=self.settling)):
            self.trail.passed(Step(int(row["target_id"]), int(row["grade_id"]), str(row["grade"])))

    def _wanted(self, conn: sa.Connection, order: Order) -> NDArray[np.bool_]:
        """Which objects of an order the filters leave; calibrators come of their own."""
        ids = order.target_id
        wanted = np.ones(len(ids), dtype=bool)
        if self.spec.hide_graded and not self.settling:
            wanted &= ~np.isin(ids, np.array(list(self.mine), dtype=np.int64))
        if self.spec.hide_enough and not self.settling:
            done = conn.execute(
                sa.text("select target_id from grade_count where n_grade >= :n"), {"n": self.enough_at}
            ).scalars()
            wanted &= ~np.isin(ids, np.array(list(done), dtype=np.int64))
        if self.spec.hide_known:
            wanted &= ~order.is_known
        if self.blind:
            wanted &= ~np.isin(ids, np.array(list(self.truth), dtype=np.int64))
        return wanted

    def look_again(self) -> None:
        """Take in what others have graded and what is new in the queue; what was passed stays out."""
        self._looked = time.monotonic()
        order = load_order(self.db, self.spec)
        wanted = store.reading(self.db, lambda conn: self._wanted(conn, order))
        with self._lock:
            passed = self.order.target_id[~self._open]
            self.order, self._open = order, wanted & ~np.isin(order.target_id, passed)

    def _fitting(self, conn: sa.Connection) -> set[int]:
        """Calibrators with what the queue is about, or with what its first objects have: others stand out."""
        pixels = {"candidate": ["spectrum"], "image_candidate": ["cutout"]}.get(self.spec.source)
        if pixels is None:
            first = [int(t) for t in self.order.target_id[:SEEN]]
            seen: sa.BindParameter[Any] = sa.bindparam("ids", first, expanding=True)
            pixels = [
                table
                for table in ("spectrum", "cutout")
                if conn.execute(
                    sa.text(f"select 1 from {table} where target_id in :ids limit 1").bindparams(seen)
                ).first()
            ]
        query = "select target_id from calibrator where target_id in (select target_id from {0})"
        return {int(t) for table in pixels for t in conn.execute(sa.text(query.format(table))).scalars()}

    @property
    def blind(self) -> bool:
        """Whether calibrators are mixed in, so that nothing may tell them from the rest."""
        return self.rate > 0 and bool(self.truth) and not self.settling

    @property
    def settling(self) -> bool:
        """Whether grades given here are verdicts on disagreements."""
        return self.spec.source == "disagreement"

    @property
    def n_left(self) -> int:
        """Objects of the queue that are still to come, the one on screen included; calibrators not."""
        ahead = int(self._open.sum())
        return ahead + (
            self.current is not None and self.current.target_id not in self.truth and not self.current.done
        )

    def objects(self, target_ids: Sequence[int]) -> dict[int, ReviewObject]:
        """Objects, from memory where they are."""
        with self._lock:
            have = {t: self._objects[t] for t in target_ids if t in self._objects}
        missing = [t for t in target_ids if t not in have]
        if missing:
            found = store.reading(self.db, lambda conn: load_objects(conn, missing))
            self._remember(found)
            have |= found
        return have

    def object(self, target_id: int) -> ReviewObject | None:
        """One object, loaded together with those that come next."""
        with self._lock:
            found = self._objects.get(target_id)
        if found is not None:
            return found
        return self.objects([target_id, *self.plan(AHEAD - 1)]).get(target_id)

    def _remember(self, found: dict[int, ReviewObject]) -> None:
        with self._lock:
            self._objects |= found
            while len(self._objects) > KEEP_OBJECTS:
                self._objects.popitem(last=False)

    def load_ahead(self) -> None:
        """Load what comes next in the background when little of it is left; look again once a minute."""
        if self._loading is not None and self._loading.is_alive():
            return
        ahead = self.plan(AHEAD)
        with self._lock:
            missing = [t for t in ahead if t not in self._objects]
        late = time.monotonic() - self._looked > LOOK_AGAIN_S
        if late or (ahead and len(missing) > AHEAD // 2):
            self._loading = threading.Thread(target=self._load_quietly, args=(missing, late), daemon=True)
            self._loading.start()

    def _load_quietly(self, target_ids: list[int], look_again: bool) -> None:
        try:
            if look_again:
                self.look_again()
            self._remember(store.reading(self.db, lambda conn: load_objects(conn, target_ids)))
        except Exception:
            return  # the page will load it itself, and say what is wrong

    # ------------------------------------------------------------ going on

    def plan(self, n: int) -> list[int]:
        """The next n objects if each is graded, calibrators among them where chance puts them."""
        with self._lock:
            places = np.flatnonzero(self._open)[:n]
            ordinary = [int(t) for t in self.order.target_id[places]]
        pool, given, out = list(self._pool), self.n_given + self._on_screen(), list[int]()
        while len(out) < n and (ordinary or (pool and not out)):
            use_pool = pool and (not ordinary or self._chance(given) < self.rate)
            if use_pool and not ordinary:
                break
            out.append(pool.pop(0) if use_pool else ordinary.pop(0))
            given += 1
        return out

    def _on_screen(self) -> int:
        return int(self.current is not None and not self.current.done)

    def _chance(self, given: int) -> float:
        """A number in [0, 1) that only reviewer and count decide, so that a restart goes on the same way."""
        key = np.array([given ^ (self.reviewer.reviewer_id & 0xFFFFFFFF)], dtype=np.int64)
        return float(mixed(key, 1)[0]) / 2**64

    def advance(self) -> None:
        """Put the next object on screen."""
        if self.current is not None and not self.current.done:
            self.current.done = True
        ahead = self.plan(1)
        self.current = self._show(ahead[0]) if ahead else None

    def place(self, page: Sequence[int] = ()) -> Place:
        """Where the reviewer stands, or the page of stamps; it tells no calibrator from the rest."""
        on = self.current.target_id if self.current and not self.current.done and not page else None
        here = [t for t in (page or (on,)) if t is not None and not (self.blind and t in self.truth)]
        with self._lock:
            ids = self.order.target_id
            left = self._open | np.isin(ids, np.array(here, dtype=np.int64))
            passed = ids[: int(left.argmax())] if left.any() else ids
        k = len(passed) - 1
        while k >= 0 and self.blind and int(passed[k]) in self.truth:
            k -= 1
        return Place(on, int(passed[k]) if k >= 0 else None)

    def resume(self, place: Place) -> None:
        """Go on at a place: what was passed before it stays passed, what was on screen comes back."""
        if self.current is not None and not self.current.done:
            self._put_back(self.current.target_id)
            self.current.done = True
        with self._lock:
            for last in np.flatnonzero(self.order.target_id == (place.past or 0)):
                self._open[: last + 1] = False
        at = place.at
        done = at in self.mine and self.spec.hide_graded
        elsewhere = self.settling and at not in self.order.target_id
        if at is None or done or elsewhere or self.object(at) is None:
            self.advance()
        else:
            self.show(at)

    def _show(self, target_id: int) -> Shown:
        if target_id in self._pool:
            self._pool.remove(target_id)
        with self._lock:
            self._open[self.order.target_id == target_id] = False
        if target_id in self.mine:  # what is graded shows its identity
            self.revealed.add(target_id)
        return Shown(target_id, revealed=target_id in self.revealed)

    def is_open(self, on: Shown) -> bool:
        """Whether the page may show what would tell a calibrator from the rest."""
        return not self.blind or on.revealed or on.target_id in self.mine

    def reveal(self, on: Shown) -> None:
        """Show the identity of the object on screen, at the price that its grade does not calibrate."""
        on.revealed = True
        self.revealed.add(on.target_id)

    def take(self, n: int) -> list[int]:
        """The next n objects for a page of stamps; they do not come again in this session."""
        if self.current is not None and not self.current.done:
            self._put_back(self.current.target_id)
            self.current.done = True
        taken = self.plan(n)
        for target_id in taken:
            self._show(target_id)
        return taken

    def put_back(self, target_ids: Sequence[int]) -> None:
        """Let objects of a page come again, as the next ones and in this order."""
        for target_id in reversed(target_ids):
            self._put_back(target_id)

    def show(self, target_id: int) -> None:
        """Put an object that the reviewer asked for on screen."""
        self.current = self._show(target_id)

    def grade(self, token: str, letter: str) -> bool:
        """Save a grade of the object on screen, and go on; False when the token is of an earlier one.

        Raises
        ------
        TransientError, DataError, UserError
            When it could not be saved; the object stays on screen.
        """
        on = self.current
        if on is None or on.token != token or on.done:
            return False
        self.save(on.target_id, letter, token, time.monotonic() - on.since, revealed=on.revealed)
        on.done = True
        self.advance()
        return True

    def save(
        self, target_id: int, letter: str, token: str, seconds: float | None, *, revealed: bool = False
    ) -> int:
        """Save a grade of any object of this queue."""
        revealed = revealed or target_id in self.revealed
        given = Grade(
            target_id,
            letter,
            token,
            queue=self.spec.name,
            is_calibrator=self.blind and target_id in self.truth and not revealed,
            is_adjudication=self.settling,
            seconds=None if seconds is None else round(seconds, 2),
            shown={**self._models(target_id), "revealed": revealed},
        )
        grade_id = store.save_grade(self.db, self.reviewer.reviewer_id, given)
        self.n_given += 1
        self.mine[target_id] = letter
        self.trail.passed(Step(target_id, grade_id, letter))
        return grade_id

    def _models(self, target_id: int) -> dict[str, Any]:
        with self._lock:
            found = self._objects.get(target_id)
        best = found.scores[0] if found and found.scores else None
        return {"model": best["model"], "run_id": str(best["run_id"])} if best else {}

    def skip(self, token: str) -> None:
        """Go on without a grade; the object comes again when the queue is opened anew."""
        if self.current is not None and self.current.token == token:
            here = self.current.target_id
            if not self.current.returned or not self.trail.holds(here):
                self.trail.passed(Step(here))
            self.trail.to_end()
            self.advance()

    @property
    def can_undo(self) -> bool:
        """Whether a grade is left that undo would take back."""
        return self._undoable() is not None

    @property
    def can_go_back(self) -> bool:
        """Whether there is an object before the one on screen."""
        return self.trail.before(self._on_now()) is not None

    def _on_now(self) -> int | None:
        return self.current.target_id if self.current is not None and not self.current.done else None

    def _undoable(self) -> Step | None:
        """The grade of the object on screen, if the reviewer went back to it; else the last one."""
        return self.trail.last_grade(self._on_now() if self.current and self.current.returned else None)

    def undo(self) -> str | None:
        """Take a grade back and show its object; the grade taken back, None when there is none.

        It is that of the object on screen when the reviewer went back to it, else the last one. An earlier
        grade of the same object counts again then, and is the next to be taken back.
        """
        while (step := self._undoable()) is not None and step.grade_id is not None:
            taken = store.take_back(self.db, self.reviewer.reviewer_id, step.grade_id)
            self.trail.taken_back(step, taken)
            if taken is None:  # taken back elsewhere
                continue
            if taken.grade is None:
                self.mine.pop(taken.target_id, None)
            else:
                self.mine[taken.target_id] = taken.grade
            self._return(step.target_id)
            return step.grade
        return None

    def clear(self, target_id: int) -> None:
        """Take back every grade that the reviewer gave an object."""
        store.clear_grades(self.db, self.reviewer.reviewer_id, target_id, verdicts=self.settling)
        self.mine.pop(target_id, None)
        self.trail.forget(target_id)

    def back(self) -> bool:
        """Show the object before, with its grade; a new grade takes that one's place."""
        place = self.trail.before(self._on_now())
        if place is None:
            return False
        self._return(self.trail.go_to(place))
        return True

    def _return(self, target_id: int) -> None:
        if self.current is not None and not self.current.done:
            self._put_back(self.current.target_id)
        self.current = self._show(target_id)
        self.current.returned = True

    def _put_back(self, target_id: int) -> None:
        """Let an object come again, as the next one."""
        if self.blind and target_id in self.truth:
            if target_id not in self._pool and target_id not in self.mine:
                self._pool.insert(0, target_id)
        elif target_id not in self.mine or not self.spec.hide_graded:
            with self._lock:
                self._open[self.order.target_id == target_id] = True
