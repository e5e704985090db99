"""Figures of merit of a ranking or a classification; pure functions of labels and scores, ties handled.

The terms are those of the papers followed: completeness is the share of lenses found (recall), precision the
share of hits that are lenses (the "accuracy" j/i of Li et al. 2018, section 2.2), and the tracer recovery
curve with its ranking performance is that of Pourrahmani (2019, thesis, sections 2.5 and 4.6).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schema.errors import UserError

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


class Counts(NamedTuple):
    """Outcome of a classification at one threshold."""

    n_positive: int
    n_negative: int
    true_positive: int
    false_positive: int

    @property
    def precision(self) -> float:
        """Share of hits that are positive (j/i of Li et al.); NaN without hits."""
        hits = self.true_positive + self.false_positive
        return self.true_positive / hits if hits else float("nan")

    @property
    def completeness(self) -> float:
        """Share of positives that are hits (j/n of Li et al.); NaN without positives."""
        return self.true_positive / self.n_positive if self.n_positive else float("nan")

    @property
    def false_positive_rate(self) -> float:
        """Share of negatives that are hits; NaN without negatives."""
        return self.false_positive / self.n_negative if self.n_negative else float("nan")


def counts(label: ArrayLike, score: ArrayLike, threshold: float) -> Counts:
    """Count hits, those with ``score >= threshold``, among positives and negatives.

    Parameters
    ----------
    label : array_like of bool, shape (n,)
        True for a positive.
    score : array_like, shape (n,)
        Higher means more likely positive; a NaN is never a hit.
    threshold : float
        In the unit of `score`.
    """
    y, s = _checked(label, score)
    hit = s >= threshold
    return Counts(int(y.sum()), int((~y).sum()), int((hit & y).sum()), int((hit & ~y).sum()))


class Curve(NamedTuple):
    """Counts at every distinct threshold, from above the highest score downwards; shape (k + 1,)."""

    threshold: Array
    true_positive: Ints
    false_positive: Ints


def cumulative_counts(label: ArrayLike, score: ArrayLike) -> Curve:
    """Counts of hits at every distinct score; tied objects become hits together."""
    y, s = _checked(label, score)
    order = np.argsort(-s, kind="stable")
    y, s = y[order], s[order]
    last = np.flatnonzero(np.append(np.diff(s) != 0, True)) if len(s) else np.array([], dtype=int)
    tp = np.concatenate([[0], np.cumsum(y)[last]]).astype(np.int64)
    fp = np.concatenate([[0], np.cumsum(~y)[last]]).astype(np.int64)
    return Curve(np.concatenate([[np.inf], s[last]]), tp, fp)


def roc_curve(label: ArrayLike, score: ArrayLike) -> tuple[Array, Array, Array]:
    """ROC curve: false-positive rate, completeness and threshold, each of shape (k + 1,)."""
    curve = cumulative_counts(label, score)
    _need_both(curve)
    return (
        curve.false_positive / curve.false_positive[-1],
        curve.true_positive / curve.true_positive[-1],
        curve.threshold,
    )


def roc_area(label: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve: chance that a positive outranks a negative, ties counting one half."""
    fpr, tpr, _ = roc_curve(label, score)
    return float(np.trapezoid(tpr, fpr))


def threshold_at_fpr(negative_score: ArrayLike, rate: float) -> float:
    """Lowest threshold at which no more than `rate` of the negatives are hits.

    Parameters
    ----------
    negative_score : array_like, shape (n,)
        Scores of negatives.
    rate : float
        False-positive rate allowed; the count allowed is ``floor(rate * n)``.

    Returns
    -------
    float
        Just above the first score that must not be a hit, so that ties fall on the safe side.
    """
    s = np.sort(np.asarray(negative_score, dtype=float))[::-1]
    if not len(s):
        raise UserError("a false-positive rate needs negatives; the test set has none")
    allowed = int(np.floor(rate * len(s) + 1e-9))
    return -np.inf if allowed >= len(s) else float(np.nextafter(s[allowed], np.inf))


def best_threshold(label: ArrayLike, score: ArrayLike, precision: float) -> float:
    """Threshold of the highest completeness with at least `precision`; infinite if there is none."""
    curve = cumulative_counts(label, score)
    hits = curve.true_positive + curve.false_positive
    ok = (hits > 0) & (curve.true_positive >= precision * hits)
    if not ok.any():
        return float("inf")
    most = curve.true_positive == curve.true_positive[ok].max()
    return float(curve.threshold[np.flatnonzero(ok & most)[0]])


def ordinality(score: ArrayLike) -> Array:
    """Position of each object in the list from lowest to highest score, divided by the length of the list.

    Tied objects share the mean of their positions, so that no order among them is invented.

    Returns
    -------
    ndarray, shape (n,)
        In (0, 1]; near 1 for the best candidates (Pourrahmani 2019, section 4.6).
    """
    s = np.asarray(score, dtype=float)
    _, group, size = np.unique(s, return_inverse=True, return_counts=True)
    end = np.cumsum(size)
    return (end[group] - (size[group] - 1) / 2) / len(s)


def tracer_recovery_curve(label: ArrayLike, score: ArrayLike) -> tuple[Array, Array]:
    """Share of tracers (positives) among the best-ranked share of the list.

    Returns
    -------
    rank : ndarray, shape (k + 1,)
        Share of the list read from the top, from 0 to 1.
    recovered : ndarray, shape (k + 1,)
        Share of the tracers in it. Ties are joined by a straight line: the mean over their random orders.
    """
    curve = cumulative_counts(label, score)
    if curve.true_positive[-1] == 0:
        raise UserError("a tracer recovery curve needs positives; the test set has none")
    hits = curve.true_positive + curve.false_positive
    return hits / hits[-1], curve.true_positive / curve.true_positive[-1]


def ranking_performance(
    label: ArrayLike, score: ArrayLike, perfect: Literal["exact", "half"] = "exact"
) -> float:
    """Area between the tracer recovery curve and no discrimination, over that of a perfect classifier.

    Parameters
    ----------
    label, score : array_like, shape (n,)
        As elsewhere.
    perfect : str
        ``"exact"`` divides by the area of the perfect curve, (1 - n_positive / n) / 2, as in section 4.6 of
        the thesis, and equals 2 AUC - 1; ``"half"`` by 1/2, its limit for rare tracers, as in section 2.5.

    Returns
    -------
    float
        1 for a perfect ranking (with ``exact``), 0 for a random one, negative for a reversed one.
    """
    rank, recovered = tracer_recovery_curve(label, score)
    area = float(np.trapezoid(recovered, rank)) - 0.5
    share = float(np.mean(np.asarray(label, dtype=bool)))
    if perfect == "half":
        return area / 0.5
    if share == 1:
        raise UserError("ranking performance needs negatives too; the test set has none")
    return area / (0.5 * (1 - share))


class Reliability(NamedTuple):
    """How often what was given a probability is a lens; shape (bin,)."""

    mean_probability: Array
    n: Ints
    n_positive: Ints


def reliability(label: ArrayLike, probability: ArrayLike, edges: ArrayLike) -> Reliability:
    """Reliability diagram: objects by predicted probability.

    Parameters
    ----------
    label : array_like of bool, shape (n,)
        True for a positive.
    probability : array_like, shape (n,)
        In [0, 1].
    edges : array_like, shape (bin + 1,)
        Bins are closed below and open above, the last closed on both sides.
    """
    y, p = _checked(label, probability)
    e = np.asarray(edges, dtype=float)
    at = np.clip(np.searchsorted(e, p, side="right") - 1, 0, len(e) - 2)
    n = np.bincount(at, minlength=len(e) - 1)
    total = np.bincount(at, weights=p, minlength=len(e) - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / n
    return Reliability(mean, n.astype(np.int64), np.bincount(at, weights=y, minlength=len(e) - 1).astype(int))


def expected_calibration_error(label: ArrayLike, probability: ArrayLike, n_bins: int = 15) -> float:
    """Mean gap between predicted probability and observed share over equal-width bins, weighted by number.

    After Naeini, Cooper & Hauskrecht (2015, AAAI); depends on the share of positives in the test set.
    """
    bins = reliability(label, probability, np.linspace(0, 1, n_bins + 1))
    some = bins.n > 0
    gap = np.abs(bins.mean_probability[some] - bins.n_positive[some] / bins.n[some])
    return float(np.average(gap, weights=bins.n[some]))


def _checked(label: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.bool_], Array]:
    y, s = np.asarray(label, dtype=bool), np.asarray(score, dtype=float)
    if y.shape != s.shape or y.ndim != 1:
        raise ValueError(f"labels {y.shape} and scores {s.shape} must be one-dimensional and of one length")
    return y, np.where(np.isnan(s), -np.inf, s)


def _need_both(curve: Curve) -> None:
    if curve.true_positive[-1] == 0 or curve.false_positive[-1] == 0:
        kind = "positives" if curve.true_positive[-1] == 0 else "negatives"
        raise UserError(f"a ROC curve needs positives and negatives; the test set has no {kind}")
