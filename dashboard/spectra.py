"""The picture of a spectrum: the whole of it, the hit, and what stands elsewhere if the line were [OII]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dashboard.svg import INK, Panel, document
from schema.grid import LYA_ANGSTROM, wave_angstrom
from scoring.fits.profile import skew_normal

Array = NDArray[np.float64]
WIDTH = 1100
LENS_LINES = {
    "[OII]": 3728.5, "K": 3934.8, "H": 3969.6, "Hδ": 4102.9, "G": 4305.6, "Hβ": 4862.7, "[OIII]": 5008.2,
    "Mg": 5176.6, "Na": 5895.6, "Hα": 6564.6,
}  # fmt: skip
"""Features that tell the redshift of the lens [Angstrom, vacuum, rest frame]."""
SOURCE_LINES = {
    "Lyα": LYA_ANGSTROM,
    "NV": 1240.8,
    "CIV": 1549.5,
    "HeII": 1640.4,
    "CIII]": 1908.7,
    "MgII": 2799.1,
}
"""Lines of a source whose Lyman alpha is the hit."""
OII_LINES = {
    "[OII] 3728": 3728.48,
    "Hβ": 4862.69,
    "[OIII] 4960": 4960.30,
    "[OIII] 5008": 5008.24,
    "Hα": 6564.61,
}
"""What else would be seen were the hit [OII]; the view cut_oii asks for the same."""
GREY, BLUE, RED, GREEN, SKY, ERROR = "#5b5e6b", "#0060b8", "#b3261e", "#1e7b34", "#b58900", "#9b7fb8"
UNIT = "flux [1e-17 erg/s/cm²/Å]"


@dataclass(frozen=True)
class SpectrumStyle:
    """What of a spectrum is drawn.

    Attributes
    ----------
    smooth : int  width of the running mean, weighted by ivar [pixel]; 1 draws the pixels as they are
    zoom : float  half width of the first panel around the hit [Angstrom]; 0 draws the whole spectrum
    sky, error, oii : bool  draw the sky, the 1-sigma error, and the lines expected for [OII]
    """

    smooth: int = 5
    zoom: float = 0.0
    sky: bool = False
    error: bool = True
    oii: bool = False


def smoothed(flux: Array, ivar: Array, width: int) -> Array:
    """Running mean weighted by ivar; NaN where the window holds no datum."""
    if width <= 1:
        return np.where(ivar > 0, flux, np.nan)
    kernel = np.ones(width)
    weight = np.convolve(ivar, kernel, mode="same")
    total = np.convolve(np.where(ivar > 0, flux * ivar, 0.0), kernel, mode="same")
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan)


def draw_spectrum(pixels: dict[str, Array], first: int, about: dict[str, Any], style: SpectrumStyle) -> str:
    """SVG of one spectrum.

    Parameters
    ----------
    pixels : dict of ndarray, each of shape (npix,)
        flux, ivar, and model and sky where there are any [1e-17 erg/s/cm2/Angstrom].
    first : int
        Grid index of the first pixel.
    about : dict
        z_lens, hit_wave, and of the fit: wave, sigma, skewness, line_flux, constant, z_oii; None where
        unknown.
    style : SpectrumStyle
        What to draw.
    """
    wave = wave_angstrom(first + np.arange(len(pixels["flux"])))
    hit = about.get("wave") or about.get("hit_wave")
    oii = style.oii and bool(hit)
    height = 250 + 250 + (205 if oii else 0)
    panels = [_whole(wave, pixels, about, style, hit)]
    panels += [_window(wave, pixels, about, style, hit), _line(wave, pixels, about, hit)] if hit else []
    if not hit:
        height = 300
    if oii and hit:
        panels += _oii(wave, pixels, about, hit)
    return document(WIDTH, height, panels, describe(about))


def draw_thumb(pixels: dict[str, Array], first: int, about: dict[str, Any]) -> str:
    """SVG of the hit alone, for a mosaic; of the whole spectrum where there is no hit."""
    wave = wave_angstrom(first + np.arange(len(pixels["flux"])))
    hit = about.get("wave") or about.get("hit_wave")
    xlim = (hit - 60.0, hit + 60.0) if hit else (float(wave[0]), float(wave[-1]))
    near = (wave > xlim[0]) & (wave < xlim[1])
    flux = smoothed(pixels["flux"], pixels["ivar"], 1 if hit else 15)
    panel = Panel(4, 4, 152, 152, xlim, _limits(flux[near], 0.5, 100, 0.2), bare=True)
    panel.line(wave[near], flux[near], INK, 1.2, step=bool(hit))
    if "model" in pixels:
        panel.line(wave[near], pixels["model"][near], BLUE, 1.0)
    if hit:
        panel.mark(hit, "", RED)
        panel.note(f"{hit:.0f} Å")
    return document(160, 160, [panel], describe(about))


def describe(about: dict[str, Any]) -> str:
    """The picture in words."""
    words = ["Spectrum"]
    if about.get("z_lens") is not None:
        words.append(f"of a galaxy at redshift {about['z_lens']:.4f}")
    if about.get("hit_wave"):
        words.append(f"with a possible line at {about['hit_wave']:.1f} Ångström")
    if about.get("line_flux") is not None:
        words.append(
            f"of flux {about['line_flux']:.1f}e-17 erg/s/cm² and skewness {about.get('skewness') or 0:.1f}"
        )
    return " ".join(words)


def _limits(values: Array, low: float = 0.5, high: float = 99.5, room: float = 0.15) -> tuple[float, float]:
    good = values[np.isfinite(values)]
    if not len(good):
        return -1.0, 1.0
    lo, hi = np.percentile(good, [low, high])
    span = max(hi - lo, 1e-3)
    return float(min(lo, 0) - room * span * 0.4), float(hi + room * span)


def _whole(
    wave: Array, pixels: dict[str, Array], about: dict[str, Any], style: SpectrumStyle, hit: float | None
) -> Panel:
    flux = smoothed(pixels["flux"], pixels["ivar"], style.smooth)
    xlim = (hit - style.zoom, hit + style.zoom) if style.zoom and hit else (float(wave[0]), float(wave[-1]))
    inside = (wave >= xlim[0]) & (wave <= xlim[1])
    panel = Panel(
        52, 18, WIDTH - 62, 190, xlim, _limits(flux[inside], 0.3, 99.8, 0.22), "vacuum wavelength [Å]", UNIT,
        f"Spectrum, mean of {style.smooth} pixels" if style.smooth > 1 else "Spectrum",
    )  # fmt: skip
    panel.span(3800, 5000, "#f3f4f8")
    if style.sky and "sky" in pixels:
        sky = smoothed(pixels["sky"], (pixels["ivar"] > 0).astype(float), style.smooth)
        panel.line(
            wave, sky / max(np.nanmax(sky[inside], initial=1e-9), 1e-9) * panel.ylim[1] * 0.5, SKY, 0.7
        )
    panel.line(wave, flux, GREY, 0.8)
    if style.error:
        sigma = np.where(
            pixels["ivar"] > 0, 1 / np.sqrt(np.where(pixels["ivar"] > 0, pixels["ivar"], 1)), np.nan
        )
        panel.line(wave, sigma / np.sqrt(max(style.smooth, 1)), ERROR, 0.7)
    if "model" in pixels:
        panel.line(wave, np.where(pixels["ivar"] > 0, pixels["model"], np.nan), BLUE, 1.1)
    _marks(panel, about, hit)
    return panel


def _marks(panel: Panel, about: dict[str, Any], hit: float | None) -> None:
    if about.get("z_lens") is not None:
        for k, (name, rest) in enumerate(LENS_LINES.items()):
            panel.mark(rest * (1 + about["z_lens"]), name, BLUE, row=k % 2)
    if hit:
        for name, rest in SOURCE_LINES.items():
            panel.mark(rest * hit / LYA_ANGSTROM, name, RED, row=2, dash="5 2")


def _window(
    wave: Array, pixels: dict[str, Array], about: dict[str, Any], style: SpectrumStyle, hit: float
) -> Panel:
    """The search window, or 300 Angstrom on each side of a hit outside it."""
    xlim = (3800.0, 5000.0) if 3800 <= hit <= 5000 else (hit - 300, hit + 300)
    inside = (wave >= xlim[0]) & (wave <= xlim[1])
    flux = smoothed(pixels["flux"], pixels["ivar"], min(style.smooth, 3))
    near = flux[np.abs(wave - hit) < 12]
    peak = np.nanmax(near, initial=0.0) if np.isfinite(near).any() else 1.0
    low, high = _limits(flux[inside], 1, 99, 0.2)
    panel = Panel(
        52, 268, 560, 190, xlim, (low, max(high, 1.2 * peak)), "vacuum wavelength [Å]", UNIT, "Search window"
    )
    panel.line(wave[inside], flux[inside], GREY, 0.8, step=True)
    if "model" in pixels:
        panel.line(wave[inside], pixels["model"][inside], BLUE, 1.1)
    if about.get("z_lens") is not None:
        for name, rest in LENS_LINES.items():
            panel.mark(rest * (1 + about["z_lens"]), name, BLUE, row=1)
    panel.mark(hit, "hit", RED, dash="5 2")
    return panel


def _line(wave: Array, pixels: dict[str, Array], about: dict[str, Any], hit: float) -> Panel:
    """The line with its errors and the skew-normal fitted to it."""
    half = 30.0
    near = np.abs(wave - hit) < half
    good = pixels["ivar"] > 0
    flux = np.where(good, pixels["flux"], np.nan)[near]
    error = np.where(good, 1 / np.sqrt(np.where(good, pixels["ivar"], 1.0)), np.nan)[near]
    low, high = _limits(flux, 0, 100, 0.3)
    panel = Panel(
        668,
        268,
        WIDTH - 678,
        190,
        (hit - half, hit + half),
        (low, high),
        "vacuum wavelength [Å]",
        "",
        "The hit",
    )
    panel.errors(wave[near], flux, error, GREY)
    if about.get("line_flux") is not None and about.get("sigma"):
        fine = np.linspace(hit - half, hit + half, 241)
        profile = skew_normal(
            fine, np.array(about["wave"]), np.array(about["sigma"]), np.array(about["skewness"])
        )
        constant = about.get("constant") or 0.0
        panel.line(fine, about["line_flux"] * profile + constant, RED, 1.6)
        panel.line([hit - half, hit + half], [constant, constant], RED, 0.7, dash="4 3")
        panel.note(
            f"flux {about['line_flux']:.1f} ± {about.get('line_flux_err') or 0:.1f} [1e-17 erg/s/cm²]\n"
            f"skewness {about['skewness']:.1f} ± {about.get('skewness_err') or 0:.1f}\n"
            f"z if Lyα {hit / LYA_ANGSTROM - 1:.4f}",
            RED,
        )
    else:
        panel.note(f"not fitted\nz if Lyα {hit / LYA_ANGSTROM - 1:.4f}")
    return panel


def _oii(wave: Array, pixels: dict[str, Array], about: dict[str, Any], hit: float) -> list[Panel]:
    """A panel for each line that [OII] would bring along."""
    z = about["z_oii"] if about.get("z_oii") is not None else hit / OII_LINES["[OII] 3728"] - 1
    flux = smoothed(pixels["flux"], pixels["ivar"], 3)
    wide = (WIDTH - 62 - 4 * 30) / 5
    out = []
    for k, (name, rest) in enumerate(OII_LINES.items()):
        at = rest * (1 + z)
        near = np.abs(wave - at) < 60
        seen = near.any() and np.isfinite(flux[near]).any()
        limits = _limits(flux[near], 1, 99.7, 0.3) if seen else (-1.0, 1.0)
        panel = Panel(
            52 + k * (wide + 30),
            522,
            wide,
            140,
            (at - 60, at + 60),
            limits,
            "",
            "",
            f"If [OII], z {z:.4f}: {name}",
        )
        if seen:
            panel.line(wave[near], flux[near], GREY, 0.8, step=True)
            if "model" in pixels:
                panel.line(wave[near], pixels["model"][near], BLUE, 1.0)
        else:
            panel.note("outside the spectrum")
        panel.mark(at, "", GREEN, dash="5 2")
        out.append(panel)
    return out
