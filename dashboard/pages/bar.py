"""Name of the object on screen, and the buttons and keys that grade it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.objects import ReviewObject
from dashboard.queues import Place
from dashboard.session import ReviewSession, Shown
from schema.errors import LensmineError
from schema.grid import LYA_ANGSTROM

HERE = Path(__file__).parent.parent
KEYS = {"A": "1", "B": "2", "C": "3", "X": "4"}
"""Key of each grade: Streamlit keeps C and R for itself, so the grades go by digits."""
MEANING = {"A": "surely a lens", "B": "probably", "C": "possibly", "X": "no lens"}
OTHERS = (("undo", "Undo", "U", "U"), ("back", "Back", "ArrowLeft", "←"), ("skip", "Skip", "ArrowRight", "→"))
"""Act, label, key, and how the key is shown."""
FAILED = {"undo": "Not taken back", "back": "Not gone back", "skip": "Not passed", "resume": "Not gone on"}
LOST = (
    "The connection to the server was lost. You are back at the object where you stood; a key that you"
    " pressed meanwhile was not taken."
)

_bar = st.components.v2.component(
    "lensmine_bar",
    html="<div id='lm-bar'></div>",
    css=(HERE / "bar.css").read_text(encoding="utf-8"),
    js=(HERE / "bar.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


def show_bar(session: ReviewSession, one: ReviewObject | None, on: Shown | None) -> None:
    """Name and buttons in one element, so that both change at once; a late key cannot grade the next."""
    given = session.mine.get(on.target_id) if on else None
    able = {"undo": session.can_undo, "back": session.can_go_back}
    buttons = [(g, f"{g} {MEANING[g]}", k, k) for g, k in KEYS.items()] + list(OTHERS)
    _bar(
        data={
            "token": on.token if on else "",
            "place": session.place().as_query(),
            **served(session),
            "view": st.query_params.get("view", ""),
            "target": str(one.target_id) if one else "",
            "words": _words(session, one) if one else [],
            "buttons": [
                {
                    "act": act,
                    "label": label,
                    "key": key,
                    "shown": shown,
                    "primary": act == given,
                    "disabled": not able.get(act, on is not None),
                    "needs_picture": act in KEYS,
                }
                for act, label, key, shown in buttons
            ],
        },
        key="bar",
        on_act_change=lambda: _act(session),
    )


def served(session: ReviewSession) -> dict[str, Any]:
    """Which session serves a page, and which queue: another session of the same queue has lost the place."""
    queue = [*session.spec.as_query().items(), ["asked", st.session_state.get("asked", 0)]]
    return {"session": session.key, "queue": queue}


def _words(session: ReviewSession, one: ReviewObject) -> list[dict[str, str]]:
    """What stands in the first line, as text; an index is set low."""
    row = one.row
    about = one.about()
    words = [{"text": one.name, "kind": "lm-head"}]
    if row["z"] is not None:
        words.append({"text": "z", "sub": "lens", "after": f" {row['z']:.4f}"})
    wave = about.get("wave") or about.get("hit_wave")
    if wave:
        z_source = wave / LYA_ANGSTROM - 1
        words.append({"text": f"hit at {wave:.1f} Å, z", "sub": "Lyα", "after": f" {z_source:.4f}"})
    mags = [(k, row[f"mag_{k}"]) for k in ("g", "r", "i", "f814w") if row.get(f"mag_{k}") is not None]
    if not mags and row["cmodel_mag_i"] is not None:
        mags = [("i", row["cmodel_mag_i"])]
    words += [{"text": f"{k} {v:.2f}"} for k, v in mags]
    given = session.mine.get(one.target_id)
    words.append({"text": f"your grade: {given}" if given else "not graded by you", "kind": "lm-sub"})
    if not session.blind:  # a count that stands still would tell a calibrator
        words.append({"text": f"{session.n_left:,} left in this queue", "kind": "lm-sub"})
    return words


def _act(session: ReviewSession) -> None:
    """Do what a button or key asks for, if it was pressed on the object that is on screen now."""
    with session.acting:  # two quick keys call this in two threads
        _act_alone(session)


def _act_alone(session: ReviewSession) -> None:
    sent: Any = st.session_state["bar"]["act"]
    token = session.current.token if session.current else ""
    if not sent or sent["token"] != token:
        return
    act = str(sent["act"])
    try:
        if act in KEYS:
            session.grade(token, act)
        elif act == "skip":
            session.skip(token)
        elif act == "back":
            session.back()
        elif act == "resume":
            session.resume(Place.from_query(dict(sent["place"])))
            st.session_state["message"] = LOST
        elif act == "undo" and session.undo() is None:
            st.session_state["message"] = "No grade of yours is left to take back."
    except LensmineError as exc:
        st.session_state["message"] = f"{FAILED.get(act, 'Not saved')}, press the key again: {exc}"
