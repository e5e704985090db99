"""The consensus in SQL against the same formulas in numpy, and intervals against ours."""

from __future__ import annotations

import numpy as np
import pytest
import sqlalchemy as sa
from dashboard_data import write_search
from scipy.special import expit, logit, polygamma

from dashboard import store
from dashboard.store import GRADES, Grade
from schema.engine import connect_engine, read_frame
from scoring.evaluate.intervals import wilson


@pytest.fixture
def graded(db):
    """Three reviewers of known skill grade 20 calibrators and 10 others."""
    search = write_search(db)
    people = [store.ensure_reviewer(db, name) for name in ("good", "hasty", "untested")]
    store.add_calibrators(db, search.ids[:10], is_lens=True, origin="injection")
    store.add_calibrators(db, search.ids[10:20], is_lens=False, origin="control")
    rng = np.random.default_rng(5)
    chance = {
        "good": {True: [0.7, 0.2, 0.1, 0.0], False: [0.0, 0.1, 0.2, 0.7]},
        "hasty": {True: [0.4, 0.2, 0.2, 0.2], False: [0.3, 0.2, 0.2, 0.3]},
    }
    given = {}
    for who in people[:2]:
        for k in range(20):
            letter = str(rng.choice(GRADES, p=chance[who.name][k < 10]))
            given[who.name, k] = letter
            grade = Grade(search.ids[k], letter, f"c{k}", is_calibrator=True)
            store.save_grade(db, who.reviewer_id, grade)
    for who in people:
        for k in range(20, 30):
            letter = GRADES[(k + len(who.name)) % 4] if who.name != "good" else "ABX"[k % 3]
            given[who.name, k] = letter
            store.save_grade(db, who.reviewer_id, Grade(search.ids[k], letter, f"o{k}"))
    return search, given


def frame(db, query):
    with connect_engine(db, read_only=True).connect() as conn:
        return read_frame(conn, query)


def test_confusion_matrices_and_their_intervals(db, graded):
    _, given = graded
    rows = frame(db, "select * from reviewer_confusion")
    assert len(rows) == 3 * 2 * 4
    for row in rows.itertuples():
        mine = [
            given[row.reviewer, k]
            for k in (range(10) if row.is_lens else range(10, 20))
            if (row.reviewer, k) in given
        ]
        n, total = mine.count(row.grade), len(mine)
        assert (row.n, row.n_truth) == (n, total)
        assert row.p_grade == pytest.approx((n + 1) / (total + 4))
        lo, hi = wilson(n, total)
        assert row.share_lo == pytest.approx(float(lo), abs=1e-6)
        assert row.share_hi == pytest.approx(float(hi), abs=1e-6)
        exact = polygamma(1, n + 1) - polygamma(1, total + 4)
        assert row.var_ln_p == pytest.approx(float(exact), rel=2e-3, abs=1e-3)


def test_consensus_is_swap(db, graded):
    search, given = graded
    rows = frame(db, "select * from consensus where not is_calibrator").set_index("target_id")
    assert len(rows) == 10
    for k in range(20, 30):
        ln_odds, variance = logit(0.01), 0.0
        for name in ("good", "hasty", "untested"):
            letter = given[name, k]
            for truth, sign in ((True, 1), (False, -1)):
                seen = [given[name, j] for j in range(20) if (j < 10) == truth and (name, j) in given]
                n, total = seen.count(letter), len(seen)
                ln_odds += sign * np.log((n + 1) / (total + 4))
                variance += float(polygamma(1, n + 1) - polygamma(1, total + 4))
        row = rows.loc[search.ids[k]]
        assert row.p_lens == pytest.approx(expit(ln_odds), rel=1e-9)
        assert row.p_lens_lo == pytest.approx(expit(ln_odds - 1.96 * variance**0.5), rel=0.02)
        assert row.p_lens_hi == pytest.approx(expit(ln_odds + 1.96 * variance**0.5), rel=0.02)
        assert row.p_lens_lo < row.p_lens < row.p_lens_hi


def test_an_untested_reviewer_counts_for_nothing(db, graded):
    search, _ = graded
    who = store.ensure_reviewer(db, "newcomer")
    before = (
        frame(db, "select target_id, p_lens from consensus").set_index("target_id").p_lens[search.ids[20]]
    )
    store.save_grade(db, who.reviewer_id, Grade(search.ids[20], "A", "late"))
    after = frame(db, "select target_id, p_lens from consensus").set_index("target_id").p_lens[search.ids[20]]
    assert after == pytest.approx(before)


def test_a_skilled_grade_moves_the_consensus_further(db, graded):
    rows = frame(db, "select reviewer, grade, is_lens, p_grade from reviewer_confusion where grade = 'A'")
    p = rows.set_index(["reviewer", "is_lens"]).p_grade
    ratio = {name: p[name, True] / p[name, False] for name in ("good", "hasty", "untested")}
    assert ratio["good"] > ratio["hasty"] > 0.5
    assert ratio["untested"] == 1


def test_grades_without_a_calibration_flag_do_not_calibrate(db, graded):
    search, _ = graded
    who = store.ensure_reviewer(db, "untested")
    store.save_grade(db, who.reviewer_id, Grade(search.ids[0], "A", "seen", is_calibrator=False))
    rows = frame(db, "select sum(n) as n from reviewer_confusion where reviewer = 'untested'")
    assert rows.n[0] == 0


def test_counts_and_range_of_grades(db):
    search = write_search(db)
    for name, letter in (("a", "A"), ("b", "C"), ("c", "C")):
        store.save_grade(db, store.ensure_reviewer(db, name).reviewer_id, Grade(search.ids[0], letter, "t"))
    row = frame(db, "select * from grade_count").iloc[0]
    assert (row.n_grade, row.n_a, row.n_b, row.n_c, row.n_x, row.grade_range) == (3, 1, 0, 2, 0, 2)
    assert row.mean_value == pytest.approx(5 / 3)
    assert frame(db, "select target_id from review_disagreement").target_id.tolist() == [search.ids[0]]
    with connect_engine(db).begin() as conn:
        conn.execute(sa.text("update cut_setting set value = 3 where name = 'review_disagreement'"))
    assert frame(db, "select target_id from review_disagreement").empty
