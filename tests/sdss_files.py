"""Small files in the layouts of SDSS and BOSS, written by astropy, for tests that need no survey data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

PIX_FIRST = 35600
NPIX = 700
UNIT = "1E-17 erg/cm^2/s/Ang"


def pixels(seed: int = 0, npix: int = NPIX, first: int = PIX_FIRST) -> dict[str, np.ndarray]:
    """Columns of a COADD table."""
    rng = np.random.default_rng(seed)
    return {
        "flux": rng.normal(2.0, 1.0, npix).astype(">f4"),
        "loglam": (np.arange(first, first + npix) * 1e-4).astype(">f4"),
        "ivar": rng.uniform(0.5, 1.5, npix).astype(">f4"),
        "and_mask": rng.integers(0, 1 << 20, npix).astype(">i4"),
        "or_mask": np.zeros(npix, ">i4"),
        "wdisp": np.ones(npix, ">f4"),
        "sky": rng.normal(5.0, 1.0, npix).astype(">f4"),
        "model": rng.normal(2.0, 0.1, npix).astype(">f4"),
    }


def row(**given: Any) -> dict[str, Any]:
    """One row of spAll, with what matters to ingest."""
    values: dict[str, Any] = {
        "PLATE": 4055, "MJD": 55359, "FIBERID": 7, "RUN2D": "v5_7_0", "RUN1D": "v5_7_0",
        "PLUG_RA": 236.4, "PLUG_DEC": 1.8, "RA": 236.5, "DEC": 1.9, "OBJTYPE": "GALAXY", "CLASS": "GALAXY",
        "SUBCLASS": "", "Z": 0.5, "Z_ERR": 1e-4, "ZWARNING": 0, "Z_NOQSO": 0.5, "CLASS_NOQSO": "GALAXY",
        "SN_MEDIAN_ALL": 3.0, "SPECTROFLUX": [1.0, 2.0, 3.0, 4.0, 5.0], "CMODELMAG": [23.0, 22.0, 21.0, 20.5, 20.0],  # noqa: E501
        "VDISP": 210.0, "ANYANDMASK": 0, "BOSS_TARGET1": (1 << 60) + 1,
    }  # fmt: skip
    values.update(given)
    return {k: v for k, v in values.items() if v is not None}


def table(rows: list[dict[str, Any]], **header: Any) -> fits.BinTableHDU:
    """A binary table of such rows."""
    columns = []
    for name in rows[0]:
        values = [r[name] for r in rows]
        first = values[0]
        if isinstance(first, str):
            width = max(1, *(len(v) for v in values))
            columns.append(fits.Column(name, f"{width}A", array=np.array(values)))
        elif isinstance(first, list):
            columns.append(fits.Column(name, f"{len(first)}E", array=np.array(values, dtype="f4")))
        elif isinstance(first, int):
            big = any(abs(v) >= 1 << 31 for v in values)
            columns.append(fits.Column(name, "K" if big else "J", array=np.array(values)))
        else:
            columns.append(
                fits.Column(name, "D" if "RA" in name or "DEC" in name else "E", array=np.array(values))
            )
    hdu = fits.BinTableHDU.from_columns(columns)
    hdu.header.update(header)
    return hdu


def spec_file(path: Path, *, bunit: str | None = UNIT, drop: tuple[str, ...] = (), names: bool = True,
              change: dict[str, np.ndarray] | None = None, seed: int = 0, npix: int = NPIX, **given: Any) -> Path:  # fmt: skip # noqa: E501
    """Write a spec file; ``change`` replaces pixel columns, ``drop`` leaves some out, the rest sets its row."""  # noqa: E501
    primary = fits.PrimaryHDU()
    primary.header["RA"], primary.header["DEC"] = 236.0, 1.0
    if bunit is not None:
        primary.header["BUNIT"] = bunit
    data = {**pixels(seed, npix), **(change or {})}
    coadd = fits.BinTableHDU.from_columns(
        [
            fits.Column(k if names else k.upper(), "J" if v.dtype.kind == "i" else "E", array=v)
            for k, v in data.items()
            if k not in drop
        ]
    )
    objects = table([row(**given)])
    if names:
        coadd.name, objects.name = "COADD", "SPALL"
    fits.HDUList([primary, coadd, objects]).writeto(path, overwrite=True)
    return path


def plate_files(folder: Path, plate: int = 4055, mjd: int = 55359, n: int = 5) -> tuple[Path, Path]:
    """Write an spPlate file and its spZbest."""
    spectra = [pixels(k) for k in range(n)]
    image = {k: np.stack([s[k] for s in spectra]) for k in spectra[0]}
    primary = fits.PrimaryHDU(image["flux"])
    for key, value in {"COEFF0": PIX_FIRST * 1e-4, "COEFF1": 1e-4, "BUNIT": UNIT, "PLATEID": plate, "MJD": mjd,  # noqa: E501
                       "RUN2D": "v5_7_0"}.items():  # fmt: skip
        primary.header[key] = value
    plugmap = table(
        [{"RA": 236.0 + 0.1 * k, "DEC": 1.0, "FIBERID": k + 1, "OBJTYPE": "GALAXY"} for k in range(n)]
    )
    hdus = [primary] + [fits.ImageHDU(image[k]) for k in ("ivar", "and_mask", "or_mask", "wdisp")]
    fits.HDUList([*hdus, plugmap, fits.ImageHDU(image["sky"])]).writeto(
        folder / f"spPlate-{plate}-{mjd}.fits"
    )
    best = fits.PrimaryHDU()
    best.header["COEFF0"] = PIX_FIRST * 1e-4
    rows = [
        row(PLATE=plate, MJD=mjd, FIBERID=k + 1, Z=0.1 * (k + 1), PLUG_RA=236.0 + 0.1 * k, PLUG_DEC=1.0)
        for k in range(n)
    ]
    fits.HDUList([best, table(rows), fits.ImageHDU(image["model"])]).writeto(
        folder / f"spZbest-{plate}-{mjd}.fits"
    )
    return folder / f"spPlate-{plate}-{mjd}.fits", folder / f"spZbest-{plate}-{mjd}.fits"
