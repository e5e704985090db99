"""What is known of an object, as the review shows it."""

from __future__ import annotations

import pytest
from dashboard_data import NOW, write_search

from dashboard import store
from dashboard.objects import load_objects
from schema.engine import connect_engine
from schema.tables import image_score, model, scoring_run
from schema.upsert import insert_rows


@pytest.fixture
def search(db):
    return write_search(db)


def test_of_a_models_versions_the_one_that_scored_last_counts(db, search):
    target = search.ids[0]
    before = store.reading(db, lambda conn: load_objects(conn, [target]))[target].scores
    assert [s["model"] for s in before if s["model"] == "first"] == ["first"]
    version = {
        "model_id": 13, "name": "first", "kind": "network", "preprocessing_hash": "p", "threshold": 0.5,
        "weights_hash": "later" * 4, "registered_at": NOW,
    }  # fmt: skip
    run = {
        "run_id": 900, "model_id": 13, "status": "done", "modality": "image", "n_selected": 1, "n_todo": 1,
        "n_scored": 1, "started_at": NOW,
    }  # fmt: skip
    one = store.reading(db, lambda conn: load_objects(conn, [target]))[target]
    content_hash = one.cutouts[0]["content_hash"]
    said = {
        "cutout_id": 1, "model_id": 13, "run_id": 900, "target_id": target, "content_hash": content_hash,
        "probability": 0.01,
    }  # fmt: skip
    with connect_engine(db).begin() as conn:
        insert_rows(conn, model, [version])
        insert_rows(conn, scoring_run, [run])
        insert_rows(conn, image_score, [said])
    scores = store.reading(db, lambda conn: load_objects(conn, [target]))[target].scores
    assert [(s["model_id"], s["probability"]) for s in scores if s["model"] == "first"] == [(13, 0.01)]


def test_scores_of_other_pixels_stand_behind_current_ones(db, search):
    target = search.ids[0]
    with connect_engine(db).begin() as conn:
        conn.execute(
            image_score.update()
            .where(image_score.c.target_id == target, image_score.c.model_id == 11)
            .values(content_hash="pixels of before", probability=1.0)
        )
    scores = store.reading(db, lambda conn: load_objects(conn, [target]))[target].scores
    current = [bool(s["is_current"]) for s in scores]
    assert current == sorted(current, reverse=True)
    assert not scores[-1]["is_current"]
    assert scores[-1]["probability"] == 1.0
