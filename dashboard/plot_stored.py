"""Plots of what was measured before: selection functions and the curves of evaluations."""

from __future__ import annotations

import pandas as pd
import sqlalchemy as sa

from dashboard.charts import Chart, Series
from schema.engine import read_frame
from scoring.evaluate.intervals import clopper_pearson


def selection_slices(conn: sa.Connection) -> pd.DataFrame:
    """Every cell of the measured selection functions."""
    return read_frame(
        conn,
        """
        select selection_function.*, model.name as model from selection_function
        inner join model on model.model_id = selection_function.model_id
        order by measured_at desc, x_name, x_lo, y_lo
        """,
    )


def selection_chart(cells: pd.DataFrame, lo: float, hi: float) -> Chart:
    """P(selected) along the first parameter, for cells of the second within [lo, hi].

    Parameters
    ----------
    cells : DataFrame
        Cells of one measurement, stage and pair of parameters.
    lo, hi : float
        Reach of the second parameter; without one they are ignored.
    """
    first = cells.iloc[0]
    inside = (
        cells
        if pd.isna(first["y_name"])
        else cells[(cells["y_lo"] >= lo - 1e-9) & (cells["y_hi"] <= hi + 1e-9)]
    )
    sums = inside.groupby(["x_lo", "x_hi"], as_index=False)[["n_injected", "n_selected"]].sum()
    sums = sums[sums["n_injected"] > 0]
    low, high = clopper_pearson(sums["n_selected"], sums["n_injected"])
    middle = 0.5 * (sums["x_lo"] + sums["x_hi"])
    when = f"{first['measured_at']:%Y-%m-%d %H:%M} UTC" if first["measured_at"] is not None else ""
    reach = "" if pd.isna(first["y_name"]) else f", {first['y_name']} {lo:g} to {hi:g}"
    return Chart(
        f"selection_{first['x_name']}",
        f"Selection function, {first['stage']}",
        str(first["x_name"]),
        "share selected",
        [Series(f"{first['model']}{reach}", middle, sums["n_selected"] / sums["n_injected"], low, high)],
        f"model {first['model']}, instrument {first['instrument']}, threshold {first['threshold']}, "
        f"measurement {first['measurement_id']}, {when}",
        f"{int(sums['n_injected'].sum()):,} injections.",
        y_range=(0, 1),
    )


def stored_curve(conn: sa.Connection, evaluation_id: int, name: str) -> Chart:
    """A curve that an evaluation left in table metric."""
    about = (
        conn.execute(
            sa.text(
                "select evaluation.name, evaluation.evaluated_at, evaluation.n_positive,"
                " evaluation.n_negative, model.name as model, model.weights_hash from evaluation inner join"
                " model on model.model_id = evaluation.model_id where evaluation_id = :e"
            ),
            {"e": evaluation_id},
        )
        .mappings()
        .one()
    )
    rows = read_frame(
        conn,
        "select * from metric where evaluation_id = :e and name = :n order by point",
        e=evaluation_id,
        n=name,
    )
    return Chart(
        f"{name}_{evaluation_id}",
        f"{name.replace('_', ' ')} of test set {about['name']}",
        "x",
        "value",
        [
            Series(
                about["model"],
                rows["x"].astype(float),
                rows["value"].astype(float),
                rows["lo"].astype(float),
                rows["hi"].astype(float),
            )
        ],
        f"model {about['model']} {about['weights_hash'][:8]}, test set {about['name']},"
        f" {about['evaluated_at']:%Y-%m-%d %H:%M} UTC",
        f"{about['n_positive']} lenses, {about['n_negative']} others.",
    )
