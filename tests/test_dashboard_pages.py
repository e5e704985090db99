"""The review page without a browser: what it shows and what its controls do, on both engines."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from dashboard_data import write_search
from streamlit.testing.v1 import AppTest

from dashboard import settings, store
from dashboard.queues import forget_orders
from schema.engine import connect_engine


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
