"""Generated stamps as image shards and rows: what the benchmarks and tests of image scoring score."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schema.engine import connect_engine, shard_root
from schema.healpix import hpx29
from schema.ids import hashed_id
from schema.image_shards import percentile_stamp, pixel_hashes, write_image_shard
from schema.tables import cutout, image_shard, target
from schema.upsert import insert_rows

Images = NDArray[np.float32]
"""Calibrated pixels, shape (n, bands, ny, nx)."""

BANDS = ("g", "r", "i")


def plain_images(n: int, seed: int, npix: int = 64, bands: int = 3, pixscale: float = 0.168) -> Images:
    """Round galaxies with noise, and a blue ring around every tenth.

    Returns
    -------
    ndarray, shape (n, bands, npix, npix)
    """
    rng = np.random.default_rng(seed)
    axis = (np.arange(npix) + 0.5 - npix / 2) * pixscale
    radius = np.hypot(axis[:, None], axis)
    size = rng.uniform(0.4, 1.2, (n, 1, 1, 1))
    colour = np.linspace(0.4, 1.0, bands)[None, :, None, None]
    images = 30.0 * colour * np.exp(-radius / size)
    ring = np.exp(-0.5 * ((radius - 1.6) / 0.25) ** 2) * 12.0 * colour[:, ::-1]
    images[::10] += ring
    return (images + rng.normal(0, 1, images.shape)).astype(np.float32)


def varied(base: Images, n: int, seed: int) -> Images:
    """`n` images from fewer: redrawn, turned, mirrored, and moved by up to two pixels."""
    rng = np.random.default_rng(seed)
    out = base[rng.integers(0, len(base), n)]
    for k in range(8):
        some = slice(k, n, 8)
        turned = np.rot90(out[some], k % 4, axes=(2, 3))
        turned = turned[..., ::-1] if k >= 4 else turned
        out[some] = np.roll(turned, tuple(rng.integers(-2, 3, 2)), axis=(2, 3))
    return out


def add_images(
    db: str,
    shards: Iterator[tuple[str, Images]],
    *,
    bands: Sequence[str] = BANDS,
    pixscale: float | None = 0.168,
    survey: str = "mock_images",
    with_image: bool = True,
) -> int:
    """Write image shards and their rows of image_shard, target and cutout; returns how many cutouts.

    Parameters
    ----------
    db : str
        An upgraded database.
    shards : iterator of (name, images)
        One shard each; the names of its targets begin with the shard's name.
    bands : sequence of str
        Names of the second axis.
    pixscale : float or None
        Width of a pixel [arcsec].
    survey : str
        Survey of the targets.
    with_image : bool
        Whether the shards keep the float images beside the stamps.
    """
    done = 0
    for name, images in shards:
        stamp, _ = percentile_stamp(images)
        arrays: dict[str, NDArray[Any]] = {"stamp": stamp} | ({"image": images} if with_image else {})
        write_image_shard(shard_root(db), name, arrays, bands)
        with connect_engine(db, check=False).begin() as conn:
            size = sum(a.nbytes for a in arrays.values())
            rows = image_rows(name, images, bands, pixscale, survey, list(arrays), size)
            for table, content in zip((image_shard, target, cutout), rows, strict=True):
                insert_rows(conn, table, content)
        done += len(images)
    return done


def image_rows(
    name: str,
    images: Images,
    bands: Sequence[str],
    pixscale: float | None,
    survey: str,
    arrays: list[str],
    size_bytes: int,
) -> tuple[list[dict[str, Any]], pa.Table, pa.Table]:
    """Rows of image_shard, target and cutout for one shard."""
    n, n_band, ny, nx = images.shape
    shard_id = hashed_id("image_shard", name)
    names = [f"{name}-{k}" for k in range(n)]
    target_id = np.array([hashed_id("target", survey, each) for each in names])
    ra = np.array([hashed_id("ra", each) % 3_600_000 for each in names]) / 1e4
    dec = np.array([hashed_id("dec", each) % 1_700_000 for each in names]) / 1e4 - 85.0
    good = np.isfinite(images).mean(axis=(1, 2, 3))
    shard = {
        "shard_id": shard_id, "name": name, "bands": ",".join(bands), "n_band": n_band, "ny": ny, "nx": nx,
        "n_rows": n, "arrays": arrays, "size_bytes": size_bytes,
        "created_at": datetime.datetime.now(datetime.UTC),
    }  # fmt: skip
    targets = pa.table({
        "target_id": target_id, "survey": [survey] * n, "native_id": names, "ra_deg": ra, "dec_deg": dec,
        "hpx29": hpx29(ra, dec), "is_injection": np.zeros(n, dtype=bool),
    })  # fmt: skip
    cutouts = pa.table({
        "cutout_id": [hashed_id("cutout", survey, each) for each in names],
        "target_id": target_id,
        "shard_id": np.full(n, shard_id),
        "shard_row": np.arange(n),
        "bands": [",".join(bands)] * n,
        "ny": np.full(n, ny, dtype=np.int32),
        "nx": np.full(n, nx, dtype=np.int32),
        "pixscale_arcsec": pa.array([pixscale] * n, type=pa.float64()),
        "frac_good": good,
        "frac_saturated": np.zeros(n),
        "content_hash": pixel_hashes(images),
        "is_primary": np.ones(n, dtype=bool),
    })  # fmt: skip
    return [shard], targets, cutouts
