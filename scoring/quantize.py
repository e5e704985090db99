"""A network in 8-bit integers: quantised once for its weights, and refused if it loses lenses.

ONNX Runtime quantises with the ranges seen on calibration spectra or stamps, and OpenVINO runs the result.
The first and the last layers stay in fp32: they cost little and carry the most. The int8 network is a model
version of its own, and what was measured on it stands in its card.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schema.errors import UserError
from scoring.backends import cache_dir, fused, input_shape

if TYPE_CHECKING:
    from scoring.models.base import Model, SpectralModel
    from scoring.models.image_base import ImageModel

VERSION = 1
N_CALIBRATION = 512
N_CHECK = 4096
N_IMAGES = 2048
FALSE_POSITIVE_RATE = 0.01
SEED = 20_180


def quantised(model: Model) -> tuple[Path, dict[str, Any]]:
    """The int8 network of a model, from the cache or made now, with what was measured on it.

    Parameters
    ----------
    model : Model
        A network with its weights, of spectra or of images.

    Returns
    -------
    path : Path
        ONNX file.
    check : dict
        Completeness in fp32 with its 95% interval and in int8, both on the same simulated spectra or stamps
        at the same false-positive rate, and the largest difference of a probability.

    Raises
    ------
    UserError
        If onnx or onnxruntime is missing, or the completeness of int8 lies below the interval of fp32.
    """
    folder = cache_dir() / "int8"
    name = f"{model.name}-{model.preprocessing_hash[:12]}-{model.weights_hash[:12]}-v{VERSION}"
    path, note = folder / f"{name}.onnx", folder / f"{name}.json"
    known = _noted(note) if path.exists() else None
    if known is None:
        folder.mkdir(parents=True, exist_ok=True)
        made, told = (folder / f"{name}.{os.getpid()}.{time.time_ns()}{end}.tmp" for end in ("", ".json"))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # on busy cores its threads and those of ONNX Runtime wait for each other
        try:
            _quantise(model, made)
            told.write_text(json.dumps(measure(model, made), indent=1))
            told.replace(note)  # first, so that whoever finds the network finds what was measured on it
            made.replace(path)
        finally:
            torch.set_num_threads(threads)
            made.unlink(missing_ok=True)
            told.unlink(missing_ok=True)
        known = _noted(note)
        assert known is not None
    check = known
    if not check["allowed"]:
        raise UserError(
            f"{model.name} loses lenses in int8: completeness {check['completeness_int8']:.4f}, in fp32 "
            f"{check['completeness_fp32']:.4f} (95%: {check['lo']:.4f} to {check['hi']:.4f}); "
            "use --precision fp32"
        )
    return path, check


def _noted(note: Path) -> dict[str, Any] | None:
    """What was measured on an int8 network; None where the note is missing or damaged."""
    try:
        check = json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    whole = isinstance(check, dict) and {"allowed", "completeness_int8", "completeness_fp32"} <= check.keys()
    return check if whole else None


def _batch(model: Model, n: int, seed: int) -> tuple[Tensor, NDArray[np.bool_]]:
    """Preprocessed simulated spectra or stamps, half or a third of them lenses, and which."""
    from scoring.models.image_base import ImageModel

    if isinstance(model, ImageModel):
        return _image_batch(model, min(n, N_IMAGES), seed)
    return _spectral_batch(cast("SpectralModel", model), n, seed)


def _image_batch(model: ImageModel, n: int, seed: int) -> tuple[Tensor, NDArray[np.bool_]]:
    """Stamps of the family of instruments that the model is trained on: lenses and what looks like them."""
    from scoring.imaging.sets import simulate, simulated

    each = max(n // 3, 1)
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder), model.default_recipe, each, each, seed)  # and as many near misses
        lenses, others = simulated(Path(folder))
        parts = [every.inputs(model, np.arange(len(every))) for every in (lenses, others)]
    label = np.repeat([True, False], [len(part) for part in parts])
    order = np.random.default_rng(seed).permutation(len(label))
    return torch.cat(parts)[torch.from_numpy(order)].contiguous(), label[order]


def _spectral_batch(model: SpectralModel, n: int, seed: int) -> tuple[Tensor, NDArray[np.bool_]]:
    """Preprocessed spectra of the realistic recipe, half of them with a line, and which."""
    from scoring.generate.recipes import get_recipe

    recipe = get_recipe("realistic", positive_fraction=0.5, template="model" in model.inputs)
    batch = recipe.sample(n, torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        x = model.preprocess(batch.flux, batch.ivar, batch.z, **batch.more())
    return x.contiguous(), batch.label.numpy() > 0.5


def _quantise(model: Model, path: Path) -> None:
    try:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        hint = "pip install '.[int8]' in the folder of the project"
        raise UserError(f"int8 needs {error.name}; install it with: {hint}") from error

    x, _ = _batch(model, N_CALIBRATION, SEED)

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._parts: Iterator[Tensor] = iter(x.split(64))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            part = next(self._parts, None)
            return None if part is None else {"x": part.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        plain, ready = Path(folder) / "fp32.onnx", Path(folder) / "ready.onnx"
        export_onnx(model, plain)
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv", "Add", "MaxPool"],
            nodes_to_exclude=_ends(ready),
        )


def _ends(path: Path) -> list[str]:
    """Names of the first and the last convolution."""
    import onnx

    nodes = [node.name for node in onnx.load(str(path)).graph.node if node.op_type == "Conv"]
    return [nodes[0], nodes[-1]]


def export_onnx(model: Model, path: Path) -> None:
    """Write the model's network as ONNX with input ``x`` of any batch size."""
    import warnings

    example = torch.zeros((64, *input_shape(model)))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            fused(model.network()),
            (example,),
            str(path),
            input_names=["x"],
            output_names=["logit"],
            dynamic_axes={"x": {0: "n"}, "logit": {0: "n"}},
            opset_version=18,  # OpenVINO drops the axes of ReduceLogSumExp as older sets write them
            dynamo=False,
        )


def wilson(k: int, n: int, sigmas: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a fraction k / n (95% for 1.96 sigmas)."""
    p, s = k / n, sigmas * sigmas
    centre = (p + s / (2 * n)) / (1 + s / n)
    half = sigmas * ((p * (1 - p) + s / (4 * n)) / n) ** 0.5 / (1 + s / n)
    return centre - half, centre + half


def measure(model: Model, int8_path: Path) -> dict[str, Any]:
    """Completeness of the int8 network against that of fp32, at the same false-positive rate.

    Parameters
    ----------
    model : Model
        The network in fp32.
    int8_path : Path
        Its int8 ONNX file.

    Returns
    -------
    dict
        ``allowed`` is true when the completeness in int8 is not below the 95% interval of that in fp32.
    """
    import openvino as ov

    x, label = _batch(model, N_CHECK, SEED + 1)
    with torch.inference_mode():
        network = fused(model.network())
        exact = torch.cat([network(part) for part in x.split(128)]).numpy()
    core = ov.Core()
    graph = core.read_model(str(int8_path))
    graph.reshape([128, *x.shape[1:]])
    request = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    padded = torch.cat([x, x.new_zeros((-len(x) % 128, *x.shape[1:]))])  # the graph takes 128 at a time
    coarse = np.concatenate(
        [np.asarray(request.infer({0: part.numpy()})[0]).reshape(-1) for part in padded.split(128)]
    )[: len(x)]
    found = {}
    for name, logit in (("fp32", exact), ("int8", coarse)):
        cut = np.quantile(logit[~label], 1 - FALSE_POSITIVE_RATE)
        found[name] = int((logit[label] > cut).sum())
    n = int(label.sum())
    low, high = wilson(found["fp32"], n)
    sigmoid = [1 / (1 + np.exp(-np.clip(logit.astype(float), -60, 60))) for logit in (exact, coarse)]
    top = exact >= np.quantile(exact, 0.9)
    return {
        "n_positive": n,
        "n_negative": int((~label).sum()),
        "false_positive_rate": FALSE_POSITIVE_RATE,
        "completeness_fp32": found["fp32"] / n,
        "lo": low,
        "hi": high,
        "completeness_int8": found["int8"] / n,
        "top_decile_kept": float((coarse >= np.quantile(coarse, 0.9))[top].mean()),
        "largest_probability_difference": float(np.abs(sigmoid[0] - sigmoid[1]).max()),
        "allowed": bool(found["int8"] / n >= low),
    }
