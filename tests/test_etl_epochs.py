"""Which row of a spectrum is believed, and which spectra are of one object."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_state import select
from scipy.spatial import cKDTree
from sdss_files import row, spec_file, table

from etl.epochs import assign
from etl.pairs import pairs_within, unit_vectors
from etl.sdss import ingest_sdss
from schema.engine import connect_engine


@pytest.fixture
def duck(duckdb_template: Path, tmp_path: Path) -> str:
    """A DuckDB database, where the engine does not matter."""
    return str(shutil.copy(duckdb_template, tmp_path / "duck.duckdb"))


def test_catalogue_and_spec_file_merge_in_either_order(duck: str, tmp_path: Path) -> None:
    fits.HDUList([fits.PrimaryHDU(), table([row(Z=0.5, SUBCLASS="", VDISP=None)])]).writeto(
        tmp_path / "specObj-1.fits"
    )
    spec_file(tmp_path / "spec-1.fits", Z=0.51, SUBCLASS="AGN", VDISP=150.0)
    newer = tmp_path / "spec-2.fits"
    spec_file(newer, Z=0.6, SUBCLASS=" ", RUN2D="v5_10_0", VDISP=None)
    states = []
    for order in (("specObj-1.fits", "spec-1.fits"), ("spec-1.fits", "specObj-1.fits")):
        db = str(shutil.copy(duck, tmp_path / f"{order[0]}.duckdb"))
        for name in order:
            ingest_sdss([str(tmp_path / name)], db)
        merged = select(db, "select z, subclass, vdisp, run2d from spec_obj")
        assert merged == [(0.5, "AGN", 150.0, "v5_7_0")]
        ingest_sdss([str(newer)], db)
        states.append(select(db, "select z, subclass, vdisp, run2d from spec_obj"))
        assert select(db, "select f.path from spectrum s join source_file f on f.source_file_id = s.source_file_id "  # noqa: E501
                          "where s.is_primary") == [(str(newer),)]  # fmt: skip
    assert states[0] == states[1] == [(pytest.approx(0.6), None, None, "v5_10_0")]


def test_a_spec_file_gives_its_row_again_when_the_catalogue_drops_it(duck: str, tmp_path: Path) -> None:
    catalogue = tmp_path / "specObj-1.fits"
    both = [row(FIBERID=1, PLUG_RA=1.0), row(FIBERID=2, PLUG_RA=2.0)]
    fits.HDUList([fits.PrimaryHDU(), table(both)]).writeto(catalogue)
    spec_file(tmp_path / "spec-1.fits", FIBERID=1, PLUG_RA=1.0, Z=0.77)
    ingest_sdss([str(tmp_path)], duck)
    fits.HDUList([fits.PrimaryHDU(), table(both[1:])]).writeto(catalogue, overwrite=True)
    ingest_sdss([str(tmp_path)], duck)
    assert select(duck, "select fiber_id, z from spec_obj order by 1") == [(1, pytest.approx(0.77)), (2, 0.5)]


def test_epochs_at_the_pole_and_across_ra_zero(db: str, tmp_path: Path) -> None:
    spots = [(0.0, 89.9999), (180.0, 89.9999), (359.9999, 10.0), (0.0001, 10.0), (50.0, 20.0), (50.0, 20.01)]
    rows = [row(FIBERID=k + 1, PLUG_RA=a, PLUG_DEC=d, SN_MEDIAN_ALL=float(k), ZWARNING=4 if k == 3 else 0)
            for k, (a, d) in enumerate(spots)]  # fmt: skip
    fits.HDUList([fits.PrimaryHDU(), table(rows)]).writeto(tmp_path / "specObj-1.fits")
    ingest_sdss([str(tmp_path / "specObj-1.fits")], db)
    found = select(db, "select o.fiber_id, o.n_epoch, o.is_primary, p.fiber_id from spec_obj o "
                       "join spec_obj p on p.target_id = o.primary_target_id order by 1")  # fmt: skip
    assert found == [
        (1, 2, False, 2),
        (2, 2, True, 2),
        (3, 2, True, 3),
        (4, 2, False, 3),
        (5, 1, True, 5),
        (6, 1, True, 6),
    ]
    # a better epoch arrives later and takes over
    spec_file(
        tmp_path / "spec-9.fits", FIBERID=9, PLUG_RA=50.0, PLUG_DEC=20.0 + 1.0 / 3600, SN_MEDIAN_ALL=99.0
    )
    ingest_sdss([str(tmp_path / "spec-9.fits")], db)
    found = select(
        db, "select fiber_id, n_epoch, is_primary from spec_obj where fiber_id in (5, 6, 9) order by 1"
    )
    assert found == [(5, 2, False), (6, 1, True), (9, 2, True)]


@given(
    st.lists(st.tuples(st.floats(0, 359.9999), st.floats(-90, 90)), min_size=2, max_size=40),
)
@settings(deadline=None)
def test_pairs_are_those_of_all_against_all(spots: list[tuple[float, float]]) -> None:
    near = [(a + 1e-4, d) for a, d in spots[::2]]
    ra, dec = (np.array(x) for x in zip(*spots, *near, strict=True))
    a, d = np.radians(ra), np.radians(dec)
    sep = 2 * np.arcsin(np.sqrt(np.clip(np.sin((d[:, None] - d) / 2) ** 2 + np.cos(d[:, None]) * np.cos(d)
                                        * np.sin((a[:, None] - a) / 2) ** 2, 0, 1)))  # fmt: skip
    arcsec = np.degrees(sep) * 3600
    surely = {(i, j) for i, j in zip(*np.nonzero(arcsec < 1.9999), strict=True) if i < j}
    maybe = {(i, j) for i, j in zip(*np.nonzero(arcsec < 2.0001), strict=True) if i < j}
    pairs = pairs_within(ra, dec, 2.0)
    found = [tuple(sorted(p)) for p in pairs.tolist()]
    assert len(found) == len(set(found))
    assert surely <= set(found) <= maybe
    rank = np.random.default_rng(0).permutation(len(ra))
    primary = assign(pairs, rank)
    assert (primary[primary] == primary).all()
    for k, p in enumerate(primary.tolist()):
        assert p == k or (tuple(sorted((p, k))) in set(found) and rank[p] < rank[k])


@pytest.mark.parametrize("radius_arcsec", [2.0, 60.0])
@pytest.mark.parametrize(
    ("ra", "dec"), [(0.0, 0.0), (120.0, 45.0), (0.0, 89.9995), (300.0, -89.99), (0.0, 90.0)]
)
def test_pairs_are_those_of_a_tree(ra: float, dec: float, radius_arcsec: float) -> None:
    """Dense fields on RA 0 and at the poles, positions at 0 and 360 degrees and doubles among them."""
    rng = np.random.default_rng(3)
    spread = 20 * radius_arcsec / 3600.0
    decs = dec + rng.uniform(-spread, spread, 2000)
    ras = ra + rng.uniform(-spread, spread, 2000) / max(math.cos(math.radians(dec)), 1e-4)
    ras = np.where(np.abs(decs) > 90.0, ras + 180.0, ras) % 360.0
    decs = np.where(np.abs(decs) > 90.0, np.sign(decs) * 180.0 - decs, decs)
    ras[:4], decs[:4] = (0.0, 360.0, 360.0 - 1e-9, 1e-9), decs[0]
    ras[10], decs[10] = ras[11], decs[11]
    chord = 2.0 * math.sin(math.radians(radius_arcsec / 3600.0) / 2.0) * (1.0 + 1e-9)
    tree = cKDTree(unit_vectors(ras, decs)).query_pairs(chord)
    found = [tuple(p) for p in pairs_within(ras, decs, radius_arcsec).tolist()]
    assert len(found) == len(set(found)) > 100
    assert set(found) == tree


def test_a_fresh_catalogue_in_many_pieces(db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs across pieces, a spectrum that comes twice, and a second catalogue: the same as of one piece."""
    rows = [
        row(FIBERID=k, PLUG_RA=10.0 + (k % 7) / 36000, PLUG_DEC=float(k % 20), SN_MEDIAN_ALL=float(k))
        for k in range(1, 60)
    ]
    more = [
        row(PLATE=4000, FIBERID=k, PLUG_RA=10.0, PLUG_DEC=float(k), SN_MEDIAN_ALL=99.0) for k in range(1, 9)
    ]
    rows.append(row(FIBERID=3, PLUG_RA=200.0, PLUG_DEC=-3.0, SN_MEDIAN_ALL=3.5))
    files = [tmp_path / "specObj-1.fits", tmp_path / "specObj-2.fits"]
    for path, part in zip(files, (rows, more), strict=True):
        fits.HDUList([fits.PrimaryHDU(), table(part)]).writeto(path)
    marks = "select target_id, is_primary, primary_target_id, n_epoch, sn_median_all from spec_obj order by 1"
    states = []
    for size in (13, 100_000):
        monkeypatch.setattr("etl.catalogue.PIECE_ROWS", size)
        for path in files:
            assert ingest_sdss([str(path)], db, rehash=True).loaded == 1
        states.append(select(db, marks))
        with connect_engine(db).begin() as conn:
            for name in ("spec_obj", "target", "source_file"):
                conn.execute(sa.text(f"delete from {name}"))
    assert states[0] == states[1]
    assert {n for *_, n, _ in states[0]} == {1, 2, 3, 4}
    assert len(states[0]) == 67


def test_a_changed_catalogue_keeps_what_spec_files_gave(db: str, tmp_path: Path) -> None:
    """Columns that it lacks, and values that it leaves blank; a newer reduction still wins as a whole."""
    catalogue, spec = tmp_path / "specObj-1.fits", tmp_path / "spec-1.fits"
    values = "select fiber_id, z, run2d, subclass, vdisp, cmodel_mag_i from spec_obj order by 1"

    def write(**given: Any) -> None:
        rows = [row(FIBERID=k, PLUG_RA=float(k), CMODELMAG=None, **given) for k in (1, 2)]
        fits.HDUList([fits.PrimaryHDU(), table(rows)]).writeto(catalogue, overwrite=True)

    write(SUBCLASS="", VDISP=120.0)
    spec_file(spec, FIBERID=1, PLUG_RA=1.0, SUBCLASS="AGN", VDISP=150.0)
    ingest_sdss([str(tmp_path)], db)
    told = [(1, 0.5, "v5_7_0", "AGN", 120.0, 20.5), (2, 0.5, "v5_7_0", None, 120.0, None)]
    assert select(db, values) == told
    hashes = select(db, "select content_hash from source_file where kind = 'spec'")
    write(SUBCLASS="", VDISP=float("nan"), Z=0.25)
    done = ingest_sdss([str(catalogue)], db)
    assert (done.files, done.loaded) == (1, 1)
    told = [(1, 0.25, "v5_7_0", "AGN", 150.0, 20.5), (2, 0.25, "v5_7_0", None, None, None)]
    assert select(db, values) == told
    assert select(db, "select content_hash from source_file where kind = 'spec'") == hashes
    assert ingest_sdss([str(tmp_path)], db).nothing_new
    write(SUBCLASS="", VDISP=130.0, RUN2D="v5_10_0")
    ingest_sdss([str(catalogue)], db)
    assert select(db, values) == [(k, 0.5, "v5_10_0", None, 130.0, None) for k in (1, 2)]
    write(SUBCLASS="", VDISP=130.0, RUN2D="v5_4_45")  # back to one that is older than the spec file's
    ingest_sdss([str(catalogue)], db)
    assert select(db, values)[0] == (1, 0.5, "v5_7_0", "AGN", 150.0, 20.5)


def test_the_primary_epoch_is_one_with_a_spectrum(db: str, tmp_path: Path) -> None:
    """Of a whole catalogue and some spec files; a better epoch takes over when its spectrum comes."""
    rows = [row(FIBERID=k, PLUG_RA=5.0, SN_MEDIAN_ALL=float(k)) for k in (1, 2, 3)]
    fits.HDUList([fits.PrimaryHDU(), table(rows)]).writeto(tmp_path / "specObj-1.fits")
    ingest_sdss([str(tmp_path / "specObj-1.fits")], db)
    primary = "select fiber_id, n_epoch from spec_obj where is_primary"
    assert select(db, primary) == [(3, 3)]
    for k in (1, 2):
        path = spec_file(tmp_path / f"spec-{k}.fits", FIBERID=k, PLUG_RA=5.0, SN_MEDIAN_ALL=float(k))
        ingest_sdss([str(path)], db)
        assert select(db, primary) == [(k, 3)]
    spec_file(tmp_path / "spec-2.fits", FIBERID=9, PLUG_RA=50.0)  # the file is another spectrum's now
    ingest_sdss([str(tmp_path / "spec-2.fits")], db)
    assert select(db, primary + " order by 1") == [(1, 3), (9, 1)]
