"""``lensmine simulate lenses``: whole images of lenses and of ordinary sources, drawn from a prior."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from schema.engine import connect_engine
from schema.errors import UserError
from schema.ids import hashed_id
from scoring.inject.batch import (
    Batch,
    generator,
    lens_columns,
    lens_images,
    lens_photometry,
    total_photometry,
)
from scoring.inject.rows import existing, write_batch
from scoring.inject.setup import BATCH, band_index, find_instrument, stamp_side
from scoring.lensing.negatives import KINDS as NONLENS_KINDS
from scoring.lensing.priors import draw_population, render_nonlenses
from scoring.lensing.scene import observe
from scoring.light.instruments import Instrument

VERSION = "simlens-1"
Progress = Callable[[int, int], None]


@dataclass
class Simulated:
    """What a call wrote."""

    n_lenses: int = 0
    n_nonlenses: int = 0
    n_existing: int = 0
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Recipe:
    """What is simulated; with the number of a source it fixes every pixel of it.

    Attributes
    ----------
    instrument, prior : str
        Names of the instrument and of the population.
    npix : int
        Side of the stamp [px].
    band : str
        Band of the magnitudes in injection_lens.
    seed : int
        Seed.
    """

    instrument: str
    prior: str
    npix: int
    band: str
    seed: int

    def tag(self, kind: str) -> str:
        """Start of the names of its sources."""
        parts = dataclasses.astuple(self) if kind == "lens" else (self.instrument, self.npix, self.seed)
        short = f"{hashed_id('recipe', VERSION, kind, *parts) & 0xFFFFFF:06x}"
        what = self.prior if kind == "lens" else "nonlens"
        return f"{what}-{self.instrument}-s{self.seed}-{short}"


def simulate_lenses(
    db: str | None,
    n: int,
    *,
    instrument: str = "hsc",
    prior: str = "collett2015",
    n_nonlenses: int = 0,
    npix: int | None = None,
    band: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Simulated:
    """Simulate lenses, and ordinary sources beside them, as targets of survey ``sim``.

    Sources 0 to n - 1 of the recipe are made; those that the database holds are left alone, so a call that
    was killed, or one with a larger `n`, adds what is missing.

    Parameters
    ----------
    db : str or None
        Database.
    n, n_nonlenses : int
        Lenses, and sources that are none, that there shall be.
    instrument, prior : str
        Names; see `scoring.light.instruments` and `scoring.lensing.priors`.
    npix : int, optional
        Side of the stamp [px]; the instrument's own unless given.
    band : str, optional
        Band of the magnitudes in injection_lens.
    seed : int
        Seed.
    device : str
        Where to compute.
    progress : callable, optional
        Told after every batch how many sources are done and how many there are.

    Raises
    ------
    UserError
        Unknown instrument, prior or band, or a number below 0.
    """
    if n < 0 or n_nonlenses < 0 or n + n_nonlenses == 0:
        raise UserError(f"--n {n} with --with-nonlenses {n_nonlenses}: give at least one source to simulate")
    camera = find_instrument(instrument)
    k = band_index(camera, band)
    recipe = Recipe(camera.name, prior, stamp_side(camera, npix), camera.bands[k], seed)
    draw_population(1, generator(seed), prior, camera)  # refuses an unknown prior before anything is written
    connect_engine(db).connect().close()
    done = Simulated()
    jobs = (("lens", n, lens_batch), ("nonlens", n_nonlenses, nonlens_batch))
    made = 0
    for kind, wanted, make in jobs:
        if not wanted:
            continue
        tag = recipe.tag(kind)
        done.tags.append(tag)
        have = existing(db, tag)
        for number in range((wanted + BATCH - 1) // BATCH):
            rows = np.arange(number * BATCH, min((number + 1) * BATCH, wanted))
            missing = rows[[int(i) not in have for i in rows]]
            done.n_existing += len(rows) - len(missing)
            if len(missing):
                batch = make(recipe, camera, missing, number, k, device)
                write_batch(db, tag, missing, batch, camera)
                setattr(done, f"n_{kind}es", getattr(done, f"n_{kind}es") + len(missing))
            made += len(rows)
            if progress is not None:
                progress(made, n + n_nonlenses)
    return done


def lens_batch(
    recipe: Recipe, camera: Instrument, rows: NDArray[np.int64], number: int, k: int, device: str = "cpu"
) -> Batch:
    """Lenses of some numbers of batch `number`, whose parameters are always drawn together."""
    tag = recipe.tag("lens")
    drawn = draw_population(BATCH, generator(hashed_id("draw", tag, number)), recipe.prior, camera)
    pick = torch.from_numpy(rows - number * BATCH)
    scene, z_lens, z_source = drawn.scene[pick], drawn.z_lens[pick], drawn.z_source[pick]
    noise = generator(hashed_id("noise", tag, int(rows[0])), device)
    image, arc_mag, magnification, snr = lens_images(scene, camera, noise, recipe.npix)
    n = len(rows)
    return Batch(
        image.cpu().numpy().astype(np.float32),
        {
            "is_lens": [True] * n,
            "z_lens": z_lens.double().numpy(),
            "z_source": z_source.double().numpy(),
            "recipe": [f"{VERSION}: {recipe.prior}, {camera.name}, {recipe.npix} px"] * n,
            "seed": [recipe.seed] * n,
        },
        lens_columns(scene, recipe.band, k, arc_mag, magnification, snr) | {"weight": np.ones(n)},
        lens_photometry(scene, camera, arc_mag.cpu(), z_lens),
    )


def nonlens_batch(
    recipe: Recipe, camera: Instrument, rows: NDArray[np.int64], number: int, k: int, device: str = "cpu"
) -> Batch:
    """Ordinary sources of some numbers of batch `number`."""
    tag = recipe.tag("nonlens")
    chance = generator(hashed_id("draw", tag, number))
    image, kind = render_nonlenses(BATCH, camera, recipe.npix, chance)
    pick = torch.from_numpy(rows - number * BATCH)
    image, kind = image[pick], kind[pick]
    counts = image.sum((2, 3)).clamp_min(1e-6).double()
    mag = (torch.tensor(camera.zero_point, dtype=torch.float64) - 2.5 * torch.log10(counts)).numpy()
    noise = generator(hashed_id("noise", tag, int(rows[0])))
    n = len(rows)
    radius = np.full(n, 1.0)
    return Batch(
        observe(image, camera, noise).numpy().astype(np.float32),
        {
            "is_lens": [False] * n,
            "recipe": [f"{VERSION}: {NONLENS_KINDS[int(i)]}, {camera.name}, {recipe.npix} px" for i in kind],
            "seed": [recipe.seed] * n,
        },
        phot=total_photometry(mag, radius, camera),
    )
