"""SQL: a query box that cannot write, with saved queries and the data dictionary beside it."""

from __future__ import annotations

import functools
import html
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import store
from dashboard.settings import current
from dashboard.shell import aside, plain, table
from dashboard.store import Reviewer
from schema.errors import LensmineError
from schema.untrusted import MOST_ROWS, Answer, ask

CLOSED = ("grade", "review_note", "calibrator", "reviewer")
"""What would tell a reviewer others' grades, or which objects are calibrators.

Which objects are simulated stands on the way to every candidate (a cut does not count injections as
neighbours), so it cannot be closed without closing the candidates.
"""
EXAMPLES = {
    "Candidates, brightest first": (
        "select name, z_lens, z_source, line_flux, skewness, probability, model\n"
        "from candidate\norder by line_flux desc"
    ),
    "What each cut drops": "select model, step_no, step, n_in, n_out from attrition order by model, step_no",
    "Runs and their speed": (
        "select run_id, status, n_scored, spectra_per_s, started_at from scoring_run order by run_id desc"
    ),
    "Files' faults": "select reason_code, count(*) as n from reject group by reason_code order by n desc",
}
INT53 = 2**53


def page() -> None:
    """The page."""
    who: Reviewer = st.session_state["reviewer"]
    left, right = st.columns([2.2, 1], gap="medium")
    with left:
        _box(who)
    with right:
        _dictionary()


def _box(who: Reviewer) -> None:
    db = current().db
    saved = store.reading(db, store.list_queries)
    kept = {q["name"]: q for q in saved}
    names = ["", *kept, *(f"Example: {k}" for k in EXAMPLES)]
    st.selectbox(
        "Saved queries",
        names,
        format_func=lambda n: n or "choose one to fill the box",
        key="saved",
        on_change=_fill,
        args=(kept,),
    )
    if "query" not in st.session_state:
        st.session_state["query"] = next(iter(EXAMPLES.values()))
    query = st.text_area(
        "Query", key="query", height=180, help="One select. What writes is refused by the database."
    )
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        run = st.button("Run", type="primary", shortcut="Ctrl+Enter")
        name = st.text_input(
            "Name",
            key="query_name",
            placeholder="name to save it under",
            label_visibility="collapsed",
            width=260,
        )
        if st.button("Save query") and name.strip():
            try:
                store.save_query(db, who.reviewer_id, name, query)
            except LensmineError as exc:
                st.error(plain(str(exc)))
            else:
                st.rerun()
    if run:
        st.session_state.pop("answer", None)
        try:
            with st.spinner("asking"):
                closed = () if who.is_adjudicator else CLOSED
                st.session_state["answer"] = ask(db, query, closed=closed)
        except LensmineError as exc:
            st.error(plain(str(exc)))
    if "answer" in st.session_state:
        _answer(st.session_state["answer"])


def _fill(kept: dict[str, Any]) -> None:
    name = st.session_state["saved"]
    if name.startswith("Example: "):
        st.session_state["query"] = EXAMPLES[name.removeprefix("Example: ")]
    elif name in kept:
        st.session_state["query"] = kept[name]["sql"]
        st.session_state["query_name"] = name


def _answer(found: Answer) -> None:
    frame = pd.DataFrame(found.rows, columns=_unique(found.names))
    more = f" (the first {MOST_ROWS:,}; add a limit or conditions)" if found.cut else ""
    st.html(f"<div class='lm-sub' id='lm-rows'>{len(frame):,} rows{more}</div>")
    shown = frame.copy()
    for column in shown.columns:
        values = shown[column]
        if values.map(lambda v: isinstance(v, int) and not isinstance(v, bool) and abs(v) >= INT53).any():
            shown[column] = values.map(
                lambda v: None if v is None else str(v)
            )  # JavaScript rounds 64-bit integers
        elif values.map(lambda v: isinstance(v, (dict, list))).any():
            shown[column] = values.map(str)
    st.dataframe(shown, hide_index=True, width="stretch", height=420)
    st.download_button(
        "Table (CSV)", frame.to_csv(index=False).encode(), "query.csv", "text/csv", on_click="ignore"
    )


def _unique(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return out


@functools.lru_cache(maxsize=1)
def _relations() -> list[Any]:
    from schema.dictionary import dictionary

    return sorted(dictionary(), key=lambda r: (r.kind != "view", r.name))  # people ask the views first


def _dictionary() -> None:
    st.markdown("**Data dictionary**")
    word = (
        st.text_input("Look for", placeholder="a table, a column, or a word", key="dictionary_word")
        .strip()
        .lower()
    )
    shown = 0
    for relation in _relations():
        columns = [
            c for c in relation.columns if not word or word in f"{relation.name} {c.name} {c.doc}".lower()
        ]
        if word and not columns and word not in relation.doc.lower():
            continue
        shown += 1
        with st.expander(f"{relation.name} ({relation.kind})", expanded=False):
            rows = [[c.name, c.type, c.unit, c.doc] for c in columns or relation.columns]
            st.html(
                f"<div class='lm-sub'>{html.escape(relation.doc)}</div>"
                + table(["Column", "Type", "Unit", "Meaning"], rows)
            )
    if not shown:
        aside("nothing of that name")
