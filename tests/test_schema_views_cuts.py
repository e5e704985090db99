"""The cuts, row by row: a few hits in, verdicts and attrition out, on both engines."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
import sqlalchemy as sa
from search_rows import WHEN, Search, Z, good_fit

from schema.engine import read_frame
from schema.tables import cut_setting, wave_mask
from schema.upsert import insert_rows


@pytest.fixture
def search(db: str) -> Search:
    return Search(db)


def test_hits_are_current_primary_and_not_sky(search: Search) -> None:
    search.hit(1, 4200.0)
    search.hit(2, 4210.0, probability=0.5)
    search.hit(3, 4220.0, probability=0.49)
    search.hit(4, 4230.0, objtype="SKY             ")
    search.hit(5, 4240.0, is_primary=False)
    search.hit(6, 4250.0)
    search.rows["spectrum"][-1]["content_hash"] = "new pixels"
    search.write()
    assert list(search.read("hit")) == [1, 2]
    assert search.read("hit")[1]["rest_wave_angstrom"] == pytest.approx(2800.0)


def test_each_cut_drops_its_own(search: Search) -> None:
    search.hit(1, 4100.0)
    search.hit(2, 4130.0, fit=None)
    search.hit(3, 4160.0, fit={"status": "no line", "peak_flux": None, "skewness": None})
    search.hit(4, 4190.0, fit={"peak_flux": 0.999})
    search.hit(5, 4220.0, fit={"peak_flux": 1.0})
    search.hit(6, 4359.6)
    search.hit(7, 4250.0, fit={"n_mask_near": 5})
    search.hit(8, 4280.0, fit={"n_mask_near": 4})
    search.hit(9, 3728.0 * (1 + 0.25), z=0.25)
    search.hit(10, 4310.0, fit={"skewness": -0.1, "delta_chi2_gaussian": 0.01})
    search.hit(11, 4400.0, fit={"skewness": -2.0, "delta_chi2_gaussian": 9.0})
    search.hit(12, 4430.0, fit={"snr_halpha": 3.5, "snr_hbeta": 0.2})
    search.hit(13, 4460.0, fit={"snr_oiii_5008": 3.49, "snr_hbeta": -1.0})
    search.hit(14, 4490.0, fit={"status": "ok, skewness at its bound"})
    search.hit(15, 4520.0, fit={"content_hash": "older pixels"})
    search.hit(16, 4550.0, fit={"hit_wave_angstrom": 4600.0})
    search.hit(17, 4580.0, fit={"sigma_angstrom": 0.5, "sigma_err_angstrom": 0.1})
    search.hit(18, 4610.0, fit={"sigma_angstrom": 0.5, "sigma_err_angstrom": 0.3})
    search.hit(19, 4640.0, z=2.9)
    search.hit(20, 4670.0, fit={"sigma_angstrom": 0.5, "sigma_err_angstrom": 240.0})
    search.write()
    with search.engine.begin() as conn:
        lamp = {
            "wave_mask_id": 1,
            "frame": "observed",
            "wave_min_angstrom": 4355.0,
            "wave_max_angstrom": 4364.0,
        }
        insert_rows(conn, wave_mask, [{**lamp, "reason": "sky: Hg I 4359.6"}])
    failed = {
        1: None, 2: "fit", 3: "fit", 4: "peak_flux", 5: None, 6: "bad_pixel", 7: "bad_pixel", 8: None,
        9: "bad_pixel", 10: None, 11: "asymmetry", 12: "oii", 13: None, 14: None, 15: "fit", 16: "fit",
        17: "width", 18: None, 19: "source", 20: "width",
    }  # fmt: skip
    assert search.first_failed() == failed
    published = {10: "skewness", 11: "skewness", 17: None, 19: None, 20: None}
    assert search.first_failed("first_failed_cut_published") == {**failed, **published}
    cuts = search.read("hit_cut")
    assert cuts[2]["fit_status"] == "not fitted yet"
    assert cuts[3]["fit_status"] == "no line"
    assert cuts[6]["mask_reason"].startswith("sky")
    assert cuts[9]["mask_reason"].startswith("lens")


def test_thresholds_are_read_from_the_table(search: Search) -> None:
    search.hit(1, 4100.0, fit={"skewness": 1.0, "skewness_err": 0.4, "peak_flux": 0.8})
    search.hit(2, 4200.0, fit={"skewness": 1.0, "skewness_err": 0.6, "snr_halpha": 4.0})
    search.write()
    assert search.first_failed() == {1: "peak_flux", 2: "oii"}
    search.set("peak_flux_min", 0.5)
    search.set("oii_min_snr", 5.0)
    assert search.first_failed() == {1: None, 2: None}
    search.set("skewness_min_sigma", 2.0)
    assert search.first_failed("first_failed_cut_published") == {1: None, 2: "skewness"}
    assert search.first_failed() == {1: None, 2: None}
    search.set("snr_min", 9.1)  # every score here has 9
    assert search.first_failed() == {1: "snr", 2: "snr"}
    assert search.first_failed("first_failed_cut_published") == {1: None, 2: "skewness"}
    search.set("snr_min", 9.0)
    search.set("width_min_angstrom", 2.5)
    assert search.first_failed() == {1: "width", 2: "width"}
    search.set("width_max_sigma", 3.0)
    assert search.first_failed() == {1: None, 2: None}


def test_asymmetry_asks_whether_the_blue_tail_is_significant(search: Search) -> None:
    tails = {
        1: (-5.0, 0.99),
        2: (-5.0, 1.01),
        3: (-20.0, -0.001),
        4: (5.0, 100.0),
        5: (0.0, 0.0),
        6: (1.0, None),
    }
    for k, (skewness, gain) in tails.items():
        search.hit(k, 4000.0 + 40 * k, fit={"skewness": skewness, "delta_chi2_gaussian": gain})
    search.write()
    found = search.read("hit_cut")
    assert {k: bool(r["passes_asymmetry"]) for k, r in found.items()} == {
        1: True, 2: False, 3: True, 4: True, 5: True, 6: False
    }  # fmt: skip
    assert {k: bool(r["passes_skewness"]) for k, r in found.items()} == {
        1: False, 2: False, 3: False, 4: True, 5: False, 6: True
    }  # fmt: skip
    assert found[2]["asymmetry_sigma"] == pytest.approx(-(1.01**0.5))
    assert found[4]["asymmetry_sigma"] == pytest.approx(10.0)
    search.set("asymmetry_max_sigma", 0.9)
    assert search.first_failed()[1] == "asymmetry"


@pytest.mark.parametrize(
    ("z_lens", "failed"), [(0.5, None), (2.2, None), (2.55, "source"), (2.701, "source"), (3.3, "source")]
)
def test_the_source_lies_behind_the_lens(search: Search, z_lens: float, failed: str | None) -> None:
    search.hit(1, 4400.0, z=z_lens)  # Lyman alpha at redshift 2.619
    search.write()
    assert search.first_failed() == {1: failed}
    row = search.read("hit_cut")[1]
    assert row["source_distance"] == pytest.approx((4400 / 1215.67 - 1 - z_lens) / (1 + z_lens))
    assert list(search.read("candidate")) == ([] if failed else [1])


def test_a_lens_without_redshift_stays(search: Search) -> None:
    search.hit(1, 4400.0, z=None)  # type: ignore[arg-type]
    search.write()
    assert search.first_failed() == {1: None}


def test_the_latest_fit_counts(search: Search) -> None:
    search.hit(1, 4100.0)
    later = WHEN + datetime.timedelta(days=1)
    search.rows["line_fit"].append(good_fit(1, 4100.0, fit_id=5, skewness=-1.0, fitted_at=later))
    search.write()
    assert search.first_failed() == {1: "asymmetry"}
    assert len(search.read("hit_fit")) == 1


def test_known_lenses_leave_the_list_but_stay_visible(search: Search) -> None:
    from schema.healpix import LENS_SHIFT, hpx29

    lens_ra = 150.0
    for k, arcsec in ((1, 4.9), (2, 5.1)):
        ra = lens_ra + arcsec / 3600
        search.hit(k, 4200.0 + 40 * k, ra=ra, dec=0.0, hpx29=int(hpx29([ra], [0.0])[0]))
    cells = {int(h) >> LENS_SHIFT for h in hpx29([lens_ra + d / 3600 for d in (0, 4.9, 5.1)], [0.0] * 3)}
    search.rows["known_lens"].append(
        {
            "lens_id": 9,
            "name": "HORSESHOE",
            "ra_deg": lens_ra,
            "dec_deg": 0.0,
            "hpx29": int(hpx29([lens_ra], [0.0])[0]),
        }
    )
    search.rows["known_lens_cell"] += [{"lens_id": 9, "cell": c} for c in cells]
    search.write()
    assert search.first_failed() == {1: "known_lens", 2: None}
    row = search.read("hit_cut")[1]
    assert row["known_lens"] == "HORSESHOE"
    assert row["known_lens_sep_arcsec"] == pytest.approx(4.9, abs=1e-6)
    search.set("known_lens_radius_arcsec", 6.0)
    assert search.first_failed() == {1: "known_lens", 2: "known_lens"}


def test_attrition_counts_in_and_out(search: Search) -> None:
    search.hit(1, 4100.0, lens=True)
    search.hit(2, 4200.0, fit=None, lens=True)
    search.hit(3, 4260.0, fit={"peak_flux": 0.1})
    search.hit(4, 4300.0, fit={"skewness": -1.0})
    search.hit(5, 4400.0, probability=0.1)
    search.hit(6, 4500.0, probability=0.1, lens=True)
    search.hit(7, 4600.0, fit={"skewness": -0.5, "delta_chi2_gaussian": 0.1}, lens=True)
    search.hit(8, 4700.0, z=3.2)
    search.write()
    with search.engine.connect() as conn:
        rows = read_frame(conn, "select * from attrition order by step_no")
    assert list(rows.step) == [
        "hit", "fit", "peak_flux", "snr", "width", "airglow", "rest_frame", "bad_pixel", "known_lens",
        "asymmetry", "oii", "source",
    ]  # fmt: skip
    assert list(rows.n_in) == [8, 6, 5, 4, 4, 4, 4, 4, 4, 4, 3, 3]
    assert list(rows.n_out) == [6, 5, 4, 4, 4, 4, 4, 4, 4, 3, 3, 2]
    assert list(rows.n_in_injected) == [4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    assert list(rows.n_out_injected) == [3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    assert list(rows.n_out_published) == [6, 5, 4, 4, 4, 4, 4, 4, 4, 2, 2, 2]
    assert list(rows.n_out_injected_published) == [3, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1]
    assert list(search.read("candidate")) == [1, 7]


def test_attrition_of_a_model_without_hits(search: Search) -> None:
    search.hit(1, 4100.0, probability=0.1)
    search.write()
    with search.engine.connect() as conn:
        rows = read_frame(conn, "select * from attrition order by step_no")
    assert list(rows.n_in) == [1] + [0] * 11
    assert list(rows.n_out) == [0] * 12


NAMES = [
    (169.45625, 1.676919, "SDSS J111749.50+014036.9"),  # Li et al. (2018), Table 1
    (186.26204166666666, -0.1521861, "SDSS J122502.89-000907.8"),
    (0.0, 0.0, "SDSS J000000.00+000000.0"),
    (359.999999, 89.99999, "SDSS J235959.99+895959.9"),
    (360.0, -90.0, "SDSS J000000.00-900000.0"),
    (14.999999, -0.00001, "SDSS J005959.99-000000.0"),
    (0.249999, 9.9999999, "SDSS J000059.99+095959.9"),
    (15.0, 10.0, "SDSS J010000.00+100000.0"),
]


def test_candidates_have_the_columns_of_table_1(search: Search) -> None:
    for k, (ra, dec, _) in enumerate(NAMES):
        search.hit(k + 1, 4100.0 + 50 * k, ra=ra, dec=dec, cmodel_mag_i=19.35)
    search.write()
    found = search.read("candidate")
    assert [found[k + 1]["name"] for k in range(len(NAMES))] == [n for *_, n in NAMES]
    row = found[1]
    assert row["native_id"] == "1-2-1"
    assert row["z_lens"] == Z
    assert row["z_source"] == pytest.approx(4100 / 1215.67 - 1)
    assert (row["line_flux"], row["line_flux_err"], row["skewness"], row["skewness_err"]) == (
        30.0,
        2.0,
        2.0,
        0.7,
    )
    assert row["cmodel_mag_i"] == 19.35
    assert row["model"] == "m"


def test_names_agree_with_astropy(search: Search) -> None:
    from astropy.coordinates import Angle

    rng = np.random.default_rng(8)
    ra, dec = rng.uniform(0, 360, 30), np.degrees(np.arcsin(rng.uniform(-1, 1, 30)))
    for k in range(30):
        search.hit(k, 3810.0 + 39.5 * k, ra=float(ra[k]), dec=float(dec[k]), z=0.3 + 0.01 * k)
    search.write()
    got = search.read("hit_cut")
    found = search.read("candidate")
    assert len(found) >= 25, got
    for k, row in found.items():
        h, d = Angle(ra[k], "deg").hms, Angle(abs(dec[k]), "deg").dms
        name = (
            f"SDSS J{int(h.h):02d}{int(h.m):02d}{int(h.s * 100) / 100:05.2f}"
            f"{'-' if dec[k] < 0 else '+'}{int(d.d):02d}{int(d.m):02d}{int(d.s * 10) / 10:04.1f}"
        )
        assert row["name"] == name


def test_a_missing_threshold_is_seen(search: Search) -> None:
    search.hit(1, 4100.0)
    search.write()
    with search.engine.begin() as conn:
        conn.execute(sa.delete(cut_setting).where(cut_setting.c.name == "peak_flux_min"))
    assert search.first_failed() == {1: "peak_flux"}
