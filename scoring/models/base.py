"""What every model offers: a network that gives a logit, hashes, weights; and what spectral models add.

Image models stand in scoring.models.image_base.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from schema.errors import DataError, UserError
from schema.grid import WINDOW_FIRST, WINDOW_NPIX
from scoring.generate.lines import Lines
from scoring.models.layers import focal_loss

WEIGHTS_DIR = Path(__file__).parent.parent / "weights"


class Model:
    """Base class of every model in the registry, whatever it looks at.

    Attributes
    ----------
    modality : ``spectrum`` or ``image``: what it scores, as in scoring_run.modality
    reference : the paper it follows
    kind : ``network`` (has trained weights) or ``filter`` (has none)
    default_threshold : float  probability at and above which a target is a hit
    preprocessing : functions whose source enters the preprocessing hash
    """

    name: ClassVar[str] = ""
    modality: ClassVar[Literal["spectrum", "image"]]
    reference: ClassVar[str] = ""
    kind: ClassVar[Literal["network", "filter"]] = "network"
    default_threshold: float = 0.5
    preprocessing: ClassVar[tuple[Callable[..., Any], ...]] = ()
    config_class: ClassVar[type]

    def __init__(self, config: Any = None) -> None:
        self.config = config if config is not None else self.config_class()
        self.card: dict[str, Any] = {}
        self._network: nn.Module | None = None

    def build(self) -> nn.Module:
        """A fresh network that maps `preprocess`'s output to a logit, shape (n,)."""
        raise NotImplementedError

    def network(self) -> nn.Module:
        """The model's network, built once; in evaluation mode unless a training loop says otherwise."""
        if self._network is None:
            self._network = self.build().eval()
        return self._network

    def hash_parts(self) -> dict[str, Any]:
        """What decides the network's input, as plain values: the preprocessing hash is over these."""
        raise NotImplementedError

    @property
    def preprocessing_hash(self) -> str:
        """32 hex digits that change when what is read, the configuration or the preprocessing code does."""
        return hashlib.sha256(json.dumps(self.hash_parts(), sort_keys=True).encode()).hexdigest()[:32]

    @property
    def weights_hash(self) -> str:
        """32 hex digits over names, shapes and values of every weight and buffer."""
        digest = hashlib.sha256()
        for key, value in sorted(self.network().state_dict().items()):
            array = np.ascontiguousarray(value.detach().cpu().numpy())
            digest.update(f"{key}{array.dtype.str}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()[:32]

    def pack(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights as they are stored; a model may store them smaller."""
        return state

    def unpack(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights from what is stored: the reverse of `pack`."""
        return stored

    def load(self, weights: str | Path = "shipped") -> None:
        """Read weights and the card beside them.

        Parameters
        ----------
        weights : str or Path
            ``"shipped"``, or the path of a ``.safetensors`` file; its card has the same name and ``.json``.

        Raises
        ------
        UserError
            If the file does not exist.
        DataError
            If it is not safetensors or does not fit this network.
        """
        if self.kind == "filter":
            self.network()
            return
        path = WEIGHTS_DIR / f"{self.name}.safetensors" if str(weights) == "shipped" else Path(weights)
        if not path.is_file():
            raise UserError(f"weights not found: {path}; make some: lensmine train {self.name} --out DIR")
        try:
            self.network().load_state_dict(self.unpack(load_file(path)))
        except (SafetensorError, RuntimeError, OSError) as error:
            first = str(error).strip().splitlines()[0]
            raise DataError(f"{path} does not hold weights of {self.name}: {first}") from error
        card = path.with_suffix(".json")
        if card.is_file():
            self.card = json.loads(card.read_text())
            self.default_threshold = float(self.card.get("threshold", self.default_threshold))


class SpectralModel(Model):
    """Base class of the models that score spectra.

    A subclass sets the class attributes and defines :meth:`preprocess` and :meth:`build`. Preprocessing is a
    pure function on batches and part of the model: its source and the configuration enter
    `preprocessing_hash`.

    Attributes
    ----------
    default_recipe : recipe of simulated spectra that it is trained on
    threshold_at_precision : whether training sets the threshold at the paper's precision; else it stays
    window : (int, int)  first absolute grid index and number of pixels read from a shard
    inputs : tuple of str  shard arrays that `preprocess` needs
    needs_redshift : bool  whether `preprocess` uses the lens redshift
    training_galaxies : options of `scoring.generate.galaxies.template_bank` for its training
    """

    modality = "spectrum"
    threshold_at_precision: ClassVar[bool] = True
    default_recipe: ClassVar[str] = "published"
    window: ClassVar[tuple[int, int]] = (WINDOW_FIRST, WINDOW_NPIX)
    inputs: ClassVar[tuple[str, ...]] = ("flux", "ivar")
    needs_redshift: ClassVar[bool] = True
    training_galaxies: ClassVar[dict[str, float]] = {}

    def preprocess(self, flux: Tensor, ivar: Tensor, z: Tensor, **more: Tensor) -> Tensor:
        """Network input from calibrated spectra.

        Parameters
        ----------
        flux : Tensor, shape (n, npix)  [1e-17 erg/s/cm2/Angstrom]
        ivar : Tensor, shape (n, npix)  inverse variance of `flux`, 0 where there is no datum
        z : Tensor, shape (n,)  redshift of the lens
        **more : Tensor, shape (n, npix)  further shard arrays, as named by `inputs`

        Returns
        -------
        Tensor, shape (n, channels, npix), float32
        """
        raise NotImplementedError

    def loss(self, network: nn.Module, inputs: Tensor, label: Tensor, lines: Lines) -> Tensor:
        """Training loss of a batch: the focal loss of the spectra's logits.

        Parameters
        ----------
        inputs : Tensor, shape (n, channels, npix)
        label : Tensor, shape (n,)  1 with a line, else 0
        lines : Lines of the n spectra, for models that learn where the line is
        """
        return focal_loss(network(inputs), label, self.config.gamma)

    @torch.inference_mode()
    def probability(self, flux: Tensor, ivar: Tensor, z: Tensor, **more: Tensor) -> Tensor:
        """Probability that each spectrum holds a line that is not the lens's own, shape (n,)."""
        return torch.sigmoid(self.network()(self.preprocess(flux, ivar, z, **more)))

    def hash_parts(self) -> dict[str, Any]:
        """Window, shard arrays, configuration and code."""
        return {
            "window": self.window,
            "inputs": self.inputs,
            "config": dataclasses.asdict(self.config),
            "code": [code_of(f) for f in (type(self).preprocess, *self.preprocessing)],
        }


def code_of(function: Callable[..., Any]) -> str:
    """Source of a function without comments and docstring, so that only what it does enters a hash."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    body = tree.body[0].body  # type: ignore[attr-defined]
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        del body[0]
    return ast.unparse(tree)
