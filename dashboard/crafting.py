"""One simulated lens: its picture from the sliders, and what the image models say of it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schema.errors import LensmineError
from schema.image_shards import percentile_stamp

PARTS = {"all": "lens and arcs", "lens": "lens light", "source": "arcs"}
DEGREES = 180.0 / np.pi


@dataclass(frozen=True)
class Slider:
    """One parameter: label, unit, range, start and step."""

    label: str
    lo: float
    hi: float
    start: float
    step: float
    group: str


SLIDERS: dict[str, Slider] = {
    "theta_e": Slider("Einstein radius [arcsec]", 0.0, 5.0, 1.9, 0.05, "Mass"),
    "lens_q": Slider("Axis ratio of the mass", 0.1, 1.0, 0.75, 0.01, "Mass"),
    "lens_phi": Slider("Position angle of the mass [deg]", 0.0, 180.0, 30.0, 1.0, "Mass"),
    "gamma1": Slider("Shear, first component", -0.3, 0.3, 0.03, 0.005, "Mass"),
    "gamma2": Slider("Shear, second component", -0.3, 0.3, 0.0, 0.005, "Mass"),
    "lens_x": Slider("Centre of the lens, x [arcsec]", -1.0, 1.0, 0.0, 0.05, "Mass"),
    "lens_y": Slider("Centre of the lens, y [arcsec]", -1.0, 1.0, 0.0, 0.05, "Mass"),
    "lens_mag": Slider("Magnitude of the lens, bluest band [AB mag]", 16.0, 26.0, 21.3, 0.1, "Lens light"),
    "lens_colour": Slider(
        "Lens: magnitude step to each redder band [mag]", -1.5, 0.5, -0.8, 0.05, "Lens light"
    ),
    "lens_r_eff": Slider("Effective radius of the lens [arcsec]", 0.1, 5.0, 0.6, 0.05, "Lens light"),
    "lens_n": Slider("Sérsic index of the lens", 0.5, 8.0, 4.0, 0.1, "Lens light"),
    "lens_light_q": Slider("Axis ratio of the light", 0.1, 1.0, 0.8, 0.01, "Lens light"),
    "lens_light_phi": Slider("Position angle of the light [deg]", 0.0, 180.0, 30.0, 1.0, "Lens light"),
    "source_mag": Slider("Magnitude of the source, not lensed [AB mag]", 18.0, 29.0, 23.5, 0.1, "Source"),
    "source_colour": Slider(
        "Source: magnitude step to each redder band [mag]", -1.5, 1.0, 0.2, 0.05, "Source"
    ),
    "source_x": Slider("Source, x [arcsec]", -2.0, 2.0, 0.35, 0.01, "Source"),
    "source_y": Slider("Source, y [arcsec]", -2.0, 2.0, 0.15, 0.01, "Source"),
    "source_r_eff": Slider("Effective radius of the source [arcsec]", 0.02, 2.0, 0.12, 0.01, "Source"),
    "source_n": Slider("Sérsic index of the source", 0.5, 6.0, 1.0, 0.1, "Source"),
    "source_q": Slider("Axis ratio of the source", 0.1, 1.0, 0.7, 0.01, "Source"),
    "source_phi": Slider("Position angle of the source [deg]", 0.0, 180.0, 60.0, 1.0, "Source"),
}
"""Every parameter of `scoring.lensing.scene.LensScene`."""


@dataclass(frozen=True)
class Crafted:
    """Simulated images of one lens.

    Attributes
    ----------
    image : ndarray of float32, shape (bands, npix, npix)  with noise where asked for
    bands : tuple of str
    pixscale : float  width of a pixel [arcsec]
    arc_mag : list of float  AB magnitude of the arcs, by band
    magnification : float
    """

    image: NDArray[np.float32]
    bands: tuple[str, ...]
    pixscale: float
    arc_mag: list[float]
    magnification: float


def instruments() -> list[str]:
    """Names of the instruments that can be simulated."""
    from scoring.light.instruments import INSTRUMENTS

    return list(INSTRUMENTS)


def craft(
    values: dict[str, float], instrument: str, *, npix: int, part: str, noise: bool, seed: int
) -> Crafted:
    """Render one lens.

    Parameters
    ----------
    values : dict of float
        A value for each of SLIDERS, angles in degrees.
    instrument : str
        Name of an instrument.
    npix : int
        Side of the stamp [px].
    part : str
        all, lens or source.
    noise : bool
        Add the instrument's noise.
    seed : int
        Seed of the noise.
    """
    import torch

    from scoring.lensing.scene import LensScene, observe, render
    from scoring.light.instruments import get_instrument

    camera = get_instrument(instrument)
    steps = torch.arange(len(camera.bands), dtype=torch.float32)

    def one(value: float) -> Any:
        return torch.tensor([value], dtype=torch.float32)

    angles = {k: one(values[k] / DEGREES) for k in ("lens_phi", "lens_light_phi", "source_phi")}
    plain = {k: one(values[k]) for k in SLIDERS if k not in angles and not k.endswith(("_mag", "_colour"))}
    scene = LensScene(
        **plain,
        **angles,
        lens_mag=(values["lens_mag"] + values["lens_colour"] * steps)[None],
        source_mag=(values["source_mag"] + values["source_colour"] * steps)[None],
    )
    image, truth = render(scene, camera, npix=npix, components=part, with_truth=True)
    if noise:
        image = observe(image, camera, torch.Generator().manual_seed(seed))
    return Crafted(
        image[0].float().numpy(),
        camera.bands,
        camera.pixel_scale_arcsec,
        [float(m) for m in truth.arc_mag[0]],
        float(truth.magnification[0]),
    )


def verdicts(made: Crafted) -> list[tuple[str, float | None, str]]:
    """Name, probability and remark of every image model; None where it cannot judge the image."""
    import torch

    out: list[tuple[str, float | None, str]] = []
    for name in image_models():
        try:
            if not has_weights(name):
                out.append((name, None, f"no weights yet: lensmine train {name}"))
                continue
            model = _loaded(name)
            bands = model.choose_bands(made.bands)
            if bands is None:
                out.append((name, None, f"needs other bands than {', '.join(made.bands)}"))
                continue
            pixels: Any = made.image[[made.bands.index(b) for b in bands]][None]  # (1, n_band, npix, npix)
            if model.pixels == "stamp":
                pixels = percentile_stamp(pixels)[0]
            p = float(model.probability(torch.from_numpy(pixels), made.pixscale)[0])
            out.append((name, p, f"a hit from {model.default_threshold:.3g}"))
        except LensmineError as exc:
            out.append((name, None, str(exc)))
    return out


@functools.lru_cache(maxsize=1)
def image_models() -> list[str]:
    """Registered models that judge images."""
    from scoring.registry import available_models, model_class

    return [
        name for name in available_models()
        if getattr(model_class(name), "modality", "") == "image" and model_class(name).kind != "generator"
    ]  # fmt: skip


def has_weights(name: str) -> bool:
    """Whether the package ships weights of a model."""
    from scoring.models.base import WEIGHTS_DIR
    from scoring.registry import model_class

    return model_class(name).kind == "filter" or (WEIGHTS_DIR / f"{name}.safetensors").is_file()


@functools.lru_cache(maxsize=8)
def _loaded(name: str) -> Any:
    from scoring.registry import get_model

    return get_model(name)
