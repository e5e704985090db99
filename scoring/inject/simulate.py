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
    BLOCK,
    Batch,
    generator,
    in_blocks,
    lens_columns,
    lens_images,
    lens_photometry,
    total_photometry,
)
from scoring.inject.rows import existing, write_batch
from scoring.inject.setup import BATCH, band_index, find_instrument, stamp_side
from scoring.lensing.priors import (
    NEGATIVE_KINDS,
    Population,
    draw_population,
    render_environment,
    render_nonlenses,
)
from scoring.lensing.scene import observe
from scoring.light.instruments import Instrument

VERSION = "simlens-2"
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
    arrays : tuple of str
        Arrays that the shards keep.
    device : str
        Kind of device that computes the lenses: each kind has a chance of its own.
    """

    instrument: str
    prior: str
    npix: int
    band: str
    seed: int
    arrays: tuple[str, ...] = ("image", "stamp")
    device: str = "cpu"

    def tag(self, kind: str) -> str:
        """Start of the names of its sources."""
        own = (self.instrument, self.npix, self.seed, self.arrays)
        parts = dataclasses.astuple(self) if kind == "lens" else own
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
    arrays: tuple[str, ...] = ("image", "stamp"),
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
    arrays : tuple of str
        Arrays that the shards keep: image, stamp or both.
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
    side, kind_of_device = stamp_side(camera, npix), device.partition(":")[0]
    recipe = Recipe(camera.name, prior, side, camera.bands[k], seed, arrays, kind_of_device)
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
                batch = make(recipe, camera, missing, k, device)
                write_batch(db, tag, missing, batch, camera, arrays=arrays)
                setattr(done, f"n_{kind}es", getattr(done, f"n_{kind}es") + len(missing))
            made += len(rows)
            if progress is not None:
                progress(made, n + n_nonlenses)
    return done


def lens_batch(
    recipe: Recipe, camera: Instrument, rows: NDArray[np.int64], k: int, device: str = "cpu"
) -> Batch:
    """Lenses of some numbers."""
    tag = recipe.tag("lens")

    def block(whole: NDArray[np.int64]) -> Batch:
        number = int(whole[0]) // BLOCK
        chance = generator(hashed_id("draw", tag, number))
        drawn = draw_population(BLOCK, chance, recipe.prior, camera)
        return population_batch(drawn, recipe, camera, k, hashed_id("noise", tag, number), device)

    return in_blocks(rows, None, block)


def population_batch(
    drawn: Population, recipe: Recipe, camera: Instrument, k: int, noise_key: int, device: str = "cpu"
) -> Batch:
    """Observed images and truth of drawn lenses, among the neighbours that ordinary sources have too."""
    scene, z_lens, z_source = drawn
    n = len(scene)
    chance = generator(noise_key, device)
    around = render_environment(n, camera, recipe.npix, chance)
    image, arc_mag, magnification, snr = lens_images(scene, camera, chance, recipe.npix, around=around)
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
    recipe: Recipe, camera: Instrument, rows: NDArray[np.int64], k: int, device: str = "cpu"
) -> Batch:
    """Ordinary sources of some numbers."""
    tag = recipe.tag("nonlens")

    def block(whole: NDArray[np.int64]) -> Batch:
        number, n = int(whole[0]) // BLOCK, len(whole)
        chance = generator(hashed_id("draw", tag, number))
        image, kind = render_nonlenses(n, camera, recipe.npix, chance)
        counts = image.sum((2, 3)).clamp_min(1e-6).double()
        mag = (torch.tensor(camera.zero_point, dtype=torch.float64) - 2.5 * torch.log10(counts)).numpy()
        what = [NEGATIVE_KINDS[int(i)] for i in kind]
        return Batch(
            observe(image, camera, generator(hashed_id("noise", tag, number))).numpy().astype(np.float32),
            {
                "is_lens": [False] * n,
                "recipe": [f"{VERSION}: {name}, {camera.name}, {recipe.npix} px" for name in what],
                "seed": [recipe.seed] * n,
            },
            phot=total_photometry(mag, np.ones(n), camera),
        )

    return in_blocks(rows, None, block)
