"""Images to train on, drawn by the lens simulator: lenses, ordinary sources, and near misses.

A family is what one network is trained on: the instruments whose images it has to take. Seeing, depth and the
correlation of the noise vary from chunk to chunk, the object's place from image to image, for survey
images do too.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from schema.errors import UserError
from scoring.imaging.truth import observable, truth_of
from scoring.imaging.wide import widened
from scoring.lensing.cosmology import sis_einstein_radius
from scoring.lensing.environment import render_environment
from scoring.lensing.galaxies import Dice, Light, draw_deflectors, early_types, field_galaxies
from scoring.lensing.negatives import FRACTIONS, SURVEY_FRACTIONS, render_nonlenses
from scoring.lensing.scene import LensScene, render
from scoring.light.instruments import Instrument, get_instrument

CHUNK = 128
"""Images that share seeing, depth and noise."""
SLACK = 4
"""Pixels rendered more than kept, so that the object lies somewhere within 2 pixels of the middle."""


@dataclass(frozen=True)
class View:
    """One instrument of a family.

    Attributes
    ----------
    instrument : name, as in scoring.light.instruments
    npix : side of its images [px]
    share : of the family's images
    depth : (low, high)  change of the 5-sigma depth against the survey's [mag]
    seeing : (low, high)  factor on the width of the PSF
    correlated : chance that the noise of a chunk is correlated between neighbours, as drizzled images' is
    pixscale : width of a pixel where it is not the instrument's [arcsec]; networks of 0.1 arcsec would
        average over the smaller pixels of ACS anyway
    """

    instrument: str
    npix: int
    share: float = 1.0
    depth: tuple[float, float] = (-0.4, 0.4)
    seeing: tuple[float, float] = (0.85, 1.25)
    correlated: float = 0.3
    pixscale: float | None = None

    @property
    def pixel_scale_arcsec(self) -> float:
        """Width of a pixel [arcsec]."""
        return self.pixscale or get_instrument(self.instrument).pixel_scale_arcsec


FAMILIES: dict[str, tuple[View, ...]] = {
    "space": (
        View("euclid", 64, 0.55, depth=(-0.6, 0.6), seeing=(0.85, 1.3), correlated=0.4),
        View("acs50", 64, 0.45, depth=(-0.8, 0.5), seeing=(1.0, 1.6), correlated=0.5, pixscale=0.1),
    ),
    "hsc": (View("hsc", 64, 1.0, depth=(-0.5, 0.5), seeing=(0.85, 1.25), correlated=0.3),),
}
"""What the shipped networks are trained on: VIS and ACS for the one-band ones, HSC g, r, i for the others."""


@dataclass(frozen=True)
class Mix:
    """What is drawn.

    Attributes
    ----------
    near_lenses : share of lenses beyond redshift 0.35 that are left out (of the bare and beside ones too),
        since the galaxies of targeted observations are near
    bright_arcs : share of lenses with a brighter source, as those that are found first
    brighter : by up to this, evenly drawn [mag]
    field_galaxies : share of ordinary sources made of field galaxies instead of galaxies as the lenses'
    min_snr : signal to noise of the arcs below which a lens is not shown
    min_theta : least Einstein radius [arcsec]
    full_theta : Einstein radius from which all lenses are shown; below it a share in proportion, since
        narrow lenses are the most and the least told from one galaxy [arcsec]
    full_z : redshift of the lens, likewise
    fainter : galaxies are fainter than Collett's by up to this, evenly drawn [mag]; known HSC lenses have
        i of 19 to 20.5 (Sonnenfeld et al. 2018), his brightest galaxies 17
    wide : share of lenses that keep to no relation of mass, light and source (`scoring.imaging.wide.widened`)
    observable : whether lenses are kept only where Collett counts them as observable (`observable`)
    survey : whether ordinary sources come in the shares of a survey (`SURVEY_FRACTIONS`) instead of with many
        that mimic arcs (`FRACTIONS`)
    """

    near_lenses: float = 0.6
    bright_arcs: float = 0.5
    brighter: float = 2.0
    field_galaxies: float = 0.3
    min_snr: float = 15.0
    min_theta: float = 0.4
    full_theta: float = 1.0
    full_z: float = 0.01
    fainter: float = 0.0
    wide: float = 0.0
    observable: bool = False
    survey: bool = False


MIXES: dict[str, Mix] = {
    "space": Mix(),
    "hsc": Mix(
        near_lenses=0.0, bright_arcs=0.8, min_snr=30.0, min_theta=0.8, full_theta=1.6, full_z=0.8, fainter=2.0
    ),
}
"""What is drawn for each family."""

LEARN: dict[str, Mix] = {
    name: replace(mix, bright_arcs=0.6, brighter=3.0, wide=0.25) for name, mix in MIXES.items()
}
"""What networks learn from: more arcs that are easy to see, from which learning starts, and lenses unlike
Collett's."""

NEAR_Z = 0.35
MODEL_ERROR = 0.05

KINDS = ("lens", "ordinary", "bare", "beside")
"""Lens; survey source; a lens's galaxy without arcs; the same with an unlensed source beside it."""


def family(name: str) -> tuple[View, ...]:
    """Views of a family by name; `UserError` lists the names."""
    if name not in FAMILIES:
        raise UserError(
            f"no family of simulated images is called {name!r}; choose from {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[name]


def describe(name: str, mix: Mix | None = None) -> dict[str, Any]:
    """The recipe as plain values, for cards."""
    return {
        "family": name,
        "views": [
            asdict(view) | {"depth_5sigma": get_instrument(view.instrument).depth_5sigma}
            for view in family(name)
        ],
        "mix": asdict(mix or MIXES[name]),
    }


def stream(*key: int) -> torch.Generator:
    """Generator of one chunk of one set: every number of the key counts.

    A CPU generator uses the low 32 bits of its seed alone, so the key is hashed into them.
    """
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


def vary(view: View, generator: torch.Generator) -> Instrument:
    """The view's instrument on one night: another seeing and depth."""
    base = get_instrument(view.instrument)
    u = torch.rand(2, generator=generator).tolist()
    deeper = view.depth[0] + (view.depth[1] - view.depth[0]) * u[0]
    wider = view.seeing[0] + (view.seeing[1] - view.seeing[0]) * u[1]
    return replace(
        base,
        pixel_scale_arcsec=view.pixel_scale_arcsec,
        depth_5sigma=tuple(d + deeper for d in base.depth_5sigma),
        psf_fwhm_arcsec=tuple(f * wider for f in base.psf_fwhm_arcsec),
        gain=tuple(
            g * 10 ** (0.8 * deeper) for g in base.gain
        ),  # exposure goes as the noise's inverse square
    )


class Drawn(NamedTuple):
    """Lenses whose arcs can be seen, and their light apart, each of shape (n, bands, npix, npix) in counts.

    `truth` holds the columns of `TRUTH`, shape (n, 6).
    """

    scene: LensScene
    lens: Tensor
    arcs: Tensor
    truth: Tensor


def draw_scene(n: int, instrument: Instrument, npix: int, dice: Dice, mix: Mix) -> tuple[LensScene, Light]:
    """Up to 8 n lenses of Collett's (2015) galaxies, before anything is asked of their arcs but their place.

    His deflectors, sources and densities; the Einstein radius is at least `mix.min_theta` and 0.8 of the
    seeing, and 0.35 of the stamp at most. Mass follows light as in SLACS (Koopmans et al. 2006, ApJ 649,
    599).
    """
    seeing, side = min(instrument.psf_fwhm_arcsec), npix * instrument.pixel_scale_arcsec
    m = 192 * n
    sigma, z = draw_deflectors(m, dice)
    source = field_galaxies(m, dice, 20.5, 27.0)
    theta_e = sis_einstein_radius(sigma, z, source.z)
    behind = theta_e / sis_einstein_radius(sigma, torch.zeros_like(z), source.z)
    seen = dice.below(m, behind**2) & (theta_e > max(0.8 * seeing, mix.min_theta)) & (theta_e < 0.35 * side)
    seen &= dice.below(m, theta_e / mix.full_theta) & dice.below(m, z / mix.full_z)
    seen &= dice.below(m, torch.where(z < NEAR_Z, 1.0, 1.0 - mix.near_lenses))
    bx, by = dice.disc(m)
    magnification = 2 / torch.sqrt(bx**2 + by**2 + 0.5 * (source.r_eff / theta_e.clamp_min(1e-3)) ** 2 + 1e-6)
    boost = torch.where(dice.below(m, mix.bright_arcs), dice.uniform(m, 0.0, mix.brighter), torch.zeros(m))
    flux = magnification[:, None] * 10 ** (
        -0.4 * (source.mags(instrument) - torch.tensor(instrument.zero_point))
    )
    sky = instrument.background_sigma().float() * math.sqrt(40.0)  # no arc is sharper than some 40 pixels
    seen &= (flux * 10 ** (0.4 * boost[:, None]) / sky).amax(1) > mix.min_snr
    pick = seen.nonzero()[:, 0][: 8 * n]
    n, sigma, z, theta_e, bx, by, source = (
        len(pick),
        *(v[pick] for v in (sigma, z, theta_e, bx, by)),
        source.take(pick),
    )
    lens = early_types(sigma, z, dice)
    lens = lens._replace(mag_i=lens.mag_i + dice.uniform(n, 0.0, mix.fainter))
    if mix.wide:
        low, high = max(0.8 * seeing, mix.min_theta), 0.35 * side
        theta_e, bx, by, lens, source = widened(mix.wide, low, high, theta_e, bx, by, lens, source, dice)
    shear = (0.05 * dice.normal(n).abs()).clamp_max(0.2)
    toward, half = dice.uniform(n, 0.0, 2 * math.pi), instrument.pixel_scale_arcsec / 2
    x, y = dice.uniform(n, -half, half), dice.uniform(n, -half, half)
    scene = LensScene(
        theta_e=theta_e, lens_q=(lens.q + dice.normal(n, 0.0, 0.1)).clamp(0.3, 1.0),
        lens_phi=lens.phi + dice.normal(n, 0.0, 0.17), gamma1=shear * torch.cos(toward),
        gamma2=shear * torch.sin(toward), lens_r_eff=lens.r_eff, lens_n=lens.n, lens_light_q=lens.q,
        lens_light_phi=lens.phi, source_x=x + bx * theta_e, source_y=y + by * theta_e,
        source_r_eff=source.r_eff, source_n=source.n, source_q=source.q, source_phi=source.phi,
        lens_mag=lens.mags(instrument), source_mag=source.mags(instrument) - boost[pick][:, None],
        lens_x=x, lens_y=y,
    )  # fmt: skip
    return scene, lens


def draw_lenses(n: int, instrument: Instrument, npix: int, generator: torch.Generator, mix: Mix) -> Drawn:
    """Lenses whose arcs can be told from the galaxy.

    A twentieth of the galaxy's light in a pixel counts as noise beside the photons' and the sky's, since
    no smooth profile fits much better than that.
    """
    gain = torch.tensor(instrument.gain)[:, None, None]
    sigma = instrument.background_sigma().float()[:, None, None]
    kept: list[Drawn] = []
    have = 0
    while have < n:
        scene = draw_scene(n, instrument, npix, Dice(generator), mix)[0][: 2 * n]
        if not len(scene):
            continue
        lens: Tensor = render(scene, instrument, npix=npix, components="lens").float()
        arcs: Tensor = render(scene, instrument, npix=npix, components="source").float()
        variance = sigma**2 + (lens + arcs).clamp_min(0.0) / gain + (MODEL_ERROR * lens) ** 2
        seen = (arcs.square() / variance).sum((2, 3)).amax(1).sqrt() > mix.min_snr
        drawn = (scene[seen], lens[seen], arcs[seen])
        truth = truth_of(drawn[0], drawn[2], variance[seen], instrument)
        if mix.observable:
            could = observable(truth)
            drawn, truth = (drawn[0][could], drawn[1][could], drawn[2][could]), truth[could]
        kept.append(Drawn(*drawn, truth))
        have += len(truth)
    return Drawn(
        LensScene.cat([k.scene for k in kept])[:n],
        *(torch.cat(values)[:n] for values in zip(*(k[1:] for k in kept), strict=True)),
    )


def lens_chunk(
    n: int, instrument: Instrument, npix: int, generator: torch.Generator, mix: Mix
) -> tuple[dict[str, Tensor], Tensor]:
    """n lenses, and n images of their galaxies without lensing: half alone, half with a source beside them.

    The source beside a galaxy has the flux of its arcs and one to two times its own size, so neither
    brightness nor colour tells. All lie among neighbours of their own. Each Tensor is noiseless, (m,
    bands, npix, npix). Beside them the truth of the lenses, `TRUTH`.
    """
    drawn = draw_lenses(n, instrument, npix, generator, mix)
    half = n // 2
    scene = drawn.scene[slice(half, n)]
    m = len(scene)
    away = scene.theta_e * (0.8 + 0.9 * torch.rand(m, generator=generator))
    toward = 2 * math.pi * torch.rand(m, generator=generator)
    none = torch.zeros_like(scene.theta_e)
    scene = replace(
        scene,
        theta_e=none, gamma1=none, gamma2=none,
        source_x=scene.lens_x + away * torch.cos(toward), source_y=scene.lens_y + away * torch.sin(toward),
        source_r_eff=scene.source_r_eff * (1.0 + torch.rand(m, generator=generator)),
    )  # fmt: skip
    source: Tensor = render(scene, instrument, npix=npix, components="source").float()
    ratio = (drawn.arcs[half:].sum((2, 3)) / source.sum((2, 3)).clamp_min(1e-12)).clamp_max(50.0)
    images = {
        "lens": drawn.lens + drawn.arcs,
        "bare": drawn.lens[:half],
        "beside": drawn.lens[half:] + source * ratio[:, :, None, None],
    }
    among = {kind: x + render_environment(len(x), instrument, npix, generator) for kind, x in images.items()}
    return among, drawn.truth


def take_picture(images: Tensor, instrument: Instrument, view: View, generator: torch.Generator) -> Tensor:
    """Noisy images in units of the background's noise, each shifted by up to 2 pixels.

    images : Tensor, shape (n, bands, npix + 4, npix + 4)  noiseless counts
    """
    n, bands = images.shape[:2]
    gain = torch.tensor(instrument.gain)[:, None, None]
    sigma = instrument.background_sigma().float()[:, None, None]
    electrons = torch.poisson((images.float() * gain).clamp_min(0.0), generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    if float(torch.rand(1, generator=generator)) < view.correlated:
        noise = correlate(noise, 0.3 + 0.3 * float(torch.rand(1, generator=generator)))
    level = 0.3 * torch.randn((n, bands, 1, 1), generator=generator)  # what is left of the sky
    seen = electrons / gain / sigma + noise + level
    shift = torch.randint(0, SLACK + 1, (n, 2), generator=generator)
    npix = images.shape[-1] - SLACK
    rows = shift[:, :1] + torch.arange(npix)
    columns = shift[:, 1:] + torch.arange(npix)
    seen = seen.gather(2, rows[:, None, :, None].expand(n, bands, npix, npix + SLACK))
    return seen.gather(3, columns[:, None, None, :].expand(n, bands, npix, npix))


def correlate(noise: Tensor, sigma_px: float) -> Tensor:
    """Unit noise smoothed by a Gaussian of `sigma_px` pixels and brought back to unit noise."""
    at = torch.arange(-2, 3, dtype=noise.dtype)
    line = torch.exp(-0.5 * (at / sigma_px) ** 2)
    kernel = line[:, None] * line
    kernel = kernel / kernel.square().sum().sqrt()
    flat = torch.nn.functional.pad(noise.flatten(0, 1)[:, None], (2, 2, 2, 2), mode="circular")
    return torch.nn.functional.conv2d(flat, kernel[None, None]).reshape(noise.shape)


def lenses(n: int, view: View, mix: Mix, generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
    """Images of n lenses and n near misses by kind, and the truth of the lenses (`TRUTH`).

    The images have shape (m, bands, npix, npix), in units of the sky's noise.
    """
    instrument = vary(view, generator)
    made, truth = lens_chunk(n, instrument, view.npix + SLACK, generator, mix)
    return {kind: take_picture(x, instrument, view, generator) for kind, x in made.items()}, truth


def central_galaxies(n: int, instrument: Instrument, npix: int, dice: Dice, mix: Mix) -> Light:
    """n galaxies that ordinary sources are made of: a share like the lenses' own, the rest of the field."""
    made: list[Light] = []
    while sum(len(light.z) for light in made) < n:
        made.append(draw_scene(n, instrument, npix, dice, mix)[1])
    ours = Light(*(torch.cat(values)[:n] for values in zip(*made, strict=True)))
    theirs = field_galaxies(n, dice, 18.5, 23.5)
    field = dice.below(n, mix.field_galaxies)
    return Light(*(torch.where(field, b, a) for a, b in zip(ours, theirs, strict=True)))


def ordinary(n: int, view: View, mix: Mix, generator: torch.Generator) -> Tensor:
    """Images of n survey sources, (n, bands, npix, npix), in units of the sky's noise."""
    instrument, side = vary(view, generator), view.npix + SLACK
    galaxies = central_galaxies(n, instrument, side, Dice(generator), mix)
    shares = SURVEY_FRACTIONS if mix.survey else FRACTIONS
    images = render_nonlenses(n, instrument, side, generator, galaxies=galaxies, fractions=shares)[0]
    return take_picture(images, instrument, view, generator)
