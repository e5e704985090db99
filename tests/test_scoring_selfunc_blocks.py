"""Injections of a selection function: the name of one fixes its pixels, whatever else is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import ring_filters  # noqa: F401  registers annulus_for_tests
import sqlalchemy as sa

from schema.engine import connect_engine
from scoring.inject.batch import BLOCK, Batch, in_blocks
from scoring.selfunc.measure import MeasureConfig, measure


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LENSMINE_CACHE", str(tmp_path / "cache"))


def hashes(db: str) -> dict[str, str]:
    with connect_engine(db, read_only=True).connect() as conn:
        query = "select t.native_id, c.content_hash from cutout c join target t using (target_id)"
        return {name: content for name, content in conn.execute(sa.text(query))}


@pytest.mark.parametrize(
    "config",
    [
        MeasureConfig(n=600, bins=2, bins_line=3, min_per_cell=2),
        MeasureConfig(mode="population", n=200, bins=3, bins_line=3, min_per_cell=3),
    ],
    ids=["slice", "population"],
)
def test_injections_that_were_lost_come_back_as_they_were(db: str, config: MeasureConfig) -> None:
    measure(db, "annulus_for_tests", config, backend="torch")
    before = hashes(db)
    lost = sorted(before)[3::7]
    chosen = "select target_id from target where native_id in ({})".format(", ".join(f"'{n}'" for n in lost))
    with connect_engine(db).begin() as conn:
        for table in ("image_score", "cutout", "injection_lens", "injection", "phot_obj", "target"):
            conn.execute(sa.text(f"delete from {table} where target_id in ({chosen})"))
    assert len(hashes(db)) == len(before) - len(lost)
    measure(db, "annulus_for_tests", config, backend="torch")
    assert hashes(db) == before


def test_whole_blocks_are_made_and_the_wanted_picked() -> None:
    seen = []

    def make(rows: np.ndarray) -> Batch:
        seen.append(rows)
        image = np.broadcast_to(rows[:, None, None, None], (len(rows), 1, 2, 2)).astype(np.float32)
        return Batch(image, {"name": [f"s{i}" for i in rows]}, {"x": 10.0 * rows}, {})

    wanted = np.array([3, BLOCK - 1, BLOCK, 2 * BLOCK + 5])
    made = in_blocks(wanted, 2 * BLOCK + 7, make)
    assert [(int(b[0]), len(b)) for b in seen] == [(0, BLOCK), (BLOCK, BLOCK), (2 * BLOCK, 7)]
    assert made.image[:, 0, 0, 0].tolist() == wanted.tolist()
    assert made.injection == {"name": [f"s{i}" for i in wanted]}
    assert made.lens["x"].tolist() == (10.0 * wanted).tolist()
    assert made.phot == {}
    assert len(made) == 4
