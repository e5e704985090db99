"""Generated spectra as shards and rows: what the scoring benchmarks and tests score.

Fluxes come from a recipe of scoring.generate, or from noise on a flat continuum where that is enough.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
import xxhash
from numpy.typing import NDArray

from schema.engine import connect_engine, shard_root
from schema.grid import WINDOW_FIRST, WINDOW_NPIX
from schema.healpix import hpx29
from schema.ids import hashed_id, sdss_native_id, sdss_target_id
from schema.shards import write_shard
from schema.tables import pixel_shard, spec_obj, spectrum, target
from schema.upsert import insert_rows

Spectra = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]
"""Flux and ivar of the search window, shape (n, 1192), and the redshift, shape (n,)."""

WIDE_FIRST, WIDE_NPIX = 35_400, 4_900
FIRST_PLATE = 100_000


def plain_spectra(n: int, seed: int) -> Spectra:
    """Flat continua with noise, and a line in every tenth."""
    rng = np.random.default_rng(seed)
    flux = rng.normal(2.0, 1.0, (n, WINDOW_NPIX)).astype(np.float32)
    pixel = np.arange(WINDOW_NPIX)
    for row in range(0, n, 10):
        flux[row] += 12.0 * np.exp(-0.5 * ((pixel - rng.integers(50, WINDOW_NPIX - 50)) / 2.5) ** 2)
    return flux, np.ones_like(flux), rng.uniform(0.31, 0.8, n)


def recipe_spectra(n: int, seed: int) -> Spectra:
    """Spectra of the realistic recipe."""
    import torch

    from scoring.generate.recipes import get_recipe

    batch = get_recipe("realistic").sample(n, torch.Generator().manual_seed(seed))
    return batch.flux.numpy(), batch.ivar.numpy(), batch.z.double().numpy()


def varied(base: Spectra, n: int, seed: int) -> Spectra:
    """`n` spectra from fewer: rows redrawn, scaled and with noise of a few percent of their own added."""
    flux, ivar, z = base
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(flux), n)
    scale = rng.uniform(0.9, 1.1, (n, 1)).astype(np.float32)
    new = flux[rows] * scale
    jitter = rng.standard_normal(WINDOW_NPIX + 4096, dtype=np.float32)
    with np.errstate(divide="ignore"):
        sigma = np.where(ivar[rows] > 0, 1 / np.sqrt(ivar[rows]), 0).astype(np.float32)
    for i, shift in enumerate(rng.integers(0, 4096, n)):
        new[i] += 0.1 * sigma[i] * jitter[shift : shift + WINDOW_NPIX]
    return new, ivar[rows] / scale**2, z[rows]


def add_spectra(
    db: str, shards: Iterator[tuple[str, Spectra]], plate: int = FIRST_PLATE, *, wide: bool = False
) -> int:
    """Write shards and their rows of pixel_shard, target, spec_obj and spectrum.

    Parameters
    ----------
    db : str
        An upgraded database.
    shards : iterator of (name, Spectra)
        One shard each.
    plate : int
        Plate number of the first; every thousand spectra take the next.
    wide : bool
        Rows of the 4,900 pixels of ingested spectra, of which the search window is a quarter.

    Returns
    -------
    int
        Spectra written.
    """
    done = 0
    for name, spectra in shards:
        first, arrays = WINDOW_FIRST, {"flux": spectra[0], "ivar": spectra[1]}
        if wide:
            first, beside = WIDE_FIRST, (WINDOW_FIRST - WIDE_FIRST, WIDE_NPIX - WINDOW_NPIX)
            pad = ((0, 0), (beside[0], beside[1] - beside[0]))
            arrays = {name: np.pad(pixels, pad, constant_values=1) for name, pixels in arrays.items()}
        written = write_shard(shard_root(db), name, arrays, pix0=first)
        with connect_engine(db, check=False).begin() as conn:
            add_rows(conn, written.path, spectra, plate * 1000 + done, first, arrays["flux"].shape[1])
        done += len(spectra[0])
    return done


def add_rows(
    conn: sa.Connection,
    shard: Path,
    spectra: Spectra,
    serial: int,
    pix0: int = WINDOW_FIRST,
    npix: int = WINDOW_NPIX,
) -> None:
    """Rows of one shard, in the caller's transaction; `serial` counts spectra from the first plate on."""
    flux, ivar, z = spectra
    n = len(flux)
    number = serial + np.arange(n)
    plate, fiber, mjd = number // 1000, number % 1000 + 1, np.full(n, 57000)
    target_id = sdss_target_id(plate, mjd, fiber)
    native = [sdss_native_id(int(p), 57000, int(f)) for p, f in zip(plate, fiber, strict=True)]
    ra, dec = (
        (number * 0.61803398875 % 1.0) * 360.0,
        np.degrees(np.arcsin(number * 0.7548776662 % 1.0 * 2 - 1)),
    )
    shard_id = hashed_id("shard", shard.name)
    row = {
        "shard_id": shard_id,
        "name": shard.name,
        "pix0": pix0,
        "npix": npix,
        "n_rows": n,
        "arrays": ["flux", "ivar"],
        "size_bytes": (flux.itemsize + ivar.itemsize) * n * npix,
        "created_at": datetime.datetime.now(datetime.UTC),
    }
    insert_rows(conn, pixel_shard, [row])
    many = {"target_id": target_id}
    insert_rows(
        conn,
        target,
        pa.table(many | {
            "survey": ["mock"] * n,
            "native_id": native,
            "ra_deg": ra,
            "dec_deg": dec,
            "hpx29": hpx29(ra, dec),
            "is_injection": np.zeros(n, dtype=bool),
        }),
    )  # fmt: skip
    insert_rows(
        conn,
        spec_obj,
        pa.table(many | {
            "class": ["GALAXY"] * n,
            "objtype": ["GALAXY"] * n,
            "plate": plate.astype(np.int32),
            "mjd": mjd.astype(np.int32),
            "fiber_id": fiber.astype(np.int32),
            "z": z,
            "z_warning": np.zeros(n, dtype=np.int32),
            "is_primary": np.ones(n, dtype=bool),
        }),
    )  # fmt: skip
    hashes = [xxhash.xxh3_128_hexdigest(f.tobytes() + w.tobytes()) for f, w in zip(flux, ivar, strict=True)]
    n_good = (ivar > 0).sum(1).astype(np.int32)
    insert_rows(
        conn,
        spectrum,
        pa.table(many | {
            "spectrum_id": [hashed_id("spectrum", name, 1, 0) for name in native],
            "shard_id": np.full(n, shard_id),
            "shard_row": np.arange(n),
            "pix_first": np.full(n, pix0, dtype=np.int32),
            "pix_last": np.full(n, pix0 + npix - 1, dtype=np.int32),
            "n_good": n_good,
            "n_good_window": n_good,
            "content_hash": hashes,
            "is_primary": np.ones(n, dtype=bool),
        }),
    )  # fmt: skip
