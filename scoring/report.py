"""What a scoring run did, for people in one line and for scripts as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from scoring.pipeline import STAGES
from scoring.tasks import MODALITIES

WHY_SKIPPED = {
    "few_pixels": "fewer than half of the pixels are good",
    "no_spectrum": "no spectrum in a shard",
    "no_cutout": "no image cutout in a shard",
    "missing_bands": "the cutout lacks the model's bands",
    "saturated": "more than half of the pixels are at the brightest value",
    "no_pixscale": "the cutout's pixel scale is not known",
    "no_pixels": "simulated for models that look at stamps, or at images, alone",
    "too_small": "the cutout covers less than half of the model's field",
    "no_contrast": "all pixels of a band are alike",
    "not_finite": "the network gave no finite number",
    "lost": "scored by another worker meanwhile",
}
"""Reasons for which a selected target is not scored."""


@dataclasses.dataclass
class ScoreReport:
    """What a scoring run did.

    Attributes
    ----------
    status : done, failed, stopped or nothing-to-do
    modality : spectrum or image
    n_selected : spectra or cutouts that the selection returns
    n_todo : of these, missing or stale when the run began
    n_scored : scores this process committed
    n_skipped : targets left out, by reason
    seconds : thread-seconds by stage, and wall seconds as ``wall`` [s]
    spectra_per_s : scores, of spectra or cutouts, committed per wall second [1/s]
    """

    status: str
    model: str
    selection: str
    selection_version: int
    backend: str = ""
    device: str = ""
    precision: str = "fp32"
    run_id: int | None = None
    resumed: bool = False
    n_selected: int = 0
    n_todo: int = 0
    n_scored: int = 0
    n_skipped: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    threads: int = 1
    spectra_per_s: float = 0.0
    message: str = ""
    modality: str = "spectrum"

    def as_dict(self) -> dict[str, Any]:
        """The report for printing as JSON."""
        return dataclasses.asdict(self)

    def skip(self, why: str, n: int) -> None:
        """Count targets that were left out."""
        self.n_skipped[why] = self.n_skipped.get(why, 0) + n

    def line(self) -> str:
        """The report in one line: how many, how fast, and where the time went."""
        skipped = [f"{n:,} skipped ({WHY_SKIPPED[why]})" for why, n in self.n_skipped.items() if n]
        more = "".join(f"; {text}" for text in skipped)
        name, noun = f"{self.model} on {self.selection}", MODALITIES[self.modality].noun
        if self.status == "nothing-to-do":
            return f"{name}: nothing to score, all of {self.n_selected:,} {noun} are current{more}"
        stages = [s for s in ("select", *STAGES, "write") if s != "localise" or s in self.seconds]
        spent = ", ".join(f"{s} {self.seconds.get(s, 0.0):.1f}" for s in stages)
        return (
            f"{name}: {self.n_scored:,} {noun} in {self.seconds.get('wall', 0.0):.1f} s = "
            f"{self.spectra_per_s:,.0f} {noun}/s ({self.backend} {self.precision}, {self.threads} threads; "
            f"seconds of their time: {spent}){more}"
        )
