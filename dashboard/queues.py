"""Which objects a reviewer sees, and in what order."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from dashboard import store
from schema.engine import read_columns
from schema.errors import UserError

Ids = NDArray[np.int64]
SOURCES = {
    "proposed": "Candidates of spectra and images",
    "candidate": "Candidates of spectra",
    "image_candidate": "Candidates of images",
    "disagreement": "Disagreements to settle",
}
"""Queues besides the selections of the database, which are named ``selection:NAME``."""
ORDERS = {
    "probability": "Most probable first",
    "spread": "Models disagree most first",
    "shuffled": "Shuffled",
}
MAX_SEED = 2**53 - 1
"""A browser's numbers are exact up to there."""
KEEP_S = 20.0
"""An order is taken from memory this long before the database is asked whether it changed [s]."""
KEEP_ORDERS = 6


@dataclass(frozen=True)
class QueueSpec:
    """What a reviewer asked to see; it stands in the page's address, so a reload keeps it.

    Attributes
    ----------
    source : str  key of SOURCES, or ``selection:NAME``
    model : str  only candidates of this model, of selections and disagreements what it scored; empty for all
    order : str  key of ORDERS
    seed : int  another seed is another shuffle
    hide_graded, hide_enough, hide_known : bool  leave out what I graded, what has grades enough, known lenses
    """

    source: str = "proposed"
    model: str = ""
    order: str = "probability"
    seed: int = 1
    hide_graded: bool = True
    hide_enough: bool = True
    hide_known: bool = False

    @property
    def name(self) -> str:
        """Name that a grade keeps of it."""
        return " ".join(
            x
            for x in (self.source, self.model, self.order, str(self.seed) if self.order == "shuffled" else "")
            if x
        )

    @property
    def is_settling(self) -> bool:
        """Whether grades given in it are verdicts on disagreements."""
        return self.source == "disagreement"

    def as_query(self) -> dict[str, str]:
        """As parameters of an address, defaults left out."""
        base = asdict(QueueSpec())
        return {
            k: str(int(v)) if isinstance(v, bool) else str(v) for k, v in asdict(self).items() if v != base[k]
        }

    @classmethod
    def from_query(cls, query: dict[str, str]) -> QueueSpec:
        """From parameters of an address; what it does not understand is left at its default."""
        known: dict[str, Any] = {}
        for key, default in asdict(cls()).items():
            text = query.get(key)
            if text is None:
                continue
            if isinstance(default, bool):
                known[key] = text == "1"
            elif isinstance(default, int):
                found = _whole(text, MAX_SEED + 1)
                known[key] = default if found is None else found
            else:
                known[key] = text
        spec = cls(**known)
        if spec.order not in ORDERS or (
            spec.source not in SOURCES and not spec.source.startswith("selection:")
        ):
            return cls()
        return spec


@dataclass(frozen=True)
class Place:
    """Where a reviewer stands in a queue; it stands in the page's address, so a restart goes on there.

    Attributes
    ----------
    at : int or None  target on screen
    past : int or None  the last target of the queue that was passed before it
    """

    at: int | None = None
    past: int | None = None

    def as_query(self) -> dict[str, str]:
        """As parameters of an address."""
        return {k: str(v) for k, v in asdict(self).items() if v is not None}

    @classmethod
    def from_query(cls, query: dict[str, str]) -> Place:
        """From parameters of an address; what is no target's key is left out."""
        given = {k: _whole(str(query.get(k, "")), 2**63) for k in ("at", "past")}
        return cls(**given)


def _whole(text: str, bound: int) -> int | None:
    """The whole number that a text holds, None when it holds none or one of `bound` or more."""
    found = int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) else None
    return found if found is not None and abs(found) < bound else None


@dataclass(frozen=True)
class Order:
    """A queue for everyone, before a reviewer's filters.

    Attributes
    ----------
    target_id : ndarray of int64, shape (n,)
    probability : ndarray, shape (n,)
    is_known : ndarray of bool, shape (n,)
    stamp : tuple  changes when the database does
    """

    target_id: Ids
    probability: NDArray[np.float64]
    is_known: NDArray[np.bool_]
    stamp: tuple[Any, ...]


def mixed(values: Ids, seed: int) -> NDArray[np.uint64]:
    """Reproducible scramble of keys (splitmix64, Steele et al. 2014), the same on every engine."""
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


_orders: OrderedDict[tuple[Any, ...], tuple[float, Order]] = OrderedDict()
_found: OrderedDict[tuple[Any, ...], dict[str, NDArray[Any]]] = OrderedDict()
_lock = threading.Lock()
_making: dict[tuple[Any, ...], threading.Lock] = {}


def load_order(db: str | None, spec: QueueSpec) -> Order:
    """The queue in order, from memory where it is.

    One that is older than KEEP_S is returned as it is, and looked at anew in the background: a run that is
    writing scores keeps nobody waiting. Disagreements are few, and always asked for.

    Raises
    ------
    UserError
        When its selection is not in the database.
    """
    key = (db, spec.source, spec.model, spec.order, spec.seed)
    with _lock:
        found = _orders.get(key)
        making = _making.setdefault(key, threading.Lock())
    if found and spec.source != "disagreement":
        if time.monotonic() - found[0] > KEEP_S and not making.locked():
            threading.Thread(target=_renew_quietly, args=(db, spec, key, making), daemon=True).start()
        return found[1]
    with making:  # of two who ask at once, one asks the database
        with _lock:
            found = _orders.get(key)
        if found and time.monotonic() - found[0] < KEEP_S and spec.source != "disagreement":
            return found[1]
        return _renew(db, spec, key)


def _renew(db: str | None, spec: QueueSpec, key: tuple[Any, ...]) -> Order:
    """Ask the database, unless what is in memory is of the same state of it."""
    with _lock:
        found = _orders.get(key)

    def work(conn: sa.Connection) -> Order:
        stamp = fingerprint(conn, spec)
        if found and found[1].stamp == stamp:
            return found[1]
        return _ordered(conn, spec, stamp)

    order = store.reading(db, work)
    with _lock:
        _orders[key] = (time.monotonic(), order)
        _orders.move_to_end(key)
        while len(_orders) > KEEP_ORDERS:
            gone, _ = _orders.popitem(last=False)
            _making.pop(gone, None)
    return order


def _renew_quietly(db: str | None, spec: QueueSpec, key: tuple[Any, ...], making: threading.Lock) -> None:
    if making.acquire(blocking=False):
        try:
            _renew(db, spec, key)
        except Exception:
            return  # the queue in memory stands until the database answers again
        finally:
            making.release()


def forget_orders() -> None:
    """Ask the database anew at the next look."""
    with _lock:
        _orders.clear()
        _found.clear()


def fingerprint(conn: sa.Connection, spec: QueueSpec) -> tuple[Any, ...]:
    """Values that change when the queue may have: scores, fits, cuts, lenses, grades."""
    parts = [
        "(select max(run_id) from scoring_run)",
        "(select coalesce(sum(n_scored), 0) from scoring_run)",
        "(select count(*) from line_fit)",
        "(select count(*) from known_lens)",
        "(select count(*) from target)",
        "(select sum(value) from cut_setting)",
        "(select count(*) from selection)",
    ]
    if spec.source == "disagreement":
        parts += ["(select count(*) from grade)", "(select count(*) from grade where undone_at is not null)"]
    return tuple(
        conn.execute(sa.text(f"select {', '.join(f'{p} as c{k}' for k, p in enumerate(parts))}")).one()
    )


def _ordered(conn: sa.Connection, spec: QueueSpec, stamp: tuple[Any, ...]) -> Order:
    columns = {"target_id": "int", "probability": "float", "spread": "float", "is_known": "bool"}
    key = (spec.source, spec.model, stamp, str(conn.engine.url))
    rows = _found.get(key)
    if rows is None:  # another order of the same queue is only sorted anew
        rows = read_columns(conn, queue_sql(conn, spec), columns)
        with _lock:
            _found[key] = rows
            while len(_found) > KEEP_ORDERS:
                _found.popitem(last=False)
    ids, probability = rows["target_id"], rows["probability"]
    if spec.order == "shuffled":
        at = np.argsort(mixed(ids, spec.seed), kind="stable")
    else:
        at = np.lexsort(
            (ids, -probability, -rows["spread"] if spec.order == "spread" else np.zeros(len(ids)))
        )
    return Order(ids[at], probability[at], rows["is_known"][at], stamp)


def queue_sql(conn: sa.Connection, spec: QueueSpec) -> str:
    """Query of a queue: target_id, probability, spread, is_known, without nulls."""
    model = f"where model = {_quoted(spec.model)}" if spec.model else ""
    if spec.source == "proposed" and not spec.model:
        return (
            "select target_id, coalesce(probability, 0) as probability, coalesce(spread, 0) as spread,"
            " is_known from review_queue"
        )
    if spec.source == "proposed":
        ids = (
            f"select target_id, probability from candidate {model} union all "
            f"select target_id, probability from image_candidate {model}"
        )
    elif spec.source in ("candidate", "image_candidate"):
        ids = f"select target_id, probability from {spec.source} {model}"
    elif spec.source == "disagreement":
        ids = (
            "select target_id, cast(grade_range as double precision) / 3 as probability from"
            " review_disagreement"
        )
    else:
        ids = (
            "select selectable.target_id, cast(null as double precision) as probability from selectable "
            f"where ({_predicate(conn, spec.source.partition(':')[2])})"
        )
    scored = " union all ".join(
        f"select {t}.target_id, {t}.probability from {t} inner join model on model.model_id = {t}.model_id"
        f" where model.name = {_quoted(spec.model)}"
        for t in ("current_score", "current_image_score")
    )
    if spec.model and spec.source == "disagreement":
        ids = f"select * from ({ids}) as every where target_id in (select target_id from ({scored}) as s)"
    elif spec.model and spec.source.startswith("selection:"):
        ids = f"""
            select every.target_id, scored.probability from ({ids}) as every
            inner join ({scored}) as scored on scored.target_id = every.target_id"""
    return f"""
        with ids as (
            select target_id, max(probability) as probability from ({ids}) as found group by target_id
        ),
        said as (
            select target_id, probability from current_score
            union all
            select target_id, probability from current_image_score
        ),
        apart as (
            select said.target_id, max(said.probability) as probability,
                max(said.probability) - min(said.probability) as spread
            from said inner join ids on ids.target_id = said.target_id
            group by said.target_id
        ),
        known as (select distinct target_id from known_lens_match)
        select ids.target_id, coalesce(ids.probability, apart.probability, 0) as probability,
            coalesce(apart.spread, 0) as spread, known.target_id is not null as is_known
        from ids
        left join apart on apart.target_id = ids.target_id
        left join known on known.target_id = ids.target_id"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _predicate(conn: sa.Connection, name: str) -> str:
    """Condition of the latest version of a selection."""
    query = sa.text("select where_sql from selection where name = :name order by version desc limit 1")
    found = conn.execute(query, {"name": name}).scalar()
    if found is None:
        have = ", ".join(conn.execute(sa.text("select distinct name from selection order by name")).scalars())
        raise UserError(f"no selection {name!r} in this database; there are: {have or 'none'}")
    return str(found)


def selections(conn: sa.Connection) -> list[str]:
    """Names of the selections."""
    return list(conn.execute(sa.text("select distinct name from selection order by name")).scalars())


def models(conn: sa.Connection) -> list[str]:
    """Names of the models that have scored."""
    query = (
        "select distinct model.name from scoring_run inner join model on model.model_id ="
        " scoring_run.model_id order by 1"
    )
    return list(conn.execute(sa.text(query)).scalars())
