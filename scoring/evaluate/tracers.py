"""Known lenses seeded among ordinary objects, and how high a model ranks them (Pourrahmani 2019).

Two definitions of ranking performance stand in the thesis, and both are given.

Section 2.4: the tracer rank curve is the share of tracers against the relative rank (rank over length of the
list, best first); the area between it and the diagonal is divided by that of a perfect classifier,
"approximately 1/2", so a perfect list stays a little below 1: ``ranking_performance_half``.

Section 4.6: objects are ordered from lowest to highest probability, and objects of equal probability share
one ordinality; the area is divided by that of a perfect classifier on the same list, half the share of the
others: ``ranking_performance``. It is 2 AUC - 1.

Ties. Section 2.4 says nothing of them: a list sorted at random among equals gives the mean over their orders,
which is the straight line through a group of equals. Section 4.6 lets the position grow by one per distinct
probability. Taken by the letter, over the length of the list, that would give a model with two values
positions 1/n and 2/n, and a constant model -1; here a group of equals shares the mean of its places instead.
Both definitions then agree on ties, and a constant model scores 0 in either.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import ArrayLike, NDArray

from schema.engine import connect_engine, read_frame
from schema.errors import UserError
from schema.tables import tracer as tracer_table
from scoring.evaluate import metrics
from scoring.evaluate.figures import Evaluation, Metric, thinned
from scoring.evaluate.intervals import clopper_pearson
from scoring.evaluate.stored import latest_version
from scoring.leases import bare
from scoring.predicate import VIEW, check_predicate, where_clause

Array = NDArray[np.float64]

SOURCES = {
    "known": (
        "known_lens",
        "not {v}.is_injection and "
        "exists (select 1 from known_lens_match k where k.target_id = {v}.target_id)",
    ),
    "injections": (
        "injection",
        "exists (select 1 from injection k where k.target_id = {v}.target_id and k.is_lens)",
    ),
}
"""Where tracers may come from: their origin in table tracer, and a condition over view selectable.

Arcs that were put onto the cutout of a known lens lie where it lies, and are no known lens.
"""

N_RESAMPLES = 1000

HELD = """
select count(*) from tracer
where tracer.name = :name and exists (
    select 1 from {table} as t where t.target_id = tracer.target_id and t.is_primary
)
"""


# ---------------------------------------------------------------------- the set


@dataclass(frozen=True)
class TracerSet:
    """What ``tracers add`` did: tracers added now, in the set by now, and those that models can score."""

    name: str
    added: int
    total: int
    with_cutout: int = 0
    with_spectrum: int = 0


def add_tracers(
    db: str | None, name: str, source: str | None = None, where_sql: str | None = None
) -> TracerSet:
    """Add targets to a named set of tracers; those in it already stay.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    name : str
        Name of the set.
    source : str, optional
        ``known`` (targets near a known lens) or ``injections`` (simulated lenses).
    where_sql : str, optional
        SQL condition over view selectable; with a source, it narrows that down.

    Raises
    ------
    UserError
        Neither source nor condition, an unknown source, a condition that is refused, or no target found.
    """
    if source is None and where_sql is None:
        raise UserError('tracers need --from known, --from injections or --where "CONDITION"')
    if source is not None and source not in SOURCES:
        raise UserError(f"no tracers come from {source!r}; choose from {', '.join(SOURCES)}, or use --where")
    origin, condition = SOURCES[source] if source else ("list", "true")
    conditions = [condition.format(v=VIEW)]
    if where_sql is not None:
        with connect_engine(db, read_only=True).connect() as conn:
            check_predicate(conn, where_sql)
        conditions.append(where_clause(where_sql))
    where = " and ".join(conditions)
    text = name.replace("'", "''")
    now = datetime.datetime.now(datetime.UTC).isoformat()
    with connect_engine(db).begin() as conn:
        found = int(bare(conn).exec_driver_sql(f"select count(*) from {VIEW} where {where}").scalar_one())
        if not found:
            raise UserError(
                f"no target fits: tracer set {name!r} stays as it is; asked: {' '.join(where.split())}"
            )
        before = _size(conn, name)
        bare(conn).exec_driver_sql(f"""
            insert into tracer (name, target_id, origin, added_at)
            select '{text}', found.target_id, '{origin}', cast('{now}' as timestamp with time zone)
            from (select distinct target_id from {VIEW} where {where}) as found
            where not exists (
                select 1 from tracer as t where t.name = '{text}' and t.target_id = found.target_id
            )""")
        total = _size(conn, name)
        held = [
            int(conn.execute(sa.text(HELD.format(table=table)), {"name": name}).scalar_one())
            for table in ("cutout", "spectrum")
        ]
    return TracerSet(name, total - before, total, *held)


def list_tracers(db: str | None) -> list[dict[str, Any]]:
    """Every set of tracers with its size, by origin."""
    query = "select name, origin, count(*) as tracers from tracer group by name, origin order by name, origin"
    with connect_engine(db, read_only=True).connect() as conn:
        return [dict(row) for row in conn.execute(sa.text(query)).mappings()]


def _size(conn: sa.Connection, name: str) -> int:
    c = tracer_table.c
    return int(conn.execute(sa.select(sa.func.count()).where(c.name == name)).scalar_one())


# ---------------------------------------------------------------------- how high they stand


def places(label: ArrayLike, score: ArrayLike) -> tuple[Array, Array]:
    """Where each tracer stands.

    Parameters
    ----------
    label : ndarray of bool, shape (n,)
        True for a tracer.
    score : ndarray, shape (n,)
        Higher is better; a NaN stands last.

    Returns
    -------
    outranked : ndarray, shape (tracers,)
        Share of the others that stand above it, those of equal score counting one half.
    depth : ndarray, shape (tracers,)
        Share of the list to read until it is surely reached: all of its equals are read too.
    """
    y, s = np.asarray(label, dtype=bool), np.nan_to_num(np.asarray(score, dtype=float), nan=-np.inf)
    others, every = np.sort(s[~y]), np.sort(s)
    mine = s[y]
    below = np.searchsorted(others, mine, side="left")
    at_most = np.searchsorted(others, mine, side="right")
    above = len(others) - 0.5 * (below + at_most)
    read = len(every) - np.searchsorted(every, mine, side="left")
    return above / max(len(others), 1), read / len(every)


def ranking_figures(label: ArrayLike, score: ArrayLike, seed: int = 0) -> list[Metric]:
    """Ranking performance in both definitions and the shares to inspect, intervals by bootstrap over tracers.

    The interval of ``inspect_all`` describes this set: the deepest of other tracers may well stand deeper.
    """
    outranked, depth = places(label, score)
    k, n = len(outranked), len(np.asarray(label))
    if not k or k == n:
        raise UserError(f"a ranking needs tracers and others; there are {k} tracers and {n - k} others")
    drawn = np.random.default_rng(seed).integers(k, size=(N_RESAMPLES, k))
    exact, exacts = 1 - 2 * outranked.mean(), 1 - 2 * outranked[drawn].mean(axis=1)
    figures = {
        "ranking_performance": (exact, exacts),
        "ranking_performance_half": (exact * (1 - k / n), exacts * (1 - k / n)),
    }
    for name, share in (("inspect_all", 1.0), ("inspect_90", 0.9)):
        every = np.sort(depth[drawn], axis=1)
        at = int(np.ceil(share * k - 1e-9)) - 1
        figures[name] = (float(np.sort(depth)[at]), every[:, at])
    out = []
    for name, (value, values) in figures.items():
        lo, hi = np.percentile(values, [2.5, 97.5])
        out.append(Metric(name, float(value), float(lo), float(hi), k))
    return out


def add_trc(evaluation: Evaluation, label: ArrayLike, score: ArrayLike) -> None:
    """The tracer recovery curve, with exact binomial intervals of the share recovered."""
    k = int(np.asarray(label, dtype=bool).sum())
    rank, recovered = thinned(*metrics.tracer_recovery_curve(label, score), logarithmic=True)
    lo, hi = clopper_pearson(np.rint(recovered * k), k)
    evaluation.add_curve("trc", rank, recovered, lo, hi, k)


RANKED = """
select r.target_id, r.probability, r.modality,
    exists (select 1 from tracer where tracer.name = :name and tracer.target_id = r.target_id) as is_tracer,
    exists (select 1 from known_lens_match as k where k.target_id = r.target_id) as is_known,
    exists (select 1 from injection as i where i.target_id = r.target_id and i.is_lens) as is_simulated_lens
from ranked as r
where r.model_id = :model_id
"""


def evaluate_trc(
    db: str | None,
    model_name: str,
    tracers: str,
    negatives: str | None = None,
    last_ordinality: float | None = None,
    last_model: str | None = None,
) -> Evaluation:
    """Tracer recovery curve and ranking performance of what stands in view ranked.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    model_name : str
        A model that has scored, of spectra or of images; of several versions the one that scored last.
    tracers : str
        Name of the set of tracers.
    negatives : str, optional
        Selection of the ordinary objects; all that the model has scored without it. Known lenses and
        simulated lenses that are no tracers are left out.
    last_ordinality : float, optional
        Keep only the objects of at least this ordinality (share of the list at or below it, section 4.6) by
        `last_model`: 0.94 gives the hardest 6% of the phase before.
    last_model : str, optional
        The model of the phase before; the same one when left out.

    Raises
    ------
    UserError
        The model or the set is unknown, or no tracer or no other object is left.
    """
    with connect_engine(db, read_only=True).connect() as conn:
        model_id, threshold = latest_version(conn, model_name)
        total = _size(conn, tracers)
        if not total:
            known = sorted({row["name"] for row in list_tracers(db)})
            raise UserError(
                f"no tracers are called {tracers!r}; "
                + (
                    f"there are {', '.join(known)}"
                    if known
                    else "add some: lensmine tracers add NAME --from known"
                )
            )
        frame = read_frame(conn, RANKED, model_id=model_id, name=tracers)
        keep = frame.is_tracer | ~(frame.is_known | frame.is_simulated_lens)
        if negatives is not None:
            chosen = _targets(conn, db, negatives)
            keep &= frame.is_tracer | frame.target_id.isin(chosen)
        if last_ordinality is not None:
            before, _ = latest_version(conn, last_model or model_name)
            query = "select target_id, probability from ranked where model_id = :m"
            last = read_frame(conn, query, m=before)
            high = last.target_id[metrics.ordinality(last.probability.to_numpy()) >= last_ordinality]
            keep &= frame.target_id.isin(high)
    kept = frame[keep]
    label, score = kept.is_tracer.to_numpy(dtype=bool), kept.probability.to_numpy(dtype=float)
    k, n = int(label.sum()), len(label)
    if not k or k == n:
        raise UserError(
            f"{model_name} ranks {k} of the {total} tracers {tracers!r} and {n - k} others; both are needed: "
            f"lensmine score {model_name} SELECTION"
        )
    note = {
        "recipe": "tracers among what the model has scored",
        "tracers": tracers,
        "n_tracers": total,
        "n_tracers_ranked": k,
        "negatives": negatives or "all that is scored, without other known or simulated lenses",
        "last_ordinality": last_ordinality,
        "last_model": last_model if last_ordinality is not None else None,
        "threshold": threshold,
    }
    evaluation = Evaluation(model_name, "trc", k, n - k, note, model_id=model_id)
    evaluation.metrics += ranking_figures(label, score)
    add_trc(evaluation, label, score)
    return evaluation


def _targets(conn: sa.Connection, db: str | None, selection: str) -> list[int]:
    from scoring.selection import checked_selection

    chosen = checked_selection(db, selection)
    return list(bare(conn).exec_driver_sql(f"select target_id from {VIEW} where {chosen.where}").scalars())
