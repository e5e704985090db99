"""Cards of the shipped image models measured anew, on simulated and on real lenses.

    python -m benchmarks.measure_real                            # arclet arclet_gri eznet lensflow
    python -m benchmarks.measure_real arclet_gri --data FOLDER --keep measured

The real files are those of folder ``imaging`` in ``--data`` (default ``LENSMINE_TEST_DATA``, else
../shared/data). They are loaded into a database of their own beside the catalogues of known lenses, so that a
catalogue says which of them are lenses; images of the Bologna challenge come with their labels. Each command
is printed before it runs; then comes a table of what the cards say. With ``--keep`` the cards stay in that
folder, a folder a model, beside the simulated images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from schema.engine import connect_engine
from scoring.registry import image_model

MODELS = ("arclet", "arclet_gri", "eznet", "lensflow")
SETS = {
    "hst_f814w_lenses": "survey = 'hst' and is_tracer and bands = 'F814W'",
    "hst_lenses": "survey = 'hst' and is_tracer",
    "bologna_lenses": "survey = 'bologna' and native_id like 'space-%' and is_lens",
    "bologna_others": "survey = 'bologna' and native_id like 'space-%' and not is_lens",
    "bologna_ground_lenses": "survey = 'bologna' and native_id like 'ground-%' and is_lens",
    "bologna_ground_others": "survey = 'bologna' and native_id like 'ground-%' and not is_lens",
    "ground_gri_lenses": "survey in ('cfht', 'des', 'hsc') and is_tracer and bands like '%g,r,i%'",
}
"""Selections, as conditions over the cutouts, the tracers and the challenge's labels."""
ONE_BAND = ("hst_f814w_lenses", "hst_lenses", "bologna_lenses:bologna_others")
THREE_BANDS = ("bologna_ground_lenses:bologna_ground_others", "ground_gri_lenses")


def run(*words: str) -> None:
    """Run a lensmine command, its line first; its failure ends all."""
    print("$ lensmine " + " ".join(words), flush=True)
    code = subprocess.run([sys.executable, "-m", "lensmine", *words], check=False).returncode
    if code:
        sys.exit(code)  # the command has said why


def load(db: str, data: Path) -> dict[str, int]:
    """Real files into the database, and a selection for each set; how many cutouts each has."""
    at = ("--db", db)
    run("db", "upgrade", *at)
    run("ingest", "lenses", "--quiet", *at)
    for dump in sorted((data / "lens_catalogs").glob("*/masterlens.tsv")):
        run("ingest", "lenses", str(dump), "--quiet", *at)
    run("ingest", "hst", str(data / "imaging"), "--quiet", *at)
    run("tracers", "add", "known", "--from", "known", *at)
    sql = """
        select native_id, survey, bands, is_lens, tracer.target_id is not null as is_tracer
        from target
        inner join cutout on cutout.target_id = target.target_id and cutout.is_primary
        left join injection on injection.target_id = target.target_id
        left join tracer on tracer.target_id = target.target_id
    """
    counts = {}
    for name, condition in SETS.items():
        with connect_engine(db, read_only=True).connect() as conn:
            found = conn.execute(sa.text(f"select distinct native_id from ({sql}) as s where {condition}"))
            names = sorted(found.scalars())
        counts[name] = len(names)
        if names:
            listed = ", ".join("'" + n.replace("'", "''") + "'" for n in names)
            run("select", "add", name, "--where", f"native_id in ({listed})", *at)
    return counts


def measure(model: str, db: str, keep: Path, counts: dict[str, int], n_ordinary: int) -> dict[str, Any]:
    """The model's new card."""
    sets = THREE_BANDS if image_model(model, "shipped").n_band == 3 else ONE_BAND
    words = ["train", model, "--test-ordinary", f"{n_ordinary}", "--epochs", "0", "--init", "shipped"]
    for pair in sets:
        if all(counts[name] for name in pair.split(":")):
            words += ["--tracers", pair]
    recipe = image_model(model, "shipped").default_recipe
    out = keep / model
    run(*words, "--data", str(keep / f"images_{recipe}"), "--out", str(out), "--quiet", "--db", db)
    card: dict[str, Any] = json.loads((out / f"{model}.json").read_text())
    return card


def show(cards: dict[str, dict[str, Any]]) -> None:
    """What the cards say, as a table."""
    table = Table(
        "model", "lenses", "among", "AUC", "ranking performance", title="95% intervals by bootstrap"
    )
    words = {
        "lenses_among_simulated_sources": "simulated sources",
        "lenses_among_real_others": "others of the challenge",
    }
    for model, card in cards.items():
        blocks = {
            (f"{name.split(':')[0]}, {figures['n_positive']}", words[among]): figures
            for name, real in card["metrics"]["real"].items()
            for among, figures in real.items()
            if among in words
        }
        for name, figures in card["metrics"]["simulated"].items():
            blocks[f"simulated: {name}", f"{figures['n_negative']}"] = figures
        for (lenses, among), figures in blocks.items():
            cells = (
                "{value:.3f} ({lo:.3f} to {hi:.3f})".format(**figures[f])
                for f in ("auc", "ranking_performance")
            )
            table.add_row(model, lenses, among, *cells)
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("LENSMINE_TEST_DATA", "../shared/data"))
    )
    parser.add_argument("--ordinary", type=int, default=10_000, help="simulated survey sources")
    parser.add_argument("--keep", type=Path, help="folder for cards and images; default: a temporary one")
    given = parser.parse_args()
    if not (given.data / "imaging").is_dir():
        sys.exit(f"error: {given.data} has no folder imaging: name another with --data or LENSMINE_TEST_DATA")
    with tempfile.TemporaryDirectory() as temporary:
        keep = given.keep or Path(temporary)
        db = str(Path(temporary) / "real.duckdb")
        counts = load(db, given.data)
        show({model: measure(model, db, keep, counts, given.ordinary) for model in given.models})


if __name__ == "__main__":
    main()
