"""Backends give the same probabilities, pad batches, and refuse what is not there."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.generated import plain_spectra
from schema.errors import UserError
from scoring import backends, quantize
from scoring.models.base import WEIGHTS_DIR, SpectralModel
from scoring.registry import available_models, get_model, model_class
from scoring.versions import model_key, versioned_weights

on_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU is there: torch finds no CUDA device"
)
NETWORKS = [name for name in available_models("spectrum") if model_class(name).kind == "network"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMINE_CACHE", str(tmp_path / "cache"))


def loaded(name: str) -> SpectralModel:
    """With its shipped weights, or untrained where it has none."""
    torch.manual_seed(3)
    return get_model(name, "shipped" if (WEIGHTS_DIR / f"{name}.safetensors").exists() else None)


def probability(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit.astype(np.float64)))


def preprocessed(model: SpectralModel, n: int) -> torch.Tensor:
    flux, ivar, z = (torch.from_numpy(a) for a in plain_spectra(n, seed=5))
    more = {"model": flux.mean(1, keepdim=True).expand_as(flux)} if "model" in model.inputs else {}
    with torch.inference_mode():
        return model.preprocess(flux, ivar, z.float(), **more)


@pytest.mark.parametrize("name", NETWORKS)
def test_openvino_agrees_with_torch_to_a_thousandth(name: str) -> None:
    model = loaded(name)
    x = preprocessed(model, 150)
    with torch.inference_mode():
        plain = model.network()(x).numpy()
    torch_logit = backends.make_backend(model, "torch").logits(x)
    openvino = backends.make_backend(model, "openvino")
    assert np.abs(probability(torch_logit) - probability(plain)).max() < 1e-4
    assert np.abs(probability(openvino.logits(x)) - probability(plain)).max() < 1e-3
    assert np.ptp(plain) > 0  # a constant would agree with anything


def test_padding_of_the_last_batch_changes_nothing() -> None:
    model = loaded(NETWORKS[0])
    x = preprocessed(model, 70)
    runner = backends.make_backend(model, "openvino")
    assert runner.batch == 64
    whole = runner.logits(x)
    assert whole.shape == (70,)
    assert np.allclose(runner.logits(x[64:]), whole[64:], atol=1e-4)
    assert runner.logits(x[:0]).shape == (0,)


def test_threads_share_a_backend() -> None:
    model = loaded(NETWORKS[0])
    x = preprocessed(model, 128)
    runner = backends.make_backend(model, "openvino")
    alone = runner.logits(x)
    got: dict[int, np.ndarray] = {}

    def work(k: int) -> None:
        for _ in range(5):
            got[k] = runner.logits(x.flip(0) if k % 2 else x)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        assert np.allclose(got[k], alone[::-1] if k % 2 else alone, atol=1e-4)


def test_auto_takes_what_suits() -> None:
    network, matched = loaded(NETWORKS[0]), get_model("matched_filter_lae")
    if not torch.cuda.is_available():
        assert backends.make_backend(network).name == "openvino"
        assert backends.make_backend(network, precision="bf16").name == "torch"
        assert backends.make_backend(matched).name == "torch"
    assert backends.make_backend(network, "torch", device="cpu").device == "cpu"


def test_refusals_say_what_is_allowed() -> None:
    network, matched = loaded(NETWORKS[0]), get_model("matched_filter_lae")
    cases = [
        (dict(model=network, backend="onnx"), "choose from auto, torch, openvino"),
        (dict(model=network, precision="fp16"), "choose from fp32, bf16, int8"),
        (dict(model=network, device="tpu"), "choose cpu, cuda"),
        (dict(model=network, backend="torch", precision="int8"), "needs --backend openvino"),
        (dict(model=network, backend="openvino", precision="bf16"), "needs --backend torch"),
        (dict(model=matched, precision="int8"), "is a filter"),
    ]
    if not torch.cuda.is_available():
        cases.append((dict(model=network, device="cuda:1"), "is not there"))
    for arguments, why in cases:
        with pytest.raises(UserError, match=why):
            backends.make_backend(**arguments)  # type: ignore[arg-type]


def test_bf16_on_cpu_stays_close() -> None:
    model = loaded(NETWORKS[0])
    x = preprocessed(model, 64)
    exact = probability(backends.make_backend(model, "torch").logits(x))
    rough = probability(backends.make_backend(model, "torch", "bf16").logits(x))
    assert 0 < np.abs(exact - rough).max() < 0.2


def test_precision_is_a_version_of_its_own() -> None:
    model = loaded(NETWORKS[0])
    assert versioned_weights(model) == model.weights_hash
    assert versioned_weights(model, "int8") == f"{model.weights_hash}-int8"
    assert len({model_key(model, precision) for precision in backends.PRECISIONS}) == 3


def test_int8_is_measured_kept_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "N_CALIBRATION", 64)
    monkeypatch.setattr(quantize, "N_CHECK", 512)
    model = loaded("snr_lae")
    path, check = quantize.quantised(model)
    assert check["lo"] <= check["completeness_fp32"] <= check["hi"]
    assert check["allowed"] == (check["completeness_int8"] >= check["lo"])
    assert check["n_positive"] + check["n_negative"] == 512
    made = path.stat().st_mtime_ns
    assert quantize.quantised(model)[0].stat().st_mtime_ns == made  # from the cache
    runner = backends.make_backend(model, "openvino", "int8")
    assert runner.check == check
    x = preprocessed(model, 200)
    exact = probability(backends.make_backend(model, "torch").logits(x))
    assert 0 < np.abs(probability(runner.logits(x)) - exact).max() < 0.5
    assert np.corrcoef(runner.logits(x), backends.make_backend(model, "torch").logits(x))[0, 1] > 0.98


def test_int8_that_loses_lenses_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded("snr_lae")
    bad = {"allowed": False, "completeness_int8": 0.5, "completeness_fp32": 0.9, "lo": 0.88, "hi": 0.92}
    monkeypatch.setattr(quantize, "_quantise", lambda model, path: path.write_bytes(b"onnx"))
    monkeypatch.setattr(quantize, "measure", lambda model, path: bad)
    for _ in range(2):  # measured, then remembered
        with pytest.raises(UserError, match=r"loses lenses in int8: completeness 0\.5000, in fp32 0\.9000"):
            backends.make_backend(model, "openvino", "int8")


@pytest.mark.parametrize("damaged", ['{"allowed": tr', "", "[]", '{"completeness_int8": 0.9}'])
def test_a_cut_note_of_the_int8_cache_is_made_anew(monkeypatch: pytest.MonkeyPatch, damaged: str) -> None:
    monkeypatch.setattr(quantize, "N_CALIBRATION", 64)
    monkeypatch.setattr(quantize, "N_CHECK", 512)
    model = loaded("snr_lae")
    path, check = quantize.quantised(model)
    note = path.with_suffix(".json")
    note.write_text(damaged)
    assert quantize.quantised(model) == (path, check)
    assert json.loads(note.read_text()) == check
    assert not list(path.parent.glob("*.tmp"))


def test_the_note_of_an_int8_network_is_whole_before_the_network_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another worker that sees the network may read its note at once, and a kill leaves no cut note."""
    monkeypatch.setattr(quantize, "N_CALIBRATION", 64)
    monkeypatch.setattr(quantize, "N_CHECK", 512)
    replace, seen = Path.replace, []

    def watched(self: Path, target: Path) -> Path:
        seen.append((target.suffix, {p.suffix for p in self.parent.iterdir()}))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    quantize.quantised(loaded("snr_lae"))
    assert [suffix for suffix, _ in seen] == [".json", ".onnx"]
    assert ".json" not in seen[0][1]  # nothing is written in place
    assert ".onnx" not in seen[0][1]


def test_wilson_interval() -> None:
    low, high = quantize.wilson(81, 263)  # Newcombe 1998, table 1: 0.2553 to 0.3662
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_int8_is_calibrated_on_spectra_with_the_pipelines_model() -> None:
    x, label = quantize._batch(loaded("snr_lae_template"), 64, 1)
    assert x.shape == (64, 5, 1192)
    assert label.sum() == 32
    assert float(x[:, 0].square().mean()) < 4  # flux less a model that fits, over its error


# ---------------------------------------------------------------------- on a GPU


def test_fp32_on_cuda_asks_for_fp32() -> None:
    """cuDNN computes convolutions in TF32 unless it is told not to; the flags need no device."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    backends.whole_fp32()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@on_cuda
@pytest.mark.parametrize("name", NETWORKS)
def test_fp32_on_cuda_is_that_of_the_cpu(name: str) -> None:
    torch.backends.cudnn.allow_tf32 = True  # as torch comes
    model = loaded(name)
    x = preprocessed(model, 300)
    exact = backends.make_backend(model, "torch", device="cpu").logits(x)
    runner = backends.make_backend(model, "torch", device="cuda")
    assert (runner.precision, runner.where.type) == ("fp32", "cuda")
    assert np.abs(runner.logits(x.cuda()) - exact).max() < 1e-3


@on_cuda
@pytest.mark.parametrize("name", NETWORKS)
def test_bf16_on_cuda_runs_compiled_and_near(name: str) -> None:
    model = loaded(name)
    x = preprocessed(model, 300)
    exact = backends.make_backend(model, "torch", device="cpu").logits(x)
    runner = backends.make_backend(model, "torch", "bf16", "cuda")
    assert isinstance(runner, backends.TorchBackend)
    assert isinstance(runner.network, torch._dynamo.OptimizedModule)
    got = runner.logits(x.cuda())
    assert np.abs(probability(got) - probability(exact)).max() < 0.2
    assert np.corrcoef(got, exact)[0, 1] > 0.99
