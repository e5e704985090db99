"""A batch of lenses as tensors, their images, and the images an instrument would have taken of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from schema.errors import UserError
from scoring.lensing.raster import chunk_size, convolve, render_components
from scoring.light.instruments import Instrument
from scoring.light.kernels import check_kernel
from scoring.light.noise import add_noise
from scoring.light.photometry import check_magnitudes, mag_to_counts

RANGES: dict[str, tuple[float, float]] = {
    "theta_e": (0.0, 60.0),
    "lens_q": (0.05, 1.0),
    "gamma1": (-0.6, 0.6),
    "gamma2": (-0.6, 0.6),
    "lens_r_eff": (1e-3, 60.0),
    "lens_n": (0.2, 10.0),
    "lens_light_q": (0.05, 1.0),
    "source_r_eff": (1e-3, 60.0),
    "source_n": (0.2, 10.0),
    "source_q": (0.05, 1.0),
}
"""What the renderer accepts, both ends included; angles and positions only have to be finite."""


@dataclass(frozen=True)
class LensScene:
    """A batch of n lenses: an isothermal ellipsoid with shear, a Sérsic lens and a Sérsic source.

    Angles on the sky in arcsec from the middle of the stamp, position angles in radians from +x towards +y.

    Attributes
    ----------
    theta_e : Tensor, shape (n,)  intermediate-axis Einstein radius [arcsec]
    lens_q, lens_phi : Tensor, shape (n,)  axis ratio and position angle of the mass
    gamma1, gamma2 : Tensor, shape (n,)  external shear
    lens_r_eff, lens_n : Tensor, shape (n,)  effective radius [arcsec] and Sérsic index of the lens's light
    lens_light_q, lens_light_phi : Tensor, shape (n,)  axis ratio and position angle of the lens's light
    source_x, source_y : Tensor, shape (n,)  unlensed position of the source [arcsec]
    source_r_eff, source_n, source_q, source_phi : Tensor, shape (n,)  unlensed shape of the source
    lens_mag : Tensor, shape (n, bands)  AB magnitude of the lens's light
    source_mag : Tensor, shape (n, bands)  unlensed AB magnitude of the source
    lens_x, lens_y : Tensor, shape (n,)  centre of the lens's mass and light [arcsec]; 0 when left out
    """

    theta_e: Tensor
    lens_q: Tensor
    lens_phi: Tensor
    gamma1: Tensor
    gamma2: Tensor
    lens_r_eff: Tensor
    lens_n: Tensor
    lens_light_q: Tensor
    lens_light_phi: Tensor
    source_x: Tensor
    source_y: Tensor
    source_r_eff: Tensor
    source_n: Tensor
    source_q: Tensor
    source_phi: Tensor
    lens_mag: Tensor
    source_mag: Tensor
    lens_x: Tensor = None  # type: ignore[assignment]
    lens_y: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name in ("lens_x", "lens_y"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, torch.zeros_like(self.theta_e))
        n = len(self.theta_e)
        for name, value in self.items():
            wide = name in ("lens_mag", "source_mag")
            if value.shape[:1] != (n,) or value.ndim != 1 + wide:
                allowed = f"({n}, bands)" if wide else f"({n},)"
                raise UserError(
                    f"{name} has shape {tuple(value.shape)}: allowed is {allowed}, as for theta_e"
                )

    def items(self) -> list[tuple[str, Tensor]]:
        """Name and tensor of every parameter."""
        return [(f.name, getattr(self, f.name)) for f in fields(self)]

    def __len__(self) -> int:
        return len(self.theta_e)

    def __getitem__(self, index: slice | Tensor) -> LensScene:
        """The scenes that a slice, a mask or an index tensor picks."""
        return self._map(lambda value: value[index])

    def to(self, *args: Any, **kwargs: Any) -> LensScene:
        """The scene on another device or of another precision, as `Tensor.to`."""
        return self._map(lambda value: value.to(*args, **kwargs))

    def _map(self, change: Callable[[Tensor], Tensor]) -> LensScene:
        return replace(self, **{name: change(value) for name, value in self.items()})

    @staticmethod
    def cat(scenes: list[LensScene]) -> LensScene:
        """One scene of all the lenses of several."""
        return LensScene(
            **{f.name: torch.cat([getattr(s, f.name) for s in scenes]) for f in fields(LensScene)}
        )

    def check(self) -> None:
        """Raise `UserError` naming the first parameter outside its range, its value and what is allowed."""
        for name, value in self.items():
            if name in ("lens_mag", "source_mag"):
                check_magnitudes(value, name)
                continue
            low, high = RANGES.get(name, (-math.inf, math.inf))
            bad = ~(torch.isfinite(value) & (value >= low) & (value <= high))
            if bool(bad.any()):
                row = int(bad.nonzero()[0, 0])
                allowed = f"{low:g} to {high:g}" if name in RANGES else "finite values"
                raise UserError(f"{name} = {value[row].item():g} (row {row}): allowed is {allowed}")


class Truth(NamedTuple):
    """What the noiseless image says of the arcs.

    arc_mag : Tensor, shape (n, bands)  AB magnitude of the lensed source within the stamp
    magnification : Tensor, shape (n,)  lensed over unlensed flux of the source, within the stamp
    """

    arc_mag: Tensor
    magnification: Tensor


def render(
    scene: LensScene,
    instrument: Instrument,
    *,
    npix: int = 64,
    components: str = "all",
    oversample: int | str = "adaptive",
    psf: Tensor | None = None,
    device: torch.device | str | None = None,
    with_truth: bool = False,
) -> Any:
    """Noiseless images of the scenes, convolved with the PSF.

    Parameters
    ----------
    scene : LensScene of n lenses
    instrument : Instrument whose bands are the last axis of the scene's magnitudes
    npix : side of the stamp [px]
    components : ``all``, ``lens`` (its light alone) or ``source`` (the arcs alone)
    oversample : ``adaptive``, or the number of samples along each side of every pixel
    psf : Tensor, shape (size, size) or (bands, size, size)  odd, sum 1; the instrument's own by default
    device : where to compute; the scene's own by default
    with_truth : also return `Truth`

    Returns
    -------
    Tensor, shape (n, bands, npix, npix)  counts of the instrument's zero point; row is y, column is x, the
    origin in the middle of the stamp; with `Truth` beside it when asked for.

    Raises
    ------
    UserError  a parameter outside its range, or bands that are not the instrument's
    """
    if components not in ("all", "lens", "source"):
        raise UserError(f"components = {components!r}: allowed are all, lens, source")
    if device is not None:
        scene = scene.to(device)
    scene.check()
    if scene.lens_mag.shape[1] != len(instrument.bands) or scene.source_mag.shape != scene.lens_mag.shape:
        raise UserError(
            f"the scene has {scene.lens_mag.shape[1]} lens and {scene.source_mag.shape[1]} source bands, "
            f"{instrument.name} has {len(instrument.bands)} ({', '.join(instrument.bands)})"
        )
    kernel = instrument.psf() if psf is None else check_kernel(psf, len(instrument.bands))
    chunk = chunk_size(npix, oversample, scene.theta_e.device)
    images, truths = [], []
    for start in range(0, max(len(scene), 1), chunk):
        image, truth = _render(
            scene[start : start + chunk], instrument, npix, components, oversample, kernel, with_truth
        )
        images.append(image)
        truths.append(truth)
    image = torch.cat(images)
    if not with_truth:
        return image
    return image, Truth(torch.cat([t.arc_mag for t in truths]), torch.cat([t.magnification for t in truths]))


def _render(
    scene: LensScene, instrument: Instrument, npix: int, components: str, oversample: int | str,
    kernel: Tensor, with_truth: bool,
) -> tuple[Tensor, Truth]:  # fmt: skip
    """One chunk of `render`."""
    scale = instrument.pixel_scale_arcsec
    lens, source = render_components(scene, npix, scale, oversample, components)
    image: Tensor | float = 0.0
    zero = torch.tensor(instrument.zero_point, dtype=torch.float64)
    if lens is not None:
        image = image + mag_to_counts(scene.lens_mag, zero)[:, :, None, None] * lens[:, None]
    if source is not None:
        image = image + mag_to_counts(scene.source_mag, zero)[:, :, None, None] * source[:, None]
    assert isinstance(image, Tensor)
    image = convolve(image, kernel)
    if not with_truth:
        return image, Truth(image, image)
    if source is None:
        source = render_components(scene, npix, scale, oversample, "source")[1]
        assert source is not None
    magnification = source.sum((1, 2))
    arc_mag = scene.source_mag - 2.5 * torch.log10(magnification.clamp_min(1e-12))[:, None]
    return image, Truth(arc_mag, magnification)


def observe(image: Tensor, instrument: Instrument, generator: torch.Generator) -> Tensor:
    """Image with the instrument's photon and background noise, shape as given (n, bands, h, w)."""
    gain = torch.tensor(instrument.gain, dtype=torch.float64)
    return add_noise(image, gain, instrument.background_sigma(), generator)


def arc_magnitude(scene: LensScene, instrument: Instrument, npix: int = 64) -> Tensor:
    """AB magnitude of the lensed source within the stamp, shape (n, bands)."""
    truth: Truth = render(scene, instrument, npix=npix, components="source", with_truth=True)[1]
    return truth.arc_mag
