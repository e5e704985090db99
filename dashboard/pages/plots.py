"""Plots: every one says what it shows, and downloads as data and as a picture."""

from __future__ import annotations

import functools
import html
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import store
from dashboard.charts import Chart
from dashboard.plot_data import PLOTS
from dashboard.plot_stored import selection_chart, selection_slices, stored_curve
from dashboard.plot_versions import versions, what, what_all
from dashboard.settings import current
from schema.engine import read_frame
from schema.errors import UserError

MORE = {"selection": "Selection function", "stored": "Curves of evaluations"}
STORED = """
select evaluation.evaluation_id, evaluation.name as test_set, model.name as model, metric.name as curve,
    evaluation.evaluated_at, count(*) as points
from metric
inner join evaluation on evaluation.evaluation_id = metric.evaluation_id
inner join model on model.model_id = evaluation.model_id
group by evaluation.evaluation_id, evaluation.name, model.name, metric.name, evaluation.evaluated_at
having count(*) > 1
order by evaluation.evaluated_at desc, metric.name
"""


def page() -> None:
    """The page."""
    db = current().db
    names = {**{k: v[0] for k, v in PLOTS.items()}, **MORE}
    asked = st.query_params.get("plot", "trc")
    with st.sidebar:
        name = st.radio(
            "Plot",
            list(names),
            index=list(names).index(asked) if asked in names else 0,
            format_func=names.get,
        )
    if st.query_params.get("plot") != name:
        st.query_params.from_dict({"plot": name})
    st.subheader(names[name])
    if name == "selection":
        _selection(db)
    elif name == "stored":
        _stored(db)
    else:
        _one(db, name)


def _one(db: str | None, name: str) -> None:
    _, maker, of_model = PLOTS[name]
    every: list[Any] = store.reading(db, versions)
    if of_model and not every:
        raise UserError("no model has scored anything yet; begin with: lensmine score MODEL SELECTION")
    choices = every if of_model else [None, *every]
    version = st.selectbox(
        "Model and run",
        choices,
        format_func=lambda v: "All models" if v is None else what(v),
        key=f"version_{name}",
    )
    chart = store.reading(db, lambda conn: maker(conn, version, {}))
    show(chart if version is not None else replace(chart, shows=what_all(every)))


def show(chart: Chart) -> None:
    """A plot with what it shows, its data as a table, and its downloads."""
    st.altair_chart(chart.vega(), width="stretch")
    st.html(f"<div class='lm-sub' role='note'>{html.escape(chart.says)} {html.escape(chart.shows)}</div>")
    with st.container(horizontal=True, gap="small"):
        st.download_button(
            "Data (CSV)", chart.csv, f"{chart.key}.csv", "text/csv", on_click="ignore", key=f"csv_{chart.key}"
        )
        for kind, mime in (("png", "image/png"), ("pdf", "application/pdf"), ("svg", "image/svg+xml")):
            st.download_button(
                f"Picture ({kind.upper()})",
                functools.partial(chart.picture, kind),
                f"{chart.key}.{kind}",
                mime,
                on_click="ignore",
                key=f"{kind}_{chart.key}",
            )
    with st.expander("The data as a table"):
        st.dataframe(chart.frame(), hide_index=True, height=300)


def _selection(db: str | None) -> None:
    cells = store.reading(db, selection_slices)
    if cells.empty:
        raise UserError(
            "no selection function has been measured yet; measure one with: lensmine selection-function"
        )
    keys = ["measurement_id", "model", "stage", "instrument", "x_name", "y_name"]
    groups = list(cells[keys].drop_duplicates().itertuples(index=False))

    def named(g: Any) -> str:
        pair = f"{g.x_name} and {g.y_name}" if isinstance(g.y_name, str) else str(g.x_name)
        return f"{g.model}, {g.stage}, {g.instrument}, {pair}, measurement {g.measurement_id}"

    chosen = st.selectbox("Measurement", groups, format_func=named)
    mine = cells
    for key in keys:
        value = getattr(chosen, key)
        mine = mine[mine[key].isna()] if pd.isna(value) else mine[mine[key] == value]
    if not isinstance(chosen.y_name, str):
        show(selection_chart(mine, 0.0, 0.0))
        return
    swap = {"x_name": "y_name", "x_lo": "y_lo", "x_hi": "y_hi"}
    left, right = st.columns(2, gap="medium")
    with left:
        of_x = _cells_of(mine, "x", str(chosen.x_name))
    with right:
        of_y = _cells_of(mine, "y", str(chosen.y_name))
    # both sliders act on both plots: each shows one parameter within its range, over the other's range
    inside = mine
    for axis, (lo, hi) in (("x", of_x), ("y", of_y)):
        inside = inside[(inside[f"{axis}_lo"] >= lo - 1e-9) & (inside[f"{axis}_hi"] <= hi + 1e-9)]
    show(selection_chart(inside, *of_y))
    show(selection_chart(inside.rename(columns={**swap, **{v: k for k, v in swap.items()}}), *of_x))


def _cells_of(cells: pd.DataFrame, axis: str, name: str) -> tuple[float, float]:
    """Range of a parameter that a slider asks for, from edge to edge of its cells."""
    edges = sorted({*cells[f"{axis}_lo"].astype(float), *cells[f"{axis}_hi"].astype(float)})
    lo, hi = st.select_slider(
        f"Cells of {name}", edges, (edges[0], edges[-1]), format_func=lambda v: f"{v:g}",
        key=f"selection_{axis}",
    )  # fmt: skip
    if lo == hi:
        raise UserError(f"the slice is empty: choose two different edges of {name}")
    return lo, hi


def _stored(db: str | None) -> None:
    rows = store.reading(db, lambda conn: read_frame(conn, STORED))
    if rows.empty:
        raise UserError("no evaluation has been stored yet; make one with: lensmine evaluate")
    chosen: Any = st.selectbox(
        "Curve", list(rows.itertuples(index=False)),
        format_func=lambda r: f"{r.curve}: {r.model} on {r.test_set}, {r.evaluated_at:%Y-%m-%d %H:%M} UTC",
    )  # fmt: skip
    show(store.reading(db, lambda conn: stored_curve(conn, int(chosen.evaluation_id), chosen.curve)))
