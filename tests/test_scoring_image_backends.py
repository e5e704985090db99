"""Backends of image models: torch, OpenVINO and int8 say the same of the same stamps."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.generated_images import plain_images
from schema.image_shards import percentile_stamp
from scoring import backends, quantize
from scoring.models.base import WEIGHTS_DIR
from scoring.models.image_base import ImageModel
from scoring.pipeline import sigmoid
from scoring.registry import available_models, image_model, model_class

NETWORKS = [name for name in available_models("image") if model_class(name).kind == "network"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMINE_CACHE", str(tmp_path / "cache"))


def inputs(model: ImageModel, n: int) -> torch.Tensor:
    pixels = plain_images(n, seed=8, bands=model.n_band)
    stamps = percentile_stamp(pixels)[0] if model.pixels == "stamp" else pixels
    with torch.inference_mode():
        return model.preprocess(torch.from_numpy(stamps), 0.168)


def loaded(name: str) -> ImageModel:
    """With its shipped weights; where it has none, fresh ones with the statistics of images."""
    torch.manual_seed(3)
    if (WEIGHTS_DIR / f"{name}.safetensors").exists():
        return image_model(name)
    model = image_model(name, None)
    for part in model.network().modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        model.network().train()(inputs(model, 64))
    model.network().eval()
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_backends_agree_to_a_thousandth(name: str) -> None:
    model = loaded(name)
    x = inputs(model, 70)
    assert tuple(x.shape[1:]) == backends.input_shape(model)
    with torch.inference_mode():
        plain = model.network()(x).numpy()
    for backend in ("torch", "openvino"):
        logit = backends.make_backend(model, backend, device="cpu").logits(x)
        assert np.abs(sigmoid(logit) - sigmoid(plain)).max() < 1e-3, backend
    assert np.ptp(plain) > 0  # a constant would agree with anything


@pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="int8 needs: pip install '.[int8]'"
)
def test_int8_is_measured_on_simulated_stamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "N_IMAGES", 132)
    monkeypatch.setattr(quantize, "N_CALIBRATION", 64)
    model, path = loaded("eznet"), tmp_path / "eznet.onnx"
    quantize._quantise(model, path)
    check = quantize.measure(model, path)
    assert (check["n_positive"], check["n_negative"]) == (44, 88)
    assert check["allowed"] == (check["completeness_int8"] >= check["lo"])
    assert 0 < check["largest_probability_difference"] < 0.5
