"""Going through a queue: filters, calibrators mixed in, back, undo, and going on after a restart."""

from __future__ import annotations

import time

import numpy as np
import pytest
import sqlalchemy as sa
from dashboard_data import N_IMAGE, N, write_search

from dashboard import store
from dashboard.calibration import choose_calibrators
from dashboard.queues import Place, QueueSpec, forget_orders, load_order, mixed, queue_sql
from dashboard.session import ReviewSession
from dashboard.store import Grade
from schema.engine import connect_engine
from schema.errors import LensmineError, UserError

IMAGES = QueueSpec(source="image_candidate", model="first")


@pytest.fixture
def search(db):
    forget_orders()
    return write_search(db)


@pytest.fixture
def ada(db, search):
    return store.ensure_reviewer(db, "Ada")


def set_value(db, name, value):
    with connect_engine(db).begin() as conn:
        conn.execute(sa.text("update cut_setting set value = :v where name = :n"), {"v": value, "n": name})


def standing(db):
    query = sa.text("select target_id, grade from current_grade")
    with connect_engine(db, read_only=True).connect() as conn:
        return {int(t): g for t, g in conn.execute(query)}


def graded(db, who, letters, spec=IMAGES):
    """A session in which these were given, and their targets."""
    session, seen = ReviewSession(db, who, spec), []
    for letter in letters:
        seen.append(session.current.target_id)
        session.grade(session.current.token, letter)
    return session, seen


def test_order_by_probability_shuffle_and_spread(db, search):
    order = load_order(db, IMAGES)
    best = np.argsort(-search.probability)
    assert order.target_id.tolist() == [search.ids[k] for k in best]
    one = load_order(db, QueueSpec(source="image_candidate", model="first", order="shuffled", seed=1))
    two = load_order(db, QueueSpec(source="image_candidate", model="first", order="shuffled", seed=2))
    assert sorted(one.target_id) == sorted(two.target_id) == sorted(order.target_id)
    assert one.target_id.tolist() != two.target_id.tolist()
    assert one.target_id.tolist() == sorted(one.target_id.tolist(), key=lambda t: mixed(np.array([t]), 1)[0])
    with connect_engine(db, read_only=True).connect() as conn:
        query = (
            "select target_id, max(probability) - min(probability) as d from image_score group by target_id"
        )
        spread = dict(conn.execute(sa.text(query)).all())
    apart = load_order(db, QueueSpec(source="image_candidate", model="first", order="spread"))
    found = [spread[t] for t in apart.target_id.tolist()]
    assert found == sorted(found, reverse=True)


def test_a_selection_is_a_queue_and_holds_what_nothing_scored(db, search):
    order = load_order(db, QueueSpec(source="selection:everything"))
    assert len(order.target_id) == N
    assert order.is_known.sum() == 1
    with pytest.raises(UserError, match="there are: everything"):
        load_order(db, QueueSpec(source="selection:nothing"))


def test_scores_of_older_pixels_do_not_order_a_queue(db, search):
    with connect_engine(db).begin() as conn:
        conn.execute(
            sa.text("update image_score set content_hash = 'old', probability = 1 where model_id = 12")
        )
    for source in ("image_candidate", "selection:everything"):
        with connect_engine(db, read_only=True).connect() as conn:
            query = queue_sql(conn, QueueSpec(source=source))
            assert conn.execute(sa.text(f"select max(spread) from ({query}) as q")).scalar() == 0
        best = load_order(db, QueueSpec(source=source))
        at = dict(zip(best.target_id.tolist(), best.probability.tolist(), strict=True))
        assert [at[t] for t in search.ids[:N_IMAGE]] == pytest.approx(search.probability.tolist())


def test_a_model_narrows_selections_and_disagreements_to_what_it_scored(db, search, ada):
    with connect_engine(db).begin() as conn:
        conn.execute(sa.text("delete from image_score where model_id = 11 and cutout_id > 5"))
        conn.execute(sa.text("update cut_setting set value = 2 where name = 'review_disagreement'"))
    for who, letter in ((ada, "A"), (store.ensure_reviewer(db, "Bo"), "X")):
        for k in (2, 20):
            store.save_grade(db, who.reviewer_id, Grade(search.ids[k], letter, f"{k}{who.name}"))
    order = load_order(db, QueueSpec("selection:everything", "first"))
    assert set(order.target_id.tolist()) == set(search.ids[:5])
    assert order.probability.tolist() == sorted(search.probability[:5].tolist(), reverse=True)
    assert set(load_order(db, QueueSpec("disagreement")).target_id.tolist()) == {
        search.ids[2],
        search.ids[20],
    }
    assert load_order(db, QueueSpec("disagreement", "first")).target_id.tolist() == [search.ids[2]]


def test_the_proposed_queue_has_each_target_once(db, search):
    order = load_order(db, QueueSpec())
    assert len(order.target_id) == len(set(order.target_id.tolist())) == N_IMAGE


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


def test_a_late_key_grades_nothing(db, search, ada):
    session = ReviewSession(db, ada, IMAGES)
    token = session.current.token
    assert session.grade(token, "A")
    assert not session.grade(token, "X")
    with connect_engine(db, read_only=True).connect() as conn:
        assert conn.execute(sa.text("select count(*) from grade")).scalar() == 1


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


def test_every_object_comes_once_to_the_end(db, search, ada):
    session = ReviewSession(db, ada, IMAGES)
    seen = []
    while session.current is not None:
        seen.append(session.current.target_id)
        session.grade(session.current.token, "X")
    assert sorted(seen) == sorted(search.ids[:N_IMAGE])
    assert session.n_left == 0
    assert ReviewSession(db, ada, IMAGES).current is None


def test_calibrators_are_mixed_in_at_the_rate_and_only_once(db, search, ada):
    choose_calibrators(db, injections=6)
    set_value(db, "review_calibration_rate", 0.4)
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
    choose_calibrators(db, injections=6)
    set_value(db, "review_calibration_rate", 0.5)
    session = ReviewSession(db, ada, IMAGES)
    for _ in range(8):
        assert ReviewSession(db, ada, IMAGES).current.target_id == session.current.target_id
        session.grade(session.current.token, "X")


def test_two_reviewers_meet_calibrators_at_other_places(db, search, ada):
    choose_calibrators(db, injections=8)
    set_value(db, "review_calibration_rate", 0.5)
    plans = [ReviewSession(db, store.ensure_reviewer(db, f"r{k}"), IMAGES).plan(12) for k in range(3)]
    assert len({tuple(p) for p in plans}) == 3


def test_a_grade_after_looking_at_the_identity_does_not_calibrate(db, search, ada):
    choose_calibrators(db, injections=6)
    set_value(db, "review_calibration_rate", 0.9)
    session = ReviewSession(db, ada, IMAGES)
    while session.current.target_id not in session.truth:
        session.grade(session.current.token, "X")
    target_id = session.current.target_id
    session.current.revealed = True
    session.grade(session.current.token, "A")
    with connect_engine(db, read_only=True).connect() as conn:
        query = sa.text("select is_calibrator from current_grade where target_id = :t")
        assert conn.execute(query, {"t": target_id}).scalar() is False


def test_a_second_thought_after_the_identity_was_shown_does_not_calibrate(db, search, ada):
    choose_calibrators(db, injections=6)
    set_value(db, "review_calibration_rate", 0.9)
    session = ReviewSession(db, ada, IMAGES)
    while session.current.target_id not in session.truth:
        session.grade(session.current.token, "X")
    target_id = session.current.target_id
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


def test_a_slip_taken_back_at_once_still_calibrates(db, search, ada):
    choose_calibrators(db, injections=6)
    set_value(db, "review_calibration_rate", 0.9)
    session = ReviewSession(db, ada, IMAGES)
    while session.current.target_id not in session.truth:
        session.grade(session.current.token, "X")
    target_id = session.current.target_id
    session.grade(session.current.token, "X")
    session.undo()
    session.grade(session.current.token, "A")
    with connect_engine(db, read_only=True).connect() as conn:
        query = sa.text("select grade, is_calibrator from current_grade where target_id = :t")
        assert tuple(conn.execute(query, {"t": target_id}).one()) == ("A", True)


def test_verdicts_and_grades_do_not_mix(db, search, ada):
    bo = store.ensure_reviewer(db, "Bo")
    for who, letter in ((ada, "A"), (bo, "X")):
        for k in (3, 4):
            store.save_grade(db, who.reviewer_id, Grade(search.ids[k], letter, f"{who.name}{k}"))
    store.save_grade(db, ada.reviewer_id, Grade(search.ids[5], "A", "agreed"))
    forget_orders()
    settling = ReviewSession(db, ada, QueueSpec(source="disagreement"))
    assert settling.mine == {}
    assert not settling.can_undo
    assert not settling.can_go_back
    first = settling.current.target_id
    settling.grade(settling.current.token, "B")
    forget_orders()
    again = ReviewSession(db, ada, QueueSpec(source="disagreement"))
    assert again.mine == {first: "B"}
    ordinary = ReviewSession(db, ada, IMAGES)
    assert ordinary.mine == {search.ids[3]: "A", search.ids[4]: "A", search.ids[5]: "A"}
    assert [ordinary.undo() for _ in range(4)] == ["A", "A", "A", None]
    assert again.undo() == "B"
    assert again.undo() is None


def test_disagreements_go_to_adjudicators_and_leave_when_settled(db, search, ada):
    bo, cy = store.ensure_reviewer(db, "Bo"), store.ensure_reviewer(db, "Cy")
    for who, letter in ((ada, "A"), (bo, "X"), (cy, "B")):
        store.save_grade(db, who.reviewer_id, Grade(search.ids[3], letter, f"d{who.name}"))
        store.save_grade(db, who.reviewer_id, Grade(search.ids[4], "A", f"s{who.name}"))
    forget_orders()
    spec = QueueSpec(source="disagreement")
    with pytest.raises(UserError, match="settled by adjudicators"):
        ReviewSession(db, bo, spec)
    session = ReviewSession(db, ada, spec)
    assert session.order.target_id.tolist() == [search.ids[3]]
    session.grade(session.current.token, "B")
    forget_orders()
    assert ReviewSession(db, ada, spec).current is None
    with connect_engine(db, read_only=True).connect() as conn:
        row = conn.execute(
            sa.text("select n_grade, grade_range, verdict from consensus order by grade_range desc")
        ).first()
    assert tuple(row) == (3, 3, "B")  # the verdict is beside the grades, not one of them


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


def test_the_place_in_the_address_tells_no_calibrator(db, search, ada):
    choose_calibrators(db, injections=6)
    set_value(db, "review_calibration_rate", 0.5)
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
    choose_calibrators(db, injections=6)
    set_value(db, "review_calibration_rate", 0.5)
    blind = ReviewSession(db, ada, IMAGES)
    page = blind.take(10)
    assert set(page) & set(blind.truth)
    blind.put_back(page)
    assert blind.take(20)[:10] == page


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


def test_the_address_keeps_the_queue():
    spec = QueueSpec("selection:everything", "first", "shuffled", 42, False, True, True)
    assert QueueSpec.from_query(spec.as_query()) == spec
    assert QueueSpec().as_query() == {}
    assert QueueSpec.from_query({"order": "nonsense"}) == QueueSpec()
    for seed in ("--5", "-", "²", "1e3", "", "9" * 40, str(2**53)):
        assert QueueSpec.from_query({"seed": seed, "order": "shuffled"}) == QueueSpec(order="shuffled")
    for seed in (-5, 0, 2**53 - 1):
        assert QueueSpec.from_query({"seed": str(seed)}).seed == seed
    assert QueueSpec.from_query({"seed": "x; drop table", "source": "grade"}) == QueueSpec()
