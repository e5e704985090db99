"""Cuts that ask for crowds of hits: airglow in observed wavelength, template residuals at rest."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from search_rows import Search, spread


@pytest.fixture
def search(db: str) -> Search:
    return Search(db)


def test_airglow_is_an_overdensity_in_observed_wavelength(search: Search) -> None:
    rng = np.random.default_rng(5)
    spread(search, 1, 100, rng)
    for k in range(14):
        search.hit(500 + k, 4652.0 + 0.3 * k, z=0.3 + 0.03 * k)
    search.write()
    failed = search.first_failed()
    assert {k for k, v in failed.items() if v == "airglow"} >= set(range(500, 514))
    assert sum(v == "airglow" for v in failed.values()) <= 16
    assert not any(v == "rest_frame" for v in failed.values())
    row = search.read("cut_airglow")[507]
    near = [r for r in search.rows["score"] if abs(r["wave_angstrom"] - row["wave_angstrom"]) <= 5]
    far = [r for r in search.rows["score"] if abs(r["wave_angstrom"] - row["wave_angstrom"]) <= 60]
    assert row["airglow_n_near"] == len(near)
    assert row["airglow_n_expected"] == pytest.approx((len(far) - len(near)) * (1 / 11))
    exact = binom.sf(len(near) - 2, len(far) - 1, 1 / 12)
    assert exact <= row["airglow_p_value"] * 1.001
    assert row["airglow_p_value"] == pytest.approx(exact, rel=0.05)


def test_template_residuals_are_an_overdensity_in_the_rest_frame(search: Search) -> None:
    rng = np.random.default_rng(6)
    spread(search, 1, 100, rng)
    for k in range(14):
        z = 0.42 + 0.02 * k
        search.hit(500 + k, 2853.0 * (1 + z), z=z)
    search.write()
    failed = search.first_failed()
    assert {k for k, v in failed.items() if v == "rest_frame"} >= set(range(500, 514))
    assert not any(v == "airglow" for v in failed.values())


def test_a_hit_at_the_edge_of_the_window_is_not_in_the_crowd(search: Search) -> None:
    spread(search, 1, 100, np.random.default_rng(9))
    for k in range(14):
        search.hit(500 + k, 4652.0 + 0.05 * k, z=0.3 + 0.03 * k)
    search.hit(600, 4652.3 - 4.0, z=0.41)
    search.hit(601, 4652.3 - 2.0, z=0.52)
    search.write()
    failed = search.first_failed()
    assert {k for k, v in failed.items() if v == "airglow"} >= {*range(500, 514), 601}
    assert failed[600] != "airglow"
    row = search.read("cut_airglow")[600]
    assert row["airglow_n_near"] >= 15
    assert row["airglow_n_core"] <= 3


def test_evenly_spread_hits_are_not_overdense(search: Search) -> None:
    spread(search, 1, 400, np.random.default_rng(7))
    search.write()
    assert not {v for v in search.first_failed().values() if v in ("airglow", "rest_frame")}


def test_crowds_stand_out_when_there_is_nothing_else(search: Search) -> None:
    for k in range(12):
        search.hit(k, 4700.0, z=0.3 + 0.03 * k)
    search.hit(50, 3800.0)
    search.hit(51, 5000.0)
    search.write()
    failed = search.first_failed()
    assert all(failed[k] == "airglow" for k in range(12))
    assert failed[50] is None


@pytest.mark.parametrize("n", [1, 2, 4])
def test_few_hits_at_one_wavelength_stay(search: Search, n: int) -> None:
    for k in range(n):
        search.hit(k, 4700.0)
    search.write()
    assert set(search.first_failed().values()) == {None}


def crowded(search: Search) -> Search:
    """Evenly spread hits and a real airglow crowd among them."""
    spread(search, 1, 100, np.random.default_rng(5))
    for k in range(14):
        search.hit(500 + k, 4652.0 + 0.3 * k, z=0.3 + 0.03 * k)
    return search


@pytest.mark.parametrize("is_lens", [True, False])
def test_lines_put_into_real_galaxies_change_no_real_verdict(search: Search, is_lens: bool) -> None:
    crowded(search)
    random = np.random.default_rng(11)
    for k in range(1500):
        search.hit(1000 + k, float(random.uniform(3805, 4995)), z=float(random.uniform(0.3, 0.7)))
        search.rows["injection"].append(
            {"target_id": 1000 + k, "is_lens": is_lens, "host_target_id": 1 + k % 100}
        )
    search.hit(3000, 4654.0, z=0.44)
    search.rows["injection"].append({"target_id": 3000, "is_lens": True, "host_target_id": 1})
    search.write()
    failed = search.first_failed()
    assert {k for k, v in failed.items() if v == "airglow" and k < 1000} >= set(range(500, 514))
    assert failed[3000] == "airglow"  # it lies in the crowd of real ones
    row, own = search.read("cut_airglow")[507], search.read("cut_airglow")[3000]
    real = [r for r in search.rows["score"] if r["target_id"] < 1000]
    near = [r for r in real if abs(r["wave_angstrom"] - row["wave_angstrom"]) <= 5]
    assert row["airglow_n_near"] == len(near)
    assert own["airglow_n_near"] == len([r for r in real if abs(r["wave_angstrom"] - 4654.0) <= 5]) + 1


def test_simulations_of_whole_surveys_crowd_as_real_ones_do(search: Search) -> None:
    crowded(search)
    for row in search.rows["target"]:
        search.rows["injection"].append({"target_id": row["target_id"], "is_lens": False})
    search.write()
    assert {k for k, v in search.first_failed().items() if v == "airglow"} >= set(range(500, 514))
