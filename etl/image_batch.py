"""What reading some image files gives, and the rows of table cutout made from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from etl.batch import now, reject_row, source_file_id
from etl.checks import Note
from etl.image_header import Orientation
from schema.ids import hashed_id
from schema.image_shards import percentile_stamp, pixel_hashes, write_image_shard
from schema.normalise import histogram_match

PREFIX = "image-"
"""Beginning of the names of the shards that ingest writes."""

BORDER = 4
"""Width of the frame of a cutout that its background noise is measured on [pixel]."""

SATURATED_SHARE = 0.002
"""Share of pixels at the brightest value from which a cutout is noted as saturated."""

PLATEAU = 4
"""So many pixels must share the brightest value to count as saturated: one brightest there always is."""


@dataclass
class Place:
    """Position of a target, and how it is known: wcs, degrees, name, none or fake."""

    kind: str
    ra_deg: float = math.nan
    dec_deg: float = math.nan
    half_ra_arcsec: float = 0.0
    half_dec_arcsec: float = 0.0


@dataclass
class Cutout:
    """One cutout in memory: pixels, shape (bands, ny, nx), and everything its row says."""

    key: str
    survey: str
    native_id: str
    path: str
    bands: tuple[str, ...]
    hdus: list[str]
    image: NDArray[np.float32]
    place: Place
    instrument: str | None = None
    unit: str | None = None
    pixscale: float | None = None
    zeropoint: list[float | None] = field(default_factory=list)
    exposure_s: list[float | None] = field(default_factory=list)
    noise: list[float | None] = field(default_factory=list)
    saturate: list[float | None] = field(default_factory=list)
    psf: list[str | None] = field(default_factory=list)
    psf_fwhm_arcsec: float | None = None
    orientation: Orientation | None = None
    mask: NDArray[np.bool_] | None = None
    is_injection: bool = False
    is_lens: bool | None = None

    @property
    def cutout_id(self) -> int:
        """Key: the path of its file, without the band where every band has a file, and the object."""
        return hashed_id("cutout", self.key)


@dataclass
class ImageBatch:
    """Rows of some image files; `places` runs beside `cutouts`, whose target_id is filled in when loading.

    `phot` is empty, or runs beside them too.
    """

    cutouts: list[dict[str, Any]] = field(default_factory=list)
    places: list[tuple[str, str, Place]] = field(default_factory=list)
    phot: list[dict[str, Any]] = field(default_factory=list)
    truths: dict[int, bool | None] = field(default_factory=dict)
    shards: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    replaced: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    unchanged: int = 0
    n_files: int = 0


def write_cutouts(
    batch: ImageBatch, cutouts: list[Cutout], root: Path, template: NDArray[np.float32] | None = None
) -> None:
    """Write cutouts to shards, one for each set of bands and size, and add their rows to the batch.

    Parameters
    ----------
    batch : ImageBatch
        Gets the rows.
    cutouts : list of Cutout
        What to write.
    root : Path
        Shard root.
    template : ndarray, optional
        Quantile function; the shards then hold array matched as well (`schema.normalise.histogram_match`).
    """
    alike: dict[tuple[Any, ...], list[Cutout]] = {}
    for one in cutouts:
        alike.setdefault((one.bands, one.image.shape), []).append(one)
    for (bands, _), members in alike.items():
        image = np.stack([m.image for m in members])
        hashes = pixel_hashes(image)
        stamp, clip = percentile_stamp(image)
        # the same pixels under two paths are two cutouts, each with its row
        owners = [f"{m.cutout_id} {h}" for m, h in zip(members, hashes, strict=True)]
        named = "\n".join([",".join(bands), "" if template is None else "matched", *owners])
        name = PREFIX + xxhash.xxh3_128_hexdigest(named.encode())
        arrays: dict[str, NDArray[Any]] = {"image": image, "stamp": stamp}
        if template is not None:
            arrays["matched"] = (histogram_match(image, template) * 255.0 + 0.5).astype(np.uint8)
        shard = write_image_shard(root, name, arrays, bands)
        shard_id = hashed_id("image_shard", name)
        batch.shards.append(
            {
                "shard_id": shard_id, "name": name, "bands": ",".join(bands), "n_band": len(bands),
                "ny": shard.ny, "nx": shard.nx, "n_rows": shard.n_rows, "arrays": list(shard.arrays),
                "size_bytes": sum(a.nbytes for a in arrays.values()), "created_at": now(),
            }
        )  # fmt: skip
        measured = _measure(image, members)
        for row, one in enumerate(members):
            _add(batch, one, shard_id, row, hashes[row], clip[row], {k: v[row] for k, v in measured.items()})


def _measure(image: NDArray[np.float32], members: list[Cutout]) -> dict[str, NDArray[np.float64]]:
    """Noise of the frame, shape (n, bands), and shares of good and of saturated pixels, shape (n,)."""
    n, n_band, ny, nx = image.shape
    good = np.isfinite(image)
    share = good.mean(axis=(1, 2, 3))
    for k, one in enumerate(members):
        if one.mask is not None:
            share[k] = (good[k] & ~one.mask).mean()
    b = max(1, min(BORDER, ny // 4, nx // 4))
    frame = np.concatenate(
        [
            image[:, :, :b].reshape(n, n_band, -1),
            image[:, :, -b:].reshape(n, n_band, -1),
            image[:, :, b:-b, :b].reshape(n, n_band, -1),
            image[:, :, b:-b, -b:].reshape(n, n_band, -1),
        ],
        axis=2,
    )
    noise = 1.4826 * _median(np.abs(frame - _median(frame)[..., None]))
    top = np.where(good, image, -np.inf).max(axis=(2, 3))
    for k, one in enumerate(members):
        limits = [np.inf if s is None else s for s in one.saturate]
        top[k] = np.minimum(top[k], limits)
    at_top = (image >= top[..., None, None]).sum(axis=(2, 3))
    given = np.array([[s is not None for s in m.saturate] for m in members])
    reached = given & (np.where(good, image, -np.inf).max(axis=(2, 3)) >= top)
    counted = np.where((at_top >= PLATEAU) | (reached & (top < np.inf) & (at_top > 1)), at_top, 0)
    return {"noise": noise, "good": share, "saturated": counted.max(axis=1) / (ny * nx)}


def _median(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Median over the last axis without NaN; NaN where there is nothing else."""
    if np.isfinite(values).all():
        return np.median(values, axis=-1).astype(np.float64)
    out = np.full(values.shape[:-1], np.nan)
    some = np.isfinite(values).any(axis=-1)
    out[some] = np.nanmedian(values[some], axis=-1)
    return out


def _add(
    batch: ImageBatch, one: Cutout, shard_id: int, row: int, content_hash: str, clip: NDArray[np.float32],
    measured: dict[str, Any],
) -> None:  # fmt: skip
    saturated = float(measured["saturated"])
    if saturated > SATURATED_SHARE:
        told = f"{saturated:.2%} of the pixels of {one.native_id} stand at the brightest value"
        batch.rejects.append(reject_row(one.path, Note("saturated", told, False, native_id=one.native_id)))
    noise = [g if g is not None else float(m) for g, m in zip(one.noise, measured["noise"], strict=True)]
    batch.cutouts.append(
        {
            "cutout_id": one.cutout_id,
            "target_id": 0,
            "source_file_id": source_file_id(one.path),
            "hdu": ",".join(one.hdus),
            "shard_id": shard_id,
            "shard_row": row,
            "instrument": one.instrument,
            "bands": ",".join(one.bands),
            "ny": one.image.shape[1],
            "nx": one.image.shape[2],
            "pixscale_arcsec": one.pixscale,
            "orientat_deg": one.orientation.orientat_deg if one.orientation else None,
            "sky_parity": one.orientation.parity if one.orientation else 0,
            "unit": one.unit,
            "zeropoint": _by_band(one.bands, one.zeropoint),
            "exposure_s": _by_band(one.bands, one.exposure_s),
            "noise": _by_band(one.bands, noise),
            "clip": {b: [_plain(c[0]), _plain(c[1])] for b, c in zip(one.bands, clip, strict=True)},
            "psf_path": _psf_paths(one.psf),
            "psf_fwhm_arcsec": one.psf_fwhm_arcsec,
            "frac_good": float(measured["good"]),
            "frac_saturated": saturated,
            "content_hash": content_hash,
            "is_primary": True,
        }
    )
    batch.places.append((one.survey, one.native_id, one.place))
    if one.is_injection:
        batch.truths[one.cutout_id] = one.is_lens


def _psf_paths(paths: list[str | None]) -> str | None:
    """One path when all bands share it, else one a band, joined by commas in the order of the bands."""
    if not any(paths):
        return None
    return str(paths[0]) if len(set(paths)) == 1 else ",".join(p or "" for p in paths)


def _by_band(bands: tuple[str, ...], values: Sequence[float | None]) -> dict[str, float | None]:
    return {b: None if v is None else _plain(v) for b, v in zip(bands, values, strict=True)}


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
