"""Design and estimate of a selection function against functions that are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from scoring.evaluate.intervals import wilson
from scoring.selfunc.cells import Plane, planes
from scoring.selfunc.design import (
    DEFENSIVE,
    acquisition,
    plane_acquisition,
    refine,
    spread,
    thin,
)
from scoring.selfunc.estimate import graded_shares, shares
from scoring.selfunc.parameters import Parameter

Array = NDArray[np.float64]
AXES = tuple(Parameter(name, name, 0.0, 1.0, 0.5) for name in "abcdef")


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def ridge(a: Array, b: Array) -> Array:
    """A steep edge across the plane, from 0 to 0.95."""
    return 0.95 * sigmoid(14 * (a + 0.6 * b - 0.8))


def true_shares(plane: Plane, function: Callable[[Array, Array], Array], fine: int = 40) -> Array:
    """Mean of the function over every cell, by a fine grid."""
    at = (np.arange(fine) + 0.5) / fine
    u, v = np.meshgrid(at, at, indexing="ij")
    b = plane.bounds()
    x = b[:, 0, None] + u.ravel() * (b[:, 1] - b[:, 0])[:, None]
    y = b[:, 2, None] + v.ravel() * (b[:, 3] - b[:, 2])[:, None]
    mean: Array = function(x, y).mean(1)
    return mean


def run_slices(seed: int, share: float, n: int = 6000) -> tuple[Array, Array, Array, Array]:
    """p, lo, hi and truth of every cell of one plane, after an adaptive measurement."""
    grid = planes(AXES[:2], 10, 10)[:1]
    rng = np.random.default_rng(seed)
    first = int(n * (1 - share)) // grid[0].n_cells
    counts = [np.full(grid[0].n_cells, first)]
    one = spread(grid, counts, seed)
    hit = rng.random(len(one)) < ridge(one.x, one.y)
    cell = one.cell
    if share > 0:
        more = refine(grid, counts, [np.bincount(cell[hit], minlength=100)], n - first * 100)
        two = spread(grid, more, seed + 1_000_000)
        cell = np.concatenate([cell, two.cell])
        hit = np.concatenate([hit, rng.random(len(two)) < ridge(two.x, two.y)])
    ones = np.ones(len(cell))
    found = shares(cell, 100, hit, ones, ones.astype(np.int64))
    assert found.n_injected.sum() == n
    return found.p, found.lo, found.hi, true_shares(grid[0], ridge)


def test_adaptive_slices_cover_a_known_function_at_the_nominal_rate() -> None:
    covered, error = [], []
    for seed in range(40):
        p, lo, hi, truth = run_slices(seed, 0.5)
        covered.append((lo <= truth) & (truth <= hi))
        error.append(p - truth)
    share = np.stack(covered)
    assert 0.945 < share.mean() < 0.985
    steep = (truth > 0.1) & (truth < 0.85)
    assert 0.935 < share[:, steep].mean() < 0.985
    # unbiased in every cell: 40 means of some 60 trials each
    bias = np.stack(error).mean(0)
    sigma = np.stack(error).std(0) / np.sqrt(40)
    assert np.abs(bias / np.maximum(sigma, 1e-3)).max() < 4.5


def test_refinement_narrows_the_intervals_where_the_function_is_steep() -> None:
    widths = {}
    for share in (0.0, 0.5):
        inside = []
        for seed in range(8):
            _, lo, hi, truth = run_slices(seed, share)
            inside.append((hi - lo)[(truth > 0.1) & (truth < 0.85)].mean())
        widths[share] = np.mean(inside)
    assert widths[0.5] < 0.85 * widths[0.0]


def test_a_cell_is_judged_by_its_neighbours_alone() -> None:
    n = np.full((5, 5), 10)
    k = np.zeros((5, 5), dtype=int)
    k[3:, :] = 10
    base = acquisition(n, k)
    for own in (0, 4, 10):
        changed = k.copy()
        changed[2, 2] = own
        assert acquisition(n, changed)[2, 2] == base[2, 2]
    assert base[2, 2] > 5 * base[0, 2]
    lines = acquisition(np.full((6, 1), 10), np.array([[0], [0], [0], [10], [10], [10]]))
    assert lines.argmax() in (2, 3)


def test_refine_spends_its_budget_exactly() -> None:
    grid = planes(AXES[:3], 4, 6)
    tried = [np.full(p.n_cells, 5) for p in grid]
    rng = np.random.default_rng(3)
    hits = [rng.integers(0, 6, p.n_cells) for p in grid]
    counts = refine(grid, tried, hits, 777)
    assert [len(c) for c in counts] == [p.n_cells for p in grid]
    assert sum(int(c.sum()) for c in counts) == 777
    assert min(int(c.min()) for c in counts) >= 0


def test_points_lie_in_their_cells() -> None:
    grid = planes(AXES, 5, 7)
    counts = [np.arange(p.n_cells) % 4 for p in grid]
    points = spread(grid, counts, 11)
    for number, plane in enumerate(grid):
        mine = points.plane == number
        y = None if plane.y is None else points.y[mine]
        np.testing.assert_array_equal(plane.cell_of(points.x[mine], y), points.cell[mine])
        np.testing.assert_array_equal(np.bincount(points.cell[mine], minlength=plane.n_cells), counts[number])
    again = spread(grid, counts, 11)
    np.testing.assert_array_equal(again.x, points.x)


def population(n: int, rng: np.random.Generator) -> Array:
    """A prior with tails and a correlation, shape (n, 3)."""
    a = rng.normal(0.5, 0.17, n)
    b = 0.5 * a + rng.gamma(2.0, 0.08, n) + 0.1
    return np.stack([a, b, rng.random(n)], axis=1)


def chance(v: Array) -> Array:
    out: Array = 0.9 * sigmoid(12 * (v[:, 0] + v[:, 1] - 1.05) + 3 * (v[:, 2] - 0.5))
    return out


def run_population(seed: int, n: int = 8000) -> tuple[list[Plane], list[tuple[Array, Array, Array, Array]]]:
    rng = np.random.default_rng(seed)
    axes = tuple(Parameter(name, name, 0.1, 0.9) for name in "abc")
    grid = planes(axes, 8, 10)
    column = {"a": 0, "b": 1, "c": 2}

    def cells(v: Array, plane: Plane) -> NDArray[np.int64]:
        y = None if plane.y is None else v[:, column[plane.y.name]]
        return plane.cell_of(v[:, column[plane.x.name]], y)

    first = population(n // 2, rng)
    hit = rng.random(len(first)) < chance(first)
    ones, zero = np.ones(len(first)), np.zeros(len(first), dtype=np.int64)
    many = population(5 * n, rng)
    score = np.zeros(len(many))
    for plane in grid[:3]:
        at = shares(cells(first, plane), plane.n_cells, hit, ones, zero)
        wanted = plane_acquisition(at.n_eff, at.p, plane.shape)
        cell = cells(many, plane)
        score += np.where(cell >= 0, wanted[cell], 0.0)
    index, weight = thin(score, n // 2, rng)
    second = many[index]
    v = np.concatenate([first, second])
    hit = np.concatenate([hit, rng.random(len(second)) < chance(second)])
    w = np.concatenate([ones, weight])
    stratum = np.repeat([0, 1], [len(first), len(second)])
    out = []
    for plane in grid:
        s = shares(cells(v, plane), plane.n_cells, hit, w, stratum, 5.0)
        out.append((s.p, s.lo, s.hi, s.n_eff))
    return grid, out


def test_weighted_population_covers_the_marginal_shares_at_the_nominal_rate() -> None:
    rng = np.random.default_rng(0)
    many = population(4_000_000, rng)
    p_many = chance(many)
    covered, known, pulls = [], [], []
    for seed in range(25):
        grid, found = run_population(seed)
        if seed == 0:
            truth = []
            for plane in grid:
                y = None if plane.y is None else many[:, "abc".index(plane.y.name)]
                cell = plane.cell_of(many[:, "abc".index(plane.x.name)], y)
                inside = cell >= 0
                n = np.bincount(cell[inside], minlength=plane.n_cells)
                total = np.bincount(cell[inside], p_many[inside], plane.n_cells)
                truth.append(np.where(n > 500, total / np.maximum(n, 1), np.nan))
        for (p, lo, hi, n_eff), t in zip(found, truth, strict=True):
            use = np.isfinite(p) & np.isfinite(t)
            covered.append(((lo <= t) & (t <= hi))[use])
            known.append(use.mean())
            mid = use & (t > 0.1) & (t < 0.8)
            pulls.append((p - t)[mid] / np.sqrt((t * (1 - t))[mid] / n_eff[mid]))
    assert 0.94 < np.concatenate(covered).mean() < 0.985
    assert np.mean(known) > 0.6
    pull = np.concatenate(pulls)
    assert abs(pull.mean()) < 0.08  # unbiased
    assert 0.9 < pull.std() < 1.1  # and as wide as the effective number says


def test_thinning_gives_the_prior_back() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=200_000)
    index, weight = thin(np.exp(2 * x), 20_000, rng)
    assert len(set(index.tolist())) == len(index)
    assert weight.max() <= 1 / DEFENSIVE + 1e-9
    assert np.sum(weight) / len(weight) == pytest.approx(1.0, abs=0.02)
    assert x[index].mean() > 0.5
    assert np.sum(weight * x[index]) / weight.sum() == pytest.approx(0.0, abs=0.03)


def test_plain_shares_are_binomial_with_wilson_intervals() -> None:
    cell = np.array([0, 0, 0, 0, 1, 1, -1])
    hit = np.array([True, False, True, True, False, False, True])
    ones = np.ones(7)
    found = shares(cell, 3, hit, ones, np.zeros(7, dtype=np.int64), min_per_cell=2)
    assert found.n_injected.tolist() == [4, 2, 0]
    assert found.n_selected.tolist() == [3, 0, 0]
    np.testing.assert_allclose(found.p, [0.75, 0.0, np.nan])
    lo, hi = wilson([3, 0], [4, 2])
    np.testing.assert_allclose(found.lo[:2], lo)
    np.testing.assert_allclose(found.hi[:2], hi)
    assert (found.lo[2], found.hi[2]) == (0.0, 1.0)
    few = shares(cell, 3, hit, ones, np.zeros(7, dtype=np.int64), min_per_cell=3)
    assert np.isnan(few.p[1])
    assert (few.lo[1], few.hi[1]) == (0.0, 1.0)


def test_graded_share_is_the_product_and_covers_it() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(200):
        n = 300
        reached = rng.random(n) < 0.6
        graded = reached & (rng.random(n) < 0.4)  # people grade some of what reaches them
        accepted = graded & (rng.random(n) < 0.7)
        found = graded_shares(np.zeros(n, dtype=np.int64), 1, reached, graded, accepted, np.ones(n))
        inside += bool(found.lo[0] <= 0.42 <= found.hi[0])
    assert 0.91 < inside / 200 < 0.99
    nobody = graded_shares(
        np.zeros(50, dtype=np.int64),
        1,
        np.zeros(50, bool),
        np.zeros(50, bool),
        np.zeros(50, bool),
        np.ones(50),
    )
    assert (nobody.p[0], nobody.lo[0]) == (0.0, 0.0)
    assert nobody.hi[0] < 0.1
    ungraded = graded_shares(
        np.zeros(50, dtype=np.int64),
        1,
        np.ones(50, bool),
        np.zeros(50, bool),
        np.zeros(50, bool),
        np.ones(50),
    )
    assert np.isnan(ungraded.p[0])


def test_a_share_lies_in_its_interval_whatever_the_rounding() -> None:
    rng = np.random.default_rng(3)
    n = 6000
    cell, weight, stratum = rng.integers(0, 400, n), rng.uniform(0.1, 4.0, n), rng.integers(0, 2, n)
    for selected in (np.ones(n, bool), np.zeros(n, bool), rng.random(n) < 0.5):
        found = shares(cell, 400, selected, weight, stratum)
        assert np.all(found.lo <= found.p)
        assert np.all(found.p <= found.hi)
