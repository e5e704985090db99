"""``lensmine mine``: rounds that train, score the pool and rank, each on what the round before it found.

A round is one row of mining_round with every target that it learned from in mining_member. Its seed,
settings, predicates and members are enough to make its weights again: see :func:`replay`.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from schema.console import jsonable
from schema.engine import connect_engine
from schema.errors import DataError, UserError
from schema.ids import new_run_id
from schema.tables import mining_member, mining_round, tracer
from schema.upsert import insert_rows
from scoring.mining.learn import Lessons, learn
from scoring.mining.plan import (
    LEAST,
    MAY_CHANGE,
    MineConfig,
    RoundPlan,
    named,
    not_a_negative,
    plan_round,
    targets,
    too_few,
)
from scoring.mining.rank import judge_ranking
from scoring.run import score
from scoring.selection import add_selection, checked_selection
from scoring.versions import model_key

if TYPE_CHECKING:
    from scoring.models.image_base import ImageModel

Tell = Callable[[str], None]


def mine(
    db: str | None, campaign: str, config: MineConfig, out: Path, tell: Tell | None = None
) -> list[dict[str, Any]]:
    """Run the rounds of a campaign that are not done yet.

    Parameters
    ----------
    db : str or None
        Database.
    campaign : str
        Name; its rounds stand in mining_round.
    config : MineConfig
        Settings; a campaign that was begun with others is refused.
    out : Path
        Folder for the weights of each round, ``out/round-N``.
    tell : callable, optional
        Called with a line of text as each step begins.

    Returns
    -------
    list of dict
        The rows of mining_round, in order.

    Raises
    ------
    UserError
        A name that cannot be a selection's, no tracers, too small a pool, no positives, or other settings
        than the campaign was begun with.
    """
    from scoring.registry import model_class

    if not campaign or not all(c.isalnum() or c in "_-." for c in campaign):  # it names selections
        raise UserError(f"campaign {campaign!r} is refused: use letters, digits, '_', '-' and '.'")
    if model_class(config.model).modality != "image":
        raise UserError(
            f"{config.model} scores spectra; lensmine mine trains image models: see lensmine models"
        )
    pool = checked_selection(db, config.pool)
    _need_tracers(db, config.tracers)
    rounds = list_rounds(db, campaign)
    _same_settings(campaign, rounds, config)
    done = [r for r in rounds if r["status"] == "done"]
    folder = out.absolute()  # the campaign may go on from another working directory
    for number, phase in enumerate(config.phases, start=1):
        if number <= len(done):
            continue
        parent = done[-1] if done else None
        plan = plan_round(
            done[0]["pool_sql"] if done else pool, config, parent["model_id"] if parent else None
        )
        done.append(
            _one_round(db, campaign, number, phase, plan, config, folder / f"round-{number}", parent, tell)
        )
    return done


def list_rounds(db: str | None, campaign: str | None = None) -> list[dict[str, Any]]:
    """Rows of mining_round in order, of one campaign or of all."""
    c = mining_round.c
    query = sa.select(mining_round).order_by(c.campaign, c.round_no)
    if campaign is not None:
        query = query.where(c.campaign == campaign)
    with connect_engine(db, read_only=True).connect() as conn:
        return [dict(row) for row in conn.execute(query).mappings()]


def _need_tracers(db: str | None, name: str) -> None:
    with connect_engine(db, read_only=True).connect() as conn:
        n = conn.execute(
            sa.select(sa.func.count()).select_from(tracer).where(tracer.c.name == name)
        ).scalar_one()
    if not n:
        raise UserError(
            f"no tracers are called {name!r}; name some first, for example: "
            f"lensmine tracers add {name} --from known"
        )


def _same_settings(campaign: str, rounds: list[dict[str, Any]], config: MineConfig) -> None:
    mine_now = jsonable(dataclasses.asdict(config))
    for row in rounds:
        if row["status"] == "failed":  # it gives way to the next try
            continue
        held = dict(row["config"] or {})
        other = sorted(k for k in mine_now if k not in ("phases", *MAY_CHANGE) and held.get(k) != mine_now[k])
        if other:
            raise UserError(
                f"campaign {campaign!r} was begun with other settings ({', '.join(other)} differ): "
                "use those, or name another campaign"
            )


def _one_round(
    db: str | None,
    campaign: str,
    number: int,
    phase: str,
    plan: RoundPlan,
    config: MineConfig,
    folder: Path,
    parent: dict[str, Any] | None,
    tell: Tell | None,
) -> dict[str, Any]:
    say = tell or (lambda line: None)
    members = draw_members(db, config, phase, plan)
    counts = {role: len(members.of(role)) for role in ("pool", "hard_negative", "positive", "excluded")}
    if counts["pool"] + config.simulated_others < LEAST:
        raise too_few(number, phase, counts["pool"], members.n_pool, config, members.reasons)
    if counts["excluded"]:
        say(
            f"round {number}: {counts['excluded']:,} at the top of the list nobody has graded: neither "
            "lenses nor negatives; grade them (lensmine dashboard), or say that none is a lens: --unseen"
        )
    row: dict[str, Any] = {
        "round_id": new_run_id(),
        "campaign": campaign,
        "round_no": number,
        "phase": phase,
        "parent_round_id": parent["round_id"] if parent else None,
        "start_model_id": parent["model_id"] if parent else None,
        "pool_sql": plan.pool_sql,
        "hard_sql": plan.hard_sql,
        "n_pool": members.n_pool,
        "n_hard": counts["hard_negative"],
        "n_positive": counts["positive"] + (config.simulated if config.positives is None else 0),
        "config": jsonable(dataclasses.asdict(config)),
        "status": "running",
        "started_at": datetime.datetime.now(datetime.UTC),
    }
    _begin(db, row, members)
    try:
        say(f"round {number} ({phase}): learning from {_counted(row)}")
        start = Path(parent["weights_path"]) if parent else None
        model = learn(db, config, members.lessons(), number, start, folder)
        weights = folder / f"{config.model}.safetensors"
        say(f"round {number}: scoring {members.n_pool:,} cutouts")
        name = f"{campaign}.round{number}"
        add_selection(db, name, _scored(plan, config), f"Pool of round {number} of campaign {campaign}.")
        report = score(db, config.model, name, weights=str(weights))
        model_id = model_key(model)
        metrics = judge_ranking(db, model_id, config.tracers, plan.pool_sql)
        if phase == "search":
            metrics["tracers_taught"] = members.n_traced
        end = {
            "model_id": model_id,
            "run_id": report.run_id,
            "weights_path": str(weights),
            "metrics": metrics,
            "status": "done",
        }
    except BaseException:
        _finish(db, row["round_id"], {"status": "failed"})
        raise
    _finish(db, row["round_id"], end)
    return row | end


def _scored(plan: RoundPlan, config: MineConfig) -> str:
    """What a round scores: its pool, and the tracers, which may lie below the cut that made the pool."""
    return f"({plan.pool_sql}\n)\nor target_id in ({named(config.tracers)})"


def _counted(row: dict[str, Any]) -> str:
    parts = f"{row['n_positive']:,} lenses", f"{row['n_pool']:,} cutouts in the pool"
    return f"{', '.join(parts)}, {row['n_hard']:,} hard negatives"


@dataclasses.dataclass(frozen=True)
class Members:
    """Targets that a round learns from, each with its role.

    Attributes
    ----------
    target_id, role : shape (n,)
    n_pool : how many the pool held before the draw
    n_traced : tracers among the positives
    reasons : how many of the pool are no ordinary ones, by what they are
    """

    target_id: NDArray[np.int64]
    role: NDArray[np.str_]
    n_pool: int
    n_traced: int = 0
    reasons: dict[str, int] = dataclasses.field(default_factory=dict)

    def of(self, role: str) -> NDArray[np.int64]:
        """Targets of a role."""
        return self.target_id[self.role == role]

    def lessons(self) -> Lessons:
        """The same, as training takes them."""
        return Lessons(self.of("positive"), self.of("pool"), self.of("hard_negative"))


def draw_members(db: str | None, config: MineConfig, phase: str, plan: RoundPlan) -> Members:
    """Positives, hard negatives, what is set aside and a random draw of the pool; nobody has two roles."""
    none = np.zeros(0, np.int64)
    with connect_engine(db, read_only=True).connect() as conn:
        every = targets(conn, plan.pool_sql)
        barred = targets(conn, not_a_negative(config.tracers))
        hard = targets(conn, plan.hard_sql) if plan.hard_sql else none
        unseen = targets(conn, plan.unseen_sql) if plan.unseen_sql else none
        traced = targets(conn, f"target_id in ({named(config.tracers)})")
    positive = none
    if config.positives is not None:
        chosen = checked_selection(db, config.positives)
        with connect_engine(db, read_only=True).connect() as conn:
            positive = np.setdiff1d(targets(conn, chosen.where_sql), traced)
    taught = traced if phase == "search" else none
    positive = np.union1d(positive, taught)
    lens = np.union1d(barred, positive)
    hard = np.setdiff1d(hard, lens)
    unseen = np.setdiff1d(unseen, np.union1d(lens, hard))
    ordinary = np.setdiff1d(every, np.union1d(np.union1d(lens, hard), unseen))
    reasons = {
        "lenses, tracers or graded A or B": len(np.intersect1d(every, lens)),
        "hard negatives": len(np.intersect1d(every, hard)),
        "not graded at the top of the list": len(np.intersect1d(every, unseen)),
    }
    if len(ordinary) > config.negatives:
        random = np.random.default_rng(config.seed)
        ordinary = np.sort(random.choice(ordinary, config.negatives, replace=False))
    roles = [("positive", positive), ("hard_negative", hard), ("pool", ordinary), ("excluded", unseen)]
    return Members(
        np.concatenate([ids for _, ids in roles]),
        np.concatenate([np.full(len(ids), role) for role, ids in roles]),
        len(every),
        len(taught),
        reasons,
    )


def _begin(db: str | None, row: dict[str, Any], members: Members) -> None:
    """Enter the round with its members in one transaction; a failed try at the same round gives way."""
    c, m = mining_round.c, mining_member.c
    with connect_engine(db).begin() as conn:
        old = sa.select(c.round_id).where(c.campaign == row["campaign"], c.round_no == row["round_no"])
        ids = list(conn.execute(old).scalars())
        if ids:
            conn.execute(mining_member.delete().where(m.round_id.in_(ids)))
            conn.execute(mining_round.delete().where(c.round_id.in_(ids)))
        conn.execute(mining_round.insert(), [row])
        table = pa.table(
            {
                "round_id": np.full(len(members.target_id), row["round_id"], dtype=np.int64),
                "target_id": members.target_id,
                "role": pa.array(members.role.tolist(), type=pa.string()),
            }
        )
        if table.num_rows:
            insert_rows(conn, mining_member, table)


def _finish(db: str | None, round_id: int, end: dict[str, Any]) -> None:
    values = end | {"finished_at": datetime.datetime.now(datetime.UTC)}
    with connect_engine(db).begin() as conn:
        conn.execute(mining_round.update().where(mining_round.c.round_id == round_id).values(**values))


def replay(db: str | None, campaign: str, number: int, out: Path) -> dict[str, Any]:
    """Make a round's weights again from its row and members, and compare.

    Parameters
    ----------
    db : str or None
        Database.
    campaign, number : str, int
        The round.
    out : Path
        Folder for the weights made again.

    Returns
    -------
    dict
        ``model_id`` of the round, ``replayed_model_id``, and whether they are the ``same``.

    Raises
    ------
    UserError
        If there is no such round, or it is not done.
    """
    rounds = {row["round_no"]: row for row in list_rounds(db, campaign)}
    row = rounds.get(number)
    if row is None or row["status"] != "done":
        have = ", ".join(str(n) for n, r in rounds.items() if r["status"] == "done") or "none"
        raise UserError(f"campaign {campaign!r} has no finished round {number}; finished: {have}")
    held = dict(row["config"])
    config = MineConfig(**{**held, "phases": tuple(held["phases"])})
    m = mining_member.c
    with connect_engine(db, read_only=True).connect() as conn:
        query = sa.select(m.target_id, m.role).where(m.round_id == row["round_id"]).order_by(m.target_id)
        found = conn.execute(query).all()
    members = Members(
        np.array([r[0] for r in found], dtype=np.int64),
        np.array([r[1] for r in found], dtype=str),
        row["n_pool"],
    )
    start = None
    if row["parent_round_id"] is not None:
        before = next((r for r in rounds.values() if r["round_id"] == row["parent_round_id"]), None)
        if before is None or not Path(before["weights_path"]).is_file():
            raise DataError(
                f"the weights that round {number} started from are gone; replay round {number - 1} first"
            )
        start = Path(before["weights_path"])
    model: ImageModel = learn(db, config, members.lessons(), number, start, out)
    again = model_key(model)
    return {"model_id": row["model_id"], "replayed_model_id": again, "same": again == row["model_id"]}
