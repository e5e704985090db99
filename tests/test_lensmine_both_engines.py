"""The whole search, from files to candidates, gives the same candidates on DuckDB and on PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from etl.lenses import ingest_lenses
from etl.sdss import ingest_sdss
from schema.engine import connect_engine, read_frame
from scoring.fits.run import fit_hits
from scoring.mock_population import MockRecipe
from scoring.mocksurvey import write_mock_survey
from scoring.run import score

MODELS = ("snr_lae", "resnet28_lae", "matched_filter_lae")


def search(db: str, paths: list[str], lenses: list[str]) -> dict[str, pd.DataFrame]:
    """Ingest, score with every model, fit; the tables that people read."""
    ingest_sdss(paths, db, processes=1)
    ingest_lenses(lenses, db)
    for name in MODELS:
        score(db, name, "all_spectra", backend="torch")
    fit_hits(db)
    with connect_engine(db, read_only=True).connect() as conn:
        return {
            "score": read_frame(
                conn,
                "select target_id, model.name, probability, wave_angstrom, snr from current_score"
                " join model on model.model_id = current_score.model_id order by target_id, model.name",
            ),
            "hit_cut": read_frame(
                conn,
                "select native_id, model, first_failed_cut, line_flux, skewness from hit_cut"
                " order by native_id, model",
            ),
            "candidate": read_frame(
                conn,
                "select native_id, model, name, z_lens, z_source, line_flux, skewness, skewness_err"
                " from candidate order by native_id, model",
            ),
        }


@pytest.fixture
def both(
    tmp_path: Path,
    duckdb_template: Path,
    postgres_database: Callable[[str], Iterator[str]],
) -> Iterator[tuple[str, str]]:
    """An empty migrated database on each engine."""
    duckdb = tmp_path / "search.duckdb"
    shutil.copy(duckdb_template, duckdb)
    make = postgres_database("lensmine_template")
    yield str(duckdb), next(make)
    next(make, None)


def same(a: dict[str, pd.DataFrame], b: dict[str, pd.DataFrame]) -> None:
    """Equal to the rounding of two runs of one computation."""
    for name, left in a.items():
        right = b[name]
        assert len(left) == len(right), name
        for column in left:
            if pd.api.types.is_numeric_dtype(left[column]):
                np.testing.assert_allclose(
                    left[column].astype(float), right[column].astype(float), rtol=1e-4, atol=1e-6
                )
            else:
                assert left[column].fillna("").tolist() == right[column].fillna("").tolist(), (name, column)


def test_mock_survey_gives_the_same_candidates(
    both: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mock_survey(tmp_path / "survey", MockRecipe.of_size(300, seed=5))
    lenses = tmp_path / "lenses.csv"
    lenses.write_text("name,RA [deg],DEC [deg],zlens,type,grading,ref\nL1,1.0,2.0,0.5,galaxy,confident,x\n")
    found = []
    for db in both:
        monkeypatch.setenv("LENSMINE_SHARDS", str(tmp_path / f"shards{len(found)}"))
        found.append(search(db, [str(tmp_path / "survey")], [str(lenses)]))
    same(*found)
    assert len(found[0]["candidate"]) >= 5
    assert set(found[0]["candidate"]["model"]) == set(MODELS)


def test_real_files_give_the_same_candidates(
    both: tuple[str, str], data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(data_dir / "spectra"), str(data_dir / "catalogs" / "derived")]
    lenses = [str(data_dir / "lens_catalogs" / "lenscat__lenscat" / "catalog.csv")]
    found = []
    for db in both:
        monkeypatch.setenv("LENSMINE_SHARDS", str(tmp_path / f"shards{len(found)}"))
        found.append(search(db, paths, lenses))
    same(*found)
    assert found[0]["score"]["target_id"].nunique() > 100
