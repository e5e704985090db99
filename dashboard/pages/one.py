"""One object at a time: everything known of it, graded with one key."""

from __future__ import annotations

import streamlit as st

from dashboard.pages.bar import KEYS, show_bar
from dashboard.pages.drawn import addresses, show_pictures
from dashboard.pages.known import show_cuts, show_known, show_notes
from dashboard.pages.look import View, view_now
from dashboard.session import ReviewSession
from dashboard.shell import failures, plain

PREFETCH = 3


def show(session: ReviewSession) -> None:
    """The object on screen and the way through the queue."""
    with st.sidebar:
        st.html(
            "<div class='lm-sub'>Keys: " + " ".join(f"<kbd>{k}</kbd> {g}" for g, k in KEYS.items())
            + " <kbd>U</kbd> undo <kbd>←</kbd> back <kbd>→</kbd> skip <kbd>Z</kbd> zoom <kbd>O</kbd> [OII] "
            "<kbd>D</kbd> residual <kbd>E</kbd> cuts <kbd>I</kbd> identity</div>"
        )  # fmt: skip
    _object(session)


@st.fragment
def _object(session: ReviewSession) -> None:
    with failures():
        _draw(session)


def _draw(session: ReviewSession) -> None:
    message = st.session_state.pop("message", None)
    on = session.current
    one = session.object(on.target_id) if on else None
    show_bar(session, one, on)
    if message:
        st.warning(plain(message))
    if on is None:
        _nothing_left(session)
        return
    if one is None:
        st.error(plain(f"target {on.target_id} is no longer in the database; press → to go on"))
        return
    left, right = st.columns([3.3, 1.2], gap="medium")
    look = view_now()
    with left:
        show_pictures(one, look)
    with right:
        show_known(session, one, on)
        show_notes(session, one)
    if look.cuts:
        show_cuts(session, one, on)
    _prefetch(session, look)


def _nothing_left(session: ReviewSession) -> None:
    if len(session.order.target_id) == 0:
        st.info(
            "This queue is empty. Score a selection and fit its hits first, or choose another queue at the"
            " side: lensmine status says what there is."
        )
    else:
        st.success(
            f"Nothing left of {len(session.order.target_id):,} objects: graded, passed, or hidden by the"
            " filters at the side."
        )


def _prefetch(session: ReviewSession, look: View) -> None:
    """Let the browser ask for the next pictures while this one is looked at."""
    session.load_ahead()
    known = session.memory.held(session.plan(PREFETCH))
    images = [f"<img src='{a}' alt=''>" for one in known.values() for a in addresses(one, look)]
    if images:
        st.html(f"<div style='display:none' aria-hidden='true'>{''.join(images)}</div>")
