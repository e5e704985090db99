"""The fitting job and ``explain`` on rows and pixels in real databases, on both engines."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from search_rows import MODEL, Search
from typer.testing import CliRunner

from schema.engine import shard_root
from schema.errors import DataError, UserError
from schema.grid import LYA_ANGSTROM, wave_angstrom
from schema.healpix import hpx29
from schema.shards import write_shard
from schema.tables import line_fit, score, spectrum
from scoring.explain import explain
from scoring.fits.oii import OII_ANGSTROM
from scoring.fits.profile import skew_normal
from scoring.fits.run import fit_hits
from scoring.fits.skewnormal import FitConfig

WAVES = (4150.0, 4260.0, 4470.0, 4780.0)
PIX0, NPIX = 35400, 4900


@pytest.fixture
def hits(db: str) -> Search:
    """Hits without fits: a red tail, a blue one, an [OII] emitter, and one without pixels at the line."""
    rng = np.random.default_rng(2)
    wave = wave_angstrom(PIX0 + np.arange(NPIX))
    flux = 3 + rng.normal(0, 0.5, (4, NPIX))
    for k, alpha in enumerate((3.0, -3.0, 3.0, 3.0)):
        flux[k] += 45 * skew_normal(wave, WAVES[k], 2.2, alpha)
    flux[2] += 60 * skew_normal(wave, 6564.61 * WAVES[2] / OII_ANGSTROM, 2.5, 0.0)
    ivar = np.full(flux.shape, 4.0)
    ivar[3, np.abs(wave - WAVES[3]) < 4] = 0
    write_shard(shard_root(db), "s", {"flux": flux, "ivar": ivar, "model": np.full(flux.shape, 3.0)}, PIX0)
    search = Search(db)
    for k, at in enumerate(WAVES):
        ra = 150.0 + k
        search.hit(k + 1, at, fit=None, ra=ra, dec=2.0, hpx29=int(hpx29([ra], [2.0])[0]), z=0.41)
        search.rows["spectrum"][-1] |= {"shard_row": k}
    search.hit(5, 4300.0, fit=None, probability=0.2, ra=160.0, dec=2.0)
    return search.write()


def rows(search: Search) -> list[dict[str, Any]]:
    with search.engine.connect() as conn:
        return [dict(r) for r in conn.execute(sa.select(line_fit).order_by(line_fit.c.target_id)).mappings()]


def test_every_hit_is_fitted_once(hits: Search, db: str) -> None:
    seen: list[tuple[int, int]] = []
    report = fit_hits(db, "m", progress=lambda done, todo: seen.append((done, todo)))
    assert (report.n_hits, report.n_current, report.n_fitted) == (4, 0, 4)
    assert report.statuses == {"ok": 3, "gap at the line": 1}
    assert seen[-1] == (4, 4)
    fits = rows(hits)
    assert len(fits) == 4
    assert fits[0]["line_flux"] == pytest.approx(45, abs=4 * fits[0]["line_flux_err"])
    assert fits[0]["z_lya"] == pytest.approx(WAVES[0] / LYA_ANGSTROM - 1, abs=5e-4)
    assert fits[3]["line_flux"] is None
    assert fits[3]["snr_halpha"] is None
    assert hits.first_failed() == {1: None, 2: "asymmetry", 3: "oii", 4: "fit"}
    again = fit_hits(db)
    assert (again.n_current, again.n_fitted) == (4, 0)
    assert rows(hits) == fits


def test_other_settings_pixels_or_wavelength_make_a_fit_stale(hits: Search, db: str) -> None:
    fit_hits(db)
    with hits.engine.begin() as conn:
        conn.execute(score.update().where(score.c.target_id == 2).values(wave_angstrom=WAVES[1] + 0.5))
        conn.execute(score.update().where(score.c.target_id == 1).values(content_hash="b"))
        conn.execute(spectrum.update().where(spectrum.c.target_id == 1).values(content_hash="b"))
    assert hits.first_failed() == {1: "fit", 2: "fit", 3: "oii", 4: "fit"}
    assert fit_hits(db).n_fitted == 2
    assert hits.first_failed() == {1: None, 2: "asymmetry", 3: "oii", 4: "fit"}
    assert fit_hits(db, fit=FitConfig(half_pixels=25)).n_fitted == 4
    assert fit_hits(db).n_fitted == 0


def test_a_selection_limits_the_job(hits: Search, db: str) -> None:
    from scoring.selection import add_selection

    add_selection(db, "two", "target_id <= 2 and native_id like '1-%'")
    report = fit_hits(db, selection="two")
    assert (report.n_hits, report.n_fitted) == (2, 2)


def test_unknown_model_and_missing_shard(hits: Search, db: str) -> None:
    with pytest.raises(UserError, match="no model 'x' has scored"):
        fit_hits(db, "x")
    (shard_root(db) / "s" / "meta.json").unlink()
    with pytest.raises(DataError, match="missing"):
        fit_hits(db)
    assert rows(hits) == []


def test_explain_says_which_cut_dropped_it(hits: Search, db: str) -> None:
    fit_hits(db)
    found = explain(db, "1-2-2")
    (verdict,) = found["verdicts"]
    assert verdict["verdict"] == "dropped by asymmetry"
    assert verdict["first_failed_cut"] == "asymmetry"
    assert verdict["first_failed_cut_published"] == "skewness"
    assert "it fails the published cut" in verdict["reason"]
    assert verdict["reason"].endswith("asked: at least -1; as published: skewness above 0")
    steps = {s["step"]: s for s in verdict["steps"]}
    assert list(steps) == [
        "hit", "fit", "peak_flux", "snr", "width", "airglow", "rest_frame", "bad_pixel", "known_lens",
        "asymmetry", "oii", "source",
    ]  # fmt: skip
    assert steps["peak_flux"]["passes"]
    assert steps["width"]["found"].startswith("standard deviation ")
    assert steps["source"]["passes"]
    assert "z_lens 0.4100" in steps["source"]["found"]
    assert verdict["fit"]["skewness"] < 0
    assert found["spectra"][0]["shard"] == "s"
    assert found["target"]["z"] == 0.41
    oii = explain(db, "3")["verdicts"][0]
    assert oii["verdict"] == "dropped by oii"
    assert "H alpha" in oii["reason"]
    assert explain(db, "1-2-4")["verdicts"][0]["reason"].startswith("gap at the line")
    unscored = explain(db, "1-2-5")["verdicts"][0]
    assert (unscored["verdict"], unscored["first_failed_cut"]) == ("not a hit", None)
    assert "below the threshold 0.5" in unscored["reason"]


@pytest.mark.parametrize(
    "name",
    ["1-2-1", "SDSS J100000.00+020000.0", "J100000.00+020000.0", "100000", "1"],
)
def test_names_of_a_target(hits: Search, db: str, name: str) -> None:
    fit_hits(db)
    if name == "100000":
        with pytest.raises(UserError, match="no target"):
            explain(db, name)
        return
    (verdict,) = explain(db, name, "m")["verdicts"]
    assert (verdict["verdict"], verdict["name"]) == ("candidate", "SDSS J100000.00+020000.0")
    assert verdict["model_id"] == MODEL


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1-2-11", "did you mean 1-2-1"),
        ("SDSS J100000.10+020000.0", "nearest are 1-2-1"),
        ("SDSS J200000.10+020000.0", "nothing lies within"),
        ("nonsense", "give PLATE-MJD-FIBER"),
    ],
)
def test_unknown_targets_list_near_matches(hits: Search, db: str, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        explain(db, name)


def test_why_a_score_does_not_count(hits: Search, db: str) -> None:
    with hits.engine.begin() as conn:
        conn.execute(spectrum.update().where(spectrum.c.target_id == 1).values(content_hash="new"))
        conn.execute(sa.text("update spec_obj set z = 0.5 where target_id = 2"))
        conn.execute(sa.text("update spec_obj set objtype = 'SKY' where target_id = 3"))
        conn.execute(
            sa.text("update spec_obj set is_primary = false, primary_target_id = 1 where target_id = 4")
        )
        conn.execute(sa.text("delete from score where target_id = 5"))
    said = [explain(db, f"1-2-{k}")["verdicts"][0]["reason"] for k in range(1, 6)]
    parts = ("older pixels", "now has z 0.5", "sky fibre", "another epoch, 1-2-1", "not scored")
    for text, part in zip(said, parts, strict=True):
        assert part in text


def test_commands_print_tables_and_json(hits: Search, db: str) -> None:
    from lensmine import app

    run = CliRunner()

    def result(*words: str) -> Any:
        done = run.invoke(app, [*words, "--db", db, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    assert result("fit", "--model", "m")["n_fitted"] == 4
    assert [r["n_out"] for r in result("attrition")] == [4, 3, 3, 3, 3, 3, 3, 3, 3, 2, 1, 1]
    assert [r["native_id"] for r in result("candidates", "--model", "m")] == ["1-2-1"]
    assert result("explain", "1-2-2")["verdicts"][0]["verdict"] == "dropped by asymmetry"
    for words in (["attrition"], ["candidates"], ["explain", "1-2-1"], ["explain", "1-2-5"], ["fit"]):
        done = run.invoke(app, [*words, "--db", db])
        assert done.exit_code == 0, done.output
    text = run.invoke(app, ["explain", "1-2-3", "--db", db]).stdout
    assert "dropped by oii" in text
    assert "[OIII] 5008" in text
