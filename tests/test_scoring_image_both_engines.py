"""The imaging search over real files gives the same scores, ranks and candidates on both engines."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from etl.hsc import ingest_hsc
from etl.hst import ingest_hst
from etl.lenses import ingest_lenses
from schema.check import check_database
from schema.engine import connect_engine, read_frame
from scoring.evaluate.tracers import add_tracers, evaluate_trc
from scoring.run import score

MODELS = ("arclet", "arclet_gri")
TABLES = {
    "cutout": "select native_id, bands, content_hash, is_primary from cutout join target using (target_id) "
    "order by native_id, bands, content_hash",
    "ranked": "select native_id, model, probability, place, n_tied, n_ranked, ordinality from ranked "
    "order by model, native_id",
    "image_candidate": "select native_id, model, probability, known_lens from image_candidate "
    "order by model, native_id",
}


def search(db: str, data_dir: Path) -> tuple[dict[str, pd.DataFrame], dict[str, float]]:
    """Ingest, score, rank; what people read, and the figures of merit."""
    ingest_lenses([str(data_dir / "lens_catalogs" / "lenscat__lenscat" / "catalog.csv")], db)
    ingest_hsc([str(data_dir / "imaging" / "aileisun__bubbleimg")], db, processes=1)
    ingest_hst([str(data_dir / "imaging")], db, processes=1)
    for name in MODELS:
        score(db, name, "all_images", backend="torch")
    tracers = add_tracers(db, "known", "known", "survey = 'hst'")
    assert 0 < tracers.with_cutout == tracers.total
    found = evaluate_trc(db, "arclet", "known")
    figures = {m.name: m.value for m in found.metrics if m.x != m.x}
    assert all(f.ok for f in check_database(db))
    with connect_engine(db, read_only=True).connect() as conn:
        return {name: read_frame(conn, sql) for name, sql in TABLES.items()}, figures


def test_real_cutouts_get_the_same_ranks(
    tmp_path: Path,
    data_dir: Path,
    duckdb_template: Path,
    postgres_database: Callable[[str], Iterator[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    duckdb = tmp_path / "search.duckdb"
    shutil.copy(duckdb_template, duckdb)
    make = postgres_database("lensmine_template")
    left, left_figures = search(str(duckdb), data_dir)
    monkeypatch.setenv("LENSMINE_SHARDS", str(tmp_path / "postgres.shards"))
    right, right_figures = search(next(make), data_dir)
    next(make, None)
    assert len(left["ranked"]) > 80
    assert set(left["ranked"].model) == set(MODELS)
    for name, frame in left.items():
        pd.testing.assert_frame_equal(frame, right[name], check_dtype=False, rtol=1e-5, obj=name)
    assert left_figures == pytest.approx(right_figures, rel=1e-6)
