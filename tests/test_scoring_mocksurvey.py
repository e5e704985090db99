"""A mock survey is what it says: real file formats, known lenses, the noise that its ivar quotes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from astropy.io import fits

from schema.engine import connect_engine
from schema.errors import DataError, UserError
from schema.grid import LYA_ANGSTROM, WINDOW_FIRST, WINDOW_NPIX, wave_angstrom
from schema.ids import sdss_target_id
from schema.tables import injection, target
from schema.upsert import insert_rows
from scoring.mock_files import layout, specobj_id
from scoring.mock_population import MockRecipe, draw_population, fwhm_km_s, paper_selection
from scoring.mock_spectra import add_line, simulate
from scoring.mocksurvey import MockSurvey, load_truth, write_mock_survey

SMALL = replace(MockRecipe.of_size(300, seed=5), n_lenses=20)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> MockSurvey:
    """A written mock survey of 300 fibres."""
    return write_mock_survey(tmp_path_factory.mktemp("mock"), SMALL)


def spec_files(survey: MockSurvey) -> list[Path]:
    return sorted(survey.spectra.rglob("spec-*.fits"))


def test_spec_files_are_standard_fits_in_the_boss_layout(survey: MockSurvey) -> None:
    paths = spec_files(survey)
    assert len(paths) == survey.n_files == 300
    for path in paths[:40:10]:
        with fits.open(path) as hdus:
            hdus.verify("exception")
            assert [h.name for h in hdus] == ["PRIMARY", "COADD", "SPALL", "SPZLINE"]
            assert hdus["COADD"].columns.names == [name for name, _ in layout("coadd")]
            assert len(hdus["SPALL"].columns) == 236
            row, head = hdus["SPALL"].data[0], hdus[0].header
            assert path.name == f"spec-{row['PLATE']:04d}-{row['MJD']}-{row['FIBERID']:04d}.fits"
            assert head["PLUG_RA"] == pytest.approx(row["PLUG_RA"], abs=1e-7)
            loglam = hdus["COADD"].data["loglam"]
            assert loglam[0] == pytest.approx(head["COEFF0"], abs=1e-6)
            assert np.allclose(np.diff(loglam), 1e-4, atol=1e-6)
            assert 10 ** loglam[0] < 3610
            assert 10 ** loglam[-1] > 10300


def test_same_seed_writes_the_same_bytes(survey: MockSurvey, tmp_path: Path) -> None:
    again = write_mock_survey(tmp_path, SMALL)
    for old, new in zip(spec_files(survey)[::60], spec_files(again)[::60], strict=True):
        assert old.read_bytes() == new.read_bytes()
    other = write_mock_survey(tmp_path / "other", replace(SMALL, seed=6))
    assert spec_files(survey)[3].read_bytes() != spec_files(other)[3].read_bytes()


def test_specobj_holds_every_fibre_with_the_columns_of_sdss(survey: MockSurvey) -> None:
    table = fits.getdata(survey.specobj)
    assert table.columns.names == [name for name, _ in layout("specobj")]
    assert len(table) == 300
    assert np.isnan(table["PLUG_RA"]).sum() == 1
    ids = [int(text) for text in table["SPECOBJID"]]
    assert min(ids) > 2**63  # plates beyond 8191 leave the signed range, as real ones do
    assert ids[4] == int(specobj_id(table["PLATE"], table["MJD"], table["FIBERID"], "v5_13_0")[4])
    truth = pd.read_csv(survey.truth)
    assert (
        list(sdss_target_id(table["PLATE"], table["MJD"], table["FIBERID"])) == truth["target_id"].to_list()
    )


def test_faults_of_a_real_delivery_are_there(survey: MockSurvey) -> None:
    sizes = sorted({path.stat().st_size for path in spec_files(survey)})
    assert len(sizes) == 2
    assert sizes[0] == 100_000
    whole = [p for p in spec_files(survey) if p.stat().st_size == sizes[1]]
    negative = sum(bool((fits.getdata(path, 1)["ivar"] < 0).any()) for path in whole)
    assert negative == 1


def test_population_has_what_the_recipe_asks_for() -> None:
    recipe = MockRecipe()
    sky = draw_population(recipe)
    count = sky["kind"].value_counts()
    assert count["lens"] == recipe.n_lenses
    assert count["known_lens"] == recipe.n_known
    assert count["sky"] == 120
    assert {"star", "qso", "plain"} <= set(count.index)
    searched = sky[paper_selection(sky)]
    assert (searched["z"] > 0.3).all()
    assert (searched["class"] == "GALAXY").all()
    lenses = sky[sky["kind"] == "lens"]
    assert paper_selection(lenses).all()
    assert np.allclose(lenses["wave_angstrom"], LYA_ANGSTROM * (1 + lenses["z_source"].astype(float)))
    assert lenses["wave_angstrom"].between(3820, 4980).all()
    assert lenses["line_flux"].between(recipe.flux_min, recipe.flux_max).all()
    assert (lenses["skewness"] > 0).all()
    assert (lenses["z_source"] > lenses["z"]).all()
    assert sky["ra_deg"].between(0, 360, inclusive="left").all()
    first = sky[sky["plate"] == sky["plate"].min()]["ra_deg"]
    assert first.min() < 1
    assert first.max() > 359


def test_repeated_galaxies_lie_on_their_first_epoch() -> None:
    sky = draw_population(MockRecipe())
    galaxies = sky[sky["kind"] == "plain"]
    last, first = galaxies.tail(20), galaxies.head(20)
    assert (last["plate"].to_numpy() != first["plate"].to_numpy()).all()
    assert np.allclose(last["ra_deg"].astype(float), first["ra_deg"].astype(float))
    offset = np.abs(last["dec_deg"].to_numpy(float) - first["dec_deg"].to_numpy(float)) * 3600
    assert offset.max() < 0.5


@pytest.mark.parametrize("n", [10, 10**7])
def test_impossible_size_is_refused_with_the_limits(n: int) -> None:
    with pytest.raises(UserError, match="300 to 380000"):
        MockRecipe.of_size(n)


def test_too_many_lenses_are_refused() -> None:
    with pytest.raises(UserError, match="would be searched"):
        draw_population(replace(SMALL, n_lenses=400))


def test_noise_is_what_ivar_quotes_and_lines_carry_their_flux() -> None:
    sky = draw_population(replace(MockRecipe(), n_lenses=600))
    chosen = pd.concat([sky[sky["kind"] == "lens"], sky[sky["kind"] == "plain"].head(150)])
    pixels = simulate(chosen, 35555, 4610, seed=3)
    plain = (chosen["kind"] == "plain").to_numpy()
    chi = ((pixels.flux - pixels.model) * np.sqrt(pixels.ivar))[plain][:, WINDOW_FIRST - 35555 :][
        :, :WINDOW_NPIX
    ]
    assert chi.std() == pytest.approx(1.0, abs=0.05)
    assert abs(chi.mean()) < 0.02
    assert np.isfinite(pixels.flux).all()
    assert (pixels.ivar >= 0).all()
    # the excess over the model, summed around every line, is the flux that was put in
    lenses = chosen[~plain]
    excess = (pixels.flux - pixels.model)[~plain] * np.gradient(wave_angstrom(35555 + np.arange(4610)))
    centre = np.rint(np.log10(lenses["wave_angstrom"].to_numpy(float)) * 1e4).astype(int) - 35555
    found = np.array([row[c - 20 : c + 21].sum() for row, c in zip(excess, centre, strict=True)])
    assert found.sum() == pytest.approx(lenses["line_flux"].sum(), rel=0.03)


def test_added_line_has_flux_position_and_width() -> None:
    flux = np.zeros((1, 4610), dtype=np.float32)
    one = np.ones(1)
    add_line(flux, np.array([0]), 35555, 4200 * one, 20 * one, 2.5 * one, 3 * one)
    wave = wave_angstrom(35555 + np.arange(4610))
    area = flux[0] * np.gradient(wave)
    assert area.sum() == pytest.approx(20, rel=2e-3)
    assert (area * wave).sum() / area.sum() == pytest.approx(4200, abs=0.05)
    above = wave[flux[0] >= flux[0].max() / 2]
    quoted = float(fwhm_km_s(2.5 * one, 3 * one, 4200 * one)[0])
    assert (above[-1] - above[0]) / 4200 * 299792.458 == pytest.approx(
        quoted - 69, abs=70
    )  # a pixel is 69 km/s


def test_truth_is_loaded_beside_ingested_targets(survey: MockSurvey, db: str) -> None:
    truth = pd.read_csv(survey.truth)
    with connect_engine(db).begin() as conn, pytest.raises(DataError, match="ingest sdss"):
        load_truth(conn, survey.truth)
    rows = [
        {
            "target_id": int(t),
            "survey": "sdss",
            "native_id": n,
            "ra_deg": 1.0,
            "dec_deg": 2.0,
            "hpx29": 7,
            "is_injection": False,
        }
        for t, n in zip(truth["target_id"][:200], truth["native_id"][:200], strict=True)
    ]
    rows.append({**rows[0], "target_id": 17, "native_id": "1-2-3"})
    with connect_engine(db).begin() as conn:
        insert_rows(conn, target, rows)
        assert load_truth(conn, survey.truth) == 200
        assert load_truth(conn, survey.truth) == 200  # again changes nothing
    with connect_engine(db).connect() as conn:
        lens = conn.execute(sa.select(injection).where(injection.c.is_lens)).mappings().all()
        assert len(lens) == truth["is_lens"][:200].sum() > 0
        assert all(row["line"] == "lya" and row["z_source"] > 2 and row["line_flux"] > 5 for row in lens)
        plain = sa.select(sa.func.count()).select_from(injection).where(injection.c.line_flux.is_(None))
        assert conn.execute(plain).scalar_one() > 100
        marked = sa.select(sa.func.count()).select_from(target).where(target.c.is_injection)
        assert conn.execute(marked).scalar_one() == 200
        real = sa.select(target.c.survey).where(target.c.target_id == 17)
        assert conn.execute(real).scalar_one() == "sdss"
