"""The dashboard in a real Chromium: first page, keystroke to next object, a long session, eight reviewers.

    python -m benchmarks.bench_dashboard                          # first page, keystrokes, 1,000 objects
    python -m benchmarks.bench_dashboard --only team --postgresql postgresql://user@host/empty_database

100,000 candidates, half of them of spectra and half of images, stand in the database; 1,000 of each have
pixels of their own and the others share them. A keystroke is timed in the browser from the key's event until
the next object stands on screen with its pictures drawn, and its grade is in the database by then: the server
saves before it draws. ``--look`` is how long the reviewer looks at each object before the key.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import sqlalchemy as sa

from schema.engine import connect_engine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from dashboard_browser import Dashboard, browser, open_review, serving

from benchmarks.dashboard_search import fill
from benchmarks.dashboard_team import team

# ---------------------------------------------------------------- what is timed in the browser

PROBE = """
() => {
  window.lmTimes = [];
  const ready = () => {
    const o = document.querySelector('#lm-object');
    if (!o || o.dataset.target === window.lmBefore) return false;
    const parts = [...document.querySelectorAll('.lm-of')];
    const pictures = [...document.querySelectorAll('#lm-spectrum, .lm-stamp')];
    return pictures.length > 0 && pictures.every((i) => i.complete && i.naturalWidth > 0)
      && parts.every((e) => e.dataset.target === o.dataset.target);
  };
  const wait = () => {
    if (window.lmBegan === null) return;
    if (ready()) { window.lmTimes.push(performance.now() - window.lmBegan); window.lmBegan = null; }
    else requestAnimationFrame(wait);
  };
  window.lmBegan = null;
  document.addEventListener('keydown', () => {
    window.lmBefore = document.querySelector('#lm-object')?.dataset.target;
    window.lmBegan = performance.now();
    requestAnimationFrame(wait);
  }, true);
}
"""


def memory_mb(board: Dashboard) -> float:
    """Resident memory of the server and its children [MiB]."""
    assert board.process is not None
    every = [psutil.Process(board.process.pid)]
    every += every[0].children(recursive=True)
    return sum(p.memory_info().rss for p in every) / 2**20


def heap_mb(page: Any) -> float:
    """JavaScript heap of the page after a collection [MiB]."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"] / 2**20
    session.detach()
    return float(used)


def first_page(db: str, n: int) -> dict[str, Any]:
    """Seconds from asking for the page to the first object with its pictures, in a fresh browser."""
    times: dict[str, list[float]] = {"after_start": [], "warm": []}
    with browser() as chrome:
        for _ in range(n):
            with serving(db, "--as", "Ada") as board:
                time.sleep(5)  # as long as a person takes to go to the browser
                for kind in ("after_start", "warm"):
                    context = chrome.new_context(viewport={"width": 1500, "height": 1000})
                    page = context.new_page()
                    began = time.perf_counter()
                    page.goto(board.url, wait_until="commit")
                    page.wait_for_function(
                        "() => { const p = [...document.querySelectorAll('#lm-spectrum, .lm-stamp')]; return"
                        " document.querySelector('#lm-object') && p.length && p.every((i) => i.complete &&"
                        " i.naturalWidth); }",
                        timeout=120_000,
                    )
                    times[kind].append(time.perf_counter() - began)
                    context.close()
    return {f"first_page_{k}_s": round(float(np.median(v)), 2) for k, v in times.items()}


def keystrokes(db: str, n: int, look: float) -> dict[str, Any]:
    """`n` objects graded one after another in one browser session."""
    with serving(db, "--as", "Ada") as board, browser() as chrome:
        page = chrome.new_page(viewport={"width": 1500, "height": 1000})
        errors: list[str] = []
        page.on("pageerror", lambda e: errors.append(str(e)))
        open_review(page, f"{board.url}/?order=shuffled")
        page.evaluate(PROBE)
        keys = "1234"
        memory, heap = [], []
        for k in range(n):
            time.sleep(look)
            page.keyboard.press(keys[k % 4])
            page.wait_for_function("(n) => window.lmTimes.length === n", arg=k + 1, timeout=120_000)
            if k % 50 == 49:
                memory.append(memory_mb(board))
                heap.append(heap_mb(page))
        times = np.array(page.evaluate("() => window.lmTimes"))
    with connect_engine(db, read_only=True).connect() as conn:
        saved = conn.execute(sa.text("select count(*), count(distinct target_id) from grade")).one()
    out = {
        "keystroke_ms": {f"p{q}": round(float(np.percentile(times, q))) for q in (5, 50, 95)},
        "objects": n,
        "graded": list(saved),
        "errors": errors,
    }
    if len(memory) > 2:
        out["server_growth_mib"] = round(memory[-1] - memory[0], 1)
        out["browser_growth_mib"] = round(heap[-1] - heap[0], 1)
    return out


def main() -> None:
    """Run what is asked for and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--n", type=int, default=100_000, help="candidates in the database")
    parser.add_argument("--objects", type=int, default=1000, help="objects graded in one session")
    parser.add_argument("--look", type=float, default=0.5, help="seconds of looking before each key")
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--grades", type=int, default=200)
    parser.add_argument("--postgresql", help="URL of an empty database for the team; DuckDB without")
    parser.add_argument("--only", choices=("first", "keys", "team"), action="append")
    parser.add_argument("--db", help="keep the DuckDB file here, and use it if it is there")
    asked = parser.parse_args()
    parts = asked.only or ["first", "keys"] + (["team"] if asked.postgresql else [])
    out: dict[str, Any] = {"candidates": asked.n, "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        db = asked.db or str(Path(folder) / "bench.duckdb")
        if ("first" in parts or "keys" in parts) and not Path(db).exists():
            fill(db, asked.n)
        if "first" in parts:
            out |= first_page(db, 3)
        if "keys" in parts:
            out |= keystrokes(db, asked.objects, asked.look)
        if "team" in parts:
            team_db = asked.postgresql or str(Path(folder) / "team.duckdb")
            os.environ.setdefault("LENSMINE_SHARDS", str(Path(folder) / "team.shards"))
            fill(team_db, min(asked.n, 4000))
            out["team"] = team(team_db, asked.people, asked.grades)
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
