"""A picture of one candidate: its spectrum, the search window, and the fitted line.

Drawn as figures 5 and 7 of Li et al. (2018): the whole spectrum with the pipeline's model of the lens, and
the line above the constant with the skew-normal that was fitted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from schema.engine import connect_engine, shard_root
from schema.errors import UserError
from schema.grid import LYA_ANGSTROM, wave_angstrom
from schema.shards import Shard
from scoring.fits.profile import skew_normal

LENS_FEATURES = {"Ca H, K": 3952.0, "G": 4305.6, "H$\\beta$": 4862.7, "Mg b": 5176.6, "Na D": 5895.6}
"""Absorption that tells the redshift of an old galaxy [Angstrom, vacuum, rest frame]."""
QUERY = """
select
    candidate.name, candidate.native_id, candidate.z_lens, candidate.z_source, candidate.wave_angstrom,
    candidate.line_flux, candidate.line_flux_err, candidate.skewness, candidate.skewness_err,
    line_fit.sigma_angstrom, line_fit.constant,
    spectrum.shard_row, spectrum.pix_first, spectrum.pix_last, pixel_shard.name as shard
from candidate
inner join line_fit on line_fit.fit_id = candidate.fit_id
inner join spectrum on spectrum.spectrum_id = line_fit.spectrum_id
inner join pixel_shard on pixel_shard.shard_id = spectrum.shard_id
where candidate.target_id = :target_id and candidate.model = :model
"""


def draw_candidate(db: str | None, target_id: int, model: str, path: Path) -> Path:
    """Draw a candidate into a PNG file.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    target_id : int
        A target of view candidate.
    model : str
        Model that found it.
    path : Path
        File to write.

    Raises
    ------
    UserError
        If the target is no candidate of the model.
    DataError
        If its shard is missing.
    """
    with connect_engine(db, read_only=True).connect() as conn:
        row = conn.execute(sa.text(QUERY), {"target_id": target_id, "model": model}).mappings().first()
    if row is None:
        raise UserError(
            f"target {target_id} is no candidate of {model}; see: select target_id, model from candidate"
        )
    shard = Shard(shard_root(db) / row["shard"])
    at, first = np.array([row["shard_row"]]), int(row["pix_first"])
    npix = int(row["pix_last"]) - first + 1
    pixels = {
        name: shard.read(name, at, first, npix)[0].astype(np.float64) for name in ("flux", "ivar", "model")
    }
    figure = _figure(dict(row), wave_angstrom(first + np.arange(npix)), pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _figure(row: dict[str, Any], wave: NDArray[np.float64], pixels: dict[str, NDArray[np.float64]]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.2), layout="constrained")
    places = figure.add_gridspec(2, 2, height_ratios=(1, 1.1), width_ratios=(1.35, 1))
    whole = figure.add_subplot(places[0, :])
    window, line = figure.add_subplot(places[1, 0]), figure.add_subplot(places[1, 1])
    flux = np.where(pixels["ivar"] > 0, pixels["flux"], np.nan)
    whole.plot(wave, _smooth(flux, 5), color="0.55", lw=0.5)
    whole.plot(wave, pixels["model"], color="C0", lw=0.9)
    upper = np.nanpercentile(_smooth(flux, 5), 99.7) * 1.15
    peak = 1.25 * np.nanmax(flux[np.abs(wave - row["wave_angstrom"]) < 8])
    whole.set(xlim=(wave[0], wave[-1]), ylim=(-0.12 * upper, upper))
    for name, rest in LENS_FEATURES.items():
        observed = rest * (1 + row["z_lens"])
        if wave[0] < observed < wave[-1]:
            whole.axvline(observed, color="C0", lw=0.6, ls=":")
            whole.annotate(
                name, (observed, 0.97), xycoords=("data", "axes fraction"), fontsize=7, va="top", color="C0"
            )
    whole.axvspan(3800, 5000, color="0.93", zorder=0)
    whole.set_title(
        f"{row['name']}   {row['native_id']}   $z_L$ = {row['z_lens']:.4f}   $z_S$ = {row['z_source']:.4f}",
        fontsize=10,
    )
    inside = (wave >= 3800) & (wave <= 5000)
    window.step(wave[inside], flux[inside], where="mid", color="0.35", lw=0.5)
    window.plot(wave[inside], pixels["model"][inside], color="C0", lw=0.9)
    window.set(xlim=(3800, 5000), ylim=(-0.35 * peak, peak))
    window.annotate(
        "Ly$\\alpha$", (row["wave_angstrom"], 0.95), xycoords=("data", "axes fraction"), color="C3", va="top"
    )
    _draw_line(line, row, wave, flux, pixels)
    for axes in (window, line):
        axes.set_xlabel("vacuum wavelength [$\\rm\\AA$]", fontsize=8)
    for axes in (whole, window):
        axes.set_ylabel("flux density\n[$10^{-17}$ erg/s/cm$^2$/$\\rm\\AA$]", fontsize=8)
    for axes in (whole, window, line):
        axes.tick_params(labelsize=7)
    return figure


def _draw_line(
    axes: Any, row: dict[str, Any], wave: NDArray[np.float64], flux: Any, pixels: dict[str, Any]
) -> None:
    """The line and its fit, with rest wavelengths of the source on the upper edge."""
    centre = row["wave_angstrom"]
    near = np.abs(wave - centre) < 30
    error = np.where(pixels["ivar"] > 0, 1 / np.sqrt(np.where(pixels["ivar"] > 0, pixels["ivar"], 1)), np.nan)
    axes.errorbar(wave[near], flux[near], error[near], fmt="o", ms=2.5, color="0.4", lw=0.6)
    fine = np.linspace(centre - 30, centre + 30, 601)
    profile = skew_normal(fine, np.array(centre), np.array(row["sigma_angstrom"]), np.array(row["skewness"]))
    axes.plot(fine, row["line_flux"] * profile + row["constant"], color="C3", lw=1.3)
    axes.axhline(row["constant"], color="C3", lw=0.6, ls="--")
    axes.set_xlim(centre - 30, centre + 30)
    text = (
        f"F = {row['line_flux']:.1f} $\\pm$ {row['line_flux_err']:.1f}\n"
        f"skewness = {row['skewness']:.1f} $\\pm$ {row['skewness_err']:.1f}"
    )
    axes.annotate(text, (0.97, 0.95), xycoords="axes fraction", ha="right", va="top", fontsize=8)
    scale = 1 + row["z_source"]
    rest = axes.secondary_xaxis("top", functions=(lambda w: w / scale, lambda w: w * scale))
    rest.set_xticks([LYA_ANGSTROM + d for d in (-6, -3, 0, 3, 6)])
    rest.set_xticklabels([f"{LYA_ANGSTROM + d:.0f}" for d in (-6, -3, 0, 3, 6)], fontsize=6)


def _smooth(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    return np.convolve(np.nan_to_num(values), np.ones(width) / width, mode="same")
