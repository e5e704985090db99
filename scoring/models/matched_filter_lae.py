"""Matched filter for background emission lines, the method that the networks are compared with.

References: Bolton et al. (2004, AJ 127, 1860), Bolton et al. (2012, ApJ 757, 82) and Shu et al. (2016, ApJ
824, 86), who found the lensed Lyman-alpha emitters of BELLS GALLERY with it. On the continuum-subtracted
spectrum f with inverse variances w and a unit Gaussian kernel g centred on each pixel in turn,

    A = sum(f g w) / sum(g^2 w),      S/N = sum(f g w) / sqrt(sum(g^2 w)),

and the score of a spectrum is the highest S/N off the lens's own lines; a hit has S/N >= 6.

``matched_filter_lae`` needs nothing but the spectrum: a straight continuum over a box is fitted together with
the Gaussian. ``matched_filter_lae_template`` subtracts the pipeline's best-fit galaxy model first, as the
papers do, and so needs shards that hold it. On real galaxies one kernel 2 pixels wide finds as much as a few
(see docs/evaluation.md), since a Gaussian too wide or narrow by a third loses 4% of the S/N.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from schema.grid import WINDOW_FIRST
from scoring.localise import LENS_LINES_ANGSTROM, LineFilter, lens_line_mask, line_snr
from scoring.models.base import SpectralModel
from scoring.registry import register_model


@dataclass(frozen=True)
class MatchedFilterConfig:
    """Settings; those of the filter are explained in scoring.localise.LineFilter.

    Attributes
    ----------
    continuum : ``fitted`` (straight line with the Gaussian) or ``template`` (pipeline model subtracted)
    snr_threshold : float  S/N of a hit (Shu et al. 2016)
    snr_even, logit_per_snr : float
        Logistic map from S/N to probability, logit = logit_per_snr (S/N - snr_even), fitted to spectra of the
        published recipe with one positive in fifteen by ``python -m benchmarks.bench_matched_filter
        --calibrate``.
    """

    continuum: Literal["fitted", "template"] = "fitted"
    sigmas_px: tuple[float, ...] = (2.0,)
    half_width_px: int = 40
    mask_half_width_px: int = 12
    lens_lines_angstrom: tuple[float, ...] = LENS_LINES_ANGSTROM
    min_coverage: float = 0.7
    rescale_errors: bool = True
    snr_threshold: float = 6.0
    snr_even: float = 6.083
    logit_per_snr: float = 2.328

    def filter(self) -> LineFilter:
        """The part that scoring.localise needs."""
        return LineFilter(
            sigmas_px=self.sigmas_px,
            half_width_px=self.half_width_px,
            mask_half_width_px=self.mask_half_width_px,
            lens_lines_angstrom=self.lens_lines_angstrom,
            min_coverage=self.min_coverage,
            fit_continuum=self.continuum == "fitted",
            rescale_errors=self.rescale_errors,
        )


class MatchedFilter(nn.Module):
    """Spectra to logit: highest S/N of the filter, through the logistic map."""

    settings_vector: Tensor

    def __init__(self, config: MatchedFilterConfig) -> None:
        super().__init__()
        self.settings = config.filter()
        values = [config.snr_even, config.logit_per_snr]
        self.register_buffer("settings_vector", torch.tensor(values, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Logit, shape (n,), of flux and ivar stacked, shape (n, 2, npix)."""
        snr = line_snr(x[:, 0], x[:, 1], self.settings).flatten(1).amax(1)
        return (snr - self.settings_vector[0]) * self.settings_vector[1]


@register_model("matched_filter_lae")
class MatchedFilterLae(SpectralModel):
    """Error-weighted Gaussian matched filter with a fitted continuum."""

    kind = "filter"
    reference = "Shu et al. 2016, ApJ 824, 86; Bolton et al. 2004, AJ 127, 1860"
    config_class = MatchedFilterConfig
    preprocessing = (lens_line_mask, line_snr)
    config: MatchedFilterConfig

    def __init__(self, config: MatchedFilterConfig | None = None) -> None:
        super().__init__(config)
        c = self.config
        logit = torch.tensor(c.logit_per_snr * (c.snr_threshold - c.snr_even), dtype=torch.float64)
        self.default_threshold = float(torch.sigmoid(logit))

    def preprocess(self, flux: Tensor, ivar: Tensor, z: Tensor, **more: Tensor) -> Tensor:
        """Flux (less the pipeline model with ``continuum='template'``) and ivar, 0 on the lens's lines.

        Parameters and return value as scoring.models.base.SpectralModel.preprocess; two channels.
        """
        c = self.config
        mask = lens_line_mask(z, WINDOW_FIRST, flux.shape[-1], c.mask_half_width_px, c.lens_lines_angstrom)
        if c.continuum == "template":
            flux = flux - more["model"]
        return torch.stack([flux, torch.where(mask, 0.0, ivar)], 1).float()  # (n, 2, npix)

    def build(self) -> nn.Module:
        """The filter as a module without weights."""
        return MatchedFilter(self.config)


@register_model("matched_filter_lae_template")
class MatchedFilterLaeTemplate(MatchedFilterLae):
    """The same on the residual of the pipeline's galaxy model, as published."""

    inputs = ("flux", "ivar", "model")

    def __init__(self, config: MatchedFilterConfig | None = None) -> None:
        super().__init__(config or MatchedFilterConfig(continuum="template"))
