"""Exports read back by the tools that astronomers use, with their units, UCDs and nulls."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.io.votable import parse
from astropy.table import Table
from search_rows import Search

from schema.dictionary import dictionary
from schema.errors import UserError
from scoring.export import export

pytestmark = pytest.mark.filterwarnings("ignore::astropy.units.UnitsWarning")  # VOUnit discourages erg
FLUX = u.Unit("1e-17 erg / (s cm2)")


@pytest.fixture
def found(db: str) -> str:
    """A database with three candidates, one without magnitude, and a hit that is none."""
    search = Search(db)
    for k, mag in enumerate((19.35, None, 20.0)):
        search.hit(k + 1, 4100.0 + 70 * k, ra=15.0 * k, dec=-0.5, cmodel_mag_i=mag)
    search.hit(9, 4500.0, fit=None)
    search.write()
    return db


def test_fits_has_units_ucds_and_comments(found: str, tmp_path: Path) -> None:
    path = tmp_path / "c.fits"
    report = export(found, path)
    assert (report.n_rows, report.format) == (3, "FITS")
    with fits.open(path) as hdus:
        header, rows = hdus["CANDIDATE"].header, hdus["CANDIDATE"].data
        names = [header[f"TTYPE{k}"] for k in range(1, header["TFIELDS"] + 1)]
        assert names[:4] == ["name", "native_id", "z_lens", "z_source"]
        k = names.index("line_flux") + 1
        assert u.Unit(header[f"TUNIT{k}"]) == FLUX
        assert header[f"TUCD{k}"] == "phot.flux;spect.line"
        assert "flux" in header[f"TCOMM{k}"].lower()
        assert header[f"TUNIT{names.index('ra_deg') + 1}"] == "deg"
        assert list(rows["name"]) == [
            "SDSS J000000.00-003000.0", "SDSS J010000.00-003000.0", "SDSS J020000.00-003000.0"
        ]  # fmt: skip
        np.testing.assert_array_equal(rows["cmodel_mag_i"], [19.35, np.nan, 20.0])
        assert list(rows["is_injection"]) == [False] * 3


@pytest.mark.parametrize("ending", ["vot", "xml"])
def test_votable(found: str, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"c.{ending}"
    export(found, path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", u.UnitsWarning)  # VOUnit discourages erg and Angstrom
        table = parse(path).get_first_table()
    by_name = {f.name: f for f in table.fields}
    assert u.Unit(by_name["line_flux"].unit) == FLUX
    assert by_name["ra_deg"].ucd == "pos.eq.ra;meta.main"
    assert by_name["z_source"].description
    rows = table.to_table()
    assert list(rows["native_id"]) == ["1-2-1", "1-2-2", "1-2-3"]
    assert list(rows["target_id"]) == [1, 2, 3]


def test_parquet(found: str, tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    export(found, path, where="z_lens > 0.4 and cmodel_mag_i < 19.9")
    table = pq.read_table(path)
    assert table["native_id"].to_pylist() == ["1-2-1"]
    about = table.schema.field("skewness_err").metadata
    assert about[b"ucd"] == b"stat.error;spect.line.asymmetry"
    assert table.schema.field("peak_flux").metadata[b"unit"] == b"1e-17 erg / (s cm2 Angstrom)"


def test_csv_is_ecsv_and_plain_below_its_header(found: str, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    export(found, path)
    table = Table.read(path, format="ascii.ecsv")
    assert table["line_flux"].unit == FLUX
    assert table["ra_deg"].meta["ucd"] == "pos.eq.ra;meta.main"
    frame = pd.read_csv(path, comment="#")
    assert list(frame.native_id) == ["1-2-1", "1-2-2", "1-2-3"]
    assert frame.cmodel_mag_i.isna().tolist() == [False, True, False]


@pytest.mark.parametrize("ending", ["fits", "vot", "parquet", "csv"])
def test_same_rows_give_the_same_bytes(found: str, tmp_path: Path, ending: str) -> None:
    first, second = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    export(found, first)
    export(found, second)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


@pytest.mark.parametrize("ending", ["fits", "vot", "parquet", "csv"])
def test_any_relation_with_nulls(found: str, tmp_path: Path, ending: str) -> None:
    for view in ("hit_cut", "attrition", "spec_obj", "line_fit"):
        check_relation(found, tmp_path, view, ending)


def check_relation(found: str, tmp_path: Path, view: str, ending: str) -> None:
    """Export a relation and count its rows and columns."""
    path = tmp_path / f"x.{ending}"
    report = export(found, path, view)
    assert report.n_columns == len(dictionary(view)[0].columns)
    if ending == "parquet":
        assert pq.read_table(path).num_rows == report.n_rows > 0
    else:
        kind = {"fits": "fits", "vot": "votable", "csv": "ascii.ecsv"}[ending]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert len(Table.read(path, format=kind)) == report.n_rows > 0


@pytest.mark.parametrize("ending", ["fits", "vot", "parquet", "csv"])
def test_no_candidates_is_an_empty_file_with_columns(db: str, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"c.{ending}"
    assert export(db, path).n_rows == 0
    kind = {"fits": "fits", "vot": "votable", "csv": "ascii.ecsv", "parquet": "parquet"}[ending]
    names = pq.read_table(path).column_names if kind == "parquet" else Table.read(path, format=kind).colnames
    assert names == [c.name for c in dictionary("candidate")[0].columns]


def test_every_column_of_candidate_is_described() -> None:
    for column in dictionary("candidate")[0].columns:
        assert column.doc, column.name
        assert column.ucd, column.name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"path": "c.dat"}, "ending"),
        ({"path": "none/c.fits"}, "no folder"),
        ({"view": "candidates"}, "no table or view"),
        ({"where": "flux >"}, "refuses"),
        ({"where": "no_such > 1"}, "refuses"),
        ({"where": "true; drop table score"}, "one SQL condition"),
        ({"view": "target", "model": "m"}, "no column model"),
    ],
)
def test_refusals(found: str, tmp_path: Path, change: dict[str, str], said: str) -> None:
    change = dict(change)
    path = tmp_path / change.pop("path", "c.fits")
    with pytest.raises(UserError, match=said):
        export(found, path, **change)
    assert not path.exists()


def test_a_failed_write_leaves_the_old_file(
    found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.fits"
    path.write_text("old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        export(found, path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.glob(".c*")] == []
