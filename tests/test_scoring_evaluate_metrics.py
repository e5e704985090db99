"""Figures of merit against brute force, with ties, and the coverage of their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from schema.errors import UserError
from scoring.evaluate import metrics
from scoring.evaluate.figures import at_precision
from scoring.evaluate.intervals import bootstrap, clopper_pearson, wilson

SAMPLES = st.lists(
    st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40
).filter(lambda rows: 0 < sum(y for y, _ in rows) < len(rows))  # fmt: skip


def split(rows: list[tuple[bool, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([y for y, _ in rows]), np.array([s for _, s in rows], dtype=float)


@settings(max_examples=150, deadline=None)
@given(SAMPLES)
def test_areas_are_those_of_all_pairs(rows: list[tuple[bool, int]]) -> None:
    y, s = split(rows)
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p in s[y] for n in s[~y]]
    auc = float(np.mean(pairs))
    assert metrics.roc_area(y, s) == pytest.approx(auc)
    assert metrics.ranking_performance(y, s) == pytest.approx(2 * auc - 1)
    half = (2 * auc - 1) * (1 - y.mean())
    assert metrics.ranking_performance(y, s, "half") == pytest.approx(half)


@settings(max_examples=100, deadline=None)
@given(SAMPLES, st.integers(0, 7))
def test_counts_are_counted(rows: list[tuple[bool, int]], threshold: int) -> None:
    y, s = split(rows)
    c = metrics.counts(y, s, threshold)
    assert c.true_positive == sum(1 for a, b in zip(y, s, strict=True) if a and b >= threshold)
    assert c.false_positive == sum(1 for a, b in zip(y, s, strict=True) if not a and b >= threshold)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=50), st.floats(0, 1))
def test_threshold_never_lets_more_through_than_allowed(scores: list[int], rate: float) -> None:
    s = np.array(scores, dtype=float)
    threshold = metrics.threshold_at_fpr(s, rate)
    assert (s >= threshold).mean() <= rate + 1e-9
    lower = s[s < threshold]
    if len(lower):  # and the next lower one would
        assert (s >= lower.max()).mean() > rate - 1e-9


@settings(max_examples=100, deadline=None)
@given(SAMPLES, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_best_threshold_is_that_of_a_search(rows: list[tuple[bool, int]], precision: float) -> None:
    y, s = split(rows)
    found = metrics.counts(y, s, metrics.best_threshold(y, s, precision))
    best = 0.0
    for threshold in np.unique(s):
        c = metrics.counts(y, s, threshold)
        if c.precision >= precision:
            best = max(best, c.completeness)
    assert found.completeness == pytest.approx(best)


@settings(max_examples=100, deadline=None)
@given(SAMPLES)
def test_ordinality_is_a_mean_rank(rows: list[tuple[bool, int]]) -> None:
    _, s = split(rows)
    want = [((s < v).sum() + 1 + (s <= v).sum()) / 2 / len(s) for v in s]
    assert metrics.ordinality(s) == pytest.approx(want)


def test_perfect_random_and_reversed_rankings() -> None:
    y = np.arange(1000) >= 900
    assert metrics.ranking_performance(y, np.arange(1000)) == pytest.approx(1)
    assert metrics.ranking_performance(y, np.arange(1000), "half") == pytest.approx(0.9)
    assert metrics.ranking_performance(y, -np.arange(1000)) == pytest.approx(-1)
    assert metrics.ranking_performance(y, np.zeros(1000)) == pytest.approx(0)


def test_nan_is_never_a_hit() -> None:
    c = metrics.counts([True, False], [np.nan, np.nan], -1e9)
    assert (c.true_positive, c.false_positive) == (0, 0)


def test_reliability_by_hand() -> None:
    p = [0.0, 0.05, 0.1, 0.95, 1.0]
    y = [False, False, True, True, True]
    bins = metrics.reliability(y, p, np.linspace(0, 1, 11))
    assert bins.n.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert bins.n_positive.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert metrics.expected_calibration_error(y, p, 10) == pytest.approx((0.05 + 0.9 + 0.05) / 5)


def test_calibrated_probabilities_have_a_small_error() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(50_000)
    y = rng.random(50_000) < p
    assert metrics.expected_calibration_error(y, p) < 0.01
    assert metrics.expected_calibration_error(y, p**2) > 0.1


def test_one_class_is_refused() -> None:
    with pytest.raises(UserError, match="no negatives"):
        metrics.roc_area([True], [1.0])
    with pytest.raises(UserError, match="needs positives"):
        metrics.tracer_recovery_curve([False], [1.0])


@pytest.mark.parametrize("n", [7, 40, 300])
def test_intervals_cover_the_truth(n: int) -> None:
    k = np.arange(n + 1)
    covered = {"wilson": [], "clopper_pearson": []}
    for p in np.linspace(0.02, 0.98, 49):
        weight = binom.pmf(k, n, p)
        for interval in (wilson, clopper_pearson):
            lo, hi = interval(k, n)
            covered[interval.__name__].append(weight[(lo <= p) & (p <= hi)].sum())
    assert min(covered["clopper_pearson"]) >= 0.95 - 1e-9
    assert np.mean(covered["wilson"]) == pytest.approx(0.95, abs=0.015)


def test_intervals_at_the_ends() -> None:
    for interval in (wilson, clopper_pearson):
        lo, hi = interval([0, 10, 0], [10, 10, 0])
        assert lo[0] == 0
        assert hi[1] == 1
        assert (lo[2], hi[2]) == (0, 1)
    assert clopper_pearson(0, 10)[1] == pytest.approx(1 - 0.025 ** (1 / 10))


def test_bootstrap_covers_a_mean_of_grouped_data() -> None:
    rng = np.random.default_rng(5)
    inside = 0
    for trial in range(60):
        shared = rng.normal(size=40)
        groups = np.repeat(np.arange(40), 5)
        x = shared[groups] + 0.1 * rng.normal(size=200)
        lo, hi = bootstrap(lambda rows, x=x: x[rows].mean(), groups, 200, seed=trial)
        inside += int(lo <= 0 <= hi)
    assert inside >= 50  # 57 expected; ignoring the groups gives about 38


def test_thresholds_are_not_judged_by_what_chose_them() -> None:
    rng = np.random.default_rng(6)
    y = rng.random(4000) < 0.1
    s = y + 0.45 * rng.normal(size=4000)
    precision, completeness = at_precision(y, s, 0.95)
    assert precision.lo < 0.95 < precision.hi
    assert 0 < completeness.lo < completeness.value < completeness.hi < 1
