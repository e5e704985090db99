"""What a scoring run is about: spectra or images, those that a model can score and has not scored yet."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import sqlalchemy as sa

from schema.tables import image_score, image_shard, pixel_shard, score
from scoring.predicate import VIEW
from scoring.versions import model_key

if TYPE_CHECKING:
    from scoring.models.base import Model
    from scoring.models.image_base import ImageModel
    from scoring.selection import Selection

MIN_GOOD_FRACTION = 0.5
"""Least share of good pixels, in a spectrum's search window or in a cutout, for a score."""

MAX_SATURATED_FRACTION = 0.5
"""Largest share of a cutout's pixels at the brightest value for a score."""


@dataclasses.dataclass(frozen=True)
class Modality:
    """Where the pixels, the scores and the columns of one kind of data stand.

    Attributes
    ----------
    name : ``spectrum`` or ``image``, as in scoring_run.modality
    noun : what a person calls many of them
    absent : reason for which a target without one is skipped
    how : what makes them, for messages
    everything : name of the built-in selection of all of them
    key : key column, in view selectable and in the table of scores
    shard_id, shard_row, content_hash : their columns in view selectable
    carried : column of view selectable that preprocessing needs beside the pixels
    carried_as : column of the table of scores that keeps it and makes a score stale when it changes, or None
    figures : columns of the table of scores that the pipeline computes beside the probability
    scores, shards : tables
    """

    name: str
    noun: str
    absent: str
    how: str
    everything: str
    key: str
    shard_id: str
    shard_row: str
    content_hash: str
    carried: str
    carried_as: str | None
    figures: tuple[str, ...]
    scores: sa.Table
    shards: sa.Table


SPECTRUM = Modality(
    name="spectrum",
    noun="spectra",
    absent="no_spectrum",
    how="ingest their spec or spPlate files first",
    everything="all_spectra",
    key="spectrum_id",
    shard_id="shard_id",
    shard_row="shard_row",
    content_hash="content_hash",
    carried="z",
    carried_as="z_used",
    figures=("wave_angstrom", "snr"),
    scores=score,
    shards=pixel_shard,
)
IMAGE = Modality(
    name="image",
    noun="cutouts",
    absent="no_cutout",
    how="ingest their images first: lensmine ingest hsc, cosmos or hst",
    everything="all_images",
    key="cutout_id",
    shard_id="image_shard_id",
    shard_row="image_shard_row",
    content_hash="image_content_hash",
    carried="pixscale_arcsec",
    carried_as=None,
    figures=(),
    scores=image_score,
    shards=image_shard,
)
MODALITIES = {each.name: each for each in (SPECTRUM, IMAGE)}


@dataclasses.dataclass(frozen=True)
class Task:
    """What decides which objects a run is about.

    Attributes
    ----------
    model_id : int
        Model version that scores.
    selection : Selection
        Predicate over targets.
    refusals : tuple of (str, str)
        Reason and condition over view selectable, never null, that is true where the model cannot score; the
        first that holds is the reason.
    modality : Modality
        Spectra or images.
    """

    model_id: int
    selection: Selection
    refusals: tuple[tuple[str, str], ...] = ()
    modality: Modality = SPECTRUM

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reasons for which a selected target may be skipped before its pixels are read."""
        return (self.modality.absent, *(why for why, _ in self.refusals))

    @property
    def can_score(self) -> str:
        """Condition over view selectable: there are pixels, and the model can score them."""
        held = " or ".join(f"({condition})" for _, condition in self.refusals)
        there = f"{VIEW}.{self.modality.key} is not null"
        return f"{there} and not ({held})" if held else there

    @property
    def count_sql(self) -> str:
        """Query of reason and number of selected targets; the reason is ``ok`` where they can be scored."""
        m = self.modality
        why = "".join(f" when {condition} then '{reason}'" for reason, condition in self.refusals)
        return f"""
        select why, count(*) from (
            select case when {m.key} is null then '{m.absent}'{why} else 'ok' end as why
            from {VIEW} where {self.selection.where}
        ) as every_one group by why"""

    def todo_sql(self, within: str = "true") -> str:
        """Query of the selected objects that lack a current score and can be scored, `within` a condition.

        Columns: item_id, target_id, shard_id, shard_row, content_hash, carried.
        """
        m = self.modality
        same = f" and s.{m.carried_as} is not distinct from c.carried" if m.carried_as else ""
        return f"""
        select c.item_id, c.target_id, c.shard_id, c.shard_row, c.content_hash, c.carried
        from (
            select * from (
                select {m.key} as item_id, target_id, {m.shard_id} as shard_id, {m.shard_row} as shard_row,
                    {m.content_hash} as content_hash, {m.carried} as carried
                from {VIEW} where {self.selection.where} and {self.can_score}
            ) as every_one where {within}
        ) as c
        left join {m.scores.name} as s
            on s.{m.key} = c.item_id and s.model_id = {self.model_id}
            and s.content_hash = c.content_hash{same}
        where s.{m.key} is null"""


def make_task(model: Model, chosen: Selection, precision: str = "fp32") -> Task:
    """The task of a model on a selection.

    Parameters
    ----------
    model : Model
        Loaded, of spectra or of images.
    chosen : Selection
        Its predicate checked.
    precision : str
        fp32, bf16 or int8.
    """
    from scoring.models.base import SpectralModel
    from scoring.models.image_base import ImageModel

    key = model_key(model, precision)
    if isinstance(model, ImageModel):
        return Task(key, chosen, image_refusals(model), IMAGE)
    assert isinstance(model, SpectralModel)
    return Task(key, chosen, spectrum_refusals(model.window[1]), SPECTRUM)


def spectrum_refusals(window_npix: int) -> tuple[tuple[str, str], ...]:
    """What a model of spectra cannot score: too few good pixels in its window, where their count is known."""
    return (("few_pixels", f"coalesce(n_good_window < {int(MIN_GOOD_FRACTION * window_npix)}, false)"),)


def image_refusals(model: ImageModel) -> tuple[tuple[str, str], ...]:
    """What a model of images cannot score, each as a condition over view selectable."""
    from scoring.models.image_base import MIN_COVERAGE

    choices = " or ".join(
        "(" + " and ".join(_has_band(band) for band in bands) + ")" for bands in model.band_sets
    )
    out = [
        ("missing_bands", f"not coalesce({choices}, false)"),
        ("few_pixels", f"coalesce(frac_good < {MIN_GOOD_FRACTION}, false)"),
        ("saturated", f"coalesce(frac_saturated > {MAX_SATURATED_FRACTION}, false)"),
    ]
    width = f"cast({model.npix} as double precision)"
    if model.field_arcsec is not None:
        out.append(("no_pixscale", "not coalesce(pixscale_arcsec > 0, false)"))
        width = f"({model.field_arcsec} / nullif(pixscale_arcsec, 0))"
    # only simulated shards may lack pixels; of an ingested one that is a fault, told when it is opened
    lacking = (
        "select image_shard.shard_id from image_shard where starts_with(image_shard.name, 'sim-') "
        f"and strpos(cast(image_shard.arrays as varchar), '\"{model.pixels}\"') = 0"
    )
    out.append(("no_pixels", f"coalesce(image_shard_id in ({lacking}), false)"))
    share = f"least(1.0, ny / {width}) * least(1.0, nx / {width})"
    out.append(("too_small", f"coalesce({share} < {MIN_COVERAGE}, false)"))
    return tuple(out)


def _has_band(band: str) -> str:
    text = band.replace("'", "''")
    return f"strpos(',' || bands || ',', ',{text},') > 0"
