"""``lensmine selection-function``: injects lenses, puts them through the search, counts the selected."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from schema.engine import connect_engine
from schema.errors import UserError
from schema.ids import hashed_id
from scoring.inject.setup import band_index, cutout_name, find_instrument, stamp_side
from scoring.selfunc.cells import Plane, planes
from scoring.selfunc.design import Points, refine, spread
from scoring.selfunc.estimate import Shares, shares
from scoring.selfunc.outcome import STAGES
from scoring.selfunc.parameters import as_recipe, thesis_parameters
from scoring.selfunc.rounds import Say, Scorer, in_order, tag_selection, write_missing

if TYPE_CHECKING:
    from scoring.light.instruments import Instrument
    from scoring.models.base import Model

VERSION = "selfunc-2"
MODES = ("slice", "population", "rows")


@dataclass(frozen=True)
class MeasureConfig:
    """What is measured, and how hard.

    Attributes
    ----------
    stage : str
        scored, cut or graded.
    mode : str
        slice: other parameters fixed (figure 3.3); population: drawn from `prior`; rows: injections at hand.
    instrument, prior : str
        What is simulated.
    n : int
        Lenses to inject in all.
    bins, bins_line : int
        Cells along each side of a plane, and along a line.
    refine_share : float
        Share of the lenses that the second round places; 0 spreads all evenly.
    min_per_cell : float
        Effective number of lenses below which a cell has no share.
    threshold : float, optional
        Probability from which a lens is selected at stage scored; the model's own unless given.
    selection : str, optional
        Injections at hand, for mode rows.
    npix, band : optional
        Side of the stamp [px] and band of the magnitudes.
    fix : dict
        References and fixed parameters to change.
    seed : int
        Seed.
    """

    stage: str = "scored"
    mode: str = "slice"
    instrument: str = "hsc"
    prior: str = "collett2015"
    n: int = 40_000
    bins: int = 10
    bins_line: int = 20
    refine_share: float = 0.5
    min_per_cell: float = 5.0
    threshold: float | None = None
    selection: str | None = None
    npix: int | None = None
    band: str | None = None
    fix: dict[str, float] = field(default_factory=dict)
    seed: int = 0


@dataclass
class Measurement:
    """A measured selection function.

    Attributes
    ----------
    measurement_id : int
        Key shared by its rows.
    model, model_id, stage, mode, instrument, band, threshold
        Of what; the instrument as column cutout.instrument calls it, by which candidates are matched.
    planes : list of (Plane, Shares)
        All pairs, then all lines.
    n_injected, n_selected : int
        Lenses, and of these selected ones.
    recipe : dict
        What is needed to repeat it.
    seconds : dict
        Wall time by step [s].
    """

    measurement_id: int
    model: str
    model_id: int
    stage: str
    mode: str
    instrument: str | None
    band: str | None
    threshold: float
    planes: list[tuple[Plane, Shares]]
    n_injected: int
    n_selected: int
    recipe: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)


def measure(
    db: str | None,
    model_name: str,
    config: MeasureConfig | None = None,
    *,
    weights: str = "shipped",
    backend: str = "auto",
    precision: str = "fp32",
    device: str | None = None,
    say: Say | None = None,
) -> Measurement:
    """Measure the selection function of a model, and store it.

    Parameters
    ----------
    db : str or None
        Database.
    model_name : str
        A registered model.
    config : MeasureConfig, optional
        What is measured.
    weights, backend, precision, device : str
        As for `scoring.run.score`.
    say : callable, optional
        Told step, how many more are done and how many there are.

    Raises
    ------
    UserError
        Unknown names, no weights, an instrument that the model cannot take, or too few injections.
    DataError
        Injections that cannot be scored.
    """
    from scoring.registry import get_model
    from scoring.selfunc.record import save
    from scoring.versions import model_key

    config = config or MeasureConfig()
    _check(config)
    connect_engine(db).connect().close()
    model = get_model(model_name, weights)
    threshold = float(model.default_threshold) if config.threshold is None else config.threshold
    scorer = Scorer(
        model, model_key(model, precision), config.stage, threshold, weights, backend, precision, device
    )
    began = time.perf_counter()
    if config.mode == "rows":
        from scoring.selfunc.population import measure_rows

        done = measure_rows(db, scorer, config, say)
    else:
        camera, npix = _fitting_camera(model, config)
        if config.mode == "slice":
            done = _measure_slices(db, scorer, config, camera, npix, say)
        else:
            from scoring.selfunc.population import measure_population

            done = measure_population(db, scorer, config, camera, npix, say)
    done.seconds["total"] = time.perf_counter() - began
    save(db, done)
    return done


def _check(config: MeasureConfig) -> None:
    if config.stage not in STAGES:
        raise UserError(f"--stage {config.stage}: allowed are {', '.join(STAGES)}")
    if config.mode not in MODES:
        raise UserError(f"--mode {config.mode}: allowed are {', '.join(MODES)}")
    if config.mode == "rows" and not config.selection:
        raise UserError("mode rows measures injections at hand; name them: --selection injections")
    if config.mode != "rows" and config.selection:
        raise UserError(f"--selection goes with --mode rows, given is --mode {config.mode}")
    if config.stage == "graded" and config.mode != "rows":
        raise UserError(
            "stage graded needs injections that people have graded: inject some (lensmine simulate lenses), "
            "score and grade them, then give --mode rows --selection NAME"
        )
    if config.threshold is not None and config.stage != "scored":
        raise UserError(
            f"--threshold goes with --stage scored; stage {config.stage} takes that of table model"
        )
    if config.threshold is not None and not 0 <= config.threshold <= 1:
        raise UserError(f"--threshold {config.threshold:g}: allowed is a probability, 0 to 1")
    if not 2 <= config.bins <= 100 or not 2 <= config.bins_line <= 400:
        raise UserError(
            f"--bins {config.bins}, --bins-line {config.bins_line}: allowed are 2 to 100 and 2 to 400"
        )
    if not 0 <= config.refine_share <= 0.9:
        raise UserError(f"--refine-share {config.refine_share:g}: allowed is 0 to 0.9")


def _fitting_camera(model: Model, config: MeasureConfig) -> tuple[Instrument, int]:
    """The instrument and the side of its stamp, if the model can take them."""
    from scoring.models.image_base import MIN_COVERAGE, ImageModel

    if not isinstance(model, ImageModel):
        raise UserError(
            f"{model.name} scores spectra, for which lenses are not simulated here; measure it with "
            "injections at hand: --mode rows --selection NAME"
        )
    camera = find_instrument(config.instrument)
    npix = stamp_side(camera, config.npix)
    if model.choose_bands(camera.bands) is None:
        wanted = " or ".join("+".join(bands) for bands in model.band_sets[:4])
        raise UserError(
            f"{model.name} cannot take {camera.name}: it needs {wanted}, "
            f"{camera.name} has {', '.join(camera.bands)}"
        )
    covered = model.coverage(npix, npix, camera.pixel_scale_arcsec)
    if covered < MIN_COVERAGE:
        raise UserError(
            f"{model.name} cannot take {npix}-pixel stamps of {camera.name}: they cover {covered:.0%} of "
            f"its field, needed is {MIN_COVERAGE:.0%}; give a larger --npix"
        )
    return camera, npix


def _measure_slices(
    db: str | None, scorer: Scorer, config: MeasureConfig, camera: Instrument, npix: int, say: Say | None
) -> Measurement:
    """Figure 3.3: every pair of the six parameters, the other four fixed."""
    from scoring.selfunc.slices import SliceSimulator

    k = band_index(camera, config.band)
    axes, fixed = thesis_parameters(camera, npix, config.fix)
    grids = planes(axes, config.bins, config.bins_line)
    n_cells = sum(p.n_cells for p in grids)
    first = math.floor(config.n * (1 - config.refine_share) / n_cells)
    if first < config.min_per_cell:
        least = math.ceil(config.min_per_cell * n_cells / (1 - config.refine_share))
        raise UserError(
            f"--n {config.n} gives {first} lenses to each of the {n_cells:,} cells in the first round, "
            f"needed are {config.min_per_cell:g}: give --n {least} or fewer --bins"
        )
    simulator = SliceSimulator(camera, npix, k, axes, fixed)
    arrays = (str(getattr(scorer.model, "pixels", "stamp")),)
    settings = [
        VERSION,
        camera.name,
        npix,
        k,
        arrays,
        [dataclasses.astuple(a) for a in axes],
        sorted(fixed.items()),
    ]
    settings += [config.bins, config.bins_line, config.seed]
    clock = {"simulate": 0.0, "score": 0.0}
    even = [np.full(p.n_cells, first) for p in grids]

    def one_round(number: int, per_cell: list[Any]) -> tuple[Points, Any, str]:
        counts = np.concatenate(per_cell)
        key = hashed_id("slices", *settings, number, counts.tobytes().hex())
        tag = f"slice-{camera.name}-s{config.seed}-r{number}-{key & 0xFFFFFFFF:08x}"
        points = spread(grids, per_cell, (config.seed * 2 + number) & 0x7FFFFFFF)
        values = simulator.values(grids, points)
        recipe = f"{VERSION}: slice, round {number}"

        def make(rows: Any) -> Any:
            part = {name: v[rows] for name, v in values.items()}
            return simulator.batch(part, recipe, config.seed, hashed_id("noise", tag, int(rows[0])))

        at = time.perf_counter()
        write_missing(db, tag, len(points), camera, arrays, make, say)
        clock["simulate"] += time.perf_counter() - at
        at = time.perf_counter()
        name = tag_selection(db, tag, "Injections of a selection function; other parameters fixed.")
        scorer.score(db, name, say)
        found = scorer.outcomes(db, name)
        clock["score"] += time.perf_counter() - at
        return points, found.reached[in_order(found, len(points), tag)], tag

    rounds = [one_round(1, even)]
    budget = config.n - first * n_cells
    if config.refine_share > 0 and budget > 0:
        points, hit, _ = rounds[0]
        hits = [
            np.bincount(points.cell[(points.plane == i) & hit], minlength=p.n_cells)
            for i, p in enumerate(grids)
        ]
        rounds.append(one_round(2, refine(grids, even, hits, budget)))
    plane = np.concatenate([r[0].plane for r in rounds])
    cell = np.concatenate([r[0].cell for r in rounds])
    hit = np.concatenate([r[1] for r in rounds])
    measured = []
    for i, p in enumerate(grids):
        mine = plane == i
        one = np.ones(int(mine.sum()))
        measured.append(
            (p, shares(cell[mine], p.n_cells, hit[mine], one, one.astype(np.int64), config.min_per_cell))
        )
    recipe = as_recipe(axes, fixed) | {"tags": [r[2] for r in rounds]}
    name, band = cutout_name(camera), camera.bands[k]
    return finished(scorer, config, name, band, measured, len(hit), int(hit.sum()), recipe, clock)


def finished(
    scorer: Scorer,
    config: MeasureConfig,
    instrument: str | None,
    band: str | None,
    measured: list[tuple[Plane, Shares]],
    n: int,
    n_selected: int,
    recipe: dict[str, Any],
    clock: dict[str, float],
) -> Measurement:
    """A measurement with its key: the same settings, model and injections are the same measurement."""
    full = {"version": VERSION} | dataclasses.asdict(config) | recipe
    key = hashed_id("measurement", scorer.model_id, scorer.threshold, sorted(map(str, full.items())), n)
    return Measurement(
        key,
        scorer.model.name,
        scorer.model_id,
        config.stage,
        config.mode,
        instrument,
        band,
        scorer.threshold,
        measured,
        n,
        n_selected,
        full,
        clock,
    )
