"""Scoring runs: what is missing or stale is scored once, whatever happens on the way."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import torch

from benchmarks.generated import add_spectra, plain_spectra
from schema.engine import connect_engine, shard_root
from schema.errors import DataError, UserError
from schema.grid import WINDOW_FIRST
from schema.shards import write_shard
from schema.tables import model, run_chunk, scoring_run, selection, spec_obj, spectrum
from schema.tables import score as score_table
from scoring import leases
from scoring.backends import make_backend
from scoring.registry import get_model
from scoring.report import ScoreReport
from scoring.run import begin_run, score
from scoring.selection import add_selection, get_selection
from scoring.tasks import Task, make_task

REPO = Path(__file__).resolve().parent.parent
FILTER = "matched_filter_lae"
LENSMINE = [sys.executable, "-m", "lensmine"]


def fill(db: str, *sizes: int) -> None:
    """One shard of each size."""
    add_spectra(db, ((f"shard{i}", plain_spectra(n, seed=i)) for i, n in enumerate(sizes)))


def rows(db: str, query: Any) -> list[Any]:
    until = time.monotonic() + 60
    while True:
        try:
            with connect_engine(db, read_only=True, check=False).connect() as conn:
                return list(conn.execute(sa.text(query) if isinstance(query, str) else query).all())
        except Exception:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def number(db: str, query: str) -> int:
    return int(rows(db, query)[0][0])


def scored_once(db: str, n: int) -> bool:
    """Every spectrum has one score, and no chunk is open."""
    return (
        number(db, "select count(*) from score") == n
        and number(db, "select count(distinct spectrum_id) from score") == n
        and number(db, "select count(*) from run_chunk where state <> 'done'") == 0
    )


def test_scores_everything_once_with_position_and_snr(db: str) -> None:
    fill(db, 150, 70)
    report = score(db, FILTER, "all_spectra", chunk=64)
    assert (report.status, report.n_selected, report.n_todo, report.n_scored) == ("done", 220, 220, 220)
    assert scored_once(db, 220)
    assert rows(db, "select state, count(*) from run_chunk group by state") == [("done", 5)]
    assert set(report.seconds) >= {"select", "read", "preprocess", "infer", "localise", "write", "wall"}
    assert "spectra/s" in report.line()
    run = rows(db, sa.select(scoring_run))[0]
    assert (run.status, run.n_scored, run.n_todo, run.backend) == ("done", 220, 220, "torch")
    assert run.seconds["infer"] > 0
    assert run.spectra_per_s == pytest.approx(220 / run.seconds["wall"], rel=0.05)
    stored = rows(db, sa.select(model))[0]
    assert (stored.name, stored.model_id) == (FILTER, run.model_id)
    # a line was put into every tenth spectrum: the filter is sure of these, and knows where they are
    found = rows(
        db,
        "select spectrum.shard_row % 10 = 0, min(snr), max(snr), min(probability), max(probability) "
        "from score join spectrum using (spectrum_id) group by 1 order by 1",
    )
    assert found[0][2] < found[1][1]
    assert found[0][4] < found[1][3]
    flux, _, _ = plain_spectra(150, seed=0)
    at = rows(
        db,
        "select shard_row, wave_angstrom from score join spectrum using (spectrum_id) "
        "join pixel_shard using (shard_id) where name = 'shard0' and shard_row % 10 = 0",
    )
    for row, wave in at:
        smooth = np.convolve(flux[row], np.ones(5), mode="same")
        assert abs(np.log10(wave) * 1e4 - 35798 - smooth.argmax()) < 4


def test_probabilities_are_those_of_the_model_alone(db: str) -> None:
    fill(db, 100)
    score(db, FILTER, "all_spectra", chunk=33)
    flux, ivar, z = (torch.from_numpy(a) for a in plain_spectra(100, seed=0))
    expected = get_model(FILTER).probability(flux, ivar, z.float()).numpy()
    got = rows(db, "select probability from score join spectrum using (spectrum_id) order by shard_row")
    assert np.allclose([p for (p,) in got], expected, atol=1e-5)


def test_a_second_time_does_nothing(db: str) -> None:
    fill(db, 60)
    score(db, FILTER, "all_spectra")
    report = score(db, FILTER, "all_spectra")
    assert (report.status, report.n_scored, report.run_id) == ("nothing-to-do", 0, None)
    assert "nothing to score" in report.line()
    assert number(db, "select count(*) from scoring_run") == 1


def test_only_missing_and_stale_spectra_are_scored(db: str) -> None:
    fill(db, 60)
    score(db, FILTER, "all_spectra")
    with connect_engine(db).begin() as conn:
        conn.execute(
            spectrum.update().where(spectrum.c.shard_row.in_([3, 4])).values(content_hash="new pixels")
        )
        targets = sa.select(spectrum.c.target_id).where(spectrum.c.shard_row == 10)
        conn.execute(spec_obj.update().where(spec_obj.c.target_id.in_(targets)).values(z=0.77))
    add_spectra(db, iter([("later", plain_spectra(5, 9))]), plate=200_000)
    report = score(db, FILTER, "all_spectra")
    assert (report.n_selected, report.n_todo, report.n_scored) == (65, 8, 8)
    assert number(db, "select count(*) from score") == 68
    assert number(db, "select count(*) from current_score") == 65
    assert number(db, "select count(*) from score where z_used = 0.77") == 1
    assert score(db, FILTER, "all_spectra").n_scored == 0


def test_null_redshift_is_scored_and_stays_current(db: str) -> None:
    fill(db, 10)
    with connect_engine(db).begin() as conn:
        conn.execute(spec_obj.update().values(z=None))
    assert score(db, FILTER, "all_spectra").n_scored == 10
    assert number(db, "select count(*) from current_score where z_used is null") == 10
    assert score(db, FILTER, "all_spectra").n_scored == 0


def test_few_good_pixels_are_left_out_and_counted(db: str) -> None:
    flux, ivar, z = plain_spectra(20, seed=1)
    ivar[3, 500:] = 0
    ivar[7] = 0
    add_spectra(db, iter([("gaps", (flux, ivar, z))]))
    with connect_engine(db).begin() as conn:  # one whose count is not known in the table
        conn.execute(spectrum.update().where(spectrum.c.shard_row == 7).values(n_good_window=None))
    report = score(db, FILTER, "all_spectra")
    assert (report.n_selected, report.n_scored) == (20, 18)
    assert report.n_skipped["few_pixels"] == 2
    assert "2 skipped (fewer than half" in report.line()


def test_limit_and_the_rest_after_it(db: str) -> None:
    fill(db, 40, 40)
    assert score(db, FILTER, "all_spectra", limit=50, chunk=16).n_scored == 50
    assert score(db, FILTER, "all_spectra", chunk=16).n_scored == 30
    assert scored_once(db, 80)


def test_refusals_name_what_is_wrong(db: str) -> None:
    with pytest.raises(UserError, match="is empty: 0 targets"):
        score(db, FILTER, "all_spectra")
    fill(db, 12)
    add_selection(db, "nothing", "z > 90")
    with pytest.raises(UserError, match="'nothing' is empty"):
        score(db, FILTER, "nothing")
    with pytest.raises(UserError, match="did you mean all_spectra"):
        score(db, FILTER, "all_spectrum")
    with pytest.raises(UserError, match="did you mean matched_filter_lae"):
        score(db, "matched_filter", "all_spectra")
    with pytest.raises(UserError, match="--chunk 0"):
        score(db, FILTER, "all_spectra", chunk=0)
    with pytest.raises(UserError, match="no unfinished run"):
        score(db, FILTER, "all_spectra", resume_only=True)
    with pytest.raises(UserError, match="choose from auto, torch, openvino"):
        score(db, FILTER, "all_spectra", backend="tensorflow")
    assert number(db, "select count(*) from scoring_run") == 0


def test_a_missing_shard_fails_the_run_and_keeps_the_rest(db: str) -> None:
    fill(db, 40, 30)
    shutil.rmtree(shard_root(db) / "shard1")
    with pytest.raises(DataError, match="shard1"):
        score(db, FILTER, "all_spectra", chunk=16)
    assert number(db, "select count(*) from score") == 40
    run = rows(db, sa.select(scoring_run))[0]
    assert run.status == "failed"
    assert "shard1" in run.message
    flux, ivar, _ = plain_spectra(30, seed=1)
    write_shard(shard_root(db), "shard1", {"flux": flux, "ivar": ivar}, WINDOW_FIRST)
    assert score(db, FILTER, "all_spectra").n_scored == 30
    assert number(db, "select count(distinct spectrum_id) from score") == 70


def test_a_shard_cut_short_is_named(db: str) -> None:
    fill(db, 30)
    path = shard_root(db) / "shard0" / "ivar.npy"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DataError, match="shard0"):
        score(db, FILTER, "all_spectra")
    assert number(db, "select count(*) from score") == 0


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
        leases.release(conn, run_id, others)
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


def environment(db: str) -> dict[str, str]:
    return os.environ | {"LENSMINE_DB": db, "LENSMINE_SHARDS": str(shard_root(db)), "OMP_NUM_THREADS": "1"}


def start(db: str, *options: str) -> subprocess.Popen[str]:
    command = [*LENSMINE, "score", FILTER, "all_spectra", "--json", *options]
    return subprocess.Popen(
        command, cwd=REPO, env=environment(db), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_scores(db: str, process: subprocess.Popen[str], n: int) -> int:
    while process.poll() is None:
        found = number(db, "select count(*) from score")
        if found >= n:
            return found
        time.sleep(0.05)
    raise AssertionError(f"it ended too early: {process.communicate()}")


def test_a_killed_run_resumes_and_writes_nothing_twice(db: str) -> None:
    n = 1000
    fill(db, n)
    process = start(db, "--chunk", "8")
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
    fill(db, 1000)
    process = start(db, "--chunk", "8")
    wait_for_scores(db, process, 8)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert rows(db, "select status from scoring_run") == [("stopped",)]
    assert number(db, "select count(*) from run_chunk where state = 'leased'") == 0
    score(db, FILTER, "all_spectra", resume_only=True, chunk=1000)
    assert scored_once(db, 1000)


def test_two_workers_share_a_run(db: str) -> None:
    n = 600
    planned(db, n, 10)
    workers = [start(db, "--chunk", "10"), start(db, "--chunk", "10")]
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


def test_command_line(db: str) -> None:
    fill(db, 20)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LENSMINE, *words], cwd=REPO, env=environment(db), capture_output=True, text=True, check=False
        )

    assert run("select", "add", "far", "--where", "z > 0.5").returncode == 0
    counted = run("select", "count", "far", "--json")
    report = run("score", FILTER, "far", "--json")
    assert json.loads(report.stdout)["n_scored"] == json.loads(counted.stdout)["spectra"] > 0
    refused = run("score", FILTER, "fra")
    assert (refused.returncode, refused.stderr.count("\n"), refused.stdout) == (2, 1, "")
    assert "did you mean far" in refused.stderr
    assert number(db, "select count(*) from selection where name = 'far'") == 1


def test_selection_row_is_the_one_the_run_used(db: str) -> None:
    fill(db, 20)
    score(db, FILTER, "li2018_lrg")
    used = rows(
        db, sa.select(selection).join(scoring_run, scoring_run.c.selection_id == selection.c.selection_id)
    )
    assert [(row.name, row.version) for row in used] == [("li2018_lrg", 1)]
    assert rows(db, sa.select(sa.func.sum(run_chunk.c.n_spectra)))[0][0] == 20
    assert rows(db, sa.select(sa.func.count()).select_from(score_table))[0][0] == 20
