"""Completeness on real galaxies: lines of known flux put into the spectra that a selection returns.

All models see the very same spectra, and the threshold of each is set at the same rate of false positives,
so the completeness of two models can be compared line flux by line flux.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from scoring.evaluate import metrics
from scoring.evaluate.figures import FPR, Evaluation, Metric, add_common, at_threshold
from scoring.evaluate.hosts import Hosts
from scoring.evaluate.intervals import bootstrap
from scoring.evaluate.predict import logits
from scoring.evaluate.testsets import Spectra, injected, near_real_negatives, window
from scoring.models.base import SpectralModel

FLUXES = (5.0, 7.5, 10.0, 12.5, 15.0, 20.0, 25.0, 30.0)
"""Line fluxes [1e-17 erg/s/cm2]."""

WAVE_EDGES = tuple(np.linspace(3800.0, 5000.0, 7))
"""Bins of observed wavelength [Angstrom]."""

RECIPE_VERSION = "injections-1"


@dataclass(frozen=True)
class InjectionConfig:
    """How many lines and negatives, and which.

    Attributes
    ----------
    fluxes : tuple of float
        Line fluxes [1e-17 erg/s/cm2].
    n_each : int
        Lines of each flux.
    n_negative : int
        Negatives made of real parts.
    profile : str
        skewed or gaussian.
    seed : int
        Seed of it all.
    n_resamples : int
        Bootstrap resamples of the galaxies.
    """

    fluxes: tuple[float, ...] = FLUXES
    n_each: int = 500
    n_negative: int = 20_000
    profile: str = "skewed"
    seed: int = 86
    n_resamples: int = 400


@dataclass
class InjectionSet:
    """Positives, negatives and the galaxies themselves, in that order, in one set of spectra."""

    spectra: Spectra
    n_positive: int
    n_negative: int

    @property
    def label(self) -> NDArray[np.bool_]:
        """True for positives, shape (n,); the galaxies themselves stand at the end."""
        return self.spectra.label


def build(hosts: Hosts, config: InjectionConfig) -> InjectionSet:
    """Draw the test set."""
    generator = torch.Generator().manual_seed(config.seed)
    real = window(hosts.spectra)
    positive = injected(real, config.fluxes, config.n_each, generator, config.profile)
    negative = near_real_negatives(real, config.n_negative, generator)
    return InjectionSet(joined([positive, negative, real]), len(positive), len(negative))


def evaluate_injections(
    models: Sequence[SpectralModel],
    hosts: Hosts,
    config: InjectionConfig,
    progress: Callable[[int, int], None] | None = None,
) -> list[Evaluation]:
    """Completeness of every model at one false-positive rate, by line flux and wavelength.

    Parameters
    ----------
    models : sequence of SpectralModel
        Loaded models. The first is the reference of ``gain_flux``.
    hosts : Hosts
        Real galaxies.
    config : InjectionConfig
        Size of the test set.
    progress : callable, optional
        Called with models done and models in all.

    Returns
    -------
    list of Evaluation
        One a model, with the curves ``completeness_flux`` and ``completeness_wave`` at 0.1% false positives,
        ``gain_flux`` (completeness less that of the first model; paired, so its interval is narrower than
        the two apart), the threshold, and ``real_above``: the galaxies that reach it without injection.
        Intervals are bootstraps over galaxies, the threshold being set anew in each resample.
    """
    drawn = build(hosts, config)
    n_pos, n_neg = drawn.n_positive, drawn.n_negative
    host = drawn.spectra.host
    flux = drawn.spectra.lines.flux.numpy()[:n_pos]
    wave = drawn.spectra.lines.wave_angstrom.numpy()[:n_pos]
    scores = []
    for k, model in enumerate(models):
        scores.append(logits(model, drawn.spectra))
        if progress is not None:
            progress(k + 1, len(models))
    levels = np.asarray(config.fluxes)
    by_flux = flux[None, :] == levels[:, None].astype(np.float32)  # (flux, n_pos)
    bin_of = np.searchsorted(WAVE_EDGES, wave, side="right") - 1
    by_wave = (bin_of[None, :] == np.arange(len(WAVE_EDGES) - 1)[:, None]) & (flux >= 10)
    groups = np.concatenate([by_flux, by_wave])  # (group, n_pos)

    def shares(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        positive, negative = rows[rows < n_pos], rows[rows >= n_pos]
        member = groups[:, positive]
        out = []
        for s in scores:
            hit = s[positive] >= metrics.threshold_at_fpr(s[negative], FPR)
            with np.errstate(invalid="ignore"):
                out.append((member & hit).sum(1) / member.sum(1))
        share = np.stack(out)  # (model, group)
        return np.concatenate([share, share - share[:1]])

    every = np.arange(n_pos + n_neg)
    value = shares(every)
    lo, hi = bootstrap(shares, host[: n_pos + n_neg], config.n_resamples, config.seed)
    out = []
    n_flux, n_model = len(levels), len(models)
    centre = 0.5 * (np.asarray(WAVE_EDGES)[:-1] + np.asarray(WAVE_EDGES)[1:])
    for k, model in enumerate(models):
        s = scores[k]
        note = {
            "recipe": RECIPE_VERSION,
            "selection": hosts.selection,
            "hosts": hosts.table.native_id.tolist() if len(hosts.table) <= 100 else len(hosts.table),
            "seed": config.seed,
            "profile": config.profile,
            "reference": models[0].name,
        }
        evaluation = Evaluation(model.name, "injections", n_pos, n_neg, note)
        threshold = metrics.threshold_at_fpr(s[n_pos : n_pos + n_neg], FPR)
        real_above = int((s[n_pos + n_neg :] >= threshold).sum())
        evaluation.metrics += at_threshold(drawn.label[every], s[every], threshold, "_fpr")
        evaluation.metrics.append(
            Metric("real_above", float(real_above), n=len(s) - n_pos - n_neg, x=threshold)
        )
        n = groups.sum(1)
        for name, rows, x in (
            ("completeness_flux", slice(0, n_flux), levels),
            ("completeness_wave", slice(n_flux, None), centre),
        ):
            evaluation.add_curve(name, x, value[k, rows], lo[k, rows], hi[k, rows], n[rows])
        if k:
            rows = slice(0, n_flux)
            j = n_model + k
            evaluation.add_curve("gain_flux", levels, value[j, rows], lo[j, rows], hi[j, rows], n[rows])
        t = model.default_threshold
        evaluation.metrics += at_threshold(drawn.label[every], s[every], float(np.log(t / (1 - t))))
        add_common(evaluation, drawn.label[every], s[every], host[every], 100, calibration=False)
        out.append(evaluation)
    return out


def joined(parts: Sequence[Spectra]) -> Spectra:
    """Sets of spectra over one range of the grid, one after the other."""
    from scoring.generate.lines import Lines

    names = Lines.__dataclass_fields__
    lines = Lines(*(torch.cat([getattr(p.lines, name) for p in parts]) for name in names))
    models = [p.model for p in parts if p.model is not None]
    return Spectra(
        torch.cat([p.flux for p in parts]),
        torch.cat([p.ivar for p in parts]),
        torch.cat([p.z for p in parts]),
        lines,
        np.concatenate([p.host for p in parts]),
        torch.cat(models) if len(models) == len(parts) else None,
        parts[0].first_pixel,
    )
