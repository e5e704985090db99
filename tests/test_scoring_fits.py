"""The line fits on simulated lines of known truth, against scipy, and on spectra with gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import curve_fit
from scipy.stats import skewnorm

from schema.grid import wave_angstrom
from scoring.fits.oii import LINES, OII_ANGSTROM, oii_alternative
from scoring.fits.profile import (
    alpha_from_gamma,
    gamma_from_alpha,
    line_model,
    mode_offset,
    skew_normal,
)
from scoring.fits.skewnormal import AT_SKEW_BOUND, OK, STATUSES, FitConfig, cut_windows, fit_lines

PIX0, NPIX = 35750, 1300
WAVE = wave_angstrom(PIX0 + np.arange(NPIX))
Array = NDArray[np.float64]


def lines(
    n: int,
    flux: float,
    alpha: float,
    noise: float = 0.5,
    seed: int = 1,
    sigma: tuple[float, float] = (1.8, 2.8),
) -> dict[str, Any]:
    """Simulated spectra with one skew-normal line each on a level of 3, and their truth."""
    rng = np.random.default_rng(seed)
    mean, width = rng.uniform(3900, 4850, n), rng.uniform(*sigma, n)
    clean = 3.0 + flux * skew_normal(WAVE, mean, width, np.full(n, alpha))
    spectra = clean + rng.normal(0, noise, clean.shape)
    return {
        "flux": spectra.astype(np.float32), "ivar": np.full(clean.shape, noise**-2, np.float32), "mean": mean,
        "sigma": width, "hit": mean + rng.normal(0, 1, n), "clean": clean,
    }  # fmt: skip


def fitted(s: dict[str, Any], **more: Any) -> dict[str, NDArray[Any]]:
    return fit_lines(cut_windows(PIX0, s["hit"], s["flux"], s["ivar"], **more), s["hit"])


def is_ok(fit: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    return np.array([str(s).startswith(OK) for s in fit["status"]])


def test_profile_is_scipys_skewnorm() -> None:
    x = np.linspace(4180, 4220, 201)
    for alpha in (-4.0, 0.0, 0.3, 2.0, 15.0):
        delta = alpha / np.sqrt(1 + alpha**2)
        omega = 2.0 / np.sqrt(1 - 2 * delta**2 / np.pi)
        expected = skewnorm.pdf(x, alpha, 4200 - omega * delta * np.sqrt(2 / np.pi), omega)
        np.testing.assert_allclose(skew_normal(x, 4200.0, 2.0, alpha), expected, rtol=1e-10, atol=1e-15)
        assert gamma_from_alpha(alpha) == pytest.approx(skewnorm.stats(alpha, moments="s"), abs=1e-10)
        offset, height = mode_offset(alpha)
        assert height[0] / 2.0 == pytest.approx(expected.max(), rel=2e-3)
        assert x[expected.argmax()] == pytest.approx(4200 + 2 * offset[0], abs=0.11)


@pytest.mark.parametrize("gamma", [0.6, -0.3, 0.05, 0.95])
def test_jacobian_is_the_derivative(gamma: float) -> None:
    theta = np.array([[20.0, 4200.3, np.log(2.5), gamma, 1.3]])
    wave = wave_angstrom(36232 + np.arange(-30, 31))[None]
    dwave = wave * np.log(10) * 1e-4
    jac = line_model(theta, wave, dwave)[1]
    for k in range(5):
        step = np.zeros(5)
        step[k] = 1e-5
        numeric = (line_model(theta + step, wave, dwave)[0] - line_model(theta - step, wave, dwave)[0]) / 2e-5
        np.testing.assert_allclose(jac[..., k], numeric, atol=2e-6 * np.abs(numeric).max())


def test_alpha_and_gamma_are_inverse() -> None:
    alpha = np.array([-15.0, -2.0, -0.2, 0.2, 1.0, 5.45, 20.0])
    back, slope = alpha_from_gamma(gamma_from_alpha(alpha))
    np.testing.assert_allclose(back, alpha, rtol=1e-6)
    g = gamma_from_alpha(alpha)
    numeric = (alpha_from_gamma(g + 1e-6)[0] - alpha_from_gamma(g - 1e-6)[0]) / 2e-6
    np.testing.assert_allclose(slope, numeric, rtol=1e-3)


def test_same_answer_and_errors_as_scipy() -> None:
    s = lines(12, 45.0, 3.0, seed=3)
    fit = fitted(s)
    window = cut_windows(PIX0, s["hit"], s["flux"], s["ivar"])

    def model(x: Array, flux: float, mean: float, log_sigma: float, alpha: float, constant: float) -> Array:
        theta = np.array([[flux, mean, log_sigma, float(gamma_from_alpha(alpha)), constant]])
        return line_model(theta, x[None], (x * np.log(10) * 1e-4)[None])[0][0]

    for k in range(12):
        start = [45, s["mean"][k], np.log(s["sigma"][k]), 3.0, 3.0]
        best, cov = curve_fit(
            model, window.wave[k], window.flux[k], start, window.ivar[k] ** -0.5, absolute_sigma=True
        )
        err = np.sqrt(np.diag(cov))
        for name, value, error in (
            ("line_flux", best[0], err[0]),
            ("wave_angstrom", best[1], err[1]),
            ("skewness", best[3], err[3]),
            ("constant", best[4], err[4]),
        ):
            assert abs(fit[name][k] - value) < 0.02 * error, name
            assert fit[
                name.replace("wave_angstrom", "wave") + "_err" + ("_angstrom" if "wave" in name else "")
            ][k] == pytest.approx(error, rel=0.05), name
        chi2 = (window.ivar[k] * (window.flux[k] - model(window.wave[k], *best)) ** 2).sum()
        assert fit["chi2"][k] <= chi2 + 1e-3


@pytest.mark.parametrize("alpha", [2.5, -2.5, 5.0])
def test_errors_cover_the_truth(alpha: float) -> None:
    flux = 45.0
    s = lines(700, flux, alpha, seed=11)
    fit = fitted(s)
    ok = is_ok(fit)
    assert ok.mean() > 0.99
    truth = {"line_flux": flux, "wave_angstrom": s["mean"], "sigma_angstrom": s["sigma"], "constant": 3.0}
    for name, value in truth.items():
        error = fit[name.replace("_angstrom", "_err_angstrom") if "_angstrom" in name else f"{name}_err"]
        pull = ((fit[name] - value) / error)[ok]
        assert 0.62 < np.mean(np.abs(pull) < 1) < 0.75, name
        assert abs(np.mean(pull)) < (0.3 if name == "sigma_angstrom" else 0.15), (
            name
        )  # widths err low, as always
    assert np.mean(fit["line_flux"][ok]) == pytest.approx(flux, rel=0.01)
    inside = np.abs((fit["skewness"] - alpha) / fit["skewness_err"])[ok] < 1
    assert 0.60 < inside.mean() < 0.85
    assert np.median(fit["skewness"][ok]) == pytest.approx(alpha, rel=0.15)
    assert np.mean(np.sign(fit["skewness"][ok]) == np.sign(alpha)) > 0.99


def test_peak_flux_and_its_error() -> None:
    s = lines(500, 40.0, 2.0, seed=5, sigma=(2.2, 2.2))
    fit = fitted(s)
    ok = is_ok(fit)
    truth = 40.0 * mode_offset(2.0)[1][0] / 2.2
    pull = ((fit["peak_flux"] - truth) / fit["peak_flux_err"])[ok]
    assert 0.60 < np.mean(np.abs(pull) < 1) < 0.76
    assert np.median(fit["peak_flux"]) == pytest.approx(truth, rel=0.02)


def test_a_symmetric_line_has_no_preferred_sign() -> None:
    fit = fitted(lines(400, 40.0, 0.0, seed=9))
    ok = is_ok(fit)
    assert 0.43 < np.mean(fit["skewness"][ok] > 0) < 0.57
    assert np.mean(fit["delta_chi2_gaussian"][ok]) == pytest.approx(1.0, abs=0.3)
    assert (fit["delta_chi2_gaussian"][ok] > -0.01).all()


def test_faint_lines_converge_and_stay_unbiased() -> None:
    s = lines(600, 15.0, 2.0, seed=13)
    fit = fitted(s)
    ok = is_ok(fit)
    assert ok.mean() > 0.97
    pull = ((fit["line_flux"] - 15.0) / fit["line_flux_err"])[ok]
    assert abs(pull.mean()) < 0.2
    assert 0.6 < np.mean(np.abs(pull) < 1) < 0.76


def test_the_galaxy_model_takes_the_continuum_out() -> None:
    s = lines(200, 40.0, 2.0, seed=17)
    galaxy = 1.5 * np.sin(WAVE / 12.0) + 0.004 * (WAVE - 4000)
    s["flux"] = (s["flux"] + galaxy).astype(np.float32)
    with_model = fitted(s, model=np.broadcast_to(galaxy, s["flux"].shape).astype(np.float32))
    without = fitted(s)
    pull = (with_model["line_flux"] - 40.0) / with_model["line_flux_err"]
    assert abs(np.nanmean(pull)) < 0.2
    assert np.nanmean(with_model["chi2"] / with_model["dof"]) == pytest.approx(1.0, abs=0.1)
    assert np.nanmean(without["chi2"] / without["dof"]) > 2


def test_gaps_nan_and_edges() -> None:
    s = lines(8, 60.0, 2.0, seed=19)
    at = np.searchsorted(WAVE, s["mean"])
    s["ivar"][0] = 0  # nothing there
    s["ivar"][1, at[1] - 3 : at[1] + 4] = 0  # the line itself is gone
    s["flux"][2, at[2] + 8] = np.nan
    s["ivar"][3, at[3] + 9] = np.inf
    s["ivar"][4, : at[4] - 12] = 0
    s["hit"][5] = WAVE[2]  # the window hangs over the edge
    s["flux"][6] = 3.0 - (s["clean"][6] - 3.0)  # an absorption line
    mask = np.zeros(s["flux"].shape, np.uint32)
    mask[7, at[7] + 2 : at[7] + 5] = 1 << 23
    fit = fitted(s, mask=mask)
    assert list(fit["status"][:2]) == ["few good pixels", "gap at the line"]
    assert is_ok(fit)[[2, 3, 4, 7]].all()
    assert not is_ok(fit)[[0, 1, 6]].any()
    assert fit["n_mask_near"][0] == 21
    assert fit["n_mask_near"][7] == 3
    assert set(fit["status"]) <= set(STATUSES)
    for name in ("line_flux", "skewness", "chi2"):
        assert np.isnan(fit[name][~is_ok(fit)]).all()
        assert np.isfinite(fit[name][is_ok(fit)]).all()


def test_a_sharp_edge_stops_at_the_bound_and_says_so() -> None:
    s = lines(20, 300.0, 200.0, noise=0.3, seed=23, sigma=(4.0, 4.5))
    fit = fitted(s)
    assert (fit["status"] == AT_SKEW_BOUND).mean() > 0.5
    assert np.nanmax(fit["skewness"]) <= FitConfig().max_alpha
    np.testing.assert_allclose(np.nanmedian(fit["line_flux"]), 300.0, rtol=0.02)


FULL0, FULLN = 35400, 4900
FULL = wave_angstrom(FULL0 + np.arange(FULLN))


def blank(n: int, seed: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return (3 + rng.normal(0, 1, (n, FULLN))).astype(np.float32), np.ones((n, FULLN), np.float32)


@pytest.mark.parametrize("name", list(LINES))
def test_oii_alternative_finds_its_lines(name: str) -> None:
    n = 40
    flux, ivar = blank(n)
    wave = np.linspace(3900, 4900, n)
    for k in range(n):
        flux[k] += 60 * skew_normal(FULL, LINES[name] * wave[k] / OII_ANGSTROM, 2.2, 0.0)
    found = oii_alternative(FULL0, wave, np.full(n, 2.4), np.full(n, 3.0), flux, ivar)
    seen = found[f"snr_{name}"]
    assert np.nanmedian(seen) > 10
    assert (seen[np.isfinite(seen)] > 5).all()
    others = [found[f"snr_{o}"] for o in LINES if o != name]
    assert np.nanmedian(others) < 2


def test_oii_alternative_seldom_cries_wolf() -> None:
    n = 1500
    flux, ivar = blank(n, seed=2)
    wave = np.random.default_rng(3).uniform(3850, 4950, n)
    found = oii_alternative(FULL0, wave, np.full(n, 2.4), np.full(n, 0.5), flux, ivar)
    best = np.nanmax([found[f"snr_{name}"] for name in LINES], axis=0)
    assert np.mean(best >= 3.5) < 0.01


def test_oii_alternative_has_no_answer_off_the_spectrum_or_on_the_lens() -> None:
    flux, ivar = blank(3)
    wave = np.array([4200.0, 4200.0, 4200.0])
    at = 5008.24 * 4200.0 / OII_ANGSTROM
    ivar[0][np.abs(FULL - at) < 15] = 0
    ivar[1][FULL > 7000] = 0
    z = np.array([0.6, 0.6, at / 6564.61 - 1])  # H alpha of the third lens falls on its [OIII] 5008
    found = oii_alternative(FULL0, wave, np.full(3, 2.0), z, flux, ivar)
    np.testing.assert_allclose(found["z_oii"], 4200.0 / OII_ANGSTROM - 1)
    assert np.isnan(found["snr_oiii_5008"][0])
    assert np.isfinite(found["snr_oiii_4960"][0])
    assert np.isnan(found["snr_halpha"][1])
    assert np.isfinite(found["snr_oiii_5008"][1])
    assert np.isnan(found["snr_oiii_5008"][2])


def test_oii_errors_grow_with_the_scatter() -> None:
    rng = np.random.default_rng(4)
    flux, ivar = blank(300)
    flux += rng.normal(0, 3, flux.shape).astype(np.float32)  # far more than ivar says
    found = oii_alternative(FULL0, np.full(300, 4300.0), np.full(300, 2.4), np.full(300, 0.5), flux, ivar)
    best = np.nanmax([found[f"snr_{name}"] for name in LINES], axis=0)
    assert np.mean(best >= 3.5) < 0.03
