"""Pictures made once: a recipe names the pixels by shard, row and content hash, and what to draw of them.

A page puts the signed recipe into the address of the picture; the server makes the picture when the browser
asks
for it, keeps it on disk under the hash of the recipe, and never asks the database.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dashboard.settings import Settings
from dashboard.signing import sign, unsign
from schema.engine import shard_root
from schema.image_shards import ImageShard
from schema.shards import Shard

VERSION = 2
"""Raised when a picture of the same recipe would look different."""
PATH = "pictures"
PURPOSE = "picture"
TYPES = {
    "spectrum": ("svg", "image/svg+xml"),
    "thumb": ("svg", "image/svg+xml"),
    "stamp": ("png", "image/png"),
}
SWEEP_EVERY = 64
OPEN_SHARDS = 16

_swept = 0
_lock = threading.Lock()


def address(settings: Settings, recipe: dict[str, Any]) -> str:
    """Address that the browser asks for the picture."""
    base = f"/{settings.base}" if settings.base else ""
    return f"{base}/{PATH}/{sign(settings.secret, PURPOSE, recipe)}"


def picture(settings: Settings, text: str) -> tuple[bytes, str]:
    """Bytes and type of the picture of a signed recipe.

    Raises
    ------
    UserError
        When this dashboard did not sign it.
    DataError
        When its shard is gone.
    """
    recipe = unsign(settings.secret, PURPOSE, text)
    suffix, kind = TYPES[recipe["kind"]]
    path = cached_path(settings.picture_dir, recipe, suffix)
    with contextlib.suppress(OSError):
        found = path.read_bytes()
        if found:
            return found, kind
    made = make(recipe, shard_root(settings.db))
    _keep(path, made, settings)
    return made, kind


def cached_path(folder: Path, recipe: dict[str, Any], suffix: str) -> Path:
    """File of a recipe: its hash names it, so that changed pixels or another style are another file."""
    digest = hashlib.sha256(json.dumps([VERSION, recipe], sort_keys=True).encode()).hexdigest()[:40]
    return folder / digest[:2] / f"{digest}.{suffix}"


def make(recipe: dict[str, Any], root: Path) -> bytes:
    """Draw a recipe from its shard."""
    if recipe["kind"] in ("spectrum", "thumb"):
        return _spectrum(recipe, root)
    return _stamp(recipe, root)


def _spectrum(recipe: dict[str, Any], root: Path) -> bytes:
    from dashboard.spectra import SpectrumStyle, draw_spectrum, draw_thumb

    shard = _shard(root / recipe["shard"])
    first, npix = int(recipe["first"]), int(recipe["last"]) - int(recipe["first"]) + 1
    row = np.array([recipe["row"]])
    pixels: dict[str, Any] = {
        name: shard.read(name, row, first, npix)[0].astype(np.float64)
        for name in ("flux", "ivar", "model", "sky")
        if name in shard.arrays
    }
    if recipe["kind"] == "thumb":
        return draw_thumb(pixels, first, recipe["about"]).encode()
    return draw_spectrum(pixels, first, recipe["about"], SpectrumStyle(**recipe["style"])).encode()


def _stamp(recipe: dict[str, Any], root: Path) -> bytes:
    from dashboard.stamps import StampStyle, draw_stamp

    shard = _image_shard(root / recipe["shard"])
    array = "image" if "image" in shard.arrays else "stamp"
    pixels = shard.read(array, [int(recipe["row"])], recipe["bands"])[0].astype(np.float64)
    return draw_stamp(pixels, StampStyle(**recipe["style"]))


@lru_cache(maxsize=OPEN_SHARDS)
def _shard(path: Path) -> Shard:
    return Shard(path)


@lru_cache(maxsize=OPEN_SHARDS)
def _image_shard(path: Path) -> ImageShard:
    return ImageShard(path)


def missing_shard(settings: Settings, name: str) -> str | None:
    """What to say when a shard's folder is gone; None when it is there."""
    folder = shard_root(settings.db) / name
    with contextlib.suppress(OSError, ValueError, KeyError):
        if all(
            (folder / f"{array}.npy").exists()
            for array in json.loads((folder / "meta.json").read_text())["arrays"]
        ):
            return None
    return (
        f"shard {name} is missing from {shard_root(settings.db)}; ingest its files again, or set"
        " LENSMINE_SHARDS to the folder that holds the shards"
    )


def _keep(path: Path, made: bytes, settings: Settings) -> None:
    """Write a picture beside the others; a full or read-only disk costs speed, nothing else."""
    global _swept
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
        part.write_bytes(made)
        os.replace(part, path)
    with _lock:
        _swept += 1
        due = _swept % SWEEP_EVERY == 1
    if due:
        sweep(settings.picture_dir, settings.picture_bytes)


def sweep(folder: Path, most_bytes: int) -> int:
    """Delete the pictures longest unused until the folder holds at most that many bytes; returns how many."""
    files = []
    for path in folder.glob("??/*"):
        with contextlib.suppress(OSError):
            stat = path.stat()
            files.append((max(stat.st_atime, stat.st_mtime), stat.st_size, path))
    total = sum(size for _, size, _ in files)
    gone = 0
    for _, size, path in sorted(files):
        if total <= most_bytes:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            gone += 1
        total -= size
    return gone
