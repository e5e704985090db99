"""The figures of an evaluation as rows: what every test set has in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scoring.evaluate import metrics
from scoring.evaluate.intervals import bootstrap, clopper_pearson
from scoring.evaluate.predict import probability

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

PAPER_PRECISION = 0.9954
"""Precision of Li et al. (2018), section 3.3: their test accuracy, defined as j/i in section 2.2."""

PAPER_COMPLETENESS = 0.936
"""Completeness at that precision, same section."""

FPR = 1e-3
"""False-positive rate at which completeness is compared."""

CURVE_POINTS = 200


@dataclass(frozen=True)
class Metric:
    """One figure, or one point of a curve, as in table metric."""

    name: str
    value: float
    lo: float = float("nan")
    hi: float = float("nan")
    n: int = 0
    x: float = float("nan")
    point: int = 0


@dataclass
class Evaluation:
    """A model on a test set.

    Attributes
    ----------
    model : str
        Registered name.
    name : str
        paper_test, injections or run.
    n_positive, n_negative : int
        Size of the test set.
    recipe : dict
        How the test set was made, with its seed.
    metrics : list of Metric
        The figures.
    model_id : int or None
        Row of table model, once known.
    evaluation_id : int or None
        Row of table evaluation, once saved.
    """

    model: str
    name: str
    n_positive: int
    n_negative: int
    recipe: dict[str, Any]
    metrics: list[Metric] = field(default_factory=list)
    model_id: int | None = None
    evaluation_id: int | None = None

    def get(self, name: str) -> Metric:
        """The single figure of that name."""
        return next(m for m in self.metrics if m.name == name)

    def curve(self, name: str) -> list[Metric]:
        """The points of the curve of that name, in order."""
        return sorted((m for m in self.metrics if m.name == name), key=lambda m: m.point)

    def add_curve(
        self, name: str, x: ArrayLike, value: ArrayLike, lo: ArrayLike, hi: ArrayLike, n: ArrayLike
    ) -> None:
        """Add the points of a curve."""
        columns = np.broadcast_arrays(x, value, lo, hi, n)
        for point, (a, v, low, high, count) in enumerate(zip(*columns, strict=True)):
            self.metrics.append(Metric(name, float(v), float(low), float(high), int(count), float(a), point))


def binomial(name: str, k: int, n: int, x: float = float("nan")) -> Metric:
    """A fraction with its exact 95% interval; NaN without trials."""
    lo, hi = clopper_pearson(k, n)
    return Metric(name, k / n if n else float("nan"), float(lo), float(hi), n, x)


def at_threshold(label: ArrayLike, score: ArrayLike, threshold: float, suffix: str = "") -> list[Metric]:
    """Precision, completeness and false-positive rate at a threshold, with exact intervals."""
    c = metrics.counts(label, score, threshold)
    hits = c.true_positive + c.false_positive
    return [
        binomial(f"precision{suffix}", c.true_positive, hits, threshold),
        binomial(f"completeness{suffix}", c.true_positive, c.n_positive, threshold),
        binomial(f"false_positive_rate{suffix}", c.false_positive, c.n_negative, threshold),
    ]


def at_precision(label: ArrayLike, score: ArrayLike, precision: float = PAPER_PRECISION) -> list[Metric]:
    """Precision and completeness where the threshold aims at a precision.

    The threshold for one half of the test set is chosen on the other, so that no spectrum judges a
    threshold that it helped to choose; the counts of both halves are added.
    """
    y, s = np.asarray(label, dtype=bool), np.asarray(score, dtype=float)
    fold = np.zeros(len(y), dtype=bool)
    for kind in (y, ~y):  # split both classes evenly
        fold[np.flatnonzero(kind)[::2]] = True
    tp = hits = 0
    for part in (fold, ~fold):
        c = metrics.counts(y[part], s[part], metrics.best_threshold(y[~part], s[~part], precision))
        tp, hits = tp + c.true_positive, hits + c.true_positive + c.false_positive
    return [
        binomial("precision_best", tp, hits),
        binomial("completeness_best", tp, int(y.sum())),
    ]


def completeness_curve(
    name: str, evaluation: Evaluation, x: ArrayLike, hit: ArrayLike, edges: ArrayLike
) -> None:
    """Share of hits among positives in bins of a property, at the bins' centres, with exact intervals."""
    e = np.asarray(edges, dtype=float)
    at = np.searchsorted(e, np.asarray(x, dtype=float), side="right") - 1
    inside = (at >= 0) & (at < len(e) - 1)
    n = np.bincount(at[inside], minlength=len(e) - 1)
    k = np.bincount(at[inside], weights=np.asarray(hit, dtype=float)[inside], minlength=len(e) - 1)
    some = n > 0
    lo, hi = clopper_pearson(k, n)
    share = k[some] / n[some]
    evaluation.add_curve(name, (0.5 * (e[:-1] + e[1:]))[some], share, lo[some], hi[some], n[some])


def thinned(x: Array, y: Array, logarithmic: bool) -> tuple[Array, Array]:
    """At most CURVE_POINTS points of a staircase, evenly along its abscissa or its logarithm."""
    if len(x) <= CURVE_POINTS:
        return x, y
    along = np.log10(np.maximum(x, x[x > 0].min() / 2)) if logarithmic else x
    want = np.linspace(along[0], along[-1], CURVE_POINTS - 2)
    keep = np.unique(np.clip(np.searchsorted(along, want, side="right") - 1, 0, len(x) - 1))
    keep = np.unique(np.concatenate([[0], keep, [len(x) - 1]]))
    return x[keep], y[keep]


def add_common(
    evaluation: Evaluation,
    label: ArrayLike,
    logit: ArrayLike,
    groups: ArrayLike | None,
    n_resamples: int = 200,
    calibration: bool = True,
) -> None:
    """Figures of the ranking and of the probabilities, each with a bootstrap interval, and their curves.

    Parameters
    ----------
    evaluation : Evaluation
        Filled in.
    label, logit : array_like, shape (n,)
        Truth and the model's logit.
    groups : array_like, shape (n,), or None
        Objects that share what scatters; None where each stands alone.
    n_resamples : int
        Bootstrap resamples.
    calibration : bool
        Whether probabilities are judged too: only where the share of lenses is that of the calibration.
    """
    y, s = np.asarray(label, dtype=bool), np.asarray(logit, dtype=float)
    p = probability(s)
    alone = np.arange(len(y)) if groups is None else groups
    figures: dict[str, Callable[[Ints], float]] = {
        "roc_area": lambda rows: metrics.roc_area(y[rows], s[rows]),
        "ranking_performance": lambda rows: metrics.ranking_performance(y[rows], s[rows]),
        "ranking_performance_half": lambda rows: metrics.ranking_performance(y[rows], s[rows], "half"),
    }
    if calibration:
        figures["calibration_error"] = lambda rows: metrics.expected_calibration_error(y[rows], p[rows])

    def every(rows: Ints) -> Array:
        if not y[rows].any() or y[rows].all():
            return np.full(len(figures), np.nan)
        return np.array([figure(rows) for figure in figures.values()])

    best = every(np.arange(len(y)))
    lo, hi = bootstrap(every, alone, n_resamples)
    for name, value, low, high in zip(figures, best, lo, hi, strict=True):
        evaluation.metrics.append(Metric(name, float(value), float(low), float(high), len(y)))
    fpr, tpr, _ = metrics.roc_curve(y, s)
    fpr, tpr = thinned(fpr, tpr, logarithmic=True)
    lo, hi = clopper_pearson(np.rint(tpr * y.sum()), y.sum())
    evaluation.add_curve("roc", fpr, tpr, lo, hi, int(y.sum()))
    rank, recovered = thinned(*metrics.tracer_recovery_curve(y, s), logarithmic=True)
    lo, hi = clopper_pearson(np.rint(recovered * y.sum()), y.sum())
    evaluation.add_curve("trc", rank, recovered, lo, hi, int(y.sum()))
    if not calibration:
        return
    bins = metrics.reliability(y, p, np.linspace(0, 1, 11))
    some = bins.n > 0
    lo, hi = clopper_pearson(bins.n_positive, bins.n)
    share = bins.n_positive[some] / bins.n[some]
    evaluation.add_curve("reliability", bins.mean_probability[some], share, lo[some], hi[some], bins.n[some])
