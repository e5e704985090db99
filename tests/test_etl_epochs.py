"""Which row of a spectrum is believed, and which spectra are of one object."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from ingest_state import select
from sdss_files import row, spec_file, table

from etl.epochs import assign, pairs_within
from etl.sdss import ingest_sdss


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
