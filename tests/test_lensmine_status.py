"""``lensmine status`` asks about the version that last scored, and about the fits of today's settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
import torch
from safetensors.torch import load_file, save_file
from search_rows import Search

import scoring
from benchmarks.generated import add_spectra
from lensmine_status import collect_status
from schema.tables import line_fit, model
from scoring.fits.oii import DEFAULT_OII
from scoring.fits.run import fit_version
from scoring.fits.skewnormal import DEFAULT_FIT
from scoring.generate.recipes import PublishedRecipe
from scoring.run import score

N = 24


@pytest.fixture
def spectra(db: str) -> str:
    batch = PublishedRecipe().sample(N, torch.Generator().manual_seed(1))
    arrays = batch.flux.numpy(), batch.ivar.numpy(), batch.z.double().numpy()
    add_spectra(db, iter([("part", arrays)]))
    return db


@pytest.fixture
def other_weights(tmp_path: Path) -> Path:
    """Weights of one's own under the name of a shipped model."""
    tensors = load_file(Path(scoring.__file__).parent / "weights" / "snr_lae.safetensors")
    first = next(name for name, t in tensors.items() if t.is_floating_point())
    tensors[first] = tensors[first] * 1.01
    save_file(tensors, tmp_path / "own.safetensors")
    return tmp_path / "own.safetensors"


def test_what_a_lower_precision_scored_is_current(spectra: str) -> None:
    score(spectra, "snr_lae", "all_spectra", backend="torch", precision="bf16", limit=N - 4)
    status = collect_status(spectra)
    (found,) = status["scores"]
    assert (found["current"], found["todo"], found["weights_changed"]) == (N - 4, 4, 0)
    assert found["precision"] == "bf16"
    assert status["next"][0] == "lensmine score snr_lae all_spectra --precision bf16"
    score(spectra, "snr_lae", "all_spectra", backend="torch", precision="bf16")
    assert collect_status(spectra)["scores"][0]["todo"] == 0


def test_what_ones_own_weights_scored_is_current(spectra: str, other_weights: Path) -> None:
    given = str(other_weights)
    score(spectra, "snr_lae", "all_spectra", backend="torch", weights=given, limit=N - 4)
    status = collect_status(spectra)
    (found,) = status["scores"]
    assert (found["current"], found["todo"], found["weights_changed"]) == (N - 4, 4, 0)
    assert status["next"][0] == f"lensmine score snr_lae all_spectra --weights {given}"


def test_shipped_weights_that_changed_are_told(spectra: str) -> None:
    score(spectra, "matched_filter_lae", "all_spectra", backend="torch")
    search = Search(spectra)
    with search.engine.begin() as conn:  # as if an older release had scored
        was = conn.execute(sa.select(model.c.model_id)).scalar_one()
        row = dict(conn.execute(sa.select(model)).mappings().one())
        conn.execute(model.insert(), [row | {"model_id": 5, "weights_hash": "older"}])
        for table in ("score", "scoring_run"):
            conn.execute(sa.text(f"update {table} set model_id = 5 where model_id = {was}"))
    (found,) = collect_status(spectra)["scores"]
    assert (found["current"], found["weights_changed"]) == (0, N)


def test_fits_of_other_settings_are_stale(db: str) -> None:
    search = Search(db)
    for k in (1, 2, 3):
        search.hit(k, 4000.0 + 100 * k, fit={"fit_version": fit_version(DEFAULT_FIT, DEFAULT_OII)})
    search.hit(4, 4500.0, fit=None)
    search.rows["line_fit"][1]["fit_version"] = "an older one"
    search.write()
    status = collect_status(db)
    (found,) = status["hits"]
    assert (found["hits"], found["unfitted"], found["outdated"]) == (4, 1, 1)
    assert "lensmine fit --model m" in status["next"]
    with search.engine.begin() as conn:
        conn.execute(line_fit.delete().where(line_fit.c.target_id == 2))
    assert collect_status(db)["hits"][0]["outdated"] == 0
