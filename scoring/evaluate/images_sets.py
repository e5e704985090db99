"""Test sets of images that stand in the database: which targets are lenses, which are not, and what they are.

A set is two conditions over one row of its target, cutout and truth. Its note says in words what stands for
lenses and for others, and is kept with every evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import sqlalchemy as sa

from schema.engine import read_frame

SPACE = "('acs', 'wfc3', 'wfpc2')"


def _named(*prefixes: str) -> str:
    return " or ".join(f"target.native_id like '{prefix}%'" for prefix in prefixes)


LENS_SURVEYS = _named("SL2SJ", "SWELLSJ", "DESIJ")
"""Objects that only lens searches call so."""

LENS_NAMES = _named("SDSSJ", "SL2SJ", "SWELLSJ", "DESIJ")
"""Objects of SLACS, SL2S, SWELLS and the DESI lens search, whose HST cutouts are of confirmed lenses.

On the ground SDSSJ... is any galaxy of SDSS: there it is a lens when a catalogue of lenses lists it.
"""


@dataclass(frozen=True)
class ImageSet:
    """A test set.

    Attributes
    ----------
    positive, negative : SQL conditions over target, cutout, injection (truth, or null) and known (is a known
        lens near it)
    note : what stands for lenses and for others
    """

    positive: str
    negative: str
    note: str


SETS = {
    "bologna": ImageSet(
        "target.survey = 'bologna' and injection.is_lens",
        "target.survey = 'bologna' and not injection.is_lens",
        "Bologna lens challenge (Metcalf et al. 2019): simulated images, both classes labelled there",
    ),
    "hst": ImageSet(
        f"target.survey = 'hst' and not target.is_injection and (known.is_known or {LENS_NAMES})",
        "(target.survey in ('hst', 'cosmos') and not target.is_injection "
        f"and not (known.is_known or {LENS_NAMES})) or (target.is_injection "
        f"and target.survey <> 'bologna' and cutout.instrument in {SPACE} and not injection.is_lens)",
        "real HST cutouts of confirmed lenses; the others are ordinary HST sources where some are ingested, "
        "and simulated sources of the same instruments, as HST cutouts of proven non-lenses are not at hand",
    ),
    "ground": ImageSet(
        "target.survey in ('hsc', 'cfht', 'des') and not target.is_injection "
        f"and (known.is_known or {LENS_SURVEYS})",
        f"target.survey = 'hsc' and not target.is_injection and not (known.is_known or {LENS_SURVEYS})",
        "real ground-based cutouts: known lenses among the other HSC sources ingested, of which a few may be "
        "lenses that nobody knows yet",
    ),
    "simulated": ImageSet(
        "target.is_injection and target.survey <> 'bologna' and injection.is_lens",
        "target.is_injection and target.survey <> 'bologna' and not injection.is_lens",
        "simulated lenses and simulated ordinary sources of all instruments that the model has scored",
    ),
}
"""Test sets by name."""


def read_set(conn: sa.Connection, name: str, model_id: int) -> pd.DataFrame:
    """Current scores of a model on a set.

    Returns
    -------
    DataFrame
        target_id, probability, is_lens, is_real, host; one row a target, in the order of their keys.
    """
    chosen = SETS[name]
    return read_frame(
        conn,
        f"""
        select * from (
            select
                target.target_id,
                s.probability,
                case when {chosen.positive} then true when {chosen.negative} then false end as is_lens,
                not target.is_injection as is_real,
                coalesce(injection.host_target_id, target.target_id) as host
            from current_image_score as s
            inner join target on target.target_id = s.target_id
            inner join cutout on cutout.cutout_id = s.cutout_id
            inner join (
                select t.target_id, exists (
                    select 1 from known_lens_match as k where k.target_id = t.target_id
                ) as is_known
                from target as t
            ) as known on known.target_id = target.target_id
            left join injection on injection.target_id = target.target_id
            where s.model_id = :model_id
        ) as labelled
        where is_lens is not null
        order by target_id
        """,
        model_id=model_id,
    )
