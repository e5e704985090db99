"""Train an image model on positives and negatives: one loop, read from top to bottom, for all ways to train.

Every epoch has its own seed, so a run that is killed goes on from its last checkpoint with the very
batches that it would have had.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from schema.errors import DataError, UserError
from scoring.evaluate.metrics import roc_area, roc_curve
from scoring.imaging.augment import random_crops, symmetries
from scoring.imaging.scenes import stream
from scoring.imaging.sets import ImageSet, Prepared
from scoring.models.layers import channels_last

if TYPE_CHECKING:
    from scoring.models.image_base import ImageModel

log = logging.getLogger("lensmine.train")

SAVE_EVERY_S = 60.0


class Source(Protocol):
    """Images as network inputs, by index."""

    def __len__(self) -> int: ...

    def batch(self, index: NDArray[np.int64]) -> Tensor:
        """Inputs, shape (len(index), channels, npix, npix)."""


@dataclass(frozen=True)
class FitConfig:
    """Settings of a training run.

    Attributes
    ----------
    epochs : int
    positives : int or None  positives of an epoch, drawn anew for each; all of them by default
    negatives : int  drawn from the pool to accompany each positive
    pool : int or None  negatives in the pool, chosen once; all by default
    batch_size : int  images of both classes
    optimiser : ``sgd`` (Nesterov 0.9), ``adam`` or ``adamw``
    learning_rate : float  at its highest
    schedule : ``steps`` (a tenth from 150/250, a hundredth from 220/250 of the epochs), ``constant`` or
        ``one_cycle``
    weight_decay : float
    symmetries : bool  turn and mirror each image at random
    crop : int or None  side of random crops brought back to size [px]
    transferred : float  factor on the learning rate of the layers called `features`
    ema : float or None  decay of an average of the weights, which is what is kept
    seed : int
    bf16 : bool  compute in bfloat16 where that is safe (weights stay float32), for processors that have such
        instructions
    """

    epochs: int = 250
    positives: int | None = None
    negatives: int = 1
    pool: int | None = 50_000
    batch_size: int = 64
    optimiser: str = "sgd"
    learning_rate: float = 0.1
    schedule: str = "steps"
    weight_decay: float = 1e-4
    symmetries: bool = True
    crop: int | None = None
    transferred: float = 1.0
    ema: float | None = None
    seed: int = 1
    bf16: bool = False

    def rate_at(self, progress: float) -> float:
        """Factor on the learning rate when a share `progress` of the run is done."""
        if self.schedule == "steps":
            return 1.0 if progress < 150 / 250 else 0.1 if progress < 220 / 250 else 0.01
        if self.schedule == "one_cycle":
            if progress < 0.15:
                return 0.05 + 0.95 * progress / 0.15
            return 0.5 * (1 + math.cos(math.pi * (progress - 0.15) / 0.85)) * 0.999 + 0.001
        if self.schedule == "constant":
            return 1.0
        raise UserError(f"no schedule is called {self.schedule!r}; choose from steps, constant, one_cycle")


PUBLISHED_EZNET = FitConfig()
"""Pourrahmani (2019), sections 4.2 and 4.6: negative learning, symmetries, Nesterov momentum, two steps."""

PUBLISHED_LENSFLOW = FitConfig(
    epochs=20, batch_size=128, optimiser="adam", learning_rate=1e-3, schedule="constant", weight_decay=0.0,
    crop=90, transferred=0.1,
)  # fmt: skip
"""Sections 2.2 to 2.4: 64 and 64 in a batch, Adam, crops, a tenth of the rate for transferred layers."""

TODAY = FitConfig(
    epochs=30, negatives=1, batch_size=128, optimiser="adamw", learning_rate=4e-3, schedule="one_cycle",
    weight_decay=0.02, ema=0.998, pool=None,
)  # fmt: skip
"""One cycle of AdamW, with the average of the weights."""

Tell = Callable[[dict[str, float]], None]


def fit(
    model: ImageModel,
    positives: ImageSet | Source,
    negatives: ImageSet | Source,
    config: FitConfig,
    out: Path | None = None,
    *,
    test: tuple[ImageSet | Source, ImageSet | Source] | None = None,
    test_every: int = 1,
    resume: bool = False,
    device: str = "cpu",
    tell: Tell | None = None,
) -> list[dict[str, float]]:
    """Train the model's network in place, from the weights that it has.

    Every batch holds positives in random order, each accompanied by `config.negatives` images drawn at
    random from the pool (negative learning), so the negatives differ from epoch to epoch.

    Parameters
    ----------
    model : ImageModel
    positives, negatives : ImageSet, whose images are preprocessed first, or network inputs by index
    config : FitConfig
    out : Path or None  folder for `checkpoint.pt` and `history.jsonl`; nothing is written without one
    test : held-out positives and negatives, ranked after every `test_every` epochs and the last
    resume : bool  go on from the checkpoint in `out`
    device : ``cpu`` or ``cuda``
    tell : called with the figures of every epoch

    Returns
    -------
    history : figures of every epoch

    Raises
    ------
    UserError
        If there are no positives or negatives, `out` holds another run, or there is nothing to resume.
    """
    lens, other = prepared(model, positives), prepared(model, negatives)
    if not len(lens) or not len(other):
        raise UserError(f"{len(lens)} positives and {len(other)} negatives: training needs both")
    tests = tuple(prepared(model, t) for t in test) if test is not None else None
    checkpoint = out / "checkpoint.pt" if out is not None else None
    if checkpoint is not None and checkpoint.exists() and not resume:
        raise UserError(f"{checkpoint} is there already: add --resume to go on, or name another --out")
    pool = np.random.default_rng(config.seed).permutation(len(other))[: config.pool]
    network = channels_last(model.network()).to(device)
    average = copy.deepcopy(network).eval() if config.ema else None
    optimiser = make_optimiser(network, config)
    history: list[dict[str, float]] = []
    epoch = 0
    if resume:
        if checkpoint is None or not checkpoint.is_file():
            raise UserError("nothing to resume: there is no checkpoint in the output folder")
        epoch, history = _load(checkpoint, config, network, average, optimiser)
        log.info("resumed after epoch %d of %d", epoch, config.epochs)
    half = max(1, config.batch_size // (1 + config.negatives))
    saved = time.monotonic()
    while epoch < config.epochs:
        started, losses, seen = time.monotonic(), [], 0
        rng = np.random.default_rng((config.seed, epoch))
        torch.manual_seed(stream(config.seed, epoch, 1).initial_seed())
        generator = stream(config.seed, epoch)
        network.train()
        order = rng.permutation(len(lens))[: config.positives]
        if len(order) >= half:
            order = order[: len(order) // half * half]  # whole batches: batch normalisation dislikes crumbs
        steps = math.ceil(len(order) / half)
        for step in range(steps):
            some = order[step * half : (step + 1) * half]
            drawn = pool[rng.integers(len(pool), size=len(some) * config.negatives)]
            x = torch.cat([lens.batch(some), other.batch(drawn)])
            label = torch.cat([torch.ones(len(some)), torch.zeros(len(drawn))]).to(device)
            if config.symmetries:
                x = symmetries(x, generator)
            if config.crop is not None:
                x = random_crops(x, config.crop, generator)
            x = x.to(device, memory_format=torch.channels_last)
            rate = config.learning_rate * config.rate_at((epoch + step / steps) / config.epochs)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["factor"]
            with torch.autocast(x.device.type, torch.bfloat16, enabled=config.bf16):
                loss = model.loss(network, x, label)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            if average is not None and config.ema:
                _follow(average, network, config.ema, epoch * steps + step)
            losses.append(float(loss.detach()))
            seen += len(x)
        epoch += 1
        network.eval()
        figures = {"epoch": float(epoch), "loss": float(np.mean(losses)), "rate": rate}
        figures["images_per_s"] = seen / (time.monotonic() - started)
        if tests is not None and (epoch % test_every == 0 or epoch == config.epochs):
            figures |= quick_figures(average or network, tests[0], tests[1], device)
        history.append(figures)
        log.info(" ".join(f"{key}={value:.5g}" for key, value in figures.items()))
        if tell is not None:
            tell(figures)
        if checkpoint is not None and (time.monotonic() - saved > SAVE_EVERY_S or epoch == config.epochs):
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            _save(checkpoint, config, network, average, optimiser, epoch, history)
            saved = time.monotonic()
    if average is not None:
        network.load_state_dict(average.state_dict())
    network.eval().to("cpu")
    return history


def prepared(model: ImageModel, images: ImageSet | Source) -> Source:
    """Network inputs of a set; those that are inputs already stay as they are."""
    return Prepared(images, model) if isinstance(images, ImageSet) else images


def make_optimiser(network: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    """The optimiser of a run, transferred layers in a group of their own."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        factor = config.transferred if name.startswith("features.") else 1.0
        decay = 0.0 if config.optimiser == "adamw" and parameter.ndim < 2 else config.weight_decay
        groups.setdefault((factor, decay), []).append(parameter)
    listed: list[dict[str, Any]] = [
        {"params": p, "factor": factor, "weight_decay": decay, "lr": config.learning_rate * factor}
        for (factor, decay), p in groups.items()
    ]
    if config.optimiser == "sgd":
        return torch.optim.SGD(listed, lr=config.learning_rate, momentum=0.9, nesterov=True)
    if config.optimiser == "adam":
        return torch.optim.Adam(listed, lr=config.learning_rate)
    if config.optimiser == "adamw":
        return torch.optim.AdamW(listed, lr=config.learning_rate)
    raise UserError(f"no optimiser is called {config.optimiser!r}; choose from sgd, adam, adamw")


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the average of the weights a little towards them; faster in the beginning."""
    decay = min(decay, (1 + step) / (10 + step))
    state = network.state_dict()
    for key, value in average.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(state[key], 1 - decay)
        else:
            value.copy_(state[key])


@torch.inference_mode()
def logits(network: nn.Module, images: Source, device: str = "cpu", rows: int = 256) -> NDArray[np.float64]:
    """Logit of every image, shape (n,)."""
    network.eval()
    out = [
        network(images.batch(np.arange(first, min(first + rows, len(images)))).to(device))
        .double()
        .cpu()
        .numpy()
        for first in range(0, len(images), rows)
    ]
    return np.concatenate(out) if out else np.zeros(0)


def quick_figures(network: nn.Module, lens: Source, other: Source, device: str = "cpu") -> dict[str, float]:
    """Area under the ROC curve, and completeness at a false-positive rate of 1%, on held-out images."""
    score = np.concatenate([logits(network, lens, device), logits(network, other, device)])
    label = np.arange(len(score)) < len(lens)
    fpr, tpr, _ = roc_curve(label, score)
    return {"auc": roc_area(label, score), "completeness_fpr_1e-2": float(tpr[fpr <= 0.01].max())}


def _save(
    path: Path,
    config: FitConfig,
    network: nn.Module,
    average: nn.Module | None,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    history: list[dict[str, float]],
) -> None:
    state = {
        "config": asdict(config),
        "network": network.state_dict(),
        "average": average.state_dict() if average is not None else None,
        "optimiser": optimiser.state_dict(),
        "epoch": epoch,
        "history": history,
    }
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
    path.with_name("history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))


def _load(
    path: Path,
    config: FitConfig,
    network: nn.Module,
    average: nn.Module | None,
    optimiser: torch.optim.Optimizer,
) -> tuple[int, list[dict[str, float]]]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"{path} is not a checkpoint: {str(error).splitlines()[0]}") from error
    changed = [key for key, value in asdict(config).items() if state["config"].get(key) != value]
    if changed:
        raise UserError(
            f"{path} was made with other settings of {', '.join(changed)}: use those, or name another --out"
        )
    network.load_state_dict(state["network"])
    if average is not None:
        average.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["epoch"]), list(state["history"])
