"""Counts of real candidates corrected for what is missed: what both sides are binned by is the same thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ring_filters  # noqa: F401  registers annulus_for_tests and middle_for_tests
import sqlalchemy as sa

from benchmarks.generated_images import add_images, plain_images
from schema.engine import connect_engine
from schema.healpix import hpx29
from schema.tables import (
    cutout,
    image_score,
    image_shard,
    injection,
    injection_lens,
    model,
    phot_obj,
    scoring_run,
    selection_function,
    target,
)
from schema.upsert import insert_rows, upsert_rows
from scoring.inject.onto import inject_onto
from scoring.inject.simulate import simulate_lenses
from scoring.registry import get_model
from scoring.selection import add_selection
from scoring.selfunc.measure import MeasureConfig, measure
from scoring.selfunc.outcome import read_outcomes
from scoring.selfunc.parameters import total_mag
from scoring.versions import ensure_model

NAME = "annulus_for_tests"
HALF_FOUND = 21.5
"""Total magnitude at which half of the made lenses are found."""


def rows(db: str, sql: str) -> list[dict[str, Any]]:
    with connect_engine(db, read_only=True).connect() as conn:
        return [dict(r) for r in conn.execute(sa.text(sql)).mappings()]


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LENSMINE_CACHE", str(tmp_path / "cache"))


def add_lenses(db: str, n: int, seed: int, injected: bool) -> np.ndarray:
    """Lenses whose chance to be found follows from their total magnitude alone; returns that magnitude.

    Their arcs are on average as bright as they are, so the two magnitudes differ by some 0.75 mag.
    """
    rng = np.random.default_rng(seed)
    lens = 19.5 + 3.5 * rng.beta(2, 2, n)
    arc = lens + rng.normal(0.0, 0.7, n)
    total = -2.5 * np.log10(10 ** (-0.4 * lens) + 10 ** (-0.4 * arc))
    found = rng.random(n) < 1 / (1 + np.exp((total - HALF_FOUND) / 0.25))
    first = 1_000_000 if injected else 1
    ids = [first + i for i in range(n)]
    ra, dec = rng.uniform(0, 360, n), rng.uniform(-30, 30, n)
    survey = "sim" if injected else "hsc"
    with connect_engine(db).begin() as conn:
        model_id = ensure_model(conn, get_model(NAME))
        run = {"run_id": 1, "model_id": model_id, "status": "done", "modality": "image"}
        upsert_rows(conn, scoring_run, [run], ["run_id"])
        upsert_rows(conn, image_shard, [{"shard_id": 1, "name": "made"}], ["shard_id"])
        insert_rows(
            conn,
            target,
            [
                {"target_id": t, "survey": survey, "native_id": f"made-{t:07d}", "ra_deg": float(a),
                 "dec_deg": float(d), "hpx29": int(h), "is_injection": injected}
                for t, a, d, h in zip(ids, ra, dec, hpx29(ra, dec), strict=True)
            ],
        )  # fmt: skip
        insert_rows(
            conn,
            cutout,
            [
                {"cutout_id": t, "target_id": t, "shard_id": 1, "shard_row": 0, "instrument": "hsc",
                 "bands": "g,r,i", "pixscale_arcsec": 0.168, "content_hash": "a", "is_primary": True,
                 "frac_good": 1.0, "ny": 64, "nx": 64}
                for t in ids
            ],
        )  # fmt: skip
        # what a catalogue lists: the blend
        listed = [{"target_id": t, "mag_i": float(m)} for t, m in zip(ids, total, strict=True)]
        insert_rows(conn, phot_obj, listed)
        insert_rows(
            conn,
            image_score,
            [
                {"cutout_id": t, "model_id": model_id, "run_id": 1, "target_id": t, "content_hash": "a",
                 "probability": 0.9 if f else 0.1}
                for t, f in zip(ids, found, strict=True)
            ],
        )  # fmt: skip
        if injected:
            truth = [{"target_id": t, "is_lens": True, "recipe": "made-1: made, hsc"} for t in ids]
            insert_rows(conn, injection, truth)
            insert_rows(
                conn,
                injection_lens,
                [
                    {"target_id": t, "band": "i", "lens_mag": float(m), "arc_mag": float(a),
                     "theta_e_arcsec": float(e), "weight": 1.0}
                    for t, m, a, e in zip(ids, lens, arc, rng.uniform(0.5, 2.5, n), strict=True)
                ],
            )  # fmt: skip
    return total


def lenses_there_are(cells: list[dict[str, Any]], true_mag: np.ndarray) -> tuple[float, float, int]:
    """Corrected count over the bins of known completeness, its error, and how many there are in truth."""
    known = [c for c in cells if c["n_corrected"] is not None and c["completeness"] > 0.05]
    true = sum(int(((true_mag >= c["x_lo"]) & (true_mag < c["x_hi"])).sum()) for c in known)
    error = np.sqrt(sum(c["n_corrected_err"] ** 2 for c in known))
    return sum(c["n_corrected"] for c in known), float(error), true


def test_count_by_magnitude_gives_the_number_of_lenses_that_there_are(db: str) -> None:
    add_lenses(db, 6000, 1, injected=True)
    true_mag = add_lenses(db, 3000, 2, injected=False)
    add_selection(db, "made", "is_injection")
    measure(db, NAME, MeasureConfig(mode="rows", selection="made", bins=4, bins_line=12), backend="torch")
    cells = rows(db, "select * from corrected_count where x_name like '%mag' order by x_name, x_lo")
    assert len({c["x_name"] for c in cells}) == 1
    count, error, true = lenses_there_are(cells, true_mag)
    assert true > 2000
    assert error < 0.05 * true
    assert abs(count - true) < 3 * error
    pulls = [
        (c["n_corrected"] - int(((true_mag >= c["x_lo"]) & (true_mag < c["x_hi"])).sum()))
        / c["n_corrected_err"]
        for c in cells
        if c["n_candidate"] > 10
    ]
    assert len(pulls) >= 8
    assert np.mean(np.square(pulls)) < 2.5

    # the lens's own magnitude, against the same catalogue, is shifted: by many times the error
    old = rows(
        db,
        """
        select x_lo, x_hi, p_selected as completeness, p_lo, p_hi, count(*) as n_candidate
        from completeness
        inner join image_candidate on not is_injection and mag_i >= x_lo and mag_i < x_hi
        where x_name = 'lens_mag' and y_name is null
        group by x_lo, x_hi, p_selected, p_lo, p_hi
        """,
    )
    for c in old:
        n, p = c["n_candidate"], c["completeness"]
        c["n_corrected"] = n / p if p else None
        c["n_corrected_err"] = np.hypot(np.sqrt(n), n * (c["p_hi"] - c["p_lo"]) / 3.92 / p) / p if p else None
    count, error, true = lenses_there_are(old, true_mag)
    assert abs(count - true) > 6 * error


def test_magnitude_of_lens_and_arcs() -> None:
    mag = total_mag(np.array([20.0, 20.0, 20.0, np.nan, 20.0]), np.array([20.0, 22.5, np.inf, 20.0, np.nan]))
    want = [20 - 2.5 * np.log10(2), 20 - 2.5 * np.log10(1.1), 20.0]
    assert mag[:3] == pytest.approx(want)
    assert np.isnan(mag[3:]).all()


def test_total_magnitude_of_injections_is_what_their_row_of_phot_obj_lists(db: str) -> None:
    simulate_lenses(db, 6, prior="thesis_grid", seed=4)
    add_images(db, [("images0", plain_images(4, seed=3))])
    three = {"g": 27.0, "r": 27.0, "i": 27.0}
    with connect_engine(db).begin() as conn:
        real = sa.select(target.c.target_id).where(~target.c.is_injection)
        ids = [r[0] for r in conn.execute(real.order_by(target.c.target_id))]
        noise = dict.fromkeys(three, 0.3)
        conn.execute(
            cutout.update()
            .where(cutout.c.target_id.in_(ids))
            .values(instrument="hsc", zeropoint=three, noise=noise, psf_fwhm_arcsec=0.7)
        )
        # the catalogue of the last one lacks the band
        listed = [{"target_id": t, "mag_g": 20.0, "mag_i": 19.0} for t in ids[:-1]]
        upsert_rows(conn, phot_obj, [*listed, {"target_id": ids[-1], "mag_g": 20.0}], ["target_id"])
    add_selection(db, "hosts", "not is_injection")
    assert inject_onto(db, "hosts", prior="thesis_grid", seed=3).n_lenses == 4
    with connect_engine(db).begin() as conn:
        model_id = ensure_model(conn, get_model(NAME))
    for band, where, n_unknown in (
        ("g", "host_target_id is null", 0),
        ("i", "host_target_id is not null", 1),
    ):
        truth = rows(
            db,
            f"select native_id, mag_{band} as mag, lens_mag from injection join target using (target_id) "
            f"join phot_obj using (target_id) join injection_lens using (target_id) where {where}",
        )
        only = f"native_id in ({', '.join(repr(r['native_id']) for r in truth)})"
        found = read_outcomes(db, model_id, "image", "scored", 0.5, only)
        total = dict(zip(found.native_id, found.values["total_mag"], strict=True))
        assert found.band == band
        assert sum(np.isnan(v) for v in total.values()) == n_unknown
        for r in truth:
            want = np.nan if r["mag"] is None else r["mag"]
            assert total[r["native_id"]] == pytest.approx(want, abs=1e-9, nan_ok=True)
            assert r["mag"] is None or total[r["native_id"]] < r["lens_mag"]


def put_line(db: str, x_name: str, **changes: Any) -> None:
    """A measured line of one cell, 18 to 24, and ten scored real objects whose catalogue has all columns."""
    from scoring.run import score

    add_images(db, [("images0", plain_images(10, seed=3))])
    score(db, NAME, "all_images", backend="torch")
    with connect_engine(db).begin() as conn:
        model_id = conn.execute(sa.select(model.c.model_id)).scalar_one()
        cell = {
            "cell_id": 1, "measurement_id": 5, "model_id": model_id, "stage": "scored", "mode": "population",
            "instrument": None, "band": "i", "threshold": 0.0, "x_name": x_name, "x_lo": 0.0, "x_hi": 24.0,
            "n_injected": 100, "p_selected": 0.5, "p_lo": 0.4, "p_hi": 0.6,
        }  # fmt: skip
        upsert_rows(conn, selection_function, [cell | changes], ["cell_id"])
        ids = [r[0] for r in conn.execute(sa.select(target.c.target_id))]
        full = {"mag_i": 20.0, "r_eff_arcsec": 1.0, "sersic_n": 4.0, "axis_ratio": 0.7, "z_phot": 0.5}
        upsert_rows(conn, phot_obj, [full | {"target_id": t} for t in ids], ["target_id"])


@pytest.mark.parametrize(
    ("x_name", "changes", "n"),
    [
        ("total_mag", {}, 10),
        ("z_lens", {}, 10),
        # of a measurement from before there was total_mag
        ("lens_mag", {}, None),
        # a catalogue's shape is that of the blend, an injected lens's is not
        ("lens_r_eff_arcsec", {}, None),
        ("lens_sersic_n", {}, None),
        ("lens_ellipticity", {}, None),
        # nothing that candidates have: no count, rather than one of none
        ("z_source", {}, None),
        ("total_mag", {"band": "VIS"}, None),
        ("total_mag", {"band": None}, None),
        ("total_mag", {"mode": "slice"}, None),
    ],
)
def test_only_what_a_catalogue_lists_like_for_like_is_counted_by(
    db: str, x_name: str, changes: dict[str, Any], n: int | None
) -> None:
    put_line(db, x_name, **changes)
    found = rows(db, "select n_candidate, n_corrected from corrected_count")
    assert found == ([] if n is None else [{"n_candidate": n, "n_corrected": 2.0 * n}])


def test_candidates_without_a_magnitude_are_in_no_bin(db: str) -> None:
    put_line(db, "total_mag")
    with connect_engine(db).begin() as conn:
        ids = sorted(r[0] for r in conn.execute(sa.select(target.c.target_id)))
        for t, mag in zip(ids[:3], (None, float("nan"), float("inf")), strict=True):
            conn.execute(phot_obj.update().where(phot_obj.c.target_id == t).values(mag_i=mag))
    assert rows(db, "select n_candidate from corrected_count") == [{"n_candidate": 7}]


def test_spectra_are_counted_from_the_cuts_on(db: str) -> None:
    """What is scored has no fit yet, so no flux to be counted by: no count, rather than one of none."""
    put_line(db, "line_flux", band=None)
    with connect_engine(db).begin() as conn:
        conn.execute(scoring_run.update().values(modality=None))
    assert rows(db, "select n_candidate from corrected_count") == []
    with connect_engine(db).begin() as conn:
        conn.execute(selection_function.update().values(stage="cut"))
    assert rows(db, "select n_candidate from corrected_count") == [{"n_candidate": 0}]
