"""Sets of images as arrays, read by index: simulated once, or taken from a selection of real cutouts."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schema.errors import DataError
from schema.image_shards import percentile_stamp
from scoring.imaging.scenes import (
    CHUNK,
    KINDS,
    MIXES,
    Mix,
    View,
    describe,
    family,
    lenses,
    ordinary,
    stream,
)  # fmt: skip
from scoring.imaging.truth import TRUTH, observable
from scoring.light.instruments import get_instrument

if TYPE_CHECKING:
    from scoring.models.image_base import ImageModel

log = logging.getLogger("lensmine.train")


@dataclass(frozen=True)
class Part:
    """Images of one size, scale and set of bands.

    Attributes
    ----------
    pixels : ndarray, shape (n, bands, ny, nx)  float16 or float32 images, or uint8 stamps; may be
        memory-mapped
    bands : names of the second axis
    pixscale : width of a pixel [arcsec], or None
    kind : ndarray of int8, shape (n,)  index into `scoring.imaging.scenes.KINDS`; -1 where unknown
    truth : ndarray, shape (n, 6), or None  columns of `scoring.imaging.truth.TRUTH`, of simulated lenses
    """

    pixels: NDArray[Any]
    bands: tuple[str, ...]
    pixscale: float | None
    kind: NDArray[np.int8]
    truth: NDArray[np.float32] | None = None


class ImageSet:
    """Images of one class, in parts that may differ in size and scale; an index runs over all of them.

    Parameters
    ----------
    parts : the images
    """

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self.first = np.cumsum([0, *(len(part.pixels) for part in parts)])

    def __len__(self) -> int:
        return int(self.first[-1])

    @property
    def kind(self) -> NDArray[np.int8]:
        """Kind of every image, shape (n,)."""
        return np.concatenate([part.kind for part in self.parts]) if self.parts else np.zeros(0, np.int8)

    @property
    def arc_snr(self) -> NDArray[np.float32]:
        """Signal to noise of the arcs, shape (n,); NaN where no truth is known."""
        at = TRUTH.index("arc_snr")
        known = [
            part.truth[:, at] if part.truth is not None else np.full(len(part.pixels), np.nan, np.float32)
            for part in self.parts
        ]
        return np.concatenate(known) if known else np.zeros(0, np.float32)

    @property
    def observable(self) -> NDArray[np.bool_]:
        """Which simulated lenses Collett (2015) counts as observable; all where no truth is known."""
        known = [
            observable(torch.from_numpy(part.truth)).numpy()
            if part.truth is not None
            else np.ones(len(part.pixels), np.bool_)
            for part in self.parts
        ]
        return np.concatenate(known) if known else np.zeros(0, np.bool_)

    def inputs(self, model: ImageModel, index: NDArray[np.int64]) -> Tensor:
        """What the model's network sees of some images, shape (len(index), channels, npix, npix)."""
        out: Tensor | None = None
        for first, part in zip(self.first, self.parts, strict=False):
            at = np.flatnonzero((index >= first) & (index < first + len(part.pixels)))
            if not len(at):
                continue
            x = preprocess(model, part, np.asarray(index[at] - first))
            if out is None:
                out = x.new_empty((len(index), *x.shape[1:]))
            out[torch.from_numpy(at)] = x
        assert out is not None
        return out

    def take(self, index: NDArray[np.int64]) -> ImageSet:
        """The images that `index` names, part by part."""
        parts = []
        for first, part in zip(self.first, self.parts, strict=False):
            at = index[(index >= first) & (index < first + len(part.pixels))] - first
            if len(at):
                truth = part.truth[at] if part.truth is not None else None
                parts.append(Part(part.pixels[at], part.bands, part.pixscale, part.kind[at], truth))
        return ImageSet(parts)

    def __add__(self, other: ImageSet) -> ImageSet:
        return ImageSet([*self.parts, *other.parts])


def from_arrays(
    pixels: NDArray[Any], bands: tuple[str, ...], pixscale: float | None = None, kind: int = -1
) -> ImageSet:
    """A set of one part, for images made elsewhere.

    pixels : ndarray, shape (n, bands, ny, nx)  uint8 stamps or float images
    """
    if pixels.ndim != 4 or pixels.shape[1] != len(bands):
        raise DataError(f"pixels have shape {pixels.shape}: allowed is (n, {len(bands)}, ny, nx)")
    return ImageSet([Part(pixels, bands, pixscale, np.full(len(pixels), kind, np.int8))])


def preprocess(model: ImageModel, part: Part, index: NDArray[np.int64]) -> Tensor:
    """Network inputs of some images of a part: bands chosen, stamped when the model asks for stamps."""
    names = model.choose_bands(part.bands)
    if names is None:
        raise DataError(f"{model.name} cannot use bands {', '.join(part.bands)}")
    rows = [part.bands.index(name) for name in names]
    pixels = part.pixels[np.sort(index)][np.argsort(np.argsort(index))][:, rows]  # sorted: kind to the disk
    if model.pixels == "stamp" and pixels.dtype != np.uint8:
        pixels = percentile_stamp(pixels.astype(np.float32))[0]
    if model.pixels == "image":
        if pixels.dtype == np.uint8:
            raise DataError(f"{model.name} is trained on images, not on stamps of 0 to 255")
        pixels = pixels.astype(np.float32)
    with torch.inference_mode():
        x = model.preprocess(torch.from_numpy(np.ascontiguousarray(pixels)), part.pixscale)
    return x.clone()


class Prepared:
    """A set's network inputs, kept as float16, so that preprocessing is done once.

    Parameters
    ----------
    images : what to prepare
    model : gives the preprocessing
    path : .npy file to keep them in; in memory without one. A file of the same preprocessing is used again.
    """

    def __init__(self, images: ImageSet, model: ImageModel, path: Path | None = None) -> None:
        key = f"{model.preprocessing_hash} {len(images)}"
        if path is not None and path.is_file() and path.with_suffix(".key").is_file():
            held = path.with_suffix(".key").read_text()
            if held == key:
                self.x: NDArray[np.float16] = np.load(path, mmap_mode="r")
                return
        one = images.inputs(model, np.zeros(1, np.int64))
        shape = (len(images), *one.shape[1:])
        if path is None:
            self.x = np.empty(shape, np.float16)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.x = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        for first in range(0, len(images), 512):
            index = np.arange(first, min(first + 512, len(images)))
            self.x[index] = images.inputs(model, index).numpy()
        if path is not None:
            path.with_suffix(".key").write_text(key)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: NDArray[np.int64]) -> Tensor:
        """Inputs of some images, float32, shape (len(index), channels, npix, npix)."""
        return torch.from_numpy(np.asarray(self.x[index], dtype=np.float32))


# ---------------------------------------------------------------------- simulated


def simulate(
    folder: Path, name: str, n_lens: int, n_ordinary: int, seed: int, mix: Mix | None = None
) -> None:
    """Draw a family's images into `folder`, once; an interrupted run goes on where it stopped.

    `n_lens` lenses, as many near misses (their galaxies without lensing), and `n_ordinary` survey sources,
    in files KIND-VIEW.npy, float16, in units of the sky's noise.
    """
    views, mix = family(name), mix or MIXES[name]
    folder.mkdir(parents=True, exist_ok=True)
    recipe = {**describe(name, mix), "n_lens": n_lens, "n_ordinary": n_ordinary, "seed": seed}
    stated = folder / "recipe.json"
    if stated.is_file() and json.loads(stated.read_text()) != json.loads(json.dumps(recipe)):
        raise DataError(f"{folder} holds images of another recipe: name another folder, or remove it")
    stated.write_text(json.dumps(recipe, indent=1) + "\n")
    for v, view in enumerate(views):
        name_of = view.instrument
        _fill(folder, f"{name_of}-lens", round(n_lens * view.share), view, mix, (seed, v, 0))
        _fill(folder, f"{name_of}-ordinary", round(n_ordinary * view.share), view, mix, (seed, v, 1))


def _fill(folder: Path, stem: str, total: int, view: View, mix: Mix, key: tuple[int, int, int]) -> None:
    """Images of one view chunk by chunk; STEM.done says how many are there."""
    if not total:
        return
    done = folder / f"{stem}.done"
    at = int(done.read_text()) if done.is_file() else 0
    shape = (len(get_instrument(view.instrument).bands), view.npix, view.npix)
    kinds = {"lens": total, "bare": total // 2, "beside": total - total // 2}
    if stem.endswith("ordinary"):
        kinds = {"ordinary": total}
    files = {
        kind: _open(folder / f"{view.instrument}-{kind}.npy", (n, *shape), at > 0)
        for kind, n in kinds.items()
    }
    true = None
    if "lens" in kinds:
        true = _open(folder / f"{view.instrument}-truth.npy", (total, len(TRUTH)), at > 0, np.float32)
    filled = dict.fromkeys(kinds, 0) if not at else json.loads(done.with_suffix(".json").read_text())
    while at < total:
        generator, n = stream(*key, at // CHUNK), min(CHUNK, total - at)
        if "ordinary" in kinds:
            made = {"ordinary": ordinary(n, view, mix, generator)}
        else:
            made, truth = lenses(n, view, mix, generator)
            if true is not None:
                true[at : at + n] = truth.numpy()
        for kind, images in made.items():
            images = images[: kinds[kind] - filled[kind]]
            files[kind][filled[kind] : filled[kind] + len(images)] = images.clamp(-6e4, 6e4).half().numpy()
            filled[kind] += len(images)
        at += n
        done.with_suffix(".json").write_text(json.dumps(filled))
        done.write_text(str(at))


def _open(path: Path, shape: tuple[int, ...], there: bool, dtype: Any = np.float16) -> NDArray[Any]:
    if there:
        return np.lib.format.open_memmap(path, "r+")
    return np.lib.format.open_memmap(path, "w+", dtype, shape)


def simulated(folder: Path) -> tuple[ImageSet, ImageSet]:
    """Lenses, and all that are none, as far as `simulate` has put them into a folder."""
    try:
        recipe = json.loads((folder / "recipe.json").read_text())
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no simulated images") from error
    sets: dict[bool, list[Part]] = {True: [], False: []}
    for view in family(recipe["family"]):
        filled: dict[str, int] = {}
        for stem in ("lens", "ordinary"):
            path = folder / f"{view.instrument}-{stem}.json"
            filled |= json.loads(path.read_text()) if path.is_file() else {}
        for kind, n in filled.items():
            pixels = np.load(folder / f"{view.instrument}-{kind}.npy", mmap_mode="r")[:n]
            bands = get_instrument(view.instrument).bands
            number = np.full(n, KINDS.index(kind), np.int8)
            path = folder / f"{view.instrument}-truth.npy"
            truth = np.load(path)[:n].astype(np.float32) if kind == "lens" and path.is_file() else None
            sets[kind == "lens"].append(Part(pixels, bands, view.pixel_scale_arcsec, number, truth))
    return ImageSet(sets[True]), ImageSet(sets[False])
