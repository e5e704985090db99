"""Mining campaigns on simulated cutouts: what each round learns from, resuming, replay, refusals."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from benchmarks.generated_images import add_images, plain_images
from lensmine import app
from schema.engine import connect_engine, shard_root
from schema.errors import UserError
from schema.image_shards import write_image_shard
from schema.tables import (
    cutout,
    grade,
    image_score,
    image_shard,
    injection,
    known_lens,
    known_lens_cell,
    mining_member,
    mining_round,
    model,
    reviewer,
    scoring_run,
    target,
    tracer,
)
from scoring.inject.simulate import simulate_lenses
from scoring.mining import campaign
from scoring.mining.campaign import draw_members, list_rounds, mine, replay
from scoring.mining.pixels import images_of
from scoring.mining.plan import MineConfig, RoundPlan, plan_round
from scoring.mining.rank import judge_ranking
from scoring.models.image_base import ImageModel
from scoring.selection import Selection, add_selection

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
CONFIG = MineConfig(
    model="arclet", pool="all_images", tracers="some", positives="lenses", phases=("coarse", "fine"),
    keep=0.5, inspect=12, negatives=60, epochs=1, start="fresh",
)  # fmt: skip
CONFIG_SIMULATED = replace(CONFIG, positives=None, phases=("coarse",))
POOL = Selection("all_images", 1, "cutout_id is not null")


class EverySize(ImageModel):
    """Looks at whatever it is given; has no network."""

    pixels, npix, n_band = "image", 40, 1

    def __init__(self) -> None:
        """No weights are needed to choose cutouts."""


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
    found: dict[str, set[int]] = {"positive": set(), "pool": set(), "hard_negative": set(), "excluded": set()}
    for role, one in rows:
        found[role].add(one)
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
    assert first[0]["n_pool"] == 76, "70 other sources and the tracers; simulated lenses are not searched for"
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
    done = mine(db, "three", replace(config, negatives=50), tmp_path)
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
    with pytest.raises(UserError, match=r"begun with other settings \(epochs, seed differ\)"):
        mine(db, "four", replace(CONFIG, epochs=2, seed=9), tmp_path)
    with pytest.raises(UserError, match=r"campaign 'my search' is refused.*letters, digits"):
        mine(db, "my search", CONFIG, tmp_path)
    assert list_rounds(db, "my search") == [], "refused before anything is learned"


def plan(**more: Any) -> tuple[RoundPlan, MineConfig]:
    config = replace(CONFIG, inspect=4, **more)
    return plan_round(POOL, config, parent_model_id=8), config


def ranked_search(db: str) -> list[int]:
    """20 real cutouts, ranked by model 8 in the order of the list returned."""
    images = plain_images(20, 1, npix=40, bands=1)
    add_images(db, iter([("real", images)]), bands=("F814W",), survey="hst")
    with connect_engine(db, read_only=True).connect() as conn:
        ids = list(conn.execute(sa.text("select target_id from target order by target_id")).scalars())
    enter_scores(db, 8, {t: 1 - k / 100 for k, t in enumerate(ids)})
    return ids


def enter_scores(db: str, model_id: int, probability: dict[int, float]) -> None:
    one = {"model_id": model_id, "name": f"m{model_id}", "preprocessing_hash": "p", "weights_hash": "w"}
    run = {"run_id": model_id, "model_id": model_id, "status": "done", "modality": "image", "started_at": NOW}
    with connect_engine(db).begin() as conn:
        conn.execute(model.insert(), [one | {"threshold": 0.5}])
        conn.execute(scoring_run.insert(), [run])
        found = conn.execute(sa.select(cutout.c.cutout_id, cutout.c.target_id, cutout.c.content_hash)).all()
        rows = [
            {"cutout_id": c, "model_id": model_id, "run_id": model_id, "target_id": t, "content_hash": h,
             "probability": probability[t]}
            for c, t, h in found if t in probability
        ]  # fmt: skip
        conn.execute(image_score.insert(), rows)


def drawn(db: str, plan: RoundPlan, config: MineConfig) -> dict[str, set[int]]:
    members = draw_members(db, config, "fine", plan)
    roles = ("positive", "pool", "hard_negative", "excluded")
    return {role: set(members.of(role).tolist()) for role in roles}


def test_what_nobody_has_looked_at_is_no_hard_negative(db: str) -> None:
    """Among the first of a list stand the lenses that are looked for; people turn the others down."""
    ids = ranked_search(db)
    with connect_engine(db).begin() as conn:
        conn.execute(tracer.insert(), [{"name": "some", "target_id": ids[19], "added_at": NOW}])
    person_grades(db, ids[0], "X")
    person_grades(db, ids[1], "A")
    fine = drawn(db, *plan(positives=None))
    assert fine["hard_negative"] == {ids[0]}
    assert fine["excluded"] == {ids[2], ids[3]}, "not graded: neither a lens nor a negative"
    assert fine["pool"] == set(ids[4:10])
    trusting = drawn(db, *plan(positives=None, unseen=True))
    assert trusting["hard_negative"] == {ids[0], ids[2], ids[3]}
    assert trusting["excluded"] == set()
    fewer = drawn(db, *plan(positives=None, keep=0.3))
    assert fewer["excluded"] == {ids[2]}, "half of the six that are kept teaches in any case"


def test_injected_lenses_do_not_crowd_the_list(db: str) -> None:
    """Lenses of a selection function in the database are neither searched, nor ranked, nor ordinary."""
    ids = ranked_search(db)
    with connect_engine(db).begin() as conn:
        conn.execute(tracer.insert(), [{"name": "some", "target_id": t, "added_at": NOW} for t in (ids[9],)])
        truth = [{"target_id": t, "is_lens": True} for t in ids[:10]]
        conn.execute(injection.insert(), truth)
        conn.execute(target.update().where(target.c.target_id.in_(ids[:10])).values(is_injection=True))
    first = plan_round(POOL, CONFIG, None)
    members = draw_members(db, CONFIG_SIMULATED, "coarse", first)
    assert members.n_pool == 11, "10 real ones and the tracer"
    assert set(members.of("pool").tolist()) == set(ids[10:])
    later = plan_round(POOL, replace(CONFIG, keep=0.5), 8)
    kept = drawn(db, later, CONFIG_SIMULATED)
    assert kept["pool"] | kept["excluded"] == set(ids[10:14]), "the tracer and they are 5 of 11"


def test_known_lenses_that_are_no_tracers_are_not_ranked_as_ordinary(db: str) -> None:
    ids = ranked_search(db)
    with connect_engine(db).begin() as conn:
        conn.execute(tracer.insert(), [{"name": "some", "target_id": ids[1], "added_at": NOW}])
        c = target.c
        ra, dec, hpx = conn.execute(
            sa.select(c.ra_deg, c.dec_deg, c.hpx29).where(c.target_id == ids[0])
        ).one()
        lens = {"lens_id": 7, "name": "a known lens", "ra_deg": ra, "dec_deg": dec, "hpx29": hpx}
        conn.execute(known_lens.insert(), [lens])
        conn.execute(known_lens_cell.insert(), [{"lens_id": 7, "cell": hpx >> 36}])
    found = judge_ranking(db, 8, "some", plan_round(POOL, CONFIG, None).pool_sql)
    assert (found["n_tracers"], found["n_ranked"], found["ranking_performance"]) == (1, 19, 1.0)


def test_a_pool_without_ordinary_cutouts_says_what_to_do(db: str, tmp_path: Path) -> None:
    ids = ranked_search(db)
    with connect_engine(db).begin() as conn:
        conn.execute(tracer.insert(), [{"name": "some", "target_id": t, "added_at": NOW} for t in ids[:15]])
    told = r"round 1 \(coarse\): 5 ordinary cutouts.*10 are needed.*15 are lenses.*--simulated-others"
    with pytest.raises(UserError, match=told):
        mine(db, "few", CONFIG_SIMULATED, tmp_path)
    assert list_rounds(db, "few") == []
    helped = replace(CONFIG_SIMULATED, simulated_others=40, simulated=20)
    (done,) = mine(db, "few", helped, tmp_path)
    assert (done["status"], done["n_pool"], done["n_positive"]) == ("done", 20, 20)
    assert done["metrics"]["n_tracers"] == 15
    card = json.loads((tmp_path / "round-1" / "arclet.json").read_text())
    assert (card["ordinary"], card["simulated_others"]) == (45, 40)
    assert replay(db, "few", 1, tmp_path / "again")["same"] is True


def test_a_campaign_keeps_its_pool_and_says_that_its_tracers_taught(db: str, tmp_path: Path) -> None:
    fill(db)
    add_selection(db, "mine", "cutout_id is not null")
    config = replace(CONFIG, pool="mine", phases=("coarse",))
    first = mine(db, "five", config, tmp_path)
    add_selection(db, "mine", "cutout_id is not null and target_id < 0")
    with connect_engine(db).begin() as conn:
        conn.execute(tracer.insert(), [{"name": "some", "target_id": 5, "added_at": NOW}])
    both = mine(db, "five", replace(config, keep=0.8, phases=("coarse", "search")), tmp_path)
    assert both[1]["pool_sql"].startswith(f"({first[0]['pool_sql']}")
    assert both[1]["n_pool"] > 20
    assert both[1]["config"]["keep"] == 0.8, "how much is kept may change from round to round"
    assert Path(both[1]["weights_path"]).is_absolute()
    assert "tracers_taught" not in both[0]["metrics"]
    assert both[1]["metrics"]["tracers_taught"] == 6
    assert (both[1]["metrics"]["n_tracers"], both[1]["metrics"]["n_tracers_named"]) == (6, 7)
    shown = CliRunner().invoke(app, ["mine", "five", "--list", "--db", db], env={"COLUMNS": "200"})
    assert "taught" in shown.output
    assert "6 of 7" in shown.output


def test_cutouts_that_are_not_scored_are_not_learned_from(db: str, tmp_path: Path) -> None:
    ids = ranked_search(db)
    with connect_engine(db).begin() as conn:
        c = cutout.c
        conn.execute(cutout.update().where(c.target_id == ids[0]).values(frac_good=0.3))
        conn.execute(cutout.update().where(c.target_id == ids[1]).values(frac_saturated=0.9))
    seen = EverySize()
    assert set(images_of(db, ids, seen)[1].tolist()) == set(ids[2:])  # type: ignore[arg-type]
    write_image_shard(
        shard_root(db), "stamps-only", {"stamp": np.zeros((20, 1, 40, 40), np.uint8)}, ("F814W",)
    )
    with connect_engine(db).begin() as conn:
        conn.execute(image_shard.update().values(name="stamps-only"))
    assert len(images_of(db, ids, seen)[1]) == 0, "no calibrated pixels there"  # type: ignore[arg-type]
