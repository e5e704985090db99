"""Two versions of one model in a database: the lists hold what the version in force said of each object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ingest_state import select
from safetensors.torch import load_file, save_file
from search_rows import MODEL, Search, good_fit

import scoring
from benchmarks.generated import add_spectra, plain_spectra
from schema.engine import read_frame
from schema.errors import UserError
from schema.tables import cutout, image_score, metadata, model, scoring_run, target
from schema.upsert import insert_rows
from scoring.run import score as score_spectra

NEWER, OTHER = 8, 9


def version(model_id: int, name: str = "m", threshold: float = 0.5) -> dict[str, Any]:
    return {
        "model_id": model_id, "name": name, "preprocessing_hash": "p", "weights_hash": f"w{model_id}",
        "threshold": threshold,
    }  # fmt: skip


@pytest.fixture
def search(db: str) -> Search:
    made = Search(db)
    made.rows["model"] += [version(NEWER), version(OTHER, "other")]
    made.rows["scoring_run"] += [
        {"run_id": 2, "model_id": NEWER, "status": "done"},
        {"run_id": 3, "model_id": OTHER, "status": "done"},
    ]
    return made


def again(search: Search, target_id: int, model_id: int, run_id: int, probability: float) -> None:
    """The spectrum of a target scored by another version, with a fit of its own."""
    was = next(s for s in search.rows["score"] if s["target_id"] == target_id)
    search.rows["score"].append({**was, "model_id": model_id, "run_id": run_id, "probability": probability})
    fit = good_fit(target_id, was["wave_angstrom"], model_id=model_id, fit_id=10_000 * model_id + target_id)
    search.rows["line_fit"].append(fit)


def pairs(search: Search, view: str) -> list[tuple[int, int]]:
    with search.engine.connect() as conn:
        frame = read_frame(conn, f"select target_id, model_id from {view} order by target_id, model_id")
    return [(int(t), int(m)) for t, m in zip(frame.target_id, frame.model_id, strict=True)]


def test_a_target_is_listed_once_by_the_version_that_scored_it_last(search: Search) -> None:
    for k, wave in enumerate((4100.0, 4200.0, 4300.0, 4400.0), 1):
        search.hit(k, wave)
    again(search, 1, NEWER, 2, 0.8)  # found by both
    again(search, 2, NEWER, 2, 0.1)  # a false candidate of the older weights
    again(search, 3, OTHER, 3, 0.8)  # another model is no version of this one
    search.write()
    listed = [(1, NEWER), (3, MODEL), (3, OTHER), (4, MODEL)]
    for view in ("hit", "hit_fit", "hit_cut", "candidate"):
        assert pairs(search, view) == listed, view


def ran_again(search: Search) -> None:
    """The older version has a run that found nothing left to score."""
    with search.engine.begin() as conn:
        insert_rows(conn, scoring_run, [{"run_id": 5, "model_id": MODEL, "status": "done", "n_todo": 0}])


def test_older_weights_that_run_again_are_listed_again(search: Search, db: str) -> None:
    """Where they have a score; what newer weights alone have scored stays theirs."""
    from scoring.explain import explain
    from scoring.selfunc.outcome import read_outcomes

    for k, wave in enumerate((4100.0, 4200.0, 4300.0), 1):
        search.hit(k, wave, lens=k == 1)
    again(search, 1, NEWER, 2, 0.1)
    again(search, 2, NEWER, 2, 0.8)
    search.rows["score"][2] |= {"model_id": NEWER, "run_id": 2}
    search.rows["line_fit"][2] |= {"model_id": NEWER}
    search.write()
    assert pairs(search, "candidate") == [(2, NEWER), (3, NEWER)]
    ran_again(search)
    for view in ("listed_score", "hit", "hit_cut", "candidate"):
        assert pairs(search, view) == [(1, MODEL), (2, MODEL), (3, NEWER)], view
    with search.engine.connect() as conn:
        rows = read_frame(conn, "select * from attrition where step = 'hit' order by model_id")
    assert list(rows.n_in) == list(rows.n_out) == [2, 1]
    said = {v["model_id"]: v["verdict"] for v in explain(db, "1-2-1", "m")["verdicts"]}
    assert said == {MODEL: "candidate", NEWER: "superseded"}
    assert read_outcomes(db, MODEL, "spectrum", "cut", 0.5, "true").reached.all()


def test_scoring_with_older_weights_again_puts_them_in_force(db: str, tmp_path: Path) -> None:
    """Also where they have nothing left to score, once."""
    weights = Path(scoring.__file__).parent / "weights" / "snr_lae.safetensors"
    tensors = load_file(weights)
    first = next(name for name, t in tensors.items() if t.is_floating_point())
    tensors[first] = tensors[first] * 1.01
    save_file(tensors, tmp_path / "own.safetensors")
    add_spectra(db, iter([("part", plain_spectra(6, 1))]))
    runs = "select model_id, n_scored, n_todo from scoring_run order by run_id"
    listed = "select distinct model_id from listed_score"
    for given in ("shipped", str(tmp_path / "own.safetensors"), "shipped", "shipped"):
        score_spectra(db, "snr_lae", "all_spectra", backend="torch", weights=given)
    (older, *_), (newer, *_), last = select(db, runs)
    assert older != newer
    assert last == (older, 0, 0)
    assert select(db, listed) == [(older,)]


def test_a_later_score_of_other_pixels_supersedes_nothing(search: Search) -> None:
    search.hit(1, 4100.0)
    again(search, 1, NEWER, 2, 0.1)
    search.rows["score"][-1]["content_hash"] = "pixels that were replaced since"
    search.hit(2, 4200.0)
    again(search, 2, NEWER, 2, 0.1)
    search.rows["score"][-1]["z_used"] = 0.1
    search.write()
    assert pairs(search, "candidate") == [(1, MODEL), (2, MODEL)]


def test_attrition_counts_every_target_once(search: Search) -> None:
    for k, wave in enumerate((4100.0, 4200.0, 4300.0), 1):
        search.hit(k, wave, lens=k == 1)
    again(search, 1, NEWER, 2, 0.8)
    again(search, 2, NEWER, 2, 0.1)
    search.write()
    with search.engine.connect() as conn:
        rows = read_frame(conn, "select * from attrition where step = 'hit' order by model_id")
    assert list(rows.model_id) == [MODEL, NEWER]
    assert list(rows.n_in) == [1, 2]
    assert list(rows.n_out) == [1, 1]
    assert list(rows.n_in_injected) == [0, 1]


def test_images_are_listed_by_the_last_version_and_ranked_by_each(search: Search) -> None:
    with search.engine.begin() as conn:
        insert_rows(conn, metadata.tables["image_shard"], [{"shard_id": 5, "name": "i"}])
        insert_rows(conn, model, [version(MODEL), version(NEWER)])
        runs = [{"run_id": r, "model_id": m, "status": "done"} for r, m in ((1, MODEL), (2, NEWER))]
        insert_rows(conn, scoring_run, runs)
        rows, cuts, scores = [], [], []
        for k in (1, 2, 3):
            rows.append({"target_id": k, "survey": "hsc", "native_id": str(k), "ra_deg": 1.0, "dec_deg": 1.0,
                         "hpx29": 0, "is_injection": False})  # fmt: skip
            cuts.append({"cutout_id": k, "target_id": k, "shard_id": 5, "shard_row": k, "bands": "i",
                         "ny": 9, "nx": 9, "content_hash": "a", "is_primary": True})  # fmt: skip
            scores.append({"cutout_id": k, "model_id": MODEL, "run_id": 1, "target_id": k,
                           "content_hash": "a", "probability": 0.9})  # fmt: skip
        later = [
            {**scores[k], "model_id": NEWER, "run_id": 2, "probability": p} for k, p in ((0, 0.8), (1, 0.1))
        ]
        for table, some in ((target, rows), (cutout, cuts), (image_score, scores + later)):
            insert_rows(conn, table, some)
    assert pairs(search, "image_candidate") == [(1, NEWER), (3, MODEL)]
    ran_again(search)
    assert pairs(search, "image_candidate") == [(1, MODEL), (2, MODEL), (3, MODEL)]
    assert pairs(search, "ranked") == [(1, MODEL), (1, NEWER), (2, MODEL), (2, NEWER), (3, MODEL)]


def test_explain_says_that_a_version_was_superseded(search: Search, db: str) -> None:
    from scoring.explain import explain

    search.hit(1, 4100.0)
    again(search, 1, NEWER, 2, 0.1)
    search.write()
    said = {v["model_id"]: v for v in explain(db, "1-2-1", "m")["verdicts"]}
    assert said[MODEL]["verdict"] == "superseded"
    assert "w8, scored it and ran since" in said[MODEL]["reason"]
    assert said[NEWER]["verdict"] == "not a hit"


def test_figures_of_a_run_are_those_of_what_is_listed(search: Search, db: str) -> None:
    """The older version keeps one simulated lens; when it runs again, it has all four."""
    from scoring.evaluate.stored import evaluate_stored

    for k in range(1, 5):
        search.hit(k, 4000.0 + 100 * k, lens=True)
        search.rows["injection"][-1] |= {"line_flux": 10.0, "wave_angstrom": 4000.0 + 100 * k}
    search.hit(9, 4900.0)
    for k in range(1, 4):
        again(search, k, NEWER, 2, 0.9 if k < 3 else 0.1)
    search.write()
    found = evaluate_stored(db, "m")
    assert found.model_id == NEWER
    assert found.n_positive == 3
    assert [m.value for m in found.curve("completeness_after")] == pytest.approx([2 / 3] * 12)
    ran_again(search)
    found = evaluate_stored(db, "m")
    assert (found.model_id, found.n_positive) == (MODEL, 4)
    assert [m.value for m in found.curve("completeness_after")] == [1.0] * 12


def test_curves_stand_at_a_rate_of_false_positives_beside_the_threshold(search: Search, db: str) -> None:
    """Ten faint lenses below the threshold, but above all of the negatives."""
    from scoring.evaluate.stored import evaluate_stored

    for k in range(20):
        search.hit(k, 3850.0 + 50 * k, lens=True, probability=0.9 if k < 10 else 0.4)
        search.rows["injection"][-1] |= {
            "line_flux": 12.0 if k < 10 else 7.0,
            "wave_angstrom": 3850.0 + 50 * k,
        }
    for k in range(30):
        search.hit(100 + k, 4000.0 + 10 * k, probability=0.01 + 0.01 * k)
        search.rows["injection"].append({"target_id": 100 + k, "is_lens": False})
    search.write()
    found = evaluate_stored(db, "m")
    assert [(m.x, m.value) for m in found.curve("completeness_flux")] == [(7.5, 0.0), (12.5, 1.0)]
    assert [(m.x, m.value) for m in found.curve("completeness_flux_fpr")] == [(7.5, 1.0), (12.5, 1.0)]
    waves = found.curve("completeness_wave_fpr")
    assert sum(m.n for m in waves) == 20
    assert {m.value for m in waves} == {1.0}


def test_completeness_after_the_cuts_needs_the_version_that_is_listed(search: Search, db: str) -> None:
    from scoring.selfunc.outcome import read_outcomes

    for k in (1, 2):
        search.hit(k, 4000.0 + 100 * k, lens=True)
    again(search, 1, NEWER, 2, 0.9)
    search.write()
    assert read_outcomes(db, MODEL, "spectrum", "scored", 0.5, "true").reached.all()
    assert read_outcomes(db, MODEL, "spectrum", "cut", 0.5, "target_id = 2").reached.all()
    with pytest.raises(UserError, match="another version of the model has scored 1 of"):
        read_outcomes(db, MODEL, "spectrum", "cut", 0.5, "true")
