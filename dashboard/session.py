"""One reviewer going through one queue: what comes next, what is on screen, what was graded.

Everything that must outlive the process is in the database and in the page's address; what is kept here can
be made again from them, and is of bounded size.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from dashboard import store
from dashboard.blind import Mix, load_mix
from dashboard.memory import AHEAD, ObjectMemory
from dashboard.objects import ReviewObject
from dashboard.queues import Order, Place, QueueSpec, load_order
from dashboard.remaining import Remaining, wanted_of
from dashboard.standing import Standing, load_standing, load_trail
from dashboard.store import Grade, Reviewer
from dashboard.trail import Step, Trail
from schema.errors import UserError

LOOK_AGAIN_S = 60.0
"""The queue and what others graded are looked at anew so often [s]."""
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
        if spec.is_settling and not reviewer.is_adjudicator:
            raise UserError(
                f"disagreements are settled by adjudicators, and {reviewer.name} is none; choose another"
                " queue, or let someone run: lensmine review reviewers --adjudicator NAME"
            )
        self.db, self.reviewer, self.spec = db, reviewer, spec
        self.key = uuid.uuid4().hex
        self.current: Shown | None = None
        self.revealed: set[int] = set()
        """Objects whose identity was on screen; a grade of one does not calibrate any more."""
        self.memory = ObjectMemory(db)
        self.acting = threading.RLock()
        self._looked = time.monotonic()
        self.standing: Standing
        self.trail: Trail
        self.mix: Mix
        self.remaining: Remaining
        order = load_order(db, spec)
        store.reading(db, lambda conn: self._load(conn, order))
        self.resume(place)

    def _load(self, conn: sa.Connection, order: Order) -> None:
        """The reviewer's own grades (or verdicts), the calibrators, and what is left of the queue."""
        me, spec = self.reviewer.reviewer_id, self.spec
        self.standing = load_standing(conn, me, verdicts=self.settling)
        self.mix = load_mix(conn, me, spec, order.target_id, self.mine, self.standing.rate)
        self.remaining = Remaining(order, wanted_of(conn, order, spec, self.standing, self.mix))
        self.trail = load_trail(conn, me, verdicts=self.settling)

    def look_again(self) -> None:
        """Take in what others have graded and what is new in the queue; what was passed stays out."""
        self._looked = time.monotonic()
        order = load_order(self.db, self.spec)
        self.remaining.renew(
            order,
            store.reading(self.db, lambda conn: wanted_of(conn, order, self.spec, self.standing, self.mix)),
        )

    @property
    def order(self) -> Order:
        """The queue for everyone."""
        return self.remaining.order

    @property
    def mine(self) -> dict[int, str]:
        """Standing grades, or verdicts, of this reviewer by target."""
        return self.standing.mine

    @property
    def noted(self) -> set[int]:
        """Targets with a comment or a tag of this reviewer."""
        return self.standing.noted

    @property
    def truth(self) -> dict[int, bool]:
        """Whether it is a lens, by target, of every calibrator."""
        return self.mix.truth

    @property
    def blind(self) -> bool:
        """Whether calibrators are mixed in, so that nothing may tell them from the rest."""
        return self.mix.is_on

    @property
    def settling(self) -> bool:
        """Whether grades given here are verdicts on disagreements."""
        return self.spec.is_settling

    @property
    def n_left(self) -> int:
        """Objects of the queue that are still to come, the one on screen included; calibrators not."""
        on = self._on_now()
        return self.remaining.n + int(on is not None and not self.mix.hides(on))

    # ------------------------------------------------------------ objects

    def objects(self, target_ids: Sequence[int]) -> dict[int, ReviewObject]:
        """Objects, from memory where they are."""
        return self.memory.objects(target_ids)

    def object(self, target_id: int) -> ReviewObject | None:
        """One object, loaded together with those that come next."""
        held = self.memory.held([target_id])
        return (held or self.memory.objects([target_id, *self.plan(AHEAD - 1)])).get(target_id)

    def load_ahead(self) -> None:
        """Load what comes next in the background when little of it is left; look again once a minute."""
        if not self.memory.is_loading:
            late = time.monotonic() - self._looked > LOOK_AGAIN_S
            self.memory.load_ahead(self.plan(AHEAD), first=self.look_again if late else None)

    # ------------------------------------------------------------ going on

    def plan(self, n: int) -> list[int]:
        """The next n objects if each is graded, calibrators among them where chance puts them."""
        on_screen = int(self.current is not None and not self.current.done)
        return self.mix.into(self.remaining.first(n), n, self.standing.n_given + on_screen)

    def advance(self) -> None:
        """Put the next object on screen."""
        if self.current is not None and not self.current.done:
            self.current.done = True
        ahead = self.plan(1)
        self.current = self._show(ahead[0]) if ahead else None

    def place(self, page: Sequence[int] = ()) -> Place:
        """Where the reviewer stands, or the page of stamps; it tells no calibrator from the rest."""
        on = None if page else self._on_now()
        here = [t for t in (page or (on,)) if t is not None and not self.mix.hides(t)]
        passed = self.remaining.before(here)[::-1]
        return Place(on, next((int(t) for t in passed if not self.mix.hides(int(t))), None))

    def resume(self, place: Place) -> None:
        """Go on at a place: what was passed before it stays passed, what was on screen comes back."""
        at = place.at
        if (at in self.mine and self.spec.hide_graded) or (self.settling and at not in self.order.target_id):
            at = None
        there = at is not None and self.object(at) is not None  # before anything changes: it may fail
        if self.current is not None and not self.current.done:
            self._put_back(self.current.target_id)
            self.current.done = True
        self.remaining.leave_until(place.past or 0)
        if at is not None and there:
            self.show(at)
        else:
            self.advance()

    def _show(self, target_id: int) -> Shown:
        self.mix.leave(target_id)
        self.remaining.leave(target_id)
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
            is_calibrator=self.mix.hides(target_id) and not revealed,
            is_adjudication=self.settling,
            seconds=None if seconds is None else round(seconds, 2),
            shown={**self._models(target_id), "revealed": revealed},
        )
        grade_id = store.save_grade(self.db, self.reviewer.reviewer_id, given)
        self.standing.n_given += 1
        self.mine[target_id] = letter
        self.trail.passed(Step(target_id, grade_id, letter))
        return grade_id

    def _models(self, target_id: int) -> dict[str, Any]:
        found = self.memory.held([target_id]).get(target_id)
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
        if self.mix.hides(target_id):
            if target_id not in self.mine:
                self.mix.come_again(target_id)
        elif target_id not in self.mine or not self.spec.hide_graded:
            self.remaining.come_again(target_id)
