"""Mass along a host's light: position angles of the sky in the pixels of a cutout, however it lies there."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scoring.inject.hosts import Host, column_of
from scoring.lensing.scene import LensScene

Array = NDArray[np.float64]


def pixel_angle(pa_deg: Any, orientat_deg: Any, parity: Any) -> Any:
    """Angle from +x towards +y [deg] of a position angle east of north; numbers or arrays.

    Parameters
    ----------
    pa_deg : position angle, east of north [deg]
    orientat_deg : position angle of the +y axis [deg], column cutout.orientat_deg
    parity : column cutout.sky_parity, 1 or -1
    """
    return 90.0 + parity * (pa_deg - orientat_deg)


def sky_angle(phi_deg: Any, orientat_deg: Any, parity: Any) -> Any:
    """Position angle, east of north [deg], of an angle from +x towards +y: undoes `pixel_angle`."""
    return orientat_deg + parity * (phi_deg - 90.0)


def follow(
    scene: LensScene, hosts: list[Host], pixels: NDArray[np.float32], pixel_scale_arcsec: float
) -> tuple[LensScene, NDArray[np.bool_]]:
    """The scene with the mass along the host's light, where that has a shape.

    Where nobody knows how the cutout lies on the sky, the catalogue's position angle says nothing of its
    pixels, and the angle is measured on them (`light_angle`).

    Parameters
    ----------
    scene : LensScene of n lenses
    hosts : list of n Host
    pixels : ndarray, shape (n, bands, ny, nx)
    pixel_scale_arcsec : side of a pixel [arcsec]

    Returns
    -------
    scene : LensScene
    by_pixels : ndarray of bool, shape (n,)  whose angle was measured
    """
    q, pa = column_of(hosts, "axis_ratio"), column_of(hosts, "pa_deg")
    shaped = np.isfinite(q) & np.isfinite(pa) & (q > 0)
    north = np.array([np.nan if h.orientat_deg is None else h.orientat_deg for h in hosts], dtype=np.float64)
    parity = np.array([h.sky_parity or 0 for h in hosts], dtype=np.float64)
    lies = np.isfinite(north) & (parity != 0)
    phi = pixel_angle(pa, north, parity)
    unturned = shaped & ~lies
    if unturned.any():
        size = column_of(hosts, "r_eff_arcsec") / pixel_scale_arcsec
        phi[unturned] = np.degrees(light_angle(pixels[unturned], size[unturned]))
    angled = shaped & np.isfinite(phi)
    mass = torch.from_numpy(np.clip(np.where(shaped, q, 1.0), 0.3, 1.0)).to(scene.lens_q)
    turned = torch.from_numpy(np.radians(np.where(angled, phi, 0.0))).to(scene.lens_phi)
    along = replace(
        scene,
        lens_q=torch.where(torch.from_numpy(shaped), mass, scene.lens_q),
        lens_phi=torch.where(torch.from_numpy(angled), turned, scene.lens_phi),
    )
    return along, unturned & angled


def light_angle(image: NDArray[np.float32], size_px: Array) -> Array:
    """Angle of the major axis of the light in the middle of each image, from +x towards +y [rad].

    Second moments of the mean of the bands over their noise, under a round Gaussian window as wide as the
    galaxy, which keeps neighbours out.

    Parameters
    ----------
    image : ndarray, shape (n, bands, ny, nx)
    size_px : ndarray, shape (n,)  effective radius [px]; an eighth of the side where it is not known

    Returns
    -------
    ndarray, shape (n,)
        NaN where the window holds no light.
    """
    ny, nx = image.shape[2:]
    side = min(ny, nx)
    y, x = np.mgrid[:ny, :nx].astype(np.float64)
    out = np.full(len(image), np.nan)
    for i, bands in enumerate(image.astype(np.float64)):
        level = np.nanmedian(bands, axis=(1, 2), keepdims=True)
        spread = np.nanmedian(np.abs(bands - level), axis=(1, 2), keepdims=True)
        light = np.nan_to_num((bands - level) / np.maximum(spread, 1e-30)).mean(0)
        width = size_px[i] if np.isfinite(size_px[i]) else side / 8.0
        width = min(max(width, 2.0), side / 6.0)
        at_x, at_y = (nx - 1) / 2.0, (ny - 1) / 2.0
        for _ in range(3):  # the window moves onto the galaxy, which need not be on the middle pixel
            dx, dy = x - at_x, y - at_y
            weighed = light * np.exp(-0.5 * (dx**2 + dy**2) / width**2)
            total = weighed.sum()
            if not total > 0.0:
                break
            step_x, step_y = (weighed * dx).sum() / total, (weighed * dy).sum() / total
            if math.hypot(step_x, step_y) > 2.0:  # a neighbour draws it away
                break
            at_x, at_y = at_x + step_x, at_y + step_y
        if total > 0.0:
            dx, dy = x - at_x, y - at_y
            weighed = light * np.exp(-0.5 * (dx**2 + dy**2) / width**2)
            out[i] = 0.5 * math.atan2(2.0 * (weighed * dx * dy).sum(), (weighed * (dx**2 - dy**2)).sum())
    return out
