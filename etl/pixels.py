"""Spectra onto the common grid and into shards.

A shard is written row by row with flat memory: to a temporary folder, synced, renamed to a name made from its
content, and only then does the database learn of it. A full disk leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from etl.checks import Fault, Note
from schema.errors import TransientError
from schema.grid import NPIX, PIX0, WINDOW_FIRST, WINDOW_NPIX
from schema.processes import temporary_name
from schema.shards import ARRAYS, NODATA, shard_meta

HASHED = ("flux", "ivar", "mask", "model")
"""Arrays that name the pixels, in the order in which they are hashed."""

TOLERANCE = 0.05
"""Largest distance of a pixel from the grid [pixels]; single precision alone gives 0.0024."""

ROWS_BUFFERED = 64
HEADER_BYTES = 128
_WINDOW = slice(WINDOW_FIRST - PIX0, WINDOW_FIRST - PIX0 + WINDOW_NPIX)


@dataclass(frozen=True)
class Placed:
    """A spectrum's row in a shard, as table spectrum describes it."""

    shard_row: int
    pix_first: int
    pix_last: int
    n_good: int
    n_good_window: int
    content_hash: str
    notes: tuple[Note, ...]


def grid_slice(loglam: NDArray[Any]) -> tuple[NDArray[np.int64] | slice, slice, int]:
    """Where pixels belong on the shard grid.

    Parameters
    ----------
    loglam : ndarray, shape (n,)
        log10 of the vacuum wavelength [dex of Angstrom].

    Returns
    -------
    into : slice or ndarray of int64
        Columns of the shard.
    taken : slice
        The pixels that have a column: those outside the shard's range are left out.
    n_outside : int
        Pixels left out.

    Raises
    ------
    Fault
        When pixels are not on the grid or not in order, or none lies within the range.
    """
    position = loglam.astype(np.float64) * 1e4
    first = position[0]
    if not np.isfinite(first):
        raise Fault("off_grid", "the first wavelength is not a finite number")
    start = round(float(first))
    steps = position - (start + np.arange(len(position)))
    lo, hi = float(steps.min()), float(steps.max())
    if lo > -TOLERANCE and hi < TOLERANCE:
        a, b = max(start, PIX0), min(start + len(position), PIX0 + NPIX)
        if a >= b:
            raise Fault(
                "outside_grid",
                f"pixels {start} to {start + len(position) - 1} are all outside the shards' range",
            )
        return slice(a - PIX0, b - PIX0), slice(a - start, b - start), len(position) - (b - a)
    index = np.rint(position)
    worst = np.abs(position - index).max()
    if not worst < TOLERANCE or (np.diff(index) <= 0).any() or not np.abs(index).max() < 1e6:
        found = (
            "the pixels are not in order"
            if worst < TOLERANCE
            else f"a pixel lies {worst:.2g} of a pixel off it"
        )
        raise Fault("off_grid", f"loglam is not on the grid of 1e-4 dex: {found}")
    inside = np.flatnonzero((index >= PIX0) & (index < PIX0 + NPIX))
    if not len(inside):
        raise Fault(
            "outside_grid", f"pixels {index[0]:.0f} to {index[-1]:.0f} are all outside the shards' range"
        )
    taken = slice(int(inside[0]), int(inside[-1]) + 1)
    return index[taken].astype(np.int64) - PIX0, taken, len(index) - len(inside)


class ShardWriter:
    """Writes one shard, `ROWS_BUFFERED` spectra at a time.

    Parameters
    ----------
    root : Path
        Folder of the shards; made when it is not there.
    prefix : str
        Beginning of the shard's name; the rest is a hash of its content.
    """

    def __init__(self, root: Path, prefix: str = "sdss") -> None:
        self.root, self.prefix = Path(root), prefix
        self.n_rows = 0
        self._buffers = {a: np.zeros((ROWS_BUFFERED, NPIX), dtype=t) for a, (t, _) in ARRAYS.items()}
        self._fill = 0
        self._names = xxhash.xxh3_128()
        self._folder: Path | None = None
        self._handles: dict[str, Any] = {}

    def add(self, pixels: dict[str, NDArray[Any]], hdu: int | None = None) -> Placed:
        """Put one spectrum into the next row.

        Parameters
        ----------
        pixels : dict of ndarray, each of shape (n,)
            loglam, flux, ivar, and_mask and, where there are any, model and sky.
        hdu : int, optional
            HDU named in notes.

        Raises
        ------
        Fault
            When the spectrum cannot be placed; the row is then not used.
        TransientError
            When the disk is full.
        """
        into, taken, n_outside = grid_slice(pixels["loglam"])
        notes = []
        if n_outside:
            notes.append(
                Note("outside_grid", f"{n_outside} pixels outside the range were left out", False, hdu)
            )
        row = {a: b[self._fill] for a, b in self._buffers.items()}
        for name, array in row.items():
            array[:] = NODATA if name == "mask" else 0
        flux, ivar = pixels["flux"][taken].astype(np.float32), pixels["ivar"][taken].astype(np.float32)
        good = ivar > 0
        n_negative = int((ivar < 0).sum())
        finite = np.isfinite(flux) & np.isfinite(ivar)
        n_bad = int(len(finite) - np.count_nonzero(finite))
        if n_negative:
            notes.append(
                Note(
                    "negative_ivar",
                    f"{n_negative} pixels with negative ivar: their ivar is set to 0",
                    False,
                    hdu,
                )
            )
        if n_bad:
            notes.append(
                Note("nonfinite", f"{n_bad} pixels not finite: their flux and ivar are set to 0", False, hdu)
            )
            good &= finite
            flux[~finite] = 0
        n_good = int(np.count_nonzero(good))
        if n_good != len(good):
            ivar[~good] = 0
        if not n_good:
            notes.append(
                Note(
                    "no_good_pixels",
                    "ivar is 0 in every pixel: it loads, but nothing can be found in it",
                    False,
                    hdu,
                )
            )
        row["flux"][into], row["ivar"][into] = flux, ivar
        row["mask"][into] = pixels["and_mask"][taken].astype(np.int64).astype(np.uint32)
        for name in ("model", "sky"):
            if name in pixels:
                values = pixels[name][taken].astype(np.float32)
                bad = ~np.isfinite(values)
                if bad.any():
                    values[bad] = 0
                row[name][into] = values
        digest = xxhash.xxh3_128()
        for name in HASHED:
            digest.update(row[name].data)
        content = digest.hexdigest()
        self._names.update(content.encode())
        edge = (into.start, into.stop - 1) if isinstance(into, slice) else (int(into[0]), int(into[-1]))
        placed = Placed(
            self.n_rows,
            PIX0 + edge[0],
            PIX0 + edge[1],
            n_good,
            int(np.count_nonzero(row["ivar"][_WINDOW] > 0)),
            content,
            tuple(notes),
        )
        self.n_rows += 1
        self._fill += 1
        if self._fill == ROWS_BUFFERED:
            self._flush()
        return placed

    def _flush(self) -> None:
        try:
            if self._folder is None:
                folder = self.root / temporary_name(self.prefix)
                folder.mkdir(parents=True)
                self._folder = folder
                for name in ARRAYS:
                    self._handles[name] = open(folder / f"{name}.npy", "wb", buffering=0)  # noqa: SIM115
                    _write(self._handles[name], bytes(HEADER_BYTES))
            for name, handle in self._handles.items():
                _write(handle, self._buffers[name][: self._fill].data.cast("B"))
        except OSError as exc:
            raise self._full(exc) from exc
        self._fill = 0

    def close(self) -> str | None:
        """Finish the shard and give it its name; None when it has no rows.

        The folder stands under its final name, synced, when this returns.
        """
        if not self.n_rows:
            return None
        if self._fill or self._folder is None:
            self._flush()
        assert self._folder is not None
        name = f"{self.prefix}-{self._names.hexdigest()}"
        final = self.root / name
        try:
            for array, handle in self._handles.items():
                handle.seek(0)
                _write(handle, npy_header(ARRAYS[array][0], (self.n_rows, NPIX)))
                os.fsync(handle.fileno())
                handle.close()
            self._handles = {}
            with open(self._folder / "meta.json", "w", encoding="utf-8") as text:
                json.dump(shard_meta(PIX0, NPIX, self.n_rows, tuple(ARRAYS)), text, indent=1)
                text.flush()
                os.fsync(text.fileno())
            if final.exists():  # the same spectra were written before, and shards never change
                shutil.rmtree(self._folder)
            else:
                os.rename(self._folder, final)
                sync_folder(self.root)
        except OSError as exc:
            raise self._full(exc) from exc
        self._folder = None
        return name

    def abandon(self) -> None:
        """Drop what was written so far."""
        for handle in self._handles.values():
            handle.close()
        self._handles = {}
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self.n_rows = self._fill = 0

    def _full(self, exc: OSError) -> TransientError:
        self.abandon()
        return TransientError(
            f"pixel shard in {self.root} cannot be written: {exc.strerror or exc}; "
            "make room and run the same again"
        )


def _write(handle: Any, data: Any) -> None:
    """Write all of it: an unbuffered write may stop short of a full disk."""
    view = memoryview(data)
    while len(view):
        view = view[handle.write(view) :]


def npy_header(dtype: str, shape: tuple[int, int]) -> bytes:
    """Header of a .npy file (format 1.0), always of the same length."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    return (
        b"\x93NUMPY\x01\x00"
        + (HEADER_BYTES - 10).to_bytes(2, "little")
        + (text.ljust(HEADER_BYTES - 11).encode("ascii") + b"\n")
    )


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
