"""Disagreements: who settles them, and verdicts beside the grades."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from dashboard_sessions import IMAGES, searched

from dashboard import store
from dashboard.queues import QueueSpec, forget_orders
from dashboard.session import ReviewSession
from dashboard.store import Grade
from schema.engine import connect_engine
from schema.errors import UserError


@pytest.fixture
def search(db):
    return searched(db)


@pytest.fixture
def ada(db, search):
    return store.ensure_reviewer(db, "Ada")


def test_verdicts_and_grades_do_not_mix(db, search, ada):
    bo = store.ensure_reviewer(db, "Bo")
    for who, letter in ((ada, "A"), (bo, "X")):
        for k in (3, 4):
            store.save_grade(db, who.reviewer_id, Grade(search.ids[k], letter, f"{who.name}{k}"))
    store.save_grade(db, ada.reviewer_id, Grade(search.ids[5], "A", "agreed"))
    forget_orders()
    settling = ReviewSession(db, ada, QueueSpec(source="disagreement"))
    assert settling.mine == {}
    assert not settling.can_undo
    assert not settling.can_go_back
    first = settling.current.target_id
    settling.grade(settling.current.token, "B")
    forget_orders()
    again = ReviewSession(db, ada, QueueSpec(source="disagreement"))
    assert again.mine == {first: "B"}
    ordinary = ReviewSession(db, ada, IMAGES)
    assert ordinary.mine == {search.ids[3]: "A", search.ids[4]: "A", search.ids[5]: "A"}
    assert [ordinary.undo() for _ in range(4)] == ["A", "A", "A", None]
    assert again.undo() == "B"
    assert again.undo() is None


def test_disagreements_go_to_adjudicators_and_leave_when_settled(db, search, ada):
    bo, cy = store.ensure_reviewer(db, "Bo"), store.ensure_reviewer(db, "Cy")
    for who, letter in ((ada, "A"), (bo, "X"), (cy, "B")):
        store.save_grade(db, who.reviewer_id, Grade(search.ids[3], letter, f"d{who.name}"))
        store.save_grade(db, who.reviewer_id, Grade(search.ids[4], "A", f"s{who.name}"))
    forget_orders()
    spec = QueueSpec(source="disagreement")
    with pytest.raises(UserError, match="settled by adjudicators"):
        ReviewSession(db, bo, spec)
    session = ReviewSession(db, ada, spec)
    assert session.order.target_id.tolist() == [search.ids[3]]
    session.grade(session.current.token, "B")
    forget_orders()
    assert ReviewSession(db, ada, spec).current is None
    with connect_engine(db, read_only=True).connect() as conn:
        row = conn.execute(
            sa.text("select n_grade, grade_range, verdict from consensus order by grade_range desc")
        ).first()
    assert tuple(row) == (3, 3, "B")  # the verdict is beside the grades, not one of them
