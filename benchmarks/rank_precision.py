"""What a lower precision does to the ranking of image models: int8 and bf16 against fp32 on the same images.

    python -m benchmarks.rank_precision eznet arclet arclet_gri

Simulated tracers among ordinary sources, the very images of the cards that `lensmine train MODEL --epochs 0
--init shipped --test-ordinary 10000` writes. Differences are paired: both precisions are drawn together in
each of 300 bootstrap resamples.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from scoring.backends import make_backend
from scoring.evaluate.metrics import ranking_performance
from scoring.imaging.measure import completeness
from scoring.imaging.run import TEST_SEED
from scoring.imaging.scenes import KINDS
from scoring.imaging.sets import ImageSet, simulate, simulated
from scoring.models.image_base import ImageModel
from scoring.registry import image_model

RESAMPLES = 300
COLUMNS = ("model", "precision", "ranking performance", "change", "completeness at 1e-2", "change")


def logits(model: ImageModel, images: ImageSet, precision: str) -> NDArray[np.float64]:
    """Logit of every image, shape (n,)."""
    backend = make_backend(model, precision=precision)
    with torch.inference_mode():
        return np.concatenate(
            [
                backend.logits(images.inputs(model, np.arange(first, min(first + 512, len(images))))).astype(
                    np.float64
                )
                for first in range(0, len(images), 512)
            ]
        )


def figures(label: NDArray[np.bool_], score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranking performance and completeness at a false-positive rate of 1%."""
    return np.array([ranking_performance(label, score), completeness(label, score, 0.01)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--lenses", type=int, default=1000)
    parser.add_argument("--ordinary", type=int, default=10_000)
    parser.add_argument("--data", type=Path, help="folder that keeps the images; default: a temporary one")
    chosen = parser.parse_args()
    table = Table(*COLUMNS)
    with tempfile.TemporaryDirectory() as temporary:
        for name in chosen.models:
            model = image_model(name, "shipped")
            recipe = model.default_recipe
            folder = (chosen.data or Path(temporary)) / recipe / "test"
            simulate(folder, recipe, chosen.lenses, chosen.ordinary, 1 + TEST_SEED)
            lens, other = simulated(folder)
            survey = ImageSet([part for part in other.parts if part.kind[0] == KINDS.index("ordinary")])
            every = lens + survey
            label = np.arange(len(every)) < len(lens)
            exact = logits(model, every, "fp32")
            rng = np.random.default_rng(0)
            draws = [
                np.concatenate(
                    [
                        rng.integers(len(lens), size=len(lens)),
                        rng.integers(len(lens), len(every), len(survey)),
                    ]
                )
                for _ in range(RESAMPLES)
            ]
            whole = figures(label, exact)
            drawn = np.array([figures(label[rows], exact[rows]) for rows in draws])
            table.add_row(name, "fp32", *cells(whole, drawn, None))
            for precision in ("int8", "bf16"):
                rough = logits(model, every, precision)
                redrawn = np.array([figures(label[rows], rough[rows]) for rows in draws])
                change = (figures(label, rough) - whole, redrawn - drawn)
                table.add_row(name, precision, *cells(figures(label, rough), redrawn, change))
    Console(width=150).print(table)


def cells(
    value: NDArray[np.float64],
    drawn: NDArray[np.float64],
    change: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> list[str]:
    """Each figure with its interval, and its change against fp32."""
    out = []
    for k in range(len(value)):
        out.append(interval(value[k], drawn[:, k], ""))
        out.append("" if change is None else interval(change[0][k], change[1][:, k], "+"))
    return out


def interval(value: float, drawn: NDArray[np.float64], sign: str) -> str:
    """A figure and its 95% interval."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{value:{sign}.4f} ({low:{sign}.4f} to {high:{sign}.4f})"


if __name__ == "__main__":
    main()
