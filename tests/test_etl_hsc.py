"""Catalogues by the surveys' column names: sentinels, fluxes in the wrong place, duplicates, merging."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from astropy.io import fits

from etl.checks import Fault
from etl.hsc import ingest_hsc
from etl.photometry import is_sentinel, moments_size
from etl.photometry_kinds import make_plan, pick
from schema.check import check_database
from schema.engine import connect_engine

HEAD = "object_id,ra,dec,tract,g_cmodel_mag,g_cmodel_magsigma,i_cmodel_mag,i_extendedness_value,isprimary"
ROW = "42063891789801134,140.1,0.58,9564,21.5,0.01,19.5,1.0,t"


def write_csv(path: Path, *lines: str, head: str = HEAD) -> str:
    path.write_text("\n".join([head, *lines]) + "\n")
    return str(path)


def phot(db: str) -> list[dict[str, Any]]:
    with connect_engine(db, read_only=True).connect() as conn:
        query = "select t.survey, t.native_id, t.ra_deg, p.* from phot_obj p join target t using (target_id)"
        return [dict(r) for r in conn.execute(sa.text(query + " order by t.native_id")).mappings()]


def rejects(db: str) -> list[tuple[Any, ...]]:
    with connect_engine(db, read_only=True).connect() as conn:
        query = "select reason_code, fatal, row_index, native_id from reject order by row_index"
        return [tuple(r) for r in conn.execute(sa.text(query))]


def test_an_hsc_row(db: str, tmp_path: Path) -> None:
    done = ingest_hsc([write_csv(tmp_path / "a.csv", ROW)], db)
    assert (done.rows, done.rejected) == (1, 0)
    (row,) = phot(db)
    assert (row["survey"], row["native_id"], row["object_id"]) == (
        "hsc",
        "42063891789801134",
        row["native_id"],
    )
    assert (row["mag_g"], row["mag_err_g"], row["mag_i"], row["mag_r"]) == (21.5, 0.01, 19.5, None)
    assert (row["class_star"], row["mag_kind"], row["catalog"]) == (0.0, "cmodel", "hsc")
    assert ingest_hsc([str(tmp_path / "a.csv")], db).nothing_new


@pytest.mark.parametrize("first", ["# ", "#Table1\n", "\ufeff"])
def test_headers_of_cas(db: str, tmp_path: Path, first: str) -> None:
    (tmp_path / "a.csv").write_text(f"{first}{HEAD}\n{ROW}\n")
    assert ingest_hsc([str(tmp_path)], db).rows == 1


def test_good_rows_of_a_bad_file_load(db: str, tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "a.csv",
        ROW,
        ROW.replace("140.1", "nan").replace("134,", "135,"),
        ROW.replace("0.58", "91").replace("134,", "136,"),
        ROW.replace(",t", ",f").replace("134,", "137,"),
        ROW,
        "1,2,3",
        ROW.replace("134,", "138,").replace("21.5", "-99").replace("19.5", "-3"),
    )
    done = ingest_hsc([path], db)
    assert done.rows == 2
    assert rejects(db)[:5] == [
        ("bad_position", True, 1, "42063891789801135"), ("bad_position", True, 2, "42063891789801136"),
        ("not_primary", True, 3, "42063891789801137"), ("duplicate_object", True, 4, "42063891789801134"),
        ("bad_magnitude", False, 5, "42063891789801138"),
    ]  # fmt: skip
    assert done.reasons["bad_row"] == 1
    last = phot(db)[1]
    assert (last["mag_g"], last["mag_err_g"], last["mag_i"]) == (None, None, None)


def test_fluxes_given_as_magnitudes_refuse_the_file(db: str, tmp_path: Path) -> None:
    lines = [ROW.replace("134,", f"{k},").replace("19.5", f"{k * 37.5}") for k in range(100, 160)]
    done = ingest_hsc([write_csv(tmp_path / "a.csv", *lines)], db)
    assert (done.rows, done.rejected, dict(done.reasons)) == (0, 1, {"flux_as_magnitude": 1})
    assert phot(db) == []
    with connect_engine(db, read_only=True).connect() as conn:
        told = conn.execute(sa.text("select reason from reject")).scalar_one()
    assert "i_cmodel_mag" in told
    assert "nJy" in told


def test_fluxes_named_as_fluxes_are_converted(db: str, tmp_path: Path) -> None:
    head = "object_id,ra,dec,tract,i_cmodel_flux,i_cmodel_fluxsigma"
    path = write_csv(tmp_path / "a.csv", "1,10,5,9,1000,10", "2,11,5,9,-3,10", head=head)
    ingest_hsc([path], db)
    first, second = phot(db)
    assert first["mag_i"] == pytest.approx(31.4 - 7.5)
    assert first["mag_err_i"] == pytest.approx(0.010857, abs=1e-5)
    assert (second["mag_i"], second["mag_err_i"]) == (None, None)


def test_fits_parquet_and_csv_give_the_same_rows(db: str, tmp_path: Path) -> None:
    columns = {
        "object_id": np.array([42063891789801134, 2], dtype=np.int64),
        "ra": np.array([140.1, 359.9]), "dec": np.array([0.5, -80.0]),
        "tract": np.array([1, 2]), "icmodel_mag": np.array([20.25, 99.0]),
        "i_sdssshape_shape11": np.array([0.25, np.nan]), "i_sdssshape_shape22": np.array([0.25, 1.0]),
        "i_sdssshape_shape12": np.array([0.0, 0.0]), "photoz_best": np.array([0.5, -9.0]),
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    ingest_hsc([str(tmp_path / "a.parquet")], db)
    want = phot(db)
    kinds = {"i": "K", "f": "D"}
    table = fits.BinTableHDU.from_columns(
        [fits.Column(n, kinds[v.dtype.kind], array=v) for n, v in columns.items()]
    )
    table.writeto(tmp_path / "b.fits")
    done = ingest_hsc([str(tmp_path / "b.fits")], db)
    assert done.rows == 2
    names = [k for k in want[0] if k != "source_file_id"]
    assert [[r[n] for n in names] for r in phot(db)] == [[r[n] for n in names] for r in want]
    by_id = {r["native_id"]: r for r in want}
    row = by_id["42063891789801134"]
    assert row["r_eff_arcsec"] == pytest.approx(1.17741 * 0.5, rel=1e-4)
    assert (row["axis_ratio"], row["z_phot"], row["mag_i"]) == (1.0, 0.5, 20.25)
    assert (by_id["2"]["mag_i"], by_id["2"]["z_phot"], by_id["2"]["r_eff_arcsec"]) == (None, None, None)


def test_a_changed_catalogue_replaces_its_rows(db: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ROW, ROW.replace("134,", "135,"))
    ingest_hsc([path], db)
    write_csv(tmp_path / "a.csv", ROW.replace("21.5", "-99").replace("140.1", "140.2"))
    done = ingest_hsc([path], db)
    assert done.rows == 1
    (row,) = phot(db)
    assert (row["mag_g"], row["mag_i"], row["ra_deg"]) == (None, 19.5, 140.2)
    assert all(f.ok for f in check_database(db))


def test_the_order_of_two_catalogues_does_not_matter(db: str, tmp_path: Path) -> None:
    bright = "id_zcosmos,zpec,alpha,delta,mag_sel,i_photzi25,ei_photzi25"
    one = write_csv(tmp_path / "one.csv", "700137,0.8792,150.5,1.87,22.27,21.8,0.017", head=bright)
    sample = [("ID", 700137, "J"), ("RA", 150.5, "D"), ("Dec", 1.87, "D"), ("ID_2015", 5, "J"),
              ("z_spec", 0.88, "D"), ("m_I", 22.3, "D"), ("M_I", -20.0, "D")]  # fmt: skip
    two = tmp_path / "two.fits"
    fits.BinTableHDU.from_columns([fits.Column(n, f, array=[v]) for n, v, f in sample]).writeto(two)
    ingest_hsc([str(two)], db)
    (alone,) = phot(db)
    assert (alone["mag_f814w"], alone["z_spec"], alone["mag_i"]) == (22.3, 0.88, None)
    ingest_hsc([one], db)
    (both,) = phot(db)
    assert (both["mag_f814w"], both["z_spec"], both["mag_i"]) == (22.27, 0.8792, 21.8)
    write_csv(tmp_path / "one.csv", "700137,0.8792,150.5,1.87,22.27,21.8,0.018", head=bright)
    ingest_hsc([one], db)
    (both,) = phot(db)
    assert (both["mag_err_i"], both["survey"], both["native_id"]) == (0.018, "cosmos", "zcosmos-700137")


def test_skyserver_rows_join_their_spectra(db: str, tmp_path: Path) -> None:
    head = "objid,ra,dec,u,g,r,i,z,specobjid,redshift,plate,mjd,fiberid,class"
    line = "1.24E+18,183.5,0.09,19.5,17.0,16.0,15.5,15.2,3.7E+18,0.1,3306,54922,491,GALAXY"
    path = write_csv(tmp_path / "a.csv", line, head=head)
    ingest_hsc([path], db)
    (row,) = phot(db)
    assert (row["survey"], row["native_id"], row["target_id"]) == (
        "sdss", "3306-54922-491", (3306 << 36) | (54922 << 16) | 491,
    )  # fmt: skip
    assert (row["mag_z"], row["z_spec"], row["class_star"]) == (15.2, 0.1, 0.0)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a,b\n1,2\n", "not_catalogue"),
        (HEAD + "\n", "empty"),
        ("\n\n", "not_catalogue"),
        ("plain words\n", "not_catalogue"),
    ],
)
def test_what_is_no_catalogue(db: str, tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    done = ingest_hsc([str(tmp_path)], db)
    assert (done.rejected, dict(done.reasons)) == (1, {code: 1})


def test_columns_are_picked_as_written_first() -> None:
    names = ["M_I", "m_I", "Dec", "RA"]
    assert pick(names, ("m_I",)) == "m_I"
    assert pick(names, ("ra",)) == "RA"
    assert pick(names, ("m_i",)) is None  # two columns could be meant
    with pytest.raises(Fault, match="without object_id"):
        make_plan(["x", "y"])


def test_sentinels() -> None:
    values = np.array([-99.0, -99.9, 99.0, 99.99, 999.0, 0.0, np.nan, np.inf, -9999.0, 24.5, 98.0, -0.5])
    assert is_sentinel(values).tolist() == [True] * 9 + [False] * 3


def test_moments() -> None:
    r, q = moments_size(np.array([4.0, 1.0]), np.array([1.0, 1.0]), np.array([0.0, 2.0]))
    assert q[0] == pytest.approx(0.5)
    assert r[0] == pytest.approx(np.sqrt(2 * np.log(2) * 2.0))
    assert np.isnan(q[1])
