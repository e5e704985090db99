"""A large search for the benchmarks of the dashboard: candidates of spectra and of images."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from schema.engine import connect_engine, shard_root, upgrade
from schema.grid import LYA_ANGSTROM, wave_angstrom
from schema.healpix import hpx29
from schema.image_shards import percentile_stamp, pixel_hashes, write_image_shard
from schema.shards import write_shard
from schema.tables import (
    cutout,
    image_score,
    image_shard,
    line_fit,
    model,
    pixel_shard,
    score,
    scoring_run,
    spec_obj,
    spectrum,
    target,
)
from schema.upsert import insert_rows

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
FIRST, NPIX, SIDE, OWN = 35600, 4200, 64, 1000


def fill(db: str, n: int, seed: int = 1) -> None:
    """An upgraded database with `n` candidates, half of spectra and half of images."""
    upgrade(db)
    rng = np.random.default_rng(seed)
    half = n // 2
    ids = np.arange(1, n + 1, dtype=np.int64) << 20
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-0.3, 0.9, n)))
    p = rng.uniform(0.5, 1, n)
    images = rng.normal(0, 0.05, (OWN, 3, SIDE, SIDE)).astype(np.float32)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    images += (8 * np.exp(-np.hypot(x, y) / 4)).astype(np.float32)
    write_image_shard(
        shard_root(db),
        "bench-images",
        {"image": images, "stamp": percentile_stamp(images)[0]},
        ("g", "r", "i"),
    )
    hashes = np.array(pixel_hashes(images), dtype=object)[np.arange(half) % OWN]
    wave = wave_angstrom(FIRST + np.arange(NPIX))
    hit = np.sort(rng.uniform(3850, 4950, half))
    own_hit = hit[np.linspace(0, half - 1, OWN).astype(int)]
    flux = 1 + rng.normal(0, 0.3, (OWN, NPIX)) + 6 * np.exp(-(((wave - own_hit[:, None]) / 3) ** 2))
    ivar = np.full(flux.shape, 1 / 0.09)
    write_shard(
        shard_root(db), "bench-spectra", {"flux": flux, "ivar": ivar, "model": np.ones_like(flux)}, FIRST
    )
    text = lambda value: pa.array([value] * half, pa.string())  # noqa: E731
    spectra, imaged = ids[:half], ids[half:]
    row = np.linspace(0, OWN - 1, half).astype(np.int64)
    names = pa.array([f"{k}" for k in ids], pa.string())
    own = {
        "target_id": spectra,
        "spectrum_id": spectra,
        "model_id": np.full(half, 1),
        "content_hash": text("h"),
    }
    tables: list[tuple[sa.Table, dict[str, Any]]] = [
        (
            target,
            {
                "target_id": ids,
                "survey": pa.array(["bench"] * n),
                "native_id": names,
                "ra_deg": ra,
                "dec_deg": dec,
                "hpx29": hpx29(ra, dec),
                "is_injection": np.zeros(n, dtype=bool),
            },
        ),
        (
            spec_obj,
            {
                "target_id": spectra,
                "class": text("GALAXY"),
                "z": np.full(half, 0.45),
                "is_primary": np.ones(half, bool),
            },
        ),
        (
            spectrum,
            {
                "spectrum_id": spectra,
                "target_id": spectra,
                "shard_id": np.full(half, 2),
                "shard_row": row,
                "pix_first": np.full(half, FIRST, np.int32),
                "pix_last": np.full(half, FIRST + NPIX - 1, np.int32),
                "n_good": np.full(half, NPIX, np.int32),
                "content_hash": text("h"),
                "is_primary": np.ones(half, bool),
            },
        ),
        (
            score,
            own
            | {
                "run_id": np.full(half, 1),
                "z_used": np.full(half, 0.45),
                "probability": p[:half],
                "wave_angstrom": hit,
                "snr": np.full(half, 9.0),
            },
        ),
        (
            line_fit,
            own
            | {
                "fit_id": spectra,
                "fit_version": text("bench"),
                "hit_wave_angstrom": hit,
                "status": text("ok"),
                "wave_angstrom": hit,
                "wave_err_angstrom": np.full(half, 0.3),
                "peak_wave_angstrom": hit,
                "line_flux": np.full(half, 30.0),
                "line_flux_err": np.full(half, 1.5),
                "peak_flux": np.full(half, 6.0),
                "peak_flux_err": np.full(half, 0.3),
                "sigma_angstrom": np.full(half, 3.0),
                "sigma_err_angstrom": np.full(half, 0.3),
                "skewness": np.full(half, 3.0),
                "skewness_err": np.full(half, 0.5),
                "constant": np.ones(half),
                "line_snr": np.full(half, 20.0),
                "delta_chi2_gaussian": np.full(half, 30.0),
                "z_lya": hit / LYA_ANGSTROM - 1,
                "z_oii": hit / 3728.5 - 1,
                "n_mask_near": np.zeros(half, np.int32),
                "chi2": np.full(half, 50.0),
                "dof": np.full(half, 50, np.int32),
            },
        ),
        (
            cutout,
            {
                "cutout_id": imaged,
                "target_id": imaged,
                "shard_id": np.full(half, 1),
                "shard_row": np.arange(half) % OWN,
                "instrument": text("hsc"),
                "bands": text("g,r,i"),
                "ny": np.full(half, SIDE, np.int32),
                "nx": np.full(half, SIDE, np.int32),
                "pixscale_arcsec": np.full(half, 0.168),
                "content_hash": pa.array(list(hashes)),
                "is_primary": np.ones(half, bool),
            },
        ),
        (
            image_score,
            {
                "cutout_id": imaged,
                "model_id": np.full(half, 2),
                "run_id": np.full(half, 2),
                "target_id": imaged,
                "content_hash": pa.array(list(hashes)),
                "probability": p[half:],
            },
        ),
    ]
    runs = [
        {
            "run_id": k,
            "model_id": k,
            "status": "done",
            "modality": m,
            "n_selected": half,
            "n_todo": half,
            "n_scored": half,
            "started_at": NOW,
        }
        for k, m in ((1, "spectrum"), (2, "image"))
    ]
    models = [
        {
            "model_id": k,
            "name": name,
            "kind": "network",
            "preprocessing_hash": "p",
            "weights_hash": "w" * 8,
            "threshold": 0.5,
        }
        for k, name in ((1, "bench_spectrum"), (2, "bench_image"))
    ]
    with connect_engine(db).begin() as conn:
        insert_rows(conn, model, models)
        insert_rows(conn, scoring_run, runs)
        insert_rows(
            conn,
            image_shard,
            [
                {
                    "shard_id": 1,
                    "name": "bench-images",
                    "bands": "g,r,i",
                    "n_band": 3,
                    "ny": SIDE,
                    "nx": SIDE,
                    "n_rows": OWN,
                }
            ],
        )
        insert_rows(
            conn,
            pixel_shard,
            [{"shard_id": 2, "name": "bench-spectra", "pix0": FIRST, "npix": NPIX, "n_rows": OWN}],
        )
        for table, columns in tables:
            insert_rows(conn, table, pa.table(columns))
