"""The training of one round: lenses against ordinary cutouts, hard negatives counted several times."""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from schema.errors import UserError
from scoring.imaging.card import write_weights
from scoring.imaging.measure import calibrate
from scoring.imaging.run import Rows, published_config
from scoring.imaging.scenes import KINDS
from scoring.imaging.sets import ImageSet, Prepared, simulate, simulated
from scoring.imaging.train import Source, fit, logits
from scoring.mining.pixels import images_of
from scoring.mining.plan import LEAST, MineConfig
from scoring.registry import get_model

if TYPE_CHECKING:
    from scoring.models.image_base import ImageModel

HELD_BACK = 0.1
"""Share of both classes that calibrates the probability instead of training."""


@dataclass(frozen=True)
class Lessons:
    """Targets that a round learns from, each sorted: lenses, ordinary ones, hard negatives."""

    positive: NDArray[np.int64]
    ordinary: NDArray[np.int64]
    hard: NDArray[np.int64]


def learn(
    db: str | None, config: MineConfig, lessons: Lessons, number: int, start: Path | None, folder: Path
) -> ImageModel:
    """Train the campaign's model for one round and write its weights and card into a folder.

    Parameters
    ----------
    db : str or None
        Database that the cutouts stand in.
    config : MineConfig
    lessons : Lessons
    number : int
        Number of the round, which enters the seed.
    start : Path or None
        Weights of the round before; None in the first round, which starts as the settings say.
    folder : Path
        Where weights, card and simulated lenses go.

    Raises
    ------
    UserError
        If the model can look at too few of the cutouts.
    """
    torch.manual_seed(config.seed + 1000 * number)
    weights = start or (None if config.start == "fresh" else config.start)
    model: ImageModel = get_model(config.model, weights)  # type: ignore[assignment]
    model.network()  # made now, so that fresh weights come from the seed alone
    lens, others = _lenses(db, config, lessons, model, folder)
    ordinary = images_of(db, lessons.ordinary, model)[0] + others
    hard = images_of(db, lessons.hard, model)[0]
    if len(lens) < LEAST or len(ordinary) < LEAST:
        raise UserError(
            f"{config.model} can look at {len(lens)} lenses and {len(ordinary)} ordinary cutouts; {LEAST} of "
            "each are needed to learn from: name a larger --pool or other --positives, or take simulated "
            "ones (--simulated-others 5000; no --positives)"
        )
    positives = Prepared(lens, model)
    negatives = Prepared(ordinary + hard, model)
    random = np.random.default_rng((config.seed, number))
    lens_rows, lens_held = _split(np.arange(len(positives)), random)
    other_rows, other_held = _split(np.arange(len(ordinary)), random)
    repeated = np.tile(np.arange(len(ordinary), len(negatives)), config.hard_weight)
    other_rows = np.concatenate([other_rows, repeated])
    recipe = replace(
        published_config(config.model), epochs=config.epochs, pool=None, seed=config.seed + 1000 * number
    )
    history = fit(model, _rows(positives, lens_rows), _rows(negatives, other_rows), recipe)
    calibrate(
        model.network(),
        logits(model.network(), _rows(positives, lens_held)),
        logits(model.network(), _rows(negatives, other_held)),
    )
    card = {
        "model": config.model,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "round": number,
        "campaign": asdict(config),
        "training": asdict(recipe) | {"last_epoch": history[-1]},
        "lenses": len(positives),
        "ordinary": len(ordinary),
        "simulated_others": len(others),
        "hard_negatives": len(hard),
        "weights_hash": model.weights_hash,
    }
    write_weights(model, card, folder)
    return model


def _lenses(
    db: str | None, config: MineConfig, lessons: Lessons, model: ImageModel, folder: Path
) -> tuple[ImageSet, ImageSet]:
    """The round's lenses, those of its members, and simulated ones where no selection is named; and the
    simulated survey sources that it learns from beside its pool."""
    real = images_of(db, lessons.positive, model)[0]
    n_lens = config.simulated if config.positives is None else 0
    if not n_lens and not config.simulated_others:
        return real, ImageSet([])
    made = folder / f"simulated-{n_lens}-{config.simulated_others}-s{config.seed}"
    simulate(made, model.default_recipe, n_lens, config.simulated_others, config.seed)
    drawn, others = simulated(made)
    survey = ImageSet([p for p in others.parts if len(p.kind) and p.kind[0] == KINDS.index("ordinary")])
    return drawn + real, survey


def _split(
    rows: NDArray[np.int64], random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    mixed = random.permutation(rows)
    back = max(1, round(HELD_BACK * len(rows)))
    return np.sort(mixed[back:]), np.sort(mixed[:back])


def _rows(whole: Source, rows: NDArray[np.int64]) -> Source:
    return Rows(whole, rows)
