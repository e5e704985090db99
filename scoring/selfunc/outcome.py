"""What became of injected lenses: read from the tables that the search itself writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from schema.engine import connect_engine, read_frame
from schema.errors import UserError
from scoring.selfunc.parameters import IMAGING, SPECTRAL, TOTAL_MAG, total_mag

if TYPE_CHECKING:
    import pandas as pd

STAGES = ("scored", "cut", "graded")
SOURCE = ("source_mag", "source_x_arcsec", "source_y_arcsec", "source_r_eff_arcsec")
"""What the second round of a population judges magnifications by."""

_IMAGE = """
    select target.native_id, injection.z_lens, injection.z_source, injection.recipe, {columns},
        injection_lens.band, injection_lens.weight, cutout.instrument, score.probability,
        coalesce(score.probability >= model.threshold, false) as passed,
        {grades}
    from target
    inner join injection on injection.target_id = target.target_id and injection.is_lens
    inner join injection_lens on injection_lens.target_id = target.target_id
    left join cutout on cutout.target_id = target.target_id and cutout.is_primary
    left join current_image_score as score
        on score.target_id = target.target_id and score.model_id = {model_id}
    left join model on model.model_id = score.model_id
    left join consensus on consensus.target_id = target.target_id
    where target.target_id in (select target_id from selectable where {where})
"""
_SPECTRUM = """
    select target.native_id, injection.recipe, {columns}, score.probability,
        candidate.target_id is not null as passed,
        exists (
            select 1
            from current_score as later
            inner join version_order as version on version.model_id = later.model_id
            inner join version_order as mine on mine.model = version.model and mine.model_id = {model_id}
            where later.spectrum_id = score.spectrum_id and version.last_run_id > mine.last_run_id
        ) as superseded,
        {grades}
    from target
    inner join injection on injection.target_id = target.target_id and injection.is_lens
    inner join spectrum on spectrum.target_id = target.target_id and spectrum.is_primary
    left join current_score as score
        on score.spectrum_id = spectrum.spectrum_id and score.model_id = {model_id}
    left join candidate on candidate.target_id = target.target_id and candidate.model_id = {model_id}
    left join consensus on consensus.target_id = target.target_id
    where target.target_id in (select target_id from selectable where {where})
"""
_GRADES = """consensus.target_id is not null as graded,
        coalesce(
            consensus.verdict in ('A', 'B'),
            2 * (consensus.n_a + consensus.n_b) >= consensus.n_grade,
            false
        ) as accepted"""


@dataclass
class Outcomes:
    """Injected lenses and what became of them; arrays of shape (n,).

    Attributes
    ----------
    native_id : names
    values : true parameters by name, NaN where there is none
    weight : density of the prior over that of the draw
    scored : the model gave a current score
    reached : selected at the stage asked for; for stage graded: what reaches the reviewers
    graded, accepted : has a standing grade; A or B
    band : band of the magnitudes
    instrument : what column cutout.instrument says of all of them; None for spectra
    recipe : what made each of them
    """

    native_id: NDArray[Any]
    values: dict[str, NDArray[np.float64]]
    weight: NDArray[np.float64]
    scored: NDArray[np.bool_]
    reached: NDArray[np.bool_]
    graded: NDArray[np.bool_]
    accepted: NDArray[np.bool_]
    band: str | None
    instrument: str | None = None
    recipe: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.native_id)


def read_outcomes(
    db: str | None, model_id: int, modality: str, stage: str, threshold: float, where: str
) -> Outcomes:
    """Outcomes of the injected lenses that a predicate over view selectable selects.

    A lens without a score (too few pixels, no band of the model's) is one that the search does not find.
    Accepted is the adjudicator's verdict A or B, without a verdict at least half of the standing grades.

    Parameters
    ----------
    db : str or None
        Database.
    model_id : int
        Model version.
    modality : str
        image or spectrum.
    stage : str
        One of `STAGES`. At ``scored`` the probability must reach the threshold; at ``cut`` the lens must
        stand in view image_candidate or candidate; at ``graded`` people must have graded it A or B besides.
    threshold : float
        For stage scored.
    where : str
        Checked predicate.

    Raises
    ------
    UserError
        When the cuts are asked of spectra that another version of the model has scored since: they are
        applied to what its last version says.
    """
    names = tuple(a.name for a in (IMAGING if modality == "image" else SPECTRAL))
    if modality == "image":
        names += SOURCE
        columns = ", ".join(f"injection_lens.{name}" for name in names if not name.startswith("z_"))
    else:
        columns = ", ".join(f"injection.{name}" for name in names)
    sql = (_IMAGE if modality == "image" else _SPECTRUM).format(
        columns=columns, grades=_GRADES, model_id=int(model_id), where=where
    )
    with connect_engine(db, read_only=True).connect() as conn:
        frame = _read(conn, sql)
    if stage != "scored" and "superseded" in frame and frame["superseded"].any():
        raise UserError(
            f"another version of the model has scored {int(frame['superseded'].sum())} of the injected "
            f"lenses since, and stage {stage!r} asks for candidates of the last one; measure that version, "
            "or stage scored"
        )
    probability = frame["probability"].to_numpy(dtype=float)
    passed = frame["passed"].to_numpy(dtype=bool)
    n = len(frame)
    values = {name: frame[name].to_numpy(dtype=float) for name in names}
    if modality == "image":
        values[TOTAL_MAG.name] = total_mag(values["lens_mag"], values["arc_mag"])
    band = _only(frame, "band", "have magnitudes in bands")
    instrument = _only(frame, "instrument", "are of instruments")
    with np.errstate(invalid="ignore"):
        at_threshold = probability >= threshold
    return Outcomes(
        frame["native_id"].to_numpy(),
        values,
        frame["weight"].to_numpy(dtype=float) if "weight" in frame else np.ones(n),
        np.isfinite(probability),
        at_threshold if stage == "scored" else passed,
        frame["graded"].to_numpy(dtype=bool),
        frame["accepted"].to_numpy(dtype=bool),
        band,
        instrument,
        frame["recipe"].to_numpy(),
    )


def _only(frame: pd.DataFrame, name: str, what: str) -> str | None:
    """The one value of a column; `UserError` where injections differ in it, None where they have none."""
    found = sorted(set(frame[name].dropna())) if name in frame else []
    if len(found) > 1:
        raise UserError(
            f"the injections {what} {', '.join(found)}; select those of one, for example "
            "by their name: starts_with(native_id, 'collett2015-hsc')"
        )
    return str(found[0]) if found else None


def _read(conn: Any, sql: str) -> pd.DataFrame:
    """Rows of a query that holds a predicate, whose colons are no parameters."""
    return read_frame(conn.execution_options(no_parameters=True), sql.replace(":", "\\:"))
