"""Train a model on simulated spectra: a loop to be read from top to bottom.

Data are drawn as they are needed, every chunk from a generator seeded with (seed, chunk number), so no
spectrum is seen twice, and a run that is killed goes on from its checkpoint with the very batches that it
would have had. The checkpoint holds weights, optimiser, random state and the configuration it was made with.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from schema.errors import DataError, UserError
from scoring.generate.recipes import Batch, Recipe, describe
from scoring.models.base import SpectralModel
from scoring.noise import NoiseModel
from scoring.pca import GalaxyBank
from scoring.registry import spectral_class

log = logging.getLogger("lensmine.train")

CHUNK = 4096  # spectra drawn at once; a multiple of the batch size
TEST_SEED = 1_000_003  # keeps the test spectra apart from every training chunk


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run.

    Attributes
    ----------
    model : str  registered name
    epochs : int
    spectra_per_epoch : int  rounded up to chunks of 4096; 135,000 are nine tenths of the paper's 150,000
    test_spectra : int  the other tenth, the same after every epoch
    batch_size : int
    learning_rate : float  at its highest; warmed up, then a half cosine down to 1% of it
    weight_decay : float
    positive_fraction : float  share of training spectra with a line; more than the recipe's, since most lines
        are plain to see and few teach anything. The test keeps the recipe's share, and calibration restores
        it.
    init : str or None  weights to start from: a safetensors file, or "shipped"
    seed : int
    checkpoint_chunks : int  chunks between checkpoints
    """

    model: str
    epochs: int = 20
    spectra_per_epoch: int = 135_000
    test_spectra: int = 15_000
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    positive_fraction: float = 0.5
    init: str | None = None
    seed: int = 1
    checkpoint_chunks: int = 10

    @property
    def chunks_per_epoch(self) -> int:
        return math.ceil(self.spectra_per_epoch / CHUNK)

    @property
    def chunks(self) -> int:
        return self.epochs * self.chunks_per_epoch

    def learning_rate_at(self, progress: float) -> float:
        """Learning rate when a share `progress` of the run is done."""
        warm = min(1.0, (progress + 1e-4) / 0.03)
        return self.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(
    config: TrainConfig,
    recipe: Recipe,
    out: Path,
    *,
    bank: GalaxyBank | None = None,
    noise: NoiseModel | None = None,
    resume: bool = False,
    device: str = "cpu",
) -> tuple[SpectralModel, list[dict[str, float]]]:
    """Train a model and keep checkpoints in `out`.

    Parameters
    ----------
    config : TrainConfig
    recipe : PublishedRecipe or RealisticRecipe  draws the spectra
    out : Path  folder for `checkpoint.pt` and `history.jsonl`; made if it is missing
    bank, noise : galaxies and noise to draw from; default kcorrect templates and BOSS
    resume : bool  go on from the checkpoint in `out`
    device : str  ``cpu`` or ``cuda``; on cuda in bfloat16 mixed precision

    Returns
    -------
    (model, history) : the trained model in evaluation mode; figures after each epoch

    Raises
    ------
    UserError
        If `model` cannot be trained, `out` holds another run, or there is nothing to resume.
    """
    cls = spectral_class(config.model)
    if cls.kind != "network":
        raise UserError(f"{config.model} is a filter: it has no weights to train")
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists() and not resume:
        raise UserError(f"{checkpoint} is there already: add --resume to go on, or name another --out")
    torch.manual_seed(config.seed)
    richer = replace(recipe, positive_fraction=config.positive_fraction)
    model = cls()
    if config.init is not None and not resume:
        model.load(config.init)
    network = model.network().to(device)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    chunk, history = 0, list[dict[str, float]]()
    if resume:
        chunk, history = load_checkpoint(checkpoint, config, recipe, network, optimiser)
        log.info("resumed at chunk %d of %d", chunk, config.chunks)
    test = list(held_out_chunks(config, recipe, bank, noise, device))
    bfloat16 = torch.autocast(device, dtype=torch.bfloat16, enabled=device.startswith("cuda"))

    while chunk < config.chunks:
        started, losses = time.monotonic(), []
        network.train()
        end = _end_of_epoch(chunk, config)
        while chunk < end:
            data = richer.sample(CHUNK, seeded(config.seed, chunk, device), bank, noise)
            inputs = model.preprocess(data.flux, data.ivar, data.z, **data.more())
            for step, rows in enumerate(torch.arange(CHUNK, device=device).split(config.batch_size)):
                progress = (chunk + step * config.batch_size / CHUNK) / config.chunks
                for group in optimiser.param_groups:
                    group["lr"] = config.learning_rate_at(progress)
                with bfloat16:
                    loss = model.loss(network, inputs[rows], data.label[rows], data.lines.take(rows))
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
                optimiser.step()
                losses.append(loss.detach())
            chunk += 1
            if chunk % config.checkpoint_chunks == 0:
                save_checkpoint(checkpoint, config, recipe, network, optimiser, chunk, history)
        network.eval()
        figures = epoch_figures(model, test)
        figures |= {
            "epoch": chunk // config.chunks_per_epoch,
            "train_loss": float(torch.stack(losses).mean()) if losses else math.nan,
            "spectra_per_s": len(losses) * config.batch_size / (time.monotonic() - started),
        }
        history.append(figures)
        log.info(" ".join(f"{key}={value:.5g}" for key, value in figures.items()))
        save_checkpoint(checkpoint, config, recipe, network, optimiser, chunk, history)
        (out / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    network.eval()
    return model, history


def _end_of_epoch(chunk: int, config: TrainConfig) -> int:
    return (chunk // config.chunks_per_epoch + 1) * config.chunks_per_epoch


def seeded(seed: int, chunk: int, device: str | torch.device = "cpu") -> torch.Generator:
    """Generator of one chunk of a run: both numbers count.

    A CPU generator uses the low 32 bits of its seed alone, so seed and chunk are hashed into them.
    """
    words = np.random.SeedSequence((seed, chunk)).generate_state(1)
    return torch.Generator(device=device).manual_seed(int(words[0]))


def held_out_chunks(
    config: TrainConfig,
    recipe: Recipe,
    bank: GalaxyBank | None = None,
    noise: NoiseModel | None = None,
    device: str = "cpu",
) -> Iterator[Batch]:
    """The test spectra of a run, in chunks."""
    left, chunk = config.test_spectra, 0
    while left > 0:
        yield recipe.sample(min(left, CHUNK), seeded(config.seed + TEST_SEED, chunk, device), bank, noise)
        left, chunk = left - CHUNK, chunk + 1


def score_batches(model: SpectralModel, batches: list[Batch], rows: int = 256) -> tuple[Tensor, Tensor]:
    """Logits and labels of simulated batches, each shape (n,), on the CPU."""
    logits, labels = [], []
    network = model.network()
    with torch.inference_mode():
        for batch in batches:
            for some in torch.arange(len(batch.label), device=batch.label.device).split(rows):
                inputs = model.preprocess(
                    batch.flux[some], batch.ivar[some], batch.z[some], **batch.more(some)
                )
                logits.append(network(inputs).float().cpu())
            labels.append(batch.label.cpu())
    return torch.cat(logits), torch.cat(labels)


def epoch_figures(model: SpectralModel, test: list[Batch]) -> dict[str, float]:
    """Precision and completeness (paper, section 2.2) at the model's threshold, and at precision 0.9954."""
    logit, label = score_batches(model, test)
    hit = torch.sigmoid(logit) >= model.default_threshold
    true = hit & (label > 0)
    order = logit.argsort(descending=True)
    good = label[order].cumsum(0)
    precise = (good / torch.arange(1, len(good) + 1) >= 0.9954).nonzero()[:, 0]
    return {
        "precision": float(true.sum() / hit.sum().clamp(min=1)),
        "completeness": float(true.sum() / label.sum()),
        "completeness_at_9954": float(good[precise[-1]] / label.sum()) if len(precise) else 0.0,
        "test_loss": float(torch.nn.functional.binary_cross_entropy_with_logits(logit, label)),
    }


def save_checkpoint(
    path: Path,
    config: TrainConfig,
    recipe: Recipe,
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    chunk: int,
    history: list[dict[str, float]],
) -> None:
    """Write all that the run needs to go on exactly, through a temporary file."""
    state = {
        "config": asdict(config),
        "recipe": describe(recipe),
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "random": torch.get_rng_state(),
        "chunk": chunk,
        "history": history,
    }
    if torch.cuda.is_available():
        state["random_cuda"] = torch.cuda.get_rng_state()
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def load_checkpoint(
    path: Path,
    config: TrainConfig,
    recipe: Recipe,
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
) -> tuple[int, list[dict[str, float]]]:
    """Put a checkpoint's state into place; number of chunks done, and the figures so far.

    Raises
    ------
    UserError
        If there is no checkpoint, or its configuration differs from the one asked for.
    DataError
        If it cannot be read.
    """
    if not path.is_file():
        raise UserError(f"nothing to resume: {path} does not exist")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"{path} is not a checkpoint: {str(error).splitlines()[0]}") from error
    asked = {**asdict(config), "recipe": describe(recipe)}
    held = {**state["config"], "recipe": state["recipe"]}
    changed = [key for key in asked if _plain(asked[key]) != _plain(held.get(key))]
    if changed:
        raise UserError(
            f"{path} was made with other settings of {', '.join(changed)}: use those, or name another --out"
        )
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    torch.set_rng_state(state["random"])
    if "random_cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["random_cuda"])
    return int(state["chunk"]), list(state["history"])


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
