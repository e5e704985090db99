"""Tracers, ranking in the thesis's two definitions, and models against test sets of images."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from scoring_runs import number, rows
from typer.testing import CliRunner

from benchmarks.generated import add_spectra, plain_spectra
from benchmarks.generated_images import add_images, plain_images
from schema.engine import connect_engine
from schema.errors import UserError
from schema.ids import hashed_id
from schema.tables import (
    cutout,
    image_score,
    injection,
    known_lens,
    known_lens_cell,
    model,
    scoring_run,
    target,
)
from schema.upsert import upsert_rows
from scoring.evaluate import metrics
from scoring.evaluate.images import evaluate_images
from scoring.evaluate.images_figures import image_figures
from scoring.evaluate.tracers import add_tracers, evaluate_trc, list_tracers, places, ranking_figures
from scoring.explain import explain
from scoring.run import score
from scoring.selection import add_selection

RNG = np.random.default_rng(4)


def named(found: list) -> dict[str, float]:
    return {m.name: m.value for m in found}


# ---------------------------------------------------------------------- figures


def test_a_constant_model_ranks_nothing() -> None:
    label = np.arange(200) < 20
    got = named(ranking_figures(label, np.full(200, 0.3)))
    assert got["ranking_performance"] == got["ranking_performance_half"] == 0.0
    assert got["inspect_all"] == got["inspect_90"] == 1.0  # no end of the list may be left out


def test_a_perfect_model_in_both_definitions() -> None:
    label = np.arange(100) < 20
    got = named(ranking_figures(label, -np.arange(100.0)))
    assert (
        got["ranking_performance"] == 1.0
    )  # section 4.6: over the area of a perfect classifier of this list
    assert got["ranking_performance_half"] == pytest.approx(0.8)  # section 2.4: over one half
    assert got["inspect_all"] == 0.2
    assert got["inspect_90"] == 0.18
    reversed_ = named(ranking_figures(label, np.arange(100.0)))
    assert reversed_["ranking_performance"] == -1.0


@pytest.mark.parametrize("levels", [3, 1000])
def test_ranking_agrees_with_the_area_under_the_curve_with_ties(levels: int) -> None:
    label = RNG.random(500) < 0.1
    value = np.floor((RNG.normal(0, 1, 500) + label) * levels / 6)
    got = named(ranking_figures(label, value))
    assert got["ranking_performance"] == pytest.approx(2 * metrics.roc_area(label, value) - 1)
    assert got["ranking_performance"] == pytest.approx(metrics.ranking_performance(label, value))
    assert got["ranking_performance_half"] == pytest.approx(metrics.ranking_performance(label, value, "half"))
    # section 4.6 by its own words: the mean ordinality of tracers, equals sharing the mean of their places
    ordinality, n, k = metrics.ordinality(value), len(label), int(label.sum())
    area = ordinality[label].mean() - 0.5 * (n + 1) / n
    assert got["ranking_performance"] == pytest.approx(area / (0.5 * (1 - k / n)))


def test_equals_are_read_to_their_end() -> None:
    outranked, depth = places(np.array([1, 0, 1, 0, 0], dtype=bool), np.array([0.9, 0.5, 0.5, 0.5, np.nan]))
    assert outranked.tolist() == [0.0, pytest.approx(1 / 3)]
    assert depth.tolist() == [0.2, 0.8]


def test_intervals_of_a_ranking_hold_the_truth_about_as_often_as_they_say() -> None:
    """Scores of two normals one sigma apart: the true area under the curve is known."""
    truth, inside = 2 * 0.7602499 - 1, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        label = np.arange(3000) < 60
        found = ranking_figures(label, rng.normal(label * 1.0, 1), seed)[0]
        inside += found.lo <= truth <= found.hi
    assert 50 <= inside <= 60


def test_challenge_figures_by_hand() -> None:
    label = np.array([1] * 5 + [0] * 100, dtype=bool)
    value = np.concatenate([[0.99, 0.97, 0.955, 0.5, 0.0], np.linspace(0.96, 0.01, 100)])
    got = named(image_figures(label, value))
    assert got["tpr0"] == 0.4  # 0.99 and 0.97 stand above every other
    assert got["tpr10"] == 0.6
    assert got["completeness_fpr_1e-02"] == 0.6  # one of a hundred may be a hit
    assert np.isnan(got["completeness_fpr_1e-03"])
    assert got["roc_area"] == pytest.approx(metrics.roc_area(label, value))
    told = next(m for m in image_figures(label, value) if m.name == "completeness_fpr_1e-03")
    assert told.n == 100  # the negatives that were too few
    tied = named(image_figures(label, np.full(105, 0.5)))
    assert (tied["roc_area"], tied["tpr0"], tied["tpr10"]) == (0.5, 0.0, 0.0)


# ---------------------------------------------------------------------- from the database


def enter(db: str, name: str, probability: dict[int, float]) -> int:
    """A model with scores of these cutouts, as a run leaves them."""
    model_id, run_id = hashed_id("model", name), hashed_id("run", name)
    now = datetime.datetime.now(datetime.UTC)
    with connect_engine(db).begin() as conn:
        mine = {
            "model_id": model_id,
            "name": name,
            "preprocessing_hash": "p",
            "weights_hash": "w",
            "threshold": 0.5,
        }
        conn.execute(model.insert(), [mine])
        conn.execute(
            scoring_run.insert(),
            [
                {
                    "run_id": run_id,
                    "model_id": model_id,
                    "status": "done",
                    "modality": "image",
                    "started_at": now,
                }
            ],
        )
        found = conn.execute(sa.select(cutout.c.cutout_id, cutout.c.target_id, cutout.c.content_hash)).all()
        conn.execute(
            image_score.insert(),
            [
                {"cutout_id": c, "model_id": model_id, "run_id": run_id, "target_id": t, "content_hash": h,
                 "probability": probability[t]}
                for c, t, h in found if t in probability
            ],
        )  # fmt: skip
    return model_id


def search(db: str) -> dict[str, list[int]]:
    """Challenge images, simulated ones, HST lenses by name and by position, and ordinary COSMOS sources."""
    for survey, n in (("bologna", 40), ("sim", 60), ("hst", 8), ("cosmos", 30)):
        add_images(db, iter([(survey, plain_images(n, 1, npix=8, bands=1))]), bands=("F814W",), survey=survey)
    t = target.c
    with connect_engine(db).begin() as conn:
        of = {
            survey: list(
                conn.execute(sa.select(t.target_id).where(t.survey == survey).order_by(t.native_id)).scalars()
            )
            for survey in ("bologna", "sim", "hst", "cosmos")
        }
        conn.execute(target.update().where(t.survey.in_(["bologna", "sim"])).values(is_injection=True))
        conn.execute(cutout.update().values(instrument="acs"))
        for survey in ("bologna", "sim"):
            truth = [{"target_id": key, "is_lens": k % 4 == 0} for k, key in enumerate(of[survey])]
            conn.execute(injection.insert(), truth)
        for k, key in enumerate(of["hst"][:5]):
            conn.execute(target.update().where(t.target_id == key).values(native_id=f"SDSSJ000{k}+0000"))
        ra, dec, hpx = conn.execute(
            sa.select(t.ra_deg, t.dec_deg, t.hpx29).where(t.target_id == of["hst"][5])
        ).one()
        lens = {"lens_id": 7, "name": "a known lens", "ra_deg": ra, "dec_deg": dec, "hpx29": hpx}
        conn.execute(known_lens.insert(), [lens])
        conn.execute(known_lens_cell.insert(), [{"lens_id": 7, "cell": hpx >> 36}])
    return of


def test_models_against_sets(db: str, tmp_path: Path) -> None:
    of = search(db)
    every = [key for keys in of.values() for key in keys]
    lens = {key for survey in ("bologna", "sim") for key in of[survey][::4]} | set(of["hst"][:6])
    add_tracers(db, "slacs", None, "survey = 'hst' and native_id like 'SDSSJ%'")
    rng = np.random.default_rng(0)
    good = {key: float(np.clip(0.25 + 0.5 * (key in lens) + rng.normal(0, 0.02), 0, 1)) for key in every}
    enter(db, "good", good)
    enter(db, "blind", dict.fromkeys(every, 0.5))
    found = evaluate_images(db, ["good", "blind"], ["bologna", "hst", "simulated"], lenses="slacs")
    sizes = {(e.name, e.model): (e.n_positive, e.n_negative) for e in found}
    assert sizes["images_bologna", "good"] == (10, 30)
    assert sizes["images_simulated", "blind"] == (15, 45)
    assert sizes["images_hst", "good"] == (6, 2 + 30 + 45)
    hst = next(e for e in found if (e.name, e.model) == ("images_hst", "good"))
    assert (hst.recipe["n_real_lenses"], hst.recipe["n_real_others"], hst.recipe["n_simulated_others"]) == (
        6,
        32,
        45,
    )
    for each in found:
        perfect = each.model == "good"
        assert each.get("roc_area").value == (1.0 if perfect else 0.5)
        assert each.get("ranking_performance").value == (1.0 if perfect else 0.0)
        assert each.get("tpr0").value == (1.0 if perfect else 0.0)
        assert np.isnan(each.get("completeness_fpr_1e-03").value)
    with pytest.raises(UserError, match="no test set of images is called 'hts'"):
        evaluate_images(db, ["good"], ["hts"])
    command = ["evaluate", "images", "good", "blind", "--out", str(tmp_path / "figures"), "--db", db]
    command += ["--lenses", "slacs"]
    said = invoke(*command)
    assert "not measurable with 30 negatives" in " ".join(said.split())
    assert "real HST cutouts of known lenses" in said
    assert number(db, "select count(*) from evaluation") == 6
    query = """
        select value from metric join evaluation using (evaluation_id) join model using (model_id)
        where metric.name = 'roc_area' and evaluation.name = 'images_hst' and model.name = 'blind'"""
    stored = rows(db, query)
    assert stored == [(0.5,)]
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"images_hst_roc.png", "images_bologna_tracer_recovery.pdf"} <= drawn


@pytest.mark.parametrize("set_name", ["hst", "ground"])
def test_no_image_is_a_lens_by_its_name(db: str, set_name: str) -> None:
    """A name proves nothing: what a lens search would call so and no catalogue lists is neither."""
    of = search(db)
    t = target.c
    with connect_engine(db).begin() as conn:
        if set_name == "ground":
            conn.execute(target.update().where(t.target_id.in_(of["hst"])).values(survey="hsc"))
            for k, key in enumerate(of["hst"][:5]):
                conn.execute(target.update().where(t.target_id == key).values(native_id=f"SL2SJ000{k}+00"))
    enter(db, "blind", dict.fromkeys(of["hst"], 0.5))
    (found,) = evaluate_images(db, ["blind"], [set_name])
    assert (found.n_positive, found.n_negative, found.recipe["n_left_out"]) == (1, 2, 5)
    # a user may state what they are
    add_tracers(db, "mine", None, "native_id like 'S%J000%'")
    (found,) = evaluate_images(db, ["blind"], [set_name], lenses="mine")
    assert (found.n_positive, found.n_negative, found.recipe["n_left_out"]) == (6, 2, 0)
    assert found.recipe["lenses"] == "mine"
    with pytest.raises(UserError, match="no set of tracers is called 'nine'; there are mine"):
        evaluate_images(db, ["blind"], [set_name], lenses="nine")


def test_without_a_catalogue_of_lenses_the_command_says_what_to_load(db: str) -> None:
    of = search(db)
    with connect_engine(db).begin() as conn:
        conn.execute(known_lens.delete())
        conn.execute(known_lens_cell.delete())
    enter(db, "blind", dict.fromkeys(of["hst"] + of["sim"], 0.5))
    with pytest.raises(UserError, match=r"no lens of hst.*5 images.*lensmine ingest lenses FILE.*--lenses"):
        evaluate_images(db, ["blind"], ["hst"])
    said = " ".join(invoke("evaluate", "images", "blind", "--sets", "hst,simulated", "--db", db).split())
    assert "5 images are called as lens searches call theirs" in said
    assert "lensmine ingest lenses FILE" in said


def test_sdss_galaxies_on_the_ground_are_ordinary_ones(db: str) -> None:
    """Every object of SDSS is called SDSSJ...; only HST looked at few others than lenses."""
    of = search(db)
    t = target.c
    with connect_engine(db).begin() as conn:
        conn.execute(target.update().where(t.target_id.in_(of["hst"])).values(survey="hsc"))
    enter(db, "blind", dict.fromkeys(of["hst"], 0.5))
    (found,) = evaluate_images(db, ["blind"], ["ground"])
    assert (found.n_positive, found.n_negative, found.recipe["n_left_out"]) == (1, 7, 0)


def invoke(*words: str) -> str:
    from lensmine import app

    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "300"}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_tracers_from_known_lenses_injections_and_a_condition(db: str) -> None:
    of = search(db)
    with connect_engine(db).begin() as conn:  # arcs put onto the cutout of a known lens lie where it lies
        query = sa.select(target).where(target.c.target_id == of["hst"][5])
        copy = dict(conn.execute(query).mappings().one()) | {
            "target_id": 5, "survey": "sim", "native_id": "onto-5", "is_injection": True
        }  # fmt: skip
        upsert_rows(conn, target, [copy], ["target_id"])
    added = add_tracers(db, "real", "known")
    assert (added.total, added.with_cutout, added.with_spectrum) == (1, 1, 0)
    assert add_tracers(db, "sim", "injections", "survey = 'sim'").total == 15
    assert add_tracers(db, "mine", None, "survey = 'hst'").added == 8
    again = add_tracers(db, "mine", None, "survey in ('hst', 'cosmos')")
    assert (again.added, again.total) == (30, 38)
    assert [row["origin"] for row in list_tracers(db)] == ["list", "known_lens", "injection"]
    assert number(db, "select target_id from tracer where name = 'real'") == of["hst"][5]
    with pytest.raises(UserError, match="no target fits"):
        add_tracers(db, "none", None, "survey = 'nowhere'")
    with pytest.raises(UserError, match="choose from known, injections"):
        add_tracers(db, "none", "graded")
    with pytest.raises(UserError, match="predicate refused"):
        add_tracers(db, "none", None, "1 = 1; drop table tracer")
    assert number(db, "select count(*) from tracer") == 54


def test_tracers_among_images(db: str, tmp_path: Path) -> None:
    of = search(db)
    every = [key for keys in of.values() for key in keys]
    value = {key: 0.01 * k / len(every) for k, key in enumerate(every)}
    for k, key in enumerate(
        of["hst"]
    ):  # six lenses on top, in the middle of the top, two below all the others
        value[key] = 0.9 + k / 100 if k < 6 else 0.0
    for key in of["cosmos"][:3]:
        value[key] = 0.925
    enter(db, "ranker", value)
    add_tracers(db, "slacs", None, "survey = 'hst' and native_id like 'SDSSJ%'")
    add_selection(db, "cosmos", "survey = 'cosmos'")
    found = evaluate_trc(db, "ranker", "slacs", "cosmos")
    # of five tracers three stand below three of thirty ordinary sources; the known lens is neither
    assert (found.n_positive, found.n_negative) == (5, 30)
    assert found.get("ranking_performance").value == pytest.approx(1 - 2 * (3 / 5 * 3 / 30))
    assert found.get("inspect_all").value == pytest.approx(8 / 35)
    everything = evaluate_trc(db, "ranker", "slacs")
    assert everything.n_negative == 30 + 2 + 30 + 45  # no simulated and no known lens
    hardest = evaluate_trc(db, "ranker", "slacs", "cosmos", last_ordinality=0.9)
    assert hardest.n_negative < found.n_negative
    assert hardest.n_positive == 5
    with pytest.raises(UserError, match="no tracers are called 'slac'; there are slacs"):
        evaluate_trc(db, "ranker", "slac")
    said = invoke("evaluate", "trc", "ranker", "--tracers", "slacs", "--out", str(tmp_path / "f"), "--db", db)
    assert "ranking performance" in said
    assert (tmp_path / "f" / "trc_tracer_recovery.png").stat().st_size > 10_000


def test_explain_says_what_models_made_of_an_image(db: str) -> None:
    of = search(db)
    value = {key: 0.01 * k for k, key in enumerate(of["hst"])}
    value[of["hst"][5]] = 0.9
    enter(db, "ranker", value)
    found = explain(db, str(of["hst"][5]))
    (verdict,) = found["images"]["verdicts"]
    assert (verdict["verdict"], verdict["place"], verdict["n_ranked"]) == ("candidate", 1.0, 8)
    assert [lens["name"] for lens in found["known_lenses"]] == ["a known lens"]
    assert found["verdicts"] == []  # a model of images has nothing to say of spectra
    (cut,) = explain(db, str(of["hst"][0]))["images"]["cutouts"]
    assert (cut["bands"], cut["nx"], cut["instrument"]) == ("F814W", 8, "acs")
    (other,) = explain(db, str(of["cosmos"][0]))["images"]["verdicts"]
    assert other["verdict"] == "not scored"
    with connect_engine(db).begin() as conn:
        conn.execute(cutout.update().values(content_hash="new pixels"))
    (stale,) = explain(db, str(of["hst"][0]))["images"]["verdicts"]
    assert stale["reason"] == "its score is of older pixels; score again"
    said = " ".join(invoke("explain", str(of["hst"][5]), "--db", db).split())
    assert "cutout: acs F814W, 8x8 pixels, 0.168 arcsec" in said
    assert "known lens a known lens at 0.00 arcsec" in said


def test_tracers_among_spectra(db: str) -> None:
    add_spectra(db, iter([("shard0", plain_spectra(120, seed=0))]))
    score(db, "matched_filter_lae", "all_spectra")
    add_tracers(db, "lines", None, "shard_row % 10 = 0")
    found = evaluate_trc(db, "matched_filter_lae", "lines")
    assert (found.n_positive, found.n_negative) == (12, 108)
    assert found.get("ranking_performance").value > 0.99
    assert found.get("inspect_all").value < 0.15
