"""One training run of an image model from start to card, as the command asks for it."""

from __future__ import annotations

import logging
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from schema.errors import UserError
from scoring.imaging import train
from scoring.imaging.card import TestImages, finish
from scoring.imaging.scenes import KINDS, LEARN, MIXES, family
from scoring.imaging.selected import selected_images
from scoring.imaging.sets import ImageSet, Prepared, simulate, simulated
from scoring.imaging.train import FitConfig, fit
from scoring.registry import model_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scoring.models.image_base import ImageModel

log = logging.getLogger("lensmine.train")

TEST_SEED = 7919
CONSPICUOUS_SNR = 60.0
"""Signal to noise of arcs from which people find a lens by eye; the thesis's tracers are such."""
HELD_BACK = 0.1
"""Share of the images that calibrates instead of training."""
PRETRAIN_ROUNDS, PRETRAIN_EPOCHS_OF = 8, 20
"""LensFlow: 8 rounds of pretraining to 20 epochs of the coarse phase."""


@dataclass(frozen=True)
class ImageTrainRequest:
    """What ``lensmine train`` was asked for an image model; None means the model's own default.

    Attributes
    ----------
    model : registered name
    out : folder for checkpoint, weights and card
    recipe : family of simulated images
    lenses, ordinary : simulated lenses (with as many near misses) and survey sources to train on
    test_lenses, test_ordinary : the same to measure on
    positives, negatives : selections of real cutouts; positives replace the simulated lenses, negatives the
        simulated survey sources
    tracers : selections of real lenses to measure on, each alone or as LENSES:OTHERS
    epochs, batch_size, learning_rate : of training
    per_epoch : positives of an epoch
    data : folder of the simulated images, which several models may share
    near_misses : whether galaxies as the lenses', alone or beside another, are among the negatives; the
        thesis's were survey sources alone
    min_snr : signal to noise of the arcs from which a simulated lens is among the positives; people found
        the thesis's by eye
    bf16 : whether to train in bfloat16
    how : ``published`` as the model's paper says, ``today`` with one cycle of AdamW; None for the model's own
    """

    model: str
    out: Path
    recipe: str | None = None
    lenses: int = 20_000
    ordinary: int = 50_000
    test_lenses: int = 1000
    test_ordinary: int = 20_000
    positives: str | None = None
    negatives: str | None = None
    tracers: tuple[str, ...] = ()
    epochs: int | None = None
    per_epoch: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    init: str | None = None
    seed: int = 1
    data: Path | None = None
    resume: bool = False
    device: str = "auto"
    quick: bool = False
    db: str | None = None
    how: str | None = None
    near_misses: bool = True
    min_snr: float | None = None
    bf16: bool = False

    def command(self) -> str:
        """The command that repeats this run."""
        words = ["lensmine", "train", self.model]
        default = ImageTrainRequest(self.model, self.out)
        for option in (
            "recipe", "lenses", "ordinary", "test_lenses", "test_ordinary", "positives", "negatives",
            "how", "min_snr", "epochs", "per_epoch", "batch_size", "learning_rate", "init", "seed",
        ):  # fmt: skip
            value = getattr(self, option)
            if value is not None and value != getattr(default, option):
                words += ["--" + option.replace("_", "-"), str(value)]
        if not self.near_misses:
            words.append("--no-near-misses")
        if self.bf16:
            words.append("--bf16")
        for tracers in self.tracers:
            words += ["--tracers", tracers]
        return shlex.join(words)


def published_config(name: str, how: str | None = None) -> FitConfig:
    """How a model is trained: as its paper says, or as one does today.

    Raises
    ------
    UserError  `how` is neither ``published`` nor ``today``
    """
    if how == "today":
        return train.TODAY
    if how not in (None, "published"):
        raise UserError(f"no way to train is called {how!r}; choose from published, today")
    if name.startswith("eznet"):
        return train.PUBLISHED_EZNET
    return train.PUBLISHED_LENSFLOW if name == "lensflow" else train.TODAY


def run_image_training(request: ImageTrainRequest) -> dict[str, Any]:
    """Simulate what is missing, train, calibrate, measure; the card.

    Raises
    ------
    UserError
        Unknown model, family or selection; an output folder in use; nothing to resume; no images.
    DataError
        A folder with images of another recipe, or a damaged file.
    """
    cls = model_class(request.model)
    model: ImageModel = cls()  # type: ignore[assignment]
    if model.kind != "network":
        raise UserError(f"{request.model} is a filter: it has no weights to train")
    name = request.recipe or model.default_recipe
    family(name)
    config = published_config(request.model, request.how)
    changes = {
        key: value
        for key, value in (
            ("epochs", request.epochs),
            ("positives", request.per_epoch),
            ("batch_size", request.batch_size),
            ("learning_rate", request.learning_rate),
        )
        if value is not None
    }
    config = replace(config, seed=request.seed, bf16=request.bf16, **changes)  # type: ignore[arg-type]
    torch.manual_seed(request.seed)
    began = {}
    if request.init is not None:
        model.load(request.init)
        began = {
            "started_from": {
                "weights_hash": model.weights_hash,
                "command": model.card.get("command"),
                "images_seen": model.card.get("training", {}).get("images_seen"),
            }
        }
    data = request.data or request.out / "images"
    device = _device(request.device)

    if not config.epochs:
        return _measure_only(request, model, name, data)
    lens, other = _training_images(request, model, name, data)
    rng = np.random.default_rng(request.seed)
    lens_fit, lens_held = _split(len(lens), rng)
    other_fit, other_held = _split(len(other), rng)
    if request.min_snr is not None:
        lens_fit = clear_lenses(lens.arc_snr, lens_fit, request.min_snr)
        lens_held = clear_lenses(lens.arc_snr, lens_held, request.min_snr)
    if not request.near_misses:
        other_fit, other_held = survey_sources(other.kind, other_fit), survey_sources(other.kind, other_held)
    cache = data / "inputs" / f"{model.name}-{model.preprocessing_hash[:8]}"
    every_lens = Prepared(lens, model, cache / "lens.npy")
    every_other = Prepared(other, model, cache / "other.npy")
    if request.model == "lensflow" and config.transferred < 1 and request.init is None and not request.resume:
        _pretrain(model, every_other, other.kind, other_fit, config, device)
    some_other = rng.choice(other_held, min(1200, len(other_held)), False)
    history = fit(
        model, Rows(every_lens, lens_fit), Rows(every_other, other_fit), config, request.out,
        test=(Rows(every_lens, lens_held[:400]), Rows(every_other, some_other)),
        test_every=max(1, config.epochs // 5), resume=request.resume, device=device,
    )  # fmt: skip
    about = {
        "command": request.command(),
        "seed": request.seed,
        "training": {
            **asdict(config),
            "how": request.how or ("published" if config.schedule != "one_cycle" else "today"),
            "published_epochs": published_config(request.model).epochs,
            "images_seen": len(history)
            * (1 + config.negatives)
            * min(len(lens_fit), config.positives or len(lens_fit)),
            "last_epoch": history[-1] if history else {},
            **began,
        },
        "data": _describe(request, name, len(lens), len(other)),
    }
    return finish(
        model, about, (Rows(every_lens, lens_held), Rows(every_other, other_held)),
        _test_images(request, name, data), _real_images(request, model), request.out,
    )  # fmt: skip


def _measure_only(request: ImageTrainRequest, model: ImageModel, name: str, data: Path) -> dict[str, Any]:
    """A new card for weights at hand: what it says of their training stays."""
    if request.init is None:
        raise UserError(
            "--epochs 0 measures weights that are there: name them with --init, or say --init shipped"
        )
    kept = ("command", "seed", "training", "data", "stored_as_int8")
    about = {key: model.card[key] for key in kept if key in model.card} | {"measured_by": request.command()}
    images, real = _test_images(request, name, data), _real_images(request, model)
    return finish(model, about, None, images, real, request.out)


def _test_images(request: ImageTrainRequest, name: str, data: Path) -> TestImages:
    """Simulated images to measure on, of seeds of their own."""
    scale = 0.05 if request.quick else 1.0
    n_lens, n_ordinary = (
        max(round(request.test_lenses * scale), 20),
        max(round(request.test_ordinary * scale), 100),
    )
    simulate(data / "test", name, n_lens, n_ordinary, request.seed + TEST_SEED)
    plain = replace(MIXES[name], min_snr=CONSPICUOUS_SNR)
    simulate(data / "conspicuous", name, max(n_lens // 4, 20), 0, request.seed + TEST_SEED + 1, plain)
    clear = replace(plain, observable=True, survey=True)
    simulate(data / "clear", name, n_lens, n_ordinary, request.seed + TEST_SEED + 2, clear)
    tracers, listed = simulated(data / "clear")
    return TestImages(
        *simulated(data / "test"), simulated(data / "conspicuous")[0], tracers,
        listed.take(survey_sources(listed.kind, np.arange(len(listed)))),
    )  # fmt: skip


def _real_images(
    request: ImageTrainRequest, model: ImageModel
) -> dict[str, tuple[ImageSet, ImageSet | None]]:
    """Real lenses and others by what ``--tracers`` called them."""
    real: dict[str, tuple[ImageSet, ImageSet | None]] = {}
    for tracers in request.tracers:
        pair = [selected_images(request.db, name, model) for name in tracers.split(":", 1)]
        real[tracers] = (pair[0], pair[1] if len(pair) > 1 else None)
    return real


class Rows:
    """Some rows of prepared inputs."""

    def __init__(self, whole: train.Source, rows: NDArray[np.int64]) -> None:
        self.whole, self.rows = whole, rows

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: NDArray[np.int64]) -> torch.Tensor:
        """Inputs of some of the rows."""
        return self.whole.batch(self.rows[index])


def _training_images(
    request: ImageTrainRequest, model: ImageModel, name: str, data: Path
) -> tuple[ImageSet, ImageSet]:
    """Positives and negatives: simulated, and real where selections name some."""
    folder = data / "train"
    n_ordinary = request.ordinary if request.negatives is None else 0
    simulate(folder, name, request.lenses, n_ordinary, request.seed, LEARN[name])
    lens, other = simulated(folder)
    if request.negatives is not None:
        real = selected_images(request.db, request.negatives, model)
        near = ImageSet([p for p in other.parts if len(p.kind) and p.kind[0] != KINDS.index("ordinary")])
        other = real + near
        if not len(real):
            raise UserError(f"selection {request.negatives!r} has no cutouts that {model.name} can look at")
    if request.positives is not None:
        lens = selected_images(request.db, request.positives, model)
        if len(lens) < 10:
            raise UserError(
                f"selection {request.positives!r} has {len(lens)} cutouts to learn from: 10 are needed"
            )
    return lens, other


def _pretrain(
    model: ImageModel,
    inputs: Prepared,
    kind: NDArray[np.int8],
    rows: NDArray[np.int64],
    config: FitConfig,
    device: str,
) -> None:
    """Teach the convolutions two other classes first: early types of the lenses' kind against survey sources.

    The thesis takes two classes of CIFAR. The dense layers start afresh afterwards.
    """
    ours = rows[np.isin(kind[rows], [KINDS.index("bare")])]
    theirs = survey_sources(kind, rows)
    if not len(ours) or not len(theirs):
        return
    rounds = max(1, round(PRETRAIN_ROUNDS / PRETRAIN_EPOCHS_OF * config.epochs))
    fit(
        model, Rows(inputs, ours), Rows(inputs, theirs),
        replace(config, epochs=rounds, transferred=1.0, seed=config.seed + 1), device=device,
    )  # fmt: skip
    for module in model.network().dense.modules():  # type: ignore[union-attr]
        if isinstance(module, nn.Linear):
            module.reset_parameters()


def survey_sources(kind: NDArray[np.int8], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the rows that are survey sources, simulated or real, and no near misses."""
    return rows[np.isin(kind[rows], [KINDS.index("ordinary"), -1])]


def clear_lenses(arc_snr: NDArray[np.float32], rows: NDArray[np.int64], least: float) -> NDArray[np.int64]:
    """Those of the rows whose arcs stand out by `least` or more.

    Raises
    ------
    UserError  there are fewer than 10
    """
    kept = rows[arc_snr[rows] >= least]
    if len(kept) < 10:
        raise UserError(
            f"--min-snr {least:g}: {len(kept)} of {len(rows)} simulated lenses have such arcs, 10 are needed:"
            " lower it, or draw more with --lenses (real lenses have no known signal to noise)"
        )
    return kept


def _split(n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on and rows held back, in random order."""
    rows = rng.permutation(n)
    back = min(max(1, round(HELD_BACK * n)), n - 1)
    return np.sort(rows[back:]), np.sort(rows[:back])


def _describe(request: ImageTrainRequest, name: str, n_lens: int, n_other: int) -> dict[str, Any]:
    from scoring.imaging.scenes import describe

    return {
        "simulated": describe(name, LEARN[name]),
        "lenses": n_lens if request.positives is None else f"{n_lens} of selection {request.positives}",
        "negatives": n_other,
        "near_misses_among_negatives": request.near_misses,
        "min_arc_snr_of_positives": request.min_snr,
        "survey_sources": "simulated" if request.negatives is None else f"selection {request.negatives}",
        "calibrated_on": HELD_BACK,
    }


def _device(name: str) -> str:
    from scoring.training import _device as choose

    return choose(name)
