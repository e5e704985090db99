"""One object at a time: everything known of it, graded with one key."""

from __future__ import annotations

import html
import uuid
from dataclasses import asdict, dataclass, replace
from typing import Any

import streamlit as st

from dashboard import pictures, store
from dashboard.links import viewer_links
from dashboard.objects import ReviewObject
from dashboard.session import ReviewSession, Shown
from dashboard.settings import current
from dashboard.shell import failures, plain
from dashboard.spectra import SpectrumStyle, describe
from dashboard.stamps import SCALINGS, StampStyle, colour_bands
from schema.errors import LensmineError

KEYS = {"A": "1", "B": "2", "C": "3", "X": "4"}
"""Key of each grade: Streamlit keeps C and R for itself, so the grades go by digits."""
MEANING = {"A": "surely a lens", "B": "probably", "C": "possibly", "X": "no lens"}
TAGS = ("arc", "ring", "quad", "merger", "spiral", "artefact")
SMOOTHINGS = (1, 3, 5, 9, 15)
PREFETCH = 3


@dataclass(frozen=True)
class View:
    """How objects are shown; kept in the page's address."""

    smooth: int = 5
    zoom: bool = False
    sky: bool = False
    oii: bool = False
    scaling: str = "asinh"
    contrast: float = 1.0
    residual: bool = False
    cuts: bool = False

    def as_text(self) -> str:
        """What differs from the defaults, as ``smooth=9,oii=1``."""
        base = asdict(View())
        return ",".join(
            f"{k}={int(v) if isinstance(v, bool) else v}" for k, v in asdict(self).items() if v != base[k]
        )

    @classmethod
    def from_text(cls, text: str) -> View:
        """From the address; what it does not understand is left at its default."""
        given = dict(part.partition("=")[::2] for part in text.split(",") if "=" in part)
        known: dict[str, Any] = {}
        for key, default in asdict(cls()).items():
            try:
                if key in given:
                    known[key] = given[key] == "1" if isinstance(default, bool) else type(default)(given[key])
            except ValueError:
                continue
        view = cls(**known)
        if view.scaling not in SCALINGS or view.smooth not in SMOOTHINGS or not 0.2 <= view.contrast <= 10:
            return cls()
        return view


def view_now() -> View:
    """How objects are shown in this session."""
    if "look" not in st.session_state:
        st.session_state["look"] = View.from_text(st.query_params.get("view", ""))
    look: View = st.session_state["look"]
    return look


def change_view(**changes: Any) -> None:
    """Show objects another way from now on."""
    look = replace(view_now(), **changes)
    st.session_state["look"] = look
    text = look.as_text()
    if text:
        st.query_params["view"] = text
    else:
        st.query_params.pop("view", None)


# ---------------------------------------------------------------- pictures


def spectrum_address(one: ReviewObject, look: View) -> str:
    """Address of the picture of its spectrum."""
    row = one.row
    style = SpectrumStyle(smooth=look.smooth, zoom=150.0 if look.zoom else 0.0, sky=look.sky, oii=look.oii)
    recipe = {
        "kind": "spectrum",
        "shard": row["shard"],
        "row": int(row["shard_row"]),
        "first": int(row["pix_first"]),
        "last": int(row["pix_last"]),
        "hash": row["content_hash"],
        "about": one.about(),
        "style": asdict(style),
    }
    return pictures.address(current(), recipe)


def stamp_recipes(one: ReviewObject, look: View, size: int = 256) -> list[tuple[dict[str, Any], str]]:
    """Recipe and caption of each stamp: colour first, then band by band, cutout by cutout."""
    style = asdict(StampStyle(look.scaling, look.contrast, look.residual, size))
    out = []
    for cutout in one.cutouts:
        bands = tuple(cutout["bands"].split(","))
        base = {
            "kind": "stamp",
            "shard": cutout["shard"],
            "row": int(cutout["shard_row"]),
            "hash": cutout["content_hash"],
        }
        side = (cutout["nx"] or 0) * (cutout["pixscale_arcsec"] or 0)
        where = f"{cutout['instrument']}, {side:.1f} arcsec" if side else str(cutout["instrument"])
        colour = colour_bands(bands)
        if colour:
            out.append(({**base, "bands": list(colour), "style": style}, f"{''.join(colour)} ({where})"))
        out += [({**base, "bands": [b], "style": style}, f"{b} ({where})") for b in bands]
    return out


def addresses(one: ReviewObject, look: View) -> list[str]:
    """Every picture of an object, so that the browser can ask for the next ones ahead of time."""
    found = [pictures.address(current(), recipe) for recipe, _ in stamp_recipes(one, look)]
    return [spectrum_address(one, look), *found] if one.has_spectrum else found


# ---------------------------------------------------------------- the page


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
    if on is None:
        _nothing_left(session)
    elif one is None:
        st.error(plain(f"target {on.target_id} is no longer in the database; press → to go on"))
    else:
        _head(session, one, on)
    _bar(session, on)
    if message:
        st.warning(plain(message))
    if on is None or one is None:
        return
    left, right = st.columns([3.3, 1.2], gap="medium")
    look = view_now()
    with left:
        _pictures(one, look)
    with right:
        _known(session, one, on)
        _notes(session, one)
    if look.cuts:
        _cuts(one)
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


def _head(session: ReviewSession, one: ReviewObject, on: Shown) -> None:
    row = one.row
    about = one.about()
    words = [f"<span class='lm-head'>{html.escape(one.name)}</span>"]
    if row["z"] is not None:
        words.append(f"z<sub>lens</sub> {row['z']:.4f}")
    wave = about.get("wave") or about.get("hit_wave")
    if wave:
        words.append(f"hit at {wave:.1f} Å, z<sub>Lyα</sub> {wave / 1215.67 - 1:.4f}")
    mags = [(k, row[f"mag_{k}"]) for k in ("g", "r", "i", "f814w") if row.get(f"mag_{k}") is not None]
    if not mags and row["cmodel_mag_i"] is not None:
        mags = [("i", row["cmodel_mag_i"])]
    words += [f"{html.escape(k)} {v:.2f}" for k, v in mags]
    mine = session.mine.get(one.target_id)
    state = f"your grade: <b>{mine}</b>" if mine else "not graded by you"
    st.html(
        f"<div id='lm-object' data-target='{one.target_id}'>{' &nbsp; '.join(words)} "
        f"<span class='lm-sub'>&nbsp; {state} &nbsp; {session.n_left:,} left in this queue</span></div>"
    )


def _bar(session: ReviewSession, on: Shown | None) -> None:
    """Grades, undo, back, skip; widgets change with every object: a late key cannot grade the next."""
    token = on.token if on else "none"
    with st.container(horizontal=True, gap="small", key="bar"):
        for letter, key in KEYS.items():
            st.button(
                f"{letter} {MEANING[letter]}",
                key=f"grade_{letter}_{token}",
                shortcut=key,
                disabled=on is None,
                type="primary" if on and session.mine.get(on.target_id) == letter else "secondary",
                on_click=_grade,
                args=(session, token, letter),
            )
        st.button(
            "Undo",
            key=f"undo_{token}",
            shortcut="U",
            on_click=_undo,
            args=(session,),
            disabled=not session.history,
        )
        st.button(
            "Back",
            key=f"back_{token}",
            shortcut="Left",
            on_click=_back,
            args=(session,),
            disabled=not session.history,
        )
        st.button(
            "Skip",
            key=f"skip_{token}",
            shortcut="Right",
            on_click=_skip,
            args=(session, token),
            disabled=on is None,
        )


def _grade(session: ReviewSession, token: str, letter: str) -> None:
    try:
        session.grade(token, letter)
    except LensmineError as exc:
        st.session_state["message"] = f"Not saved, press the key again: {exc}"


def _undo(session: ReviewSession) -> None:
    try:
        if session.undo() is None:
            st.session_state["message"] = "No grade of yours is left to take back."
    except LensmineError as exc:
        st.session_state["message"] = f"Not taken back, press the key again: {exc}"


def _back(session: ReviewSession) -> None:
    session.back()


def _skip(session: ReviewSession, token: str) -> None:
    session.skip(token)


def _pictures(one: ReviewObject, look: View) -> None:
    if one.has_spectrum:
        gone = pictures.missing_shard(current(), one.row["shard"])
        if gone:
            st.error(plain(f"The spectrum cannot be shown: {gone}"))
        else:
            words = html.escape(describe(one.about()), quote=True)
            st.html(
                f"<img class='lm-pic' id='lm-spectrum' src='{spectrum_address(one, look)}' alt='{words}'>"
            )
    else:
        st.info("This object has no spectrum in the database.")
    _spectrum_controls(look, one.has_spectrum)
    _stamps(one, look)


def _spectrum_controls(look: View, has_spectrum: bool) -> None:
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        if has_spectrum:
            smooth = st.select_slider("Mean of pixels", SMOOTHINGS, look.smooth, key="smooth", width=170)
            if smooth != look.smooth:
                change_view(smooth=smooth)
                st.rerun(scope="fragment")
            _switch("Zoom to hit", "zoom", look.zoom, "Z")
            _switch("Sky", "sky", look.sky, "S")
            _switch("If [OII]", "oii", look.oii, "O")
        _switch("Cut table", "cuts", look.cuts, "E")


def _switch(label: str, name: str, on: bool, key: str) -> None:
    st.button(
        label, key=f"switch_{name}", shortcut=key, type="primary" if on else "secondary",
        on_click=change_view, kwargs={name: not on},
    )  # fmt: skip


def _stamps(one: ReviewObject, look: View) -> None:
    if not one.cutouts:
        st.html("<div class='lm-sub'>No cutouts of this object are in the database.</div>")
        return
    figures = []
    for recipe, caption in stamp_recipes(one, look):
        gone = pictures.missing_shard(current(), recipe["shard"])
        if gone:
            st.error(plain(f"The cutout {caption} cannot be shown: {gone}"))
            break
        kind = "residual, " if look.residual else ""
        words = html.escape(f"Cutout {kind}{caption}", quote=True)
        figures.append(
            f"<figure><img class='lm-stamp' src='{pictures.address(current(), recipe)}' alt='{words}'>"
            f"<figcaption>{html.escape(kind + caption)}</figcaption></figure>"
        )
    if figures:
        size = "" if one.has_spectrum else " lm-large"
        st.html(f"<div class='lm-stamps{size}'>{''.join(figures)}</div>")
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        scaling = st.segmented_control(
            "Scaling", SCALINGS, default=look.scaling, key="scaling", required=True
        )
        contrast = st.slider("Contrast", 0.5, 5.0, float(look.contrast), 0.25, key="contrast", width=220)
        _switch("Residual without lens light", "residual", look.residual, "D")
    if (scaling, contrast) != (look.scaling, look.contrast):
        change_view(scaling=scaling, contrast=contrast)
        st.rerun(scope="fragment")


def _known(session: ReviewSession, one: ReviewObject, on: Shown) -> None:
    """Probabilities, and what would give a calibrator away only when asked for."""
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
    open_ = not session.blind or on.revealed or one.target_id in session.mine or session.settling
    if not open_:
        st.button(
            "Show identity",
            key=f"reveal_{on.token}",
            shortcut="I",
            on_click=_reveal,
            args=(on,),
            help=(
                "Calibrators are mixed in: name, known lenses and links would tell. A grade given after"
                " looking does not count for calibration."
            ),
        )
        return
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


def _reveal(on: Shown) -> None:
    on.revealed = True


def table(head: list[str], rows: list[list[Any]]) -> str:
    """HTML of a small table, every cell shown as text."""
    top = "".join(f"<th scope='col'>{html.escape(str(h))}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in row) + "</tr>" for row in rows)
    return f"<table class='lm-table'><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _notes(session: ReviewSession, one: ReviewObject) -> None:
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
    chosen = st.pills(
        "Tags", [*TAGS, *(t for t in tags if t not in TAGS)], selection_mode="multi", default=list(tags),
        key=f"tags_{one.target_id}",
    )  # fmt: skip
    for tag in set(chosen) - set(tags):
        store.add_note(db, me, one.target_id, uuid.uuid4().hex, tag=tag)
        session.noted.add(one.target_id)
    for tag in set(tags) - set(chosen):
        store.remove_note(db, me, tags[tag])
    serial = st.session_state.setdefault("note_serial", 0)
    st.text_input(
        "Comment",
        key=f"note_{one.target_id}_{serial}",
        placeholder="saved on Enter",
        max_chars=store.BODY_LENGTH,
        on_change=_comment,
        args=(session, one, f"note_{one.target_id}_{serial}"),
    )
    for note in notes:
        if note["body"] and (note["reviewer_id"] == me or graded):
            who = "you" if note["reviewer_id"] == me else note["reviewer"]
            st.html(f"<div class='lm-sub'><b>{html.escape(who)}</b>: {html.escape(note['body'])}</div>")
    if graded:
        _others(one)


def _comment(session: ReviewSession, one: ReviewObject, key: str) -> None:
    try:
        body = st.session_state[key]
        if store.add_note(
            current().db, session.reviewer.reviewer_id, one.target_id, uuid.uuid4().hex, body=body
        ):
            session.noted.add(one.target_id)
            st.session_state["note_serial"] += 1
    except LensmineError as exc:
        st.session_state["message"] = f"Comment not saved, press Enter again: {exc}"


def _others(one: ReviewObject) -> None:
    """Others' grades, shown to who has graded."""
    import sqlalchemy as sa

    query = sa.text("select reviewer, grade from current_grade where target_id = :t order by graded_at")
    rows = store.reading(current().db, lambda conn: conn.execute(query, {"t": one.target_id}).all())
    st.html(table(["Reviewer", "Grade"], [list(r) for r in rows]))


def _cuts(one: ReviewObject) -> None:
    """The cut table of ``lensmine explain``."""
    from scoring.explain import explain

    found = explain(current().db, str(one.target_id))
    for verdict in found["verdicts"]:
        st.html(
            f"<div class='lm-sub'><b>{html.escape(verdict['model'])}</b>: {html.escape(verdict['verdict'])},"
            f" {html.escape(verdict['reason'])}</div>"
        )
        if verdict["steps"]:
            rows = [
                [s["step"], "passes" if s["passes"] else "fails", s["found"], s["asked"]]
                for s in verdict["steps"]
            ]
            st.html(table(["Cut", "", "Found", "Asked"], rows))


def _prefetch(session: ReviewSession, look: View) -> None:
    """Let the browser ask for the next pictures while this one is looked at."""
    session.load_ahead()
    with session._lock:
        known = dict(session._objects)
    images = []
    for target_id in session.plan(PREFETCH):
        if target_id in known:
            images += [f"<img src='{a}' alt=''>" for a in addresses(known[target_id], look)]
    if images:
        st.html(f"<div style='display:none' aria-hidden='true'>{''.join(images)}</div>")
