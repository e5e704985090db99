"""After training: calibrate, choose a threshold, measure on fresh spectra, write weights and card.

None of the spectra used here was seen in training, and those that calibrate or set the threshold are not
those that measure: each purpose has a seed of its own.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from scoring.evaluate.intervals import clopper_pearson
from scoring.evaluate.metrics import best_threshold, counts, roc_area
from scoring.generate.recipes import Batch, PublishedRecipe, RealisticRecipe, Recipe, describe
from scoring.models.base import WEIGHTS_DIR, SpectralModel
from scoring.noise import NoiseModel
from scoring.pca import GalaxyBank
from scoring.train import CHUNK, TrainConfig, score_batches, seeded

BASE_RATE = 1 / 15
PAPER_PRECISION, PAPER_COMPLETENESS = 0.9954, 0.936
PUBLISHED_TEST_SEED, CALIBRATION_SEED, THRESHOLD_SEED, REALISTIC_SEED = (
    2_000_003,
    3_000_017,
    4_000_037,
    5_000_011,
)
MADE = ("command", "seed", "date", "training", "data", "threshold_from", "note")
"""What a card says of how its weights were made."""

PEAK_EDGES = (1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 15.0)
FLUX_EDGES = (3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 60.0)


def fresh_batches(
    recipe: Recipe, n: int, seed: int, bank: GalaxyBank | None = None, noise: NoiseModel | None = None
) -> list[Batch]:
    """`n` spectra of a recipe in chunks, on the CPU."""
    sizes = [min(CHUNK, n - first) for first in range(0, n, CHUNK)]
    return [recipe.sample(size, seeded(seed, i), bank, noise) for i, size in enumerate(sizes)]


class Scored:
    """Scores of simulated spectra together with the truth that figures are binned by.

    Attributes
    ----------
    logit, label, wave, flux, peak : ndarray, shape (n,)
        Peak is that of a Gaussian of the line's flux and width [1e-17 erg/s/cm2/Angstrom].
    """

    def __init__(self, model: SpectralModel, batches: list[Batch]) -> None:
        logit, label = score_batches(model, batches)
        self.logit: NDArray[np.float64] = logit.double().numpy()
        self.label: NDArray[np.bool_] = label.numpy() > 0
        self.wave = np.concatenate([b.lines.wave_angstrom.cpu().numpy() for b in batches])
        self.flux = np.concatenate([b.lines.flux.cpu().numpy() for b in batches])
        fwhm = np.concatenate([b.lines.fwhm_kms.cpu().numpy() for b in batches])
        self.peak = self.flux / np.maximum(self.wave * fwhm / 299792.458 * 1.0644670, 1e-9)

    @property
    def probability(self) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-self.logit))


def calibrate(model: SpectralModel, scored: Scored, base_rate: float = BASE_RATE) -> None:
    """Fit slope and offset of the logit (Platt 1999) by Newton's method and put them into the network.

    Spectra are weighted such that a share `base_rate` holds a line, so the probability is right for that
    rate. A network without a buffer `calibration` is left as it is.
    """
    network = model.network()
    if not hasattr(network, "calibration"):
        return
    y = scored.label.astype(float)
    weight = np.where(scored.label, base_rate / y.mean(), (1 - base_rate) / (1 - y.mean()))
    x = np.stack([scored.logit, np.ones_like(scored.logit)], axis=1)
    theta = np.array([1.0, 0.0])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(x @ theta, -50, 50)))
        gradient = x.T @ (weight * (p - y))
        hessian = (x * (weight * np.maximum(p * (1 - p), 1e-12))[:, None]).T @ x
        theta = theta - np.linalg.solve(hessian + 1e-9 * np.eye(2), gradient)
    old: Tensor = network.calibration  # type: ignore[assignment]
    slope, offset = theta[0] * float(old[0]), theta[0] * float(old[1]) + theta[1]
    with torch.no_grad():
        old.copy_(torch.tensor([slope, offset]))


def interval(k: float, n: float) -> dict[str, Any]:
    """A fraction with its exact 95% interval and the counts behind it."""
    low, high = clopper_pearson(np.array([k]), np.array([n]))
    return {
        "value": round(k / n, 5) if n else None,
        "low": round(float(low[0]), 5),
        "high": round(float(high[0]), 5),
        "k": int(k),
        "n": int(n),
    }


def test_figures(scored: Scored, threshold: float, edges: tuple[float, ...], by: str) -> dict[str, Any]:
    """Precision, completeness, false-positive rate at a threshold; completeness in bins of `by`."""
    p, y = scored.probability, scored.label
    hit = p >= threshold
    tp, fp, positives = int((hit & y).sum()), int((hit & ~y).sum()), int(y.sum())
    at = best_threshold(y, scored.logit, PAPER_PRECISION)
    best = counts(y, scored.logit, at).true_positive if np.isfinite(at) else 0
    values = getattr(scored, by)
    bins = []
    for low, high in pairwise(edges):
        inside = y & (values >= low) & (values < high)
        bins.append({"from": low, "to": high, **interval(int((hit & inside).sum()), int(inside.sum()))})
    return {
        "spectra": len(y),
        "positives": positives,
        "threshold": threshold,
        "precision": interval(tp, tp + fp),
        "completeness": interval(tp, positives),
        "false_positive_rate": interval(fp, len(y) - positives),
        f"completeness_at_precision_{PAPER_PRECISION}": interval(int(best), positives),
        "roc_area": round(roc_area(y, scored.logit), 5),
        f"completeness_by_{by}": bins,
    }


def reliability(scored: Scored, base_rate: float = BASE_RATE, n_bins: int = 10) -> dict[str, Any]:
    """Mean probability against the share that holds a line, in bins of probability, at the base rate.

    The expected calibration error is the mean distance between the two, weighted by the spectra in each bin.
    """
    y, p = scored.label, scored.probability
    weight = np.where(y, base_rate / y.mean(), (1 - base_rate) / (1 - y.mean()))
    which = np.minimum((p * n_bins).astype(int), n_bins - 1)
    rows, error = [], 0.0
    for b in range(n_bins):
        inside = which == b
        if not inside.any():
            continue
        total = weight[inside].sum()
        mean, share = float((weight * p)[inside].sum() / total), float(weight[inside & y].sum() / total)
        error += float(total / weight.sum()) * abs(mean - share)
        rows.append({"probability": round(mean, 4), "share": round(share, 4), "spectra": int(inside.sum())})
    return {"base_rate": round(base_rate, 5), "expected_calibration_error": round(error, 5), "bins": rows}


def choose_threshold(scored: Scored, precision: float = PAPER_PRECISION) -> float:
    """Probability at and above which held-out spectra reach a precision, rounded up to four digits."""
    at = best_threshold(scored.label, scored.logit, precision)
    if not np.isfinite(at):
        return 0.5
    return float(np.clip(np.ceil(1e4 / (1 + np.exp(-at))) / 1e4, 0.01, 0.9999))


def finish(
    model: SpectralModel,
    config: TrainConfig,
    recipe: Recipe,
    history: list[dict[str, float]],
    out: Path,
    *,
    command: str,
    bank: GalaxyBank | None = None,
    noise: NoiseModel | None = None,
    galaxies: str | None = None,
    scale: float = 1.0,
) -> dict[str, Any]:
    """Calibrate and measure a trained model, and write ``<name>.safetensors`` and ``<name>.json`` into `out`.

    After no epochs it only measures: calibration and threshold stay as the weights and their card give them.

    Parameters
    ----------
    command : str  what made the model, for the card
    bank, noise : GalaxyBank, NoiseModel  what the spectra are drawn from
    galaxies : str or None  selection that the bank was learned from; None for templates
    scale : float  shrinks the number of spectra that calibrate and measure, for trials

    Returns
    -------
    dict  the card
    """
    template = "model" in model.inputs
    published = PublishedRecipe(template=template)

    def size(n: int) -> int:
        return max(int(n * scale), 1500)

    def scored(kind: Recipe, n: int, seed: int) -> Scored:
        return Scored(model, fresh_batches(kind, size(n), seed, bank, noise))

    calibrated, strict = hasattr(model.network(), "calibration"), None
    if calibrated:
        if config.epochs:
            calibrate(model, scored(recipe, 60_000, CALIBRATION_SEED))
        strict = choose_threshold(scored(published, 150_000, THRESHOLD_SEED))
        if model.threshold_at_precision and config.epochs:
            model.default_threshold = strict
    threshold = model.default_threshold
    paper = scored(published, 15_000, PUBLISHED_TEST_SEED)
    large = scored(published, 150_000, PUBLISHED_TEST_SEED + 1)
    uniform = scored(PublishedRecipe(peak_law="uniform", template=template), 150_000, PUBLISHED_TEST_SEED + 2)
    realistic = scored(RealisticRecipe(template=template), 30_000, REALISTIC_SEED)
    card = {
        "model": model.name,
        "what": (model.__doc__ or "").split("\n")[0],
        "reference": model.reference,
        "command": command,
        "seed": config.seed,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "training": {
            **asdict(config),
            "recipe": describe(recipe),
            "last_epoch": history[-1] if history else {},
        },
        "data": "galaxies: "
        + (f"real spectra of selection {galaxies}" if galaxies is not None else "kcorrect templates"),
        "config": asdict(model.config),
        "threshold": threshold,
        "threshold_from": (
            f"precision {PAPER_PRECISION} on 150,000 held-out spectra of the published recipe"
            if calibrated and model.threshold_at_precision
            else "0.5, as in the paper"
        ),
        f"threshold_at_precision_{PAPER_PRECISION}": strict,
        "calibration": "Platt, at a base rate of 1/15" if calibrated else "none: focal loss as in the paper",
        "metrics": {
            "published_15000": test_figures(paper, threshold, PEAK_EDGES, "peak"),
            "published_150000": test_figures(large, threshold, PEAK_EDGES, "peak"),
            "published_150000_at_0.5": test_figures(large, 0.5, PEAK_EDGES, "peak"),
            "published_150000_uniform_peaks": test_figures(uniform, threshold, PEAK_EDGES, "peak"),
            "realistic": test_figures(realistic, threshold, FLUX_EDGES, "flux"),
            "reliability_published": reliability(large),
            "reliability_realistic": reliability(realistic),
        },
        "reference_figures": {
            "paper_precision": PAPER_PRECISION,
            "paper_completeness": PAPER_COMPLETENESS,
            "peaks": "1.5 to 15, log-uniform unless said; the paper gives only the lower limit",
        },
        "parameters": sum(p.numel() for p in model.network().parameters()),
        "preprocessing_hash": model.preprocessing_hash,
        "weights_hash": model.weights_hash,
    }
    if not config.epochs:  # the weights stay as they were, and so does what is known of their making
        kept = {key: model.card[key] for key in MADE if key in model.card}
        card |= kept | {"measured": card["date"], "measured_by": command}
    write_weights(model, card, out)
    return card


def write_weights(model: SpectralModel, card: dict[str, Any], out: Path) -> None:
    """Weights as safetensors with the card beside them, each through a temporary file."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{model.name}.safetensors"
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.network().state_dict().items()}
    save_file(tensors, path.with_suffix(".tmp"), metadata={"model": model.name})
    path.with_suffix(".tmp").chmod(0o644)
    path.with_suffix(".tmp").replace(path)
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    path.with_suffix(".json.tmp").write_text(text)
    path.with_suffix(".json.tmp").replace(path.with_suffix(".json"))
    model.card = card


def summary(card: dict[str, Any]) -> dict[str, Any]:
    """The figures of a card that a list of models shows."""
    test = card.get("metrics", {}).get("published_150000", {})
    return {
        "threshold": card.get("threshold"),
        "precision": test.get("precision", {}).get("value"),
        "completeness": test.get("completeness", {}).get("value"),
        "false_positive_rate": test.get("false_positive_rate", {}).get("value"),
        "date": card.get("date"),
        "weights_hash": card.get("weights_hash"),
    }


def shipped_summary(name: str) -> dict[str, Any]:
    """Figures of the packaged card of a model; all None for a model without one, such as a filter."""
    path = WEIGHTS_DIR / f"{name}.json"
    return summary(json.loads(path.read_text()) if path.is_file() else {})
