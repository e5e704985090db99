"""Populations of lenses: a realistic one to train on, and the thesis's grid for selection functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from schema.errors import UserError
from scoring.lensing.cosmology import behind, sis_einstein_radius, sis_radius
from scoring.lensing.galaxies import Z_LENS_RANGE, Dice, Light, draw_deflectors, draw_field, early_types
from scoring.lensing.scene import LensScene
from scoring.light.instruments import HSC_WIDE, Instrument
from scoring.light.sersic import sersic

MIN_SNR = 20.0
MIN_MAGNIFICATION = 3.0
SHEAR_SIGMA = 0.04
LENS_RESIDUAL = 0.02
MIN_SEPARATION = 1.2
"""Smallest Einstein radius over the best seeing; Collett's condition lets through blends that no one sees."""
MAX_ROUNDS = 400


class Population(NamedTuple):
    """Drawn lenses: the scene, and redshifts of lens and source, shape (n,); NaN where a prior has none."""

    scene: LensScene
    z_lens: Tensor
    z_source: Tensor


def draw_population(
    n: int, generator: torch.Generator, kind: str = "collett2015", instrument: Instrument = HSC_WIDE
) -> Population:
    """Draw n lenses from a documented prior (docs/simulator.md).

    Parameters
    ----------
    n : how many
    generator : the only source of chance; tensors are made on its device
    kind : ``collett2015`` or ``thesis_grid``
    instrument : gives the bands; for ``collett2015`` also the seeing and depth at which arcs must be seen

    Raises
    ------
    UserError  an unknown `kind`, or an instrument too shallow to show any lens of the prior
    """
    if kind not in KINDS:
        raise UserError(f"unknown population {kind!r}: known are {', '.join(KINDS)}")
    if n < 0:
        raise UserError(f"n = {n}: allowed are whole numbers from 0")
    return KINDS[kind](n, Dice(generator), instrument)


def _arc_snr(
    lens: Light, source: Light, theta_e: Tensor, magnification: Tensor, instrument: Instrument
) -> Tensor:
    """Signal to noise of the arcs in the best band, over the area they cover blurred by the seeing.

    Noise: of the sky, of the lens's photons at the Einstein radius, and `LENS_RESIDUAL` of its light there.
    """
    pixel = instrument.pixel_scale_arcsec**2
    lens_mags, mags = lens.mags(instrument), source.mags(instrument)
    zero = torch.zeros_like(theta_e)
    here = sersic(theta_e, zero, lens.r_eff, lens.n, torch.ones_like(zero), zero, zero, zero) * pixel
    best = zero
    for k, sigma in enumerate(instrument.background_sigma().tolist()):
        unit = [10 ** (-0.4 * (m[:, k] - instrument.zero_point[k])) for m in (mags, lens_mags)]
        glow = unit[1] * here  # lens light in a pixel on the arc
        blur = 0.25 * math.pi * instrument.psf_fwhm_arcsec[k] ** 2
        pixels = (math.pi * source.r_eff**2 * magnification + 2 * blur) / pixel
        noise = torch.sqrt(pixels * (sigma**2 + glow / instrument.gain[k])) + LENS_RESIDUAL * glow * pixels
        best = torch.maximum(best, 0.5 * magnification * unit[0] / noise)
    return best


class _Seen(NamedTuple):
    """Lenses that a survey would see: the deflector and the source behind it."""

    theta_e: Tensor
    x: Tensor
    y: Tensor
    lens: Light
    source: Light


def _draw_seen(n: int, dice: Dice, instrument: Instrument) -> _Seen:
    """Early types with the sources behind them, kept where the arcs would be seen (Collett 2015, sec. 4)."""
    seeing = min(instrument.psf_fwhm_arcsec)
    kept: list[tuple[Tensor, ...]] = []
    have, batch = 0, max(8192, 64 * n)
    far = torch.full((1,), 20.0, dtype=torch.float64)
    unit = sis_einstein_radius(torch.ones_like(far), 0 * far + Z_LENS_RANGE[0], far).item()
    low = math.sqrt(MIN_SEPARATION * seeing / unit)  # below it no Einstein radius is large enough
    for _ in range(MAX_ROUNDS):
        sigma, z = draw_deflectors(batch, dice, low)
        field = draw_field(batch, dice)
        ratio = behind(z, field.z)  # D_ls / D_s
        theta_e = sis_radius(sigma, ratio)
        bx, by = dice.disc(batch)  # even inside the Einstein radius: condition (1), multiply imaged
        seen = dice.below(batch, ratio**2)  # the rest of the cross-section, sigma^4 being drawn already
        seen &= theta_e > MIN_SEPARATION * seeing
        index = seen.nonzero()[:, 0]
        sigma, z, theta_e, bx, by = (value[index] for value in (sigma, z, theta_e, bx, by))
        field = field.take(index)
        r_eff = field.r_eff()
        beta2 = (bx**2 + by**2) * theta_e**2
        magnification = 2 * theta_e / torch.sqrt(beta2 + 0.5 * r_eff**2 + 1e-12)
        seen = theta_e**2 > r_eff**2 + (seeing / 2) ** 2  # (2), images apart
        seen &= (magnification * r_eff > seeing) & (magnification > MIN_MAGNIFICATION)  # (3), an arc
        index = seen.nonzero()[:, 0]
        lens, source = early_types(sigma[index], z[index], dice), field.take(index).light()
        x, y, theta_e = bx[index] * theta_e[index], by[index] * theta_e[index], theta_e[index]
        bright = _arc_snr(lens, source, theta_e, magnification[index], instrument) > MIN_SNR  # (4)
        kept.append(tuple(value[bright] for value in (theta_e, x, y, *lens, *source)))
        have += int(bright.sum())
        if have >= n:
            break
    else:
        raise UserError(
            f"{instrument.name} shows {have} of {n} lenses in {MAX_ROUNDS * batch} draws: is it too shallow?"
        )
    theta_e, x, y, *rest = (torch.cat(column)[:n] for column in zip(*kept, strict=True))
    half = len(rest) // 2
    return _Seen(theta_e, x, y, Light(*rest[:half]), Light(*rest[half:]))


def draw_lens_galaxies(n: int, dice: Dice, instrument: Instrument) -> Light:
    """Light of galaxies as those that lens in ``collett2015``, nothing behind them."""
    return _draw_seen(n, dice, instrument).lens


def _collett2015(n: int, dice: Dice, instrument: Instrument) -> Population:
    """Light for the deflectors; mass follows light as in SLACS (Koopmans et al. 2006, Bolton et al. 2008)."""
    seen = _draw_seen(n, dice, instrument)
    lens, source = seen.lens, seen.source
    shear = SHEAR_SIGMA * (-2 * torch.log(dice.uniform(n).clamp_min(1e-7))).sqrt().clamp_max(4.0)
    toward = dice.uniform(n, 0.0, 2 * math.pi)
    half = instrument.pixel_scale_arcsec / 2
    x, y = dice.uniform(n, -half, half), dice.uniform(n, -half, half)
    scene = LensScene(
        theta_e=seen.theta_e,
        lens_q=(lens.q + dice.normal(n, 0.0, 0.1)).clamp(0.3, 1.0),
        lens_phi=lens.phi + dice.normal(n, 0.0, 0.17),
        gamma1=shear * torch.cos(2 * toward), gamma2=shear * torch.sin(2 * toward),
        lens_r_eff=lens.r_eff, lens_n=lens.n, lens_light_q=lens.q, lens_light_phi=lens.phi,
        source_x=x + seen.x, source_y=y + seen.y,
        source_r_eff=source.r_eff, source_n=source.n, source_q=source.q, source_phi=source.phi,
        lens_mag=lens.mags(instrument), source_mag=source.mags(instrument), lens_x=x, lens_y=y,
    )  # fmt: skip
    return Population(scene, lens.z, source.z)


GRID = {
    "theta_e": (0.1, 6.0), "lens_g": (18.0, 27.0), "source_g": (18.0, 27.0), "lens_r_eff": (0.5, 6.0),
    "lens_n": (0.5, 6.0), "lens_ellipticity": (0.0, 0.6),
}  # fmt: skip
"""Ranges of Pourrahmani (2019), fig. 4.2; the ellipticity's, an axis of fig. 3.3, is not printed: ours."""


def _thesis_grid(n: int, dice: Dice, instrument: Instrument) -> Population:
    """The thesis's ranges, drawn evenly; what it holds fixed stays fixed. No redshifts."""
    draw = {name: dice.uniform(n, *ends) for name, ends in GRID.items()}
    five, full = math.radians(5.0), torch.ones(n, device=dice.device)
    offset = 0.17 * math.cos(math.radians(45.0))

    def colours(g: Tensor, r_over_g: float, i_over_g: float) -> Tensor:
        g_r, g_i = 2.5 * math.log10(r_over_g), 2.5 * math.log10(i_over_g)
        return Light(g - g_i, full * g_r, full * (g_i - g_r), g, g, g, g, g).mags(instrument)

    scene = LensScene(
        theta_e=draw["theta_e"], lens_q=full / 1.8, lens_phi=full * five, gamma1=full * 0, gamma2=full * 0,
        lens_r_eff=draw["lens_r_eff"], lens_n=draw["lens_n"], lens_light_q=1 - draw["lens_ellipticity"],
        lens_light_phi=full * five, source_x=full * offset, source_y=full * offset, source_r_eff=full * 6.0,
        source_n=full * 7.0, source_q=full * (1 - 0.35), source_phi=full * math.radians(-85.0),
        lens_mag=colours(draw["lens_g"], 5.5, 20.5), source_mag=colours(draw["source_g"], 1.6, 2.6),
    )  # fmt: skip
    return Population(scene, full * math.nan, full * math.nan)


KINDS: dict[str, Callable[[int, Dice, Instrument], Population]] = {
    "collett2015": _collett2015,
    "thesis_grid": _thesis_grid,
}
