"""Runs: what ran, how fast, what failed and why, what is stale, and what cron will do next."""

from __future__ import annotations

import html
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import store
from dashboard.settings import current
from dashboard.shell import aside, table
from schema.engine import read_frame

RUNS = """
select scoring_run.run_id, scoring_run.started_at, model.name as model, selection.name as selection,
    coalesce(scoring_run.modality, 'spectrum') as modality, scoring_run.status, scoring_run.n_selected,
    scoring_run.n_todo, scoring_run.n_scored, scoring_run.spectra_per_s as per_s, scoring_run.backend,
    scoring_run.precision, scoring_run.device, scoring_run.host, scoring_run.finished_at, scoring_run.message
from scoring_run
inner join model on model.model_id = scoring_run.model_id
left join selection on selection.selection_id = scoring_run.selection_id
order by scoring_run.run_id desc limit 200
"""
JOBS = """
select job_id, started_at, finished_at, command, status, exit_code, message from job order by job_id desc
limit 200
"""
CHUNKS = """
select run_id, state, count(*) as chunks, sum(n_spectra) as objects, max(lease_until) as lease_until,
max(lease_owner) as owner
from run_chunk where run_id in (select run_id from scoring_run where status = 'running')
group by run_id, state order by run_id desc, state
"""
REJECTS = """
select reason_code, fatal, count(*) as n, count(distinct source_file_id) as files, min(reason) as example,
    max(rejected_at) as last_at
from reject group by reason_code, fatal order by count(*) desc
"""
SOME_REJECTS = """
select path, hdu, row_index, native_id, reason, rejected_at from reject
where reason_code = :code order by rejected_at desc, reject_id limit 200
"""
FILES = """
select kind, count(*) as files, sum(n_rows) as n_rows, sum(n_rejected) as n_rejected, max(ingested_at) as
last_ingest
from source_file group by kind order by kind
"""


def page() -> None:
    """The page."""
    db = current().db

    def work(conn: Any) -> dict[str, pd.DataFrame]:
        return {name: read_frame(conn, query) for name, query in _QUERIES.items()}

    found = store.reading(db, work)
    st.subheader("Jobs of cron and of people")
    _next(found["jobs"])
    _frame(found["jobs"], "No job has run yet. A job is one run of lensmine refresh; cron starts it.")
    st.subheader("Scoring runs")
    _frame(found["runs"], "No model has scored yet. Begin with: lensmine score MODEL SELECTION")
    if not found["chunks"].empty:
        aside("Chunks of the runs at work")
        _frame(found["chunks"], "")
    st.subheader("What is stale")
    _stale(db)
    left, right = st.columns(2)
    with left:
        st.subheader("Files read")
        _frame(found["files"], "No file has been read yet. Begin with: lensmine ingest sdss PATH")
    with right:
        st.subheader("Faults found in files")
        _rejects(db, found["rejects"])


_QUERIES = {"runs": RUNS, "jobs": JOBS, "chunks": CHUNKS, "rejects": REJECTS, "files": FILES}


def _frame(rows: pd.DataFrame, nothing: str) -> None:
    if rows.empty:
        st.info(nothing)
        return
    shown = rows.copy()
    for name in shown.columns:
        if name.endswith("_id"):
            shown[name] = shown[name].astype(str)  # JavaScript rounds 64-bit integers
    st.dataframe(shown, hide_index=True, height=min(38 + 35 * len(shown), 320), width="stretch")


def _next(jobs: pd.DataFrame) -> None:
    """When the next refresh is due, by the rhythm of the last ones."""
    begun = pd.to_datetime(jobs.loc[jobs["command"] == "refresh", "started_at"], utc=True)
    if len(begun) >= 3:
        gap = begun.sort_values().diff().dropna().median()
        due = begun.max() + gap
        st.write(
            f"The last {len(begun)} refreshes came every {gap.total_seconds() / 3600:.1f} hours: the next is"
            f" due about {due:%Y-%m-%d %H:%M} UTC."
        )
    else:
        st.write(
            "Fewer than three refreshes have run: cron's rhythm cannot be told yet. docs/cron.md has a line"
            " for cron."
        )
    failed = jobs[(jobs["status"] == "failed")]
    if len(failed) and len(jobs) and jobs.iloc[0]["status"] == "failed":
        st.html(
            "<div class='lm-bad'>The last job failed with exit code"
            f" {html.escape(str(jobs.iloc[0]['exit_code']))}:"
            f" {html.escape(str(jobs.iloc[0]['message']))}</div>"
        )


def _stale(db: str | None) -> None:
    if not st.button("Count what is stale", help="Asks for every model and selection; takes a few seconds."):
        aside("What the next refresh would score, fit and export.")
        return
    from lensmine_status import collect_status

    with st.spinner("counting"):
        status = collect_status(db)
    rows = [
        [
            s["model"],
            s["selection"],
            s.get("current", ""),
            s.get("todo", 0),
            s.get("never_scored", ""),
            s.get("pixels_changed", ""),
            s.get("redshift_changed", ""),
            s.get("weights_changed", ""),
            s.get("problem", ""),
        ]
        for s in status["scores"]
    ]
    head = [
        "Model",
        "Selection",
        "Current",
        "To score",
        "Never scored",
        "Pixels changed",
        "Redshift changed",
        "Weights changed",
        "",
    ]
    st.html(table(head, rows) if rows else "<div class='lm-sub'>Nothing has been scored.</div>")
    if status["next"]:
        st.write("The next refresh does:")
        st.code("\n".join(status["next"]), language="bash")
    else:
        st.write("Nothing is stale: the next refresh has nothing to do.")


def _rejects(db: str | None, rows: pd.DataFrame) -> None:
    if rows.empty:
        st.info("No fault has been found in the files read.")
        return
    shown = rows.assign(fatal=rows["fatal"].map({True: "left out", False: "repaired"}))
    st.dataframe(shown, hide_index=True, height=min(38 + 35 * len(shown), 320), width="stretch")
    code = st.selectbox(
        "Files with this fault",
        ["", *rows["reason_code"].drop_duplicates()],
        format_func=lambda c: c or "choose a reason",
    )
    if code:
        _frame(store.reading(db, lambda conn: read_frame(conn, SOME_REJECTS, code=code)), "")
