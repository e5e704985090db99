"""Logits of any model on a test set.

Rankings are made on logits, since probabilities near 1 are equal in single precision while logits still
differ.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from schema.errors import UserError
from scoring.evaluate.testsets import Spectra, window

if TYPE_CHECKING:
    from scoring.backends import Backend
    from scoring.models.base import SpectralModel

Array = NDArray[np.float64]


def logits(model: SpectralModel, spectra: Spectra, backend: Backend | None = None, batch: int = 256) -> Array:
    """Logit of each spectrum, shape (n,).

    Parameters
    ----------
    model : SpectralModel
        Loaded model.
    spectra : Spectra
        Over at least the model's window.
    backend : scoring.backends.Backend, optional
        Runs the network; default: the backend that scoring would choose.
    batch : int
        Spectra preprocessed at a time.
    """
    from scoring.backends import make_backend

    needs_model = "model" in model.inputs
    if needs_model and spectra.model is None:
        raise UserError(
            f"{model.name} needs the pipeline model of the galaxies, which this test set lacks; "
            "matched_filter_lae does without it"
        )
    runner = backend or make_backend(model)
    cut = window(spectra, *model.window)

    @torch.inference_mode()
    def some(first: int) -> Array:
        part = slice(first, first + batch)
        more = {"model": cut.model[part]} if needs_model and cut.model is not None else {}
        x = model.preprocess(cut.flux[part], cut.ivar[part], cut.z[part], **more)
        return runner.logits(x.to(runner.where)).astype(np.float64)

    # a thread a core with one thread each inside torch, as scoring does: small batches gain nothing from more
    with ThreadPoolExecutor(runner.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        out = list(pool.map(some, range(0, len(cut), batch)))
    return np.concatenate(out) if out else np.empty(0)


def with_mask(model: SpectralModel, half_width_px: int) -> SpectralModel:
    """The model with another mask of the lens's lines, so that models can be compared at equal masks.

    Parameters
    ----------
    model : SpectralModel
        Loaded model, whose configuration is replaced; the mask is part of its preprocessing and its hash.
    half_width_px : int
        Half width of the mask [pixel of 1e-4 dex = 69 km/s].

    Raises
    ------
    UserError
        If the width is negative, or the model masks no lines.
    """
    if half_width_px < 0:
        raise UserError(f"a mask of {half_width_px} pixels: give 0 or more")
    for name in ("mask_half_width_px", "mask_half_width"):
        if hasattr(model.config, name):
            model.config = replace(model.config, **{name: half_width_px})
            return model
    raise UserError(f"{model.name} masks no lines of the lens, so its mask cannot be set")


def probability(logit: ArrayLike) -> Array:
    """Probability that belongs to a logit."""
    return np.asarray(expit(np.asarray(logit, dtype=np.float64)), dtype=np.float64)
