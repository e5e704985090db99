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
"""Objects that only lens searches call so: lenses, and candidates that turned out to be none."""

LENS_NAMES = _named("SDSSJ", "SL2SJ", "SWELLSJ", "DESIJ")
"""Objects of SLACS, SL2S, SWELLS and the DESI lens search; on the ground SDSSJ... is any galaxy of SDSS."""


@dataclass(frozen=True)
class ImageSet:
    """A test set.

    Attributes
    ----------
    positive, negative : SQL conditions over target, cutout, injection (truth, or null) and known (is_lens: a
        known lens is near it, or the user names it one)
    note : what stands for lenses and for others
    doubtful : SQL condition; what fits it and is not positive is neither, as its name alone hints at a lens
    """

    positive: str
    negative: str
    note: str
    doubtful: str = "false"


SETS = {
    "bologna": ImageSet(
        "target.survey = 'bologna' and injection.is_lens",
        "target.survey = 'bologna' and not injection.is_lens",
        "Bologna lens challenge (Metcalf et al. 2019): simulated images, both classes labelled there",
    ),
    "hst": ImageSet(
        "target.survey = 'hst' and not target.is_injection and known.is_lens",
        "(target.survey in ('hst', 'cosmos') and not target.is_injection and not known.is_lens) "
        "or (target.is_injection "
        f"and target.survey <> 'bologna' and cutout.instrument in {SPACE} and not injection.is_lens)",
        "real HST cutouts of known lenses; the others are ordinary HST sources where some are ingested, "
        "and simulated sources of the same instruments, as HST cutouts of proven non-lenses are not at hand",
        f"target.survey in ('hst', 'cosmos') and not target.is_injection and ({LENS_NAMES})",
    ),
    "ground": ImageSet(
        "target.survey in ('hsc', 'cfht', 'des') and not target.is_injection and known.is_lens",
        "target.survey = 'hsc' and not target.is_injection and not known.is_lens",
        "real ground-based cutouts: known lenses among the other HSC sources ingested, of which a few may be "
        "lenses that nobody knows yet",
        f"target.survey in ('hsc', 'cfht', 'des') and not target.is_injection and ({LENS_SURVEYS})",
    ),
    "simulated": ImageSet(
        "target.is_injection and target.survey <> 'bologna' and injection.is_lens",
        "target.is_injection and target.survey <> 'bologna' and not injection.is_lens",
        "simulated lenses and simulated ordinary sources of all instruments that the model has scored",
    ),
}
"""Test sets by name."""


def read_set(
    conn: sa.Connection, name: str, model_id: int, lenses: str | None = None
) -> tuple[pd.DataFrame, int]:
    """Current scores of a model on a set.

    Parameters
    ----------
    conn : sqlalchemy.Connection
        Database.
    name : str
        Name of the set.
    model_id : int
        Version of the model.
    lenses : str, optional
        Set of tracers that are lenses beside the known ones.

    Returns
    -------
    frame : DataFrame
        target_id, probability, is_lens, is_real, host; one row a target, in the order of their keys.
    n_left_out : int
        Images that are called as lens searches call theirs and that nothing says are lenses.
    """
    chosen = SETS[name]
    found = read_frame(
        conn,
        f"""
        select * from (
            select
                target.target_id,
                s.probability,
                case
                    when {chosen.positive} then 'lens'
                    when {chosen.doubtful} then 'doubtful'
                    when {chosen.negative} then 'other'
                end as kind,
                not target.is_injection as is_real,
                coalesce(injection.host_target_id, target.target_id) as host
            from current_image_score as s
            inner join target on target.target_id = s.target_id
            inner join cutout on cutout.cutout_id = s.cutout_id
            inner join (
                select
                    t.target_id,
                    exists (select 1 from known_lens_match as k where k.target_id = t.target_id)
                    or exists (
                        select 1 from tracer as r where r.target_id = t.target_id and r.name = :lenses
                    ) as is_lens
                from target as t
            ) as known on known.target_id = target.target_id
            left join injection on injection.target_id = target.target_id
            where s.model_id = :model_id
        ) as labelled
        where kind is not null
        order by target_id
        """,
        model_id=model_id,
        lenses=lenses or "",
    )
    doubtful = found.kind == "doubtful"
    frame = found[~doubtful].reset_index(drop=True)
    frame["is_lens"] = frame.pop("kind") == "lens"
    return frame, int(doubtful.sum())
