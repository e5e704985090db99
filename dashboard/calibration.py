"""Which objects of known truth calibrate the reviewers."""

from __future__ import annotations

from typing import Any

import numpy as np
import sqlalchemy as sa

from dashboard import store
from dashboard.queues import mixed
from schema.engine import connect_engine
from schema.errors import UserError

SCORED = """
select injection.target_id from injection
where injection.is_lens = :is_lens and (
    exists (select 1 from score where score.target_id = injection.target_id)
    or exists (select 1 from image_score where image_score.target_id = injection.target_id)
    or exists (select 1 from cutout where cutout.target_id = injection.target_id)
)
"""


def choose_calibrators(
    db: str | None,
    *,
    lenses: str | None = None,
    others: str | None = None,
    injections: int = 0,
    limit: int = 200,
    seed: int = 1,
) -> dict[str, int]:
    """Enter calibrators, and count those there are.

    Parameters
    ----------
    db : str or None
        Database.
    lenses, others : str, optional
        SQL conditions on view selectable for lenses and non-lenses.
    injections : int
        So many simulated lenses and so many controls besides.
    limit, seed : int
        Most targets of each condition, and which of them.

    Returns
    -------
    dict of int
        new, lenses, others.

    Raises
    ------
    UserError
        When a condition is refused by the database, or nothing fits.
    """
    new = 0
    for where, is_lens in ((lenses, True), (others, False)):
        if where is not None:
            ids = _ids(db, f"select selectable.target_id from selectable where ({where})", {}, where)
            new += store.add_calibrators(db, _some(ids, limit, seed), is_lens=is_lens, origin="list")
    if injections:
        for is_lens in (True, False):
            ids = _ids(db, SCORED, {"is_lens": is_lens}, "injection")
            origin = "injection" if is_lens else "control"
            new += store.add_calibrators(db, _some(ids, injections, seed), is_lens=is_lens, origin=origin)

    def count(conn: sa.Connection) -> dict[bool, int]:
        return {
            bool(k): int(n)
            for k, n in conn.execute(
                sa.text("select is_lens, count(*) from calibrator group by is_lens")
            ).all()
        }

    counts = store.reading(db, count)
    return {"new": new, "lenses": counts.get(True, 0), "others": counts.get(False, 0)}


def _ids(db: str | None, query: str, params: dict[str, Any], what: str) -> list[int]:
    with connect_engine(db, read_only=True).connect() as conn:
        try:
            if params:
                found = list(conn.execute(sa.text(query), params).scalars())
            else:  # a person's SQL may hold colons and percent signs
                found = list(conn.execution_options(no_parameters=True).exec_driver_sql(query).scalars())
        except sa.exc.DBAPIError as exc:
            raise UserError(
                f"the database refuses {what!r}: {str(exc.orig).strip().splitlines()[0]}"
            ) from exc
    if not found:
        raise UserError(f"no target fits {what!r}; see the columns with: lensmine select columns")
    return [int(t) for t in found]


def _some(ids: list[int], n: int, seed: int) -> list[int]:
    values = np.array(sorted(ids), dtype=np.int64)
    return [int(t) for t in values[np.argsort(mixed(values, seed))][:n]]
