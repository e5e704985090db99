"""Weights of an image model and the card that says what they are worth."""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file

from scoring.backends import make_backend
from scoring.imaging.measure import BASE_RATE, Logits, calibrate, figures, simulated_figures
from scoring.imaging.scenes import KINDS
from scoring.imaging.sets import ImageSet, Prepared
from scoring.imaging.train import Source

if TYPE_CHECKING:
    from scoring.models.image_base import ImageModel


class TestImages(NamedTuple):
    """Simulated images that a model is measured on.

    lens, other : tracers, and negatives of every kind, near misses among them
    conspicuous : tracers with arcs of a high signal to noise
    clear, listed : those of them that count as observable, and sources in the shares of a survey
    """

    lens: ImageSet
    other: ImageSet
    conspicuous: ImageSet
    clear: ImageSet
    listed: ImageSet


def score(model: ImageModel, images: ImageSet, rows: int = 512) -> Logits:
    """Logit of every image of a set, by the fastest backend at hand, shape (n,)."""
    backend = make_backend(model)
    out = []
    with torch.inference_mode():
        for first in range(0, len(images), rows):
            index = np.arange(first, min(first + rows, len(images)))
            out.append(backend.logits(images.inputs(model, index)).astype(np.float64))
    return np.concatenate(out) if out else np.zeros(0)


def finish(
    model: ImageModel,
    about: dict[str, Any],
    held: tuple[Source, Source] | None,
    test: TestImages,
    real: dict[str, tuple[ImageSet, ImageSet | None]],
    out: Path,
) -> dict[str, Any]:
    """Calibrate on what was held back, measure on the test set and on real images, write weights and card.

    Parameters
    ----------
    about : command, seed, training and data, for the card
    held : positives and negatives that calibrate; without them the weights stay as they are
    test : simulated images to measure on
    real : by name, real lenses and, where there are some, real others
    out : folder of the weights

    Returns
    -------
    dict : the card
    """
    network = model.network()
    if held is not None:
        before = _logits_of(model, held)
        network.load_state_dict(model.unpack(model.pack(network.state_dict())))  # measured as it is stored
        after = _logits_of(model, held)
        calibrate(network, *after)
        worst = max(float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True))
        if worst > 0:
            about = about | {"stored_as_int8": {"largest_change_of_a_logit": round(worst, 4)}}
    lens, other, plain, clear, listed = (score(model, images) for images in test)
    ordinary = other[test.other.kind == KINDS.index("ordinary")]
    card: dict[str, Any] = {
        "model": model.name,
        "what": (model.__doc__ or "").split("\n")[0],
        "reference": model.reference,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **about,
        "config": asdict(model.config),
        "calibration": f"Platt, at a share of lenses of {BASE_RATE:g}, on images held back from training",
        "metrics": {
            "simulated": {
                **simulated_figures(lens, other, test.other.kind, test.lens.observable),
                "conspicuous_tracers_among_ordinary": figures(plain, ordinary),
                "clear_tracers_among_survey_sources": figures(clear, listed),
            },
            "real": real_figures(model, real, ordinary),
        },
        "parameters": sum(p.numel() for p in network.parameters()),
        "preprocessing_hash": model.preprocessing_hash,
    }
    threshold = _threshold(ordinary)
    card |= {
        "threshold": threshold,
        "threshold_from": "false-positive rate 1e-3 on simulated survey sources",
        "weights_hash": model.weights_hash,
    }
    write_weights(model, card, out)
    return card


def real_figures(
    model: ImageModel, real: dict[str, tuple[ImageSet, ImageSet | None]], ordinary: Logits
) -> dict[str, Any]:
    """Real lenses ranked among real others, and among simulated survey sources, which shows the gap."""
    out: dict[str, Any] = {}
    for name, (lens, other) in real.items():
        if not len(lens):
            out[name] = {"note": "no cutouts that the model can look at"}
            continue
        found = score(model, lens)
        out[name] = {"lenses_among_simulated_sources": figures(found, ordinary)}
        if other is not None and len(other):
            out[name]["lenses_among_real_others"] = figures(found, score(model, other))
    return out


def _threshold(negative: Logits) -> float:
    """Probability that a thousandth of simulated survey sources reach."""
    return round(float(1 / (1 + np.exp(-np.quantile(negative, 0.999)))), 6)


def _logits_of(model: ImageModel, held: tuple[Source, Source]) -> tuple[Logits, Logits]:
    backend = make_backend(model)
    positive, negative = (
        np.concatenate(
            [
                backend.logits(source.batch(np.arange(first, min(first + 512, len(source)))))
                for first in range(0, len(source), 512)
            ]
        ).astype(np.float64)
        for source in held
    )
    return positive, negative


def write_weights(model: ImageModel, card: dict[str, Any], out: Path) -> None:
    """Weights as safetensors with the card beside them, each through a temporary file."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{model.name}.safetensors"
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.pack(model.network().state_dict()).items()}
    save_file(tensors, path.with_suffix(".tmp"), metadata={"model": model.name})
    path.with_suffix(".tmp").chmod(0o644)
    path.with_suffix(".tmp").replace(path)
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    path.with_suffix(".json.tmp").write_text(text)
    path.with_suffix(".json.tmp").replace(path.with_suffix(".json"))
    model.card = card


def summary(card: dict[str, Any]) -> dict[str, Any]:
    """The figures of a card that a list of models shows."""
    test = card.get("metrics", {}).get("simulated", {}).get("tracers_among_ordinary", {})
    return {
        "threshold": card.get("threshold"),
        "ranking_performance": test.get("ranking_performance", {}).get("value"),
        "completeness_fpr_1e-03": test.get("completeness_fpr_1e-03", {}).get("value"),
        "inspected_for_all": test.get("inspected_for_all", {}).get("value"),
        "date": card.get("date"),
        "weights_hash": card.get("weights_hash"),
    }


__all__ = ["Prepared", "finish", "real_figures", "score", "summary", "write_weights"]
