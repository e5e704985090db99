"""Seconds that the selection function of six parameters, all pairs, takes: injected, scored, counted, drawn.

Example: python -m benchmarks.bench_selfunc --model arclet_gri --n 40000 --plot selection.png
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from schema.engine import upgrade
from scoring.selfunc.measure import MeasureConfig, measure
from scoring.selfunc.plot import draw


def main() -> None:
    """Measure in a database of its own and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="arclet_gri")
    parser.add_argument("--weights", default="shipped")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--n", type=int, default=40_000)
    parser.add_argument("--mode", default="slice", choices=("slice", "population"))
    parser.add_argument("--bins", type=int, default=None)
    parser.add_argument("--fix", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    bins = given.bins or (10 if given.mode == "slice" else 8)
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "bench.duckdb")
        upgrade(file)
        began = time.perf_counter()
        fix = {name: float(value) for name, _, value in (f.partition("=") for f in given.fix)}
        config = MeasureConfig(mode=given.mode, n=given.n, bins=bins, fix=fix)
        done = measure(file, given.model, config, weights=given.weights, backend=given.backend)
        if given.plot:
            draw(done, given.plot)
        seconds = time.perf_counter() - began
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    widths = [float((s.hi - s.lo).mean()) for plane, s in done.planes if plane.y is not None]
    print(
        json.dumps(
            {
                "model": given.model,
                "mode": given.mode,
                "n": given.n,
                "pairs": len(widths),
                "seconds": round(seconds, 1),
                "by_step": {name: round(value, 1) for name, value in done.seconds.items()},
                "lenses_per_s": round(given.n / seconds, 1),
                "mean_interval_width": round(sum(widths) / len(widths), 4),
                "disk_mb": round(size / 1e6, 1),
                "load": os.getloadavg()[0],
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
