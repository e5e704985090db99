"""The demo runs from nothing to candidates, says what it found, and touches no folder that is not its own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import lensmine
from lensmine_demo import run_demo
from schema.errors import UserError

REPO = Path(lensmine.__file__).resolve().parent
MODEL = "matched_filter_lae"


def lensmine_command(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPO / "lensmine.py"), *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPO), **env},
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which a demo of 600 fibres has run."""
    folder = tmp_path_factory.mktemp("demo")
    done = lensmine_command("demo", "--n", "600", "--model", MODEL, "--images", "150", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "result.json").write_text(done.stdout)
    return folder


def test_json_tells_what_was_found(home: Path) -> None:
    result = json.loads((home / "result.json").read_text())
    assert {"injected", "recovered", "false_candidates", "seconds"} <= set(result)
    assert 10 <= result["injected"] <= 30
    assert result["recovered"] >= 0.75 * result["injected"]
    assert len(result["lost"]) == result["injected"] - result["recovered"]
    assert result["false_candidates"] <= 4
    assert result["ingest"]["reasons"] == {"bad_position": 1, "negative_ivar": 1, "truncated": 1}
    lo, hi = result["recovered_interval"]
    assert lo < result["recovered_fraction"] < hi
    steps = result["attrition"]
    assert [s["n_in"] for s in steps[1:]] == [s["n_out"] for s in steps[:-1]]
    assert steps[-1]["n_out"] == len(result["candidates"])
    assert {s["step"] for s in steps if s["n_out"] < s["n_in"]} >= {"hit", "airglow", "rest_frame"}
    best = result["candidates"][0]
    assert best["line_flux_err"] > 0
    assert best["truth"] == "lens"
    assert (home / result["picture"]).stat().st_size > 20_000


def test_the_imaging_search_stands_beside_it(home: Path) -> None:
    images = json.loads((home / "result.json").read_text())["images"]
    assert (images["lenses"], images["others"]) == (10, 150)
    value, lo, hi = images["ranking_performance"]
    assert lo <= value <= hi <= 1
    assert value > 0.3, "the shipped weights rank lenses above most ordinary sources"
    assert images["inspect_90"][0] <= images["inspect_all"][0] <= 1
    assert images["found"] <= min(images["lenses"], images["candidates"])
    assert (home / images["picture"]).stat().st_size > 20_000
    listed = lensmine_command(
        "sql",
        "select count(*) as n from ranked",
        "--json",
        cwd=home,
        LENSMINE_DB=str(home / "lensmine-demo" / "lensmine.duckdb"),
    )
    assert listed.returncode == 0, listed.stderr
    assert json.loads(listed.stdout)[0]["n"] > 160


def test_what_it_says_to_type_next_works(home: Path) -> None:
    from lensmine_demo import _what_next

    result = json.loads((home / "result.json").read_text())
    first, *commands = _what_next(result)
    name, _, value = first.removeprefix("export ").partition("=")
    assert name == "LENSMINE_DB"
    for line in commands:
        words = shlex.split(line, comments=True)
        if words[1] in ("score", "selection-function", "dashboard"):
            continue  # a second model, minutes of work, a server: tested elsewhere
        done = lensmine_command(*words[1:], cwd=home, LENSMINE_DB=value)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        assert done.stdout.strip()
    assert (home / "candidates.fits").stat().st_size > 5000


def test_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        run_demo(tmp_path, 300, 1, MODEL)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_unknown_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="resnet28_lae"):
        run_demo(tmp_path / "new", 300, 1, "resnet28")
    assert not (tmp_path / "new").exists()
