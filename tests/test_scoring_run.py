"""Scoring runs: what is missing or stale is scored once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import sqlalchemy as sa
import torch
from scoring_runs import LENSMINE, REPO, environment, number, rows, scored_once

from benchmarks.generated import add_spectra, plain_spectra
from schema.engine import connect_engine, shard_root
from schema.errors import DataError, UserError
from schema.grid import WINDOW_FIRST
from schema.shards import write_shard
from schema.tables import model, run_chunk, scoring_run, selection, spec_obj, spectrum
from schema.tables import score as score_table
from scoring.registry import get_model
from scoring.run import score
from scoring.selection import add_selection

FILTER = "matched_filter_lae"


def fill(db: str, *sizes: int) -> None:
    """One shard of each size."""
    add_spectra(db, ((f"shard{i}", plain_spectra(n, seed=i)) for i, n in enumerate(sizes)))


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
