"""Whole plates: spPlate files, with the models and redshifts of their spZbest.

spPlate holds one image a quantity, one row a fibre: 0 flux, 1 ivar, 2 and-mask, 3 or-mask, 4 dispersion,
5 plug map, 6 sky; log10 wavelength is ``COEFF0 + COEFF1 * i``. spZbest holds the best fit of each fibre
(HDU 1) and its model spectrum on the same pixels (HDU 2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etl.catalogue import copy_fields
from etl.checks import FLUX_UNIT_TEXT, Fault, flux_unit_ok
from etl.columns import REDSHIFT, require
from etl.fits_fast import Buffer, FitsBytes, Hdu, NotRecognised
from etl.sources import is_url

IMAGES = {"flux": 0, "ivar": 1, "and_mask": 2, "sky": 6}
PLUGMAP_HDU = 5
MODEL_HDU = 2


@dataclass
class Plate:
    """A plate's images and the fields of its fibres.

    ``fields`` holds arrays of shape (n_fibers,); `pixels` gives one fibre's arrays of shape (npix,).
    """

    images: dict[str, NDArray[Any]]
    loglam: NDArray[np.float64]
    fields: dict[str, Any]
    has_redshifts: bool

    def __len__(self) -> int:
        return len(self.images["flux"])

    def pixels(self, row: int) -> dict[str, NDArray[Any]]:
        """One fibre's pixels as `etl.pixels.ShardWriter.add` takes them."""
        return {"loglam": self.loglam, **{k: v[row] for k, v in self.images.items()}}


def is_plate(fits: FitsBytes) -> bool:
    """Whether the primary HDU is an image of spectra on a log-linear scale."""
    primary = fits.hdu(0)
    return primary is not None and primary.get("NAXIS") == 2 and primary.get("COEFF0") is not None


def zbest_of(path: str, others: dict[str, str]) -> str | None:
    """The spZbest file that belongs to an spPlate file.

    Looked for among the files being ingested, beside it, and one folder down, where SDSS keeps it.
    """
    base = PurePosixPath(path.split("::", 1)[0]).name
    found = re.fullmatch(r"spPlate-(\w+-\d+)\.(fits|fit)(\.gz)?", base)
    if not found:
        return None
    names = [f"spZbest-{found[1]}.fits", f"spZbest-{found[1]}.fits.gz"]
    for name in names:
        if name in others:
            return others[name]
    if is_url(path):
        return None
    folder = Path(path).parent
    for name in names:
        for hit in [folder / name, *sorted(folder.glob(f"*/{name}"))]:
            if hit.is_file():
                return str(hit)
    return None


def read_plate(buf: Buffer, zbest: Buffer | None) -> Plate:
    """Read an spPlate file and, where it is given, its spZbest.

    Raises
    ------
    Fault
        When HDUs are missing, do not fit together, or hold other units.
    """
    try:
        return _read_plate(FitsBytes(buf), None if zbest is None else FitsBytes(zbest))
    except NotRecognised as exc:
        raise Fault("damaged", f"the plate has an unknown layout: {exc}") from exc


def _read_plate(fits: FitsBytes, zbest: FitsBytes | None) -> Plate:
    primary = _need(fits, 0, "flux")
    unit = primary.get("BUNIT")
    if not flux_unit_ok(unit if isinstance(unit, str) else None):
        raise Fault("bad_unit", f"BUNIT is {unit!r}; {FLUX_UNIT_TEXT} is needed", 0)
    present = [name for name, k in IMAGES.items() if fits.hdu(k) is not None]
    missing = [f"{name} (HDU {IMAGES[name]})" for name in ("ivar", "and_mask") if name not in present]
    if fits.hdu(PLUGMAP_HDU) is None:
        missing.append(f"plug map (HDU {PLUGMAP_HDU})")
    if missing:
        raise Fault("missing_hdu", f"an spPlate without {', '.join(missing)}: no noise or no positions")
    flux = fits.image(primary)
    images = {name: fits.image(_need(fits, IMAGES[name], name)) for name in present}
    for name, image in images.items():
        if image.shape != flux.shape:
            raise Fault("damaged", f"{name} has shape {image.shape}, flux {flux.shape}", IMAGES[name])
    step, start = primary.get("COEFF1"), primary.get("COEFF0")
    if not isinstance(step, float) or not isinstance(start, float | int) or abs(step - 1e-4) > 1e-9:
        raise Fault("off_grid", f"COEFF0 {start}, COEFF1 {step}: a step of 1e-4 dex is needed", 0)
    loglam = float(start) + step * np.arange(flux.shape[1], dtype=np.float64)
    fields = _plugmap_fields(fits, primary, len(flux))
    if zbest is not None:
        images["model"] = _models(zbest, primary, flux.shape)
        table = _need(zbest, 1, "redshifts")
        found = copy_fields(zbest, table, 0, zbest.layout(table).n_rows)
        require(set(found), ("plate", "fiber_id", *REDSHIFT), table.index)
        if len(found["plate"]) != len(flux) or not np.array_equal(found["fiber_id"], fields["fiber_id"]):
            raise Fault(
                "damaged", "the fibres of spZbest are not those of the plate: they belong to two reductions"
            )
        fields = {**fields, **{k: v for k, v in found.items() if k not in ("ra_deg", "dec_deg")}}
    return Plate(images, loglam, fields, zbest is not None)


def _need(fits: FitsBytes, index: int, what: str) -> Hdu:
    hdu = fits.hdu(index)
    if hdu is None:
        raise Fault("missing_hdu", f"no HDU {index} ({what})", index)
    return hdu


def _models(zbest: FitsBytes, primary: Hdu, shape: tuple[int, ...]) -> NDArray[Any]:
    models = zbest.image(_need(zbest, MODEL_HDU, "model spectra"))
    if models.shape != shape:
        raise Fault(
            "damaged", f"the models of spZbest have shape {models.shape}, the plate {shape}", MODEL_HDU
        )
    head = zbest.hdu(0)
    start = head.get("COEFF0") if head is not None else None
    if isinstance(start, float) and abs(start - float(primary.get("COEFF0"))) > 5e-6:
        raise Fault("off_grid", f"spZbest begins at COEFF0 {start}, the plate at {primary.get('COEFF0')}", 0)
    return models


def _plugmap_fields(fits: FitsBytes, primary: Hdu, n: int) -> dict[str, Any]:
    hdu = _need(fits, PLUGMAP_HDU, "plug map")
    layout = fits.layout(hdu)
    missing = [c for c in ("RA", "DEC", "FIBERID") if c not in layout.columns]
    if missing:
        raise Fault("missing_columns", f"the plug map lacks {', '.join(missing)}", hdu.index)
    if layout.n_rows != n:
        raise Fault("damaged", f"{n} spectra and {layout.n_rows} rows of the plug map", hdu.index)
    plate, mjd = primary.get("PLATEID"), primary.get("MJD")
    if type(plate) is not int or type(mjd) is not int:
        raise Fault("bad_identity", f"PLATEID {plate}, MJD {mjd} in the header identify no plate", 0)
    found = copy_fields(fits, hdu, 0, n)
    keep: dict[str, Any] = {
        k: found[k] for k in ("ra_deg", "dec_deg", "fiber_id", "objtype", "sourcetype") if k in found
    }
    run2d = primary.get("RUN2D")
    return {
        **keep,
        "plate": np.full(n, plate, dtype=np.int64),
        "mjd": np.full(n, mjd, dtype=np.int64),
        "run2d": np.full(n, str(run2d if run2d is not None else "").encode(), dtype="S16"),
    }
