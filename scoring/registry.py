"""The one list of models: a class decorated with :func:`register_model` can be trained, scored and compared.

Modules under ``scoring/models`` are imported on the first look-up, so a new model is one new file.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from schema.errors import UserError

if TYPE_CHECKING:
    from scoring.models.base import Model, SpectralModel
    from scoring.models.image_base import ImageModel

_M = TypeVar("_M", bound="type[Model]")
_MODELS: dict[str, type[Model]] = {}


def register_model(name: str) -> Callable[[_M], _M]:
    """Class decorator that enters a model under `name`.

    Raises
    ------
    ValueError
        If another class holds the name already.
    """

    def enter(cls: _M) -> _M:
        held = _MODELS.get(name)
        if held is not None and (held.__module__, held.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"model name {name!r} is taken by {held.__module__}.{held.__qualname__}")
        cls.name = name
        _MODELS[name] = cls
        return cls

    return enter


def available_models(modality: str | None = None) -> tuple[str, ...]:
    """Names of all registered models, or of those of one modality (spectrum, image), sorted."""
    _import_models()
    return tuple(sorted(name for name, cls in _MODELS.items() if modality in (None, cls.modality)))


def model_class(name: str) -> type[Model]:
    """Class registered under `name`.

    Raises
    ------
    UserError
        If there is none; the message lists near matches, or every name.
    """
    _import_models()
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(sorted(_MODELS))}"
        raise UserError(f"no model is called {name!r}; {hint} (see: lensmine models)")
    return _MODELS[name]


def get_model(name: str, weights: str | Path | None = "shipped") -> Model:
    """Model ready to score.

    Parameters
    ----------
    name : str
        A registered name.
    weights : str or Path or None
        ``"shipped"`` for the packaged weights, the path of a ``.safetensors`` file, or None for an untrained
        network.

    Raises
    ------
    UserError
        Unknown name, or weights that do not exist.
    DataError
        Weights that do not fit the network or its preprocessing.
    """
    model = model_class(name)()
    if weights is not None:
        model.load(weights)
    return model


def spectral_class(name: str) -> type[SpectralModel]:
    """Class of a model that scores spectra, as `model_class`; a UserError for one that does not."""
    from scoring.models.base import SpectralModel

    cls = model_class(name)
    if not issubclass(cls, SpectralModel):
        raise UserError(f"{name} scores images; choose a model of spectra: {_named('spectrum')}")
    return cls


def spectral_model(name: str, weights: str | Path | None = "shipped") -> SpectralModel:
    """A model that scores spectra, as `get_model`; a UserError for one that does not."""
    spectral_class(name)
    return cast("SpectralModel", get_model(name, weights))


def image_model(name: str, weights: str | Path | None = "shipped") -> ImageModel:
    """A model that scores image cutouts, as `get_model`; a UserError for one that does not."""
    from scoring.models.image_base import ImageModel

    if not issubclass(model_class(name), ImageModel):
        raise UserError(f"{name} scores spectra; choose a model of images: {_named('image')}")
    return cast("ImageModel", get_model(name, weights))


def _named(modality: str) -> str:
    return ", ".join(available_models(modality)) or "there is none"


def _import_models() -> None:
    package = importlib.import_module("scoring.models")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"scoring.models.{module.name}")
