"""EZnet: the architecture of the thesis's table, block by block, and what OpenVINO makes of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from scoring.models.eznet import TABLE_4_2, Block, EZnet, EZnetConfig, EZnetFeatures, multiply_adds, plan
from scoring.registry import get_model

OUTPUT_SIZES = [50, 40, 32, 24] + [16] * 6 + [12] * 10 + [8] * 20 + [1] * 10
KERNELS = [(16, 5), (12, 4), (12, 3), (12, 3)] + [(12, 3)] * 36 + [(32, 1)] * 10


def test_table_is_the_thesis() -> None:
    assert [(b.kernels, b.kernel_size) for b in TABLE_4_2] == KERNELS
    assert [b.output_size for b in TABLE_4_2] == OUTPUT_SIZES


def test_feature_maps_leave_every_block_with_the_tables_size() -> None:
    features = EZnetFeatures(TABLE_4_2, 3, 64).eval()
    x = torch.rand(2, 3, 64, 64)
    for block, size, (kernels, kernel_size) in zip(features.blocks, OUTPUT_SIZES, KERNELS, strict=True):
        assert block.conv.weight.shape[0] == kernels
        assert block.conv.weight.shape[2:] == (
            kernel_size,
            kernel_size,
        )
        x = block(x)
        assert x.shape[2:] == (size, size)
    assert x.shape[1] == features.features == 4 * 32


def test_a_block_sees_the_newest_outputs_only() -> None:
    table = (Block(5, 3, 8, keep=2), Block(7, 3, 8, keep=2), Block(9, 3, 8, keep=2), Block(4, 3, 8, keep=3))
    assert plan(table, 3) == [[3], [3, 5], [5, 7], [5, 7, 9], [7, 9, 4]]
    features = EZnetFeatures(table, 3, 8)
    assert [b.conv.in_channels for b in features.blocks] == [3, 8, 12, 21]
    assert features(torch.rand(1, 3, 8, 8)).shape == (1, (7 + 9 + 4) * 64)


def test_truncation_drops_the_oldest_maps_and_keeps_the_newest_unchanged() -> None:
    table = (Block(2, 1, 4, keep=1), Block(2, 1, 4, keep=2))
    first = EZnetFeatures(table, 3, 4).eval().blocks[0]
    x = torch.rand(1, 3, 4, 4)
    out = first(x)
    assert out.shape[1] == 5  # the next block keeps two outputs: image and maps
    assert torch.equal(out[:, :3], x)


def test_without_concatenation_only_the_convolution_goes_on() -> None:
    table = (Block(6, 3, 8, concatenate=False), Block(6, 3, 8))
    assert plan(table, 3)[1] == [6]
    assert EZnetFeatures(table, 3, 8)(torch.rand(1, 3, 8, 8)).shape == (1, 12 * 64)


def test_cost_is_49_million_multiply_adds() -> None:
    counted = 0

    def count(module: nn.Conv2d, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal counted
        counted += output.numel() * module.weight[0].numel()

    network = EZnet(EZnetConfig(), 3).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    network(torch.rand(1, 3, 64, 64))
    assert counted == multiply_adds(TABLE_4_2, 3, 64) == pytest.approx(49.2e6, rel=0.01)


def test_another_table_is_another_network() -> None:
    config = dataclasses.replace(EZnetConfig(), table=(Block(8, 3, 16), Block(8, 3, 4)), npix=32)
    assert EZnet(config, 1)(torch.rand(3, 1, 32, 32)).shape == (3,)


@pytest.mark.parametrize(("name", "bands"), [("eznet", 3), ("eznet_1band", 1)])
def test_stamps_become_logits(name: str, bands: int) -> None:
    model = get_model(name, None)
    stamps = torch.randint(0, 256, (2, bands, 64, 64), dtype=torch.uint8)
    x = model.preprocess(stamps, 0.1)
    assert x.shape == (2, bands, 64, 64)
    assert float(x.max()) <= 1.0
    assert torch.allclose(x, stamps / 255.0)
    p = model.probability(stamps, 0.1)
    assert p.shape == (2,)
    assert bool(((p > 0) & (p < 1)).all())


def test_bands_are_i_r_g() -> None:
    cls = type(get_model("eznet", None))
    assert cls.choose_bands(("g", "r", "i", "z", "y")) == ("i", "r", "g")
    assert cls.choose_bands(("g", "r")) is None


def test_openvino_agrees() -> None:
    openvino = pytest.importorskip("openvino")
    torch.manual_seed(0)
    network = EZnet(EZnetConfig(), 3).eval()
    x = torch.rand(4, 3, 64, 64)
    compiled = openvino.Core().compile_model(
        openvino.convert_model(network, example_input=x), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    with torch.inference_mode():
        wanted = network(x).numpy()
    assert np.abs(compiled(x.numpy())[0] - wanted).max() < 1e-4
