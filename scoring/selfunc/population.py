"""The selection function of a population: every other parameter drawn from its prior, not held fixed."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from schema.errors import UserError
from schema.ids import hashed_id
from scoring.inject.batch import generator
from scoring.inject.setup import band_index, cutout_name
from scoring.inject.simulate import Recipe, population_batch, simulate_lenses
from scoring.lensing.priors import Population, draw_population
from scoring.selfunc.cells import Plane, planes
from scoring.selfunc.design import plane_acquisition, thin
from scoring.selfunc.estimate import Shares, graded_shares, shares
from scoring.selfunc.measure import VERSION, MeasureConfig, Measurement, finished
from scoring.selfunc.outcome import Outcomes
from scoring.selfunc.parameters import IMAGING, SPECTRAL, TOTAL_MAG, Parameter
from scoring.selfunc.rounds import Say, Scorer, in_order, tag_selection, write_missing

if TYPE_CHECKING:
    from scoring.light.instruments import Instrument

Array = NDArray[np.float64]
CANDIDATES = 10
"""Draws of the prior for each lens that the second round keeps."""

ENDS = (0.005, 0.995)
"""Quantiles of the injected lenses between which the cells lie."""

NEIGHBOURS = 8


def measure_rows(db: str | None, scorer: Scorer, config: MeasureConfig, say: Say | None) -> Measurement:
    """The selection function of injections at hand, imaging or spectroscopic, whatever made them.

    Lenses whose parameters were set rather than drawn (those of slices have no weight) are left out.
    """
    assert config.selection is not None
    at = time.perf_counter()
    scorer.score(db, config.selection, say)
    found = scorer.outcomes(db, config.selection)
    clock = {"score": time.perf_counter() - at}
    drawn = np.isfinite(found.weight) & (found.weight > 0)
    if not drawn.any():
        raise UserError(
            f"selection {config.selection!r} holds no injected lens of a population ({len(found)} injected "
            "lenses in all); make some: lensmine simulate lenses"
        )
    found = subset(found, drawn)
    if scorer.model.modality == "image":
        _one_prior(found)
    axes = ranged(IMAGING if scorer.model.modality == "image" else SPECTRAL, found.values)
    if len(axes) < 2:
        raise UserError(
            f"the injections of {config.selection!r} vary in {len(axes)} parameter"
            f"{'' if len(axes) == 1 else 's'}, needed are two or more"
        )
    _enough(config, len(found))
    alone = ranged((TOTAL_MAG,), found.values)
    grids = planes(axes, config.bins, config.bins_line, alone)
    measured = [(p, _shares(p, found, np.zeros(len(found), dtype=np.int64), config)) for p in grids]
    n, k = len(found), int(_selected(found, config).sum())
    note = {"axes": _ends((*axes, *alone))}
    return finished(scorer, config, found.instrument, found.band, measured, n, k, note, clock)


def _one_prior(found: Outcomes) -> None:
    """Refuse lenses of several populations: the share of their mixture is that of no population."""
    texts = [] if found.recipe is None else sorted({str(r) for r in found.recipe})
    # VERSION: PRIOR, what else
    priors = sorted({text.partition(": ")[2].partition(",")[0] for text in texts if ": " in text})
    if len(priors) > 1:
        raise UserError(
            f"the injections are of priors {', '.join(priors)}; select those of one, for example by their "
            f"name: starts_with(native_id, '{priors[0]}-')"
        )


def measure_population(
    db: str | None, scorer: Scorer, config: MeasureConfig, camera: Instrument, npix: int, say: Say | None
) -> Measurement:
    """P(selected | two parameters), the others as the prior has them where these two are what they are."""
    k = band_index(camera, config.band)
    n_first = math.ceil(config.n * (1 - config.refine_share))
    _enough(config, config.n)
    arrays = (str(getattr(scorer.model, "pixels", "stamp")),)
    recipe = Recipe(camera.name, config.prior, npix, camera.bands[k], config.seed, arrays)
    clock = {"simulate": 0.0, "score": 0.0}

    def told(done: int, total: int) -> None:
        if say is not None:
            say("simulate", 0, total)

    at = time.perf_counter()
    simulate_lenses(
        db, n_first, instrument=camera.name, prior=config.prior, npix=npix, band=config.band,
        seed=config.seed, arrays=arrays, progress=told,
    )  # fmt: skip
    clock["simulate"] += time.perf_counter() - at
    tags = [recipe.tag("lens")]
    first = _through(db, scorer, tags[0], n_first, clock, say)
    axes = ranged(IMAGING, first.values)
    alone = ranged((TOTAL_MAG,), first.values)
    grids = planes(axes, config.bins, config.bins_line, alone)
    found, stratum = first, np.zeros(n_first, dtype=np.int64)
    n_second = config.n - n_first
    if n_second > 0:
        at = time.perf_counter()
        settings = (config.stage, scorer.threshold, n_first, n_second, config.bins)
        key = hashed_id("population", tags[0], scorer.model_id, *settings)
        # a name that does not begin with the first round's, by which that is selected
        tag = f"r2-{tags[0]}-{key & 0xFFFFFFFF:08x}"
        kept, weight = _second_round(first, config, camera, k, n_second, grids, key)

        def make(rows: NDArray[np.int64]) -> Any:
            pick = torch.from_numpy(rows)
            part = Population(kept.scene[pick], kept.z_lens[pick], kept.z_source[pick])
            batch = population_batch(part, recipe, camera, k, hashed_id("noise", tag, int(rows[0])))
            batch.lens["weight"] = weight[rows]
            batch.injection["recipe"] = [f"{VERSION}: {config.prior}, {camera.name}, refined"] * len(rows)
            return batch

        write_missing(db, tag, n_second, camera, arrays, make, say)
        clock["simulate"] += time.perf_counter() - at
        second = _through(db, scorer, tag, n_second, clock, say)
        found = joined(first, second)
        stratum = np.repeat([0, 1], [n_first, n_second])
        tags.append(tag)
    measured = [(p, _shares(p, found, stratum, config)) for p in grids]
    n, hit = len(found), int(_selected(found, config).sum())
    note = {"axes": _ends((*axes, *alone)), "tags": tags}
    name = cutout_name(camera)
    return finished(scorer, config, name, camera.bands[k], measured, n, hit, note, clock)


def _through(
    db: str | None, scorer: Scorer, tag: str, n: int, clock: dict[str, float], say: Say | None
) -> Outcomes:
    """Lenses 0 to n - 1 of a tag, scored and read back in that order."""
    at = time.perf_counter()
    name = tag_selection(db, tag, "Injections of a selection function, drawn from a population.")
    scorer.score(db, name, say)
    found = scorer.outcomes(db, name)
    clock["score"] += time.perf_counter() - at
    return subset(found, in_order(found, n, tag))


def _second_round(
    first: Outcomes,
    config: MeasureConfig,
    camera: Instrument,
    k: int,
    n: int,
    grids: list[Plane],
    key: int,
) -> tuple[Population, Array]:
    """Draws of the prior where the planes ask for more, and their weights."""
    drawn = draw_population(CANDIDATES * n, generator(key), config.prior, camera)
    values = _before_rendering(drawn, k, first)
    score = np.zeros(CANDIDATES * n)
    zero = np.zeros(len(first), dtype=np.int64)
    for plane in grids:
        if plane.y is None:
            continue
        at = _shares(plane, first, zero, config)
        wanted = plane_acquisition(at.n_eff, np.where(at.n_eff > 0, at.p, np.nan), plane.shape)
        cell = plane.cell_of(values[plane.x.name], values[plane.y.name])
        score += np.where(cell >= 0, wanted[cell], 0.0)
    index, weight = thin(score, n, np.random.default_rng(key & (2**63 - 1)))
    pick = torch.from_numpy(index)
    return Population(drawn.scene[pick], drawn.z_lens[pick], drawn.z_source[pick]), weight


def _before_rendering(drawn: Population, k: int, first: Outcomes) -> dict[str, Array]:
    """Parameters of draws before rendering; the arcs' magnitude is judged by the nearest rendered lenses.

    It steers only where lenses are drawn; the weights hold whatever it says.
    """
    scene = drawn.scene
    theta = scene.theta_e.double().numpy()
    beta = torch.hypot(scene.source_x - scene.lens_x, scene.source_y - scene.lens_y).double().numpy()
    size = scene.source_r_eff.double().numpy()
    v = first.values
    known = {
        "theta_e_arcsec": theta,
        "lens_mag": scene.lens_mag[:, k].double().numpy(),
        "lens_r_eff_arcsec": scene.lens_r_eff.double().numpy(),
        "lens_sersic_n": scene.lens_n.double().numpy(),
        "lens_ellipticity": 1 - scene.lens_light_q.double().numpy(),
        "z_lens": drawn.z_lens.double().numpy(),
        "z_source": drawn.z_source.double().numpy(),
    }
    source_mag = scene.source_mag[:, k].double().numpy()
    first_beta = np.hypot(v["source_x_arcsec"], v["source_y_arcsec"])
    first_theta = v["theta_e_arcsec"]
    where = np.stack(
        [np.log(first_theta), first_beta / first_theta, np.log(v["source_r_eff_arcsec"])], axis=1
    )
    gain = v["source_mag"] - v["arc_mag"]
    good = np.isfinite(where).all(1) & np.isfinite(gain)
    tree = cKDTree(where[good])
    _, near = tree.query(np.stack([np.log(theta), beta / theta, np.log(size)], 1), k=NEIGHBOURS)
    return known | {"arc_mag": source_mag - gain[good][near].mean(1)}


def _shares(plane: Plane, found: Outcomes, stratum: NDArray[np.int64], config: MeasureConfig) -> Shares:
    """Shares of a plane's cells."""
    y = None if plane.y is None else found.values[plane.y.name]
    cell = plane.cell_of(found.values[plane.x.name], y)
    if config.stage == "graded":
        return graded_shares(
            cell, plane.n_cells, found.reached, found.graded, found.accepted, found.weight,
            config.min_per_cell, config.seed,
        )  # fmt: skip
    return shares(cell, plane.n_cells, found.reached, found.weight, stratum, config.min_per_cell)


def _selected(found: Outcomes, config: MeasureConfig) -> NDArray[np.bool_]:
    return found.reached & found.accepted if config.stage == "graded" else found.reached


def _enough(config: MeasureConfig, n: int) -> None:
    per_cell = n / config.bins**2
    if per_cell < config.min_per_cell:
        raise UserError(
            f"{n} lenses are {per_cell:.1f} to each of {config.bins} x {config.bins} cells, needed are "
            f"{config.min_per_cell:g} or more: inject {math.ceil(config.min_per_cell * config.bins**2)}, or "
            "give fewer --bins"
        )


def ranged(axes: tuple[Parameter, ...], values: dict[str, Array]) -> tuple[Parameter, ...]:
    """The axes that vary, each between quantiles of the injected values."""
    out = []
    for axis in axes:
        v = values.get(axis.name, np.empty(0))
        v = v[np.isfinite(v)]
        if len(v) < 2:
            continue
        lo, hi = np.quantile(v, ENDS)
        if hi > lo:
            out.append(replace(axis, lo=float(lo), hi=float(hi), reference=float(np.median(v))))
    return tuple(out)


def _ends(axes: tuple[Parameter, ...]) -> dict[str, list[float]]:
    return {a.name: [a.lo, a.hi] for a in axes}


def subset(found: Outcomes, index: NDArray[Any]) -> Outcomes:
    """The outcomes that a mask or an index picks."""
    return Outcomes(
        found.native_id[index],
        {name: v[index] for name, v in found.values.items()},
        found.weight[index],
        found.scored[index],
        found.reached[index],
        found.graded[index],
        found.accepted[index],
        found.band,
        found.instrument,
        None if found.recipe is None else found.recipe[index],
    )


def joined(a: Outcomes, b: Outcomes) -> Outcomes:
    """Outcomes of two rounds, one after the other."""

    def both(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(a, name), getattr(b, name)])

    return Outcomes(
        both("native_id"),
        {name: np.concatenate([v, b.values[name]]) for name, v in a.values.items()},
        both("weight"),
        both("scored"),
        both("reached"),
        both("graded"),
        both("accepted"),
        a.band,
        a.instrument,
        None if a.recipe is None or b.recipe is None else both("recipe"),
    )
