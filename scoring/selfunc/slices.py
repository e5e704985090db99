"""Lenses of a slice: two parameters vary, the others stay as in figure 4.2 of Pourrahmani (2019)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scoring.inject.batch import Batch, generator, lens_columns, lens_images, lens_photometry
from scoring.lensing.scene import LensScene, render
from scoring.light.instruments import Instrument
from scoring.selfunc.cells import Plane
from scoring.selfunc.design import Points
from scoring.selfunc.parameters import LENS_FLUX_RATIO, SOURCE_FLUX_RATIO, Parameter

Array = NDArray[np.float64]
WIDE_PX, WIDE_SCALE, THETA_NODES = 160, 0.2, 96


class SliceSimulator:
    """Makes the lenses of a design.

    Parameters
    ----------
    camera : Instrument
    npix : int
        Side of the stamp [px].
    k : int
        Place of the band that the magnitudes are in.
    axes : tuple of Parameter
        The six, with their references.
    fixed : dict of str to float
        What stays fixed.
    """

    def __init__(
        self,
        camera: Instrument,
        npix: int,
        k: int,
        axes: tuple[Parameter, ...],
        fixed: dict[str, float],
    ) -> None:
        self.camera, self.npix, self.k, self.axes, self.fixed = camera, npix, k, axes, fixed
        top = next(a.hi for a in axes if a.name == "theta_e_arcsec")
        self._theta, self._ln_mu = np.array([0.0, top]), np.zeros(2)
        theta = np.linspace(0.0, top, THETA_NODES)
        self._theta, self._ln_mu = theta, np.log(self._magnification(theta))

    def values(self, planes: list[Plane], points: Points) -> dict[str, Array]:
        """All six parameters of every point, each of shape (n,)."""
        out = {a.name: np.full(len(points), a.reference) for a in self.axes}
        for number, plane in enumerate(planes):
            mine = points.plane == number
            out[plane.x.name][mine] = points.x[mine]
            if plane.y is not None:
                out[plane.y.name][mine] = points.y[mine]
        return out

    def batch(self, values: dict[str, Array], recipe: str, seed: int, noise_key: int) -> Batch:
        """Observed images and truth of some points."""
        scene, magnification = self.scene(values)
        noise = generator(noise_key)
        image, _, _, snr = lens_images(scene, self.camera, noise, self.npix)
        n = len(scene)
        arc_mag = scene.source_mag - 2.5 * torch.log10(magnification)[:, None]
        nothing = torch.full((n,), math.nan)
        return Batch(
            image.numpy().astype(np.float32),
            {"is_lens": [True] * n, "recipe": [recipe] * n, "seed": [seed] * n},
            lens_columns(scene, self.camera.bands[self.k], self.k, arc_mag, magnification, snr),
            lens_photometry(scene, self.camera, arc_mag, nothing),
        )

    def scene(self, values: dict[str, Array]) -> tuple[LensScene, Tensor]:
        """The scene of some points, and the magnification of each source."""
        f = self.fixed
        n = len(values["theta_e_arcsec"])

        def tensor(value: Any) -> Tensor:
            return torch.as_tensor(np.broadcast_to(np.asarray(value, dtype=np.float32), (n,)).copy())

        theta = values["theta_e_arcsec"]
        mu = np.exp(np.interp(theta, self._theta, self._ln_mu))
        source_mag = values["arc_mag"] + 2.5 * np.log10(mu)
        offset, angle = f["source_offset_arcsec"], math.radians(f["source_offset_angle_deg"])
        scene = LensScene(
            theta_e=tensor(theta),
            lens_q=tensor(f["lens_q"]),
            lens_phi=tensor(math.radians(f["lens_phi_deg"])),
            gamma1=tensor(0.0),
            gamma2=tensor(0.0),
            lens_r_eff=tensor(values["lens_r_eff_arcsec"]),
            lens_n=tensor(values["lens_sersic_n"]),
            lens_light_q=tensor(1 - values["lens_ellipticity"]),
            lens_light_phi=tensor(math.radians(f["lens_light_phi_deg"])),
            source_x=tensor(offset * math.cos(angle)),
            source_y=tensor(offset * math.sin(angle)),
            source_r_eff=tensor(f["source_r_eff_arcsec"]),
            source_n=tensor(f["source_sersic_n"]),
            source_q=tensor(1 - f["source_ellipticity"]),
            source_phi=tensor(math.radians(f["source_phi_deg"])),
            lens_mag=self._in_bands(values["lens_mag"], LENS_FLUX_RATIO),
            source_mag=self._in_bands(source_mag, SOURCE_FLUX_RATIO),
        )
        return scene, tensor(mu)

    def _in_bands(self, mag: Array, ratio: dict[str, float]) -> Tensor:
        """Magnitudes in every band, shape (n, bands), from those in band `k`."""
        own = ratio.get(self.camera.bands[self.k], 1.0)
        step = [-2.5 * math.log10(ratio.get(b, own) / own) for b in self.camera.bands]
        return torch.from_numpy((mag[:, None] + np.array(step)).astype(np.float32))

    def _magnification(self, theta: Array) -> Array:
        """Magnification of the fixed source by lenses of each Einstein radius, on a field wide enough.

        A stamp of 11 arcsec loses the arcs of a 6 arcsec lens; its arc magnitude is that of the whole arc.
        """
        wide = replace(
            self.camera,
            bands=("wide",),
            pixel_scale_arcsec=WIDE_SCALE,
            zero_point=(27.0,),
            gain=(1.0,),
            psf_fwhm_arcsec=(3 * WIDE_SCALE,),
            depth_5sigma=(26.0,),
        )
        values = {a.name: np.full(len(theta), a.reference) for a in self.axes} | {"theta_e_arcsec": theta}
        scene, _ = self.scene(values)
        flat = torch.full((len(theta), 1), 25.0)
        truth = render(
            replace(scene, lens_mag=flat, source_mag=flat),
            wide,
            npix=WIDE_PX,
            components="source",
            with_truth=True,
        )[1]
        mu: Array = truth.magnification.double().numpy()
        return mu / mu[0]
