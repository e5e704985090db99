"""What generated lenses, symmetries and negative learning each add to EZnet when only 50 lenses are known.

Every arm has the same number of gradient steps, the thesis's optimiser and its step schedule (section 4.6),
and for one seed the same 50 lenses and the same starting weights; arms differ in what their batches hold.
They are judged on lenses and ordinary sources that none of them saw. Lenses are conspicuous ones, as the
thesis's were, and the others survey sources.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from scoring.evaluate.metrics import ranking_performance, threshold_at_fpr
from scoring.models.eznet import Block, EZnet, EZnetConfig
from scoring.models.layers import channels_last

log = logging.getLogger("lensmine.ablation")

Stamps = NDArray[np.uint8]

SMALL = EZnetConfig(
    table=(
        Block(8, 5, 24), Block(8, 3, 16), Block(12, 3, 12), *(Block(12, 3, 8),) * 3, *(Block(32, 1, 1),) * 2,
    ),
)  # fmt: skip
"""Eight blocks in place of 50, and 4.6 million multiply-adds in place of 49: for machines without time."""


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes
    ----------
    name : how the table calls it
    d4 : random symmetries of the square
    negative_learning : a new random ordinary stamp for every lens of a batch; else as many fixed ones as
        there are lenses
    gan : generated lenses among the positives, as many as known ones in a batch on average
    """

    name: str
    d4: bool = False
    negative_learning: bool = False
    gan: bool = False


ARMS: tuple[Arm, ...] = (
    Arm("none"),
    Arm("D4", d4=True),
    Arm("negative learning", negative_learning=True),
    Arm("D4 + negative learning", d4=True, negative_learning=True),
    Arm("D4 + negative learning + GAN", d4=True, negative_learning=True, gan=True),
)


@dataclass(frozen=True)
class AblationConfig:
    """Settings of the ablation.

    Attributes
    ----------
    known : lenses that an arm knows
    steps : gradient steps of every arm
    batch_size : stamps in a batch, half of them lenses
    learning_rate : at first; a tenth after 60% of the steps and a hundredth after 88%, as in the thesis
    momentum, weight_decay : of SGD with Nesterov momentum
    seeds : repetitions, each with other lenses, weights and batches
    network : settings of EZnet
    bf16 : compute in bfloat16 where that is safe
    """

    known: int = 50
    steps: int = 250
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    seeds: tuple[int, ...] = (1, 2, 3)
    network: EZnetConfig = field(default_factory=EZnetConfig)
    bf16: bool = False


@dataclass(frozen=True)
class Pools:
    """Stamps to learn from and to be judged by, each of shape (n, 3, 64, 64).

    Attributes
    ----------
    lenses : at least `known` for every seed
    ordinary : the pool of negative learning, 50,000 in the thesis
    test_lenses, test_ordinary : kept apart
    """

    lenses: Stamps
    ordinary: Stamps
    test_lenses: Stamps
    test_ordinary: Stamps


def train_arm(
    arm: Arm, known: Stamps, generated: Stamps | None, ordinary: Stamps, config: AblationConfig, seed: int
) -> EZnet:
    """EZnet trained as an arm says.

    Parameters
    ----------
    known : ndarray of uint8, shape (known, 3, 64, 64)
    generated : ndarray of uint8, shape (m, 3, 64, 64), or None for arms without
    ordinary : ndarray of uint8, shape (pool, 3, 64, 64)
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    network = EZnet(config.network, 3)
    channels_last(network)
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=True,
        weight_decay=config.weight_decay,
    )
    drops = [int(0.60 * config.steps), int(0.88 * config.steps)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, drops, gamma=0.1)
    fixed = random.choice(len(ordinary), size=min(len(known), len(ordinary)), replace=False)
    half = config.batch_size // 2
    label = torch.cat([torch.ones(half), torch.zeros(half)])
    network.train()
    for _ in range(config.steps):
        positive = known[random.integers(len(known), size=half)]
        if arm.gan and generated is not None:
            swap = random.random(half) < 0.5
            positive[swap] = generated[random.integers(len(generated), size=int(swap.sum()))]
        rows = (
            random.integers(len(ordinary), size=half) if arm.negative_learning else random.choice(fixed, half)
        )
        batch = torch.from_numpy(np.concatenate([positive, ordinary[rows]])).float() / 255.0
        if arm.d4:
            batch = each_turned(batch, random)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            logit = network(batch.contiguous(memory_format=torch.channels_last))
        loss = F.binary_cross_entropy_with_logits(logit.float(), label)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def each_turned(batch: Tensor, random: np.random.Generator) -> Tensor:
    """Every stamp under a random one of the eight symmetries of the square, shape as given."""
    turn = torch.from_numpy(random.integers(8, size=len(batch)))
    out = torch.empty_like(batch)
    for k in range(8):
        some = turn == k
        turned = torch.rot90(batch[some], k % 4, (2, 3))
        out[some] = turned.flip(3) if k >= 4 else turned
    return out


@torch.inference_mode()
def logits(network: EZnet, stamps: Stamps, batch: int = 128) -> NDArray[np.float64]:
    """Logits of stamps, shape (n,)."""
    parts = [
        network(torch.from_numpy(stamps[k : k + batch]).float() / 255.0) for k in range(0, len(stamps), batch)
    ]
    return torch.cat(parts).double().numpy()


def judge(network: EZnet, pools: Pools) -> dict[str, float]:
    """Ranking performance and completeness at 1% false positives on the test stamps."""
    positive, negative = logits(network, pools.test_lenses), logits(network, pools.test_ordinary)
    label = np.concatenate([np.ones(len(positive), dtype=bool), np.zeros(len(negative), dtype=bool)])
    return {
        "ranking_performance": ranking_performance(label, np.concatenate([positive, negative])),
        "completeness_fpr_1e-2": float(np.mean(positive >= threshold_at_fpr(negative, 0.01))),
    }


def ablate(
    pools: Pools,
    generate: Callable[[Stamps, int], Stamps],
    config: AblationConfig,
    arms: tuple[Arm, ...] = ARMS,
    out: Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Train and judge every arm for every seed; results are kept after each, so a killed run goes on.

    Parameters
    ----------
    pools : Pools
    generate : callable
        Given an arm's known lenses and the seed, the generated ones (see `scoring.gan.train.augment`).
    config : AblationConfig
    arms : tuple of Arm
    out : Path, optional
        JSON lines file of results, one per arm and seed.
    tell : callable, optional
        Called with a line of text before each training.

    Returns
    -------
    list of dict
        One per arm and seed.
    """
    done = _read(out, config)
    for seed in config.seeds:
        start = (seed - 1) * config.known % max(1, len(pools.lenses) - config.known + 1)
        known = pools.lenses[start : start + config.known]
        for arm in arms:
            if any(row["arm"] == arm.name and row["seed"] == seed for row in done):
                continue
            if tell is not None:
                tell(f"seed {seed}: {arm.name}")
            made = generate(known, seed) if arm.gan else None
            network = train_arm(arm, known, made, pools.ordinary, config, seed)
            row = {"arm": arm.name, "seed": seed, **judge(network, pools), "config": asdict(config)}
            done.append(row)
            if out is not None:
                with out.open("a", encoding="utf-8") as handle:
                    handle.write(json.dumps(row) + "\n")
    return done


def _read(out: Path | None, config: AblationConfig) -> list[dict[str, Any]]:
    if out is None or not out.is_file():
        return []
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    mine = json.loads(json.dumps(asdict(config)))
    mine.pop("seeds")
    return [row for row in rows if {k: v for k, v in row["config"].items() if k != "seeds"} == mine]


def summary(rows: list[dict[str, Any]], level: float = 0.95) -> list[dict[str, Any]]:
    """Mean of each arm over the seeds and its t interval, and the paired gain over the first arm.

    Parameters
    ----------
    rows : list of dict
        As `ablate` returns them.
    level : float
        Confidence level; the interval is None for a single seed.
    """
    table = []
    names = list(dict.fromkeys(row["arm"] for row in rows))
    for name in names:
        mine = {row["seed"]: row for row in rows if row["arm"] == name}
        entry: dict[str, Any] = {"arm": name, "seeds": len(mine)}
        for metric in ("ranking_performance", "completeness_fpr_1e-2"):
            values = np.array([row[metric] for row in mine.values()])
            entry[metric] = float(values.mean())
            entry[f"{metric}_interval"] = mean_interval(values, level)
            first = {row["seed"]: row[metric] for row in rows if row["arm"] == names[0]}
            gain = np.array([row[metric] - first[seed] for seed, row in mine.items() if seed in first])
            entry[f"{metric}_gain"] = float(gain.mean()) if len(gain) else None
            entry[f"{metric}_gain_interval"] = mean_interval(gain, level)
        table.append(entry)
    return table


def mean_interval(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float] | None:
    """Student's t interval of the mean of a few values; None for fewer than two."""
    n = len(values)
    if n < 2:
        return None
    half = float(stats.t.ppf(0.5 + level / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return float(values.mean()) - half, float(values.mean()) + half
