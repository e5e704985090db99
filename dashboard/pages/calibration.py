"""Calibration: confusion matrices, the consensus that follows from them, and disagreements to settle."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
import streamlit as st

from dashboard import store
from dashboard.charts import Chart, Series
from dashboard.pages.plots import show
from dashboard.settings import current
from dashboard.shell import aside, table
from dashboard.store import GRADES, Reviewer
from schema.engine import read_frame

SETTINGS = {
    "review_calibration_rate": ("Share of calibrators in a queue", 0.0, 0.9, 0.01),
    "review_grades_enough": ("Grades that are enough", 1.0, 50.0, 1.0),
    "review_disagreement": ("Steps apart that go to adjudication", 1.0, 3.0, 1.0),
    "review_prior_lens": ("Probability of a lens before any grade", 0.0001, 0.9, 0.0001),
}
CONSENSUS = """
select consensus.* from consensus
where not is_calibrator and ({mine})
order by p_lens desc nulls last, target_id
"""
MINE = (
    "exists (select 1 from grade where grade.target_id = consensus.target_id and grade.reviewer_id = :r and"
    " grade.undone_at is null)"
)


def page() -> None:
    """The page."""
    who: Reviewer = st.session_state["reviewer"]
    db = current().db

    def work(conn: sa.Connection) -> dict[str, Any]:
        everything = "true" if who.is_adjudicator else MINE
        query = CONSENSUS.format(mine=everything)
        return {
            "confusion": read_frame(
                conn, "select * from reviewer_confusion order by reviewer, is_lens desc, grade"
            ),
            "consensus": pd.read_sql_query(
                sa.text(query), conn, params=None if who.is_adjudicator else {"r": who.reviewer_id}
            ),
            "disagreements": int(
                conn.execute(sa.text("select count(*) from review_disagreement")).scalar() or 0
            ),
            "counts": dict(
                conn.execute(sa.text("select is_lens, count(*) from calibrator group by is_lens")).all()
            ),
            "settings": dict(
                conn.execute(sa.text("select name, value from cut_setting where name like 'review_%'")).all()
            ),
        }

    found = store.reading(db, work)
    _how(found["counts"], found["settings"])
    left, right = st.columns([1, 1.3], gap="medium")
    with left:
        _confusion(found["confusion"], who)
        _disagreements(found["disagreements"], who)
        if who.is_adjudicator:
            _settings(found["settings"])
    with right:
        _consensus(found["consensus"], who, found["settings"])


def _how(counts: dict[Any, int], settings: dict[str, float]) -> None:
    n = sum(counts.values())
    if not n:
        st.info(
            "No calibrators yet: every reviewer counts for nothing in the consensus. Choose objects of known"
            " truth with: lensmine review calibrators --injections 50"
        )
        return
    st.html(
        f"<div class='lm-sub'>{counts.get(True, 0)} lenses and {counts.get(False, 0)} others of known truth"
        f" are mixed unmarked into every queue, {100 * settings.get('review_calibration_rate', 0):.0f}% of"
        " what is shown.</div>"
    )


def _confusion(rows: pd.DataFrame, who: Reviewer) -> None:
    st.subheader("Confusion matrices")
    mine = rows if who.is_adjudicator else rows[rows["reviewer_id"] == who.reviewer_id]
    for name, one in mine.groupby("reviewer", sort=True):
        body = []
        for is_lens, part in one.groupby("is_lens", sort=False):
            of: dict[str, Any] = {row["grade"]: row for row in part.to_dict("records")}
            total = int(of["A"]["n_truth"])
            cells = [
                (
                    f"{of[g]['n']} ({100 * of[g]['share_lo']:.0f} to {100 * of[g]['share_hi']:.0f}%)"
                    if total
                    else "0"
                )
                for g in GRADES
            ]
            body.append([f"{'lens' if is_lens else 'no lens'}, {total} seen", *cells])
        st.html(f"<div class='lm-head'>{html.escape(str(name))}</div>" + table(["Truth", *GRADES], body))
    aside(
        "Calibrators given each grade, with the 95% interval of the share. The consensus weighs a grade g by"
        " P(g | lens) / P(g | no lens), each estimated as (n + 1) / (N + 4): SWAP, Marshall et al. 2016,"
        " MNRAS 455, 1171."
    )


def _disagreements(n: int, who: Reviewer) -> None:
    st.subheader("Disagreements")
    if not n:
        st.write("None to settle.")
        return
    st.write(f"{n} objects have grades far apart and no verdict.")
    if who.is_adjudicator:
        st.page_link(
            st.session_state["pages"]["review"], label="Settle them", query_params={"source": "disagreement"}
        )
    else:
        aside("An adjudicator settles them.")


def _consensus(rows: pd.DataFrame, who: Reviewer, settings: dict[str, float]) -> None:
    st.subheader("Consensus")
    if rows.empty:
        st.info(
            "No grades yet."
            if who.is_adjudicator
            else "You have graded nothing yet: the consensus of an object is shown after your grade."
        )
        return
    if not who.is_adjudicator:
        aside("Objects that you have graded.")
    names = [
        "native_id",
        "n_grade",
        *(f"n_{g.lower()}" for g in GRADES),
        "p_lens",
        "p_lens_lo",
        "p_lens_hi",
        "verdict",
    ]
    shown = rows[names].assign(target_id=rows["target_id"].astype(str))
    st.dataframe(shown, hide_index=True, height=320, width="stretch")
    st.download_button(
        "Consensus (CSV)", rows.to_csv(index=False).encode(), "consensus.csv", "text/csv", on_click="ignore"
    )
    top = rows.head(60)
    rank = np.arange(1, len(top) + 1)
    show(
        Chart(
            "consensus",
            "Consensus of the grades",
            "place",
            "probability of a lens",
            [
                Series(
                    "consensus with 95% interval",
                    rank,
                    top["p_lens"],
                    top["p_lens_lo"],
                    top["p_lens_hi"],
                    "points",
                )
            ],
            f"SWAP with prior {settings.get('review_prior_lens', float('nan')):g},"
            f" {pd.Timestamp.now('UTC'):%Y-%m-%d %H:%M} UTC",
            f"{len(rows)} graded objects.",
            y_range=(0, 1),
        )
    )


def _settings(values: dict[str, float]) -> None:
    st.subheader("Settings of the review")
    with st.form("review_settings"):
        new = {
            name: st.number_input(
                label, lo, hi, float(np.clip(values.get(name, lo), lo, hi)), step, key=name, format="%.4g"
            )
            for name, (label, lo, hi, step) in SETTINGS.items()
        }
        if st.form_submit_button("Save settings"):
            store.save_settings(current().db, new)
            st.session_state.pop("session", None)
            st.rerun()
