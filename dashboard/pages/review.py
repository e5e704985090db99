"""Review: the queue as a mosaic and one object at a time, graded by keyboard."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from dashboard import store
from dashboard.pages import mosaic, one
from dashboard.queues import MAX_SEED, ORDERS, SOURCES, Place, QueueSpec, forget_orders, models, selections
from dashboard.session import ReviewSession
from dashboard.settings import current
from dashboard.store import Reviewer

VIEWS = ("One at a time", "Mosaic")
PLACE = ("at", "past")


def page() -> None:
    """The page."""
    who: Reviewer = st.session_state["reviewer"]
    spec = QueueSpec.from_query(dict(st.query_params))
    with st.sidebar:
        spec = _controls(spec)
    session = review_session(who, spec)
    _asks_again()
    if st.query_params.get("as") == "mosaic":
        mosaic.show(session)
    else:
        one.show(session)


@st.fragment(run_every=3600.0)
def _asks_again() -> None:
    """Nothing, now and then: a page with a timer asks a server that it finds again for everything anew.

    One without asks for nothing when its last answer was a whole page, and its keys would stay dead.
    """


def review_session(who: Reviewer, spec: QueueSpec) -> ReviewSession:
    """The reviewer's session on this queue, made anew when either is another."""
    held: ReviewSession | None = st.session_state.get("session")
    if held is None or held.spec != spec or held.reviewer != who:
        place = Place.from_query(dict(st.query_params)) if held is None else Place()
        held = ReviewSession(current().db, who, spec, place)
        st.session_state["session"] = held
    return held


def _controls(spec: QueueSpec) -> QueueSpec:
    """What to see, kept in the page's address."""
    db = current().db
    names, tags = store.reading(db, lambda conn: (selections(conn), models(conn)))
    as_mosaic = st.query_params.get("as") == "mosaic"
    view = st.segmented_control("Show", VIEWS, default=VIEWS[int(as_mosaic)], key="view", required=True)
    sources = [*SOURCES, *(f"selection:{n}" for n in names)]
    source = st.selectbox(
        "Queue", sources, index=sources.index(spec.source) if spec.source in sources else 0,
        format_func=lambda s: SOURCES.get(s) or f"Selection {s.partition(':')[2]}", key="source",
    )  # fmt: skip
    choices = ["", *tags]
    model = st.selectbox(
        "Model", choices, index=choices.index(spec.model) if spec.model in choices else 0,
        format_func=lambda m: m or "All models", key="model",
    )  # fmt: skip
    orders = list(ORDERS)
    order = st.selectbox(
        "Order", orders, index=orders.index(spec.order), format_func=lambda o: ORDERS[o], key="order"
    )
    seed = spec.seed
    if order == "shuffled":
        seed = int(st.number_input("Seed", -MAX_SEED, MAX_SEED, spec.seed, step=1, key="seed"))
    graded = st.checkbox("Hide what I graded", spec.hide_graded, key="hide_graded")
    enough = st.checkbox("Hide what has enough grades", spec.hide_enough, key="hide_enough")
    known = st.checkbox("Hide known lenses", spec.hide_known, key="hide_known")
    if st.button("Look for new objects", help="Asks the database for the queue anew."):
        forget_orders()
        st.session_state.pop("session", None)
        st.session_state["asked"] = st.session_state.get("asked", 0) + 1
        for name in PLACE:
            st.query_params.pop(name, None)
    new = replace(
        spec,
        source=source,
        model=model,
        order=str(order),
        seed=seed,
        hide_graded=graded,
        hide_enough=enough,
        hide_known=known,
    )
    wanted: dict[str, Any] = new.as_query()
    if view == VIEWS[1]:
        wanted["as"] = "mosaic"
    kept = ("view", *PLACE) if new == spec else ("view",)
    wanted |= {name: st.query_params[name] for name in kept if name in st.query_params}
    if dict(st.query_params) != wanted:
        st.query_params.from_dict(wanted)
    return new
