"""The selection function of a model that runs: injected, scored, counted from the database."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ring_filters  # noqa: F401  registers annulus_for_tests and middle_for_tests
import sqlalchemy as sa
from typer.testing import CliRunner

from schema.check import check_database
from schema.engine import connect_engine, upgrade
from schema.errors import UserError
from schema.ids import hashed_id
from schema.tables import calibrator, cutout, grade, phot_obj, reviewer, selection_function, target
from schema.upsert import upsert_rows
from scoring.inject.simulate import simulate_lenses
from scoring.selection import add_selection
from scoring.selfunc.measure import MeasureConfig, Measurement, measure
from scoring.selfunc.record import cells

SMALL = MeasureConfig(n=1000, bins=3, bins_line=4, min_per_cell=2)


def rows(db: str, sql: str) -> list[dict[str, Any]]:
    with connect_engine(db, read_only=True).connect() as conn:
        return [dict(r) for r in conn.execute(sa.text(sql)).mappings()]


def one(db: str, sql: str) -> Any:
    return next(iter(rows(db, sql)[0].values()))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LENSMINE_CACHE", str(tmp_path / "cache"))


def run(db: str, config: MeasureConfig = SMALL) -> Measurement:
    return measure(db, "annulus_for_tests", config, backend="torch")


def line(done: Measurement, name: str) -> list[dict[str, Any]]:
    return [c for c in cells(done) if c["x_name"] == name and c["y_name"] is None]


def test_slices_are_injected_scored_counted_and_stored(db: str) -> None:
    done = run(db)
    assert done.n_injected == 1000
    assert one(db, "select count(*) from injection_lens where weight is null") == 1000
    assert one(db, "select count(*) from image_score") == 1000
    # 15 pairs and 6 lines
    assert one(db, "select count(*) from selection_function") == 15 * 9 + 6 * 4
    assert one(db, "select count(*) from completeness") == 15 * 9 + 6 * 4
    stored = rows(db, "select * from completeness where y_name is null and x_name = 'arc_mag' order by x_lo")
    assert [r["p_selected"] for r in stored] == [c["p_selected"] for c in line(done, "arc_mag")]
    assert stored[0]["x_lo"] == 18.0
    assert stored[-1]["x_hi"] == 27.0
    # bright arcs are found, faint ones are not, and every count is inside its interval
    assert stored[0]["p_selected"] > 0.8
    assert stored[-1]["p_selected"] < 0.2
    for c in cells(done):
        assert c["n_selected"] <= c["n_injected"]
        assert c["p_lo"] <= c["p_selected"] <= c["p_hi"]
        assert c["p_selected"] == pytest.approx(c["n_selected"] / c["n_injected"])
    # the counts are those that anyone gets from the tables of the search
    tag = done.recipe["tags"][0]
    by_hand = one(
        db,
        "select count(*) from current_image_score s join target t on t.target_id = s.target_id "
        f"where s.probability >= 0.5 and t.native_id like '{tag}-%'",
    )
    second = one(
        db,
        "select count(*) from image_candidate c join target t on t.target_id = c.target_id "
        f"where t.native_id like '{done.recipe['tags'][1]}-%'",
    )
    assert by_hand + second == done.n_selected
    assert [f for f in check_database(db) if not f.ok] == []


def test_the_same_measurement_again_injects_and_scores_nothing(db: str) -> None:
    first = run(db)
    before = rows(db, "select cell_id, p_selected from selection_function order by 1")
    again = run(db)
    assert again.measurement_id == first.measurement_id
    assert rows(db, "select cell_id, p_selected from selection_function order by 1") == before
    assert one(db, "select count(*) from target") == 1000
    assert one(db, "select count(*) from image_score") == 1000
    # the cut stage shares the injections and, here, its result
    cut = run(db, MeasureConfig(stage="cut", n=1000, bins=3, bins_line=4, min_per_cell=2))
    assert cut.n_selected == first.n_selected
    assert one(db, "select count(*) from target") == 1000
    assert one(db, "select count(distinct stage) from completeness") == 2


def test_refinement_goes_where_the_function_changes(db: str) -> None:
    done = run(db, MeasureConfig(n=2400, bins=3, bins_line=8, min_per_cell=2))
    along = line(done, "arc_mag")
    p = np.array([c["p_selected"] for c in along])
    n = np.array([c["n_injected"] for c in along])
    steepest = int(np.abs(np.diff(p)).argmax())
    assert abs(p[steepest + 1] - p[steepest]) > 0.5
    assert n[steepest : steepest + 2].mean() > 1.5 * n[[0, -1]].mean()


def test_population_weights_its_second_round(db: str) -> None:
    config = MeasureConfig(mode="population", n=192, bins=3, bins_line=3, min_per_cell=3)
    done = run(db, config)
    assert (done.n_injected, done.mode) == (192, "population")
    weight = [r["weight"] for r in rows(db, "select weight from injection_lens")]
    assert sum(w == 1 for w in weight) >= 96
    drawn = np.array([w for w in weight if w != 1])
    assert len(drawn) == 96
    assert drawn.max() <= 4.0 + 1e-9
    # eight parameters: 28 pairs and 8 lines, and a line of the total magnitude
    assert one(db, "select count(distinct x_name || coalesce(y_name, '')) from selection_function") == 37
    total = line(done, "total_mag")
    assert sum(c["n_injected"] for c in total) == pytest.approx(192, abs=6)
    assert any(c["p_selected"] is not None for c in total)
    assert one(db, "select count(*) from corrected_count where x_name = 'total_mag'") == 3
    some = [c for c in cells(done) if c["p_selected"] is not None]
    assert len(some) > 36, "of 28 planes of 9 cells and 8 lines of 3"
    assert all(0 <= c["p_lo"] <= c["p_selected"] <= c["p_hi"] <= 1 for c in some)
    assert any(c["p_selected"] is None and (c["p_lo"], c["p_hi"]) == (0, 1) for c in cells(done))
    assert run(db, config).measurement_id == done.measurement_id
    assert one(db, "select count(*) from target") == 192


def test_graded_stage_counts_what_people_accept(db: str) -> None:
    simulate_lenses(db, 128, seed=8)
    config = MeasureConfig(stage="cut", mode="rows", selection="injections", bins=3, bins_line=3)
    cut = run(db, config)
    found = [r["target_id"] for r in rows(db, "select target_id from image_candidate order by target_id")]
    assert 20 < len(found) < 128
    assert cut.n_selected == len(found)
    now = one(db, "select now()")
    graded = found[: len(found) // 2]
    with connect_engine(db).begin() as conn:
        upsert_rows(
            conn, reviewer, [{"reviewer_id": 1, "name": "ann", "is_adjudicator": False}], ["reviewer_id"]
        )
        upsert_rows(conn, calibrator, [{"target_id": t, "is_lens": True} for t in graded], ["target_id"])
        upsert_rows(
            conn,
            grade,
            [
                {
                    "grade_id": hashed_id("grade", t),
                    "target_id": t,
                    "reviewer_id": 1,
                    "grade": "B" if i % 4 else "X",
                    "graded_at": now,
                    "is_calibrator": True,
                    "is_adjudication": False,
                }
                for i, t in enumerate(graded)
            ],
            ["grade_id"],
        )
    config = MeasureConfig(stage="graded", mode="rows", selection="injections", bins=3, bins_line=3)
    done = run(db, config)
    assert done.n_selected == sum(1 for i in range(len(graded)) if i % 4)
    pairs = [
        (after["p_selected"], first["p_selected"])
        for after, first in zip(line(done, "theta_e_arcsec"), line(cut, "theta_e_arcsec"), strict=True)
        if after["p_selected"] is not None and first["p_selected"] is not None
    ]
    share, before = zip(*pairs, strict=True)
    assert 0 < np.mean(share) < np.mean(before)
    assert np.mean(share) == pytest.approx(0.75 * np.mean(before), rel=0.35)


def put_cells(db: str, stage: str = "scored") -> None:
    """A measured line of total magnitude, and real targets that a model has scored."""
    from benchmarks.generated_images import add_images, plain_images
    from scoring.run import score

    add_images(db, [("images0", plain_images(40, seed=3))])
    score(db, "annulus_for_tests", "all_images", backend="torch")
    model_id = one(db, "select model_id from model")
    p = [(18.0, 20.0, 0.5, 0.4, 0.6), (20.0, 22.0, 0.0, 0.0, 0.1), (22.0, 24.0, None, 0.0, 1.0)]
    with connect_engine(db).begin() as conn:
        upsert_rows(
            conn,
            selection_function,
            [
                {
                    "cell_id": i,
                    "measurement_id": 5,
                    "model_id": model_id,
                    "stage": stage,
                    "mode": "population",
                    "instrument": None,
                    "band": "i",
                    "threshold": 0.0,
                    "x_name": "total_mag",
                    "x_lo": lo,
                    "x_hi": hi,
                    "n_injected": 100,
                    "p_selected": share,
                    "p_lo": p_lo,
                    "p_hi": p_hi,
                }
                for i, (lo, hi, share, p_lo, p_hi) in enumerate(p)
            ],
            ["cell_id"],
        )
        ids = [r[0] for r in conn.execute(sa.select(target.c.target_id).order_by(target.c.target_id))]
        mags = [19.0] * 16 + [20.0] * 9 + [24.0] * 5 + [30.0] * 10
        upsert_rows(
            conn,
            phot_obj,
            [{"target_id": t, "mag_i": m} for t, m in zip(ids, mags, strict=True)],
            ["target_id"],
            update=["mag_i"],
        )


def test_corrected_count_divides_by_completeness(db: str) -> None:
    put_cells(db)
    found = rows(db, "select * from corrected_count order by x_lo")
    assert [r["n_candidate"] for r in found] == [16, 9, 5]
    assert found[0]["n_corrected"] == 32
    # Poisson error 4 of 16, and 0.1 / 1.96 on 0.5
    want = 32 * np.hypot(4 / 16, 0.2 / (2 * 1.959964) / 0.5)
    assert found[0]["n_corrected_err"] == pytest.approx(want)
    for r in found[1:]:
        assert (r["n_corrected"], r["n_corrected_err"]) == (None, None)


def radius_as_redshift(db: str) -> None:
    """Prior thesis_grid, the quick one, has no redshifts: the line of effective radii stands for one."""
    c = selection_function.c
    with connect_engine(db).begin() as conn:
        conn.execute(
            selection_function.update()
            .where(c.x_name == "lens_r_eff_arcsec", c.y_name.is_(None))
            .values(x_name="z_lens")
        )


@pytest.mark.parametrize(("option", "camera"), [("acs50", "acs"), ("euclid", "vis")])
def test_simulated_and_real_cutouts_of_a_camera_have_one_name(db: str, option: str, camera: str) -> None:
    from benchmarks.generated_images import add_images, plain_images
    from scoring.run import score

    few = MeasureConfig(
        mode="population", prior="thesis_grid", instrument=option, n=16, bins=2, bins_line=2, min_per_cell=2
    )
    assert measure(db, "middle_for_tests", few, backend="torch").instrument == camera
    radius_as_redshift(db)
    # real cutouts of that camera, and as many of another, all with a redshift that the cells cover
    add_images(db, [("images0", plain_images(12, seed=3))])
    lo, hi = rows(
        db,
        "select min(x_lo), max(x_hi) from completeness where x_name = 'z_lens' and y_name is null",
    )[0].values()
    z = 0.5 * (lo + hi)
    real = [
        r["target_id"] for r in rows(db, "select target_id from target where not is_injection order by 1")
    ]
    with connect_engine(db).begin() as conn:
        for name, some in ((camera, real[:7]), ("megacam", real[7:])):
            conn.execute(cutout.update().where(cutout.c.target_id.in_(some)).values(instrument=name))
        upsert_rows(conn, phot_obj, [{"target_id": t, "z_phot": z} for t in real], ["target_id"])
    score(db, "middle_for_tests", "all_images", backend="torch")
    assert one(db, "select count(*) from current_image_score where probability >= 0.5") == 16 + 12
    sums = "select mode, sum(n_candidate) as n from corrected_count where x_name = 'z_lens' group by mode"
    assert rows(db, sums) == [{"mode": "population", "n": 7}]
    # injections at hand say themselves what they are of
    some = MeasureConfig(mode="rows", selection="injections", bins=2, bins_line=2, min_per_cell=2)
    assert measure(db, "middle_for_tests", some, backend="torch").instrument == camera
    radius_as_redshift(db)
    assert {r["mode"]: r["n"] for r in rows(db, sums)} == {"population": 7, "rows": 7}
    # phot_obj has no magnitude of VIS: no count of candidates by it, rather than one of none
    by_mag = one(db, "select count(*) from corrected_count where x_name = 'total_mag'")
    assert (by_mag == 0) == (camera == "vis")


def test_injections_of_two_cameras_are_not_one_selection_function(db: str) -> None:
    simulate_lenses(db, 8, prior="thesis_grid", seed=1)
    simulate_lenses(db, 8, prior="thesis_grid", seed=2)
    with connect_engine(db).begin() as conn:
        conn.execute(sa.text("update cutout set instrument = 'decam' where shard_row < 4"))
    with pytest.raises(UserError, match="injections are of instruments decam, hsc; select those of one"):
        measure(
            db,
            "middle_for_tests",
            MeasureConfig(mode="rows", selection="injections", bins=2, bins_line=2, min_per_cell=2),
            backend="torch",
        )


def test_injections_of_two_priors_are_not_one_selection_function(db: str) -> None:
    simulate_lenses(db, 8, prior="thesis_grid", seed=1)
    simulate_lenses(db, 8, prior="collett2015", seed=1)
    config = MeasureConfig(mode="rows", selection="injections", bins=2, bins_line=2, min_per_cell=1)
    with pytest.raises(UserError, match=r"are of priors collett2015, thesis_grid; .*starts_with"):
        measure(db, "middle_for_tests", config, backend="torch")
    add_selection(db, "grid", "starts_with(native_id, 'thesis_grid-')")
    assert measure(db, "middle_for_tests", replace(config, selection="grid"), backend="torch").n_injected == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 500}, "cells in the first round, needed are 2"),
        ({"instrument": "acs"}, "cannot take acs: it needs i"),
        ({"npix": 32}, "cover 25% of its field"),
        ({"stage": "seen"}, "--stage seen: allowed are scored, cut, graded"),
        ({"mode": "cube"}, "--mode cube"),
        ({"stage": "graded"}, "stage graded needs injections that people have graded"),
        ({"mode": "rows"}, "name them: --selection"),
        ({"threshold": 1.5}, "allowed is a probability"),
        ({"stage": "cut", "threshold": 0.9}, "--threshold goes with --stage scored"),
        ({"fix": {"lens_mass": 1.0}}, "--fix lens_mass: no such parameter"),
        ({"fix": {"theta_e_arcsec": 60.0}}, "allowed is 0.1 to 6"),
        ({"bins": 1}, "--bins 1"),
        ({"mode": "population", "n": 20}, "lenses are 2.2 to each of 3 x 3 cells"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_injected(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    import dataclasses

    file = str(tmp_path / "x.duckdb")
    upgrade(file)
    least = {"min_per_cell": 5.0} if change.get("mode") == "population" else {}
    with pytest.raises(UserError, match=message):
        run(file, dataclasses.replace(SMALL, **(change | least)))
    assert one(file, "select count(*) from target") == 0


def test_a_selection_without_injections_and_a_model_without_weights(db: str, tmp_path: Path) -> None:
    simulate_lenses(db, 0, n_nonlenses=4)
    add_selection(db, "others", "is_injection")
    with pytest.raises(UserError, match="holds no injected lens of a population"):
        run(db, MeasureConfig(mode="rows", selection="others"))
    with pytest.raises(UserError, match="weights not found"):
        measure(db, "eznet", SMALL, weights=str(tmp_path / "none.safetensors"))


def test_command_figure_and_table(tmp_path: Path) -> None:
    from lensmine import app

    file = str(tmp_path / "x.duckdb")
    upgrade(file)
    figure, table = tmp_path / "figure.png", tmp_path / "table.txt"
    command = ["selection-function", "annulus_for_tests", "--n", "900", "--bins", "3", "--bins-line", "3"]
    more = ["--backend", "torch", "--db", file]
    refused = CliRunner().invoke(app, [*command, *more, "--plot", str(tmp_path / "figure.gif")])
    assert isinstance(refused.exception, UserError)
    few = CliRunner().invoke(app, [*command, *more])
    assert "needed are 5: give --n 1530" in str(few.exception)
    command[3] = "1530"
    done = CliRunner().invoke(
        app, [*command, *more, "--plot", str(figure), "--table", str(table), "--json", "--fix", "arc_mag=21"]
    )
    assert done.exit_code == 0, (done.output, done.exception)
    result = json.loads(done.stdout)
    assert result["n_injected"] == 1530
    assert len(result["cells"]) == 15 * 9 + 6 * 3
    assert figure.stat().st_size > 20_000
    lines = table.read_text().splitlines()
    assert len(lines) == 3 + len(result["cells"])
    assert lines[2].split()[:3] == ["x", "x_lo", "x_hi"]
    shown = CliRunner().invoke(app, [*command, *more, "--fix", "arc_mag=21"]).stdout
    assert "injected lenses selected" in shown
    assert "theta_e_arcsec" in shown
