"""Instruments of the imaging search: pixel scale, zero points, seeing, depth, gain, and their sources."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from schema.errors import UserError
from scoring.light.kernels import gaussian_psf, moffat_psf


@dataclass(frozen=True)
class Instrument:
    """What a survey makes of light.

    Attributes
    ----------
    name : how commands call it
    bands : names of the bands, in the order of every image's second axis
    pixel_scale_arcsec : side of a pixel [arcsec]
    zero_point : AB magnitude of one image count, one per band
    gain : electrons behind one image count, one per band
    psf_fwhm_arcsec : full width at half maximum of the PSF [arcsec], one per band
    depth_5sigma : AB magnitude of a point source at 5 sigma, one per band
    psf_beta : exponent of the Moffat profile; 0 means Gaussian
    reference : where the figures are from
    """

    name: str
    bands: tuple[str, ...]
    pixel_scale_arcsec: float
    zero_point: tuple[float, ...]
    gain: tuple[float, ...]
    psf_fwhm_arcsec: tuple[float, ...]
    depth_5sigma: tuple[float, ...]
    psf_beta: float
    reference: str

    def psf(self) -> Tensor:
        """PSF of each band, shape (bands, size, size), all of the widest band's odd size, each of sum 1."""
        widths = [fwhm / self.pixel_scale_arcsec for fwhm in self.psf_fwhm_arcsec]
        size = 2 * math.ceil(3 * max(widths)) + 1
        if self.psf_beta:
            return torch.stack([moffat_psf(w, self.psf_beta, size) for w in widths])
        return torch.stack([gaussian_psf(w, size) for w in widths])

    def background_sigma(self) -> Tensor:
        """Noise of an empty pixel [counts], shape (bands,), that gives a PSF fit `depth_5sigma`."""
        flux = [10 ** (-0.4 * (m - zp)) / 5 for m, zp in zip(self.depth_5sigma, self.zero_point, strict=True)]
        return torch.tensor(flux, dtype=torch.float64) * (self.psf() ** 2).sum((1, 2)).sqrt()


HSC_WIDE = Instrument(
    name="hsc",
    bands=("g", "r", "i"),
    pixel_scale_arcsec=0.168,
    zero_point=(27.0, 27.0, 27.0),
    gain=(3000.0, 2800.0, 4600.0),
    psf_fwhm_arcsec=(0.77, 0.76, 0.58),
    depth_5sigma=(26.6, 26.2, 26.2),
    psf_beta=3.0,
    reference="seeing and depth of Wide in PDR2: Aihara et al. (2019) PASJ 71, 114; gain from 600, 600 and "
    "1200 s (abstract there), 50 m2 and throughputs 0.40, 0.45, 0.45 (Miyazaki et al. 2018 PASJ 70, S1). "
    "Noise of a pixel: 0.033, 0.048, 0.062, against 0.037, 0.054, 0.069 of xlens's simulator for HSC "
    "(github.com/mr-superonion/xlens, multiband_defaults.py)",
)
ACS_F814W = Instrument(
    name="acs",
    bands=("F814W",),
    pixel_scale_arcsec=0.03,
    zero_point=(25.959,),
    gain=(2028.0,),
    psf_fwhm_arcsec=(0.097,),
    depth_5sigma=(27.9,),
    psf_beta=2.5,
    reference="COSMOS ACS v2.0, 2028 s: Koekemoer et al. (2007) ApJS 172, 196; Scoville et al. (2007) ApJS "
    "172, 38, whose depth of 27.2 is one of an aperture; here that of the published noise of a pixel, see "
    "docs/simulator.md",
)
ACS_F814W_50MAS = Instrument(
    name="acs50",
    bands=("F814W",),
    pixel_scale_arcsec=0.05,
    zero_point=(25.959,),
    gain=(2028.0,),
    psf_fwhm_arcsec=(0.12,),
    depth_5sigma=(28.0,),
    psf_beta=2.5,
    reference="COSMOS ACS v1.3 at 0.05 arcsec: Koekemoer et al. (2007) ApJS 172, 196; depth as for acs, by "
    "the background_rms of the cutouts of Dinos-I (Tan et al. 2024)",
)
EUCLID_VIS = Instrument(
    name="euclid",
    bands=("VIS",),
    pixel_scale_arcsec=0.1,
    zero_point=(25.5,),
    gain=(1695.0,),
    psf_fwhm_arcsec=(0.18,),
    depth_5sigma=(27.1,),
    psf_beta=2.5,
    reference="Metcalf et al. (2019) A&A 625, A119; Cropper et al. (2016) SPIE 9904; zero point as in "
    "LensPop (github.com/tcollett/LensPop, Surveys.py), gain of three exposures of 565 s (lenstronomy's "
    "Euclid.py has 565 s, and a PSF of 0.16 arcsec). The depth is that of the published "
    "sky, 22.2, and read noise, 4.5 electrons, not the survey's own of an aperture; see docs/simulator.md",
)
INSTRUMENTS = {i.name: i for i in (HSC_WIDE, ACS_F814W, ACS_F814W_50MAS, EUCLID_VIS)}


def get_instrument(name: str) -> Instrument:
    """Instrument by name; `UserError` lists the names."""
    if name not in INSTRUMENTS:
        raise UserError(f"unknown instrument {name!r}: known are {', '.join(INSTRUMENTS)}")
    return INSTRUMENTS[name]
