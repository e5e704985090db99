"""Real cutouts that arcs are put on: what is known of each, and why some are refused."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schema.engine import connect_engine
from schema.errors import DataError, UserError
from scoring.inject.setup import ALIASES
from scoring.light.instruments import INSTRUMENTS, Instrument
from scoring.light.psf import gaussian_psf, load_psf
from scoring.predicate import VIEW
from scoring.selection import checked_selection

REASONS = {
    "injection": "is a simulated target itself",
    "zero_point": "the zero point of a band is unknown: arcs of a known magnitude have no known counts; give "
    "--zero-point",
    "pixel_scale": "the width of a pixel is unknown",
    "psf": "neither psf_path nor psf_fwhm_arcsec is known",
    "bad_psf": "its PSF file cannot be read or does not sum to one",
    "gain": "electrons a count are unknown: no known instrument, no exposure in electrons; give --gain",
    "few_pixels": "less than half of the pixels are good",
    "noise": "the noise of the background is unknown: which arcs would be seen cannot be told",
    "too_shallow": "no lens of the population would be seen at its noise and seeing",
}
"""Why a cutout takes no arcs."""

SUM_TOLERANCE = 0.02
"""A PSF whose pixels sum to one within this is taken: its far wings are always cut off."""

PHOT = ("mag_g", "mag_r", "mag_i", "mag_z", "mag_y", "mag_u", "mag_f814w")
SHAPE = ("r_eff_arcsec", "axis_ratio", "pa_deg", "sersic_n", "z_phot", "z_spec")
ELECTRON_RATES = {"electrons/s", "electron/s", "e/s", "e-/s"}
ELECTRONS = {"electrons", "electron", "e", "e-"}
_JSON = ("zeropoint", "exposure_s", "noise")


@dataclass(frozen=True)
class Host:
    """A cutout that takes arcs: its row, and where its pixels are."""

    target_id: int
    native_id: str
    ra_deg: float
    dec_deg: float
    shard: str
    shard_row: int
    phot: dict[str, float | None]
    orientat_deg: float | None = None
    sky_parity: int | None = None


@dataclass
class HostGroup:
    """Cutouts that share bands, shape, scale, zero point and PSF: one call of the renderer."""

    camera: Instrument
    ny: int
    nx: int
    unit: str | None
    psf: Tensor
    psf_path: str | None
    hosts: list[Host] = field(default_factory=list)


def find_hosts(
    db: str | None,
    selection: str,
    gain: float | None = None,
    limit: int | None = None,
    zero_point: float | None = None,
) -> tuple[list[HostGroup], Counter[str]]:
    """Cutouts of a selection by group, and how many were refused for which reason.

    Parameters
    ----------
    db : str or None
        Database.
    selection : str
        Name of a selection.
    gain : float, optional
        Electrons behind a count, where the instrument does not tell.
    limit : int, optional
        Most hosts to take, in the order of their target_id.
    zero_point : float, optional
        AB magnitude of one count, where the cutout does not tell.

    Raises
    ------
    UserError
        An unknown selection, or one without a cutout that takes arcs; the message counts the reasons.
    """
    chosen = checked_selection(db, selection)
    refused: Counter[str] = Counter()
    groups: dict[str, HostGroup] = {}
    n_taken = 0
    for row in _rows(db, chosen.where):
        reason, camera = _camera(row, gain, zero_point)
        if camera is None:
            refused[reason] += 1
            continue
        if limit is not None and n_taken >= limit:
            break
        key = json.dumps([dataclasses.astuple(camera), row["ny"], row["nx"], row["psf_path"], row["unit"]])
        if key not in groups:
            try:
                psf = _kernel(camera, row["psf_path"])  # (size, size) or (bands, size, size)
            except DataError:
                refused["bad_psf"] += 1
                continue
            groups[key] = HostGroup(camera, row["ny"], row["nx"], row["unit"], psf, row["psf_path"])
        n_taken += 1
        groups[key].hosts.append(
            Host(
                row["target_id"],
                row["native_id"],
                row["ra_deg"],
                row["dec_deg"],
                row["shard"],
                row["shard_row"],
                {name: row[name] for name in (*PHOT, *SHAPE)},
                row["orientat_deg"],
                row["sky_parity"],
            )
        )
    if not groups:
        counts = "; ".join(f"{n} {r}: {REASONS[r]}" for r, n in refused.items()) or "it has no cutouts"
        raise UserError(f"no cutout of selection {selection!r} takes arcs: {counts}")
    return list(groups.values()), refused


def column_of(hosts: list[Host], name: str) -> NDArray[np.float64]:
    """A column of phot_obj of some hosts, shape (n,); NaN where it is not known."""
    return np.array([np.nan if (v := h.phot[name]) is None else v for h in hosts], dtype=np.float64)


def _rows(db: str | None, where: str) -> Iterator[dict[str, Any]]:
    phot = ", ".join(f"chosen.{name}" for name in (*PHOT, *SHAPE))
    sql = f"""
        select chosen.target_id, chosen.native_id, chosen.ra_deg, chosen.dec_deg, chosen.is_injection, {phot},
            image_shard.name as shard, cutout.shard_row, cutout.instrument, cutout.bands, cutout.ny,
            cutout.nx, cutout.pixscale_arcsec, cutout.unit, cutout.zeropoint, cutout.exposure_s, cutout.noise,
            cutout.psf_path, cutout.psf_fwhm_arcsec, cutout.frac_good, cutout.orientat_deg, cutout.sky_parity
        from (select * from {VIEW} where {where}) as chosen
        inner join cutout on cutout.cutout_id = chosen.cutout_id
        inner join image_shard on image_shard.shard_id = cutout.shard_id
        order by chosen.target_id
    """
    with connect_engine(db, read_only=True).connect() as conn:
        found = conn.execution_options(no_parameters=True).exec_driver_sql(sql).mappings().all()
    for each in found:
        row = dict(each)
        for name in _JSON:
            value = row[name]
            row[name] = json.loads(value) if isinstance(value, str) else value
        yield row


def _camera(
    row: dict[str, Any], gain: float | None, zero_point: float | None
) -> tuple[str, Instrument | None]:
    """The instrument of one cutout with its own zero points and PSF; or why it takes no arcs."""
    bands = tuple(row["bands"].split(","))
    if row["is_injection"]:
        return "injection", None
    if row["frac_good"] is not None and row["frac_good"] < 0.5:
        return "few_pixels", None
    zero = _by_band(row["zeropoint"], bands)
    if zero is None and zero_point is not None:
        zero = (zero_point,) * len(bands)
    if zero is None:
        return "zero_point", None
    scale = row["pixscale_arcsec"]
    if scale is None or not (math.isfinite(scale) and scale > 0):
        return "pixel_scale", None
    fwhm = row["psf_fwhm_arcsec"]
    if not row["psf_path"] and not (fwhm is not None and math.isfinite(fwhm) and fwhm > 0):
        return "psf", None
    gains = (gain,) * len(bands) if gain is not None else _gains(row, bands, zero)
    if gains is None:
        return "gain", None
    noise = _by_band(row["noise"], bands)
    if noise is None or not min(noise) > 0:
        return "noise", None
    width = float(fwhm) if fwhm is not None and math.isfinite(fwhm) and fwhm > 0 else 3 * scale
    blank = Instrument(
        name=row["instrument"] or "unknown",
        bands=bands,
        pixel_scale_arcsec=float(scale),
        zero_point=zero,
        gain=gains,
        psf_fwhm_arcsec=(width,) * len(bands),
        depth_5sigma=zero,
        psf_beta=0.0,
        reference="cutout",
    )
    return "", dataclasses.replace(blank, depth_5sigma=_depth(blank, noise))


def _depth(camera: Instrument, noise: tuple[float, ...]) -> tuple[float, ...]:
    """5-sigma depth of a point source at the noise of an empty pixel [counts], to 0.1 so that they group."""
    unit = camera.background_sigma().tolist()  # at a depth that is the zero point
    return tuple(
        round(z - 2.5 * math.log10(s / u), 1) for z, s, u in zip(camera.zero_point, noise, unit, strict=True)
    )


def _by_band(values: Any, bands: tuple[str, ...]) -> tuple[float, ...] | None:
    """A figure of every band, from a mapping, a list in the order of the bands or one number for all."""
    if isinstance(values, dict):
        found = [values.get(band) for band in bands]
    elif isinstance(values, list):
        found = values if len(values) == len(bands) else []
    else:
        found = [values] * len(bands)
    good = [float(v) for v in found if isinstance(v, int | float) and math.isfinite(v)]
    return tuple(good) if len(good) == len(bands) else None


def _gains(row: dict[str, Any], bands: tuple[str, ...], zero: tuple[float, ...]) -> tuple[float, ...] | None:
    """Electrons a count: by the unit and the exposure, else those of the instrument at these zero points."""
    unit = (row["unit"] or "").strip().lower()
    if unit in ELECTRONS:
        return (1.0,) * len(bands)
    exposure = _by_band(row["exposure_s"], bands)
    if unit in ELECTRON_RATES and exposure is not None and min(exposure) > 0:
        return exposure
    name = (row["instrument"] or "").lower()
    known = INSTRUMENTS.get(ALIASES.get(name, name))
    if known is None:
        return None
    by_band = dict(zip(known.bands, zip(known.gain, known.zero_point, strict=True), strict=True))
    gains = []
    for band, z in zip(bands, zero, strict=True):
        # a band that the instrument's list lacks (HSC z, y) takes the last one's depth of exposure
        g, z_known = by_band.get(band, (known.gain[-1], known.zero_point[-1]))
        gains.append(g * 10 ** (-0.4 * (z - z_known)))
    return tuple(gains)


def _kernel(camera: Instrument, path: str | None) -> Tensor:
    """PSF of a group: of its file, or files in the order of the bands, else a Gaussian of its width.

    Shape (size, size), or (bands, size, size) where each band has its own.
    """
    gaussian = gaussian_psf(camera.psf_fwhm_arcsec[0] / camera.pixel_scale_arcsec)
    if not path:
        return gaussian
    names = path.split(",")
    if len(names) != len(camera.bands):
        return read_kernel(Path(path), len(camera.bands))
    kernels = [read_kernel(Path(name)) if name else gaussian for name in names]
    side = max(len(kernel) for kernel in kernels)
    return torch.stack([_padded(kernel, side) for kernel in kernels])


def _padded(kernel: Tensor, side: int) -> Tensor:
    edge = (side - len(kernel)) // 2
    return torch.nn.functional.pad(kernel, (edge, edge, edge, edge))


def read_kernel(path: Path, n_band: int = 1) -> Tensor:
    """A point spread function from a file, of odd size and sum 1.

    Returns
    -------
    Tensor, shape (size, size), or (n_band, size, size) where the file has a plane for each band

    Raises
    ------
    DataError
        When the file cannot be read, has another number of planes, holds what is not finite, or does not sum
        to one within 2%.
    """
    try:
        loaded = load_psf(path, normalise=True)
    except UserError as exc:
        raise DataError(str(exc)) from exc
    for total in loaded.sums:
        if not abs(total - 1) < SUM_TOLERANCE:
            raise DataError(
                f"PSF file {path} sums to {total:.4g}, allowed is 1 within {SUM_TOLERANCE:.0%}: "
                "divide it by its sum"
            )
    planes = len(loaded.kernel)
    if planes not in (1, n_band):
        raise DataError(f"PSF file {path} has {planes} planes; allowed are 1 and one a band ({n_band})")
    return loaded.kernel[0] if planes == 1 else loaded.kernel
