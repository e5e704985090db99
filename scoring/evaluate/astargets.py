"""Injected spectra as ordinary targets with their truth: they go through scores, cuts and fits in SQL."""

from __future__ import annotations

import datetime

import numpy as np
import sqlalchemy as sa
import torch
import xxhash

from schema.engine import connect_engine, shard_root
from schema.grid import LYA_ANGSTROM, PIX0, WINDOW_FIRST, WINDOW_NPIX
from schema.ids import hashed_id
from schema.shards import write_shard
from schema.tables import injection, pixel_shard, spec_obj, spectrum, target
from schema.upsert import upsert_rows
from scoring.evaluate.hosts import Hosts
from scoring.evaluate.injections import RECIPE_VERSION, InjectionConfig
from scoring.evaluate.testsets import Spectra, injected, near_real_negatives
from scoring.generate.lines import FWHM_PER_SIGMA

COPIED = ("class", "subclass", "z", "z_err", "z_warning", "objtype", "sourcetype", "plate", "mjd", "fiber_id")
"""Columns of spec_obj that a simulated target takes over from its host."""


def write_targets(
    db: str | None, hosts: Hosts, config: InjectionConfig, n_each: int = 20, n_negative: int = 200
) -> dict[str, int]:
    """Write injected lenses and negative controls as targets of survey ``mock``.

    The same settings give the same keys, so that writing them again changes nothing.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    hosts : Hosts
        Real galaxies.
    config : InjectionConfig
        Fluxes, profile and seed; its counts are not used.
    n_each : int
        Lenses of each flux.
    n_negative : int
        Negative controls without a line.

    Returns
    -------
    dict of str to int
        ``lenses`` and ``controls`` written.
    """
    generator = torch.Generator().manual_seed(config.seed)
    name = f"{hosts.selection}:{config.profile}:{config.seed}:{n_each}:{n_negative}:{list(config.fluxes)}"
    text = f"{RECIPE_VERSION}:{name}:{hosts.table.native_id.tolist()}"
    tag = xxhash.xxh3_64_hexdigest(text.encode())[:10]
    sets = [injected(hosts.spectra, config.fluxes, n_each, generator, config.profile)]
    if n_negative:
        sets.append(near_real_negatives(hosts.spectra, n_negative, generator))
    with connect_engine(db).begin() as conn:
        for kind, each in zip(("lens", "control"), sets, strict=False):
            _write_set(conn, db, hosts, each, f"inject-{tag}-{kind}", config)
    return {"lenses": len(sets[0]), "controls": n_negative}


def _write_set(
    conn: sa.Connection, db: str | None, hosts: Hosts, spectra: Spectra, name: str, config: InjectionConfig
) -> None:
    """A shard and the rows of one set; the caller's transaction makes them visible together."""
    assert spectra.model is not None
    arrays = {
        "flux": spectra.flux.numpy(),
        "ivar": spectra.ivar.numpy(),
        "mask": hosts.mask[spectra.host],
        "model": spectra.model.numpy(),
    }
    shard = write_shard(shard_root(db), name, arrays, PIX0)
    now = datetime.datetime.now(datetime.UTC)
    shard_id = hashed_id("shard", name)
    shard_row = {
        "shard_id": shard_id,
        "name": name,
        "pix0": PIX0,
        "npix": shard.npix,
        "n_rows": shard.n_rows,
        "arrays": list(arrays),
        "size_bytes": sum(a.nbytes for a in arrays.values()),
        "created_at": now,
    }
    upsert_rows(conn, pixel_shard, [shard_row], key=["shard_id"])
    rows = _rows(hosts, spectra, arrays, name, shard_id, config)
    for table in (target, spec_obj, spectrum, injection):
        upsert_rows(conn, table, rows[table.name], key=[next(iter(table.primary_key)).name])


def _rows(
    hosts: Hosts,
    spectra: Spectra,
    arrays: dict[str, np.ndarray],
    name: str,
    shard_id: int,
    config: InjectionConfig,
) -> dict[str, list[dict[str, object]]]:
    lines, label = spectra.lines, spectra.label
    good = arrays["ivar"] > 0
    window = slice(WINDOW_FIRST - PIX0, WINDOW_FIRST - PIX0 + WINDOW_NPIX)
    host_rows = hosts.table.astype(object).where(hosts.table.notna(), None).to_dict("records")
    out: dict[str, list[dict[str, object]]] = {"target": [], "spec_obj": [], "spectrum": [], "injection": []}
    for i in range(len(spectra)):
        host = host_rows[spectra.host[i]]
        native = f"{name}-{i}"
        target_id = hashed_id("target", "mock", native)
        here = np.flatnonzero(good[i])
        digest = xxhash.xxh3_128(b"".join(np.ascontiguousarray(a[i]).tobytes() for a in arrays.values()))
        sky = {key: host[key] for key in ("ra_deg", "dec_deg", "hpx29")}
        out["target"].append(
            {"target_id": target_id, "survey": "mock", "native_id": native, "is_injection": True} | sky
        )
        own = {"target_id": target_id, "is_primary": True, "primary_target_id": target_id, "n_epoch": 1}
        out["spec_obj"].append(own | {key: host[key] for key in COPIED})
        out["spectrum"].append(
            {
                "spectrum_id": hashed_id("spectrum", "mock", native),
                "target_id": target_id,
                "shard_id": shard_id,
                "shard_row": i,
                "pix_first": PIX0 + int(here[0]),
                "pix_last": PIX0 + int(here[-1]),
                "n_good": len(here),
                "n_good_window": int(good[i, window].sum()),
                "content_hash": digest.hexdigest(),
                "is_primary": True,
            }
        )
        truth: dict[str, object] = {
            "target_id": target_id,
            "host_target_id": host["target_id"],
            "is_lens": bool(label[i]),
            "z_lens": host["z"],
            "recipe": f"{RECIPE_VERSION} {config.profile}" if label[i] else f"{RECIPE_VERSION} control",
            "seed": config.seed,
        }
        if label[i]:
            wave, total, fwhm = (float(x[i]) for x in (lines.wave_angstrom, lines.flux, lines.fwhm_kms))
            sigma = wave * fwhm / 299792.458 / FWHM_PER_SIGMA
            truth |= {
                "z_source": wave / LYA_ANGSTROM - 1,
                "line": "lya",
                "wave_angstrom": wave,
                "line_flux": total,
                "peak_flux": total / (sigma * 2.5066282746),
                "fwhm_km_s": fwhm,
                "skewness": float(lines.skew[i]),
            }
        out["injection"].append(truth)
    return out
