"""Arcs on cutouts that the database holds: the host stays, the arcs are added, what is unknown is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import sqlalchemy as sa
import torch
from typer.testing import CliRunner

from schema.engine import connect_engine, shard_root, upgrade
from schema.errors import DataError, UserError
from schema.healpix import hpx29
from schema.ids import hashed_id
from schema.image_shards import ImageShard, percentile_stamp, pixel_hashes, write_image_shard
from schema.tables import cutout, image_shard, phot_obj, target
from schema.upsert import upsert_rows
from scoring.inject.hosts import find_hosts, read_kernel
from scoring.inject.onto import add_arcs, background, inject_onto
from scoring.lensing.priors import draw_population
from scoring.light.instruments import HSC_WIDE
from scoring.light.psf import gaussian_psf
from scoring.selection import add_selection

BANDS = ("g", "r", "i")
ZERO = {"g": 27.0, "r": 27.0, "i": 27.0}
NOISE = {"g": 0.3, "r": 0.3, "i": 0.3}


def rows(db: str, sql: str) -> list[dict[str, Any]]:
    with connect_engine(db, read_only=True).connect() as conn:
        return [dict(r) for r in conn.execute(sa.text(sql)).mappings()]


def one(db: str, sql: str) -> Any:
    return next(iter(rows(db, sql)[0].values()))


def add_hosts(
    db: str, changes: list[dict[str, Any]], ny: int = 60, nx: int = 64, phi_deg: float | None = None
) -> np.ndarray:
    """Galaxies of a survey, one for each dict of changes to its cutout row; returns their pixels.

    They are round, or long along an angle from +x towards +y.
    """
    rng = np.random.default_rng(6)
    y, x = np.mgrid[:ny, :nx]
    dx, dy = x - (nx - 1) / 2, y - (ny - 1) / 2
    a = np.radians(phi_deg or 0.0)
    along, across = dx * np.cos(a) + dy * np.sin(a), dy * np.cos(a) - dx * np.sin(a)
    r2 = dx**2 + dy**2 if phi_deg is None else along**2 / 1.6 + across**2 * 1.6
    n = len(changes)
    image = (200 * np.exp(-r2 / 18) + rng.normal(0, 0.3, (n, 3, ny, nx))).astype(np.float32)
    image[:, :, 5, 7] = np.nan
    write_image_shard(shard_root(db), "real0", {"image": image, "stamp": percentile_stamp(image)[0]}, BANDS)
    ids = [hashed_id("target", "hsc", f"g{i}") for i in range(n)]
    ra = 150.0 + 0.01 * np.arange(n)
    dec = np.full(n, 2.0)
    shard = {"shard_id": 1, "name": "real0", "bands": "g,r,i", "n_band": 3, "ny": ny, "nx": nx, "n_rows": n}
    hashes = pixel_hashes(image)
    plain = {
        "instrument": "hsc", "bands": "g,r,i", "ny": ny, "nx": nx, "pixscale_arcsec": 0.168,
        "zeropoint": ZERO, "noise": NOISE, "psf_fwhm_arcsec": 0.7, "frac_good": 0.99, "is_primary": True,
        "shard_id": 1, "orientat_deg": 0.0, "sky_parity": 1,
    }  # fmt: skip
    with connect_engine(db).begin() as conn:
        upsert_rows(conn, image_shard, [shard], ["shard_id"])
        upsert_rows(
            conn,
            target,
            [
                {"target_id": ids[i], "survey": "hsc", "native_id": f"g{i}", "ra_deg": ra[i],
                 "dec_deg": dec[i], "hpx29": int(hpx29(ra[i], dec[i])[0]), "is_injection": False}
                for i in range(n)
            ],
            ["target_id"],
        )  # fmt: skip
        upsert_rows(
            conn,
            phot_obj,
            [
                {"target_id": t, "mag_g": 20.0, "mag_i": 18.5, "z_spec": 0.31, "r_eff_arcsec": 1.1,
                 "axis_ratio": 0.6, "pa_deg": 30.0}
                for t in ids
            ],
            ["target_id"],
        )  # fmt: skip
        upsert_rows(
            conn,
            cutout,
            [
                plain
                | {"cutout_id": i + 1, "target_id": ids[i], "shard_row": i, "content_hash": hashes[i]}
                | changes[i]
                for i in range(n)
            ],
            ["cutout_id"],
        )
    add_selection(db, "hosts", "survey = 'hsc'")
    return image


def test_arcs_are_added_to_the_host_and_nothing_else(db: str) -> None:
    host = add_hosts(db, [{}] * 5)
    done = inject_onto(db, "hosts", seed=3)
    assert (done.n_lenses, done.n_existing, dict(done.refused)) == (5, 0, {})
    found = rows(
        db,
        "select c.*, s.name, h.native_id as host, t.ra_deg, i.z_lens, l.arc_mag, l.lens_mag, l.lens_phi_deg, "
        "l.band, p.mag_i, i.host_target_id from cutout c join target t on t.target_id = c.target_id "
        "join image_shard s on s.shard_id = c.shard_id join injection i on i.target_id = c.target_id "
        "join injection_lens l on l.target_id = c.target_id join phot_obj p on p.target_id = c.target_id "
        "join target h on h.target_id = i.host_target_id where t.survey = 'sim' order by h.native_id",
    )
    assert [r["host"] for r in found] == [f"g{i}" for i in range(5)]
    for i, row in enumerate(found):
        shard = ImageShard(shard_root(db) / row["name"])
        image = shard.read("image", [row["shard_row"]])
        assert image.shape == (1, 3, 60, 64)
        assert pixel_hashes(image) == [row["content_hash"]]
        added = image[0] - host[i]
        # NaN stays NaN; all else only gains
        assert np.isnan(added[:, 5, 7]).all()
        assert np.nanmin(added) >= -1e-3
        counts = np.nansum(added[2])
        assert 27.0 - 2.5 * np.log10(counts) == pytest.approx(row["arc_mag"], abs=0.1)
        # renormalised after the superposition
        np.testing.assert_array_equal(shard.read("stamp", [row["shard_row"]]), percentile_stamp(image)[0])
        assert row["ra_deg"] == pytest.approx(150.0 + 0.01 * i)
        assert (row["z_lens"], row["lens_mag"], row["band"]) == (0.31, 18.5, "i")
        assert row["lens_phi_deg"] == pytest.approx(120.0, abs=1e-3)  # mass along the light
        assert row["mag_i"] < 18.5
    assert one(db, "select count(*) from injection where is_lens") == 5
    again = inject_onto(db, "hosts", seed=3)
    assert (again.n_lenses, again.n_existing) == (0, 5)
    # simulated targets are no hosts, even when a selection names them
    add_selection(db, "all", "cutout_id is not null")
    assert inject_onto(db, "all", seed=4).refused == {"injection": 5}


def angles(db: str) -> dict[str, float]:
    found = rows(
        db,
        "select h.native_id, l.lens_phi_deg from injection_lens l join injection i using (target_id) "
        "join target h on h.target_id = i.host_target_id",
    )
    return {r["native_id"]: r["lens_phi_deg"] for r in found}


def test_position_angles_are_turned_from_the_sky_into_the_pixels(db: str) -> None:
    lies = [(0.0, 1), (0.0, -1), (284.0, 1), (75.0, -1)]
    add_hosts(db, [{"orientat_deg": angle, "sky_parity": parity} for angle, parity in lies])
    assert inject_onto(db, "hosts", seed=3).n_by_pixels == 0
    found = angles(db)
    # 30 degrees east of north; +y is `angle` east of north, and east is to its left where parity is 1
    expected = [120.0, 60.0, (90 + 30 - 284.0) % 180, (90 - (30 - 75.0)) % 180]
    assert [found[f"g{k}"] for k in range(4)] == pytest.approx(expected, abs=1e-3)
    made = rows(
        db,
        "select c.orientat_deg, c.sky_parity, p.pa_deg from cutout c join target t using (target_id) "
        "join phot_obj p using (target_id) join injection i using (target_id) "
        "join target h on h.target_id = i.host_target_id order by h.native_id",
    )
    # the catalogue's angle stays the host's on the sky, and the injection lies as its host does
    assert [(r["orientat_deg"], r["sky_parity"], r["pa_deg"]) for r in made] == [(*x, 30.0) for x in lies]


def test_where_the_cutout_lies_unknown_the_mass_follows_the_light_in_the_pixels(db: str) -> None:
    from lensmine import app

    unknown = {"orientat_deg": None, "sky_parity": 0}
    add_hosts(db, [unknown, {"orientat_deg": None, "sky_parity": None}, {}], phi_deg=70.0)
    run = CliRunner().invoke(
        app, ["simulate", "lenses", "--onto", "hosts", "--db", db], env={"COLUMNS": "300"}
    )
    found = angles(db)
    assert [found["g0"], found["g1"]] == pytest.approx([70.0, 70.0], abs=3.0)
    assert found["g2"] == pytest.approx(120.0, abs=1e-3)
    assert "2 have their mass along the light as measured on the pixels" in " ".join(run.stdout.split())


def test_an_injection_does_not_depend_on_what_else_is_selected(tmp_path: Path) -> None:
    """All hosts at once, or a few first; one injection a host, or several."""
    files = [str(tmp_path / name) for name in ("once.duckdb", "steps.duckdb")]
    for file in files:
        upgrade(file)
        add_hosts(file, [{}] * 7 + [{"pixscale_arcsec": 0.2}] * 2)
    inject_onto(files[0], "hosts", seed=3, per_host=2)
    for limit, per_host in ((1, 1), (3, 1), (4, 2), (None, 2)):
        inject_onto(files[1], "hosts", seed=3, limit=limit, per_host=per_host)
    found = [
        rows(f, "select t.native_id, c.content_hash from cutout c join target t using (target_id) order by 1")
        for f in files
    ]
    assert len(found[0]) == 9 + 18
    assert found[0] == found[1]


def test_a_real_turned_frame_of_hst(db: str, data_dir: Path) -> None:
    """The angle of the mass in the pixels is that of a step on the sky along the catalogue's, by astropy."""
    from astropy import units
    from astropy.io import fits
    from astropy.wcs import WCS

    from etl.image_ingest import ingest_images

    path = data_dir / "imaging" / "phdenzel__slacs-match" / "198x198" / "SDSSJ0737+3216.fits"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {data_dir}")
    ingest_images("hst", [str(path)], db)
    with fits.open(path) as hdus:
        head = next(h.header for h in hdus if h.header.get("NAXIS") == 2)
    wcs, (x0, y0) = WCS(head), ((head["NAXIS1"] - 1) / 2, (head["NAXIS2"] - 1) / 2)
    step = wcs.pixel_to_world(x0, y0).directional_offset_by(103.0 * units.deg, 1.0 * units.arcsec)
    x, y = wcs.world_to_pixel(step)
    with connect_engine(db).begin() as conn:
        host = conn.execute(sa.select(target.c.target_id)).scalar_one()
        phot = {"target_id": host, "mag_f814w": 17.9, "axis_ratio": 0.7, "pa_deg": 103.0, "z_spec": 0.32}
        upsert_rows(conn, phot_obj, [phot], ["target_id"])
        conn.execute(cutout.update().values(psf_fwhm_arcsec=0.1, psf_path=None, unit="electrons/s"))
        exposure = {"F814W": 2000.0}
        conn.execute(cutout.update().values(exposure_s=exposure))
    add_selection(db, "slacs", "survey = 'hst'")
    done = inject_onto(db, "slacs", zero_point=25.9)
    assert (done.n_lenses, done.n_by_pixels) == (1, 0)
    phi = np.degrees(np.arctan2(y - y0, x - x0)) % 180
    assert one(db, "select lens_phi_deg from injection_lens") == pytest.approx(phi, abs=0.05)
    assert phi != pytest.approx((103.0 + 90) % 180, abs=20), "as it would be with north up"


def test_photon_noise_is_that_of_the_arcs() -> None:
    drawn = draw_population(1, torch.Generator().manual_seed(2))
    scene = drawn.scene
    host = np.zeros((200, 3, 64, 64), dtype=np.float32)
    many = type(scene).cat([scene] * 200)
    chances = [torch.Generator().manual_seed(i) for i in range(200)]
    image, *_ = add_arcs(host, many, HSC_WIDE, gaussian_psf(4.0), chances)
    mean, var = image[:, 2].mean(0), image[:, 2].var(0)
    bright = mean > np.quantile(mean, 0.97)
    ratio = var[bright] / (mean[bright] / HSC_WIDE.gain[2])
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.05)
    # pixels without light get none
    assert var[mean == 0].sum() == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"zeropoint": None}, "zero_point"),
        ({"zeropoint": {"g": 27.0, "r": None, "i": 27.0}}, "zero_point"),
        ({"pixscale_arcsec": None}, "pixel_scale"),
        ({"psf_fwhm_arcsec": None}, "psf"),
        ({"psf_path": "/nowhere/psf.fits"}, "bad_psf"),
        ({"instrument": "brick", "unit": "adu"}, "gain"),
        ({"frac_good": 0.2}, "few_pixels"),
        ({"noise": None}, "noise"),
        ({"noise": {"g": 0.0, "r": 0.3, "i": 0.3}}, "noise"),
    ],
)
def test_cutouts_of_unknown_calibration_are_refused_with_the_reason(
    db: str, change: dict[str, Any], reason: str
) -> None:
    add_hosts(db, [{}, change])
    done = inject_onto(db, "hosts")
    assert done.n_lenses == 1
    assert done.refused == {reason: 1}
    add_selection(db, "bad", "native_id = 'g1'")
    with pytest.raises(UserError, match=f"1 {reason}: "):
        inject_onto(db, "bad")


def test_a_cutout_too_shallow_for_any_lens_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scoring.lensing.population.MAX_ROUNDS", 60)  # the full 400 only take longer
    file = str(tmp_path / "x.duckdb")
    upgrade(file)
    add_hosts(file, [{}, {"noise": {"g": 9e5, "r": 9e5, "i": 9e5}}])
    done = inject_onto(file, "hosts")
    assert (done.n_lenses, done.refused) == (1, {"too_shallow": 1})


def test_which_arcs_would_be_seen_follows_from_the_noise_of_the_cutout(db: str) -> None:
    deep = {"g": 0.04, "r": 0.06, "i": 0.07}
    add_hosts(db, [{"noise": deep}] * 40 + [{"noise": {b: 4 * s for b, s in deep.items()}}] * 40)
    groups, refused = find_hosts(db, "hosts")
    assert len(groups) == 2
    assert not refused
    for group in groups:
        scale = 1 if int(group.hosts[0].native_id[1:]) < 40 else 4
        sigma = group.camera.background_sigma().tolist()
        assert sigma == pytest.approx([scale * s for s in deep.values()], rel=0.05)
    inject_onto(db, "hosts")
    found = rows(
        db,
        "select h.native_id, l.arc_mag from injection_lens l join injection i on i.target_id = l.target_id "
        "join target h on h.target_id = i.host_target_id",
    )
    deeper = [r["arc_mag"] for r in found if int(r["native_id"][1:]) < 40]
    shallow = [r["arc_mag"] for r in found if int(r["native_id"][1:]) >= 40]
    assert np.median(deeper) > np.median(shallow) + 0.4


def test_gain_comes_from_unit_exposure_instrument_or_option(db: str) -> None:
    changes: list[dict[str, Any]] = [
        {"zeropoint": {"g": 24.5, "r": 27.0, "i": 27.0}},
        {"unit": "electrons/s", "exposure_s": {"g": 600.0, "r": 600.0, "i": 1200.0}},
        {"unit": "ELECTRONS"},
    ]
    add_hosts(db, changes)
    groups, _ = find_hosts(db, "hosts")
    gains = {g.hosts[0].native_id: g.camera.gain for g in groups}
    assert gains["g0"][0] == pytest.approx(HSC_WIDE.gain[0] * 10)
    assert gains["g0"][1:] == pytest.approx(HSC_WIDE.gain[1:])
    assert gains["g1"] == (600.0, 600.0, 1200.0)
    assert gains["g2"] == (1.0, 1.0, 1.0)
    assert find_hosts(db, "hosts", zero_point=20.0)[0][0].camera.zero_point[1:] == (27.0, 27.0)
    groups, _ = find_hosts(db, "hosts", gain=2.5)
    assert {g.camera.gain for g in groups} == {(2.5, 2.5, 2.5)}


def test_kernels_from_files(tmp_path: Path) -> None:
    from astropy.io import fits

    kernel = gaussian_psf(3.0, 21).numpy()
    path = tmp_path / "psf.fits"
    fits.PrimaryHDU(kernel.astype(">f4")).writeto(path)
    torch.testing.assert_close(read_kernel(path), torch.from_numpy(kernel), atol=1e-6, rtol=0)
    even = np.zeros((20, 20))
    even[:, :] = kernel[:20, :20]
    fits.PrimaryHDU(even / even.sum()).writeto(tmp_path / "even.fits")
    read = read_kernel(tmp_path / "even.fits")
    assert read.shape == (21, 21)
    assert int(read.argmax()) == 10 * 21 + 10
    with h5py.File(tmp_path / "psf.h5", "w") as file:
        file["kernel_point_source"] = kernel
    torch.testing.assert_close(read_kernel(tmp_path / "psf.h5"), torch.from_numpy(kernel))
    fits.PrimaryHDU(np.stack([kernel, kernel.T])).writeto(tmp_path / "cube.fits")
    assert read_kernel(tmp_path / "cube.fits", 2).shape == (2, 21, 21)
    with pytest.raises(DataError, match="has 2 planes"):
        read_kernel(tmp_path / "cube.fits", 3)
    fits.PrimaryHDU(2 * kernel).writeto(tmp_path / "double.fits")
    with pytest.raises(DataError, match="sums to 2, allowed is 1"):
        read_kernel(tmp_path / "double.fits")
    with pytest.raises(DataError, match="no PSF file"):
        read_kernel(tmp_path / "missing.fits")


def test_the_psf_file_of_a_cutout_is_used(db: str, tmp_path: Path) -> None:
    from astropy.io import fits

    fits.PrimaryHDU(gaussian_psf(9.0, 31).numpy()).writeto(tmp_path / "psf.fits")
    add_hosts(db, [{"psf_path": str(tmp_path / "psf.fits")}])
    groups, _ = find_hosts(db, "hosts")
    torch.testing.assert_close(groups[0].psf, gaussian_psf(9.0, 31))
    inject_onto(db, "hosts")
    assert one(db, "select c.psf_path from cutout c join target t using (target_id) where t.survey = 'sim'")


def test_background_does_not_see_smooth_light() -> None:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:64, :64]
    galaxy = 50 * np.exp(-((x - 32) ** 2 + (y - 32) ** 2) / 200)
    image = (galaxy + rng.normal(0, 1.0, (20, 1, 64, 64))).astype(np.float32)
    assert background(image).mean() == pytest.approx(1.0, rel=0.25)


def test_command_names_what_was_refused(db: str) -> None:
    from lensmine import app

    add_hosts(db, [{}, {"zeropoint": None}])
    shown = CliRunner().invoke(app, ["simulate", "lenses", "--onto", "hosts", "--db", db]).stdout
    assert "1 lenses injected" in shown
    assert "refused 1: the zero point of a band is unknown" in shown
    given = CliRunner().invoke(
        app, ["simulate", "lenses", "--onto", "hosts", "--zero-point", "27", "--db", db, "--json"]
    )
    assert json.loads(given.stdout)["n_lenses"] == 2
    result = json.loads(
        CliRunner().invoke(app, ["simulate", "lenses", "--onto", "hosts", "--db", db, "--json"]).stdout
    )
    assert (result["n_existing"], result["refused"]) == (1, {"zero_point": 1})
