"""Image shards: folders of plain arrays of cutouts, shape (rows, bands, ny, nx), read by row and by band.

A shard ``<shard_root>/<name>/`` holds C-ordered little-endian .npy files and a meta.json. Array ``image`` has
the calibrated pixels as the survey gives them, NaN where there are none; ``stamp`` the same after the
percentile normalisation to 0..255 of Pourrahmani (2019, section 4.1), ``matched``, where it is there, after
matching to a template's histogram (section 2.1; schema.normalise). Shards do not change once named.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from schema.errors import DataError, TransientError
from schema.processes import temporary_name

VERSION = 1
KIND = "image"
ARRAYS = {"image": "<f4", "stamp": "|u1", "matched": "|u1"}
"""Type of each array that an image shard may hold."""


@dataclass
class ImageShard:
    """One image shard, opened for reading; its files are opened when first read.

    Parameters
    ----------
    path : Path
        Folder of the shard.

    Raises
    ------
    DataError
        When the folder or its meta.json is missing or not understood.
    """

    path: Path
    bands: tuple[str, ...] = field(init=False)
    ny: int = field(init=False)
    nx: int = field(init=False)
    n_rows: int = field(init=False)
    arrays: tuple[str, ...] = field(init=False)
    _maps: dict[str, NDArray[Any]] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        try:
            meta = json.loads((self.path / "meta.json").read_text(encoding="utf-8"))
        except FileNotFoundError as exc:
            raise DataError(
                f"image shard {self.path} is missing; ingest its files again, or set LENSMINE_SHARDS to "
                "the folder that holds the shards"
            ) from exc
        except ValueError as exc:
            raise DataError(f"image shard {self.path} has a damaged meta.json: {exc}") from exc
        if meta.get("kind") != KIND or meta.get("version") != VERSION:
            raise DataError(
                f"shard {self.path} is {meta.get('kind')} layout {meta.get('version')}; "
                f"needed is {KIND} {VERSION}"
            )
        self.bands, self.n_rows = tuple(meta["bands"]), int(meta["n_rows"])
        self.ny, self.nx, self.arrays = int(meta["ny"]), int(meta["nx"]), tuple(meta["arrays"])

    @property
    def name(self) -> str:
        """Folder name, as in image_shard.name."""
        return self.path.name

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Rows, bands, height and width."""
        return self.n_rows, len(self.bands), self.ny, self.nx

    def read(
        self, array: str, rows: slice | NDArray[Any] | list[int], bands: Sequence[str] | None = None
    ) -> NDArray[Any]:
        """Rows of one array, copied out of the file.

        Parameters
        ----------
        array : str
            image or stamp.
        rows : slice, or int array of shape (n,)
            Shard rows.
        bands : sequence of str, optional
            Bands wanted, in that order; all in the shard's order when left out.

        Returns
        -------
        ndarray, shape (n, bands, ny, nx)
            float32 for image, uint8 for stamp.

        Raises
        ------
        DataError
            When the shard lacks the array, a row or a band.
        """
        mapped = self._map(array)
        if isinstance(rows, slice):
            block: NDArray[Any] = mapped[rows]
        else:
            index = np.asarray(rows, dtype=np.int64)
            if index.size and (index.min() < 0 or index.max() >= self.n_rows):
                bad = index[(index < 0) | (index >= self.n_rows)][0]
                raise DataError(f"shard {self.name} has no row {bad}; it holds rows 0 to {self.n_rows - 1}")
            if index.size and index[-1] - index[0] == index.size - 1 and (np.diff(index) == 1).all():
                block = mapped[int(index[0]) : int(index[-1]) + 1]
            else:
                block = mapped[index]
        if bands is not None and tuple(bands) != self.bands:
            block = block[:, self.band_index(bands)]
        return np.array(block, dtype=mapped.dtype.newbyteorder("="), order="C")

    def band_index(self, bands: Sequence[str]) -> list[int]:
        """Places of bands on the second axis.

        Raises
        ------
        DataError
            Naming the band that the shard lacks.
        """
        missing = [b for b in bands if b not in self.bands]
        if missing:
            raise DataError(f"shard {self.name} has no band {missing[0]}; it holds {', '.join(self.bands)}")
        return [self.bands.index(b) for b in bands]

    def verify(self) -> None:
        """Refuse a shard with an array that is missing, misshapen or cut short.

        Raises
        ------
        DataError
            Naming the file.
        """
        for array in self.arrays:
            self._map(array)

    def _map(self, array: str) -> NDArray[Any]:
        if array not in self.arrays:
            raise DataError(f"shard {self.name} holds no {array}; it holds {', '.join(self.arrays)}")
        if array not in self._maps:
            path = self.path / f"{array}.npy"
            try:
                found = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as exc:
                raise DataError(f"pixel array {path} cannot be read: {exc}; ingest again") from exc
            if found.shape != self.shape:
                raise DataError(
                    f"pixel array {path} has shape {found.shape}, its meta.json says {self.shape}; "
                    "ingest again"
                )
            self._maps[array] = found
        return self._maps[array]


def pixel_hashes(image: NDArray[np.float32]) -> list[str]:
    """xxh3_128 of each cutout's float32 pixels, shape and all: the content hash of table cutout.

    Parameters
    ----------
    image : ndarray, shape (n, bands, ny, nx)
    """
    pixels = np.ascontiguousarray(image, dtype="<f4")
    head = ",".join(map(str, pixels.shape[1:])).encode()
    hashes = []
    for one in pixels:
        digest = xxhash.xxh3_128(head)
        digest.update(one.tobytes())
        hashes.append(digest.hexdigest())
    return hashes


def write_image_shard(
    root: Path, name: str, arrays: Mapping[str, NDArray[Any]], bands: Sequence[str]
) -> ImageShard:
    """Write an image shard in one go: to a temporary folder, synced, then renamed.

    Parameters
    ----------
    root : Path
        Shard root; made when it is not there.
    name : str
        Folder name. A shard of that name that is there already is left as it is.
    arrays : mapping of str to ndarray, each of shape (n_rows, bands, ny, nx)
        image, and stamp and matched or not.
    bands : sequence of str
        Names of the second axis.

    Raises
    ------
    DataError
        When the arrays differ in shape or do not have that many bands.
    TransientError
        When the disk is full.
    """
    final = Path(root) / name
    if final.exists():
        return ImageShard(final)
    shapes = {a.shape for a in arrays.values()}
    shape = next(iter(shapes), ())
    if len(shapes) != 1 or len(shape) != 4 or shape[1] != len(bands):
        raise DataError(
            f"image shard {name}: arrays of one shape (rows, {len(bands)} bands, ny, nx) are needed, "
            f"given {sorted(shapes)}"
        )
    folder = final.with_name(temporary_name(name))
    meta = {
        "kind": KIND,
        "version": VERSION,
        "bands": list(bands),
        "n_rows": shape[0],
        "ny": shape[2],
        "nx": shape[3],
        "arrays": {a: {"dtype": ARRAYS[a]} for a in arrays},
    }
    try:
        folder.mkdir(parents=True)
        for array, values in arrays.items():
            with open(folder / f"{array}.npy", "wb") as handle:
                np.save(handle, np.ascontiguousarray(values, dtype=ARRAYS[array]), allow_pickle=False)
                handle.flush()
                os.fsync(handle.fileno())
        with open(folder / "meta.json", "w", encoding="utf-8") as text:
            json.dump(meta, text, indent=1)
            text.flush()
            os.fsync(text.fileno())
        os.rename(folder, final)
        _sync(final.parent)
    except OSError as exc:
        shutil.rmtree(folder, ignore_errors=True)
        if final.exists():  # another process wrote the same pixels
            return ImageShard(final)
        raise TransientError(
            f"shard {final} cannot be written: {exc.strerror}; make room and run again"
        ) from exc
    return ImageShard(final)


def _sync(folder: Path) -> None:
    """Make a rename in this folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def percentile_stamp(
    image: NDArray[np.float32], low: float = 0.5, high: float = 99.5
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Percentile normalisation to 0..255 per cutout and band (Pourrahmani 2019, section 4.1).

    Parameters
    ----------
    image : ndarray, shape (n, bands, ny, nx)
        Calibrated pixels; NaN ones become 0 and do not count.
    low, high : float
        Percentiles that are clipped to.

    Returns
    -------
    stamp : ndarray of uint8, shape (n, bands, ny, nx)
        All 0 in a band without contrast or without pixels.
    clip : ndarray, shape (n, bands, 2)
        The clip values, NaN for a band without pixels.
    """
    pixels = np.asarray(image, dtype=np.float32)
    n, n_band = pixels.shape[:2]
    flat = pixels.reshape(n * n_band, -1)
    stamp = np.zeros(flat.shape, dtype=np.uint8)
    clip = np.full((len(flat), 2), np.nan, dtype=np.float32)
    step = max(1, _BLOCK_PIXELS // max(flat.shape[1], 1))  # a block stays in the processor's cache
    for first in range(0, len(flat), step):
        part = flat[first : first + step]
        good = np.isfinite(part)
        whole = good.all(axis=1)
        ends = clip[first : first + step]
        if whole.all():
            ends[:] = _two_percentiles(part, low, high)
        else:
            ends[whole] = _two_percentiles(part[whole], low, high)
            for k in np.flatnonzero(~whole & good.any(axis=1)):
                ends[k] = _two_percentiles(part[k][good[k]][None], low, high)[0]
        lo, hi = ends[:, :1], ends[:, 1:]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            scaled = (part - lo) / np.where(hi > lo, hi - lo, np.inf)
            np.clip(scaled, 0.0, 1.0, out=scaled)
            scaled *= 255.0
            scaled += 0.5
        if not whole.all():
            scaled[~good] = 0.0
        stamp[first : first + step] = scaled
    return stamp.reshape(pixels.shape), clip.reshape(n, n_band, 2)


_BLOCK_PIXELS = 1 << 17


def _two_percentiles(rows: NDArray[np.float32], low: float, high: float) -> NDArray[np.float64]:
    """Two percentiles of each row of finite values, between neighbours linearly; shape (n, 2)."""
    size = rows.shape[1]
    at = np.array([low, high]) / 100.0 * (size - 1)
    below = np.floor(at).astype(int)
    above = np.minimum(below + 1, size - 1)
    ordered = np.partition(rows, np.unique([below, above]), axis=1)
    first = ordered[:, below].astype(np.float64)
    return first + (ordered[:, above] - first) * (at - below)
