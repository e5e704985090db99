"""The pixels of one band with what their file says of them, and of one file together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etl.checks import Fault, Note
from etl.image_header import Orientation, Sky

MAX_SIDE = 4096
"""Largest side of an image that is taken for a cutout [pixel]; above it, it is a tile."""


@dataclass
class Plane:
    """One band of one image."""

    path: str
    hdu: str
    band: str | None
    pixels: NDArray[np.float32]
    unit: str | None = None
    zeropoint: float | None = None
    exposure_s: float | None = None
    noise: float | None = None
    saturate: float | None = None
    pixscale: float | None = None
    sky: Sky | None = None
    instrument: str | None = None
    orientation: Orientation | None = None


@dataclass
class ImageFile:
    """The planes of one file, its masks and noise maps, and what was noted on the way."""

    planes: list[Plane] = field(default_factory=list)
    mask: NDArray[np.bool_] | None = None
    noise: float | None = None
    notes: list[Note] = field(default_factory=list)
    kind: str = "image"


def typical_noise(pixels: NDArray[Any], role: str) -> float:
    """Typical standard deviation that a map of ``variance``, ``ivar`` or ``rms`` states."""
    values = pixels[np.isfinite(pixels) & (pixels > 0)].astype(np.float64)
    if not values.size:
        return float("nan")
    middle = float(np.median(values))
    return {"variance": middle**0.5, "ivar": middle**-0.5}.get(role, middle)


def check_side(pixels: NDArray[Any]) -> None:
    """Refuse what is too large for a cutout."""
    if max(pixels.shape[-2:]) > MAX_SIDE:
        raise Fault(
            "not_image",
            f"an image of {pixels.shape[-1]} x {pixels.shape[-2]} pixels is a tile, no cutout; cutouts have "
            f"at most {MAX_SIDE} a side; for a tile run: lensmine ingest cosmos",
        )
