"""Cutouts per second of ``lensmine score`` on images, from shard to committed row, on both engines.

    python -m benchmarks.bench_score_images --n 20000
    python -m benchmarks.bench_score_images --n 20000 --postgresql postgresql://user@host/empty_database

Stamps are 64x64 pixels in g, r and i, and 200x200 of 0.03 arcsec in F814W for the models of one band. A
model without shipped weights gets fresh ones, with the statistics of images: else the activations of a deep
network shrink to denormal numbers, on which processors crawl. The reference is the thesis:
EZnet 50/s and LensFlow 1,700/s, each on a GPU (Pourrahmani 2019).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.generated_images import add_images, plain_images, varied
from schema.engine import connect_engine, upgrade
from schema.image_shards import percentile_stamp
from scoring.backends import available_cores
from scoring.models.base import WEIGHTS_DIR
from scoring.registry import available_models, image_model, model_class

PAPER = {"eznet": 50.0, "lensflow": 1700.0}


def fill(db: str, n: int, per_shard: int = 5_000) -> None:
    """`n` stamps of three bands, and `n` images of one band, in shards."""
    upgrade(db)
    kinds = (
        ("gri", plain_images(512, 1), ("g", "r", "i"), 0.168),
        ("f814w", plain_images(256, 2, npix=200, bands=1, pixscale=0.03), ("F814W",), 0.03),
    )
    for name, base, bands, pixscale in kinds:
        parts = (
            (f"bench_{name}_{k:07d}", varied(base, min(per_shard, n - k), seed=k))
            for k in range(0, n, per_shard)
        )
        add_images(db, parts, bands=bands, pixscale=pixscale, survey=f"bench_{name}")


def weights_of(name: str, folder: Path) -> str:
    """``shipped``, or a file of fresh weights."""
    if (WEIGHTS_DIR / f"{name}.safetensors").exists():
        return "shipped"
    torch.manual_seed(0)
    path = folder / f"{name}.safetensors"
    model = image_model(name, None)
    network = model.network()
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None
    pixels = plain_images(128, 3, bands=model.n_band)
    stamps = percentile_stamp(pixels)[0] if model.pixels == "stamp" else pixels
    with torch.no_grad():
        network.train()(model.preprocess(torch.from_numpy(stamps), 0.168))
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path)
    return str(path)


def scored(db: str, model: str, *options: str) -> dict[str, Any]:
    """What one ``lensmine score`` reports, run as a command of its own."""
    command = [sys.executable, "-m", "lensmine", "score", model, "all_images", "--json", "--db", db, *options]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout) | {"command_s": time.perf_counter() - began}


def forget_scores(db: str) -> None:
    """Take the scores out again, so that the next command has all of them to do."""
    with connect_engine(db).begin() as conn:
        for table in ("image_score", "run_chunk", "scoring_run", "model"):
            conn.exec_driver_sql(f"delete from {table}")


def main() -> None:
    """Print one row for each engine, model, backend and precision."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=20_000, help="cutouts of each kind")
    parser.add_argument("--postgresql", help="URL of an empty database; left out unless given")
    parser.add_argument("--models", nargs="*", default=None)
    parser.add_argument("--backends", nargs="*", default=["torch", "openvino"])
    parser.add_argument("--precisions", nargs="*", default=["fp32"], help="fp32, bf16, int8")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--folder", type=Path, help="keep shards and DuckDB file here, and use them again")
    parser.add_argument("--fill-only", action="store_true", help="make the cutouts in --folder, score none")
    given = parser.parse_args()
    if given.fill_only and given.folder is None:
        parser.error("--fill-only needs --folder")
    names = given.models or [n for n in available_models("image") if model_class(n).kind == "network"]
    with contextlib.ExitStack() as stack:
        folder = given.folder or stack.enter_context(tempfile.TemporaryDirectory())
        databases = {"duckdb": str(Path(folder) / "bench.duckdb")}
        if given.postgresql:
            os.environ["LENSMINE_SHARDS"] = str(Path(folder) / "bench.duckdb.shards")
            databases["postgresql"] = given.postgresql
        kept = Path(folder) / f"filled_{given.n}"
        if given.fill_only:
            fill(databases["duckdb"], given.n)
            kept.touch()
            return
        print(f"{given.n:,} cutouts, {available_cores()} cores, load {os.getloadavg()[0]:.1f}")
        head = f"{'engine':<11}{'model':<14}{'backend':<9}{'precision':<10}"
        print(f"{head}{'cutouts':>9}{'/s':>9}{'thesis/s':>9}{'ratio':>7}  seconds by stage")
        for engine, db in databases.items():
            if engine != "duckdb" or not kept.exists():
                fill(db, given.n)
            for name in names:
                weights = weights_of(name, Path(folder))
                for backend in given.backends:
                    for precision in given.precisions:
                        if (backend, precision) in {("torch", "int8"), ("openvino", "bf16")}:
                            continue
                        forget_scores(db)
                        words = ("--backend", backend, "--precision", precision, "--weights", weights)
                        report = scored(db, name, *words, "--device", given.device)
                        if (
                            precision == "int8" and "error" not in report
                        ):  # once more, now that it is quantised
                            forget_scores(db)
                            report = scored(db, name, *words, "--device", given.device)
                        print(
                            f"{engine:<11}{name:<14}{backend:<9}{precision:<10}" + row(name, report),
                            flush=True,
                        )


def row(name: str, report: dict[str, Any]) -> str:
    """The figures of one run."""
    if "error" in report:
        return f" {report['error']}"
    rate, paper = report["spectra_per_s"], PAPER.get(name)
    against = f"{paper:>9,.0f}{rate / paper:>7.1f}" if paper else f"{'-':>9}{'-':>7}"
    stages = {k: round(v, 1) for k, v in report["seconds"].items()}
    return f"{report['n_scored']:>9,}{rate:>9,.0f}{against}  {stages}"


if __name__ == "__main__":
    main()
