"""What is known of an object beside its pictures: models, identity, notes, others' grades, cuts."""

from __future__ import annotations

import html
import uuid

import sqlalchemy as sa
import streamlit as st

from dashboard import store
from dashboard.links import viewer_links
from dashboard.objects import ReviewObject
from dashboard.session import ReviewSession, Shown
from dashboard.settings import current
from dashboard.shell import aside, table
from schema.errors import LensmineError

TAGS = ("arc", "ring", "quad", "merger", "spiral", "artefact")


def show_known(session: ReviewSession, one: ReviewObject, on: Shown) -> None:
    """Probabilities, and what would give a calibrator away only when asked for."""
    if not session.is_open(on):
        st.button(
            "Show identity",
            key=f"reveal_{on.token}",
            shortcut="I",
            on_click=session.reveal,
            args=(on,),
            help=(
                "Calibrators are mixed in: probabilities, cuts, name, known lenses and links would tell. A"
                " grade given after looking does not count for calibration."
            ),
        )
        return
    rows = [
        [s["model"], f"{s['probability']:.4f}", f"{s['threshold']:g}" if s["threshold"] is not None else "",
         "" if s["is_current"] else "stale"]
        for s in one.scores
    ]  # fmt: skip
    st.html(
        table(["Model", "Probability", "Hit from", ""], rows)
        if rows
        else "<div class='lm-sub'>No model scored it.</div>"
    )
    st.html(f"<div class='lm-sub'>{html.escape(one.row['survey'])} {html.escape(one.row['native_id'])}</div>")
    near = [
        [
            k["name"],
            f'{k["sep_arcsec"]:.1f}"',
            "" if k["z_lens"] is None else f"{k['z_lens']:.3f}",
            k["grading"] or "",
        ]
        for k in one.lenses[:6]
    ]
    st.html(
        table(["Known lens", "Distance", "z", ""], near) if near
        else "<div class='lm-sub'>No known lens within 60 arcsec.</div>"
    )  # fmt: skip
    links = " · ".join(
        f"<a href='{html.escape(url, quote=True)}' target='_blank' rel='noopener"
        f" noreferrer'>{html.escape(name)}</a>"
        for name, url in viewer_links(one.row)
    )
    st.html(f"<div class='lm-sub'>{links}</div>")


def show_notes(session: ReviewSession, one: ReviewObject) -> None:
    """My comments and tags, and those of others once I have graded."""
    db, me = current().db, session.reviewer.reviewer_id
    graded = one.target_id in session.mine or session.settling
    notes = (
        store.reading(db, lambda conn: store.notes_of(conn, one.target_id))
        if graded or one.target_id in session.noted
        else []
    )
    mine = [n for n in notes if n["reviewer_id"] == me]
    tags = {n["tag"]: n["note_id"] for n in mine if n["tag"]}
    key = f"tags_{one.target_id}"
    st.session_state[key] = list(tags)  # as the database has it now: another tab may have changed it
    st.pills(
        "Tags", [*TAGS, *(t for t in tags if t not in TAGS)], selection_mode="multi", wrap=True, key=key,
        on_change=_tag, args=(session, one.target_id, key, tags),
    )  # fmt: skip
    serial = st.session_state.setdefault("note_serial", 0)
    st.text_input(
        "Comment",
        key=f"note_{one.target_id}_{serial}",
        placeholder="saved on Enter",
        max_chars=store.BODY_LENGTH,
        on_change=_comment,
        args=(session, one.target_id, f"note_{one.target_id}_{serial}"),
    )
    _unsaved(session)
    for note in notes:
        if note["body"] and (note["reviewer_id"] == me or graded):
            who = "you" if note["reviewer_id"] == me else note["reviewer"]
            st.html(f"<div class='lm-sub'><b>{html.escape(who)}</b>: {html.escape(note['body'])}</div>")
    if graded:
        _others(one)


def _tag(session: ReviewSession, target_id: int, key: str, tags: dict[str, int]) -> None:
    """Save what was changed here, and nothing that another tab has changed since."""
    db, me = current().db, session.reviewer.reviewer_id
    chosen = set(st.session_state[key])
    try:
        for tag in chosen - set(tags):
            store.add_note(db, me, target_id, uuid.uuid4().hex, tag=tag)
            session.noted.add(target_id)
        for tag in set(tags) - chosen:
            store.remove_note(db, me, tags[tag])
    except LensmineError as exc:
        st.session_state["message"] = f"Tag not saved, choose it again: {exc}"


def _comment(session: ReviewSession, target_id: int, key: str) -> None:
    """Save what stands in the box, and empty it."""
    st.session_state["note_serial"] += 1
    _save_comment(session, target_id, uuid.uuid4().hex, st.session_state[key])


def _save_comment(session: ReviewSession, target_id: int, token: str, body: str) -> None:
    """Save a comment; one that cannot be saved is kept until it can."""
    unsaved = st.session_state.setdefault("unsaved", {})
    try:
        if store.add_note(current().db, session.reviewer.reviewer_id, target_id, token, body=body):
            session.noted.add(target_id)
        unsaved.pop(token, None)
    except LensmineError as exc:
        unsaved[token] = (target_id, body)
        st.session_state["message"] = f"Comment not saved, press Save again: {exc}"


def _unsaved(session: ReviewSession) -> None:
    """Comments that could not be saved, those on other objects too."""
    for token, (target_id, body) in st.session_state.get("unsaved", {}).items():
        st.html(f"<div class='lm-sub lm-bad'>Not saved: {html.escape(body)}</div>")
        st.button(
            "Save again", key=f"unsaved_{token}", on_click=_save_comment,
            args=(session, target_id, token, body),
        )  # fmt: skip


def _others(one: ReviewObject) -> None:
    """Others' grades, shown to who has graded."""
    query = sa.text("select reviewer, grade from current_grade where target_id = :t order by graded_at")
    rows = store.reading(current().db, lambda conn: conn.execute(query, {"t": one.target_id}).all())
    st.html(table(["Reviewer", "Grade"], [list(r) for r in rows]))


def show_cuts(session: ReviewSession, one: ReviewObject, on: Shown) -> None:
    """What ``lensmine explain`` says of each model: the cuts, and the place among images."""
    if not session.is_open(on):  # a calibrator is no candidate, and known lenses stand among the cuts
        aside("Calibrators are mixed in: the cut table is shown after the grade, or with the identity (I).")
        return
    from scoring.explain import explain

    found = explain(current().db, str(one.target_id))
    for verdict in [*found["verdicts"], *found["images"]["verdicts"]]:
        st.html(
            f"<div class='lm-sub'><b>{html.escape(verdict['model'])}</b>: {html.escape(verdict['verdict'])},"
            f" {html.escape(verdict['reason'])}</div>"
        )
        if verdict.get("steps"):
            rows = [
                [s["step"], "passes" if s["passes"] else "fails", s["found"], s["asked"]]
                for s in verdict["steps"]
            ]
            st.html(table(["Cut", "", "Found", "Asked"], rows))
