"""Which objects a queue has and in what order; the address that keeps it."""

from __future__ import annotations

import numpy as np
import pytest
import sqlalchemy as sa
from dashboard_data import N_IMAGE, N
from dashboard_sessions import IMAGES, searched

from dashboard import store
from dashboard.queues import QueueSpec, load_order, mixed, queue_sql
from dashboard.store import Grade
from schema.engine import connect_engine
from schema.errors import UserError


@pytest.fixture
def search(db):
    return searched(db)


@pytest.fixture
def ada(db, search):
    return store.ensure_reviewer(db, "Ada")


def test_order_by_probability_shuffle_and_spread(db, search):
    order = load_order(db, IMAGES)
    best = np.argsort(-search.probability)
    assert order.target_id.tolist() == [search.ids[k] for k in best]
    one = load_order(db, QueueSpec(source="image_candidate", model="first", order="shuffled", seed=1))
    two = load_order(db, QueueSpec(source="image_candidate", model="first", order="shuffled", seed=2))
    assert sorted(one.target_id) == sorted(two.target_id) == sorted(order.target_id)
    assert one.target_id.tolist() != two.target_id.tolist()
    assert one.target_id.tolist() == sorted(one.target_id.tolist(), key=lambda t: mixed(np.array([t]), 1)[0])
    with connect_engine(db, read_only=True).connect() as conn:
        query = (
            "select target_id, max(probability) - min(probability) as d from image_score group by target_id"
        )
        spread = dict(conn.execute(sa.text(query)).all())
    apart = load_order(db, QueueSpec(source="image_candidate", model="first", order="spread"))
    found = [spread[t] for t in apart.target_id.tolist()]
    assert found == sorted(found, reverse=True)


def test_a_selection_is_a_queue_and_holds_what_nothing_scored(db, search):
    order = load_order(db, QueueSpec(source="selection:everything"))
    assert len(order.target_id) == N
    assert order.is_known.sum() == 1
    with pytest.raises(UserError, match="there are: everything"):
        load_order(db, QueueSpec(source="selection:nothing"))


def test_scores_of_older_pixels_do_not_order_a_queue(db, search):
    with connect_engine(db).begin() as conn:
        conn.execute(
            sa.text("update image_score set content_hash = 'old', probability = 1 where model_id = 12")
        )
    for source in ("image_candidate", "selection:everything"):
        with connect_engine(db, read_only=True).connect() as conn:
            query = queue_sql(conn, QueueSpec(source=source))
            assert conn.execute(sa.text(f"select max(spread) from ({query}) as q")).scalar() == 0
        best = load_order(db, QueueSpec(source=source))
        at = dict(zip(best.target_id.tolist(), best.probability.tolist(), strict=True))
        assert [at[t] for t in search.ids[:N_IMAGE]] == pytest.approx(search.probability.tolist())


def test_a_model_narrows_selections_and_disagreements_to_what_it_scored(db, search, ada):
    with connect_engine(db).begin() as conn:
        conn.execute(sa.text("delete from image_score where model_id = 11 and cutout_id > 5"))
        conn.execute(sa.text("update cut_setting set value = 2 where name = 'review_disagreement'"))
    for who, letter in ((ada, "A"), (store.ensure_reviewer(db, "Bo"), "X")):
        for k in (2, 20):
            store.save_grade(db, who.reviewer_id, Grade(search.ids[k], letter, f"{k}{who.name}"))
    order = load_order(db, QueueSpec("selection:everything", "first"))
    assert set(order.target_id.tolist()) == set(search.ids[:5])
    assert order.probability.tolist() == sorted(search.probability[:5].tolist(), reverse=True)
    assert set(load_order(db, QueueSpec("disagreement")).target_id.tolist()) == {
        search.ids[2],
        search.ids[20],
    }
    assert load_order(db, QueueSpec("disagreement", "first")).target_id.tolist() == [search.ids[2]]


def test_the_proposed_queue_has_each_target_once(db, search):
    order = load_order(db, QueueSpec())
    assert len(order.target_id) == len(set(order.target_id.tolist())) == N_IMAGE


def test_the_address_keeps_the_queue():
    spec = QueueSpec("selection:everything", "first", "shuffled", 42, False, True, True)
    assert QueueSpec.from_query(spec.as_query()) == spec
    assert QueueSpec().as_query() == {}
    assert QueueSpec.from_query({"order": "nonsense"}) == QueueSpec()
    for seed in ("--5", "-", "²", "1e3", "", "9" * 40, str(2**53)):
        assert QueueSpec.from_query({"seed": seed, "order": "shuffled"}) == QueueSpec(order="shuffled")
    for seed in (-5, 0, 2**53 - 1):
        assert QueueSpec.from_query({"seed": str(seed)}).seed == seed
    assert QueueSpec.from_query({"seed": "x; drop table", "source": "grade"}) == QueueSpec()
