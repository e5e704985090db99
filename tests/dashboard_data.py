"""A small search to review: targets with spectra, images, both or neither, scored by two image models."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np

from schema.engine import connect_engine, shard_root
from schema.grid import wave_angstrom
from schema.healpix import hpx29
from schema.ids import hashed_id
from schema.image_shards import percentile_stamp, pixel_hashes, write_image_shard
from schema.shards import write_shard
from schema.tables import (
    cutout,
    image_score,
    image_shard,
    injection,
    injection_lens,
    known_lens,
    known_lens_cell,
    model,
    pixel_shard,
    scoring_run,
    selection,
    spec_obj,
    spectrum,
    target,
)
from schema.upsert import insert_rows

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
FIRST, NPIX, SIDE = 35600, 4200, 48
MARKUP = "<b>not bold</b><script>alert(1)</script>"
N = 40
N_IMAGE, N_SPECTRUM = 34, 28
"""Targets 0 to 33 have an image, 6 to 33 a spectrum, 34 to 39 neither."""


@dataclass(frozen=True)
class Search:
    """What was written.

    Attributes
    ----------
    ids : list of int  target_id by number
    probability : ndarray, shape (34,)  of the first model, by number
    """

    ids: list[int]
    probability: np.ndarray


def write_search(db: str, *, seed: int = 1) -> Search:
    """Fill an upgraded database; targets 0 to 9 are simulated lenses, 10 to 19 controls."""
    rng = np.random.default_rng(seed)
    ids = [hashed_id("target", "test", k) for k in range(N)]
    ra, dec = rng.uniform(10, 20, N), rng.uniform(-5, 5, N)
    cells = hpx29(ra, dec)
    images = _images(rng)
    flux, ivar = _spectra(rng)
    probability = np.round(rng.permutation(np.linspace(0.51, 0.999, N_IMAGE)), 4)
    second = np.clip(probability + rng.normal(0, 0.2, N_IMAGE), 0.01, 0.99)
    write_image_shard(
        shard_root(db),
        "test-images",
        {"image": images, "stamp": percentile_stamp(images)[0]},
        ("g", "r", "i"),
    )
    write_shard(shard_root(db), "test-spectra", {"flux": flux, "ivar": ivar, "model": 0 * flux + 1}, FIRST)
    hashes = pixel_hashes(images)
    with connect_engine(db).begin() as conn:
        insert_rows(
            conn,
            target,
            [
                {
                    "target_id": ids[k], "survey": "test", "native_id": MARKUP if k == 25 else f"object-{k}",
                    "ra_deg": ra[k], "dec_deg": dec[k], "hpx29": int(cells[k]), "is_injection": k < 20,
                }
                for k in range(N)
            ],
        )  # fmt: skip
        insert_rows(
            conn,
            image_shard,
            [
                {
                    "shard_id": 1,
                    "name": "test-images",
                    "bands": "g,r,i",
                    "n_band": 3,
                    "ny": SIDE,
                    "nx": SIDE,
                    "n_rows": N_IMAGE,
                }
            ],
        )
        insert_rows(
            conn,
            cutout,
            [
                {
                    "cutout_id": k + 1,
                    "target_id": ids[k],
                    "shard_id": 1,
                    "shard_row": k,
                    "instrument": "hsc",
                    "bands": "g,r,i",
                    "ny": SIDE,
                    "nx": SIDE,
                    "pixscale_arcsec": 0.168,
                    "content_hash": hashes[k],
                    "is_primary": True,
                }
                for k in range(N_IMAGE)
            ],
        )
        insert_rows(
            conn,
            pixel_shard,
            [{"shard_id": 2, "name": "test-spectra", "pix0": FIRST, "npix": NPIX, "n_rows": N_SPECTRUM}],
        )
        with_spectrum = range(N_IMAGE - N_SPECTRUM, N_IMAGE)
        insert_rows(
            conn,
            spec_obj,
            [{"target_id": ids[k], "class": "GALAXY", "z": 0.45, "is_primary": True} for k in with_spectrum],
        )
        insert_rows(
            conn,
            spectrum,
            [
                {
                    "spectrum_id": k,
                    "target_id": ids[k],
                    "shard_id": 2,
                    "shard_row": row,
                    "pix_first": FIRST,
                    "pix_last": FIRST + NPIX - 1,
                    "n_good": NPIX,
                    "n_good_window": 1192,
                    "content_hash": f"h{k}",
                    "is_primary": True,
                }
                for row, k in enumerate(with_spectrum)
            ],
        )
        _scores(conn, ids, hashes, probability, second)
        insert_rows(
            conn,
            injection,
            [{"target_id": ids[k], "is_lens": k < 10, "recipe": "test", "seed": 1} for k in range(20)],
        )
        insert_rows(
            conn,
            injection_lens,
            [{"target_id": ids[k], "theta_e_arcsec": 1.0, "arc_mag": 20.0 + 0.3 * k} for k in range(10)],
        )
        insert_rows(
            conn,
            known_lens,
            [
                {
                    "lens_id": 9,
                    "name": "Known <i>one</i>",
                    "ra_deg": ra[30],
                    "dec_deg": dec[30],
                    "hpx29": int(cells[30]),
                }
            ],
        )
        insert_rows(conn, known_lens_cell, [{"lens_id": 9, "cell": int(cells[30]) >> 36}])
        insert_rows(
            conn,
            selection,
            [{"selection_id": 7, "name": "everything", "version": 1, "where_sql": "true", "created_at": NOW}],
        )
    return Search(ids, probability)


def _scores(conn, ids, hashes, probability, second) -> None:  # type: ignore[no-untyped-def]
    insert_rows(
        conn,
        model,
        [
            {
                "model_id": m,
                "name": name,
                "kind": "network",
                "preprocessing_hash": "p",
                "weights_hash": f"w{m}" * 8,
                "threshold": 0.5,
                "registered_at": NOW,
            }
            for m, name in ((11, "first"), (12, "second"))
        ],
    )
    insert_rows(
        conn,
        scoring_run,
        [
            {
                "run_id": 100 + m, "model_id": m, "selection_id": 7, "status": "done", "modality": "image",
                "n_selected": N_IMAGE, "n_todo": N_IMAGE, "n_scored": N_IMAGE, "started_at": NOW,
            }
            for m in (11, 12)
        ],
    )  # fmt: skip
    insert_rows(
        conn,
        image_score,
        [
            {
                "cutout_id": k + 1,
                "model_id": m,
                "run_id": 100 + m,
                "target_id": ids[k],
                "content_hash": hashes[k],
                "probability": float(values[k]),
            }
            for m, values in ((11, probability), (12, second))
            for k in range(N_IMAGE)
        ],
    )


def _images(rng: np.random.Generator) -> np.ndarray:
    """A galaxy in the middle of each, an arc beside that of the first ten, shape (N_IMAGE, 3, SIDE, SIDE)."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    r = np.hypot(x, y)
    out = rng.normal(0, 0.05, (N_IMAGE, 3, SIDE, SIDE))
    out += 8 * np.exp(-r / 3) * np.array([0.4, 0.8, 1.0])[:, None, None]
    arc = np.exp(-(((r - 12) / 1.5) ** 2)) * (np.abs(np.arctan2(y, x)) < 0.7)
    out[:10] += 1.2 * arc * np.array([1.0, 0.7, 0.5])[:, None, None]
    out[20, :, :6, :6] = np.nan
    return out.astype(np.float32)


def _spectra(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    wave = wave_angstrom(FIRST + np.arange(NPIX))
    flux = 1 + rng.normal(0, 0.3, (N_SPECTRUM, NPIX)) + 6 * np.exp(-(((wave - 4300) / 3) ** 2))
    ivar = np.full(flux.shape, 1 / 0.3**2)
    ivar[0] = 0
    ivar[1, :200] = 0
    return flux.astype(np.float32), ivar.astype(np.float32)
