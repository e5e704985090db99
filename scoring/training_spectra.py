"""Spectra that a selection returns from the database, to learn galaxies or noise from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from schema.engine import connect_engine, shard_root
from schema.errors import DataError, UserError
from schema.grid import DLOGLAM, WINDOW_FIRST, WINDOW_NPIX
from schema.shards import Shard
from scoring.noise import NoiseModel, measure_noise
from scoring.pca import BORROW_DZ, GalaxyBank, bank_from_spectra
from scoring.predicate import VIEW
from scoring.selection import checked_selection

MAX_SPECTRA = 50_000
Array = NDArray[np.float32]


@dataclass
class SelectedSpectra:
    """Pixels of a selection.

    Attributes
    ----------
    arrays : dict of ndarray, shape (n, npix)  flux, ivar and what else was asked for
    z : ndarray, shape (n,)
    """

    arrays: dict[str, Array]
    z: NDArray[np.float64]


def read_selected(
    db: str | None,
    selection: str,
    arrays: tuple[str, ...],
    first_pixel: int,
    npix: int,
    *,
    limit: int = MAX_SPECTRA,
    where: str = "z is not null",
) -> SelectedSpectra:
    """Read a window of the primary spectra of a selection, but for lines that were put into real ones.

    Parameters
    ----------
    db : str or None  database
    selection : str  name
    arrays : tuple of str  shard arrays
    first_pixel, npix : int  window; what a shard lacks of it comes as 0
    limit : int  at most so many spectra, taken evenly over the selection by target
    where : str  further SQL condition

    Raises
    ------
    UserError
        If the selection is unknown, refused, or holds no spectrum.
    DataError
        If a shard is missing or damaged.
    """
    chosen = checked_selection(db, selection)
    query = (
        f"select s.z, p.name, s.shard_row from {VIEW} s join pixel_shard p on p.shard_id = s.shard_id\n"
        f"where s.target_id in (select target_id from {VIEW} where {chosen.where}) and s.{where}\n"
        "and s.target_id not in (select target_id from injection where host_target_id is not null)\n"
        "order by p.name, s.shard_row"
    )
    with connect_engine(db, read_only=True).connect() as conn:
        bare = conn.execution_options(no_parameters=True)
        rows = bare.exec_driver_sql(query).all()
    if not rows:
        raise UserError(
            f"selection {selection} returns no spectrum: ingest some, or choose another selection"
        )
    if len(rows) > limit:
        rows = [rows[i] for i in np.linspace(0, len(rows) - 1, limit).astype(int)]
    names = np.array([row[1] for row in rows])
    places = np.array([row[2] for row in rows], dtype=np.int64)
    found: dict[str, list[Array]] = {name: [] for name in arrays}
    for name in dict.fromkeys(names.tolist()):
        shard = Shard(shard_root(db) / name)
        for array in arrays:
            found[array].append(_window(shard, array, places[names == name], first_pixel, npix))
    z = np.array([row[0] for row in rows], dtype=np.float64)
    return SelectedSpectra({name: np.concatenate(parts) for name, parts in found.items()}, z)


def _window(shard: Shard, array: str, rows: NDArray[np.int64], first_pixel: int, npix: int) -> Array:
    """A window of some rows, padded with 0 where it reaches beyond the shard."""
    low, high = max(first_pixel, shard.pix0), min(first_pixel + npix, shard.pix0 + shard.npix)
    out = np.zeros((len(rows), npix), dtype=np.float32)
    if low < high:
        out[:, low - first_pixel : high - first_pixel] = shard.read(array, rows, low, high - low)
    return out


def bank_from_selection(
    db: str | None, selection: str, *, z_min: float = 0.3, z_max: float = 1.0
) -> GalaxyBank:
    """Galaxy bases in redshift bins from the spectra of a selection (the paper's section 3.2, step i).

    Raises
    ------
    UserError, DataError
        As `read_selected` and `scoring.pca.bank_from_spectra`.
    """
    margin = int(np.ceil(np.log10((1 + z_min + BORROW_DZ) / (1 + z_min)) / DLOGLAM)) + 1
    spectra = read_selected(db, selection, ("flux", "ivar"), WINDOW_FIRST - margin, WINDOW_NPIX + 2 * margin)
    flux, ivar = spectra.arrays["flux"], spectra.arrays["ivar"]
    good = (ivar > 0).mean(axis=1) > 0.5
    return bank_from_spectra(
        torch.from_numpy(flux[good]),
        torch.from_numpy(ivar[good]),
        torch.from_numpy(spectra.z[good]),
        margin,
        z_min=z_min,
        z_max=z_max,
    )


def noise_from_selection(db: str | None, selection: str) -> NoiseModel:
    """Noise model measured on the spectra of a selection.

    Raises
    ------
    UserError, DataError
        As `read_selected` and `scoring.noise.measure_noise`; DataError too if a shard has no sky.
    """
    names = ("flux", "ivar", "model", "sky")
    arrays = read_selected(db, selection, names, WINDOW_FIRST, WINDOW_NPIX).arrays
    if not np.any(arrays["sky"]):
        raise DataError(
            f"the spectra of {selection} carry no sky: the noise needs shards with flux, ivar, model, sky"
        )
    return measure_noise(arrays["flux"], arrays["ivar"], arrays["model"], arrays["sky"])
