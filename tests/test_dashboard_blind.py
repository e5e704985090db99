"""Calibrators mixed into a queue: where they come, what tells them, and which grades calibrate."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from dashboard_data import N_IMAGE, N
from dashboard_sessions import IMAGES, calibrator_shown, calibrators_mixed_in, searched, set_value

from dashboard import store
from dashboard.queues import QueueSpec, forget_orders
from dashboard.session import ReviewSession
from schema.engine import connect_engine


@pytest.fixture
def search(db):
    return searched(db)


@pytest.fixture
def ada(db, search):
    return store.ensure_reviewer(db, "Ada")


def test_calibrators_are_mixed_in_at_the_rate_and_only_once(db, search, ada):
    calibrators_mixed_in(db, 0.4)
    session = ReviewSession(db, ada, IMAGES)
    assert session.blind
    truth = set(session.truth)
    seen = []
    while session.current is not None:
        seen.append(session.current.target_id)
        session.grade(session.current.token, "B")
    assert len(seen) == len(set(seen))
    assert set(search.ids[:N_IMAGE]) - truth <= set(seen)
    mixed_in = sum(t in truth for t in seen)
    assert 5 <= mixed_in <= 12  # of 12, at 0.4 among 22 others
    with connect_engine(db, read_only=True).connect() as conn:
        counted = conn.execute(sa.text("select count(*) from current_grade where is_calibrator")).scalar()
        confusion = conn.execute(
            sa.text("select sum(n) from reviewer_confusion where reviewer = 'Ada' and grade = 'B'")
        ).scalar()
    assert counted == confusion == mixed_in


def test_calibrators_have_what_the_queue_is_about(db, search, ada):
    """Targets 0 to 5 have an image alone."""
    store.add_calibrators(db, [*search.ids[:10], search.ids[39]], is_lens=True, origin="injection")
    set_value(db, "review_calibration_rate", 0.9)

    def mixed_in(spec):
        session = ReviewSession(db, ada, spec)
        first = {session.current.target_id} if session.current else set()
        return set(session.mix.pool) | first & set(session.truth)

    image, spectrum = set(search.ids[:10]), set(search.ids[6:10])
    assert mixed_in(QueueSpec("image_candidate")) == image
    assert mixed_in(QueueSpec("candidate")) == spectrum
    assert mixed_in(QueueSpec()) == image  # these are the candidates that there are
    with connect_engine(db).begin() as conn:
        conn.execute(sa.text("update selection set where_sql = 'z > 0'"))
    forget_orders()
    assert mixed_in(QueueSpec("selection:everything")) == image  # of its objects all have both
    with connect_engine(db).begin() as conn:
        conn.execute(sa.text("delete from image_score"))
        conn.execute(sa.text("delete from cutout"))
    forget_orders()
    assert mixed_in(QueueSpec("selection:everything")) == spectrum


def test_a_restart_does_not_change_what_comes_next(db, search, ada):
    calibrators_mixed_in(db, 0.5)
    session = ReviewSession(db, ada, IMAGES)
    for _ in range(8):
        assert ReviewSession(db, ada, IMAGES).current.target_id == session.current.target_id
        session.grade(session.current.token, "X")


def test_two_reviewers_meet_calibrators_at_other_places(db, search, ada):
    calibrators_mixed_in(db, 0.5, injections=8)
    plans = [ReviewSession(db, store.ensure_reviewer(db, f"r{k}"), IMAGES).plan(12) for k in range(3)]
    assert len({tuple(p) for p in plans}) == 3


def test_a_grade_after_looking_at_the_identity_does_not_calibrate(db, search, ada):
    session, target_id = calibrator_shown(db, ada)
    session.current.revealed = True
    session.grade(session.current.token, "A")
    with connect_engine(db, read_only=True).connect() as conn:
        query = sa.text("select is_calibrator from current_grade where target_id = :t")
        assert conn.execute(query, {"t": target_id}).scalar() is False


def test_a_second_thought_after_the_identity_was_shown_does_not_calibrate(db, search, ada):
    session, target_id = calibrator_shown(db, ada)
    query = sa.text("select is_calibrator from current_grade where target_id = :t")

    def calibrates():
        with connect_engine(db, read_only=True).connect() as conn:
            return conn.execute(query, {"t": target_id}).scalar()

    session.grade(session.current.token, "X")
    assert calibrates() is True
    session.back()
    assert session.current.revealed  # what is graded shows its identity
    session.grade(session.current.token, "A")
    assert calibrates() is False
    session.back()
    session.undo()
    session.undo()
    assert target_id not in session.mine
    session.grade(session.current.token, "B")  # not graded any more, but seen
    assert calibrates() is False
    session.undo()
    session.save(target_id, "B", "from the mosaic", None)
    assert calibrates() is False


def test_calibrators_that_are_not_mixed_in_count_as_what_is_left(db, search, ada):
    store.add_calibrators(db, search.ids[:N_IMAGE], is_lens=True, origin="list")
    set_value(db, "review_calibration_rate", 0)
    session = ReviewSession(db, ada, IMAGES)
    assert session.n_left == N_IMAGE
    session.grade(session.current.token, "A")
    assert session.n_left == N_IMAGE - 1


def test_a_slip_taken_back_at_once_still_calibrates(db, search, ada):
    session, target_id = calibrator_shown(db, ada)
    session.grade(session.current.token, "X")
    session.undo()
    session.grade(session.current.token, "A")
    with connect_engine(db, read_only=True).connect() as conn:
        query = sa.text("select grade, is_calibrator from current_grade where target_id = :t")
        assert tuple(conn.execute(query, {"t": target_id}).one()) == ("A", True)


def test_the_place_in_the_address_tells_no_calibrator(db, search, ada):
    calibrators_mixed_in(db, 0.5)
    every = QueueSpec("image_candidate", "first", hide_graded=False)
    session = ReviewSession(db, ada, every)
    passed, mixed_in = [], 0
    while session.current is not None:
        place = session.place()
        after = ReviewSession(db, ada, every, place=place)
        assert after.current.target_id == session.current.target_id == place.at
        assert after.plan(N) == session.plan(N)
        assert place.past == (passed[-1] if passed else None)
        mixed_in += place.at in session.truth
        if place.at not in session.truth:
            passed.append(place.at)
        session.grade(session.current.token, "X")
    assert mixed_in > 3
