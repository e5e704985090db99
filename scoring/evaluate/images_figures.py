"""Figures of an image search: completeness where hardly any false positive is allowed, with their intervals.

TPR0 and TPR10 are those of the lens challenge (Metcalf et al. 2019, A&A 625, A119, section 4): the highest
completeness before the first false positive, and that with fewer than ten.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scoring.evaluate import metrics
from scoring.evaluate.figures import Evaluation, Metric, thinned
from scoring.evaluate.intervals import clopper_pearson
from scoring.evaluate.tracers import add_trc, ranking_figures

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

RATES = (1e-2, 1e-3, 1e-4)
"""False-positive rates at which completeness is given."""

N_RESAMPLES = 500
NAMES = ("roc_area", *(f"completeness_fpr_{rate:.0e}" for rate in RATES), "tpr0", "tpr10")


def measurable(n_negative: int, rate: float) -> bool:
    """Whether a false-positive rate can be told with so many negatives: at least one may be a hit."""
    return n_negative * rate >= 1 - 1e-9


def image_figures(label: Bools, score: Array, seed: int = 0) -> list[Metric]:
    """ROC area, completeness at false-positive rates, TPR0 and TPR10; bootstrap over both classes.

    A completeness whose rate cannot be measured with the negatives there are is NaN, and its `n` the number
    of negatives; so is TPR10 with fewer than ten.

    Parameters
    ----------
    label : ndarray of bool, shape (n,)
        True for a lens.
    score : ndarray, shape (n,)
        Higher is more likely a lens.
    """
    y, s = np.asarray(label, dtype=bool), np.nan_to_num(np.asarray(score, dtype=float), nan=-np.inf)
    order = np.argsort(-s, kind="stable")
    y, s = y[order], s[order]
    last = np.flatnonzero(np.append(np.diff(s) != 0, True))
    n_positive, n_negative = int(y.sum()), int((~y).sum())
    best = _figures(y.astype(float), (~y).astype(float), last, n_positive, n_negative)
    rng = np.random.default_rng(seed)
    drawn = np.empty((N_RESAMPLES, len(best)))
    for k in range(N_RESAMPLES):
        weight = np.zeros(len(y))
        for some, n in ((y, n_positive), (~y, n_negative)):
            weight[some] = np.bincount(rng.integers(n, size=n), minlength=n)
        drawn[k] = _figures(weight * y, weight * ~y, last, n_positive, n_negative)
    lo, hi = np.percentile(drawn, [2.5, 97.5], axis=0)
    count = dict.fromkeys(NAMES, n_positive) | {"roc_area": len(y)}
    count |= {name: n_negative for name, value in zip(NAMES, best, strict=True) if np.isnan(value)}
    x = dict.fromkeys(NAMES, float("nan")) | {f"completeness_fpr_{rate:.0e}": rate for rate in RATES}
    return [
        Metric(name, float(v), float(a), float(b), count[name], x[name])
        for name, v, a, b in zip(NAMES, best, lo, hi, strict=True)
    ]


def _figures(positive: Array, negative: Array, last: NDArray[np.int64], n_pos: int, n_neg: int) -> Array:
    """The figures of NAMES from weights of the objects in the order of the list; `last` ends equals."""
    tp = np.concatenate([[0.0], np.cumsum(positive)[last]])
    fp = np.concatenate([[0.0], np.cumsum(negative)[last]])
    out = [float(np.trapezoid(tp, fp)) / (n_pos * n_neg)]
    for allowed in [
        *(np.floor(rate * n_neg + 1e-9) if measurable(n_neg, rate) else -1 for rate in RATES),
        0,
        9,
    ]:
        told = allowed >= 0 and n_neg > allowed
        out.append(float(tp[fp <= allowed].max()) / n_pos if told else float("nan"))
    return np.array(out)


def add_image_figures(evaluation: Evaluation, label: Bools, score: Array) -> None:
    """Every figure and curve of an image test set with lenses and others."""
    evaluation.metrics += image_figures(label, score)
    evaluation.metrics += ranking_figures(label, score)
    fpr, tpr, _ = metrics.roc_curve(label, score)
    fpr, tpr = thinned(fpr, tpr, logarithmic=True)
    n = int(np.asarray(label).sum())
    lo, hi = clopper_pearson(np.rint(tpr * n), n)
    evaluation.add_curve("roc", fpr, tpr, lo, hi, n)
    add_trc(evaluation, label, score)
