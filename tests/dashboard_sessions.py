"""Sessions of reviewers on the small search, for tests of what goes on in them."""

from __future__ import annotations

import sqlalchemy as sa
from dashboard_data import Search, write_search

from dashboard.calibration import choose_calibrators
from dashboard.queues import QueueSpec, forget_orders
from dashboard.session import ReviewSession
from dashboard.store import Reviewer
from schema.engine import connect_engine

IMAGES = QueueSpec(source="image_candidate", model="first")


def searched(db: str) -> Search:
    """The small search, with no queue of another database in memory."""
    forget_orders()
    return write_search(db)


def set_value(db: str, name: str, value: float) -> None:
    """Change a setting of the review."""
    with connect_engine(db).begin() as conn:
        conn.execute(sa.text("update cut_setting set value = :v where name = :n"), {"v": value, "n": name})


def standing(db: str) -> dict[int, str]:
    """Grades that stand, by target."""
    query = sa.text("select target_id, grade from current_grade")
    with connect_engine(db, read_only=True).connect() as conn:
        return {int(t): g for t, g in conn.execute(query)}


def graded(db: str, who: Reviewer, letters: str, spec: QueueSpec = IMAGES) -> tuple[ReviewSession, list[int]]:
    """A session in which these were given, and their targets."""
    session, seen = ReviewSession(db, who, spec), list[int]()
    for letter in letters:
        seen.append(session.current.target_id)
        session.grade(session.current.token, letter)
    return session, seen


def calibrators_mixed_in(db: str, rate: float, injections: int = 6) -> None:
    """So many simulated lenses and controls come among the others at a rate."""
    choose_calibrators(db, injections=injections)
    set_value(db, "review_calibration_rate", rate)


def calibrator_shown(db: str, who: Reviewer) -> tuple[ReviewSession, int]:
    """A session with a calibrator on screen, the others before it graded X, and its target."""
    calibrators_mixed_in(db, 0.9)
    session = ReviewSession(db, who, IMAGES)
    while session.current.target_id not in session.truth:
        session.grade(session.current.token, "X")
    return session, session.current.target_id
