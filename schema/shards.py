"""Pixel shards: folders of plain arrays on the log-wavelength grid, read by row and by wavelength window.

A shard ``<shard_root>/<name>/`` holds C-ordered little-endian .npy files of shape (n_rows, npix) and a
meta.json. Column ``j`` is grid pixel ``pix0 + j``, so that a wavelength window is an exact slice. Shards
do not change once they have their name.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schema.errors import DataError, TransientError
from schema.grid import PIX0

VERSION = 1
FLUX_UNIT = "1e-17 erg / (s cm2 Angstrom)"
ARRAYS: dict[str, tuple[str, str]] = {
    "flux": ("<f4", FLUX_UNIT),
    "ivar": ("<f4", "1e34 s2 cm4 Angstrom2 / erg2"),
    "mask": ("<u4", ""),
    "model": ("<f4", FLUX_UNIT),
    "sky": ("<f4", FLUX_UNIT),
}
"""Type and unit of each array that a shard may hold."""

NODATA = np.uint32(1 << 24)
"""Mask bit of a pixel outside the spectrum (SPPIXMASK bit 24)."""


@dataclass
class Shard:
    """One shard, opened for reading; its files are opened when first read.

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
    pix0: int = field(init=False)
    npix: int = field(init=False)
    n_rows: int = field(init=False)
    arrays: tuple[str, ...] = field(init=False)
    _maps: dict[str, NDArray[Any]] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        try:
            meta = json.loads((self.path / "meta.json").read_text(encoding="utf-8"))
        except FileNotFoundError as exc:
            raise DataError(
                f"pixel shard {self.path} is missing; ingest its files again, or set LENSMINE_SHARDS to "
                "the folder that holds the shards"
            ) from exc
        except ValueError as exc:
            raise DataError(f"pixel shard {self.path} has a damaged meta.json: {exc}") from exc
        if meta.get("version") != VERSION:
            raise DataError(f"pixel shard {self.path} has layout {meta.get('version')}; known is {VERSION}")
        self.pix0, self.npix, self.n_rows = int(meta["pix0"]), int(meta["npix"]), int(meta["n_rows"])
        self.arrays = tuple(meta["arrays"])

    @property
    def name(self) -> str:
        """Folder name, as in pixel_shard.name."""
        return self.path.name

    def read(
        self,
        array: str,
        rows: slice | NDArray[Any] | list[int],
        first_pixel: int | None = None,
        npix: int | None = None,
    ) -> NDArray[Any]:
        """Rows of one array within a wavelength window, copied out of the file.

        Parameters
        ----------
        array : str
            flux, ivar, mask, model or sky.
        rows : slice, or int array of shape (n,)
            Shard rows. A contiguous slice is read in one sweep, so memory stays flat; others are gathered.
        first_pixel : int
            Grid index of the window's first pixel; the shard's own first pixel when left out.
        npix : int
            Pixels of the window; up to the shard's end when left out.

        Returns
        -------
        ndarray, shape (n, npix)
            In native byte order.

        Raises
        ------
        DataError
            When the shard lacks the array, the rows or the window.
        """
        first = self.pix0 if first_pixel is None else first_pixel
        width = self.pix0 + self.npix - first if npix is None else npix
        lo = first - self.pix0
        if lo < 0 or width < 0 or lo + width > self.npix:
            raise DataError(
                f"pixels {first} to {first + width - 1} are not all in shard {self.name}, which holds "
                f"{self.pix0} to {self.pix0 + self.npix - 1}"
            )
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.n_rows)
            if step == 1:
                return self._scan(array, start, max(stop, start), lo, width)
            rows = np.arange(start, stop, step)
        index = np.asarray(rows, dtype=np.int64)
        if index.size and (index.min() < 0 or index.max() >= self.n_rows):
            bad = index[(index < 0) | (index >= self.n_rows)][0]
            raise DataError(f"shard {self.name} has no row {bad}; it holds rows 0 to {self.n_rows - 1}")
        if index.size and index[-1] - index[0] == index.size - 1 and (np.diff(index) == 1).all():
            return self._scan(array, int(index[0]), int(index[-1]) + 1, lo, width)
        return np.ascontiguousarray(self._map(array)[index, lo : lo + width])

    def verify(self) -> None:
        """Refuse a shard with an array that is missing, misshapen or cut short.

        Raises
        ------
        DataError
            Naming the file.
        """
        for array in self.arrays:
            self._map(array)

    def _file(self, array: str) -> Path:
        if array not in self.arrays:
            raise DataError(f"shard {self.name} holds no {array}; it holds {', '.join(self.arrays)}")
        return self.path / f"{array}.npy"

    def _map(self, array: str) -> NDArray[Any]:
        if array not in self._maps:
            try:
                found = np.load(self._file(array), mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as exc:
                raise DataError(
                    f"pixel array {self._file(array)} cannot be read: {exc}; ingest again"
                ) from exc
            if found.shape != (self.n_rows, self.npix):
                raise DataError(
                    f"pixel array {self._file(array)} has shape {found.shape}, "
                    f"its meta.json says {(self.n_rows, self.npix)}; ingest again"
                )
            self._maps[array] = found
        return self._maps[array]

    def _scan(self, array: str, start: int, stop: int, lo: int, width: int) -> NDArray[Any]:
        """Rows start to stop by pread in pieces: pages read do not count as memory of this process.

        Whole rows, cut to the window: a read a row (or a memory map) defeats the kernel's read-ahead:
        for a quarter of rows of 4,900 pixels it is two to six times slower from disk, no faster from memory.
        """
        mapped = self._map(array)  # checks the shape once
        dtype = mapped.dtype
        out = np.empty((stop - start, width), dtype=dtype)
        offset = int(getattr(mapped, "offset", 0))
        piece = max(1, (4 << 20) // (self.npix * dtype.itemsize))
        buffer = np.empty((min(piece, max(stop - start, 1)), self.npix), dtype=dtype)
        with open(self._file(array), "rb", buffering=0) as handle:
            for first in range(start, stop, piece):
                n = min(piece, stop - first)
                block = buffer[:n]
                handle.seek(offset + first * self.npix * dtype.itemsize)
                if _fill(handle, block) != block.nbytes:
                    raise DataError(f"pixel array {self._file(array)} is cut short; ingest its files again")
                out[first - start : first - start + n] = block[:, lo : lo + width]
        return out


def _fill(handle: Any, block: NDArray[Any]) -> int:
    """Read until the block is full or the file ends; returns the bytes read."""
    view = block.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        got = handle.readinto(view[done:])
        if not got:
            break
        done += got
    return done


def write_shard(root: Path, name: str, arrays: Mapping[str, NDArray[Any]], pix0: int = PIX0) -> Shard:
    """Write a shard in one go: to a temporary folder, synced, then renamed.

    Parameters
    ----------
    root : Path
        Shard root; made when it is not there.
    name : str
        Folder name. A shard of that name that is there already is left as it is.
    arrays : mapping of str to ndarray, each of shape (n_rows, npix)
        Some of flux, ivar, mask, model, sky.
    pix0 : int
        Grid index of the first pixel.

    Raises
    ------
    TransientError
        When the disk is full.
    """
    final = Path(root) / name
    if final.exists():
        return Shard(final)
    shapes = {a.shape for a in arrays.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise DataError(
            f"shard {name}: arrays of one shape (rows, pixels) are needed, given {sorted(shapes)}"
        )
    n_rows, npix = next(iter(shapes))
    folder = final.with_name(name + ".tmp")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for array, values in arrays.items():
            with open(folder / f"{array}.npy", "wb") as handle:
                np.save(handle, np.ascontiguousarray(values, dtype=ARRAYS[array][0]), allow_pickle=False)
                handle.flush()
                os.fsync(handle.fileno())
        meta = shard_meta(pix0, npix, n_rows, tuple(arrays))
        with open(folder / "meta.json", "w", encoding="utf-8") as text:
            json.dump(meta, text, indent=1)
            text.flush()
            os.fsync(text.fileno())
        os.rename(folder, final)
    except OSError as exc:
        shutil.rmtree(folder, ignore_errors=True)
        raise TransientError(
            f"shard {final} cannot be written: {exc.strerror}; make room and run again"
        ) from exc
    return Shard(final)


def shard_meta(pix0: int, npix: int, n_rows: int, arrays: tuple[str, ...]) -> dict[str, Any]:
    """Content of meta.json."""
    return {
        "version": VERSION,
        "pix0": int(pix0),
        "npix": int(npix),
        "n_rows": int(n_rows),
        "arrays": {a: {"dtype": ARRAYS[a][0], "unit": ARRAYS[a][1]} for a in arrays},
    }
