"""The review page without a browser: what it shows and what its controls do, on both engines."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from dashboard_data import write_search
from streamlit.testing.v1 import AppTest

from dashboard import settings, store
from dashboard.calibration import choose_calibrators
from dashboard.queues import forget_orders
from schema.engine import connect_engine


@pytest.fixture(autouse=True)
def _main_module(monkeypatch):
    """Streamlit's test puts its script in the place of the main module, and leaves it there."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture
def search(db, tmp_path, monkeypatch):
    forget_orders()
    mine = settings.Settings(db=db, reviewer="Ada", picture_dir=tmp_path / "pictures", secret=b"s" * 32)
    monkeypatch.setattr(settings, "_current", mine)
    return write_search(db)


@pytest.fixture
def ada(db, search):
    return store.ensure_reviewer(db, "Ada")


def open_page(**address):
    """The review page as Ada, at an address."""

    def script():
        import streamlit as st

        from dashboard import store
        from dashboard.pages import review
        from dashboard.settings import current
        from dashboard.shell import failures

        with failures():
            st.session_state["reviewer"] = store.ensure_reviewer(current().db, "Ada")
            review.page()

    page = AppTest.from_function(script, default_timeout=60)
    for name, value in address.items():
        page.query_params[name] = str(value)
    page.run()
    assert not page.exception
    return page


def text(page):
    """Everything written on the page, but for its side."""
    return " ".join(str(e.proto) for e in page.main if hasattr(e, "proto"))


def rows(db, query):
    with connect_engine(db, read_only=True).connect() as conn:
        return [tuple(r) for r in conn.execute(sa.text(query))]


def test_another_number_of_stamps_keeps_those_not_graded(db, ada):
    page = open_page(**{"as": "mosaic"})
    page.session_state["mosaic_size"] = 20
    page.run()
    state, session = page.session_state["mosaic"], page.session_state["session"]
    shown = list(state["tokens"].values())
    assert len(shown) == 20
    for token in list(state["tokens"])[:5]:
        session.save(state["tokens"][token], "A", token, None)
        state["given"][token] = "A"
    page.session_state["mosaic_size"] = 50
    page.run()
    assert not page.exception
    now = list(page.session_state["mosaic"]["tokens"].values())
    assert now[:15] == shown[5:]
    assert len(now) == len(set(now)) == 29  # all 34 but the five


@contextlib.contextmanager
def out_of_reach(db):
    """A database that cannot be written to for a while."""
    if db.startswith("postgresql"):  # nobody is there whose comment it would be
        with connect_engine(db).begin() as conn:
            conn.execute(sa.text("delete from reviewer"))
        yield
        return
    file = Path(db)
    file.rename(file.with_suffix(".gone"))
    yield
    file.with_suffix(".gone").rename(file)


def test_a_comment_that_could_not_be_saved_can_be_saved_again(db, ada):
    page = open_page()
    target_id = page.session_state["session"].current.target_id
    with out_of_reach(db):
        page.text_input[0].set_value("an arc *here*").run()
    assert not page.exception
    page.run()
    assert rows(db, "select count(*) from review_note") == [(0,)]
    page.session_state["session"].skip(page.session_state["session"].current.token)
    page.run()  # it is not lost on the way either
    again = next(b for b in page.button if b.label == "Save again")
    again.click().run()
    assert rows(db, "select target_id, body from review_note") == [(target_id, "an arc *here*")]
    assert not any("Save again" in b.label for b in page.button)


def test_tags_of_another_tab_stay(db, ada):
    one, two = open_page(hide_graded="0"), open_page(hide_graded="0")
    target_id = one.session_state["session"].current.target_id
    for page in (one, two):
        page.session_state["session"].noted.add(target_id)
        page.run()
    tags(one, target_id).select("ring").run()
    assert rows(db, "select tag from review_note where removed_at is null") == [("ring",)]
    two.run()
    tags(two, target_id).select("arc").run()
    one.run()
    assert not one.exception
    assert set(rows(db, "select tag from review_note where removed_at is null")) == {("arc",), ("ring",)}
    assert tags(one, target_id).value == ["ring", "arc"]
    tags(one, target_id).unselect("ring").run()
    two.run()
    assert rows(db, "select tag from review_note where removed_at is null") == [("arc",)]


def tags(page, target_id):
    return next(g for g in page.get("button_group") if g.key == f"tags_{target_id}")


def blind(db, **how):
    """Calibrators mixed in at nearly every place."""
    choose_calibrators(db, injections=6, **how)
    with connect_engine(db).begin() as conn:
        conn.execute(sa.text("update cut_setting set value = 0.9 where name = 'review_calibration_rate'"))


def test_nothing_tells_a_calibrator_before_its_grade(db, search, ada):
    open_ = open_page(view="cuts=1")
    for word in ("Probability", "left in this queue", "<b>second</b>", "of 34"):
        assert word in text(open_), word
    blind(db, lenses="native_id = 'object-30'")
    page = open_page(view="cuts=1")
    session = page.session_state["session"]
    told = ("Probability", "left in this queue", "<b>second</b>", "of 34", "Known lens", "object-")
    for _ in range(6):
        before = text(page)
        assert not [word for word in told if word in before]
        on = session.current
        session.grade(on.token, "B")
        session.back()
        page.run()
        assert "Probability" in text(page)
        assert "of 34" in text(page)
        session.skip(session.current.token)
        page.run()
    session.reveal(session.current)
    page.run()
    assert "Probability" in text(page)


def test_stamps_tell_no_probability_while_calibrators_are_mixed_in(db, search, ada):
    captions = [f"{p:.3f} J" for p in search.probability]
    page = open_page(**{"as": "mosaic"})
    assert sum(c in text(page) for c in captions) > 10
    assert "more after this page" in text(page)
    blind(db)
    page = open_page(**{"as": "mosaic"})
    assert not any(c in text(page) for c in captions)
    assert "more after this page" not in text(page)


def test_the_cut_table_has_the_verdicts_on_images(db, search, ada):
    page = open_page(view="cuts=1", source="image_candidate")
    assert "<b>second</b>" in text(page)
    assert "of 34" in text(page)


def test_an_address_comes_back_to_its_object(db, ada):
    page = open_page(hide_graded="0")
    session = page.session_state["session"]
    for _ in range(3):
        session.skip(session.current.token)
    here, place = session.current.target_id, session.place().as_query()
    again = open_page(hide_graded="0", **place)
    assert again.session_state["session"].current.target_id == here
    assert again.session_state["session"].n_left == session.n_left == 31
    next(b for b in again.button if b.label == "Look for new objects").click().run()
    assert again.session_state["session"].n_left == 34
    for place in ({"at": "x"}, {"at": "9" * 30, "past": "-1"}, {"at": "1; drop", "past": "²"}):
        assert open_page(**place).session_state["session"].n_left == 34


@pytest.mark.parametrize("seed", ["--5", str(2**53), "9" * 40, "²", str(2**53 - 1)])
def test_an_odd_seed_in_the_address_draws_the_page(db, ada, seed):
    page = open_page(seed=seed, order="shuffled")
    assert page.session_state["session"].n_left == 34
    assert page.number_input[0].value in (1, 2**53 - 1)
