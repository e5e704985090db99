"""lensmine evaluate on a database of real galaxies: injections, their rows, figures of stored scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
import torch
from typer.testing import CliRunner

from schema.engine import connect_engine, read_frame
from schema.errors import UserError
from schema.grid import PIX0
from scoring.evaluate.hosts import read_hosts
from scoring.evaluate.injections import InjectionConfig, evaluate_injections
from scoring.evaluate.paper import evaluate_paper_test
from scoring.evaluate.record import save
from scoring.evaluate.stored import STEPS, evaluate_stored
from scoring.evaluate.testsets import injected, near_real_negatives, window
from scoring.localise import localise
from scoring.registry import get_model
from scoring.run import score

SMALL = InjectionConfig(fluxes=(4.0, 15.0, 40.0), n_each=60, n_negative=2000, n_resamples=40)


@pytest.fixture
def galaxies(db: str, data_dir: Path) -> str:
    from lensmine import app

    folder = data_dir / "spectra" / "Lime0312__stat605-hw2"
    done = CliRunner().invoke(app, ["ingest", "sdss", str(folder), "--db", db])
    assert done.exit_code == 0, done.output
    return db


def test_injections_into_real_galaxies(galaxies: str, tmp_path: Path) -> None:
    hosts = read_hosts(galaxies, "li2018_lrg")
    assert len(hosts.table) >= 8
    assert (hosts.spectra.z > 0.3).all()
    models = [get_model("matched_filter_lae"), get_model("matched_filter_lae_template")]
    found = evaluate_injections(models, hosts, SMALL)
    for each in found:
        curve = each.curve("completeness_flux")
        assert [m.x for m in curve] == [4.0, 15.0, 40.0]
        assert curve[0].value < curve[1].value <= curve[2].value + 0.05
        assert curve[2].value > 0.85
        assert all(m.lo <= m.value <= m.hi for m in curve)
        assert each.get("false_positive_rate_fpr").value <= 1e-3
        assert each.get("real_above").value <= 1
    assert not found[0].curve("gain_flux")
    difference = [
        b.value - a.value for a, b in zip(*(e.curve("completeness_flux") for e in found), strict=True)
    ]
    assert [m.value for m in found[1].curve("gain_flux")] == pytest.approx(difference)

    ids = save(galaxies, found, models)
    with connect_engine(galaxies, read_only=True).connect() as conn:
        rows = read_frame(conn, "select n_positive from evaluation order by evaluation_id")
        stored = read_frame(
            conn,
            "select x, value, lo, hi, n from metric where evaluation_id = :id and name = 'completeness_flux' "
            "order by point",
            id=ids[0],
        )
    assert rows.n_positive.tolist() == [180, 180]
    assert stored.value.tolist() == [m.value for m in found[0].curve("completeness_flux")]


def test_injected_lines_have_their_flux_and_the_rest_is_as_observed(galaxies: str) -> None:
    real = window(read_hosts(galaxies, "li2018_lrg").spectra)
    generator = torch.Generator().manual_seed(1)
    spectra = injected(real, (20.0,), 40, generator, "skewed")
    base = real.take(torch.from_numpy(spectra.host))
    added = (spectra.flux - base.flux).double().numpy()
    wave = 10 ** (1e-4 * (spectra.first_pixel + np.arange(added.shape[1])))
    total = (added * wave * np.log(10) * 1e-4).sum(1)
    inside = (np.abs(spectra.lines.wave_angstrom.numpy() - 4400) < 500) & (base.ivar.numpy() > 0).all(1)
    assert inside.sum() > 10
    assert total[inside] == pytest.approx(20, rel=0.02)
    assert torch.equal(spectra.ivar, base.ivar)
    far = np.abs(wave - spectra.lines.wave_angstrom.numpy()[:, None]) > 120
    assert np.abs(added[far]).max() < 0.02


def test_negatives_are_as_noisy_as_real_residuals(galaxies: str) -> None:
    real = window(read_hosts(galaxies, "li2018_lrg").spectra)
    made = near_real_negatives(real, 400, torch.Generator().manual_seed(2))
    assert not made.label.any()
    assert real.model is not None
    assert made.model is not None
    good, here = real.ivar > 0, made.ivar > 0
    chi = ((real.flux - real.model) * real.ivar.sqrt())[good]
    made_chi = ((made.flux - made.model) * made.ivar.sqrt())[here]
    assert made_chi.std().item() == pytest.approx(chi.std().item(), rel=0.05)
    _, snr = localise(made.flux, made.ivar, made.z)
    _, own = localise(real.flux, real.ivar, real.z)
    assert snr.median().item() == pytest.approx(own.median().item(), abs=0.5)


def test_as_targets_then_score_then_figures(galaxies: str) -> None:
    from lensmine import app

    command = ["evaluate", "injections", "matched_filter_lae", "--selection", "li2018_lrg", "--as-targets"]
    command += ["--n", "20", "--negatives", "1000", "--flux", "5", "--flux", "40", "--json", "--db", galaxies]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout) == {"lenses": 40, "controls": 1000}
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    with connect_engine(galaxies, read_only=True).connect() as conn:
        n = read_frame(conn, "select is_lens, count(*) as n from injection group by is_lens order by is_lens")
        shard = read_frame(conn, "select distinct pix0, npix from pixel_shard where name like 'inject-%'")
    assert n.n.tolist() == [1000, 40]
    assert shard.pix0.tolist() == [PIX0]
    with pytest.raises(UserError, match="has scored nothing"):
        evaluate_stored(galaxies, "matched_filter_lae")
    score(galaxies, "matched_filter_lae", "injections")
    found = evaluate_stored(galaxies, "matched_filter_lae")
    assert (found.n_positive, found.n_negative) == (40, 1000)
    assert found.get("precision").value > 0.9
    low, high = found.curve("completeness_flux")
    assert low.value < 0.5 < 0.7 < high.value
    assert found.get("position_right").value > 0.9
    assert len(found.curve("completeness_after")) == len(STEPS) + 1
    assert found.curve("completeness_after")[0].value == found.get("completeness").value
    out = CliRunner().invoke(app, ["evaluate", "run", "matched_filter_lae", "--db", galaxies])
    assert out.exit_code == 0, out.output
    assert "ranking performance" in out.stdout
    with connect_engine(galaxies, read_only=True).connect() as conn:
        assert conn.execute(sa.text("select count(*) from evaluation where name = 'run'")).scalar() == 1


def test_paper_test_is_reproducible_and_drawn(tmp_path: Path) -> None:
    from scoring.evaluate.plots import plot_all

    model = get_model("matched_filter_lae")
    one, two = (evaluate_paper_test([model], 900, seed=4)[0] for _ in range(2))
    for name in ("precision", "completeness", "completeness_fpr", "roc_area", "calibration_error"):
        assert one.get(name).value == two.get(name).value
    assert (one.n_positive, one.n_negative) == (60, 840)
    assert one.get("precision").value > 0.9
    assert 0.7 < one.get("completeness").value < 1
    peaks = [m.value for m in one.curve("completeness_peak")]
    assert peaks[-1] > peaks[0]
    at_rate = one.curve("completeness_peak_fpr")
    assert sum(m.value * m.n for m in at_rate) == pytest.approx(one.get("completeness_fpr").value * 60)
    assert [(m.x, m.n) for m in at_rate] == [(m.x, m.n) for m in one.curve("completeness_peak")]
    assert sum(m.value * m.n for m in one.curve("completeness_wave_fpr")) == pytest.approx(
        one.get("completeness_fpr").value * 60
    )
    drawn = plot_all([one], tmp_path / "figures")
    assert {p.suffix for p in drawn} == {".png", ".pdf"}
    assert all(p.stat().st_size > 5000 for p in drawn)
    assert {p.stem for p in drawn} >= {
        "paper_test_roc",
        "paper_test_tracer_recovery",
        "paper_test_reliability",
        "paper_test_completeness_peak",
        "paper_test_completeness_peak_fpr",
        "paper_test_completeness_wave_fpr",
    }


def test_too_few_galaxies_is_one_line(db: str) -> None:
    from lensmine import app

    done = CliRunner().invoke(
        app, ["evaluate", "injections", "matched_filter_lae", "--selection", "li2018_lrg", "--db", db]
    )
    assert isinstance(done.exception, UserError)
    assert "injection needs 5 or more" in str(done.exception)
