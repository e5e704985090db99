"""The paper's own test: spectra of the published recipe, unseen in training (Li et al. 2018, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from scoring.evaluate import metrics
from scoring.evaluate.figures import (
    FPR,
    Evaluation,
    add_common,
    at_precision,
    at_threshold,
    completeness_curve,
)
from scoring.evaluate.predict import logits
from scoring.evaluate.testsets import paper_test
from scoring.generate.recipes import PublishedRecipe, describe
from scoring.models.base import SpectralModel

PEAK_EDGES = (1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 15.0)
"""Bins of the lines' peak flux density [1e-17 erg/s/cm2/Angstrom]."""

WAVE_EDGES = tuple(np.linspace(3800.0, 5000.0, 7))
"""Bins of the lines' observed wavelength [Angstrom]."""


def evaluate_paper_test(
    models: Sequence[SpectralModel],
    n: int = 15_000,
    seed: int = 2018,
    progress: Callable[[int, int], None] | None = None,
    peak_law: str = "log-uniform",
) -> list[Evaluation]:
    """Score the paper's test set with every model and work out the figures.

    Parameters
    ----------
    models : sequence of SpectralModel
        Loaded models; all see the very same spectra.
    n : int
        Spectra, one in fifteen with a line: 15,000 is the paper's test tenth.
    seed : int
        Seed of the test set.
    progress : callable, optional
        Called with spectra done and spectra in all.
    peak_law : str
        Law of the lines' peaks, of which the paper gives the lower limit only: see `PublishedRecipe`.

    Returns
    -------
    list of Evaluation
        One a model: ``precision`` (the paper's j/i) and ``completeness`` (j/n) at the model's threshold,
        ``*_best`` where the threshold aims at the paper's precision, ``completeness_fpr`` at 0.1% false
        positives, completeness by peak flux and wavelength at both (``completeness_peak``,
        ``completeness_peak_fpr`` and so on), ROC, tracer recovery curve, reliability.
    """
    from scoring.backends import make_backend

    recipe = PublishedRecipe(peak_law=peak_law)
    runners = [make_backend(model) for model in models]
    found: list[list[np.ndarray]] = [[] for _ in models]
    label, peak, wave = [], [], []
    done = 0
    for batch in paper_test(n, seed, recipe):
        for k, model in enumerate(models):
            found[k].append(logits(model, batch, runners[k]))
        label.append(batch.label)
        sigma = batch.lines.wave_angstrom * batch.lines.fwhm_kms / 299792.458 / 2.354820045
        peak.append((batch.lines.flux / (2.5066282746 * sigma).clamp_min(1e-6)).numpy())
        wave.append(batch.lines.wave_angstrom.numpy())
        done += len(batch)
        if progress is not None:
            progress(done, n)
    y, peaks, waves = np.concatenate(label), np.concatenate(peak), np.concatenate(wave)
    out = []
    for model, parts in zip(models, found, strict=True):
        s = np.concatenate(parts)
        note = {"recipe": describe(recipe), "seed": seed, "n": n}
        evaluation = Evaluation(model.name, "paper_test", int(y.sum()), int((~y).sum()), note)
        t = model.default_threshold
        threshold = float(np.log(t / (1 - t)))
        evaluation.metrics += at_threshold(y, s, threshold)
        evaluation.metrics += at_precision(y, s)
        at_fpr = metrics.threshold_at_fpr(s[~y], FPR)
        evaluation.metrics += at_threshold(y, s, at_fpr, "_fpr")
        for end, least in (("", threshold), ("_fpr", at_fpr)):
            hit = s[y] >= least
            completeness_curve(f"completeness_peak{end}", evaluation, peaks[y], hit, PEAK_EDGES)
            completeness_curve(f"completeness_wave{end}", evaluation, waves[y], hit, WAVE_EDGES)
        add_common(evaluation, y, s, None)
        out.append(evaluation)
    return out
