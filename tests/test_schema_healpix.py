"""Cells, cones and separations against astropy and brute force: at the poles, across RA 0, at any radius."""

from __future__ import annotations

from itertools import pairwise

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from astropy.coordinates import SkyCoord, angular_separation
from astropy_healpix import HEALPix
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from schema.cone import cone_search, parse_angle
from schema.engine import connect_engine, read_frame
from schema.errors import UserError
from schema.healpix import cone_cells, cone_ranges, cone_where, hpx29, lens_cells, sep_arcsec_sql
from schema.tables import known_lens, known_lens_cell, target
from schema.upsert import insert_rows

RA = st.floats(0, 360, allow_nan=False)
DEC = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 90.0, 89.999999, -89.9999, 0.0]))
RADIUS = st.one_of(st.floats(0, 300), st.floats(300, 648000))


def around(
    rng: np.random.Generator, ra: float, dec: float, radius: float, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions within about twice a radius of a centre [deg]."""
    centre = SkyCoord(ra * u.deg, dec * u.deg)
    out = centre.directional_offset_by(
        rng.uniform(0, 360, n) * u.deg, np.minimum(2.0 * radius * np.sqrt(rng.random(n)), 647999) * u.arcsec
    )
    return out.ra.deg % 360, np.clip(out.dec.deg, -90, 90)


def separation(ra1: float, dec1: float, ra2: np.ndarray, dec2: np.ndarray) -> np.ndarray:
    """Separation [arcsec] by astropy."""
    radians = [np.radians(v) for v in (ra1, dec1, ra2, dec2)]
    return np.degrees(angular_separation(*radians)) * 3600


def target_table(ra: np.ndarray, dec: np.ndarray) -> pa.Table:
    n = len(ra)
    ids = np.arange(n)
    return pa.table(
        {
            "target_id": ids, "survey": pa.array(["mock"] * n, pa.string()), "ra_deg": ra, "dec_deg": dec,
            "native_id": pa.array([str(k) for k in ids], pa.string()), "hpx29": hpx29(ra, dec),
            "is_injection": np.zeros(n, bool),
        }
    )  # fmt: skip


def test_cells_agree_with_another_implementation() -> None:
    rng = np.random.default_rng(3)
    ra = rng.uniform(0, 360, 20_000)
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    theirs = HEALPix(nside=2**29, order="nested").lonlat_to_healpix(ra * u.deg, dec * u.deg)
    assert (hpx29(ra, dec) == theirs).all()
    assert hpx29([], []).shape == (0,)
    assert (hpx29([370.0, -350.0], [5, 5]) == hpx29(10.0, 5.0)).all()


@pytest.mark.parametrize(("ra", "dec"), [(float("nan"), 0), (0, float("inf")), (0, 90.0001), (np.inf, 0)])
def test_what_is_no_position_is_refused(ra: float, dec: float) -> None:
    with pytest.raises(UserError, match="no sky position"):
        hpx29(ra, dec)
    with pytest.raises(UserError, match="no sky position"):
        cone_ranges(ra, dec, 1)


@pytest.mark.parametrize("radius", [-1, 648001, float("nan")])
def test_impossible_radius_is_refused(radius: float) -> None:
    with pytest.raises(UserError, match="allowed are 0 to 648000"):
        cone_where(0, 0, radius)


@given(ra=RA, dec=DEC, radius=RADIUS, seed=st.integers(0, 2**32 - 1))
@example(ra=0.0, dec=90.0, radius=1.0, seed=1)
@example(ra=359.99999, dec=0.0, radius=5.0, seed=2)
@example(ra=123.0, dec=-90.0, radius=648000.0, seed=3)
@example(ra=0.0, dec=0.0, radius=502725.0, seed=1)
@settings(max_examples=150, deadline=None)
def test_ranges_cover_the_cone(ra: float, dec: float, radius: float, seed: int) -> None:
    """No position within the radius is left out, ranges are disjoint and ascending, and few."""
    ranges = cone_ranges(ra, dec, radius)
    ra2, dec2 = around(np.random.default_rng(seed), ra, dec, radius, 300)
    inside = separation(ra, dec, ra2, dec2) <= radius
    cells = hpx29(ra2, dec2)
    covered = np.zeros(len(cells), bool)
    for lo, hi in ranges:
        covered |= (cells >= lo) & (cells < hi)
    assert covered[inside].all()
    assert all(a[1] < b[0] for a, b in pairwise(ranges))
    assert 0 < len(ranges) <= 64


@given(ra=RA, dec=DEC, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_lens_cells_cover_sixty_arcsec(ra: float, dec: float, seed: int) -> None:
    row, cell = lens_cells([ra, 200.0], [dec, 10.0])
    assert set(row) == {0, 1}
    ra2, dec2 = around(np.random.default_rng(seed), ra, dec, 60.0, 200)
    inside = separation(ra, dec, ra2, dec2) <= 60.0
    assert np.isin(hpx29(ra2, dec2)[inside] >> 36, cell[row == 0]).all()
    assert (np.sort(cell[row == 0]) == cone_cells(ra, dec, 60.0, 11)).all()


def hard_sky(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Clusters at both poles, across RA 0 and elsewhere, with exact poles and repeats."""
    spots = [(0, 90), (0, -90), (0, 0), (359.9999, 45), (180, 60), (45, 41.8103149), (10, -30)]
    parts = [around(rng, ra, dec, 60.0, 150) for ra, dec in spots]
    ra = np.concatenate([p[0] for p in parts] + [[0.0, 77.0, 0.0, 0.0]])
    dec = np.concatenate([p[1] for p in parts] + [[90.0, 90.0, -90.0, 0.0]])
    return ra, dec


def test_cone_in_sql(db: str) -> None:
    """The predicate finds exactly the targets within the radius, with astropy's separations."""
    ra, dec = hard_sky(np.random.default_rng(5))
    with connect_engine(db).begin() as conn:
        insert_rows(conn, target, target_table(ra, dec))
        for centre in [
            (0.0, 90.0),
            (200.0, -90.0),
            (0.0, 0.0),
            (360.0, 0.0),
            (359.9999, 45.0),
            (180.0, 60.0),
        ]:
            for radius in (0.0, 3.0, 47.5, 200_000.0, 648_000.0):
                sep = sep_arcsec_sql("t.ra_deg", "t.dec_deg", repr(centre[0]), repr(centre[1]))
                where = cone_where(*centre, radius, "t")
                got = read_frame(
                    conn, f"select t.target_id, {sep} as sep from target t where {where} order by target_id"
                )
                truth = separation(*centre, ra, dec)
                edge = np.abs(truth - radius) < 1e-6 * max(radius, 1.0)
                want = np.flatnonzero((truth <= radius) & ~edge)
                found = got["target_id"].to_numpy(dtype=int)
                assert np.isin(want, found).all()
                assert not np.isin(np.flatnonzero((truth > radius) & ~edge), found).any()
                assert np.allclose(got["sep"], truth[found], rtol=1e-9, atol=5e-3 if radius > 6e5 else 1e-7)


def test_cone_command(db: str) -> None:
    import typer

    from schema.cli import register

    ra, dec = np.array([151.25, 151.2501, 200.0]), np.array([-1.5, -1.5, 5.0])
    with connect_engine(db).begin() as conn:
        insert_rows(conn, target, target_table(ra, dec))
        lens = {"lens_id": 7, "name": "Lens", "ra_deg": 151.25, "dec_deg": -1.5001, "hpx29": 1}
        insert_rows(conn, known_lens, [{**lens, "hpx29": int(hpx29(151.25, -1.5001)[0])}])
    app = typer.Typer()
    register(app)
    plain = CliRunner().invoke(app, ["cone", "10:05:00", "-1.5", "2", "--db", db])
    assert plain.exit_code == 0, plain.output
    assert "2 targets" in plain.output
    assert "1 known lenses" in plain.output
    found = cone_search(db, 151.25, -1.5, 0.1)
    assert [t["native_id"] for t in found["targets"]] == ["0"]
    assert found["known_lenses"] == []
    assert parse_angle("-01:30:00", hours=False) == -1.5
    with pytest.raises(UserError, match="'north' is no angle"):
        parse_angle("north", hours=False)


def test_known_lens_match_equals_astropy(db: str) -> None:
    """The view has the pairs of search_around_sky up to 60 arcsec, poles and RA 0 included."""
    rng = np.random.default_rng(8)
    ra, dec = hard_sky(rng)
    pick = rng.choice(len(ra), 120, replace=False)
    shift = rng.uniform(0, 70, 120) * u.arcsec
    lenses = SkyCoord(ra[pick] * u.deg, dec[pick] * u.deg).directional_offset_by(
        rng.uniform(0, 360, 120) * u.deg, shift
    )
    lens_ra, lens_dec = lenses.ra.deg, np.clip(lenses.dec.deg, -90, 90)
    row, cell = lens_cells(lens_ra, lens_dec)
    with connect_engine(db).begin() as conn:
        insert_rows(conn, target, target_table(ra, dec))
        rows = [
            {"lens_id": k, "name": f"L{k}", "ra_deg": a, "dec_deg": d, "hpx29": h}
            for k, (a, d, h) in enumerate(
                zip(lens_ra, lens_dec, hpx29(lens_ra, lens_dec).tolist(), strict=True)
            )
        ]
        insert_rows(conn, known_lens, rows)
        insert_rows(conn, known_lens_cell, pa.table({"lens_id": row, "cell": cell}))
        sky = SkyCoord(ra * u.deg, dec * u.deg)
        for radius in (0.5, 5.0, 60.0, 600.0):
            conn.execute(
                sa.text("update cut_setting set value = :r where name = 'known_lens_radius_arcsec'"),
                {"r": radius},
            )
            reach = min(radius, 60.0)
            found = read_frame(conn, "select target_id, lens_id, sep_arcsec from known_lens_match")
            i, j, sep, _ = SkyCoord(lens_ra * u.deg, lens_dec * u.deg).search_around_sky(
                sky, (reach + 1e-7) * u.arcsec
            )
            near = np.abs(sep.arcsec - reach) < 1e-7
            theirs = {(int(a), int(b)) for a, b, skip in zip(i, j, near, strict=True) if not skip}
            ours = set(zip(found["target_id"], found["lens_id"], strict=True))
            assert theirs <= ours
            assert len(ours - theirs) <= near.sum()
            truth = separation(
                ra[found["target_id"]],
                dec[found["target_id"]],
                lens_ra[found["lens_id"]],
                lens_dec[found["lens_id"]],
            )
            assert np.allclose(found["sep_arcsec"], truth, atol=1e-7)
