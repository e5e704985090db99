"""Scoring image cutouts: what is missing or stale is scored once, and what cannot be judged is counted."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import torch
from safetensors.torch import save_file
from scoring_runs import LENSMINE, REPO, environment, number, rows, scored_once, start, wait_for_scores

from benchmarks.generated import add_spectra, plain_spectra
from benchmarks.generated_images import add_images, plain_images
from lensmine_status import collect_status
from schema.engine import connect_engine, shard_root
from schema.errors import DataError, UserError
from schema.image_shards import percentile_stamp
from schema.tables import cutout, scoring_run
from scoring.models.image_base import ImageModel
from scoring.registry import image_model
from scoring.report import ScoreReport
from scoring.run import score
from scoring.selection import add_selection

ONCE = ("image_score", "cutout_id")
SEES = ("i", "r", "g")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMINE_CACHE", str(tmp_path / "cache"))


def fresh(name: str, folder: Path) -> tuple[ImageModel, Path]:
    """A model with fresh weights, and the file of them."""
    torch.manual_seed(5)
    model, path = image_model(name, None), folder / f"{name}.safetensors"
    if path.is_file():
        model.load(path)
        return model, path
    settle(model)
    save_file({k: v.contiguous() for k, v in model.network().state_dict().items()}, path)
    return model, path


def settle(model: ImageModel) -> None:
    """Give batch normalisations the statistics of images, else 50 layers flatten every difference."""
    pixels = plain_images(64, seed=77, bands=model.n_band)
    x = model.preprocess(
        torch.from_numpy(percentile_stamp(pixels)[0] if model.pixels == "stamp" else pixels), 0.168
    )
    for part in model.network().modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        model.network().train()(x)
    model.network().eval()


def run(
    db: str, folder: Path, name: str = "eznet", selection: str = "all_images", **more: Any
) -> ScoreReport:
    _, path = fresh(name, folder)
    return score(db, name, selection, weights=str(path), **({"backend": "torch"} | more))


def fill(db: str, *sizes: int) -> None:
    """One shard of each size."""
    add_images(db, ((f"images{k}", plain_images(n, seed=k)) for k, n in enumerate(sizes)))


def stored(db: str) -> np.ndarray:
    query = (
        "select probability from image_score join cutout using (cutout_id) join image_shard using (shard_id) "
        "order by image_shard.name, cutout.shard_row"
    )
    return np.array([p for (p,) in rows(db, query)])


def test_scores_everything_once_as_the_model_does_alone(db: str, tmp_path: Path) -> None:
    fill(db, 60, 25)
    report = run(db, tmp_path, chunk=32)
    assert (report.status, report.modality, report.n_selected, report.n_scored) == ("done", "image", 85, 85)
    assert scored_once(db, 85, *ONCE)
    assert rows(db, "select state, count(*) from run_chunk group by state") == [("done", 3)]
    assert set(report.seconds) == {"select", "load", "read", "preprocess", "infer", "write", "wall"}
    assert "85 cutouts in" in report.line()
    assert "cutouts/s" in report.line()
    assert "localise" not in report.line()
    assert number(db, "select count(*) from score") == 0
    entered = rows(db, sa.select(scoring_run))[0]
    assert (entered.status, entered.modality, entered.n_scored) == ("done", "image", 85)
    assert entered.spectra_per_s == pytest.approx(85 / entered.seconds["wall"], rel=0.05)
    model, _ = fresh("eznet", tmp_path)
    stamps = np.concatenate([percentile_stamp(plain_images(n, seed=k))[0] for k, n in enumerate((60, 25))])
    expected = model.probability(torch.from_numpy(stamps[:, [2, 1, 0]].copy())).numpy()
    assert np.abs(stored(db) - expected).max() < 1e-5
    assert np.ptp(expected) > 1e-4  # a constant would agree with anything


def test_openvino_agrees_to_a_thousandth(db: str, tmp_path: Path) -> None:
    fill(db, 70)
    assert run(db, tmp_path, backend="openvino").backend == "openvino"
    model, _ = fresh("eznet", tmp_path)
    stamps = percentile_stamp(plain_images(70, seed=0))[0]
    expected = model.probability(torch.from_numpy(stamps[:, [2, 1, 0]].copy())).numpy()
    assert np.abs(stored(db) - expected).max() < 1e-3


def test_only_missing_and_stale_cutouts_are_scored(db: str, tmp_path: Path) -> None:
    fill(db, 30)
    run(db, tmp_path, "lensflow")
    again = run(db, tmp_path, "lensflow")
    assert (again.status, again.n_scored, again.run_id) == ("nothing-to-do", 0, None)
    assert "all of 30 cutouts are current" in again.line()
    with connect_engine(db).begin() as conn:
        conn.execute(cutout.update().where(cutout.c.shard_row.in_([3, 4])).values(content_hash="new pixels"))
    add_images(db, iter([("later", plain_images(5, 9))]))
    report = run(db, tmp_path, "lensflow")
    assert (report.n_selected, report.n_todo, report.n_scored) == (35, 7, 7)
    assert number(db, "select count(*) from image_score") == 37
    assert number(db, "select count(*) from current_image_score") == 35
    assert number(db, "select count(*) from ranked where modality = 'image'") == 35


def test_what_cannot_be_judged_is_counted_by_reason(db: str, tmp_path: Path) -> None:
    good, flat = plain_images(8, seed=1), plain_images(3, seed=2)
    flat[1, 2] = 7.0  # one band without contrast
    flat[2, 0] = np.nan  # one band without pixels
    add_images(db, iter([("good", good), ("flat", flat)]))
    add_images(db, iter([("two_bands", plain_images(4, 3, bands=2))]), bands=("g", "r"))
    add_images(db, iter([("small", plain_images(5, 4, npix=40))]))
    add_images(db, iter([("just", plain_images(2, 5, npix=46))]))
    add_spectra(db, iter([("spectra", plain_spectra(6, 0))]))
    with connect_engine(db).begin() as conn:
        c = cutout.c
        mine = c.shard_id == sa.text("(select shard_id from image_shard where name = 'good')")
        conn.execute(cutout.update().where(mine, c.shard_row == 0).values(frac_good=0.4))
        conn.execute(cutout.update().where(mine, c.shard_row == 1).values(frac_saturated=0.9))
        conn.execute(
            cutout.update().where(mine, c.shard_row == 2).values(frac_good=None, frac_saturated=None)
        )
    add_selection(db, "everything", "true")
    report = run(db, tmp_path, selection="everything")
    skipped = {why: n for why, n in report.n_skipped.items() if n}
    assert skipped == {
        "no_cutout": 6, "missing_bands": 4, "few_pixels": 1, "saturated": 1, "too_small": 5, "no_contrast": 2,
    }  # fmt: skip
    assert (report.n_selected, report.n_scored) == (22, 9)
    assert number(db, "select count(*) from image_score") == 9
    assert "4 skipped (the cutout lacks the model's bands)" in report.line()


def test_bands_are_taken_by_name(db: str, tmp_path: Path) -> None:
    """Cutouts whose array has more bands, in another order, give the same probabilities."""
    images = plain_images(12, seed=3)
    add_images(db, iter([("a", images)]))
    wide = np.concatenate([images[:, [2]], np.zeros_like(images[:, :1]), images[:, [0, 1]]], axis=1)
    add_images(db, iter([("b", wide)]), bands=("i", "y", "g", "r"))
    run(db, tmp_path)
    got = stored(db)
    assert np.abs(got[:12] - got[12:]).max() < 1e-6
    assert np.ptp(got) > 1e-5


def test_a_field_on_the_sky_is_resampled_and_needs_a_pixel_scale(db: str, tmp_path: Path) -> None:
    model, _ = fresh("eznet_1band", tmp_path)
    fine = plain_images(6, 1, npix=160, bands=1, pixscale=0.05)
    coarse = plain_images(5, 2, npix=48, bands=1, pixscale=0.16)
    add_images(db, iter([("coarse", coarse)]), bands=("VIS",), pixscale=0.16)
    add_images(db, iter([("fine", fine)]), bands=("F814W",), pixscale=0.05)
    add_images(db, iter([("unknown", fine[:2])]), bands=("F814W",), pixscale=None)
    report = run(db, tmp_path, "eznet_1band")
    assert (report.n_scored, report.n_skipped["no_pixscale"]) == (11, 2)
    expected = [
        model.probability(torch.from_numpy(percentile_stamp(pixels)[0]), scale).numpy()
        for pixels, scale in ((coarse, 0.16), (fine, 0.05))
    ]
    assert np.abs(stored(db) - np.concatenate(expected)).max() < 1e-5


def test_refusals_name_what_is_wrong(db: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is empty: 0 targets fulfil it.*count all_images"):
        run(db, tmp_path)
    add_spectra(db, iter([("spectra", plain_spectra(6, 0))]))
    with pytest.raises(UserError, match="6 targets, 0 of them with cutouts in a shard; ingest their images"):
        run(db, tmp_path, selection="all_spectra")
    add_images(db, iter([("two_bands", plain_images(4, 3, bands=2))]), bands=("g", "r"))
    with pytest.raises(UserError, match="4 cutouts, none of which can be scored: 4 because the cutout lacks"):
        run(db, tmp_path)
    assert number(db, "select count(*) from scoring_run") == 0


def test_a_missing_shard_fails_the_run_and_keeps_the_rest(db: str, tmp_path: Path) -> None:
    fill(db, 20, 15)
    shutil.rmtree(shard_root(db) / "images1")
    with pytest.raises(DataError, match=r"images1.*20 cutouts were scored and kept"):
        run(db, tmp_path, "lensflow", chunk=16)
    assert number(db, "select count(*) from image_score") == 20
    assert rows(db, sa.select(scoring_run.c.status)) == [("failed",)]


def test_a_shard_without_the_models_pixels_is_named(db: str, tmp_path: Path) -> None:
    fill(db, 10)
    folder = shard_root(db) / "images0"
    meta = json.loads((folder / "meta.json").read_text())
    meta["arrays"].pop("stamp")
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match="images0 holds no stamp, which eznet needs; it holds image"):
        run(db, tmp_path)


def test_a_killed_run_resumes_and_writes_nothing_twice(db: str, tmp_path: Path) -> None:
    n = 400
    fill(db, n)
    _, path = fresh("lensflow", tmp_path)
    options = ("--weights", str(path), "--backend", "torch", "--chunk", "8")
    process = start(db, "lensflow", "all_images", *options)
    try:
        wait_for_scores(db, process, 8, "image_score")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = number(db, "select count(*) from image_score")
    assert 8 <= before < n
    assert rows(db, "select status, modality from scoring_run") == [("running", "image")]
    assert number(db, "select count(*) from run_chunk where state = 'leased'") > 0
    report = run(db, tmp_path, "lensflow", chunk=1000)
    assert (report.resumed, report.n_scored) == (True, n - before)
    assert scored_once(db, n, *ONCE)
    assert rows(db, "select status, n_scored from scoring_run") == [("done", n)]


def test_two_workers_share_a_run(db: str, tmp_path: Path) -> None:
    n = 300
    fill(db, n)
    _, path = fresh("lensflow", tmp_path)
    options = ("--weights", str(path), "--backend", "torch", "--chunk", "50")
    workers = [start(db, "lensflow", "all_images", *options) for _ in range(2)]
    said = [worker.communicate(timeout=600) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    assert scored_once(db, n, *ONCE)
    assert sum(json.loads(out)["n_scored"] for out, _ in said) == n


def test_status_counts_images_and_says_why(db: str, tmp_path: Path) -> None:
    fill(db, 12)
    add_images(db, iter([("two_bands", plain_images(4, 3, bands=2))]), bands=("g", "r"))
    run(db, tmp_path, "eznet")
    found = collect_status(db)["scores"][0]
    # the version asked about is that of the run's own weights
    counted = ("model", "cutouts", "missing_bands", "current", "todo", "weights_changed")
    assert [found[what] for what in counted] == ["eznet", 16, 4, 12, 0, 0]
    with connect_engine(db).begin() as conn:  # as if those had been the shipped ones of an older release
        conn.execute(scoring_run.update().values(software={"weights": "shipped"}))
    found = collect_status(db)["scores"][0]
    assert [found[what] for what in counted] == ["eznet", 16, 4, 0, 12, 12]


def test_command_line(db: str, tmp_path: Path) -> None:
    fill(db, 12)
    _, path = fresh("lensflow", tmp_path)
    words = ("score", "lensflow", "all_images", "--weights", str(path), "--backend", "torch")
    done = subprocess.run(
        [*LENSMINE, *words], cwd=REPO, env=environment(db), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "lensflow on all_images: 12 cutouts in" in done.stdout.replace("\n", " ")
