"""Images of a batch of simulated sources with everything that the database keeps of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scoring.lensing.scene import LensScene, observe, render
from scoring.light.instruments import Instrument

Columns = dict[str, Any]
MAG_COLUMNS = {"u", "g", "r", "i", "z", "y", "f814w"}
BLOCK = 64
"""Sources that are drawn, rendered and observed together, always whole: so a number fixes its pixels."""


@dataclass
class Batch:
    """Simulated sources, all of one stamp and instrument.

    Attributes
    ----------
    image : ndarray, shape (n, bands, ny, nx)  observed counts
    injection, lens, phot : dict of column to n values, for tables injection, injection_lens and phot_obj;
        `lens` is empty for sources that are no lenses
    """

    image: NDArray[np.float32]
    injection: Columns
    lens: Columns = field(default_factory=dict)
    phot: Columns = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.image)

    def pick(self, index: NDArray[np.int64]) -> Batch:
        """Some of the sources."""
        return Batch(
            self.image[index],
            *({k: _picked(v, index) for k, v in c.items()} for c in (self.injection, self.lens, self.phot)),
        )

    @staticmethod
    def cat(parts: list[Batch]) -> Batch:
        """The sources of several batches of one kind."""
        first = parts[0]

        def joined(name: str) -> Columns:
            columns = [getattr(part, name) for part in parts]
            return {key: _joined([c[key] for c in columns]) for key in getattr(first, name)}

        image = np.concatenate([part.image for part in parts])
        return Batch(image, joined("injection"), joined("lens"), joined("phot"))


def in_blocks(rows: NDArray[np.int64], n: int | None, make: Callable[[NDArray[np.int64]], Batch]) -> Batch:
    """Sources of some numbers, picked out of the whole blocks of `BLOCK` that they stand in.

    Chance is drawn block by block and even the rounding of the renderer depends on what is rendered together,
    so a source is made with its block whatever else is asked for.

    Parameters
    ----------
    rows : ndarray of int, shape (m,), rising
        Numbers.
    n : int, optional
        Where the last block ends, if the numbers end.
    make : callable
        Makes the sources of the numbers of one block.
    """
    parts = []
    for block in np.unique(rows // BLOCK):
        first = int(block) * BLOCK
        whole = np.arange(first, first + BLOCK if n is None else min(first + BLOCK, n))
        parts.append(make(whole).pick(rows[rows // BLOCK == block] - first))
    return Batch.cat(parts)


def _picked(values: Any, index: NDArray[np.int64]) -> Any:
    return values[index] if isinstance(values, np.ndarray) else [values[int(i)] for i in index]


def _joined(parts: list[Any]) -> Any:
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else [v for part in parts for v in part]


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of a key of schema.ids, or of any seed."""
    return torch.Generator(device=device).manual_seed(seed & (2**63 - 1))


def lens_images(
    scene: LensScene,
    instrument: Instrument,
    noise: torch.Generator,
    npix: int,
    psf: Tensor | None = None,
    around: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Observed images of lenses, and what the noiseless arcs say.

    Parameters
    ----------
    scene : LensScene of n lenses
    instrument : Instrument
    noise : source of chance, on the device that computes
    npix : side of the stamp [px]
    psf : Tensor, optional  as for `scoring.lensing.scene.render`
    around : Tensor, shape (n, bands, npix, npix), optional  noiseless light of other sources

    Returns
    -------
    image : Tensor, shape (n, bands, npix, npix)  observed counts
    arc_mag : Tensor, shape (n, bands)  AB magnitude of the lensed source within the stamp
    magnification : Tensor, shape (n,)
    arc_snr : Tensor, shape (n, bands)  S/N of the arcs over all pixels
    """
    light = render(scene, instrument, npix=npix, components="lens", psf=psf, device=noise.device)
    arcs, truth = render(
        scene, instrument, npix=npix, components="source", psf=psf, device=noise.device, with_truth=True
    )
    image = light + arcs if around is None else light + arcs + around
    return (
        observe(image, instrument, noise),
        truth.arc_mag,
        truth.magnification,
        arc_snr(arcs, image, instrument),
    )


def arc_snr(arcs: Tensor, image: Tensor, instrument: Instrument) -> Tensor:
    """S/N of an optimally weighted sum of the arcs' pixels, shape (n, bands)."""
    gain = torch.tensor(instrument.gain).to(arcs)[:, None, None]
    sky = instrument.background_sigma().to(arcs)[:, None, None] ** 2
    variance = sky + image.clamp_min(0.0) / gain
    return (arcs * arcs / variance).sum((2, 3)).sqrt()


def lens_columns(
    scene: LensScene, band: str, k: int, arc_mag: Tensor, magnification: Tensor, snr: Tensor
) -> Columns:
    """Columns of table injection_lens; magnitudes are those of band number `k`.

    `arc_mag` and `snr` have shape (n, bands), `magnification` (n,).
    """
    values = {name: _array(value) for name, value in scene.items()}
    return {
        "theta_e_arcsec": values["theta_e"],
        "lens_q": values["lens_q"],
        "lens_phi_deg": np.degrees(values["lens_phi"]) % 180,
        "gamma1": values["gamma1"],
        "gamma2": values["gamma2"],
        "band": [band] * len(scene),
        "lens_mag": values["lens_mag"][:, k],
        "lens_r_eff_arcsec": values["lens_r_eff"],
        "lens_sersic_n": values["lens_n"],
        "lens_ellipticity": 1 - values["lens_light_q"],
        "source_mag": values["source_mag"][:, k],
        "arc_mag": _array(arc_mag)[:, k],
        "magnification": _array(magnification),
        "source_x_arcsec": values["source_x"],
        "source_y_arcsec": values["source_y"],
        "source_r_eff_arcsec": values["source_r_eff"],
        "source_sersic_n": values["source_n"],
        "source_q": values["source_q"],
        "source_phi_deg": np.degrees(values["source_phi"]) % 180,
        "arc_snr": _array(snr)[:, k],
    }


def lens_photometry(scene: LensScene, instrument: Instrument, arc_mag: Tensor, z_lens: Tensor) -> Columns:
    """Columns of table phot_obj as a catalogue would list the blend: magnitudes of lens and arcs together.

    Shape and redshift are the lens's. The errors are those of the background within two effective radii.
    """
    light = 10 ** (-0.4 * _array(scene.lens_mag))
    total = -2.5 * np.log10(light + 10 ** (-0.4 * _array(arc_mag)))
    r_eff = _array(scene.lens_r_eff)
    return total_photometry(total, r_eff, instrument) | {
        "r_eff_arcsec": r_eff,
        "axis_ratio": _array(scene.lens_light_q),
        "pa_deg": (np.degrees(_array(scene.lens_light_phi)) - 90) % 180,  # north up, east left
        "sersic_n": _array(scene.lens_n),
        "z_phot": _array(z_lens),
    }


def total_photometry(mag: NDArray[Any], r_eff: NDArray[Any], instrument: Instrument) -> Columns:
    """Magnitudes and their errors by band as columns of phot_obj; `mag` has shape (n, bands)."""
    sigma = instrument.background_sigma().numpy()
    pixels = math.pi * (2 * r_eff / instrument.pixel_scale_arcsec) ** 2
    out: Columns = {}
    for k, band in enumerate(instrument.bands):
        if band.lower() not in MAG_COLUMNS:
            continue
        counts = 10 ** (-0.4 * (mag[:, k] - instrument.zero_point[k]))
        out[f"mag_{band.lower()}"] = mag[:, k]
        out[f"mag_err_{band.lower()}"] = 1.0857 * sigma[k] * np.sqrt(pixels) / counts
    return out


def with_source_mag(scene: LensScene, source_mag: Tensor) -> LensScene:
    """The scene with other source magnitudes, shape (n, bands)."""
    return replace(scene, source_mag=source_mag)


def _array(value: Tensor) -> NDArray[np.float64]:
    out: NDArray[np.float64] = value.detach().cpu().double().numpy()
    return out
