"""Training learns, resumes to the bit, and writes weights that load."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import scoring.card
import scoring.train
from schema.errors import DataError, UserError
from scoring.card import Scored, calibrate, choose_threshold, finish, fresh_batches, reliability
from scoring.generate.recipes import PublishedRecipe, RealisticRecipe
from scoring.registry import get_model
from scoring.train import TEST_SEED, TrainConfig, seeded, train

TINY = TrainConfig(
    model="snr_lae", epochs=2, spectra_per_epoch=512, test_spectra=256, batch_size=64, checkpoint_chunks=1
)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring.train, "CHUNK", 256)
    monkeypatch.setattr(scoring.card, "CHUNK", 256)


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight, _ = train(TINY, RealisticRecipe(), tmp_path / "straight")
    save, calls = scoring.train.save_checkpoint, [0]

    def dies(*args: object) -> None:
        save(*args)  # type: ignore[arg-type]
        calls[0] += 1
        if calls[0] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(scoring.train, "save_checkpoint", dies)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, RealisticRecipe(), tmp_path / "broken")
    monkeypatch.setattr(scoring.train, "save_checkpoint", save)
    resumed, history = train(TINY, RealisticRecipe(), tmp_path / "broken", resume=True)
    assert resumed.weights_hash == straight.weights_hash
    assert [row["epoch"] for row in history] == [1, 2]
    assert len((tmp_path / "broken" / "history.jsonl").read_text().splitlines()) == 2


def test_resuming_asks_for_the_same_settings(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to resume"):
        train(TINY, RealisticRecipe(), tmp_path, resume=True)
    train(replace(TINY, epochs=1, spectra_per_epoch=256), RealisticRecipe(), tmp_path)
    with pytest.raises(UserError, match="add --resume"):
        train(TINY, RealisticRecipe(), tmp_path)
    with pytest.raises(UserError, match="other settings of epochs, spectra_per_epoch"):
        train(TINY, RealisticRecipe(), tmp_path, resume=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"cut short")
    with pytest.raises(DataError, match="is not a checkpoint"):
        train(TINY, RealisticRecipe(), tmp_path, resume=True)


def test_a_run_begun_on_a_gpu_goes_on_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint's tensors are tagged as those of a CUDA device are."""
    plain = torch.serialization.location_tag
    monkeypatch.setattr(
        torch.serialization, "location_tag", lambda storage: plain(storage).replace("cpu", "cuda:0")
    )
    train(replace(TINY, epochs=1, spectra_per_epoch=256), RealisticRecipe(), tmp_path)
    monkeypatch.setattr(torch.serialization, "location_tag", plain)
    assert b"cuda:0" in (tmp_path / "checkpoint.pt").read_bytes()
    same = replace(TINY, epochs=1, spectra_per_epoch=256)
    _, history = train(same, RealisticRecipe(), tmp_path, resume=True)
    assert [row["epoch"] for row in history] == [1]


def test_a_filter_has_nothing_to_train(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights to train"):
        train(replace(TINY, model="matched_filter_lae"), PublishedRecipe(), tmp_path)


def test_it_learns(tmp_path: Path) -> None:
    config = replace(TINY, epochs=3, spectra_per_epoch=2048, learning_rate=3e-3)
    recipe = PublishedRecipe(positive_fraction=0.5, peak_min=5.0)
    model, history = train(config, recipe, tmp_path)
    test = Scored(model, fresh_batches(recipe, 256, 99))
    hit, label = test.logit > np.median(test.logit), test.label
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]
    assert (hit == label).mean() > 0.8


def test_weights_and_card_load_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = get_model("snr_lae")
    card = finish(model, TINY, RealisticRecipe(), [], tmp_path, command="lensmine train snr_lae", scale=0.0)
    again = get_model("snr_lae", tmp_path / "snr_lae.safetensors")
    assert again.weights_hash == card["weights_hash"]
    assert again.default_threshold == card["threshold"]
    held = json.loads((tmp_path / "snr_lae.json").read_text())
    figure = held["metrics"]["published_15000"]["precision"]
    assert figure["low"] <= figure["value"] <= figure["high"]
    assert held["training"]["recipe"]["name"] == "realistic"


def test_calibration_brings_the_probability_to_the_base_rate() -> None:
    model = get_model("snr_lae")
    test = Scored(model, fresh_batches(RealisticRecipe(positive_fraction=0.3), 1024, 5))
    rng = np.random.default_rng(1)
    truth = rng.normal(-1, 3, 200_000)
    test.label = rng.random(200_000) < 1 / (1 + np.exp(-truth))
    test.logit = 0.5 * truth + 2.0  # a network that is sure of too little and biased
    calibrate(model, test, base_rate=float(test.label.mean()))
    slope, offset = model.network().calibration.tolist()  # type: ignore[operator,union-attr]
    old = get_model("snr_lae").network().calibration.tolist()  # type: ignore[operator,union-attr]
    assert slope == pytest.approx(2.0 * old[0], rel=0.03)
    assert offset == pytest.approx(2.0 * old[1] - 4.0, abs=0.1)
    test.logit = truth
    assert reliability(test, float(test.label.mean()))["expected_calibration_error"] < 0.005


def test_the_threshold_reaches_the_precision_asked() -> None:
    model = get_model("snr_lae")
    test = Scored(model, fresh_batches(PublishedRecipe(positive_fraction=0.3), 1024, 6))
    threshold = choose_threshold(test, 0.97)
    hit = test.probability >= threshold
    assert test.label[hit].mean() >= 0.97
    assert torch.is_tensor(model.network().calibration)


def test_every_chunk_of_every_seed_has_a_stream_of_its_own() -> None:
    """Test spectra must not be drawn from the numbers that training spectra were drawn from."""
    keys = [
        (seed, chunk) for seed in (1, 2, 1 + TEST_SEED, 2_000_003, 3_000_017) for chunk in (0, 1, 2, 1 << 20)
    ]
    first = {key: float(torch.rand((), generator=seeded(*key), dtype=torch.float64)) for key in keys}
    assert len(set(first.values())) == len(keys)
    again = torch.rand((), generator=seeded(1, 2), dtype=torch.float64)
    assert float(again) == first[1, 2]


def test_no_epochs_measure_the_weights_given(tmp_path: Path) -> None:
    from scoring.training import TrainRequest, run_training

    card = run_training(
        TrainRequest("snr_lae_template", tmp_path, epochs=0, spectra=4096, init="shipped", quick=True)
    )
    assert card["training"]["epochs"] == 6
    assert card["training"]["recipe"]["template"] is True
    assert card["metrics"]["realistic"]["completeness"]["value"] > 0.5
    model = get_model("snr_lae_template", tmp_path / "snr_lae_template.safetensors")
    shipped = get_model("snr_lae_template")
    assert model.weights_hash == shipped.weights_hash  # calibration included
    assert model.card["command"] == shipped.card["command"]
    assert "--epochs 0" in model.card["measured_by"]
