"""The paper's whole sample at once: 1,240,000 generated spectra scored by one command.

    python -m benchmarks.run_1240000 --folder /somewhere/with/15/GB

Li et al. (2018) took one and a half hours on a laptop's CPU. The spectra are those of the realistic recipe,
each row redrawn, scaled and given noise of its own; making them is not part of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.generated import FIRST_PLATE, Spectra, add_rows, recipe_spectra, varied
from schema.engine import connect_engine, shard_root, upgrade
from schema.grid import WINDOW_FIRST
from schema.shards import write_shard
from scoring.backends import available_cores

PAPER_RATE = 1_241_799 / 5400.0
PER_SHARD = 20_000
_base: list[Spectra] = []


def _start(path: str) -> None:
    with np.load(path) as base:
        _base[:] = [(base["flux"], base["ivar"], base["z"])]


def _make(root: str, name: str, n: int, seed: int) -> str:
    spectra = varied(_base[0], n, seed)
    shard = write_shard(Path(root), name, {"flux": spectra[0], "ivar": spectra[1]}, pix0=WINDOW_FIRST)
    return str(shard.path)


def make(db: str, n: int, folder: Path) -> float:
    """Write the shards in parallel and then their rows; returns the seconds it took."""
    began = time.perf_counter()
    upgrade(db)
    base = recipe_spectra(8192, seed=1)
    kept = folder / "base.npz"
    np.savez(kept, flux=base[0], ivar=base[1], z=base[2])
    _start(str(kept))
    with ProcessPoolExecutor(available_cores(), initializer=_start, initargs=(str(kept),)) as pool:
        jobs = [
            (
                k,
                min(PER_SHARD, n - k),
                pool.submit(_make, str(shard_root(db)), f"big{k:07d}", min(PER_SHARD, n - k), k),
            )
            for k in range(0, n, PER_SHARD)
        ]
        for k, size, job in jobs:
            path = Path(job.result())
            with connect_engine(db, check=False).begin() as conn:
                add_rows(conn, path, varied(_base[0], size, k), FIRST_PLATE * 1000 + k)
    kept.unlink()
    return time.perf_counter() - began


def main() -> None:
    """Make the spectra, run the command once, print time, rate and peak memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--n", type=int, default=1_240_000)
    parser.add_argument("--model", default="resnet28_lae")
    parser.add_argument("--keep", action="store_true", help="leave the files for another run")
    parser.add_argument("options", nargs="*", help="further options of lensmine score, after --")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    db = str(given.folder / "big.duckdb")
    os.environ.pop("LENSMINE_SHARDS", None)
    if not Path(db).exists():
        print(f"made in {make(db, given.n, given.folder):.0f} s", flush=True)
    print(f"load before: {os.getloadavg()[0]:.1f} on {available_cores()} cores", flush=True)
    command = [sys.executable, "-m", "lensmine", "score", given.model, "all_spectra", "--json", "--db", db]
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen([*command, *given.options], stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
        spent = time.perf_counter() - began
        if status:
            sys.exit(os.waitstatus_to_exitcode(status))
        out.seek(0)
        report = json.load(out)
    peak = usage.ru_maxrss / 2**20
    print(f"lensmine score {given.model} all_spectra {' '.join(given.options)}")
    print(
        f"{report['n_scored']:,} spectra in {spent:.0f} s = {report['n_scored'] / spent:,.0f} spectra/s "
        f"({report['n_scored'] / spent / PAPER_RATE:.1f} times the paper), peak memory {peak:.2f} GiB"
    )
    print({stage: round(seconds, 1) for stage, seconds in report["seconds"].items()})
    with connect_engine(db, read_only=True).connect() as conn:
        row = conn.exec_driver_sql("select count(*), count(distinct spectrum_id) from score").one()
    size = Path(db).stat().st_size / 2**20
    print(f"rows in score: {row[0]:,}, of {row[1]:,} spectra; database {size:.0f} MiB")
    if not given.keep:
        shutil.rmtree(shard_root(db))
        Path(db).unlink()


if __name__ == "__main__":
    main()
