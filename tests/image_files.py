"""Small image files as the surveys write them, for tests without survey data, and what became of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import sqlalchemy as sa
from astropy.io import fits
from numpy.typing import NDArray

from schema.check import check_database
from schema.engine import connect_engine

RA, DEC = 150.1, 2.2
HSC_SCALE = 0.168


def galaxy(
    ny: int = 64, nx: int = 64, seed: int = 0, peak: float = 5.0, width: float = 4.0
) -> NDArray[np.float32]:
    """An exponential disc in the middle of unit-free noise of 0.05."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:ny, :nx].astype(float)
    r = np.hypot(x - (nx - 1) / 2, y - (ny - 1) / 2)
    return (peak * np.exp(-r / width) + rng.normal(0.0, 0.05, (ny, nx))).astype(np.float32)


def wcs_cards(ny: int, nx: int, ra: float = RA, dec: float = DEC, scale: float = HSC_SCALE) -> dict[str, Any]:
    """A gnomonic projection with the position in the middle."""
    return {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg",
        "CRVAL1": ra, "CRVAL2": dec, "CRPIX1": (nx + 1) / 2, "CRPIX2": (ny + 1) / 2,
        "CD1_1": -scale / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale / 3600,
    }  # fmt: skip


def write_hsc(path: Path, pixels: NDArray[Any], band: str | None, **cards: Any) -> Path:
    """One band of an HSC cutout: primary HDU named IMAGE, big-endian float32."""
    head = fits.Header(wcs_cards(*pixels.shape[-2:]))
    head.update({"EXTNAME": "IMAGE", "USER": "hsc", "FLUXMAG0": 63095734448.0194})
    if band:
        head["FILTER"] = band
    for key, value in cards.items():
        if value is None:
            head.remove(key, ignore_missing=True)
        else:
            head[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(pixels.astype(">f4"), head).writeto(path, overwrite=True)
    return path


def write_lenstronomy(path: Path, pixels: NDArray[Any], scale: float = 0.05, **datasets: Any) -> Path:
    """A lenstronomy cutout in HDF5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["image_data"] = pixels
        file["background_rms"] = 0.006
        file["exposure_time"] = np.full(pixels.shape, 2200.0)
        file["ra_at_xy_0"], file["dec_at_xy_0"] = 2.5, -2.5
        file["transform_pix2angle"] = np.array([[-scale, 0.0], [0.0, scale]])
        for name, value in datasets.items():
            file[name] = value
    return path


def write_challenge(path: Path, pixels: NDArray[Any], scale: float = 0.2) -> Path:
    """An image of the Bologna lens challenge: reference position (0, 0), 100 where masked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = fits.Header(wcs_cards(*pixels.shape, ra=0.0, dec=0.0, scale=scale))
    fits.PrimaryHDU(pixels.astype(">f4"), head).writeto(path, overwrite=True)
    return path


def rows(db: str, sql: str) -> list[dict[str, Any]]:
    with connect_engine(db, read_only=True).connect() as conn:
        return [dict(r) for r in conn.execute(sa.text(sql)).mappings()]


def reasons(db: str) -> dict[str, int]:
    found = rows(db, "select reason_code, count(*) as n from reject group by reason_code")
    return {r["reason_code"]: int(r["n"]) for r in found}


def sound(db: str) -> bool:
    return all(f.ok for f in check_database(db))


def bands_of(db: str, folder: Path, bands: str = "grizy", **changes: np.ndarray) -> None:
    for k, band in enumerate(bands):
        write_hsc(folder / f"stamp-{band}.fits", changes.get(band, galaxy(seed=k)), band)
