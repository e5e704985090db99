"""From shard rows to scores: read, preprocess, infer, localise, on as many threads as the backend can feed.

Each thread takes a few hundred spectra through every step, so that the pixels stay in its cache and the
threads never wait for one another; while one reads from disk, the others compute.
"""

from __future__ import annotations

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
from scoring.localise import localise

if TYPE_CHECKING:
    from scoring.backends import Backend
    from scoring.leases import Lease
    from scoring.models.base import SpectralModel

STAGES = ("read", "preprocess", "infer", "localise")
PIECE = 256
"""Spectra that a thread takes through all steps at once."""


class Pipeline:
    """Threads that score the spectra of leased chunks.

    Parameters
    ----------
    model : SpectralModel
        Its window, inputs and preprocessing.
    backend : Backend
        Runs its network.
    min_good : int
        Least number of good pixels in the window; a spectrum with fewer is left out.
    shards : Path
        Folder of the pixel shards.
    """

    def __init__(self, model: SpectralModel, backend: Backend, min_good: int, shards: Path) -> None:
        self.model = model
        self.backend = backend
        self.min_good = min_good
        self.shards = shards
        self.seconds: dict[str, float] = defaultdict(float)
        self.skipped: Counter[str] = Counter()
        self.threads = backend.threads
        self.piece = max(PIECE, backend.batch)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(
            self.threads, "score", initializer=torch.set_num_threads, initargs=(1,)
        )

    def submit(self, lease: Lease, shard_name: str | None) -> list[Future[dict[str, Any]]]:
        """Queue a chunk; the futures give the parts of its result in order.

        Raises
        ------
        DataError
            If the shard is not there.
        """
        if shard_name is None:
            raise DataError(f"shard {lease.shard_id} is not in table pixel_shard; ingest its files again")
        shard = Shard(self.shards / shard_name)
        return [
            self._pool.submit(self._score, shard, lease, slice(first, min(first + self.piece, len(lease))))
            for first in range(0, len(lease), self.piece)
        ]

    def close(self) -> None:
        """Drop what is queued and wait for what runs."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _score(self, shard: Shard, lease: Lease, part: slice) -> dict[str, Any]:
        """Scores of some spectra of a chunk; ``keep`` indexes them within the chunk."""
        clock = _Clock()
        first, npix = self.model.window
        rows = lease.shard_row[part]
        pixels = _read(shard, rows, self.model.inputs, first, npix)
        clock.lap("read")
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(array) for name, array in pixels.items()}
            z = torch.from_numpy(lease.z[part].astype(np.float32))
            n_good = ((tensors["ivar"] > 0).sum(1)).numpy()
            if self.backend.where.type == "cuda":
                tensors = {
                    k: v.pin_memory().to(self.backend.where, non_blocking=True) for k, v in tensors.items()
                }
                z = z.to(self.backend.where)
            flux, ivar = tensors.pop("flux"), tensors.pop("ivar")
            x = self.model.preprocess(flux, ivar, z, **tensors)
            clock.lap("preprocess")
            logit = self.backend.logits(x)
            clock.lap("infer")
            wave, snr = localise(flux, ivar, z, first)
            wave_angstrom, line_snr = wave.double().cpu().numpy(), snr.double().cpu().numpy()
            clock.lap("localise")
        probability = 1.0 / (1.0 + np.exp(-np.clip(logit.astype(np.float64), -700, 700)))
        few, nan = n_good < self.min_good, ~np.isfinite(probability)
        keep = np.flatnonzero(~few & ~nan)
        with self._lock:
            for stage, spent in clock.seconds.items():
                self.seconds[stage] += spent
            self.skipped.update({"few_pixels": int(few.sum()), "not_finite": int((nan & ~few).sum())})
        return {
            "keep": part.start + keep,
            "probability": probability[keep],
            "wave_angstrom": wave_angstrom[keep],
            "snr": line_snr[keep],
        }


class _Clock:
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


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The parts of a chunk's result as one."""
    return {
        "keep": np.concatenate([part["keep"] for part in parts]) if parts else np.zeros(0, dtype=np.int64),
        **{
            name: np.concatenate([part[name] for part in parts]) if parts else np.zeros(0)
            for name in ("probability", "wave_angstrom", "snr")
        },
    }
