"""One training run from start to card, as the command asks for it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from schema.errors import UserError
from scoring.card import finish
from scoring.generate.galaxies import template_bank
from scoring.generate.recipes import get_recipe
from scoring.noise import load_noise
from scoring.registry import spectral_class
from scoring.train import TrainConfig, train


@dataclass(frozen=True)
class TrainRequest:
    """What ``lensmine train`` was asked; None means the model's own default."""

    model: str
    out: Path
    recipe: str | None = None
    selection: str | None = None
    epochs: int | None = None
    spectra: int = 135_000
    seed: int = 1
    noise: Path | None = None
    init: str | None = None
    learning_rate: float | None = None
    resume: bool = False
    device: str = "auto"
    quick: bool = False
    db: str | None = None

    def command(self) -> str:
        """The command that repeats this run."""
        words = ["lensmine", "train", self.model]
        for option in ("recipe", "selection", "epochs", "spectra", "seed", "noise", "init", "learning_rate"):
            value = getattr(self, option)
            if value is not None:
                words += ["--" + option.replace("_", "-"), str(value)]
        return shlex.join(words)


def run_training(request: TrainRequest) -> dict[str, Any]:
    """Train, calibrate, measure; the card.

    Raises
    ------
    UserError
        Unknown model, recipe, selection or device; an output folder in use; nothing to resume.
    DataError
        Too few spectra in the selection, or a damaged file.
    """
    cls = spectral_class(request.model)
    recipe = get_recipe(request.recipe or cls.default_recipe, template="model" in cls.inputs)
    device = _device(request.device)
    bank = None
    if request.selection is not None:
        from scoring.training_spectra import bank_from_selection

        bank = bank_from_selection(request.db, request.selection)
    elif cls.training_galaxies:
        bank = template_bank(**cls.training_galaxies)
    noise = load_noise(request.noise) if request.noise is not None else None
    config = TrainConfig(
        model=request.model,
        epochs=TrainConfig.epochs if request.epochs is None else request.epochs,
        spectra_per_epoch=request.spectra,
        seed=request.seed,
        init=request.init,
        learning_rate=request.learning_rate or TrainConfig.learning_rate,
        test_spectra=min(TrainConfig.test_spectra, max(request.spectra // 9, 1000)),
    )
    model, history = train(
        config, recipe, request.out, bank=bank, noise=noise, resume=request.resume, device=device
    )
    model.network().to("cpu")
    return finish(
        model,
        config,
        recipe,
        history,
        request.out,
        command=request.command(),
        bank=bank,
        noise=noise,
        galaxies=request.selection,
        scale=0.05 if request.quick else 1.0,
    )


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is at hand: leave out --device, or say --device cpu")
    if name not in {"cpu", "cuda"}:
        raise UserError(f"no device is called {name!r}; choose from auto, cpu, cuda")
    return name
