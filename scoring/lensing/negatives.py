"""Ordinary survey sources that a search has to turn down, harder than a toy: painted by the lenses' renderer.

Central galaxies are those of the lens population without a source behind them, so neither magnitude, colour,
size nor neighbours of a lens galaxy tell it from the rest; arcs have to be told from spiral arms, rings,
satellites and tidal features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from schema.errors import UserError
from scoring.lensing.canvas import Canvas, arc, polar, ring, spiral_arms
from scoring.lensing.environment import paint_environment
from scoring.lensing.galaxies import BLUE_G_R, BLUE_R_I, BLUE_Z, Dice, Light, field_galaxies, interpolate
from scoring.lensing.population import draw_lens_galaxies
from scoring.light.instruments import HSC_WIDE, Instrument

FRACTIONS = {
    "elliptical": 0.16, "bulge_disc": 0.12, "spiral": 0.20, "edge_on": 0.09, "ring": 0.05, "satellites": 0.11,
    "merger": 0.07, "tidal": 0.05, "blend": 0.06, "star": 0.05, "artefact": 0.02, "empty": 0.02,
}  # fmt: skip
"""Share of each kind: broad guesses that favour what mimics arcs, not survey counts."""
SURVEY_FRACTIONS = {
    "elliptical": 0.20, "bulge_disc": 0.28, "spiral": 0.27, "edge_on": 0.12, "ring": 0.005,
    "satellites": 0.02, "merger": 0.03, "tidal": 0.01, "blend": 0.02, "star": 0.03, "artefact": 0.01,
    "empty": 0.005,
}  # fmt: skip
"""Share of each kind nearer to what a survey lists: discs outnumber early types, mergers are a few per cent,
ring galaxies far fewer. Round numbers of ours; neighbours where arcs would be come with the surroundings."""
NEGATIVE_KINDS = tuple(FRACTIONS)


@dataclass(frozen=True)
class _Stamps:
    """The stamps of one kind: their rows, and the galaxy of each, off the middle by half a pixel at most."""

    row: Tensor
    x: Tensor
    y: Tensor
    light: Light

    def __len__(self) -> int:
        return len(self.row)


def render_nonlenses(
    n: int,
    instrument: Instrument = HSC_WIDE,
    npix: int = 64,
    generator: torch.Generator | None = None,
    *,
    fractions: dict[str, float] | None = None,
    psf: Tensor | None = None,
    galaxies: Light | None = None,
) -> tuple[Tensor, Tensor]:
    """Noiseless images of n sources that are no lenses, neighbours included.

    Parameters
    ----------
    n : how many
    instrument, npix, psf : as in `scoring.lensing.scene.render`
    generator : the only source of chance; images are made on its device
    fractions : share of each kind; `FRACTIONS` by default
    galaxies : the n galaxies in the middle; drawn from the lens population by default

    Returns
    -------
    images : Tensor, shape (n, bands, npix, npix)  counts; cosmic rays and trails are in them
    kind : Tensor, shape (n,)  index into `NEGATIVE_KINDS`
    """
    shares = FRACTIONS if fractions is None else fractions
    unknown = set(shares) - set(FRACTIONS)
    if unknown or not shares or min(shares.values()) < 0 or sum(shares.values()) <= 0:
        raise UserError(f"fractions {shares}: allowed are shares from 0 of {', '.join(FRACTIONS)}")
    dice = Dice(generator or torch.Generator().manual_seed(0))
    canvas = Canvas(n, instrument, npix, dice.device)
    edges = torch.tensor([shares.get(name, 0.0) for name in FRACTIONS], device=dice.device).cumsum(0)
    kind = torch.searchsorted(edges, dice.uniform(n) * edges[-1], right=True).clamp_max(len(FRACTIONS) - 1)
    paint_environment(canvas, n, dice)
    galaxies = draw_lens_galaxies(n, dice, instrument) if galaxies is None else galaxies
    half = canvas.scale / 2
    x, y = dice.uniform(n, -half, half), dice.uniform(n, -half, half)
    for index, name in enumerate(FRACTIONS):
        row = (kind == index).nonzero()[:, 0]
        if len(row):
            PAINTERS[name](canvas, _Stamps(row, x[row], y[row], galaxies.take(row)), dice)
    images = canvas.convolved(psf)
    _artefacts(images, (kind == NEGATIVE_KINDS.index("artefact")).nonzero()[:, 0], dice)
    return images, kind


def _blue(light: Light, dice: Dice) -> Light:
    """The galaxies with the colours of star formation at their redshift."""
    n = len(light.z)
    return light._replace(
        g_r=interpolate(light.z, BLUE_Z, BLUE_G_R) + dice.normal(n, 0.0, 0.15),
        r_i=interpolate(light.z, BLUE_Z, BLUE_R_I) + dice.normal(n, 0.0, 0.10),
    )


def _share(light: Light, fraction: Tensor) -> Light:
    """The galaxies with a fraction of their flux."""
    return light._replace(mag_i=light.mag_i - 2.5 * torch.log10(fraction))


def _elliptical(canvas: Canvas, at: _Stamps, dice: Dice) -> None:
    canvas.galaxies(at.row, at.x, at.y, at.light)


def _disc_and_bulge(canvas: Canvas, at: _Stamps, dice: Dice, bulge: Tensor, q: Tensor) -> Light:
    """A small red bulge of the given share of light; returns the blue disc, still to be painted."""
    n = len(at)
    core = _share(at.light, bulge)._replace(
        r_eff=at.light.r_eff * dice.uniform(n, 0.2, 0.5), n=dice.uniform(n, 1.5, 4)
    )
    canvas.galaxies(at.row, at.x, at.y, core)
    disc = _blue(_share(at.light, 1 - bulge), dice)
    return disc._replace(r_eff=at.light.r_eff * dice.uniform(n, 0.8, 2.0), n=torch.ones_like(q), q=q)


def _bulge_disc(canvas: Canvas, at: _Stamps, dice: Dice) -> None:
    n = len(at)
    disc = _disc_and_bulge(canvas, at, dice, dice.uniform(n, 0.2, 0.8), dice.uniform(n, 0.3, 1.0))
    canvas.galaxies(at.row, at.x, at.y, disc)


def _edge_on(canvas: Canvas, at: _Stamps, dice: Dice) -> None:
    n = len(at)
    disc = _disc_and_bulge(canvas, at, dice, dice.uniform(n, 0.05, 0.4), dice.uniform(n, 0.08, 0.25))
    canvas.galaxies(at.row, at.x, at.y, disc)


def _spiral(canvas: Canvas, at: _Stamps, dice: Dice) -> None:
    n = len(at)
    q, arms = dice.uniform(n, 0.35, 1.0), dice.uniform(n, 0.3, 0.8)
    disc = _disc_and_bulge(canvas, at, dice, dice.uniform(n, 0.05, 0.4), q)
    disc = disc._replace(r_eff=(disc.r_eff * dice.uniform(n, 1.0, 2.0)).clamp(0.5, 6.0))
    canvas.galaxies(at.row, at.x, at.y, _share(disc, 1 - arms))
    radius, angle = polar(canvas, at.x, at.y, q, disc.phi)
    number = torch.where(dice.below(n, 0.7), 2.0, torch.where(dice.below(n, 0.5), 3.0, 4.0))
    pitch = dice.uniform(n, 0.15, 0.55) * torch.where(dice.below(n, 0.5), 1.0, -1.0)
    wave = spiral_arms(radius, angle, disc.r_eff / 1.1, number, pitch, dice.uniform(n, 0.0, 2 * math.pi))
    canvas.pattern(at.row, wave, _share(disc, arms)._replace(g_r=disc.g_r - 0.15).mags(canvas.instrument))


def _ring(canvas: Canvas, at: _Stamps, dice: Dice) -> None:
    n = len(at)
    part, q = dice.uniform(n, 0.1, 0.5), dice.uniform(n, 0.5, 1.0)
    canvas.galaxies(at.row, at.x, at.y, _share(at.light, 1 - part))
    radius, _ = polar(canvas, at.x, at.y, q, at.light.phi)
    size = dice.uniform(n, 0.8, 2.8)
    glow = ring(radius, size, size * dice.uniform(n, 0.12, 0.35))
    canvas.pattern(at.row, glow, _blue(_share(at.light, part), dice).mags(canvas.instrument))


def _satellites(canvas: Canvas, at: _Stamps, dice: Dice) -> None:
    """A red galaxy with one to four small blue ones where images of a source would be."""
    canvas.galaxies(at.row, at.x, at.y, at.light)
    n = len(at)
    count = torch.where(
        dice.below(n, 0.4), 1, torch.where(dice.below(n, 0.6), 2, torch.where(dice.below(n, 0.6), 3, 4))
    )
    which = torch.arange(n, device=dice.device).repeat_interleave(count)
    m = len(which)
    small = field_galaxies(m, dice, 21.0, 25.0)
    r, a = dice.uniform(m, 0.6, 2.8), dice.uniform(m, 0.0, 2 * math.pi)
    tangential = dice.below(m, 0.4)  # some lie along the circle as arcs do
    small = small._replace(phi=torch.where(tangential, a + math.pi / 2, small.phi))
    canvas.galaxies(at.row[which], at.x[which] + r * torch.cos(a), at.y[which] + r * torch.sin(a), small)


def _merger(canvas: Canvas, at: _Stamps, dice: Dice) -> None:
    """Two galaxies of like brightness in contact, with a tail."""
    n = len(at)
    canvas.galaxies(at.row, at.x, at.y, _share(at.light, torch.full_like(at.x, 0.55)))
    other = _share(at.light, dice.uniform(n, 0.1, 0.5))
    other = other._replace(
        q=dice.uniform(n, 0.3, 1.0), phi=dice.angle(n), r_eff=other.r_eff * dice.uniform(n, 0.4, 1.0)
    )
    blue = dice.below(n, 0.5)
    starry = _blue(other, dice)
    other = other._replace(
        g_r=torch.where(blue, starry.g_r, other.g_r), r_i=torch.where(blue, starry.r_i, other.r_i)
    )
    r, a = dice.uniform(n, 0.6, 3.0), dice.uniform(n, 0.0, 2 * math.pi)
    canvas.galaxies(at.row, at.x + r * torch.cos(a), at.y + r * torch.sin(a), other)
    _arcs(canvas, at, dice, dice.uniform(n, 0.02, 0.12), other)


def _tidal(canvas: Canvas, at: _Stamps, dice: Dice) -> None:
    """A red galaxy with one or two shells of its own colour."""
    canvas.galaxies(at.row, at.x, at.y, at.light)
    for _ in range(2):
        _arcs(canvas, at, dice, dice.uniform(len(at), 0.01, 0.08), at.light)


def _arcs(canvas: Canvas, at: _Stamps, dice: Dice, part: Tensor, colour: Light) -> None:
    """A faint arc about every galaxy, with a share of its light and the colours given."""
    n = len(at)
    radius, angle = polar(canvas, at.x, at.y, dice.uniform(n, 0.6, 1.0), dice.uniform(n, 0.0, 2 * math.pi))
    size = dice.uniform(n, 1.0, 4.0)
    glow = arc(radius, angle, size, dice.uniform(n, 0.15, 0.6), dice.uniform(n, 0.2, 1.0))
    light = _share(at.light, part)._replace(g_r=colour.g_r, r_i=colour.r_i)
    canvas.pattern(at.row, glow, light.mags(canvas.instrument))


def _blend(canvas: Canvas, at: _Stamps, dice: Dice) -> None:
    """Three ordinary galaxies that happen to lie on one another."""
    for spread in (0.3, 1.5, 2.5):
        n = len(at)
        dx, dy = dice.disc(n)
        canvas.galaxies(at.row, at.x + spread * dx, at.y + spread * dy, field_galaxies(n, dice, 19.0, 23.0))


def _star(canvas: Canvas, at: _Stamps, dice: Dice) -> None:
    """A point, and for the bright ones the diffraction spikes of the spider."""
    n = len(at)
    mag, colour = dice.uniform(n, 16.5, 22.0), dice.uniform(n, 0.2, 1.5)
    one = torch.ones_like(mag)
    star = Light(mag, colour, 0.4 * colour, one * canvas.scale * 0.2, one * 0.5, one, one * 0, one * 0)
    canvas.galaxies(at.row, at.x, at.y, star)
    spiky = (mag < 19.0).nonzero()[:, 0]
    if len(spiky):
        gx, gy = canvas.grid
        dx, dy = gx - at.x[spiky][:, None, None], gy - at.y[spiky][:, None, None]
        turn = math.pi / 4
        u, v = (dx + dy) * math.cos(turn), (dy - dx) * math.sin(turn)
        width, reach = 0.6 * canvas.scale, dice.uniform(len(spiky), 0.8, 2.5)[:, None, None]
        line = [torch.exp(-0.5 * (b / width) ** 2 - a.abs() / reach) for a, b in ((u, v), (v, u))]
        bright = _share(star.take(spiky), dice.uniform(len(spiky), 0.01, 0.05))
        canvas.pattern(at.row[spiky], line[0] + line[1], bright.mags(canvas.instrument))


def _empty(canvas: Canvas, at: _Stamps, dice: Dice) -> None:
    """Nothing but the neighbours."""


def _artefacts(images: Tensor, row: Tensor, dice: Dice) -> None:
    """Draw a cosmic ray or a trail across stamps; not blurred by the PSF, in one band or in all."""
    n, bands, side = len(row), images.shape[1], images.shape[-1]
    if not n:
        return
    at = torch.arange(side, device=images.device, dtype=images.dtype) - (side - 1) / 2
    a = dice.angle(n)
    c, s = torch.cos(a)[:, None, None], torch.sin(a)[:, None, None]
    across = c * at[:, None] - s * at + dice.uniform(n, -0.3, 0.3)[:, None, None] * side
    along = c * at + s * at[:, None]
    long = dice.below(n, 0.4)[:, None, None]
    width = torch.where(long, 1.5, 0.5)
    length = torch.where(long, 10.0 * side, dice.uniform(n, 3.0, 12.0)[:, None, None])
    line = torch.exp(-0.5 * (across / width) ** 2) * (along.abs() < length)
    peak = images[row].amax((2, 3)).clamp_min(1e-3) * 10 ** dice.uniform(n, -1.0, 0.7)[:, None]
    only = torch.randint(bands, (n, 1), generator=dice.generator, device=images.device)
    hit = dice.below(n, 0.5)[:, None] | (torch.arange(bands, device=images.device) == only)
    images.index_add_(0, row, (peak * hit)[:, :, None, None] * line[:, None])


PAINTERS: dict[str, Callable[[Canvas, _Stamps, Dice], None]] = {
    "elliptical": _elliptical, "bulge_disc": _bulge_disc, "spiral": _spiral, "edge_on": _edge_on,
    "ring": _ring,
    "satellites": _satellites, "merger": _merger, "tidal": _tidal, "blend": _blend, "star": _star,
    "artefact": _elliptical, "empty": _empty,
}  # fmt: skip
