"""Fast reader against astropy: the same values from every file, and nothing but a Fault from a bad one."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from ingest_state import select
from sdss_files import pixels, plate_files, row, spec_file, table

from etl.catalogue import find_table, read_catalogue
from etl.checks import Fault, flux_unit_ok, run2d_bits, run2d_order, spec_obj_id
from etl.fits_fast import FitsBytes, NotRecognised, parse_value
from etl.fits_slow import astropy_file, read_spec_slow, slow_fields
from etl.pixels import ShardWriter
from etl.sdss import ingest_sdss
from etl.spec import RawSpec, read_spec, read_spec_fast
from etl.worker import checked_row
from schema.errors import LensmineError


def _plain(value: Any) -> Any:
    return value.rstrip(b" \0") if isinstance(value, bytes) else value


def _assert_same(fast: RawSpec, slow: RawSpec) -> None:
    assert fast.hdu == slow.hdu
    assert fast.units == slow.units
    assert fast.pixels.keys() == slow.pixels.keys()
    for name, values in fast.pixels.items():
        np.testing.assert_array_equal(values, slow.pixels[name], err_msg=name)
    assert fast.row.keys() == slow.row.keys()
    for name, value in fast.row.items():
        np.testing.assert_equal(_plain(value), _plain(slow.row[name]), err_msg=name)


def test_same_values_from_every_real_spec_file(data_dir: Path) -> None:
    paths = sorted(data_dir.glob("spectra/**/*spec*.fits"))
    assert len(paths) == 128
    for path in paths:
        buf = path.read_bytes()
        _assert_same(read_spec_fast(buf), read_spec_slow(buf))


@pytest.mark.parametrize("name", ["specobj_sdss126_rows.fits", "spall_boss236_rows.fits"])
def test_same_values_from_every_real_catalogue(data_dir: Path, name: str) -> None:
    buf = (data_dir / "catalogs" / "derived" / name).read_bytes()
    fast = next(read_catalogue(name, buf)[2]).fields
    with astropy_file(buf) as hdus:
        slow = slow_fields(hdus[1])
        assert fast.keys() == slow.keys()
        for key, values in fast.items():
            wanted = slow[key]
            if values.dtype.kind == "S":
                assert [_plain(v) for v in values.tolist()] == [_plain(v) for v in wanted.tolist()], key
            else:
                np.testing.assert_array_equal(values, wanted, err_msg=key)


@pytest.mark.parametrize("names", [True, False])
def test_synthetic_file_reads_the_same(tmp_path: Path, names: bool) -> None:
    path = spec_file(tmp_path / "spec.fits", names=names)
    raw = read_spec_fast(path.read_bytes())
    _assert_same(raw, read_spec_slow(path.read_bytes()))
    assert raw.row["ra_deg"] == 236.4
    assert raw.row["spectro_flux_r"] == 3.0
    assert raw.row["cmodel_mag_i"] == 20.5
    assert raw.row["boss_target1"] == (1 << 60) + 1


def test_what_the_fast_reader_does_not_know_goes_to_astropy(tmp_path: Path) -> None:
    path = spec_file(tmp_path / "spec.fits")
    with fits.open(path) as hdus:
        variable = fits.Column("TRACE", "PJ()", array=np.array([np.arange(3)] * 700, dtype=object))
        scaled = fits.BinTableHDU.from_columns([*hdus[1].columns, variable])
        hdus[1] = scaled
        hdus[1].header["TNULL4"] = -1
        hdus.writeto(tmp_path / "odd.fits")
    buf = (tmp_path / "odd.fits").read_bytes()
    with pytest.raises(NotRecognised):
        read_spec_fast(buf)
    raw = read_spec(buf)
    np.testing.assert_array_equal(raw.pixels["flux"], pixels()["flux"])


@pytest.mark.parametrize("kind", ["22A", "K", "unsigned"])
@pytest.mark.parametrize("plate", [266, 10000])
def test_specobjid_in_its_three_encodings(tmp_path: Path, kind: str, plate: int) -> None:
    from etl.rows import make_rows

    packed, known = spec_obj_id([plate], [57346], [4], [run2d_bits("v5_10_0")])
    assert known.all()
    value = int(packed[0])
    hdu = table([row(PLATE=plate, MJD=57346, FIBERID=4, RUN2D="v5_10_0")])
    if kind == "22A":
        column = fits.Column("SPECOBJID", "22A", array=np.array([str(value).rjust(22)]))
    elif kind == "K":
        column = fits.Column("SPECOBJID", "K", array=packed.view(np.int64))
    else:
        column = fits.Column("SPECOBJID", "K", bzero=1 << 63, array=packed)
    columns = fits.BinTableHDU.from_columns([*hdu.columns, column])
    fits.HDUList([fits.PrimaryHDU(), columns]).writeto(tmp_path / "t.fits")
    rows = make_rows(next(read_catalogue("t", (tmp_path / "t.fits").read_bytes())[2]).fields, 1)
    assert rows.spec_obj["spec_obj_id"].to_pylist() == [str(value)]
    assert rows.notes == []


def test_a_wrong_specobjid_is_noted_and_computed() -> None:
    from etl.rows import make_rows

    fields = {k: np.array([v]) for k, v in {"plate": 266, "mjd": 51602, "fiber_id": 3, "ra_deg": 1.0, "dec_deg": 2.0,  # noqa: E501
              "z": 0.1, "spec_obj_id": 12345}.items()}  # fmt: skip
    rows = make_rows({**fields, "run2d": np.array([b"26"])}, 1)
    assert [n.code for n in rows.notes] == ["specobjid_mismatch"]
    assert rows.spec_obj["spec_obj_id"].to_pylist() == [
        str((266 << 50) | (3 << 38) | (1602 << 24) | (26 << 10))
    ]


def test_reductions_sort_by_number() -> None:
    names = [None, "26", "103", "v5_4_45", "v5_7_0", "v5_10_0", "v6_0_1"]
    assert sorted(names, key=run2d_order) == names
    assert [run2d_bits(n) for n in ("26", "v5_7_0", "v5_10_0", "v6_0_1", "master")] == [
        26,
        700,
        1000,
        10001,
        -1,
    ]


@pytest.mark.parametrize(
    "text",
    [None, "", "1E-17 erg/cm^2/s/Ang", "10^-17 erg/s/cm^2/A", "1e-17 erg s-1 cm-2 Angstrom-1", "1e-17 erg / (Angstrom s cm2)"],  # noqa: E501
)  # fmt: skip
def test_flux_units_that_mean_ours(text: str | None) -> None:
    assert flux_unit_ok(text)


@pytest.mark.parametrize(
    "text", ["Jy", "1E-16 erg/cm^2/s/Ang", "erg/s/cm2/A", "1e-17 erg/s/cm2/Hz", "1e-17 W/m2/um"]
)
def test_other_flux_units_are_refused(text: str) -> None:
    assert not flux_unit_ok(text)


@given(st.one_of(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60), st.booleans(),
                 st.integers(-(1 << 62), 1 << 62), st.floats(allow_nan=False, allow_infinity=False)))  # fmt: skip # noqa: E501
def test_header_values_read_as_astropy_reads_them(value: Any) -> None:
    card = fits.Card("KEY", value).image.encode("ascii")
    if len(card) != 80 or card[8:10] != b"= ":
        return
    expected = fits.Card.fromstring(card).value
    assert parse_value(card[9:80]) == expected or (expected == "" and parse_value(card[9:80]) in ("", None))


def _read_whole(buf: bytes, root: Path) -> None:
    """What ingest does with one file, short of the database."""
    try:
        raw = read_spec(buf)
    except Fault as fault:
        if fault.code != "not_sdss":
            raise
        for piece in read_catalogue("x", buf)[2]:
            from etl.rows import make_rows

            make_rows(piece.fields, 1)
        return
    checked_row(raw)
    writer = ShardWriter(root)
    try:
        writer.add(raw.pixels)
        writer.close()
    finally:
        writer.abandon()


def _mutate(buf: bytes, rng: random.Random) -> bytes:
    data = bytearray(buf)
    how = rng.randrange(4)
    if how == 0:  # cut short
        return bytes(data[: rng.randrange(len(data))])
    if how == 1:  # flipped bytes anywhere
        for _ in range(rng.randrange(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif how == 2:  # flipped bytes in headers
        starts = [m for m in range(0, len(data) - 80, 80) if data[m : m + 5] in (b"NAXIS", b"TFORM", b"TTYPE", b"BITPI", b"TFIEL", b"PCOUN")]  # fmt: skip # noqa: E501
        for _ in range(rng.randrange(1, 4)):
            at = rng.choice(starts)
            data[at + rng.randrange(9, 40)] = rng.randrange(32, 127)
    else:  # a number in a header replaced
        starts = [m for m in range(0, len(data) - 80, 80) if data[m : m + 5] == b"NAXIS"]
        at = rng.choice(starts)
        data[at + 10 : at + 30] = str(rng.choice([-1, 0, 1, 7, 10**6, 10**12, 1 << 62])).rjust(20).encode()
    return bytes(data)


@pytest.mark.parametrize("naxis", [-1, 1000, 10**12])
def test_an_absurd_number_of_axes_is_refused_at_once(tmp_path: Path, naxis: int) -> None:
    data = bytearray(spec_file(tmp_path / "spec.fits").read_bytes())
    at = data.index(b"NAXIS   =")
    data[at + 10 : at + 30] = str(naxis).rjust(20).encode()
    with pytest.raises(Fault, match="NAXIS"):
        read_spec(bytes(data))


def test_mutated_files_give_a_fault_or_a_spectrum(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    sources = [
        spec_file(tmp_path / "spec.fits").read_bytes(),
        spec_file(tmp_path / "b.fits", names=False).read_bytes(),
    ]
    fits.HDUList([fits.PrimaryHDU(), table([row(FIBERID=k) for k in range(1, 9)])]).writeto(
        tmp_path / "specObj-x.fits"
    )
    sources.append((tmp_path / "specObj-x.fits").read_bytes())
    try:
        real = request.getfixturevalue("data_dir")
        sources += [p.read_bytes() for p in sorted(real.glob("spectra/**/*spec*.fits"))[::13]]
        sources += [p.read_bytes() for p in sorted(real.glob("catalogs/derived/*.fits"))]
    except pytest.skip.Exception:
        pass
    rng = random.Random(20181)
    outcomes: dict[str, int] = {}
    until = time.monotonic() + 12.0
    tried = 0
    while time.monotonic() < until and tried < 1500:
        tried += 1
        mutated = _mutate(rng.choice(sources), rng)
        try:
            _read_whole(mutated, tmp_path / "shards")
            outcomes["read"] = outcomes.get("read", 0) + 1
        except LensmineError as exc:
            code = getattr(exc, "code", type(exc).__name__) if str(exc) else "silent"
            outcomes[code] = outcomes.get(code, 0) + 1
    assert tried >= 20
    assert outcomes.get("read", 0) > 0
    assert outcomes.get("truncated", 0) > 0
    assert "silent" not in outcomes
    assert not list((tmp_path / "shards").glob("*.tmp"))


def _mutate_csv(buf: bytes, rng: random.Random) -> bytes:
    data = bytearray(buf)
    if rng.random() < 0.2:
        return bytes(data[: rng.randrange(len(data))])
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data))
        odd = (
            b"",
            b",",
            b'"',
            b"\n",
            b"\r",
            b"\0",
            b"\xff",
            b"\xc3\xa9",
            b"#",
            b"1e400",
            b",,,x",
            b"7" * 9000,
        )
        data[at : at + rng.randrange(3)] = rng.choice(odd)
    return bytes(data)


def test_mutated_plates_and_csvs_are_rejected_or_loaded(duckdb_template: Path, tmp_path: Path) -> None:
    """Through the whole ingest: no damage of one file ends it."""
    (tmp_path / "whole").mkdir()
    plate, zbest = (p.read_bytes() for p in plate_files(tmp_path / "whole"))
    csv = b"#Table1\nplate,mjd,fiberid,ra,dec,z,class,run2d,objid\n" + b"".join(
        b"4055,55359,%d,%d.5,1.0,0.5,GALAXY,v5_7_0,1237650000000000000\n" % (k, k) for k in range(1, 30)
    )
    folder = tmp_path / "files"
    folder.mkdir()
    rng = random.Random(1812)
    for k in range(1, 25):
        damaged = _mutate(plate, rng) if k % 2 else plate
        (folder / f"spPlate-{k:04d}-55359.fits").write_bytes(damaged)
        damaged = zbest if k % 2 else _mutate(zbest, rng)
        if k in (2, 4):  # a column of another name
            name = b"= '" + (b"PLATE", b"FIBERID")[k // 2 - 1]
            assert zbest.count(name) == 1
            damaged = zbest.replace(name, name.replace(name[3:5], b"XX"))
        (folder / f"spZbest-{k:04d}-55359.fits").write_bytes(damaged)
        (folder / f"sky-{k}.csv").write_bytes(_mutate_csv(csv, rng))
    db = str(shutil.copy(duckdb_template, tmp_path / "duck.duckdb"))
    done = ingest_sdss([str(folder)], db, processes=1)
    assert done.files == done.loaded + done.rejected == 72
    assert done.loaded > 15
    assert done.rejected > 8
    assert {"bad_row", "missing_columns", "truncated"} <= set(done.reasons)
    assert not list((tmp_path / "duck.shards").glob("*.tmp"))
    reasons = select(db, "select path, reason from reject where reason_code = 'missing_columns'")
    said = {Path(path).name: reason for path, reason in reasons}
    for k, name in ((2, "PLATE"), (4, "FIBERID")):
        assert f"lacks the columns {name}" in said[f"spPlate-{k:04d}-55359.fits"]
    assert ingest_sdss([str(folder)], db, processes=1).nothing_new


def test_find_table_skips_what_names_no_spectrum(tmp_path: Path) -> None:
    other = fits.BinTableHDU.from_columns(
        [fits.Column("MJD", "J", array=[1]), fits.Column("FIBER", "J", array=[1])]
    )
    fits.HDUList([fits.PrimaryHDU(), other]).writeto(tmp_path / "o.fits")
    assert find_table(FitsBytes((tmp_path / "o.fits").read_bytes())) is None
    with pytest.raises(Fault) as caught:
        read_catalogue("o", (tmp_path / "o.fits").read_bytes())
    assert caught.value.code == "not_sdss"
