"""Simulated sources into shards and tables: once each, whatever ran before."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from schema.engine import connect_engine, shard_root
from schema.healpix import hpx29
from schema.ids import hashed_id
from schema.image_shards import percentile_stamp, pixel_hashes, write_image_shard
from schema.tables import cutout, image_shard, injection, injection_lens, phot_obj, target
from schema.upsert import upsert_rows
from scoring.inject.batch import Batch, Columns
from scoring.inject.setup import cutout_name
from scoring.light.instruments import Instrument

SURVEY = "sim"
R2 = (0.7548776662466927, 0.5698402909980532)
"""Steps of the two-dimensional sequence of least discrepancy that spreads positions over the sky."""


def native_ids(tag: str, index: Sequence[int] | NDArray[Any]) -> list[str]:
    """Names of simulated sources: ``TAG-NNNNNNN``."""
    return [f"{tag}-{int(i):07d}" for i in index]


def existing(db: str | None, tag: str) -> set[int]:
    """Numbers of the sources of a tag that the database holds."""
    t = target.c
    query = sa.select(t.native_id).where(
        t.survey == SURVEY, t.native_id >= f"{tag}-0", t.native_id <= f"{tag}-9" + "9" * 12
    )
    with connect_engine(db, read_only=True).connect() as conn:
        names = conn.execute(query).scalars()
        return {int(n.rsplit("-", 1)[1]) for n in names if n.rsplit("-", 1)[0] == tag}


def positions(tag: str, index: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right ascension and declination [deg], even over the sky and the same for the same tag and number."""
    start = hashed_id("sky", tag)
    u = (index * R2[0] + (start % 99991) / 99991) % 1.0
    v = (index * R2[1] + (start % 65521) / 65521) % 1.0
    dec: NDArray[np.float64] = np.degrees(np.arcsin(2.0 * v - 1.0))
    ra: NDArray[np.float64] = 360.0 * np.asarray(u, dtype=np.float64)
    return ra, dec


def write_batch(
    db: str | None,
    tag: str,
    index: NDArray[np.int64],
    batch: Batch,
    instrument: Instrument,
    *,
    arrays: Sequence[str] = ("image", "stamp"),
    cutouts: Columns | None = None,
    sky: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    host_target_id: Sequence[int | None] | None = None,
) -> list[int]:
    """Write a batch: one shard, then its rows in one transaction.

    A shard of the same name from a run that was killed before its rows is taken as it is: the same tag and
    numbers give the same pixels.

    Parameters
    ----------
    db : str or None
        Database.
    tag : str
        Names the recipe, the instrument and the seed.
    index : ndarray of int, shape (n,)
        Numbers of the sources within the tag.
    batch : Batch
        Their images and truth.
    instrument : Instrument
        What they were simulated for.
    arrays : sequence of str
        Arrays that the shard keeps: image, stamp or both.
    cutouts : dict, optional
        Columns of table cutout that differ from the instrument's own.
    sky : (ra, dec), optional
        Positions [deg]; spread over the sky unless given.
    host_target_id : sequence, optional
        Real targets that arcs were put on.

    Returns
    -------
    list of int
        Their target_id.
    """
    names = native_ids(tag, index)
    ids = [hashed_id("target", SURVEY, name) for name in names]
    ra, dec = positions(tag, index) if sky is None else sky
    stamp, clip = percentile_stamp(batch.image)
    # of two lists of numbers with the same ends and length each needs a shard of its own
    which = f"{hashed_id('numbers', *map(int, index)) & 0xFFFFFFFF:08x}"
    shard_name = f"{SURVEY}-{tag}-{int(index[0]):07d}-{int(index[-1]):07d}-{which}"
    made: dict[str, NDArray[Any]] = {"image": batch.image, "stamp": stamp}
    pixels = {name: made[name] for name in arrays}
    shard = write_image_shard(shard_root(db), shard_name, pixels, instrument.bands)
    now = datetime.datetime.now(datetime.UTC)
    n, bands, ny, nx = batch.image.shape
    shard_id = hashed_id("image_shard", shard_name)
    shard_row = {
        "shard_id": shard_id,
        "name": shard_name,
        "bands": ",".join(instrument.bands),
        "n_band": bands,
        "ny": ny,
        "nx": nx,
        "n_rows": n,
        "arrays": list(arrays),
        "size_bytes": _size(shard.path),
        "created_at": now,
    }
    by_band = {
        "zeropoint": dict(zip(instrument.bands, instrument.zero_point, strict=True)),
        "noise": dict(zip(instrument.bands, instrument.background_sigma().tolist(), strict=True)),
    }
    good = np.isfinite(batch.image).reshape(n, -1)
    brightest = np.nanmax(
        np.where(np.isfinite(batch.image), batch.image, -np.inf), axis=(2, 3), keepdims=True
    )
    cutout_columns: Columns = {
        "cutout_id": [hashed_id("cutout", SURVEY, name) for name in names],
        "target_id": ids,
        "shard_id": [shard_id] * n,
        "shard_row": list(range(n)),
        "instrument": [cutout_name(instrument)] * n,
        "bands": [",".join(instrument.bands)] * n,
        "ny": [ny] * n,
        "nx": [nx] * n,
        "pixscale_arcsec": [instrument.pixel_scale_arcsec] * n,
        "orientat_deg": [0.0] * n,
        "sky_parity": [1] * n,
        "unit": ["count"] * n,
        "zeropoint": [by_band["zeropoint"]] * n,
        "noise": [by_band["noise"]] * n,
        "clip": [dict(zip(instrument.bands, c, strict=True)) for c in clip.tolist()],
        "psf_fwhm_arcsec": [float(np.median(instrument.psf_fwhm_arcsec))] * n,
        "frac_good": good.mean(1),
        "frac_saturated": (batch.image == brightest).reshape(n, -1).mean(1),
        "content_hash": pixel_hashes(batch.image),
        "is_primary": [True] * n,
    } | (cutouts or {})
    target_columns = {
        "target_id": ids,
        "survey": [SURVEY] * n,
        "native_id": names,
        "ra_deg": ra,
        "dec_deg": dec,
        "hpx29": hpx29(ra, dec),
        "is_injection": [True] * n,
    }
    truth = batch.injection | {"target_id": ids, "host_target_id": host_target_id or [None] * n}
    phot = batch.phot | {
        "target_id": ids,
        "catalog": [SURVEY] * n,
        "object_id": names,
        "mag_kind": ["model"] * n,
    }
    with connect_engine(db).begin() as conn:
        upsert_rows(conn, image_shard, [shard_row], ["shard_id"])
        upsert_rows(conn, target, arrow(target_columns), ["target_id"])
        upsert_rows(conn, phot_obj, arrow(phot), ["target_id"])
        upsert_rows(conn, cutout, _as_dicts(cutout_columns), ["cutout_id"])
        upsert_rows(conn, injection, arrow(truth), ["target_id"])
        if batch.lens:
            upsert_rows(conn, injection_lens, arrow(batch.lens | {"target_id": ids}), ["target_id"])
    return ids


def arrow(columns: Columns) -> pa.Table:
    """Columns as an Arrow table; NaN becomes null."""
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})


def _as_dicts(columns: Columns) -> list[dict[str, Any]]:
    """Columns as rows, for those that hold JSON."""
    plain = [v.tolist() if isinstance(v, np.ndarray) else v for v in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*plain, strict=True)]


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.npy"))
