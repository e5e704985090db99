"""LensFlow: Table 2.1 layer by layer, its histogram matching, and how it is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from schema.normalise import default_template, histogram_match
from scoring.models.image_base import on_grid
from scoring.models.lensflow import LensFlow, LensFlowConfig, LensFlowNet, match_histogram, sort

SHAPES = [  # Table 2.1, layers 1 to 9
    (30, 96, 96), (30, 96, 96), (30, 48, 48),
    (60, 44, 44), (60, 44, 44), (60, 22, 22),
    (90, 18, 18), (90, 18, 18), (90, 9, 9),
]  # fmt: skip


def test_layers_have_the_shapes_of_table_2_1() -> None:
    network = LensFlowNet(LensFlowConfig()).eval()
    x = torch.rand(1, 1, 100, 100)
    for layer, shape in zip(network.features, SHAPES, strict=True):
        x = layer(x)
        assert x.shape[1:] == shape
    linear = [m for m in network.dense if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [
        (7290, 1000),
        (1000, 800),
        (800, 600),
        (600, 2),
    ]
    assert [type(m) for m in network.dense[:3]] == [nn.Linear, nn.ReLU, nn.Dropout]


def test_histogram_is_the_templates() -> None:
    x = torch.randn(3, 1, 100, 100, generator=torch.Generator().manual_seed(1)) * 7 + 100
    y = match_histogram(x).numpy()
    assert np.abs(y - histogram_match(x.numpy(), default_template())).max() < 1e-3
    assert np.allclose(np.sort(y[0].ravel()), np.sort(y[1].ravel()), atol=2e-3)
    assert y.min() >= 0
    assert y.max() <= 1


def test_equal_pixels_get_equal_values() -> None:
    x = torch.randn(2, 1, 40, 40, generator=torch.Generator().manual_seed(2)).mul(3).round()
    y = match_histogram(x)
    for value in x[0].unique():
        assert len(y[0][x[0] == value].unique()) == 1
    assert np.abs(y.numpy() - histogram_match(x.numpy(), default_template())).max() < 0.02


def test_packed_sort_is_torchs() -> None:
    x = torch.randn(3, 500, generator=torch.Generator().manual_seed(6))
    x[0, :9] = torch.tensor([0.0, -0.0, 3.0, -3.0, 3.0, 1e30, -1e30, 1e-40, -1e-40])
    height, place = sort(x)
    ordered, expected = x.sort(dim=1, stable=True)
    assert torch.equal(place, expected)
    assert torch.equal(height[:, 1:] == height[:, :-1], ordered[:, 1:] == ordered[:, :-1])
    assert bool((height.diff(dim=1) >= 0).all())


def test_gain_and_offset_do_not_matter() -> None:
    x = torch.randn(1, 1, 50, 50, generator=torch.Generator().manual_seed(3))
    assert torch.equal(match_histogram(x), match_histogram(x * 8 + 4))


def test_field_is_six_arcsec() -> None:
    model = LensFlow()
    x = torch.randn(2, 1, 200, 200, generator=torch.Generator().manual_seed(4))
    assert model.preprocess(x, 0.03).shape == (2, 1, 100, 100)
    assert torch.equal(model.preprocess(x, 0.03), match_histogram(on_grid(x, 0.03, 100, 6.0)))


def test_weights_are_stored_in_a_quarter_of_the_room(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, again = LensFlow(), LensFlow()
    path = tmp_path / "lensflow.safetensors"
    save_file({k: v.contiguous() for k, v in model.pack(model.network().state_dict()).items()}, path)
    assert path.stat().st_size < 10e6
    assert load_file(path)["dense.0.weight.int8"].dtype == torch.int8
    again.load(path)
    x = torch.rand(8, 1, 100, 100)
    with torch.inference_mode():
        before, after = model.network()(x), again.network()(x)
    assert 0 < float((before - after).abs().max()) < 0.01
    stored = again.pack(again.network().state_dict())  # storing what is stored changes nothing more
    twice = again.unpack(stored)
    for key, value in again.network().state_dict().items():
        assert torch.allclose(twice[key], value, atol=1e-7), key


def test_openvino_agrees() -> None:
    openvino = pytest.importorskip("openvino")
    torch.manual_seed(0)
    network = LensFlowNet(LensFlowConfig()).eval()
    x = torch.rand(2, 1, 100, 100)
    compiled = openvino.Core().compile_model(
        openvino.convert_model(network, example_input=x), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    with torch.inference_mode():
        wanted = network(x).numpy()
    assert np.abs(compiled(x.numpy())[0] - wanted).max() < 1e-4
