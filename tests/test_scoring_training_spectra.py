"""Galaxies and noise are learnt from the spectra that a selection returns, on both engines."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
import torch
from typer.testing import CliRunner

from benchmarks.generated import add_spectra
from lensmine import app
from schema.engine import connect_engine
from schema.errors import DataError, UserError
from schema.grid import WINDOW_FIRST, WINDOW_NPIX
from schema.tables import injection, spectrum
from scoring.generate.recipes import PublishedRecipe
from scoring.training_spectra import bank_from_selection, noise_from_selection, read_selected

LINELESS = PublishedRecipe(positive_fraction=0.0)


@pytest.fixture
def galaxies(db: str) -> tuple[str, np.ndarray]:
    """Database with two shards of simulated galaxies, and their fluxes."""
    batch = LINELESS.sample(300, torch.Generator().manual_seed(1))
    flux, ivar, z = batch.flux.numpy(), batch.ivar.numpy(), batch.z.double().numpy()
    parts = (slice(0, 120), slice(120, 300))
    add_spectra(db, iter([(f"part_{i}", (flux[p], ivar[p], z[p])) for i, p in enumerate(parts)]))
    return db, flux


def test_pixels_come_back_from_every_shard(galaxies: tuple[str, np.ndarray]) -> None:
    db, flux = galaxies
    found = read_selected(db, "all_spectra", ("flux", "ivar"), WINDOW_FIRST - 8, WINDOW_NPIX + 16)
    assert np.array_equal(found.arrays["flux"][:, 8:-8], flux)
    assert not found.arrays["ivar"][:, :8].any()  # the shard does not reach there
    some = read_selected(db, "all_spectra", ("flux",), WINDOW_FIRST, WINDOW_NPIX, limit=50)
    assert len(some.z) == 50


def test_nothing_is_learnt_from_ones_own_injections(galaxies: tuple[str, np.ndarray]) -> None:
    """Simulated galaxies without a host stay: a mock survey may be learnt from."""
    db, flux = galaxies
    with connect_engine(db).begin() as conn:
        keys = conn.execute(
            sa.select(spectrum.c.target_id).order_by(spectrum.c.shard_id, spectrum.c.shard_row)
        ).scalars().all()  # fmt: skip
        rows = [
            {"target_id": k, "is_lens": i % 2 == 0, "host_target_id": keys[-1]}
            for i, k in enumerate(keys[:40])
        ]
        rows += [{"target_id": k, "is_lens": False, "host_target_id": None} for k in keys[40:60]]
        conn.execute(injection.insert(), rows)
    found = read_selected(db, "all_spectra", ("flux",), WINDOW_FIRST, WINDOW_NPIX)
    assert len(found.z) == len(flux) - 40


def test_a_bank_from_a_selection_looks_like_its_galaxies(galaxies: tuple[str, np.ndarray]) -> None:
    db, _ = galaxies
    bank = bank_from_selection(db, "all_spectra", z_min=0.5, z_max=0.52)
    assert len(bank.z) == 8
    near = read_selected(
        db, "all_spectra", ("flux",), WINDOW_FIRST, WINDOW_NPIX, where="z between 0.48 and 0.54"
    )
    drawn, _ = bank.sample(200, torch.Generator().manual_seed(2))
    wanted = near.arrays["flux"].mean()
    assert float(drawn.mean()) == pytest.approx(float(wanted), rel=0.35)
    assert float(drawn.std(1).mean()) < 0.9 * float(near.arrays["flux"].std(1).mean())  # noise is left behind


def test_too_few_spectra_none_and_no_sky_are_refused(galaxies: tuple[str, np.ndarray]) -> None:
    db, _ = galaxies
    with pytest.raises(DataError, match="finds 12 spectra"):
        bank_from_selection(db, "all_spectra", z_min=2.0, z_max=2.01)
    with pytest.raises(UserError, match="returns no spectrum"):
        bank_from_selection(db, "injections")
    with pytest.raises(UserError, match="no selection is called"):
        bank_from_selection(db, "nothing")
    with pytest.raises(DataError, match="model"):
        noise_from_selection(db, "all_spectra")


def test_the_commands_say_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", "resnet", "--out", str(tmp_path / "x")])
    assert isinstance(result.exception, UserError)
    assert re.search(r"did you mean .*resnet28_lae", str(result.exception))
    assert not (tmp_path / "x").exists()


def test_models_lists_the_figures_of_the_cards() -> None:
    result = CliRunner().invoke(app, ["models", "--json"])
    assert result.exit_code == 0
    assert '"completeness"' in result.output
