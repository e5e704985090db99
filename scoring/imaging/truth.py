"""What is kept of every simulated lens, and which lenses of those could be observed."""

from __future__ import annotations

import torch
from torch import Tensor

from scoring.lensing.scene import LensScene
from scoring.light.instruments import Instrument

TRUTH = (
    "theta_e_arcsec", "source_r_eff_arcsec", "magnification", "arc_snr", "seeing_arcsec",
    "best_seeing_arcsec",
)  # fmt: skip
"""What is kept of each lens; signal to noise and seeing are of the band in which the arcs stand out most."""
OBSERVABLE_SNR, OBSERVABLE_MAGNIFICATION, OBSERVABLE_SEPARATION = 20.0, 3.0, 1.2


def observable(truth: Tensor) -> Tensor:
    """Lenses that Collett (2015, ApJ 811, 20, section 4) counts as discoverable in principle.

    Images apart, ``theta_e^2 > r_s^2 + (s/2)^2``; an arc, ``mu r_s > s`` and ``mu > 3``; and a signal to
    noise above 20. As in the prior ``collett2015`` also ``theta_e > 1.2 s`` in the best seeing.

    Parameters
    ----------
    truth : Tensor, shape (n, 6)  columns of `TRUTH`

    Returns
    -------
    Tensor of bool, shape (n,)
    """
    theta_e, r_s, mu, snr, seeing, best = truth.unbind(1)
    apart = (theta_e**2 > r_s**2 + (seeing / 2) ** 2) & (theta_e > OBSERVABLE_SEPARATION * best)
    arc = (mu * r_s > seeing) & (mu > OBSERVABLE_MAGNIFICATION)
    return apart & arc & (snr > OBSERVABLE_SNR)


def total_snr(light: Tensor, variance: Tensor) -> Tensor:
    """Signal to noise of light summed over the pixels that make it greatest, as Collett (2015) has it.

    light, variance : Tensor, shape (n, bands, h, w); returns shape (n, bands)
    """
    light, variance = light.flatten(2), variance.flatten(2)
    order = (light / variance.sqrt()).argsort(dim=2, descending=True)
    signal, noise = light.gather(2, order).cumsum(2), variance.gather(2, order).cumsum(2).sqrt()
    return (signal / noise).amax(2)


def truth_of(scene: LensScene, arcs: Tensor, variance: Tensor, instrument: Instrument) -> Tensor:
    """Columns of `TRUTH` for lenses with arcs (n, bands, h, w) [counts] on noise of that variance."""
    snr, band = total_snr(arcs, variance).max(1)
    unlensed = 10 ** (-0.4 * (scene.source_mag - torch.tensor(instrument.zero_point)))
    flux = arcs.sum((2, 3)) / unlensed  # (n, bands): the same in all but for noise of the PSF's edges
    seeing = torch.tensor(instrument.psf_fwhm_arcsec)
    return torch.stack(
        [
            scene.theta_e, scene.source_r_eff, flux.gather(1, band[:, None])[:, 0], snr, seeing[band],
            seeing.min().expand(len(snr)),
        ],
        dim=1,
    ).float()  # fmt: skip
