"""Adversarial training of the lens generator against EZnet, in cycles (Pourrahmani 2019, section 4.3).

The pair is first trained on ordinary survey stamps. Each cycle then goes back to those weights, trains on the
few known lenses with another seed, and gives 200 stamps; ten cycles give 2,000. Going back each time is what
keeps the cycles apart when one of them collapses to few shapes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from schema.errors import DataError, UserError
from scoring.gan.generator import Generator, GeneratorConfig
from scoring.models.eznet import EZnet, EZnetConfig
from scoring.models.layers import channels_last

log = logging.getLogger("lensmine.gan")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class GanConfig:
    """Settings of the augmentation.

    Attributes
    ----------
    cycles : retrainings from the pretrained pair
    per_cycle : stamps taken from each
    pretrain_steps : batches of ordinary stamps
    cycle_steps : batches of lenses in a cycle
    batch_size : real stamps in a batch, and as many generated ones
    learning_rate : of both networks, Adam with betas (0.5, 0.999), as Radford et al. (2015)
    real_label : target of real stamps in the discriminator's loss; below 1 it is one-sided smoothing
    seed : of weights, batches and latent vectors
    generator, discriminator : their settings
    bf16 : let the discriminator compute in bfloat16 where that is safe
    """

    cycles: int = 10
    per_cycle: int = 200
    pretrain_steps: int = 1000
    cycle_steps: int = 150
    batch_size: int = 32
    learning_rate: float = 2e-4
    real_label: float = 0.9
    seed: int = 1
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: EZnetConfig = field(default_factory=EZnetConfig)
    bf16: bool = False


class Pair:
    """Generator, discriminator and their optimisers."""

    def __init__(self, config: GanConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.generator = Generator(config.generator)
        self.discriminator: nn.Module = channels_last(EZnet(config.discriminator, config.generator.channels))
        self.random = torch.Generator().manual_seed(config.seed)
        self._optimisers()

    def _optimisers(self) -> None:
        kind = {"lr": self.config.learning_rate, "betas": (0.5, 0.999)}
        self.generator_step = torch.optim.Adam(self.generator.parameters(), **kind)  # type: ignore[arg-type]
        self.discriminator_step = torch.optim.Adam(self.discriminator.parameters(), **kind)  # type: ignore[arg-type]

    def step(self, real: Tensor) -> tuple[float, float]:
        """One batch: the discriminator learns real from generated, then the generator to pass for real.

        Real and generated stamps go in together, as in the thesis: apart, the batch normalisation in
        EZnet's first block would hide from it that they differ in brightness.

        Parameters
        ----------
        real : Tensor, shape (n, channels, 64, 64)  values 0 to 1

        Returns
        -------
        Losses of discriminator and generator.
        """
        n, label = len(real), self.config.real_label
        fake = self.generator.draw(n, self.random)
        truth = torch.cat([torch.full((n,), label), torch.zeros(n)])
        loss = F.binary_cross_entropy_with_logits(self._judge(torch.cat([real, fake.detach()])), truth)
        self.discriminator_step.zero_grad(set_to_none=True)
        loss.backward()
        self.discriminator_step.step()
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(False)  # the generator's step needs no gradient of these
        on_fake = self._judge(torch.cat([real, fake]))[n:]
        fooled = F.binary_cross_entropy_with_logits(on_fake, torch.ones(n))
        self.generator_step.zero_grad(set_to_none=True)
        fooled.backward()
        self.generator_step.step()
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(True)
        return float(loss.detach()), float(fooled.detach())

    def _judge(self, stamps: Tensor) -> Tensor:
        """Logits of stamps, shape (n,)."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bf16):
            logit: Tensor = self.discriminator(stamps.contiguous(memory_format=torch.channels_last))
        return logit.float()

    def fit(self, stamps: NDArray[np.uint8], steps: int, tell: Callable[[int], None] | None = None) -> None:
        """Train on random batches of stamps under random symmetries of the square.

        Parameters
        ----------
        stamps : ndarray of uint8, shape (n, channels, 64, 64)
        """
        self.generator.train()
        self.discriminator.train()
        for k in range(steps):
            rows = torch.randint(len(stamps), (self.config.batch_size,), generator=self.random)
            real = torch.from_numpy(stamps[rows.numpy()]).float() / 255.0
            turn = int(torch.randint(8, (), generator=self.random))
            real = torch.rot90(real, turn % 4, (2, 3))
            losses = self.step(real.flip(3) if turn >= 4 else real)
            if not np.isfinite(losses).all():
                raise DataError(f"adversarial training diverged at step {k}: losses {losses}; lower the rate")
            if tell is not None:
                tell(k + 1)

    @torch.no_grad()
    def draw(self, n: int) -> NDArray[np.uint8]:
        """n generated stamps, shape (n, channels, 64, 64).

        Batch normalisation uses the statistics of the batch, as in training: those that it accumulated
        belong to a generator that has moved on.
        """
        parts, size = [], max(self.config.batch_size, 32)
        for first in range(0, n, size):
            made = self.generator.draw(size, self.random)[: n - first]
            parts.append((made * 255.0 + 0.5).clamp(0, 255).to(torch.uint8).numpy())
        return np.concatenate(parts)

    def state(self) -> dict[str, Any]:
        """Everything that another process needs to go on."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "random": self.random.get_state(),
        }

    def load(self, state: dict[str, Any], seed: int | None = None) -> None:
        """Take up a state; with `seed`, its random numbers are new and the optimisers start afresh."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        if seed is None:
            self.random.set_state(state["random"])
        else:
            self.random = torch.Generator().manual_seed(seed)
        self._optimisers()


def augment(
    lenses: NDArray[np.uint8],
    ordinary: NDArray[np.uint8],
    config: GanConfig,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    pretrained: dict[str, Any] | None = None,
) -> NDArray[np.uint8]:
    """Generated lenses: `cycles` x `per_cycle` stamps after pretraining on ordinary ones.

    Parameters
    ----------
    lenses : ndarray of uint8, shape (n, channels, 64, 64)
        The few known lenses.
    ordinary : ndarray of uint8, shape (m, channels, 64, 64)
        Survey stamps, nearly all without a lens.
    config : GanConfig
    checkpoint : Path, optional
        File that is written after pretraining and after each cycle; a run that finds it goes on from there.
    progress : callable, optional
        Called with the stage, steps done and steps in all.
    pretrained : dict, optional
        State of a pair that has seen ordinary stamps already, as `pretrain` gives it.

    Returns
    -------
    ndarray of uint8, shape (cycles * per_cycle, channels, 64, 64)

    Raises
    ------
    UserError
        Too few stamps, another shape, or a checkpoint of other settings.
    DataError
        Training diverged.
    """
    shape = (config.generator.channels, 64, 64)
    for name, stamps in (("lenses", lenses), ("ordinary stamps", ordinary)):
        if stamps.ndim != 4 or stamps.shape[1:] != shape or stamps.dtype != np.uint8 or len(stamps) < 2:
            raise UserError(
                f"{name}: {stamps.dtype} of shape {stamps.shape}; "
                f"needed are 2 or more uint8 stamps of {shape}"
            )
    pair = Pair(config)
    kept: list[NDArray[np.uint8]] = []
    start: dict[str, Any] | None = _read(checkpoint, config) if checkpoint is not None else None
    if start is None:
        start = {"pretrained": pretrained or pretrain(ordinary, config, progress), "made": []}
        _write(checkpoint, config, start)
    kept.extend(np.asarray(made) for made in start["made"])
    for cycle in range(len(kept), config.cycles):
        pair.load(start["pretrained"], seed=config.seed * 1000 + cycle + 1)
        torch.manual_seed(config.seed * 1000 + cycle + 1)
        pair.fit(lenses, config.cycle_steps, _teller(progress, f"cycle {cycle + 1}", config.cycle_steps))
        kept.append(pair.draw(config.per_cycle))
        start["made"] = kept
        start["last"] = deepcopy(pair.generator.state_dict())
        _write(checkpoint, config, start)
    return np.concatenate(kept)


def pretrain(
    ordinary: NDArray[np.uint8], config: GanConfig, progress: Progress | None = None
) -> dict[str, Any]:
    """State of a pair trained on ordinary stamps of shape (n, channels, 64, 64)."""
    pair = Pair(config)
    pair.fit(ordinary, config.pretrain_steps, _teller(progress, "ordinary stamps", config.pretrain_steps))
    return deepcopy(pair.state())


def _teller(progress: Progress | None, stage: str, total: int) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(stage, done, total)


def _write(path: Path | None, config: GanConfig, state: dict[str, Any]) -> None:
    if path is None:
        return
    partial = path.with_name(path.name + ".tmp")
    made = [torch.from_numpy(m) for m in state["made"]]
    held: dict[str, Any] = {k: state[k] for k in ("pretrained", "last") if k in state}
    torch.save({"config": asdict(config), "made": made, **held}, partial)
    partial.replace(path)


def _read(path: Path, config: GanConfig) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    held = torch.load(path, weights_only=True)
    mine = asdict(config)
    other = {k for k in mine if k not in ("cycles",) and held["config"].get(k) != mine[k]}
    if other:
        raise UserError(
            f"{path} is a checkpoint of other settings ({', '.join(sorted(other))} differ); "
            "remove it or use its settings"
        )
    kept: dict[str, Any] = {k: held[k] for k in ("pretrained", "last") if k in held}
    kept["made"] = [m.numpy() for m in held["made"]]
    return kept
