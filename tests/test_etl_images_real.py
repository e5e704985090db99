"""Every real image and catalogue at hand: how many rows each folder gives, what is refused and why."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.hsc import ingest_hsc
from etl.hst import ingest_hst
from etl.image_ingest import ImageSummary
from schema.check import check_database
from schema.engine import connect_engine

IMAGES: dict[str, tuple[int, int, int, dict[str, int]]] = {
    "GalSim-developers__GalSim": (2, 2, 0, {"odd_pixscale": 1, "unknown_zeropoint": 1}),
    "Project-Dinos__dinos-i": (89, 73, 0, {"coarse_position": 36, "psf_sum": 35, "unknown_zeropoint": 73}),
    "aileisun__bubbleimg": (16, 3, 1, {"bad_unit": 1}),
    "astrosonnen__YattaLens": (11, 1, 0, {"unknown_zeropoint": 1}),
    "esavary__Visualisation-tool": (
        4, 4, 0, {"assumed_bands": 1, "position_mismatch": 1, "unknown_zeropoint": 3},
    ),
    "mariogeiger__lensfinder-euclid": (44, 20, 0, {"fake_position": 20, "unknown_zeropoint": 20}),
    "mirsazzathossain__BDLensing": (14, 14, 0, {"coarse_position": 14, "unknown_zeropoint": 14}),
    "phdenzel__slacs-match": (12, 12, 0, {}),
    "pmelchior__scarlet": (
        7, 2, 5,
        {"assumed_bands": 2, "no_position": 1, "pickled": 2, "unknown_band": 2, "unknown_zeropoint": 3},
    ),
}  # fmt: skip
"""Files, cutouts, files refused, and rejects and notes by reason, of each folder of imaging/."""

CATALOGUES: dict[str, tuple[int, int, int, dict[str, int]]] = {
    "GalSim-developers__GalSim": (1, 100, 0, {}),
    "aditya5545__datasets": (1, 10_000, 0, {}),
    "aileisun__bubbleimg": (32, 111, 0, {}),
    "derived": (2, 0, 2, {"bad_column": 1, "not_catalogue": 1}),
    "desihub__fastspecfit": (1, 1, 0, {}),
    "dirac-institute__photoz_template_learning": (1, 17_358, 0, {}),
    "igmhub__picca": (1, 1000, 0, {}),
    "mjc18__data_high-z_mock": (1, 17_999, 0, {}),
    "sdss__idlspec2d": (2, 0, 2, {"not_catalogue": 2}),
}
"""Files, rows, files refused, and reasons, of each folder of catalogs/."""


def counts(done: ImageSummary, n: int) -> tuple[int, int, int, dict[str, int]]:
    return done.files, n, done.rejected, dict(done.reasons)


@pytest.fixture
def imaging(data_dir: Path) -> Path:
    if not (data_dir / "imaging").is_dir():
        pytest.skip(f"no folder imaging in {data_dir}")
    return data_dir / "imaging"


def test_every_image_loads_or_says_why_not(db: str, imaging: Path) -> None:
    found = {}
    for folder in sorted(imaging.iterdir()):
        done = ingest_hst([str(folder)], db)
        found[folder.name] = counts(done, done.cutouts)
    assert found == IMAGES
    with connect_engine(db, read_only=True).connect() as conn:

        def ask(sql: str) -> list[tuple[object, ...]]:
            return [tuple(r) for r in conn.execute(sa.text(sql))]

        assert ask("select count(*), count(distinct target_id) from cutout where is_primary") == [(83, 83)]
        assert ask("select survey, count(*) from target group by survey order by survey") == [
            ("bologna", 20), ("cfht", 4), ("des", 1), ("hsc", 3), ("hst", 55),
        ]  # fmt: skip
        assert ask("select is_lens, count(*) from injection group by is_lens order by is_lens") == [
            (False, 10), (True, 10),
        ]  # fmt: skip
        assert ask(
            "select c.bands, c.ny from cutout c join target t on t.target_id = c.target_id "
            "where c.is_primary and t.native_id = 'SDSSJ0029-0055'"
        ) == [("F814W", 198)]
        (where,) = ask("select ra_deg, dec_deg from target where native_id = 'SDSSJ0029-0055'")
        # the coarse position of the name gave way to the header's
        assert where == pytest.approx((7.28239, -0.93077), abs=1e-4)
        assert ask("select count(*) from image_shard")[0][0] < 60
    again = ingest_hst([str(imaging)], db)
    assert again.nothing_new
    assert (again.files, again.cutouts) == (199, 0)
    assert [f.message for f in check_database(db) if not f.ok] == []


def test_every_catalogue_loads_or_says_why_not(db: str, data_dir: Path) -> None:
    found = {}
    for folder in sorted((data_dir / "catalogs").iterdir()):
        done = ingest_hsc([str(folder)], db)
        found[folder.name] = counts(done, done.rows)
    assert found == CATALOGUES
    with connect_engine(db, read_only=True).connect() as conn:
        bad = conn.execute(
            sa.text(
                "select count(*) from phot_obj where mag_u < 0 or mag_g < 0 or mag_r < 0 or mag_i < 0 "
                "or mag_z < 0 or mag_f814w < 0 or mag_i > 50 or mag_err_u < 0 or z_spec < -0.01 or z_spec > 9"
            )
        ).scalar()
        assert bad == 0
        kinds = conn.execute(
            sa.text("select catalog, count(*) from phot_obj group by catalog order by catalog")
        ).all()
        assert {r[0]: r[1] for r in kinds} == {
            "galsim_cosmos": 100, "hsc": 15, "hsc_match": 62, "sdss_photo": 11_011, "tractor": 1,
            "zcosmos": 17_358, "zcosmos_sample": 1469,
        }  # fmt: skip
        # -99.9 in i_photzi25 is null
        first = conn.execute(
            sa.text(
                "select p.mag_i, p.mag_f814w, p.z_spec from phot_obj p join target t "
                "on t.target_id = p.target_id where t.native_id = 'zcosmos-700137'"
            )
        ).one()
        assert tuple(first) == (None, 22.27, 0.8792)
    assert ingest_hsc([str(data_dir / "catalogs")], db).nothing_new
    assert [f.message for f in check_database(db) if not f.ok] == []


def test_hsc_stamps_meet_their_catalogue_row(db: str, data_dir: Path, imaging: Path) -> None:
    done = ingest_hsc(
        [str(data_dir / "catalogs" / "aileisun__bubbleimg"), str(imaging / "aileisun__bubbleimg")], db
    )
    assert (done.rows, done.cutouts) == (111, 3)
    with connect_engine(db, read_only=True).connect() as conn:
        rows = conn.execute(
            sa.text("select native_id, bands, ny, mag_i, g_i, z_spec from selectable where bands is not null")
        ).all()
    assert [tuple(r) for r in rows] == [
        ("42063891789801134", "g,r,i,z,y", 128, pytest.approx(19.547958), pytest.approx(1.951836, abs=1e-5),
         pytest.approx(0.4114)),
    ]  # fmt: skip
