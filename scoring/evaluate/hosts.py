"""Real spectra that a selection returns from the database, as hosts for injected lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from schema.engine import connect_engine, read_frame, shard_root
from schema.errors import UserError
from schema.grid import NPIX, PIX0
from schema.shards import Shard
from scoring.evaluate.testsets import Spectra
from scoring.generate.lines import no_lines
from scoring.selection import checked_selection

MIN_GOOD = 596
"""Fewest good pixels in the search window, half of it, as scoring asks."""


@dataclass
class Hosts:
    """Real galaxies: their pixels, their rows of view selectable, and how they were chosen.

    Attributes
    ----------
    spectra : Spectra
        Over the full grid, `host` numbering the rows.
    table : DataFrame
        target_id, native_id, ra_deg, dec_deg, z, cmodel_mag_i ... of each.
    selection : str
        Name and version of the selection.
    mask : ndarray of uint32, shape (n, npix)
        Pixel mask bits.
    """

    spectra: Spectra
    table: pd.DataFrame
    selection: str
    mask: np.ndarray


def read_hosts(db: str | None, selection: str, limit: int = 2000, seed: int = 0) -> Hosts:
    """Galaxies of a selection whose shards hold a pipeline model.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    selection : str
        Name of a selection; injections are left out whatever it says.
    limit : int
        Most galaxies; a random sample where the selection has more.
    seed : int
        Seed of that sample.

    Raises
    ------
    UserError
        Fewer than five galaxies with enough good pixels.
    """
    chosen = checked_selection(db, selection)
    hosts = read_spectra(db, str(chosen.where), limit, seed)
    if len(hosts.table) < 5:
        raise UserError(
            f"selection {chosen.name} has {len(hosts.table)} galaxies with spectrum and pipeline model; "
            "injection needs 5 or more: ingest spec files, or choose another selection"
        )
    hosts.selection = f"{chosen.name} v{chosen.version}"
    return hosts


def read_spectra(db: str | None, where: str, limit: int = 2000, seed: int = 0) -> Hosts:
    """Real spectra with a pipeline model that satisfy a predicate; see `read_hosts`.

    Parameters
    ----------
    where : str
        Predicate on view selectable, trusted: it is put into the query as it stands.
    """
    with connect_engine(db, read_only=True).connect() as conn:
        table = read_frame(
            conn,
            f"select selectable.*, pixel_shard.name as shard from selectable "
            f"inner join pixel_shard on pixel_shard.shard_id = selectable.shard_id "
            f"where not is_injection and n_good_window >= {MIN_GOOD} and ({where}) order by target_id",
        )
    if len(table) > limit:
        keep = np.sort(np.random.default_rng(seed).choice(len(table), limit, replace=False))
        table = table.iloc[keep]
    table = table.reset_index(drop=True)
    arrays = {name: np.zeros((len(table), NPIX), dtype=np.float32) for name in ("flux", "ivar", "model")}
    mask = np.zeros((len(table), NPIX), dtype=np.uint32)
    has_model = np.zeros(len(table), dtype=bool)
    for name, rows in table.groupby("shard").groups.items():
        shard = Shard(shard_root(db) / str(name))
        at = np.asarray(rows)
        part = slice(shard.pix0 - PIX0, shard.pix0 - PIX0 + shard.npix)
        for array, values in arrays.items():
            if array in shard.arrays:
                values[at, part] = shard.read(array, table.shard_row.to_numpy()[at])
        if "mask" in shard.arrays:
            mask[at, part] = shard.read("mask", table.shard_row.to_numpy()[at])
        has_model[at] = "model" in shard.arrays
    keep = np.flatnonzero(has_model)
    table = table.iloc[keep].reset_index(drop=True)
    flux, ivar, model = (torch.from_numpy(arrays[name][keep]) for name in ("flux", "ivar", "model"))
    z = torch.from_numpy(table.z.to_numpy(dtype=np.float32))
    spectra = Spectra(flux, ivar, z, no_lines(len(keep)), np.arange(len(keep)), model, PIX0)
    return Hosts(spectra, table, where, mask[keep])
