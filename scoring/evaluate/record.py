"""Evaluations as rows: table evaluation, one row a model and test set, and table metric, one row a figure."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

import sqlalchemy as sa

from schema.console import jsonable
from schema.engine import connect_engine
from schema.ids import new_run_id
from schema.tables import evaluation as evaluation_table
from schema.tables import metric as metric_table
from schema.upsert import insert_rows
from scoring.evaluate.figures import Evaluation
from scoring.models.base import SpectralModel
from scoring.versions import ensure_model


def save(
    db: str | None, found: Sequence[Evaluation], models: Sequence[SpectralModel] | None = None
) -> list[int]:
    """Write evaluations and their figures in one transaction.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    found : sequence of Evaluation
        What to write; `evaluation_id` is set in each.
    models : sequence of SpectralModel, optional
        The models evaluated, in the same order, whose rows are added if the database lacks them; without
        them every Evaluation must have its `model_id`.

    Returns
    -------
    list of int
        The evaluation_ids.
    """
    with connect_engine(db).begin() as conn:
        for k, each in enumerate(found):
            if models is not None:
                each.model_id = ensure_model(conn, models[k])
            _write(conn, each)
    return [each.evaluation_id for each in found if each.evaluation_id is not None]


def _write(conn: sa.Connection, each: Evaluation) -> None:
    each.evaluation_id = new_run_id()
    row = {
        "evaluation_id": each.evaluation_id,
        "model_id": each.model_id,
        "name": each.name,
        "n_positive": each.n_positive,
        "n_negative": each.n_negative,
        "recipe": jsonable(each.recipe),
        "evaluated_at": datetime.datetime.now(datetime.UTC),
    }
    insert_rows(conn, evaluation_table, [row])
    figures = [
        {
            "evaluation_id": each.evaluation_id,
            "name": m.name,
            "point": m.point,
            "x": _finite(m.x),
            "value": _finite(m.value),
            "lo": _finite(m.lo),
            "hi": _finite(m.hi),
            "n": m.n,
        }
        for m in each.metrics
    ]
    insert_rows(conn, metric_table, figures)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
