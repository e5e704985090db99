"""What the database holds of one reviewer's work when a session begins."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from dashboard import store
from dashboard.trail import Step, Trail


@dataclass
class Standing:
    """A reviewer's work; the session keeps it up to date.

    Attributes
    ----------
    mine : dict  standing grade by target, or standing verdict
    noted : set of int  targets with a comment or a tag of this reviewer
    n_given : int  grades given so far, those taken back among them
    enough_at : int  grades of an object that are enough
    rate : float  share of calibrators asked for
    """

    mine: dict[int, str]
    noted: set[int]
    n_given: int
    enough_at: int
    rate: float


def load_standing(conn: sa.Connection, reviewer_id: int, *, verdicts: bool) -> Standing:
    """What a reviewer has graded, or settled, and the settings of the review."""
    setting: dict[str, float] = dict(
        conn.execute(sa.text("select name, value from cut_setting where name like 'review_%'")).all()
    )
    mine = conn.execute(
        sa.text("select target_id, grade from current_grade where reviewer_id = :r and is_adjudication = :v"),
        {"r": reviewer_id, "v": verdicts},
    ).all()
    noted = conn.execute(
        sa.text("select target_id from review_note where reviewer_id = :r and removed_at is null"),
        {"r": reviewer_id},
    ).scalars()
    given = conn.execute(
        sa.text("select count(*) from grade where reviewer_id = :r"), {"r": reviewer_id}
    ).scalar()
    return Standing(
        mine={int(t): str(g) for t, g in mine},
        noted=set(noted),
        n_given=int(given or 0),
        enough_at=max(1, int(setting.get("review_grades_enough", 3))),
        rate=float(setting.get("review_calibration_rate", 0.0)),
    )


def load_trail(conn: sa.Connection, reviewer_id: int, *, verdicts: bool) -> Trail:
    """The last grades, or verdicts, of a reviewer, so that undo and back reach them after a restart."""
    trail = Trail()
    for row in reversed(store.last_grades(conn, reviewer_id, verdicts=verdicts)):
        trail.passed(Step(int(row["target_id"]), int(row["grade_id"]), str(row["grade"])))
    return trail
