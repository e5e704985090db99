"""After training: calibrate, and measure on held-out simulated images and on real ones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scoring.evaluate.metrics import ranking_performance, roc_area, roc_curve
from scoring.imaging.scenes import KINDS

if TYPE_CHECKING:
    from torch import Tensor, nn

BASE_RATE = 0.01
"""Share of lenses among the objects that a calibrated probability is right for."""
FALSE_POSITIVE_RATES = (1e-2, 1e-3, 1e-4)
RESAMPLES = 300
TRACERS_OF_THESIS = 52
"""Tracers that the thesis (section 2.4) hid among 236,000 sources."""
HARDEST = 0.06
"""Share of the list that the thesis (section 2.4) ranked anew in its second phase."""

Logits = NDArray[np.float64]


def completeness(label: NDArray[np.bool_], score: Logits, rate: float) -> float:
    """Share of positives above the threshold at which no more than `rate` of the negatives are."""
    fpr, tpr, _ = roc_curve(label, score)
    return float(tpr[fpr <= rate].max())


def inspected_for_all(label: NDArray[np.bool_], score: Logits, share: float = 1.0) -> float:
    """Share of the whole list, from its top, that holds `share` of the positives; ties are read together."""
    need = int(np.ceil(share * label.sum() - 1e-9))
    lowest = np.sort(score[label])[::-1][need - 1]
    return float((score >= lowest).mean())


def ordinary_above(label: NDArray[np.bool_], score: Logits, share: float = 1.0) -> float:
    """Share of the others that rank with or above the lowest of the best `share` of the positives.

    Where lenses are rare this is the share of the list that has to be read; with many tracers among few
    others `inspected_for_all` counts the tracers themselves.
    """
    need = int(np.ceil(share * label.sum() - 1e-9))
    lowest = np.sort(score[label])[::-1][need - 1]
    return float((score[~label] >= lowest).mean())


def ordinary_above_a_few(label: NDArray[np.bool_], score: Logits, few: int = TRACERS_OF_THESIS) -> float:
    """The same for all of `few` tracers drawn at random from the positives: the median of such draws.

    The worst of many tracers ranks lower than the worst of few, so that their number has to agree before two
    searches are compared. The median of the lowest of `few` is where a share ``0.5^(1/few)`` is found.
    """
    return ordinary_above(label, score, 0.5 ** (1 / few))


def hardest(label: NDArray[np.bool_], score: Logits, share: float = HARDEST) -> float:
    """Ranking performance of the positives among the hardest `share` of the negatives alone.

    The thesis's second phase ranks the tracers among the 6% that came first in the first phase.
    """
    least = np.quantile(score[~label], 1 - share)
    kept = label | (score >= least)
    return ranking_performance(label[kept], score[kept])


def figures(positive: Logits, negative: Logits, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Figures of a ranking with 95% bootstrap intervals, positives and negatives drawn apart.

    A completeness is given only where its false-positive rate allows at least one negative.

    Parameters
    ----------
    positive, negative : ndarray, shape (n,)  scores
    """
    score = np.concatenate([positive, negative])
    label = np.arange(len(score)) < len(positive)
    wanted: dict[str, Callable[[NDArray[np.bool_], Logits], float]] = {
        "auc": roc_area,
        "ranking_performance": ranking_performance,
        "ranking_performance_hardest_6_percent": hardest,
        "inspected_for_all": inspected_for_all,
        "inspected_for_99_percent": lambda y, s: inspected_for_all(y, s, 0.99),
        "inspected_for_90_percent": lambda y, s: inspected_for_all(y, s, 0.9),
        "ordinary_above_all": ordinary_above,
        "ordinary_above_90_percent": lambda y, s: ordinary_above(y, s, 0.9),
        f"ordinary_above_{TRACERS_OF_THESIS}": ordinary_above_a_few,
    }
    for rate in FALSE_POSITIVE_RATES:
        if rate * len(negative) >= 1:
            wanted[f"completeness_fpr_{rate:.0e}"] = functools.partial(completeness, rate=rate)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(resamples):
        rows = np.concatenate(
            [
                rng.integers(len(positive), size=len(positive)),
                rng.integers(len(positive), len(score), len(negative)),
            ]
        )
        drawn.append([figure(label[rows], score[rows]) for figure in wanted.values()])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0) if drawn else (np.zeros(0), np.zeros(0))
    out: dict[str, Any] = {"n_positive": len(positive), "n_negative": len(negative)}
    for i, (name, figure) in enumerate(wanted.items()):
        out[name] = {"value": round(figure(label, score), 5)}
        if resamples:
            out[name] |= {"lo": round(float(low[i]), 5), "hi": round(float(high[i]), 5)}
    return out


def simulated_figures(
    positive: Logits, negative: Logits, kind: NDArray[np.int8], observable: NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """Figures of the simulated task: tracers among ordinary sources, and lenses against near misses.

    observable : those of the tracers that Collett (2015) counts as observable, shape (len(positive),)
    """
    near = np.isin(kind, [KINDS.index("bare"), KINDS.index("beside")])
    out = {"tracers_among_ordinary": figures(positive, negative[~near])}
    if observable is not None and observable.any() and not observable.all():
        out["observable_tracers_among_ordinary"] = figures(positive[observable], negative[~near])
    if near.any():
        out["against_near_misses"] = figures(positive, negative[near])
        for name in ("bare", "beside"):
            some = negative[kind == KINDS.index(name)]
            if len(some):
                label = np.arange(len(positive) + len(some)) < len(positive)
                out["against_near_misses"][f"auc_{name}"] = round(
                    roc_area(label, np.concatenate([positive, some])), 5
                )
    return out


def platt(positive: Logits, negative: Logits, base_rate: float = BASE_RATE) -> tuple[float, float]:
    """Slope and offset of the logit (Platt 1999) that make it right for a share `base_rate` of lenses."""
    x = np.concatenate([positive, negative])
    y = (np.arange(len(x)) < len(positive)).astype(float)
    weight = np.where(y > 0, base_rate / len(positive), (1 - base_rate) / len(negative)) * len(x)
    design = np.stack([x, np.ones_like(x)], axis=1)
    theta = np.array([1.0, np.log(base_rate / (1 - base_rate))])
    for _ in range(60):
        p = 1 / (1 + np.exp(-np.clip(design @ theta, -50, 50)))
        gradient = design.T @ (weight * (p - y)) + 1e-3 * (theta - [1.0, 0.0])
        hessian = (design * (weight * np.maximum(p * (1 - p), 1e-9))[:, None]).T @ design + 1e-3 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        theta = theta - step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
    return float(theta[0]), float(theta[1])


def calibrate(network: nn.Module, positive: Logits, negative: Logits, base_rate: float = BASE_RATE) -> None:
    """Fit slope and offset and put them into the network's buffer `calibration`, on top of what is there."""
    slope, offset = platt(positive, negative, base_rate)
    held: Tensor = network.calibration  # type: ignore[assignment]
    held.copy_(held.new_tensor([float(held[0]) * slope, float(held[1]) * slope + offset]))
