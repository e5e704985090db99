"""The ablation: what its arms see, that it resumes, and what its table says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scoring.gan.ablation import ARMS, AblationConfig, Arm, Pools, ablate, each_turned, mean_interval, summary
from scoring.gan.stamps import MIN_SNR, simulated_stamps
from scoring.imaging.sets import simulated
from scoring.models.eznet import Block, EZnetConfig

NETWORK = EZnetConfig(table=(Block(8, 5, 24), Block(8, 3, 12), Block(8, 3, 6)))
QUICK = AblationConfig(known=8, steps=12, batch_size=8, learning_rate=0.05, seeds=(1, 2), network=NETWORK)


def stamps(n: int, blue_ring: bool, seed: int) -> NDArray[np.uint8]:
    """A red blob, with or without a blue ring around it."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64] - 32.0
    r = np.hypot(x, y)
    image = np.zeros((n, 3, 64, 64)) + random.normal(20, 6, (n, 3, 64, 64))
    image[:, :2] += 180 * np.exp(-(r**2) / 40)
    if blue_ring:
        image[:, 2] += 150 * np.exp(-((r - random.uniform(10, 18, (n, 1, 1))) ** 2) / 6)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pools() -> Pools:
    return Pools(stamps(16, True, 1), stamps(40, False, 2), stamps(30, True, 3), stamps(60, False, 4))


def test_every_stamp_is_turned_by_one_of_eight_symmetries() -> None:
    one = torch.arange(9.0).reshape(1, 1, 3, 3)
    turned = each_turned(one.expand(400, 1, 3, 3), np.random.default_rng(1))
    seen = {tuple(t.flatten().tolist()) for t in turned}
    assert len(seen) == 8
    corners = {(t[0], t[2], t[6], t[8]) for t in seen}
    assert all(sorted(c) == [0, 2, 6, 8] for c in corners), "corners stay corners"
    assert all(t[4] == 4 for t in seen)


def test_a_killed_ablation_goes_on(pools: Pools, tmp_path: Path) -> None:
    """Arms without a generator never call it; results are kept after each training."""
    calls: list[int] = []

    def generate(known: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        calls.append(len(known))
        return known

    out = tmp_path / "results.jsonl"
    first = ablate(pools, generate, replace(QUICK, seeds=(1,)), ARMS[:2], out)
    assert [row["arm"] for row in first] == ["none", "D4"]
    assert calls == []
    lines: list[str] = []
    rows = ablate(pools, generate, QUICK, (*ARMS[:2], ARMS[-1]), out, lines.append)
    assert lines == [
        "seed 1: D4 + negative learning + GAN",
        "seed 2: none",
        "seed 2: D4",
        "seed 2: D4 + negative learning + GAN",
    ]
    assert calls == [8, 8]
    assert rows[0] == {**first[0], "config": rows[0]["config"]}
    again = ablate(pools, generate, QUICK, (*ARMS[:2], ARMS[-1]), out)
    assert len(again) == 6
    assert calls == [8, 8], "nothing is trained twice"
    other = ablate(pools, generate, replace(QUICK, steps=13, seeds=(1,)), ARMS[:1], out)
    assert len(other) == 1, "results of other settings do not count"


@pytest.mark.parametrize("bf16", [False, True])
def test_it_learns_what_is_plain_to_see(pools: Pools, bf16: bool) -> None:
    config = replace(QUICK, steps=60, seeds=(1,), bf16=bf16)
    rows = ablate(pools, lambda known, seed: known, config, (Arm("nl", True, True),))
    assert rows[0]["ranking_performance"] > 0.9
    assert 0 <= rows[0]["completeness_fpr_1e-2"] <= 1


def test_stamps_are_of_conspicuous_lenses_and_survey_sources(tmp_path: Path) -> None:
    lenses, others = simulated_stamps(tmp_path, 6, 10, 1)
    assert (lenses.shape, others.shape) == ((6, 3, 64, 64), (10, 3, 64, 64))
    assert np.median(simulated(tmp_path)[0].arc_snr) >= MIN_SNR  # the cut counts some noise of the galaxy's


def test_table() -> None:
    metric = {"completeness_fpr_1e-2": 0.5}
    rows = [
        {"arm": arm, "seed": seed, "ranking_performance": base + 0.1 * seed, **metric}
        for arm, base in (("none", 0.1), ("D4", 0.3))
        for seed in (1, 2, 3)
    ]
    none, d4 = summary(rows)
    assert none["ranking_performance"] == pytest.approx(0.3)
    assert none["ranking_performance_gain"] == 0
    assert d4["ranking_performance_gain"] == pytest.approx(0.2)
    lo, hi = d4["ranking_performance_gain_interval"]
    assert lo == pytest.approx(hi), "the gain is the same for each seed, so its interval has no width"
    lo, hi = none["ranking_performance_interval"]
    assert (lo, hi) == pytest.approx((0.3 - 4.3027 * 0.1 / 3**0.5, 0.3 + 4.3027 * 0.1 / 3**0.5), abs=1e-4)
    assert mean_interval(np.array([1.0])) is None
