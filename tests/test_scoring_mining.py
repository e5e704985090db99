"""Mining campaigns on simulated cutouts: what each round learns from, resuming, replay, refusals."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from schema.engine import connect_engine
from schema.errors import UserError
from schema.tables import grade, injection, mining_member, mining_round, reviewer, tracer
from scoring.inject.simulate import simulate_lenses
from scoring.mining import campaign
from scoring.mining.campaign import list_rounds, mine, replay
from scoring.mining.plan import MineConfig
from scoring.selection import add_selection

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
CONFIG = MineConfig(
    model="arclet", pool="all_images", tracers="some", positives="lenses", phases=("coarse", "fine"),
    keep=0.5, inspect=12, negatives=60, epochs=1, start="fresh",
)  # fmt: skip


def fill(db: str) -> tuple[list[int], list[int]]:
    """30 simulated lenses, of which 6 are tracers, and 70 other sources; returns lenses and others."""
    simulate_lenses(db, 30, instrument="hsc", n_nonlenses=70, seed=3)
    with connect_engine(db).begin() as conn:
        c = injection.c
        lenses = list(conn.execute(sa.select(c.target_id).where(c.is_lens).order_by(c.target_id)).scalars())
        others = list(conn.execute(sa.select(c.target_id).where(~c.is_lens).order_by(c.target_id)).scalars())
        rows = [{"name": "some", "target_id": t, "origin": "injection", "added_at": NOW} for t in lenses[:6]]
        conn.execute(tracer.insert(), rows)
    add_selection(
        db, "lenses", "is_injection and target_id in (select target_id from injection where is_lens)"
    )
    return lenses, others


def roles(db: str, round_id: int) -> dict[str, set[int]]:
    m = mining_member.c
    with connect_engine(db, read_only=True).connect() as conn:
        rows = conn.execute(sa.select(m.role, m.target_id).where(m.round_id == round_id)).all()
    found: dict[str, set[int]] = {"positive": set(), "pool": set(), "hard_negative": set()}
    for role, target in rows:
        found[role].add(target)
    return found


def person_grades(db: str, target_id: int, letter: str) -> None:
    with connect_engine(db).begin() as conn:
        if conn.execute(sa.select(reviewer.c.reviewer_id)).first() is None:
            conn.execute(reviewer.insert(), [{"reviewer_id": 1, "name": "ada", "added_at": NOW}])
        row = {
            "grade_id": target_id,
            "target_id": target_id,
            "reviewer_id": 1,
            "grade": letter,
            "graded_at": NOW,
        }
        conn.execute(grade.insert(), [row])


def test_rounds_learn_from_scores_and_grades(db: str, tmp_path: Path) -> None:
    lenses, others = fill(db)
    person_grades(db, others[0], "A")
    first = mine(db, "one", replace(CONFIG, phases=("coarse",)), tmp_path)
    coarse = roles(db, first[0]["round_id"])
    assert coarse["positive"] == set(lenses[6:]), "tracers judge, so they do not teach"
    assert coarse["hard_negative"] == set()
    assert len(coarse["pool"]) == 60
    assert coarse["pool"] <= set(others[1:]), "neither a lens nor what somebody graded A is a negative"
    assert first[0]["n_pool"] == 100
    person_grades(db, others[1], "X")
    both = mine(db, "one", CONFIG, tmp_path)
    assert [r["phase"] for r in both] == ["coarse", "fine"]
    assert both[0]["round_id"] == first[0]["round_id"], "a finished round is not run again"
    fine = roles(db, both[1]["round_id"])
    with connect_engine(db, read_only=True).connect() as conn:
        query = sa.text("select target_id, place, ordinality from ranked where model_id = :m")
        ranks = {r[0]: (r[1], r[2]) for r in conn.execute(query, {"m": both[0]["model_id"]})}
    top = {t for t in others[1:] if ranks[t][0] <= 12}
    assert fine["hard_negative"] == top | {others[1]}
    assert fine["pool"] == {t for t in others[2:] if ranks[t][1] <= 0.5} - fine["hard_negative"]
    assert both[1]["start_model_id"] == both[0]["model_id"] != both[1]["model_id"]
    assert both[1]["metrics"]["n_tracers"] == 6
    low, high = both[1]["metrics"]["ranking_performance_interval"]
    assert -1 <= low <= both[1]["metrics"]["ranking_performance"] <= high <= 1


def test_a_round_is_replayed_to_the_same_weights(db: str, tmp_path: Path) -> None:
    fill(db)
    mine(db, "two", CONFIG, tmp_path)
    for number in (1, 2):
        assert replay(db, "two", number, tmp_path / f"again-{number}")["same"] is True
    m = mining_member.c
    with connect_engine(db).begin() as conn:
        one = _first_round(conn)
        gone = conn.execute(
            sa.select(m.target_id).where(m.round_id == one, m.role == "pool").limit(30)
        ).scalars()
        conn.execute(mining_member.delete().where(m.round_id == one, m.target_id.in_(list(gone))))
    assert replay(db, "two", 1, tmp_path / "other")["same"] is False, "other members, other weights"
    with pytest.raises(UserError, match="no finished round 7; finished: 1, 2"):
        replay(db, "two", 7, tmp_path)


def _first_round(conn: sa.Connection) -> int:
    c = mining_round.c
    return int(conn.execute(sa.select(c.round_id).where(c.round_no == 1)).scalar_one())


def test_a_failed_round_is_done_again(db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(db)

    def fail(*args: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    config = replace(CONFIG, phases=("coarse",))
    with monkeypatch.context() as patch:
        patch.setattr(campaign, "score", fail)
        with pytest.raises(KeyboardInterrupt):
            mine(db, "three", config, tmp_path)
    failed = list_rounds(db, "three")
    assert [r["status"] for r in failed] == ["failed"]
    done = mine(db, "three", config, tmp_path)
    assert [r["status"] for r in list_rounds(db, "three")] == ["done"]
    assert done[0]["round_id"] != failed[0]["round_id"]
    with connect_engine(db, read_only=True).connect() as conn:
        held = set(conn.execute(sa.select(mining_member.c.round_id).distinct()).scalars())
    assert held == {done[0]["round_id"]}, "members of the failed try are gone with it"


def test_refusals(db: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tracers are called 'some'.*lensmine tracers add some"):
        mine(db, "four", CONFIG, tmp_path)
    with pytest.raises(UserError, match="snr_lae scores spectra"):
        mine(db, "four", replace(CONFIG, model="snr_lae"), tmp_path)
    with pytest.raises(UserError, match="phase 'corse' is unknown"):
        replace(CONFIG, phases=("corse",))
    with pytest.raises(UserError, match=r"--keep 1\.5"):
        replace(CONFIG, keep=1.5)
    fill(db)
    mine(db, "four", replace(CONFIG, phases=("coarse",)), tmp_path)
    with pytest.raises(UserError, match=r"begun with other settings \(epochs, keep differ\)"):
        mine(db, "four", replace(CONFIG, epochs=2, keep=0.1), tmp_path)
