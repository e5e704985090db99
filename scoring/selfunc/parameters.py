"""The parameters that a selection function is a function of: columns of injection_lens and injection."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schema.errors import UserError
from scoring.light.instruments import Instrument


@dataclass(frozen=True)
class Parameter:
    """One axis of a selection function.

    Attributes
    ----------
    name : str
        Column of injection_lens or of injection, or total_mag.
    label : str
        For plots, with the unit.
    lo, hi : float
        Ends of the measured range.
    reference : float
        Value while others vary.
    """

    name: str
    label: str
    lo: float = math.nan
    hi: float = math.nan
    reference: float = math.nan


THESIS = (
    Parameter("lens_mag", "lens magnitude BAND [mag]", 18.0, 27.0, 22.0),
    Parameter("arc_mag", "arc magnitude BAND [mag]", 18.0, 27.0, 21.0),
    Parameter("lens_r_eff_arcsec", r"lens $r_\mathrm{eff}$ [arcsec]", 0.5, 6.0, 1.0),
    Parameter("lens_sersic_n", "lens Sérsic $n$", 0.5, 6.0, 4.0),
    Parameter("theta_e_arcsec", r"Einstein radius $\theta_\mathrm{E}$ [arcsec]", 0.1, 6.0, 1.5),
    Parameter("lens_ellipticity", "lens ellipticity $1 - q$", 0.0, 0.6, 0.1),
)
"""Axes of figure 3.3 of Pourrahmani (2019) with the ranges of figure 4.2.

The thesis prints no range of the ellipticity beside its 0.10, and no values that the other five keep while
two of them vary: these are ours.
"""

REDSHIFTS = (Parameter("z_lens", "lens redshift"), Parameter("z_source", "source redshift"))

SPECTRAL = (
    Parameter("line_flux", r"line flux [$10^{-17}$ erg s$^{-1}$ cm$^{-2}$]"),
    Parameter("wave_angstrom", "observed wavelength [Å]"),
    Parameter("fwhm_km_s", "line width [km s$^{-1}$]"),
    Parameter("skewness", "line skewness"),
    *REDSHIFTS,
)
"""Axes for spectra, columns of table injection."""

IMAGING = (*THESIS, *REDSHIFTS)

TOTAL_MAG = Parameter("total_mag", "magnitude of lens and arcs BAND [mag]")
"""What a catalogue lists of a lens: the blend. Candidates have this magnitude, not the lens's own.

It is measured along a line alone: lens and arc magnitude fix it, and these have their planes.
"""

FIXED = {
    "lens_q": 1 / 1.8,
    "lens_phi_deg": 5.0,
    "lens_light_phi_deg": 5.0,
    "source_offset_arcsec": 0.17,
    "source_offset_angle_deg": 45.0,
    "source_r_eff_arcsec": 6.0,
    "source_sersic_n": 7.0,
    "source_ellipticity": 0.35,
    "source_phi_deg": -85.0,
}
"""What stays fixed: figure 4.2 as printed. The source is a cusp (n = 7) in a wide halo."""

LENS_FLUX_RATIO = {"g": 1.0, "r": 5.5, "i": 20.5}
SOURCE_FLUX_RATIO = {"g": 1.0, "r": 1.6, "i": 2.6}
"""Fluxes over those in g (figure 4.2)."""


def total_mag(lens_mag: NDArray[np.float64], arc_mag: NDArray[np.float64]) -> NDArray[np.float64]:
    """AB magnitude of lens and arcs together, shape (n,); NaN where one of them is not known.

    As scoring.inject writes it to phot_obj, also in bands that phot_obj has no column for.
    """
    per_mag = -0.4 * math.log(10)
    with np.errstate(invalid="ignore"):
        out: NDArray[np.float64] = np.logaddexp(per_mag * lens_mag, per_mag * arc_mag) / per_mag
    return out


def thesis_parameters(
    camera: Instrument, npix: int, fix: dict[str, float] | None = None
) -> tuple[tuple[Parameter, ...], dict[str, float]]:
    """The six axes for an instrument, and what stays fixed.

    Einstein and effective radii go no further than the stamp's half width, as in smaller stamps than those of
    HSC most of the thesis's range would lie outside.

    Raises
    ------
    UserError
        A name in `fix` that is neither an axis nor fixed, or a reference outside its axis.
    """
    half = 0.5 * npix * camera.pixel_scale_arcsec
    axes = []
    fixed = dict(FIXED)
    given = dict(fix or {})
    unknown = sorted(set(given) - set(FIXED) - {p.name for p in THESIS})
    if unknown:
        allowed = ", ".join([p.name for p in THESIS] + list(FIXED))
        raise UserError(f"--fix {unknown[0]}: no such parameter; there are {allowed}")
    for axis in THESIS:
        if axis.name.endswith("_arcsec") and axis.hi > 1.2 * half:
            shrink = half / axis.hi
            axis = replace(axis, hi=half, lo=axis.lo * shrink, reference=axis.reference * shrink)
        value = given.pop(axis.name, axis.reference)
        if not axis.lo <= value <= axis.hi:
            raise UserError(f"--fix {axis.name}={value:g}: allowed is {axis.lo:g} to {axis.hi:g}")
        axes.append(replace(axis, reference=value))
    fixed.update(given)
    return tuple(axes), fixed


def as_recipe(axes: tuple[Parameter, ...], fixed: dict[str, Any]) -> dict[str, Any]:
    """What the rows of a measurement keep of it."""
    return {"reference": {a.name: a.reference for a in axes}, "fixed": fixed}
