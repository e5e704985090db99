"""From shard rows to scores: read, preprocess, infer, localise, on as many threads as the backend can feed.

Each thread takes a few hundred spectra or cutouts through every step, so that the pixels stay in its cache
and the threads never wait for one another; while one reads from disk, the others compute.
"""

from __future__ import annotations

import abc
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from schema.errors import DataError
from schema.shards import Shard
from scoring.localise import filter_beside, localise
from scoring.tasks import MIN_GOOD_FRACTION, SPECTRUM, Modality

if TYPE_CHECKING:
    from scoring.backends import Backend
    from scoring.leases import Lease
    from scoring.models.base import Model, SpectralModel

STAGES = ("read", "preprocess", "infer", "localise")
PIECE = 256
"""Spectra or cutouts that a thread takes through all steps at once."""

Piece = dict[str, NDArray[Any]]
"""Result of some rows of a chunk: ``keep``, their index within it, then columns of the table of scores."""


class Pipeline(abc.ABC):
    """Threads that score the pixels of leased chunks, piece by piece.

    Parameters
    ----------
    backend : Backend
        Runs the network.
    modality : Modality
        Spectra or images.
    shards : Path
        Folder of the pixel shards.
    """

    def __init__(self, backend: Backend, modality: Modality, shards: Path) -> None:
        self.backend = backend
        self.modality = modality
        self.shards = shards
        self.seconds: dict[str, float] = defaultdict(float)
        self.skipped: Counter[str] = Counter()
        self.threads = backend.threads
        self.piece = max(PIECE, backend.batch)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(
            self.threads, "score", initializer=torch.set_num_threads, initargs=(1,)
        )

    @abc.abstractmethod
    def open(self, path: Path) -> Any:
        """A shard, opened for reading; a DataError when it is missing, damaged or of no use to the model."""

    @abc.abstractmethod
    def compute(self, shard: Any, lease: Lease, part: slice, clock: Clock) -> tuple[Piece, Counter[str]]:
        """Scores of some rows of a chunk, and how many were left out for what reason."""

    def submit(self, lease: Lease, shard_name: str | None) -> list[Future[Piece]]:
        """Queue a chunk; the futures give the parts of its result in order.

        Raises
        ------
        DataError
            If the shard is not there.
        """
        if shard_name is None:
            raise DataError(
                f"shard {lease.shard_id} is not in table {self.modality.shards.name}; ingest its files again"
            )
        shard = self.open(self.shards / shard_name)
        return [
            self._pool.submit(self._score, shard, lease, slice(first, min(first + self.piece, len(lease))))
            for first in range(0, len(lease), self.piece)
        ]

    def close(self) -> None:
        """Drop what is queued and wait for what runs."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def joined(self, parts: list[Piece]) -> Piece:
        """The parts of a chunk's result as one."""
        names = ("probability", *self.modality.figures)
        empty: Piece = {"keep": np.zeros(0, dtype=np.int64), **{name: np.zeros(0) for name in names}}
        every = [*parts] or [empty]
        return {name: np.concatenate([part[name] for part in every]) for name in empty}

    def on_device(self, x: torch.Tensor) -> torch.Tensor:
        """A tensor where the backend wants it."""
        if self.backend.where.type != "cuda":
            return x
        return x.pin_memory().to(self.backend.where, non_blocking=True)

    def _score(self, shard: Any, lease: Lease, part: slice) -> Piece:
        clock = Clock()
        with torch.inference_mode():
            piece, skipped = self.compute(shard, lease, part, clock)
        with self._lock:
            for stage, spent in clock.seconds.items():
                self.seconds[stage] += spent
            self.skipped.update(skipped)
        return piece


class SpectrumPipeline(Pipeline):
    """Spectra: window read, preprocessed, inferred, and the strongest line localised.

    Parameters
    ----------
    model : SpectralModel
        Its window, inputs and preprocessing.
    backend, shards
        As for `Pipeline`.
    """

    def __init__(self, model: SpectralModel, backend: Backend, shards: Path) -> None:
        super().__init__(backend, SPECTRUM, shards)
        self.model = model
        self.localiser = filter_beside(model.config)
        self.min_good = int(MIN_GOOD_FRACTION * model.window[1])

    def open(self, path: Path) -> Shard:
        """A pixel shard."""
        return Shard(path)

    def compute(self, shard: Shard, lease: Lease, part: slice, clock: Clock) -> tuple[Piece, Counter[str]]:
        """Probability, wavelength and S/N of some spectra; ``keep`` indexes them within the chunk."""
        first, npix = self.model.window
        pixels = _read(shard, lease.shard_row[part], self.model.inputs, first, npix)
        clock.lap("read")
        tensors = {name: torch.from_numpy(array) for name, array in pixels.items()}
        n_good = ((tensors["ivar"] > 0).sum(1)).numpy()
        tensors = {name: self.on_device(x) for name, x in tensors.items()}
        z = torch.from_numpy(lease.carried[part].astype(np.float32)).to(self.backend.where)
        flux, ivar = tensors.pop("flux"), tensors.pop("ivar")
        x = self.model.preprocess(flux, ivar, z, **tensors)
        clock.lap("preprocess")
        logit = self.backend.logits(x)
        clock.lap("infer")
        wave, snr = localise(flux, ivar, z, first, self.localiser)
        wave_angstrom, line_snr = wave.double().cpu().numpy(), snr.double().cpu().numpy()
        clock.lap("localise")
        few, nan = n_good < self.min_good, ~np.isfinite(logit)
        keep = np.flatnonzero(~few & ~nan)
        skipped = Counter({"few_pixels": int(few.sum()), "not_finite": int((nan & ~few).sum())})
        piece = {
            "keep": part.start + keep,
            "probability": sigmoid(logit)[keep],
            "wave_angstrom": wave_angstrom[keep],
            "snr": line_snr[keep],
        }
        return piece, skipped


def make_pipeline(model: Model, backend: Backend, shards: Path) -> Pipeline:
    """The pipeline of a model: of spectra or of images."""
    from scoring.image_pipeline import ImagePipeline
    from scoring.models.base import SpectralModel
    from scoring.models.image_base import ImageModel

    if isinstance(model, ImageModel):
        return ImagePipeline(model, backend, shards)
    assert isinstance(model, SpectralModel)
    return SpectrumPipeline(model, backend, shards)


def sigmoid(logit: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probability of a logit, without overflow."""
    return 1.0 / (1.0 + np.exp(-np.clip(logit.astype(np.float64), -700, 700)))


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def _read(
    shard: Shard, rows: NDArray[np.int64], inputs: tuple[str, ...], first: int, npix: int
) -> dict[str, NDArray[np.float32]]:
    """Windows of some rows: one sweep where most rows of the span are wanted, else gathered."""
    span = int(rows[-1] - rows[0]) + 1
    names = dict.fromkeys(("flux", "ivar", *inputs))
    if span <= 2 * len(rows):
        low = int(rows[0])
        swept = {name: shard.read(name, slice(low, low + span), first, npix) for name in names}
        if span == len(rows):
            return swept
        return {name: array[rows - low] for name, array in swept.items()}
    return {name: shard.read(name, rows, first, npix) for name in names}
