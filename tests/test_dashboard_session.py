"""Going through a queue: filters, each object once, pages of stamps, and going on after a restart."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa
from dashboard_data import N_IMAGE, N
from dashboard_sessions import IMAGES, calibrators_mixed_in, searched

from dashboard import store
from dashboard.queues import Place, QueueSpec, forget_orders
from dashboard.session import ReviewSession
from dashboard.store import Grade
from schema.engine import connect_engine


@pytest.fixture
def search(db):
    return searched(db)


@pytest.fixture
def ada(db, search):
    return store.ensure_reviewer(db, "Ada")


def test_filters_hide_graded_enough_and_known(db, search, ada):
    bo, cy = store.ensure_reviewer(db, "Bo"), store.ensure_reviewer(db, "Cy")
    store.save_grade(db, ada.reviewer_id, Grade(search.ids[1], "A", "a"))
    for who in (ada, bo, cy):
        store.save_grade(db, who.reviewer_id, Grade(search.ids[2], "A", f"e{who.name}"))
    every = QueueSpec("image_candidate", "first", hide_graded=False, hide_enough=False, hide_known=False)
    assert ReviewSession(db, bo, every).n_left == N_IMAGE
    assert ReviewSession(db, ada, IMAGES).n_left == N_IMAGE - 2
    assert ReviewSession(db, bo, IMAGES).n_left == N_IMAGE - 1  # the other is not graded by Bo
    known = QueueSpec("image_candidate", "first", hide_graded=False, hide_enough=False, hide_known=True)
    session = ReviewSession(db, bo, known)
    assert session.n_left == N_IMAGE - 1
    assert search.ids[30] not in session.plan(N_IMAGE)


def test_a_long_session_takes_in_what_others_grade_and_what_is_new(db, search, ada):
    with connect_engine(db).begin() as conn:
        conn.execute(sa.text("update selection set where_sql = 'is_injection'"))
    everything = QueueSpec(source="selection:everything", order="shuffled")
    session = ReviewSession(db, ada, everything)
    passed = [session.current.target_id]
    session.skip(session.current.token)
    passed.append(session.current.target_id)
    session.grade(session.current.token, "B")
    one, two = session.plan(2)

    def others_grade(target_id):
        for name in "xyz":
            who = store.ensure_reviewer(db, name)
            store.save_grade(db, who.reviewer_id, Grade(target_id, "X", f"{name}{target_id}"))

    def look(seconds_ago):
        forget_orders()
        session._looked = time.monotonic() - seconds_ago
        session.load_ahead()
        if session.memory.loading is not None:
            session.memory.loading.join()

    others_grade(one)
    look(seconds_ago=30)
    assert session.plan(2) == [one, two]  # at most once a minute
    look(seconds_ago=61)
    assert one not in session.plan(N)
    assert session.plan(1) == [two]
    assert session.n_left == 17
    with connect_engine(db).begin() as conn:
        conn.execute(sa.text("update selection set where_sql = 'true'"))
    look(seconds_ago=61)
    assert session.n_left == 37
    assert not {*passed, one, session.current.target_id} & set(session.plan(N))


def test_a_late_key_grades_nothing(db, search, ada):
    session = ReviewSession(db, ada, IMAGES)
    token = session.current.token
    assert session.grade(token, "A")
    assert not session.grade(token, "X")
    with connect_engine(db, read_only=True).connect() as conn:
        assert conn.execute(sa.text("select count(*) from grade")).scalar() == 1


def test_every_object_comes_once_to_the_end(db, search, ada):
    session = ReviewSession(db, ada, IMAGES)
    seen = []
    while session.current is not None:
        seen.append(session.current.target_id)
        session.grade(session.current.token, "X")
    assert sorted(seen) == sorted(search.ids[:N_IMAGE])
    assert session.n_left == 0
    assert ReviewSession(db, ada, IMAGES).current is None


@pytest.mark.parametrize(
    "spec",
    [
        QueueSpec("image_candidate", "first", hide_graded=False),
        QueueSpec("image_candidate", "first"),
        QueueSpec("image_candidate", "first", "shuffled"),
    ],
)
def test_the_place_in_the_address_brings_a_restart_back(db, search, ada, spec):
    session = ReviewSession(db, ada, spec)
    for letter in ("A", "B", "C"):
        session.grade(session.current.token, letter)
        session.skip(session.current.token)
    after = ReviewSession(db, ada, spec, place=session.place())
    assert after.current.target_id == session.current.target_id
    assert after.plan(N) == session.plan(N)  # what was skipped stays skipped
    assert after.n_left == session.n_left == N_IMAGE - 6
    session.back()
    assert ReviewSession(db, ada, spec, place=session.place()).current.target_id == session.current.target_id
    nonsense = [Place(at=12345, past=67890), Place()]
    for place in nonsense:
        fresh = ReviewSession(db, ada, spec, place=place)
        assert fresh.current.target_id == ReviewSession(db, ada, spec).current.target_id


def test_the_place_of_a_page_of_stamps(db, search, ada):
    session = ReviewSession(db, ada, IMAGES)
    session.take(10)
    page = session.take(10)
    session.save(page[0], "A", "t", None)
    after = ReviewSession(db, ada, IMAGES, place=session.place(page))
    assert after.take(10)[:9] == page[1:]


def test_a_page_of_stamps_takes_each_object_once(db, search, ada):
    session = ReviewSession(db, ada, IMAGES)
    pages = [session.take(10) for _ in range(5)]
    assert [len(p) for p in pages] == [10, 10, 10, 4, 0]
    assert len({t for p in pages for t in p}) == N_IMAGE


def test_what_is_put_back_comes_again_next_and_in_order(db, search, ada):
    session = ReviewSession(db, ada, IMAGES)
    page = session.take(10)
    for target_id in page[:3]:
        session.save(target_id, "A", f"t{target_id}", None)
    session.put_back(page)
    assert session.take(20)[:7] == page[3:]
    calibrators_mixed_in(db, 0.5)
    blind = ReviewSession(db, ada, IMAGES)
    page = blind.take(10)
    assert set(page) & set(blind.truth)
    blind.put_back(page)
    assert blind.take(20)[:10] == page


def test_the_objects_on_screen_know_everything(db, search, ada):
    session = ReviewSession(db, ada, QueueSpec(source="selection:everything"))
    both, image_only, neither, known = (session.object(search.ids[k]) for k in (10, 2, 38, 30))
    assert both.has_spectrum
    assert both.cutouts
    assert [s["model"] for s in both.scores]
    assert not image_only.has_spectrum
    assert image_only.cutouts
    assert not neither.has_spectrum
    assert not neither.cutouts
    assert neither.scores == []
    assert known.lenses[0]["name"] == "Known <i>one</i>"
    assert known.lenses[0]["sep_arcsec"] < 0.01
    assert session.object(12345) is None
