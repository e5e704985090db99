"""How a round ranks its tracers among the pool."""

from __future__ import annotations

from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from schema.engine import connect_engine
from schema.tables import tracer
from scoring.evaluate.intervals import bootstrap
from scoring.evaluate.metrics import ranking_performance
from scoring.predicate import VIEW


def judge_ranking(db: str | None, model_id: int, tracers: str, pool_sql: str) -> dict[str, Any]:
    """Ranking performance and the share of the list that holds all tracers, with bootstrap intervals.

    The list is the pool with the tracers in it; other known lenses of the pool are left out, as they are by
    ``lensmine evaluate trc``.

    Parameters
    ----------
    db : str or None
        Database.
    model_id : int
        Model version whose current scores are ranked.
    tracers : str
        Set of tracers.
    pool_sql : str
        Predicate of the pool.

    Returns
    -------
    dict
        n_tracers (those that the model scored), n_tracers_named, n_ranked, ranking_performance and its
        interval, share_for_all, share_for_90.
    """
    name = tracers.replace("'", "''")
    query = f"""
        select s.target_id, s.probability, t.target_id is not null as is_tracer
        from current_image_score as s
        left join (select target_id from tracer where name = '{name}') as t on t.target_id = s.target_id
        where s.model_id = {int(model_id)}
            and (t.target_id is not null
                or (s.target_id in (select target_id from {VIEW} where (\n{pool_sql}\n))
                    and s.target_id not in (select target_id from known_lens_match)))"""
    with connect_engine(db, read_only=True).connect() as conn:
        rows = conn.execution_options(no_parameters=True).exec_driver_sql(query).all()
        named = conn.execute(
            sa.select(sa.func.count()).select_from(tracer).where(tracer.c.name == tracers)
        ).scalar_one()
    score = np.array([r[1] for r in rows], dtype=float)
    label = np.array([bool(r[2]) for r in rows], dtype=bool)
    result: dict[str, Any] = {
        "n_tracers": int(label.sum()),
        "n_tracers_named": int(named),
        "n_ranked": len(rows),
    }
    if not label.any() or label.all():
        return result
    value = ranking_performance(label, score)
    positive, negative = score[label], score[~label]

    def resampled(index: NDArray[np.int64]) -> float:
        some = np.concatenate([np.ones(len(index), bool), np.zeros(len(negative), bool)])
        return ranking_performance(some, np.concatenate([positive[index], negative]))

    low, high = bootstrap(resampled, np.arange(len(positive)))
    places = np.array([np.mean(score >= p) for p in positive])  # with ties, the last of their places
    return result | {
        "ranking_performance": value,
        "ranking_performance_interval": [float(low), float(high)],
        "share_for_all": float(places.max()),
        "share_for_90": float(np.quantile(places, 0.9)),
    }
