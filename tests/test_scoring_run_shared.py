"""Scoring runs shared by processes: leases, fencing, kills, resumption; nothing is lost or written twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from scoring_runs import REPO, number, rows, scored_once, start, wait_for_scores

from benchmarks.generated import add_spectra, plain_spectra
from schema.engine import connect_engine
from schema.tables import scoring_run
from scoring import leases
from scoring.backends import make_backend
from scoring.registry import get_model
from scoring.report import ScoreReport
from scoring.run import begin_run, score
from scoring.selection import add_selection, get_selection
from scoring.tasks import Task, make_task

FILTER = "matched_filter_lae"


def fill(db: str, *sizes: int) -> None:
    """One shard of each size."""
    add_spectra(db, ((f"shard{i}", plain_spectra(n, seed=i)) for i, n in enumerate(sizes)))


def planned(db: str, n: int, chunk: int) -> tuple[Task, int]:
    """A run with its chunks, on which nobody works yet."""
    fill(db, n)
    with connect_engine(db, read_only=True).connect() as conn:
        task = make_task(get_model(FILTER), get_selection(conn, "all_spectra"))
    return task, plan(db, task, chunk)


def plan(db: str, task: Task, chunk: int) -> int:
    chosen = get_model(FILTER)
    report = ScoreReport("running", FILTER, "all_spectra", 1)
    run_id = begin_run(db, task, chosen, make_backend(chosen, "torch"), report, chunk, None)
    assert run_id is not None
    return run_id


def fake(lease: leases.Lease) -> dict[str, Any]:
    n = len(lease)
    return {"keep": np.arange(n), "probability": np.full(n, 0.5), "wave_angstrom": np.full(n, 4000.0),
            "snr": np.full(n, 1.0)}  # fmt: skip


def test_an_outdated_lease_cannot_commit(db: str) -> None:
    task, run_id = planned(db, 40, 16)
    with connect_engine(db).begin() as conn:
        slow = leases.take(conn, task, run_id, "elsewhere:x:1:1", items=16, lease_s=0)
    time.sleep(0.01)
    with connect_engine(db).begin() as conn:
        quick = leases.take(conn, task, run_id, "elsewhere:x:2:1", items=16, lease_s=600)
    assert [each.chunk_no for each in slow] == [each.chunk_no for each in quick] == [0]
    assert quick[0].token == slow[0].token + 1
    with connect_engine(db).begin() as conn:
        assert leases.commit(conn, task, run_id, [(slow[0], fake(slow[0]))]) == (0, 16)
    assert number(db, "select count(*) from score") == 0
    with connect_engine(db).begin() as conn:
        assert leases.commit(conn, task, run_id, [(quick[0], fake(quick[0]))]) == (16, 0)
        assert leases.commit(conn, task, run_id, [(quick[0], fake(quick[0]))]) == (0, 16)
    assert number(db, "select count(*) from score") == 16
    assert number(db, "select n_scored from scoring_run") == 16


def test_a_live_lease_elsewhere_is_left_alone_until_it_lapses(db: str) -> None:
    task, run_id = planned(db, 40, 16)
    with connect_engine(db).begin() as conn:
        leases.take(conn, task, run_id, "elsewhere:x:1:1", items=16, lease_s=600)
        others = leases.take(conn, task, run_id, leases.owner_name(), items=100, lease_s=600)
        assert [each.chunk_no for each in others] == [1, 2]
        assert leases.take(conn, task, run_id, leases.owner_name(), items=100, lease_s=600) == []
        leases.release(conn, run_id, leases.owner_name())  # its own alone
        again = leases.take(conn, task, run_id, leases.owner_name(), items=100, lease_s=600)
        assert [each.chunk_no for each in again] == [1, 2]


def test_the_lease_of_a_dead_process_of_this_host_is_free_at_once(db: str) -> None:
    task, run_id = planned(db, 20, 16)
    host, boot, _, started = leases.owner_name().rsplit(":", 3)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with connect_engine(db).begin() as conn:
        leases.take(conn, task, run_id, f"{host}:{boot}:{child.pid}:{started}", items=100, lease_s=600)
        assert len(leases.take(conn, task, run_id, leases.owner_name(), items=100, lease_s=600)) == 2
    assert not leases.is_dead(leases.owner_name())
    assert leases.is_dead(f"{host}:{boot}:{os.getpid()}:1")  # the number is in use again, by another process


def test_a_killed_run_resumes_and_writes_nothing_twice(db: str) -> None:
    n = 1000
    fill(db, n)
    process = start(db, FILTER, "all_spectra", "--chunk", "8")
    try:
        wait_for_scores(db, process, 8)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = number(db, "select count(*) from score")
    assert 8 <= before < n
    assert rows(db, "select status from scoring_run") == [("running",)]
    assert number(db, "select n_scored from scoring_run") == before
    assert number(db, "select count(*) from run_chunk where state = 'leased'") > 0
    report = score(db, FILTER, "all_spectra", chunk=1000)
    assert (report.resumed, report.n_scored) == (True, n - before)
    assert scored_once(db, n)
    assert rows(db, "select status, n_scored from scoring_run") == [("done", n)]


def test_a_terminated_run_gives_its_leases_back(db: str) -> None:
    fill(db, 2500)
    process = start(db, FILTER, "all_spectra", "--chunk", "8")
    wait_for_scores(db, process, 8)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert rows(db, "select status from scoring_run") == [("stopped",)]
    assert number(db, "select count(*) from run_chunk where state = 'leased'") == 0
    score(db, FILTER, "all_spectra", resume_only=True, chunk=2500)
    assert scored_once(db, 2500)


def test_two_workers_share_a_run(db: str) -> None:
    n = 600
    planned(db, n, 10)
    workers = [
        start(db, FILTER, "all_spectra", "--chunk", "10"),
        start(db, FILTER, "all_spectra", "--chunk", "10"),
    ]
    said = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    reports = [json.loads(out) for out, _ in said]
    assert sum(report["n_scored"] for report in reports) == n
    assert min(report["n_scored"] for report in reports) > 0
    assert scored_once(db, n)
    assert rows(db, "select status, n_scored from scoring_run") == [("done", n)]


def test_two_commands_at_once_plan_one_run(db: str) -> None:
    task, first = planned(db, 20, 16)
    with connect_engine(db).begin() as conn:
        conn.execute(scoring_run.update().values(status="failed"))
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        plans = [pool.submit(plan, db, task, 16) for _ in range(2)]
    assert plans[0].result() == plans[1].result() != first
    assert number(db, "select count(*) from scoring_run") == 2


def test_no_connection_is_held_while_pixels_are_computed(db: str) -> None:
    fill(db, 300)
    seen = []

    def another_process_opens_it(done: int, todo: int) -> None:
        if not seen:
            code = (
                "import sys; from schema.engine import connect_engine; "
                "connect_engine(sys.argv[1]).begin().__enter__()"
            )
            seen.append(subprocess.run([sys.executable, "-c", code, db], cwd=REPO, check=False).returncode)

    score(db, FILTER, "all_spectra", chunk=100, progress=another_process_opens_it)
    assert seen == [0]


def test_a_new_version_of_the_selection_supersedes_an_unfinished_run(db: str) -> None:
    _, run_id = planned(db, 40, 16)
    add_selection(db, "all_spectra", "spectrum_id is not null and z > 0")
    report = score(db, FILTER, "all_spectra")
    assert report.n_scored == 40
    found = dict(rows(db, "select run_id, status from scoring_run"))
    assert found == {run_id: "stopped", report.run_id: "done"}
