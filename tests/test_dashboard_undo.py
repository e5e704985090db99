"""Undo and back: what they take back, what they show, and after a restart."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from dashboard_sessions import IMAGES, graded, searched, standing

from dashboard import store
from dashboard.queues import QueueSpec
from dashboard.session import ReviewSession
from dashboard.store import Grade
from schema.engine import connect_engine
from schema.errors import LensmineError


@pytest.fixture
def search(db):
    return searched(db)


@pytest.fixture
def ada(db, search):
    return store.ensure_reviewer(db, "Ada")


def test_grade_back_undo_and_skip(db, search, ada):
    session = ReviewSession(db, ada, IMAGES)
    first = session.current
    assert session.grade(first.token, "A")
    second = session.current
    assert second.target_id != first.target_id
    assert session.mine == {first.target_id: "A"}
    session.skip(second.token)
    third = session.current
    assert session.back()
    assert session.current.target_id == second.target_id
    assert session.back()
    assert session.current.target_id == first.target_id
    assert session.grade(session.current.token, "C")  # a second thought takes the place of the first
    assert session.mine == {first.target_id: "C"}
    assert session.undo() == "C"
    assert session.current.target_id == first.target_id
    assert session.mine == {first.target_id: "A"}  # the first thought counts again
    assert standing(db) == {first.target_id: "A"}
    assert session.undo() == "A"
    assert session.mine == standing(db) == {}
    assert session.undo() is None
    session.skip(session.current.token)
    assert session.current.target_id in (second.target_id, third.target_id)


def test_undo_takes_back_the_grade_on_screen_first(db, search, ada):
    session, (one, two) = graded(db, ada, "AB")
    ahead = session.current.target_id
    session.back()
    assert session.current.target_id == two
    assert session.undo() == "B"
    assert session.current.target_id == two
    assert standing(db) == session.mine == {one: "A"}
    session.grade(session.current.token, "C")
    assert session.current.target_id == ahead
    session.back()
    session.back()
    assert session.current.target_id == one
    session.skip(session.current.token)
    assert session.current.target_id == ahead
    assert [session.undo() for _ in range(3)] == ["C", "A", None]  # what was gone back through is not lost


def test_undo_of_an_object_that_the_queue_shows_again_takes_the_last_grade(db, search, ada):
    every = QueueSpec("image_candidate", "first", hide_graded=False, hide_enough=False)
    _, (one, two) = graded(db, ada, "AB", every)
    session = ReviewSession(db, ada, every)
    session.grade(session.current.token, "C")
    assert session.current.target_id == two  # graded before, and come again by the queue
    assert session.undo() == "C"
    assert standing(db) == {one: "A", two: "B"}


def test_back_reaches_what_was_undone_and_then_skipped(db, search, ada):
    session, (one, two) = graded(db, ada, "AB")
    session.undo()
    session.skip(session.current.token)
    assert session.back()
    assert session.current.target_id == two
    assert session.back()
    assert session.current.target_id == one
    assert not session.can_go_back


def test_an_undo_that_fails_can_be_pressed_again(db, search, ada):
    session, (one, two) = graded(db, ada, "AB")
    session.db = db.replace("test_", "gone_") if db.startswith("postgresql") else f"{db}.gone"
    with pytest.raises((LensmineError, sa.exc.SQLAlchemyError)):
        session.undo()
    session.db = db
    assert session.mine == {one: "A", two: "B"}
    assert session.undo() == "B"
    assert standing(db) == {one: "A"}


def test_undo_and_back_reach_grades_of_before_a_restart(db, search, ada):
    session = ReviewSession(db, ada, IMAGES)
    shown = []
    for letter in "ABX":
        shown.append(session.current.target_id)
        session.grade(session.current.token, letter)
    after = ReviewSession(db, ada, IMAGES)
    assert after.current.target_id == session.current.target_id
    assert [after.undo() for _ in range(4)] == ["X", "B", "A", None]
    assert after.current.target_id == shown[0]


def test_no_grade_of_mine_stands_after_it_is_cleared(db, search, ada):
    session, (one, two) = graded(db, ada, "AB")
    session.save(one, "C", "again", None)
    bo = store.ensure_reviewer(db, "Bo")
    store.save_grade(db, bo.reviewer_id, Grade(one, "X", "bo"))
    store.save_grade(db, ada.reviewer_id, Grade(one, "B", "verdict", is_adjudication=True))
    session = ReviewSession(db, ada, IMAGES)
    session.clear(one)
    assert session.mine == {two: "B"}
    assert session.undo() == "B"
    assert session.undo() is None
    with connect_engine(db, read_only=True).connect() as conn:
        left = conn.execute(sa.text("select reviewer, grade, is_adjudication from current_grade")).all()
    assert sorted(map(tuple, left)) == [("Ada", "B", True), ("Bo", "X", False)]


def test_backspace_in_the_mosaic_takes_back_a_grade_of_before(db, search, ada):
    from dashboard.pages import mosaic

    _, (one, two) = graded(db, ada, "AB")
    session = ReviewSession(db, ada, QueueSpec("image_candidate", "first", hide_graded=False))
    state = {"tokens": {"t": one, "u": two}, "given": {}}
    mosaic._save(session, state, {"sent": 1, "grades": {"t": "X"}})
    assert standing(db) == {one: "X", two: "B"}
    mosaic._save(session, state, {"sent": 2, "grades": {"t": "", "u": ""}})
    assert standing(db) == session.mine == {}
