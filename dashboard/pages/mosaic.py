"""The queue as a mosaic of up to 100 stamps, graded by keyboard."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import pictures, store
from dashboard.objects import ReviewObject
from dashboard.pages.bar import KEYS, served
from dashboard.pages.drawn import spectrum_recipe
from dashboard.pages.look import view_now
from dashboard.queues import Place
from dashboard.session import ReviewSession
from dashboard.settings import current
from dashboard.shell import failures, plain
from dashboard.stamps import StampStyle, colour_bands
from schema.errors import LensmineError

HERE = Path(__file__).parent.parent
COLUMNS = 10
SIZES = (20, 50, 100)
LOST = (
    "The connection to the server was lost. You are back at your page of stamps; a grade that does not stand"
    " on its stamp was not saved, press its key again."
)

_grid = st.components.v2.component(
    "lensmine_mosaic",
    html="<div id='grid' role='group' aria-label='Mosaic of objects'></div>",
    css=(HERE / "mosaic.css").read_text(encoding="utf-8"),
    js=(HERE / "mosaic.js").read_text(encoding="utf-8"),
)


def show(session: ReviewSession) -> None:
    """A page of stamps."""
    with failures():
        _draw(session)


def _draw(session: ReviewSession) -> None:
    state = _page(session)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        n = st.segmented_control("Stamps", SIZES, default=state["size"], key="mosaic_size", required=True)
        st.button("Next page", on_click=_turn, args=(session,), type="primary", key="mosaic_next")
        st.button("Rest is X, next page", on_click=_rest, args=(session,), key="mosaic_rest")
        keys = " ".join(f"<kbd>{k}</kbd> {g}" for g, k in KEYS.items())
        more = "" if session.blind else f"{session.n_left:,} more after this page &nbsp; "
        st.html(
            f"<span class='lm-sub' id='lm-mosaic-state'>{more}{keys}"
            " <kbd>Backspace</kbd> take back <kbd>↵</kbd> open; arrows move</span>"
        )
    if n != state["size"]:
        _resize(session, n)
        st.rerun()
    message = st.session_state.pop("message", None)
    if message:
        st.warning(plain(message))
    if not state["tokens"]:
        st.success("Nothing left in this queue: graded, passed, or hidden by the filters at the side.")
        return
    found = session.objects(list(state["tokens"].values()))
    session.load_ahead()
    items = [
        _item(session, token, found[target_id], state["given"].get(token))
        for token, target_id in state["tokens"].items()
        if target_id in found
    ]
    _grid(
        data={
            "page": state["page"],
            **served(session),
            "past": session.place(list(state["tokens"].values())).as_query().get("past", ""),
            "items": items,
            "columns": COLUMNS,
            "keys": {k: g for g, k in KEYS.items()},
        },
        key="mosaic_grid",
        on_marks_change=lambda: _marked(session),
        on_opened_change=lambda: _opened(session),
        on_resumed_change=lambda: _resumed(session),
    )


def _page(session: ReviewSession) -> dict[str, Any]:
    """The stamps on screen: their tokens, targets, and the grades given to them here."""
    state = st.session_state.get("mosaic")
    if state is None or state["session"] is not session:
        state = _fresh(session, state["size"] if state else SIZES[1])
    return state


def _fresh(session: ReviewSession, size: int) -> dict[str, Any]:
    tokens = {uuid.uuid4().hex: target_id for target_id in session.take(size)}
    state = {
        "session": session,
        "page": uuid.uuid4().hex,
        "tokens": tokens,
        "given": {},
        "sent": 0,
        "lock": threading.Lock(),
        "size": size,
    }
    st.session_state["mosaic"] = state
    return state


def _item(session: ReviewSession, token: str, one: ReviewObject, given: str | None) -> dict[str, Any]:
    best = one.scores[0]["probability"] if one.scores and not session.blind else None
    short = one.name[:5] + one.name[10:15]  # hours and minutes, degrees and minutes
    caption = short if best is None else f"{best:.3f} {short}"
    grade = given if given is not None else session.mine.get(one.target_id, "")
    return {
        "token": token,
        "src": thumb_address(one),
        "caption": caption,
        "label": f"Object {one.name}",
        "grade": grade,
    }


def thumb_address(one: ReviewObject) -> str:
    """Address of a small picture: the primary cutout, else the hit in the spectrum."""
    look = view_now()
    if one.cutouts:
        cutout = one.cutouts[0]
        bands = tuple(cutout["bands"].split(","))
        recipe = {
            "kind": "stamp",
            "shard": cutout["shard"],
            "row": int(cutout["shard_row"]),
            "hash": cutout["content_hash"],
            "bands": list(colour_bands(bands) or bands[:1]),
            "style": {**vars(StampStyle(look.scaling, look.contrast, look.residual, 160))},
        }
        return pictures.address(current(), recipe)
    if one.has_spectrum:
        return pictures.address(current(), spectrum_recipe(one, "thumb"))
    return "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E"


def _marked(session: ReviewSession) -> None:
    """Save what was marked since the last time; each key carries the token of its stamp."""
    state = st.session_state["mosaic"]
    sent = st.session_state["mosaic_grid"]["marks"]
    if not sent or sent["page"] != state["page"]:
        return
    with state["lock"]:  # keys faster than the server: this runs in several threads at once, in any order
        if sent["sent"] > state["sent"]:
            state["sent"] = sent["sent"]
            _save(session, state, sent)


def _save(session: ReviewSession, state: dict[str, Any], sent: dict[str, Any]) -> None:
    """Bring the grades of a page to what a message says; no later message has been through."""
    for token, letter in sent["grades"].items():
        target_id = state["tokens"].get(token)
        if target_id is None or state["given"].get(token) == letter or letter not in ("", *store.GRADES):
            continue
        try:
            if letter:
                session.save(target_id, letter, f"{token}{sent['sent']}", None)
            else:
                session.clear(target_id)
            state["given"][token] = letter
        except LensmineError as exc:
            st.session_state["message"] = f"Not saved, press the key again: {exc}"
            return


def _turn(session: ReviewSession) -> None:
    _fresh(session, st.session_state["mosaic"]["size"])


def _resize(session: ReviewSession, size: int) -> None:
    """A page of another size, what was not graded on this one first."""
    state = st.session_state["mosaic"]
    session.put_back([i for t, i in state["tokens"].items() if not state["given"].get(t)])
    _fresh(session, size)


def _resumed(session: ReviewSession) -> None:
    """Go back to the page that was on screen before this session took the place of another."""
    state, sent = st.session_state["mosaic"], st.session_state["mosaic_grid"]["resumed"]
    if not sent or sent["page"] != state["page"]:
        return
    try:
        session.put_back(list(state["tokens"].values()))
        session.resume(Place.from_query({"past": sent["past"]}))
        _fresh(session, state["size"])
        st.session_state["message"] = LOST
    except LensmineError as exc:
        st.session_state["message"] = f"Not gone on, load the page again: {exc}"


def _rest(session: ReviewSession) -> None:
    """Grade X what has no grade on this page, and go on."""
    state = st.session_state["mosaic"]
    try:
        for token, target_id in state["tokens"].items():
            if not state["given"].get(token) and target_id not in session.mine:
                session.save(target_id, "X", f"{token}rest", None)
                state["given"][token] = "X"
    except LensmineError as exc:
        st.session_state["message"] = f"Not all saved, press again: {exc}"
        return
    _turn(session)


def _opened(session: ReviewSession) -> None:
    """Show the stamp that was opened by itself."""
    token = st.session_state["mosaic_grid"]["opened"]
    target_id = st.session_state["mosaic"]["tokens"].get(token)
    if target_id is not None:
        session.show(target_id)
        st.session_state["view"] = "One at a time"
