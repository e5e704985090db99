"""The training loop: what a batch holds, schedules, resuming; calibration, figures, the command."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from typer.testing import CliRunner

import lensmine
from schema.errors import UserError
from scoring.evaluate.metrics import ranking_performance, roc_area
from scoring.imaging.augment import random_crops, symmetries, symmetry
from scoring.imaging.measure import (
    completeness,
    figures,
    hardest,
    inspected_for_all,
    ordinary_above,
    ordinary_above_a_few,
    platt,
    simulated_figures,
)  # fmt: skip
from scoring.imaging.run import ImageTrainRequest, clear_lenses, published_config, survey_sources
from scoring.imaging.sets import from_arrays
from scoring.imaging.train import TODAY, FitConfig, fit, logits, make_optimiser, prepared
from scoring.models.eznet import Block, EZnetConfig, EZnetOneBand
from scoring.models.lensflow import LensFlow
from scoring.registry import get_model

SMALL = EZnetConfig(table=(Block(6, 3, 16), Block(6, 3, 8), Block(6, 3, 1)))
FAST = FitConfig(epochs=4, batch_size=16, learning_rate=0.05, seed=3)


def rings(n: int, seed: int, lensed: bool) -> NDArray[np.uint8]:
    """Stamps of a blob in noise, with a ring around it or without, shape (n, 1, 64, 64)."""
    rng = np.random.default_rng(seed)
    r = np.hypot(*np.mgrid[-31.5:32, -31.5:32])
    image = 120 * np.exp(-((r / 5) ** 2)) + 60 + 15 * rng.normal(size=(n, 1, 64, 64))
    if lensed:
        image += 60 * np.exp(-(((r - rng.uniform(10, 16, (n, 1, 1, 1))) / 1.5) ** 2))
    return np.clip(image, 0, 255).astype(np.uint8)


class Recorder:
    """Inputs that note which rows were asked for."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.asked = x, list[list[int]]()

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: NDArray[np.int64]) -> Tensor:
        self.asked.append([int(i) for i in index])
        return self.x[index]


def small_model(seed: int = 1) -> EZnetOneBand:
    torch.manual_seed(seed)
    model = EZnetOneBand(SMALL)
    model.network()
    return model


def sets(n: int, seed: int = 1) -> tuple[Recorder, Recorder]:
    """Rings and blobs, ready for the network."""
    return (
        Recorder(torch.from_numpy(rings(n, seed, True)) / 255.0),
        Recorder(torch.from_numpy(rings(2 * n, seed + 1, False)) / 255.0),
    )


@pytest.mark.parametrize("bf16", [False, True])
def test_learns_to_tell_rings_from_blobs(bf16: bool) -> None:
    model = small_model()
    lens, other = (from_arrays(rings(n, s, t), ("VIS",), 0.1) for n, s, t in ((64, 1, True), (128, 2, False)))
    history = fit(model, lens, other, dataclasses.replace(FAST, epochs=8, bf16=bf16))
    assert {p.dtype for p in model.network().parameters()} == {torch.float32}
    test = [logits(model.network(), prepared(model, from_arrays(rings(60, s, t), ("VIS",), 0.1)))
            for s, t in ((11, True), (12, False))]  # fmt: skip
    assert roc_area(np.arange(120) < 60, np.concatenate(test)) > 0.95
    assert history[-1]["loss"] < history[0]["loss"]


def test_every_positive_is_accompanied_by_an_image_of_the_pool() -> None:
    lens, other = sets(24)
    fit(small_model(), lens, other, dataclasses.replace(FAST, epochs=3, pool=10))
    assert [len(rows) for rows in lens.asked] == [len(rows) for rows in other.asked] == [8] * 9
    for epoch in range(3):
        assert sorted(itertools.chain(*lens.asked[3 * epoch : 3 * epoch + 3])) == list(range(24))
    drawn = list(itertools.chain(*other.asked))
    assert len(set(drawn)) <= 10
    assert len(set(drawn)) > 5
    assert other.asked[:3] != other.asked[3:6]  # other ones in every epoch


def test_more_negatives_to_each_positive() -> None:
    lens, other = sets(20)
    fit(small_model(), lens, other, dataclasses.replace(FAST, epochs=1, negatives=3, batch_size=20))
    assert [len(r) for r in lens.asked] == [5] * 4
    assert [len(r) for r in other.asked] == [15] * 4


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scoring.imaging.train.SAVE_EVERY_S", 0.0)
    config = dataclasses.replace(FAST, epochs=4, ema=0.9)
    whole = small_model()
    fit(whole, *sets(24), config, tmp_path / "whole")

    stopped = small_model()

    def stop(figures: dict[str, float]) -> None:
        if figures["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(stopped, *sets(24), config, tmp_path / "parts", tell=stop)
    again = small_model(seed=99)
    history = fit(again, *sets(24), config, tmp_path / "parts", resume=True)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    for key, value in whole.network().state_dict().items():
        assert torch.equal(value, again.network().state_dict()[key]), key


def test_a_run_begun_on_a_gpu_goes_on_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint's tensors are tagged as those of a CUDA device are."""
    plain = torch.serialization.location_tag
    config = dataclasses.replace(FAST, epochs=1)
    monkeypatch.setattr(
        torch.serialization, "location_tag", lambda storage: plain(storage).replace("cpu", "cuda:0")
    )
    fit(small_model(), *sets(16), config, tmp_path)
    monkeypatch.setattr(torch.serialization, "location_tag", plain)
    history = fit(small_model(seed=99), *sets(16), config, tmp_path, resume=True)
    assert [row["epoch"] for row in history] == [1]


def test_another_configuration_does_not_resume(tmp_path: Path) -> None:
    fit(small_model(), *sets(16), dataclasses.replace(FAST, epochs=1), tmp_path)
    with pytest.raises(UserError, match="is there already"):
        fit(small_model(), *sets(16), FAST, tmp_path)
    with pytest.raises(UserError, match="other settings of epochs, seed"):
        fit(small_model(), *sets(16), dataclasses.replace(FAST, epochs=9, seed=8), tmp_path, resume=True)
    with pytest.raises(UserError, match="nothing to resume"):
        fit(small_model(), *sets(16), FAST, tmp_path / "empty", resume=True)


def test_no_images_is_an_error() -> None:
    with pytest.raises(UserError, match="16 positives and 0 negatives"):
        fit(small_model(), sets(16)[0], Recorder(torch.zeros(0, 1, 64, 64)), FAST)


def test_steps_are_those_of_the_thesis_and_keep_their_place_in_a_shorter_run() -> None:
    rate = published_config("eznet").rate_at
    assert [rate(e / 250) for e in (0, 149, 150, 219, 220, 249)] == [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    assert dataclasses.replace(published_config("eznet"), epochs=25).rate_at(16 / 25) == 0.1
    ours = [TODAY.rate_at(p) for p in np.linspace(0, 0.999, 200)]
    assert max(ours) == pytest.approx(1.0, abs=0.02)
    assert ours[0] < 0.1
    assert ours[-1] < 0.01
    with pytest.raises(UserError, match="constant, one_cycle"):
        dataclasses.replace(TODAY, schedule="cosine").rate_at(0.5)


def test_published_settings() -> None:
    eznet, lensflow = published_config("eznet_1band"), published_config("lensflow")
    assert (eznet.optimiser, eznet.learning_rate, eznet.weight_decay, eznet.epochs) == ("sgd", 0.1, 1e-4, 250)
    assert eznet.pool == 50_000
    assert eznet.negatives == 1
    assert (lensflow.optimiser, lensflow.batch_size, lensflow.crop, lensflow.transferred) == (
        "adam",
        128,
        90,
        0.1,
    )
    optimiser = make_optimiser(small_model().network(), eznet)
    assert isinstance(optimiser, torch.optim.SGD)
    assert optimiser.defaults["nesterov"]
    assert optimiser.defaults["momentum"] == 0.9


def test_transferred_layers_learn_at_a_tenth_of_the_rate() -> None:
    network = LensFlow().network()
    factors = {id(p): g["factor"] for g in make_optimiser(network, published_config("lensflow")).param_groups
               for p in g["params"]}  # fmt: skip
    assert {factors[id(p)] for p in network.features.parameters()} == {0.1}
    assert {factors[id(p)] for p in network.dense.parameters()} == {1.0}


def test_the_eight_symmetries_are_eight() -> None:
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    seen = {tuple(symmetry(x, k).flatten().tolist()) for k in range(8)}
    assert len(seen) == 8
    many = symmetries(x.expand(400, 1, 3, 3), torch.Generator().manual_seed(1))
    drawn = {tuple(row.flatten().tolist()) for row in many}
    assert drawn == seen


def test_crops_are_magnified_parts() -> None:
    x = torch.linspace(0, 1, 100).expand(1, 1, 100, 100)
    y = random_crops(x.expand(64, 1, 100, 100), 90, torch.Generator().manual_seed(2))
    assert y.shape == (64, 1, 100, 100)
    spans = y[:, 0, 50, -1] - y[:, 0, 50, 0]
    assert torch.allclose(spans, torch.full_like(spans, 89 / 99), atol=0.01)
    assert len(y[:, 0, 50, 0].round(decimals=3).unique()) > 5
    assert torch.allclose(random_crops(x, 100, torch.Generator().manual_seed(3)), x, atol=1e-6)


def test_platt_makes_probabilities_right_for_the_base_rate() -> None:
    rng = np.random.default_rng(5)
    positive, negative = rng.normal(4, 2, 4000), rng.normal(-4, 2, 40_000)  # true logit at even odds: 2 x
    slope, offset = platt(positive / 3, negative / 3, 0.01)
    assert slope == pytest.approx(6.0, rel=0.1)
    assert offset == pytest.approx(np.log(0.01 / 0.99), abs=0.3)


def test_figures_of_a_known_ranking() -> None:
    positive, negative = np.array([9.0, 8.0, 1.5, 0.5]), np.arange(1000) / 500.0
    out = figures(positive, negative, resamples=50)
    assert out["completeness_fpr_1e-02"]["value"] == 0.5
    assert out["auc"]["value"] == pytest.approx((1000 + 1000 + 750.5 + 250.5) / 4000, abs=1e-3)
    assert out["inspected_for_all"]["value"] == pytest.approx((4 + 749) / 1004, abs=2e-3)
    assert "completeness_fpr_1e-04" not in out
    assert out["auc"]["lo"] <= out["auc"]["value"] <= out["auc"]["hi"]
    label = np.array([True, False, True, False])
    assert completeness(label, np.array([1.0, 1.0, 2.0, 0.0]), 0.0) == 0.5
    assert inspected_for_all(label, np.array([1.0, 1.0, 2.0, 0.0])) == 0.75


def test_share_of_others_to_read_does_not_count_the_tracers() -> None:
    positive, negative = np.array([9.0, 8.0, 7.0, 0.499]), np.arange(1000) / 500.0
    label = np.arange(1004) < 4
    score = np.concatenate([positive, negative])
    assert ordinary_above(label, score) == pytest.approx(0.75)
    assert ordinary_above(label, score, 0.75) == 0.0
    assert figures(positive, negative, resamples=5)["ordinary_above_all"]["value"] == pytest.approx(0.75)


def test_the_hardest_of_the_others_are_ranked_apart() -> None:
    positive, negative = np.array([9.0, 1.905, 1.905, 1.905]), np.arange(1000) / 500.0
    label = np.arange(1004) < 4
    score = np.concatenate([positive, negative])
    assert hardest(label, score, 1.0) == ranking_performance(label, score)
    among = np.concatenate([positive, negative[-60:]])  # 47 of the 60 rank above three of the four
    assert hardest(label, score) == pytest.approx(ranking_performance(np.arange(64) < 4, among))
    assert hardest(label, score) < 0 < ranking_performance(label, score)
    assert figures(positive, negative, 5)["ranking_performance_hardest_6_percent"]["value"] < 0


def test_worst_of_a_few_tracers_is_the_median_over_draws() -> None:
    rng = np.random.default_rng(1)
    score = np.concatenate([rng.normal(2, 1, 2000), rng.normal(0, 1, 3000)])
    label = np.arange(5000) < 2000
    drawn = [
        ordinary_above(np.arange(3052) < 52, np.concatenate([rng.choice(score[:2000], 52), score[2000:]]))
        for _ in range(400)
    ]
    assert ordinary_above_a_few(label, score, 52) == pytest.approx(np.median(drawn), abs=0.04)


def test_observable_tracers_are_figured_beside_all() -> None:
    positive, negative = np.array([5.0, 4.0, -5.0]), np.linspace(-1, 1, 200)
    kind = np.ones(200, np.int8)
    out = simulated_figures(positive, negative, kind, np.array([True, True, False]))
    assert out["observable_tracers_among_ordinary"]["n_positive"] == 2
    assert out["observable_tracers_among_ordinary"]["auc"]["value"] == 1.0
    assert out["tracers_among_ordinary"]["auc"]["value"] == pytest.approx(2 / 3, abs=1e-4)


def test_an_unknown_way_to_train_lists_the_known() -> None:
    assert published_config("eznet", "today") == TODAY
    assert published_config("eznet", "published") == published_config("eznet")
    with pytest.raises(UserError, match="published, today"):
        published_config("eznet", "tomorrow")


def test_near_misses_may_be_left_out_of_the_negatives() -> None:
    kind = np.array([-1, 1, 2, 3, 1], np.int8)
    assert survey_sources(kind, np.array([4, 3, 2, 0])).tolist() == [4, 0]
    request = ImageTrainRequest("eznet", Path("out"), how="today", near_misses=False)
    assert request.command() == "lensmine train eznet --how today --no-near-misses"


def test_lenses_to_learn_from_may_be_asked_to_be_clear() -> None:
    snr = np.array([20.0, 70.0, np.nan, 60.0] * 5, np.float32)
    assert clear_lenses(snr, np.arange(20), 60.0).tolist() == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]
    with pytest.raises(UserError, match=r"--min-snr 100: 0 of 20 simulated lenses"):
        clear_lenses(snr, np.arange(20), 100.0)
    request = ImageTrainRequest("eznet", Path("out"), min_snr=60.0)
    assert request.command() == "lensmine train eznet --min-snr 60.0"


def test_command_trains_measures_and_writes_weights_that_score(tmp_path: Path) -> None:
    out = tmp_path / "train"
    tests = ["--test-lenses", "400", "--test-ordinary", "6000", "--quick", "--quiet"]
    words = ["train", "arclet", "--lenses", "24", "--ordinary", "30", "--epochs", "1", "--out", str(out)]
    result = CliRunner().invoke(lensmine.app, [*words, "--json", *tests])
    assert result.exit_code == 0, result.output
    card = json.loads(result.stdout)
    figures_ = card["metrics"]["simulated"]["tracers_among_ordinary"]
    assert figures_["n_positive"] == 20
    assert figures_["n_negative"] == 300
    clear = card["metrics"]["simulated"]["clear_tracers_among_survey_sources"]
    assert (clear["n_positive"], clear["n_negative"]) == (20, 300)
    assert card["training"]["published_epochs"] == TODAY.epochs
    assert card["training"]["epochs"] == 1
    assert card["data"]["simulated"]["family"] == "space"
    model = get_model("arclet", out / "arclet.safetensors")
    assert model.weights_hash == card["weights_hash"]
    assert model.preprocessing_hash == card["preprocessing_hash"]
    assert model.default_threshold == card["threshold"]
    p = model.probability(torch.randn(3, 1, 64, 64), 0.1)
    assert bool(((p >= 0) & (p <= 1)).all())

    weights = str(out / "arclet.safetensors")
    again = [*words[:2], "--epochs", "0", "--init", weights, "--out", str(tmp_path / "again"), "--json"]
    again += ["--data", str(out / "images"), *tests]
    result = CliRunner().invoke(lensmine.app, again)
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)
    assert "--epochs 0" in measured["measured_by"]
    for key in ("weights_hash", "command", "training", "metrics", "threshold"):
        assert measured[key] == card[key], key


def test_measuring_alone_wants_weights(tmp_path: Path) -> None:
    words = ["train", "arclet", "--epochs", "0", "--out", str(tmp_path / "t")]
    result = CliRunner().invoke(lensmine.app, words)
    assert result.exit_code != 0
    assert "--init" in str(result.exception or result.output)


def test_options_of_spectra_are_refused_for_images(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        lensmine.app, ["train", "arclet", "--selection", "x", "--out", str(tmp_path / "t")]
    )
    assert result.exit_code != 0
    assert "--negatives" in str(result.exception or result.output)


def test_the_cards_command_repeats_the_run() -> None:
    request = ImageTrainRequest("eznet", Path("x"), epochs=25, negatives="mine", tracers=("a:b", "c"), seed=4)
    assert request.command() == (
        "lensmine train eznet --negatives mine --epochs 25 --seed 4 --tracers a:b --tracers c"
    )
    request = ImageTrainRequest("lensflow", Path("x"), how="today", min_snr=40, near_misses=False, bf16=True)
    assert request.command() == "lensmine train lensflow --how today --min-snr 40 --no-near-misses --bf16"
