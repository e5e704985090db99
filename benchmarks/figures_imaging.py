"""Makes the two pictures of README's imaging search anew, by the commands that a user would give.

    python -m benchmarks.figures_imaging
    python -m benchmarks.figures_imaging --models arclet_gri,eznet --folder /tmp/figures --out docs/images

``trc.png``: simulated lenses hidden among ordinary simulated sources, and how far down each model's list they
stand. ``selection_function.png``: P(selected) of the first model for every pair of the six parameters. Each
command is printed before it runs. In a folder that is kept, a second call only adds what is missing: other
weights score anew, nothing is simulated twice.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEED = "20190601"
"""Seed of the sources, which no training uses."""


def run(*words: str) -> None:
    """Run a lensmine command, its line first; its failure ends all."""
    print("$ lensmine " + " ".join(words), flush=True)
    began = time.perf_counter()
    code = subprocess.run([sys.executable, "-m", "lensmine", *words], check=False).returncode
    if code:
        sys.exit(code)  # the command has said why
    print(f"  ({time.perf_counter() - began:.0f} s)", flush=True)


def trc(db: str, models: list[str], folder: Path, out: Path, lenses: int, others: int) -> None:
    """Tracer recovery curves of simulated lenses among ordinary sources."""
    at = ("--db", db)
    run(
        "simulate", "lenses", "--n", f"{lenses}", "--with-nonlenses", f"{others}", "--instrument", "hsc",
        "--seed", SEED, "--quiet", *at,
    )  # fmt: skip
    of_these = f"native_id like '%-hsc-s{SEED}-%'"
    run("select", "add", "trc_sources", "--where", of_these, *at)
    for model in models:
        run("score", model, "trc_sources", "--quiet", *at)
    run("tracers", "add", "simulated", "--from", "injections", "--where", of_these, *at)
    run(
        "evaluate", "trc", *models, "--tracers", "simulated", "--negatives", "trc_sources",
        "--out", str(folder), *at,
    )  # fmt: skip
    shutil.copyfile(folder / "trc_tracer_recovery.png", out / "trc.png")


def selection_function(db: str, model: str, out: Path, n: int, bins: int) -> None:
    """The selection function of one model, all pairs; the source is a compact disc, as most lensed ones."""
    disc = ("--fix", "source_r_eff_arcsec=0.3", "--fix", "source_sersic_n=1")
    run(
        "selection-function", model, "--n", f"{n}", "--bins", f"{bins}", *disc, "--plot",
        str(out / "selection_function.png"), "--quiet", "--db", db,
    )  # fmt: skip


def main() -> None:
    """Make both pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--models", default="arclet_gri,eznet", help="the first is measured")
    parser.add_argument("--lenses", type=int, default=250)
    parser.add_argument("--others", type=int, default=2500)
    parser.add_argument("--n", type=int, default=40_000, help="injected lenses of the selection function")
    parser.add_argument("--bins", type=int, default=10)
    parser.add_argument("--only", choices=("trc", "selection_function"))
    parser.add_argument("--folder", type=Path, help="keeps the database; a temporary one unless given")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    models = given.models.split(",")
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        db = str(folder / "figures.duckdb")
        run("db", "upgrade", "--db", db)
        if given.only != "selection_function":
            trc(db, models, folder, given.out, given.lenses, given.others)
        if given.only != "trc":
            selection_function(db, models[0], given.out, given.n, given.bins)


if __name__ == "__main__":
    main()
