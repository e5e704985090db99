"""Where the network runs: torch on CPU or CUDA, OpenVINO on CPU; the same logits from each.

A backend is shared by several threads, each of which hands over preprocessed batches. Batches have one
static shape; the last, shorter one is padded and its padding cut off again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from schema.errors import UserError
from scoring.models.layers import channels_last

if TYPE_CHECKING:
    from scoring.models.base import Model, SpectralModel

BACKENDS = ("auto", "torch", "openvino")
PRECISIONS = ("fp32", "bf16", "int8")
_tracing = threading.Lock()  # torch.fx patches torch while it traces


class Backend:
    """What runs a network; `logits` may be called from several threads at once.

    Attributes
    ----------
    name : torch or openvino
    device : cpu, or the name of the CUDA device
    precision : fp32, bf16 or int8
    batch : spectra or stamps in one static batch
    threads : how many threads may usefully call it at once
    where : torch device on which `logits` wants its input
    check : what was measured before a precision below fp32 was allowed
    """

    name = ""
    device = "cpu"
    precision = "fp32"
    batch = 64
    threads = 1
    where = torch.device("cpu")
    check: dict[str, Any] | None = None

    def logits(self, x: Tensor) -> NDArray[np.float32]:
        """Logits of a preprocessed batch.

        Parameters
        ----------
        x : Tensor of float32, shape (n, channels, npix) or (n, channels, npix, npix)
            Input on device `where`; any n.

        Returns
        -------
        ndarray of float32, shape (n,)
        """
        out = np.empty(len(x), dtype=np.float32)
        for first in range(0, len(x), self.batch):
            part = x[first : first + self.batch]
            n = len(part)
            if n < self.batch:
                padded = part.new_zeros((self.batch, *part.shape[1:]))
                padded[:n] = part
                part = padded
            out[first : first + n] = self._full_batch(part)[:n]
        return out

    def _full_batch(self, x: Tensor) -> NDArray[np.float32]:
        raise NotImplementedError

    def versions(self) -> dict[str, str]:
        """Versions of the software that computes."""
        return {"torch": torch.__version__}


class TorchBackend(Backend):
    """The network as torch runs it: eager on CPU, compiled on CUDA, with bf16 if asked."""

    name = "torch"

    def __init__(self, model: Model, device: str = "cpu", precision: str = "fp32") -> None:
        if precision == "int8":
            raise UserError("backend torch computes in fp32 or bf16; int8 needs --backend openvino")
        self.precision = precision
        self.where = torch.device(device)
        self.threads = available_cores()
        self.network: Any = fused(model.network())
        if model.modality == "image":
            self.network = channels_last(self.network)
        if self.where.type == "cuda":
            if precision == "fp32":
                whole_fp32()
            self.device = torch.cuda.get_device_name(self.where)
            self.batch = 2048
            self._lock = threading.Lock()
            self.network = torch.compile(self.network.to(self.where))

    @torch.inference_mode()
    def _full_batch(self, x: Tensor) -> NDArray[np.float32]:
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        if self.where.type == "cpu":
            with _autocast("cpu", self.precision):
                return self.network(x).float().numpy()
        with self._lock, _autocast("cuda", self.precision):
            return self.network(x).float().cpu().numpy()

    def versions(self) -> dict[str, str]:
        more = {"cuda": str(torch.version.cuda)} if self.where.type == "cuda" else {}
        return super().versions() | more


def whole_fp32() -> None:
    """Have this process compute fp32 on CUDA in fp32: cuDNN's convolutions take TF32, 10 bits, by default."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


class OpenVinoBackend(Backend):
    """The network compiled by OpenVINO for the CPU: one stream a core, one request a calling thread."""

    name = "openvino"

    def __init__(self, model: Model, precision: str = "fp32", batch: int = 64) -> None:
        import openvino as ov

        if precision == "bf16":
            raise UserError("backend openvino computes in fp32 or int8; bf16 needs --backend torch")
        self.precision = precision
        self.batch = batch
        self.threads = available_cores()
        core = ov.Core()
        core.set_property({"CACHE_DIR": str(cache_dir() / "openvino")})
        if precision == "int8":
            from scoring.quantize import quantised

            path, self.check = quantised(model)
            graph = core.read_model(str(path))
        else:
            graph = convert(model)
        graph.reshape([self.batch, *input_shape(model)])
        self._compiled = core.compile_model(
            graph,
            "CPU",
            {
                "PERFORMANCE_HINT": "THROUGHPUT",
                "NUM_STREAMS": str(self.threads),
                "INFERENCE_NUM_THREADS": str(self.threads),
                "INFERENCE_PRECISION_HINT": "f32",
            },
        )
        self._local = threading.local()
        self._version = ov.__version__

    def _full_batch(self, x: Tensor) -> NDArray[np.float32]:
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._compiled.create_infer_request()
        result = request.infer({0: x.contiguous().numpy()}, share_inputs=True, share_outputs=False)
        return np.asarray(result[0]).reshape(-1)

    def versions(self) -> dict[str, str]:
        return super().versions() | {"openvino": self._version}


def make_backend(
    model: Model, backend: str = "auto", precision: str = "fp32", device: str | None = None
) -> Backend:
    """Backend for a model.

    Parameters
    ----------
    model : Model
        Loaded model, of spectra or of images.
    backend : str
        ``torch``, ``openvino``, or ``auto``: CUDA where there is a device, else OpenVINO where it is
        installed and the model is a network, else torch.
    precision : str
        ``fp32``; ``bf16`` (torch); ``int8`` (OpenVINO, networks only, checked against fp32 first).
    device : str or None
        ``cpu``, ``cuda`` or ``cuda:N``; None lets the backend choose.

    Raises
    ------
    UserError
        An unknown name, a device that is not there, a combination that does not exist, or int8 that
        loses completeness.
    """
    if backend not in BACKENDS:
        raise UserError(f"no backend is called {backend!r}; choose from {', '.join(BACKENDS)}")
    if precision not in PRECISIONS:
        raise UserError(f"no precision is called {precision!r}; choose from {', '.join(PRECISIONS)}")
    if precision != "fp32" and model.kind != "network":
        raise UserError(
            f"{model.name} is a filter without weights: it has no {precision}; leave --precision at fp32"
        )
    device = _device(device, backend, precision)
    if backend == "openvino" and device != "cpu":
        raise UserError(f"backend openvino runs on the cpu here, not on {device}; use --backend torch")
    have_openvino = importlib.util.find_spec("openvino") is not None
    if backend == "openvino" and not have_openvino:
        raise UserError(
            "backend openvino is not installed; install it with: pip install openvino, or use --backend torch"
        )
    suits = model.kind == "network" and device == "cpu" and precision != "bf16"
    if backend == "openvino" or (backend == "auto" and have_openvino and suits):
        return OpenVinoBackend(model, precision)
    return TorchBackend(model, device, precision)


def _device(device: str | None, backend: str, precision: str) -> str:
    if device is None or device == "auto":
        wants_cuda = backend != "openvino" and precision != "int8" and torch.cuda.is_available()
        return "cuda" if wants_cuda else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    if kind not in {"cpu", "cuda"}:
        raise UserError(f"no device is called {device!r}; choose cpu, cuda or cuda:N")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device} is not there: torch finds no CUDA device; use --device cpu")
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {device} is not there; there are {torch.cuda.device_count()} CUDA devices, from cuda:0"
        )
    return device


def input_shape(model: Model) -> tuple[int, ...]:
    """Channels and pixels of the network's input, without the batch."""
    from scoring.models.image_base import ImageModel

    if isinstance(model, ImageModel):
        return model.input_shape
    return _spectral_shape(cast("SpectralModel", model))


def _spectral_shape(model: SpectralModel) -> tuple[int, int]:
    npix = model.window[1]
    flat = torch.ones((1, npix))
    more = {name: flat for name in model.inputs if name not in {"flux", "ivar"}}
    with torch.inference_mode():
        shape = model.preprocess(flat, flat, torch.full((1,), 0.5), **more).shape
    return int(shape[1]), int(shape[2])


def convert(model: Model, batch: int = 64) -> Any:
    """The model's network as an OpenVINO graph."""
    import openvino as ov

    example = torch.zeros((batch, *input_shape(model)))
    try:
        with torch.inference_mode(), _quiet():
            return ov.convert_model(fused(model.network()), example_input=example)
    except RuntimeError as error:
        why = str(error).strip().splitlines()[-1]
        raise UserError(f"OpenVINO cannot convert {model.name} ({why}); use --backend torch") from error


def fused(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode, batch normalisations folded into convolutions where fx can trace it."""
    import copy

    from torch.fx.experimental.optimization import fuse

    plain = copy.deepcopy(network).eval()
    if not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in plain.modules()):
        return plain
    try:
        with _tracing:
            return fuse(plain)
    except Exception:  # untraceable control flow: the plain network computes the same
        return plain


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _autocast(kind: str, precision: str) -> Any:
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bf16")


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def cache_dir() -> Path:
    """Folder of compiled and quantised networks: LENSMINE_CACHE, else lensmine in the user's cache folder."""
    base = os.environ.get("LENSMINE_CACHE")
    if base:
        return Path(base).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lensmine"
