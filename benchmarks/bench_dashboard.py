"""The dashboard in a real Chromium: first page, keystroke to next object, a long session, eight reviewers.

    python -m benchmarks.bench_dashboard                          # first page, keystrokes, 1,000 objects
    python -m benchmarks.bench_dashboard --only team --postgresql postgresql://user@host/empty_database

100,000 candidates, half of them of spectra and half of images, stand in the database; 1,000 of each have
pixels
of their own and the others share them. A keystroke is timed in the browser from the key's event until the
next
object stands on screen with its pictures drawn, and its grade is in the database by then: the server saves
before
it draws. ``--look`` is how long the reviewer looks at each object before the key.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from dashboard_browser import OBJECT, Dashboard, browser, open_review, serving, shown

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


def team(db: str, people: int, grades: int) -> dict[str, Any]:
    """Reviewers at once, each in a browser, with the server killed and started again in the middle."""
    failed: list[str] = []
    half = threading.Barrier(people + 1)
    done: list[int] = []
    board = Dashboard(db)
    began = time.perf_counter()

    def work(k: int) -> None:
        waited = False
        try:
            with browser() as chrome:
                page = chrome.new_page(viewport={"width": 1400, "height": 900})
                page.set_default_timeout(120_000)
                page.goto(board.url)
                page.get_by_label("Name").fill(f"reviewer {k}")
                page.get_by_label("Passphrase").fill(f"passphrase {k}")
                page.get_by_role("button", name="Sign in").click()
                page.wait_for_selector(OBJECT)
                url = f"{board.url}/?order=shuffled&hide_enough=0&seed={k}"
                open_review(page, url)
                for n in range(grades):
                    if n == grades // 2:
                        half.wait(600)
                        waited = True
                    _one_grade(page, url, "1234"[(n + k) % 4])
                done.append(k)
        except BaseException as exc:
            failed.append(f"reviewer {k}: {type(exc).__name__}: {str(exc)[:300]}")
            if not waited:
                half.abort()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(people)]
    for t in threads:
        t.start()
    try:
        half.wait(3600)
        time.sleep(0.3)  # in the middle of everyone's next keystroke
        board.stop(kill=True)
        time.sleep(1)
        board.start()
    except threading.BrokenBarrierError:
        failed.append("not everyone came to the middle")
    for t in threads:
        t.join()
    seconds = time.perf_counter() - began
    board.stop()
    with connect_engine(db, read_only=True).connect() as conn:
        query = """
            select reviewer, count(*), count(distinct target_id) from current_grade group by reviewer order
            by reviewer"""
        counts = {r[0]: (int(r[1]), int(r[2])) for r in conn.execute(sa.text(query))}
        total, tokens = conn.execute(sa.text("select count(*), count(distinct grade_id) from grade")).one()
    return {
        "reviewers": people,
        "grades_each": grades,
        "standing": counts,
        "rows": total,
        "distinct": tokens,
        "failed": failed,
        "seconds": round(seconds, 1),
        "grades_per_s": round(people * grades / seconds, 1),
    }


def _one_grade(page: Any, url: str, key: str) -> None:
    """Press until another object is on screen, as a person does when the server restarts."""
    before = shown(page)
    until = time.monotonic() + 180
    while True:
        try:
            page.keyboard.press(key)
            page.wait_for_function(
                "(old) => { const o = document.querySelector('#lm-object'); return o && o.dataset.target !=="
                " old; }",
                arg=before,
                timeout=20_000,
            )
            return
        except Exception:
            if time.monotonic() > until:
                raise
            try:
                now = open_review(page, url)
            except Exception:
                continue  # the server is not back yet
            if now != before:
                return  # the grade was saved, only the answer was lost


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
