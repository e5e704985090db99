"""LensGenerator: shapes, resuming, errors, and that what it draws comes from what it saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from schema.errors import UserError
from scoring.gan.generator import Generator, GeneratorConfig
from scoring.gan.train import GanConfig, Pair, augment
from scoring.models.eznet import Block, EZnetConfig

TABLE = (Block(8, 5, 24), Block(8, 3, 12), Block(8, 3, 6), Block(8, 3, 3))
SMALL = GanConfig(
    cycles=2,
    per_cycle=5,
    pretrain_steps=2,
    cycle_steps=2,
    batch_size=4,
    generator=GeneratorConfig(widths=(16, 8, 8)),
    discriminator=EZnetConfig(table=TABLE),
)


def stamps(n: int, level: int, seed: int) -> NDArray[np.uint8]:
    """Blobs on a level that tells where they come from."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    blob = 120 * np.exp(-((x - 32) ** 2 + (y - 32) ** 2) / 60)
    noise = random.normal(0, 4, (n, 3, 64, 64))
    return np.clip(level + blob + noise, 0, 255).astype(np.uint8)


def test_generator_is_the_thesis_network() -> None:
    """Latent 64, four transposed convolutions, 3x64x64 out."""
    generator = Generator()
    kinds = [m for m in generator.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert len(kinds) == 4
    made = generator(torch.randn(3, 64))
    assert made.shape == (3, 3, 64, 64)
    assert 0 <= float(made.detach().min()) <= float(made.detach().max()) <= 1


def test_a_killed_run_goes_on_with_the_same_stamps(tmp_path: Path) -> None:
    lenses, ordinary = stamps(6, 20, 1), stamps(12, 20, 2)
    whole = augment(lenses, ordinary, SMALL)
    assert whole.shape == (10, 3, 64, 64)
    assert whole.dtype == np.uint8
    path = tmp_path / "gan.pt"
    first = augment(lenses, ordinary, replace(SMALL, cycles=1), path)
    seen: list[str] = []
    both = augment(lenses, ordinary, SMALL, path, lambda stage, done, total: seen.append(stage))
    assert set(seen) == {"cycle 2"}, "pretraining and the first cycle are not done again"
    np.testing.assert_array_equal(both[:5], first)
    np.testing.assert_array_equal(both, whole)
    assert np.abs(whole[:5].astype(int) - whole[5:].astype(int)).max() > 0, "cycles differ"
    with pytest.raises(UserError, match="other settings \\(seed differ\\)"):
        augment(lenses, ordinary, replace(SMALL, seed=2), path)


def test_refuses_what_it_cannot_learn_from() -> None:
    good = stamps(4, 20, 1)
    with pytest.raises(UserError, match="lenses: float64"):
        augment(good.astype(float), good, SMALL)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"ordinary stamps: uint8 of shape \(4, 1, 64, 64\)"):
        augment(good, good[:, :1], SMALL)


def test_generated_stamps_move_towards_those_seen() -> None:
    """After some steps on dark stamps they are darker than after as many on bright ones."""
    config = replace(SMALL, batch_size=8, learning_rate=4e-3)
    means = []
    for level in (10, 130):
        pair = Pair(config)
        pair.fit(stamps(16, level, 3), 40)
        means.append(float(pair.draw(16).mean()))
    assert means[1] - means[0] > 20
