"""Spectra per second of ``lensmine score``, from shard to committed row, beside plain references.

    python -m benchmarks.bench_score --n 20000
    python -m benchmarks.bench_score --n 20000 --postgresql postgresql://user@host/empty_database

The references of the same run score spectra one at a time with torch in eager mode and insert rows one at a
time; Li et al. (2018) give 230 spectra/s for their network on a laptop's CPU and 34 for the matched filter
(1,241,799 spectra in one and a half and in ten hours).
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.generated import Spectra, add_spectra, recipe_spectra, varied
from schema.engine import connect_engine, shard_root, upgrade
from schema.shards import Shard
from scoring.backends import available_cores
from scoring.localise import localise
from scoring.models.base import WEIGHTS_DIR
from scoring.registry import available_models, get_model, model_class

PAPER = {"network": 230.0, "filter": 34.0}


def fill(db: str, n: int, per_shard: int = 20_000, *, wide: bool = False) -> int:
    """`n` spectra of the realistic recipe, in shards."""
    upgrade(db)
    base = recipe_spectra(min(n, 4096), seed=1)

    def spectra(first: int) -> Spectra:
        return varied(base, min(per_shard, n - first), seed=first)

    return add_spectra(db, ((f"bench{k:05d}", spectra(k)) for k in range(0, n, per_shard)), wide=wide)


def reference(db: str, name: str, n: int) -> float:
    """Spectra per second of the plain way: one spectrum at a time, one inserted row at a time."""
    model = get_model(name)
    torch.set_num_threads(available_cores())
    shard = Shard(shard_root(db) / "bench00000")
    first, npix = model.window
    with tempfile.TemporaryDirectory() as folder, sqlite3.connect(Path(folder) / "plain.db") as conn:
        conn.execute("create table score (row integer primary key, probability real, wave real, snr real)")
        began = time.perf_counter()
        for row in range(n):
            flux, ivar = (
                torch.from_numpy(shard.read(array, slice(row, row + 1), first, npix))
                for array in ("flux", "ivar")
            )
            z = torch.tensor([0.5])
            probability = float(model.probability(flux, ivar, z)[0])
            wave, snr = localise(flux, ivar, z, first)
            conn.execute(
                "insert into score values (?, ?, ?, ?)", (row, probability, float(wave[0]), float(snr[0]))
            )
            conn.commit()
        return n / (time.perf_counter() - began)


def scored(db: str, model: str, *options: str) -> dict[str, float]:
    """What one ``lensmine score`` reports, run as a command of its own."""
    command = [
        sys.executable,
        "-m",
        "lensmine",
        "score",
        model,
        "all_spectra",
        "--json",
        "--db",
        db,
        *options,
    ]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ.copy())
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}  # type: ignore[dict-item]
    report = json.loads(done.stdout)
    return report | {"command_s": time.perf_counter() - began}


def forget_scores(db: str) -> None:
    """Take the scores out again, so that the next command has all of them to do."""
    with connect_engine(db).begin() as conn:
        for table in ("score", "run_chunk", "scoring_run", "model"):
            conn.exec_driver_sql(f"delete from {table}")


def main() -> None:
    """Print one row for each engine, model, backend and precision."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument(
        "--window", action="store_true", help="shards of the search window alone, not of whole spectra"
    )
    parser.add_argument("--n-reference", type=int, default=300)
    parser.add_argument("--postgresql", help="URL of an empty database; left out unless given")
    parser.add_argument("--models", nargs="*", default=None)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to put the DuckDB file and the shards"
    )
    given = parser.parse_args()
    names = given.models or [
        name
        for name in available_models("spectrum")
        if (model_class(name).kind == "filter" or (WEIGHTS_DIR / f"{name}.safetensors").exists())
        and set(model_class(name).inputs) <= {"flux", "ivar"}
    ]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        databases = {"duckdb": str(Path(folder) / "bench.duckdb")}
        if given.postgresql:
            os.environ["LENSMINE_SHARDS"] = str(Path(folder) / "bench.duckdb.shards")
            databases["postgresql"] = given.postgresql
        print(f"{given.n:,} spectra, {available_cores()} cores, load {os.getloadavg()[0]:.1f}")
        head = f"{'engine':<11}{'model':<22}{'backend':<9}{'precision':<10}"
        print(
            f"{head}{'spectra/s':>10}{'plain/s':>9}{'ratio':>7}{'paper/s':>9}{'ratio':>7}  seconds by stage"
        )
        plain: dict[str, float] = {}
        for engine, db in databases.items():
            fill(db, given.n, wide=not given.window)
            for name in names:
                if name not in plain:
                    plain[name] = reference(db, name, given.n_reference)
                network = model_class(name).kind == "network"
                ways = [("torch", "fp32")] + ([("openvino", "fp32"), ("openvino", "int8")] if network else [])
                for backend, precision in ways:
                    forget_scores(db)
                    options = ("--backend", backend, "--precision", precision)
                    report = scored(db, name, *options)
                    if precision == "int8" and "error" not in report:  # once more, now that it is quantised
                        forget_scores(db)
                        report = scored(db, name, *options)
                    line = f"{engine:<11}{name:<22}{backend:<9}{precision:<10}"
                    if "error" in report:
                        print(f"{line} {report['error']}")
                        continue
                    rate, paper = report["spectra_per_s"], PAPER["network" if network else "filter"]
                    stages = {k: round(v, 1) for k, v in report["seconds"].items()}  # type: ignore[attr-defined]
                    print(
                        f"{line}{rate:>10,.0f}{plain[name]:>9,.0f}{rate / plain[name]:>7.1f}"
                        f"{paper:>9,.0f}{rate / paper:>7.1f}  {stages}",
                        flush=True,
                    )


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
