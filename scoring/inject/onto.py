"""``lensmine simulate lenses --onto``: arcs of drawn lenses on real cutouts, whose light and noise stay."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schema.engine import shard_root
from schema.errors import UserError
from schema.ids import hashed_id
from schema.image_shards import ImageShard
from scoring.inject.batch import Batch, generator, lens_columns
from scoring.inject.hosts import Host, HostGroup, column_of, find_hosts
from scoring.inject.orientation import follow
from scoring.inject.rows import existing, write_batch
from scoring.inject.setup import BATCH
from scoring.lensing.priors import Population, draw_population
from scoring.lensing.scene import LensScene, render
from scoring.light.instruments import Instrument
from scoring.selection import checked_selection

VERSION = "onto-2"


@dataclass
class Injected:
    """What a call wrote, and which cutouts it refused for which reason.

    `n_by_pixels` of the lenses have their mass along the light as the pixels show it: the catalogue knows
    its position angle, but nobody how the cutout lies on the sky.
    """

    tag: str
    n_lenses: int = 0
    n_existing: int = 0
    n_by_pixels: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def inject_onto(
    db: str | None,
    selection: str,
    *,
    prior: str = "collett2015",
    per_host: int = 1,
    limit: int | None = None,
    gain: float | None = None,
    zero_point: float | None = None,
    band: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Injected:
    """Put arcs on the cutouts of a selection, each a new target of survey ``sim`` at the host's position.

    The arcs are rendered at the cutout's pixel scale and zero points, convolved with its PSF, given photon
    noise of their own and added; the sum is normalised to a stamp anew, so that no model can tell an
    injection by its total light (Pourrahmani 2019, section 2.2). The mass follows the host's light where its
    shape is known, turned from the sky into the cutout's pixels. A host that has its arcs already is left
    alone. An injection is drawn, rendered and observed by itself, so that its name and its host alone fix it.

    Parameters
    ----------
    db : str or None
        Database.
    selection : str
        Selection of real targets with a cutout.
    prior : str
        Population that mass and source are drawn from.
    per_host : int
        Different injections a host.
    limit : int, optional
        Most hosts.
    gain : float, optional
        Electrons behind a count, where neither unit nor instrument tells.
    zero_point : float, optional
        AB magnitude of one count, where the cutout does not tell.
    band : str, optional
        Band of the magnitudes in injection_lens; i, else the reddest, unless given.
    seed : int
        Seed.
    progress : callable, optional
        Told how many injections are done, and how many there are.

    Raises
    ------
    UserError
        No cutout takes arcs, or a number is out of range.
    DataError
        A damaged shard.
    """
    if per_host < 1 or (limit is not None and limit < 1) or (gain is not None and not gain > 0):
        raise UserError(f"--per-host {per_host}, --limit {limit}, --gain {gain}: allowed are values above 0")
    draw_population(0, generator(seed), prior)  # refuses an unknown prior before anything is written
    chosen = checked_selection(db, selection)
    groups, refused = find_hosts(db, selection, gain, limit, zero_point)
    settings = (prior, band, gain, zero_point, chosen.where_sql)
    short = f"{hashed_id('recipe', VERSION, *settings) & 0xFFFFFF:06x}"
    tag = f"onto-{prior}-{chosen.name}-v{chosen.version}-s{seed}-{short}"
    have = existing(db, tag)
    done = Injected(tag, refused=refused)
    total = per_host * sum(len(g.hosts) for g in groups)
    made = 0
    for group in groups:
        jobs = [(host, _number(host, copy)) for host in group.hosts for copy in range(per_host)]
        todo = [job for job in jobs if job[1] not in have]
        done.n_existing += len(jobs) - len(todo)
        made += len(jobs) - len(todo)
        if todo and not _shows_any(group.camera, prior):
            refused["too_shallow"] += len(todo)
            made += len(todo)
            continue
        for first in range(0, len(todo), BATCH):
            part = todo[first : first + BATCH]
            _inject(db, group, part, prior, band, seed, done)
            made += len(part)
            if progress is not None:
                progress(made, total)
    return done


def _number(host: Host, copy: int) -> int:
    """Number of an injection: the same whatever else is selected."""
    return hashed_id("onto", host.target_id, copy) & (2**52 - 1)


def _shows_any(camera: Instrument, prior: str) -> bool:
    """Whether a camera shows any lens of a known prior: else every host of it would be tried at length."""
    try:
        draw_population(1, generator(hashed_id("shows", repr(camera))), prior, camera)
    except UserError:
        return False
    return True


@dataclass
class _Job:
    """One injection: its host, its number, its lens, and the rest of its chance."""

    host: Host
    number: int
    chance: torch.Generator
    drawn: Population


def _drawn(jobs: list[tuple[Host, int]], tag: str, camera: Instrument, prior: str) -> list[_Job]:
    """Injections with a lens, each of a chance of its own; those are left out for which none is seen."""
    out = []
    for host, number in jobs:
        chance = generator(hashed_id("onto", tag, number))
        try:
            out.append(_Job(host, number, chance, draw_population(1, chance, prior, camera)))
        except UserError:  # the prior is known, so the cutout is too shallow; others may be deeper
            continue
    return out


def _inject(
    db: str | None,
    group: HostGroup,
    wanted: list[tuple[Host, int]],
    prior: str,
    band: str | None,
    seed: int,
    done: Injected,
) -> None:
    """Write the injections of some hosts of a group."""
    camera = group.camera
    k = _band(camera, band)
    jobs = _drawn(wanted, done.tag, camera, prior)
    if len(jobs) < len(wanted):
        done.refused["too_shallow"] += len(wanted) - len(jobs)
    if not jobs:
        return
    hosts, n = [job.host for job in jobs], len(jobs)
    pixels = _read(db, hosts)
    drawn = LensScene.cat([job.drawn.scene for job in jobs])
    z_drawn = torch.cat([job.drawn.z_lens for job in jobs])
    z_source = torch.cat([job.drawn.z_source for job in jobs])
    scene, by_pixels = follow(drawn, hosts, pixels, camera.pixel_scale_arcsec)
    image, arc_mag, magnification, snr = add_arcs(
        pixels, scene, camera, group.psf, [job.chance for job in jobs]
    )
    host_mag = np.array([[_mag(host, b) for b in camera.bands] for host in hosts])  # (n, bands)
    truth = lens_columns(scene, camera.bands[k], k, arc_mag, magnification, snr) | {
        "lens_mag": host_mag[:, k],
        "lens_r_eff_arcsec": column_of(hosts, "r_eff_arcsec"),
        "lens_sersic_n": column_of(hosts, "sersic_n"),
        "lens_ellipticity": 1 - column_of(hosts, "axis_ratio"),
        "weight": np.ones(n),
    }
    batch = Batch(
        image,
        {
            "is_lens": [True] * n,
            "z_lens": _redshift(z_drawn, z_source, hosts),
            "z_source": z_source.double().numpy(),
            "recipe": [f"{VERSION}: {prior}, on {camera.name} cutouts"] * n,
            "seed": [seed] * n,
        },
        truth,
        _photometry(hosts, arc_mag, camera),
    )
    sigma = background(pixels)
    write_batch(
        db,
        done.tag,
        np.array([job.number for job in jobs], dtype=np.int64),
        batch,
        camera,
        cutouts={
            "unit": [group.unit] * n,
            "psf_path": [group.psf_path] * n,
            "noise": [dict(zip(camera.bands, s, strict=True)) for s in sigma.tolist()],
            "orientat_deg": [h.orientat_deg for h in hosts],
            "sky_parity": [h.sky_parity for h in hosts],
        },
        sky=(np.array([h.ra_deg for h in hosts]), np.array([h.dec_deg for h in hosts])),
        host_target_id=[h.target_id for h in hosts],
    )
    done.n_lenses += n
    done.n_by_pixels += int(by_pixels.sum())


def add_arcs(
    host: NDArray[np.float32],
    scene: LensScene,
    camera: Instrument,
    psf: Tensor,
    chances: Sequence[torch.Generator],
) -> tuple[NDArray[np.float32], Tensor, Tensor, Tensor]:
    """Host images with arcs and the arcs' photon noise; a pixel without a value stays so.

    The arcs of each are rendered alone: rounding depends on what is rendered together, and one photon more
    or less changes all that is drawn after it.

    Parameters
    ----------
    host : ndarray, shape (n, bands, ny, nx)  counts
    scene : LensScene of n lenses, whose own light is not drawn
    camera : Instrument  scale, zero points and gain of the cutouts
    psf : Tensor, shape (size, size)
    chances : sequence of n generators, sources of the photon noise

    Returns
    -------
    image : ndarray, shape (n, bands, ny, nx)
    arc_mag : Tensor, shape (n, bands)  AB magnitude of the arcs
    magnification : Tensor, shape (n,)
    arc_snr : Tensor, shape (n, bands)
    """
    ny, nx = host.shape[2:]
    side = max(ny, nx) + (max(ny, nx) - min(ny, nx)) % 2  # so that the middle of the square is the cutout's
    top, left = (side - ny) // 2, (side - nx) // 2
    gain = torch.tensor(camera.gain, dtype=scene.theta_e.dtype)[:, None, None]
    light, photons, truths = [], [], []
    for i, chance in enumerate(chances):
        one, truth = render(
            scene[i : i + 1], camera, npix=side, components="source", psf=psf, with_truth=True
        )
        one = one[:, :, top : top + ny, left : left + nx].clamp_min(0.0)
        light.append(one)
        photons.append(torch.poisson(one * gain, generator=chance))
        truths.append(truth)
    arcs, noisy = torch.cat(light), torch.cat(photons) / gain
    sigma = torch.from_numpy(background(host)).to(arcs)[:, :, None, None]
    below = torch.from_numpy(np.nan_to_num(host)).to(arcs).clamp_min(0.0)
    snr = (arcs**2 / (sigma**2 + (below + arcs) / gain)).nan_to_num().sum((2, 3)).sqrt()
    arc_mag, magnification = (torch.cat([truth[i] for truth in truths]) for i in (0, 1))
    return (host + noisy.float().numpy()).astype(np.float32), arc_mag, magnification, snr


def background(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Standard deviation of the background of each cutout and band, from differences of adjacent pixels.

    Returns
    -------
    ndarray, shape (n, bands)
        The median absolute difference, scaled to a normal law; it does not see smooth light.
    """
    step = np.abs(np.diff(image, axis=3)).reshape(*image.shape[:2], -1)
    empty = ~np.isfinite(step).any(axis=2)
    step[empty] = 0.0
    spread: NDArray[np.float64] = np.nanmedian(step, axis=2) / (0.6744897501960817 * math.sqrt(2))
    return np.maximum(spread, 1e-30)


def _band(camera: Instrument, band: str | None) -> int:
    for wanted in (band,) if band else ("i", "F814W", "VIS"):
        if wanted in camera.bands:
            return camera.bands.index(str(wanted))
    if band:
        raise UserError(
            f"cutouts of {camera.name} have no band {band!r}; they have {', '.join(camera.bands)}"
        )
    return len(camera.bands) - 1


def _read(db: str | None, hosts: list[Host]) -> NDArray[np.float32]:
    """Calibrated pixels of hosts in their order, shape (n, bands, ny, nx)."""
    shards: dict[str, ImageShard] = {}
    out: NDArray[np.float32] | None = None
    for name in dict.fromkeys(h.shard for h in hosts):
        shards[name] = ImageShard(shard_root(db) / name)
        at = [i for i, h in enumerate(hosts) if h.shard == name]
        block = shards[name].read("image", [hosts[i].shard_row for i in at])
        if out is None:
            out = np.empty((len(hosts), *block.shape[1:]), dtype=np.float32)
        out[at] = block
    assert out is not None
    return out


def _redshift(z_lens: Tensor, z_source: Tensor, hosts: list[Host]) -> NDArray[np.float64]:
    """The host's redshift where one is known and in front of the source, else the drawn one."""
    spec, phot = column_of(hosts, "z_spec"), column_of(hosts, "z_phot")
    known = np.where(np.isfinite(spec), spec, phot)
    use = np.isfinite(known) & (known > 0) & (known < z_source.numpy())
    out: NDArray[np.float64] = np.where(use, known, z_lens.double().numpy())
    return out


def _mag(host: Host, band: str) -> float:
    value = host.phot.get(f"mag_{band.lower()}")
    return math.nan if value is None else float(value)


def _photometry(hosts: list[Host], arc_mag: Tensor, camera: Instrument) -> dict[str, Any]:
    """The host's row of phot_obj with the arcs' light added to its magnitudes."""
    out: dict[str, Any] = {name: column_of(hosts, name) for name in hosts[0].phot}
    arcs = arc_mag.double().cpu().numpy()
    for k, band in enumerate(camera.bands):
        name = f"mag_{band.lower()}"
        if name in out:
            out[name] = -2.5 * np.log10(10 ** (-0.4 * out[name]) + 10 ** (-0.4 * arcs[:, k]))
    return out
