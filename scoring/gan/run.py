"""The jobs behind ``lensmine gan`` and ``lensmine ablation``: stamps in; weights, card and results out."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from schema.errors import UserError
from scoring.gan.ablation import AblationConfig, Pools, Stamps, ablate
from scoring.gan.stamps import simulated_stamps, stamps_of
from scoring.gan.train import GanConfig, Progress, augment, pretrain
from scoring.models.lens_gan import LensGan

TEST_SEED = 7_000_003
"""Keeps the stamps that judge apart from those that teach."""


@dataclass(frozen=True)
class GanRequest:
    """What ``lensmine gan`` was asked for.

    Attributes
    ----------
    out : folder of checkpoint, weights, card and stamps
    lenses, ordinary : selections of cutouts, or None for simulated ones
    known : lenses to learn from
    config : settings
    db : database of the selections
    """

    out: Path
    lenses: str | None
    ordinary: str | None
    known: int
    config: GanConfig
    db: str | None = None


def run_gan(request: GanRequest, progress: Progress | None = None) -> dict[str, Any]:
    """Train the generator; returns its card.

    Raises
    ------
    UserError
        A selection with too few cutouts in i, r and g.
    """
    request.out.mkdir(parents=True, exist_ok=True)
    n_pool = 5000
    seed = request.config.seed
    lenses, others = (
        simulated_stamps(request.out / "simulated", request.known, n_pool, seed)
        if request.lenses is None or request.ordinary is None
        else (None, None)
    )
    if request.lenses is not None:
        lenses = selected_stamps(request.db, request.lenses)[: request.known]
    if request.ordinary is not None:
        others = selected_stamps(request.db, request.ordinary)
    assert lenses is not None
    assert others is not None
    checkpoint = request.out / "gan.pt"
    made = augment(lenses, others, request.config, checkpoint, progress)
    np.save(request.out / "lenses.npy", made)
    weights = request.out / "lens_gan.safetensors"
    last = torch.load(checkpoint, weights_only=True)["last"]
    save_file({k: v.contiguous() for k, v in last.items()}, weights)
    model = LensGan()
    model.load(weights)
    picture = request.out / "lenses.png"
    mosaic(lenses, made, picture)
    card = {
        "model": "lens_gan",
        "command": " ".join(["lensmine", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seed": seed,
        "known": request.lenses or f"{len(lenses)} simulated lenses, family hsc",
        "ordinary": request.ordinary or f"{len(others)} simulated sources, family hsc",
        "n_known": len(lenses),
        "n_generated": len(made),
        "config": asdict(request.config),
        "note": "weights are those of the last cycle",
        "weights_hash": model.weights_hash,
        "weights": str(weights),
        "stamps": str(request.out / "lenses.npy"),
        "picture": str(picture),
    }
    weights.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card


def selected_stamps(db: str | None, selection: str) -> Stamps:
    """Colour stamps, 64x64 in i, r, g, of a selection's primary cutouts, shape (n, 3, 64, 64).

    Raises
    ------
    UserError
        If fewer than two cutouts have the bands and the size.
    """
    from scoring.imaging.selected import selected_images

    images = selected_images(db, selection, LensGan())
    if len(images) < 2:
        raise UserError(
            f"selection {selection!r} has {len(images)} cutouts in i, r and g of 64x64 pixels or more; "
            "at least 2 are needed"
        )
    stamps = stamps_of(images)
    ny, nx = stamps.shape[2:]
    y, x = (ny - 64) // 2, (nx - 64) // 2
    return np.ascontiguousarray(stamps[:, :, y : y + 64, x : x + 64])


def run_ablation(
    out: Path,
    config: AblationConfig,
    generate: GanConfig,
    pool: int,
    test_lenses: int,
    test_ordinary: int,
    tell: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Draw the stamps and train every arm for every seed; results in ``out/results.jsonl`` too."""
    out.mkdir(parents=True, exist_ok=True)
    known = config.known * max(config.seeds)
    lenses, ordinary = simulated_stamps(out / "train", known, pool, 1)
    test = simulated_stamps(out / "test", test_lenses, test_ordinary, TEST_SEED)

    start = out / "pretrained.pt"

    def draw(few: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        path = out / f"gan-{seed}.pt"
        seen: set[str] = set()

        def stage(name: str, done: int, total: int) -> None:
            if tell is not None and name not in seen:
                seen.add(name)
                tell(f"  generator, {name}: {total} steps")

        if not start.is_file():  # ordinary stamps teach the same whatever the lenses, so once is enough
            torch.save(pretrain(ordinary, generate, stage), start)
        state = torch.load(start, weights_only=True)
        return augment(few, ordinary, replace(generate, seed=seed), path, stage, state)

    return ablate(Pools(lenses, ordinary, *test), draw, config, out=out / "results.jsonl", tell=tell)


def mosaic(known: Stamps, made: Stamps, path: Path, columns: int = 12) -> None:
    """Picture of two rows of known lenses above four rows of drawn ones."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    some = np.linspace(0, len(made) - 1, 4 * columns).astype(int)
    shown = np.concatenate([known[np.arange(2 * columns) % len(known)], made[some]])
    figure, axes = plt.subplots(6, columns, figsize=(columns, 6.6))
    for k, (axis, stamp) in enumerate(zip(axes.flat, shown, strict=True)):
        axis.imshow(np.moveaxis(stamp, 0, 2), origin="lower", interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        if k in (0, 2 * columns):
            axis.set_ylabel("known" if k == 0 else "drawn")
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=100)
    plt.close(figure)
