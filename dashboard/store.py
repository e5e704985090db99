"""What reviewers do, saved once: grades, comments, calibrators, queries. The rest of the pages' database work
stands in `transactions` and `reviewers`, and is reached from here too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dashboard.reviewers import (
    NAME_LENGTH,
    Reviewer,
    checked_name,
    clean,
    ensure_reviewer,
    find_reviewer,
    list_reviewers,
    passphrase_fits,
    passphrase_hash,
    set_adjudicator,
    sign_in_locally,
)
from dashboard.transactions import engine, insert_once, now, reading, writing
from schema.errors import UserError
from schema.ids import hashed_id
from schema.tables import calibrator, cut_setting, grade, review_note, reviewer, saved_query

__all__ = [
    "NAME_LENGTH", "Reviewer", "checked_name", "clean", "engine", "ensure_reviewer", "find_reviewer",
    "insert_once", "list_reviewers", "now", "passphrase_fits", "passphrase_hash", "reading",
    "set_adjudicator", "sign_in_locally", "writing",
]  # fmt: skip

GRADES = ("A", "B", "C", "X")
TAG_LENGTH = 40
BODY_LENGTH = 4000


@dataclass(frozen=True)
class Grade:
    """One grade to save.

    Attributes
    ----------
    token : str  made when the object was shown: a second save of it changes nothing
    seconds : float  time on screen [s]
    shown : dict  model, run and queue that the reviewer saw
    """

    target_id: int
    grade: str
    token: str
    queue: str = ""
    is_calibrator: bool = False
    is_adjudication: bool = False
    seconds: float | None = None
    shown: dict[str, Any] | None = None


# ---------------------------------------------------------------- grades


def save_grade(db: str | None, reviewer_id: int, given: Grade) -> int:
    """Save one grade; returns its key.

    A token that was saved before changes nothing, whatever grade comes with it: a key pressed twice before
    the
    next object appears is one grade.

    Raises
    ------
    UserError
        For a grade other than A, B, C, X.
    DataError
        When the target or the reviewer is no longer in the database.
    """
    if given.grade not in GRADES:
        raise UserError(f"grade {given.grade!r}: allowed are {', '.join(GRADES)}")
    grade_id = hashed_id("grade", reviewer_id, given.token)
    row = {
        "grade_id": grade_id,
        "target_id": given.target_id,
        "reviewer_id": reviewer_id,
        "grade": given.grade,
        "queue": given.queue,
        "is_calibrator": given.is_calibrator,
        "is_adjudication": given.is_adjudication,
        "seconds": given.seconds,
        "shown": given.shown,
        "graded_at": now(),
    }
    insert_once(db, grade, "grade_id", row)
    return grade_id


@dataclass(frozen=True)
class TakenBack:
    """Target of a grade that was taken back, and the earlier grade that counts again, if there is one."""

    target_id: int
    grade_id: int | None = None
    grade: str | None = None


def take_back(db: str | None, reviewer_id: int, grade_id: int) -> TakenBack | None:
    """Take a grade of this reviewer back; None when it does not stand any more."""

    def work(conn: sa.Connection) -> TakenBack | None:
        mine = (grade.c.reviewer_id == reviewer_id) & grade.c.undone_at.is_(None)
        one = mine & (grade.c.grade_id == grade_id)
        found = conn.execute(sa.select(grade.c.target_id, _is_verdict()).where(one)).first()
        if found is None:
            return None
        conn.execute(grade.update().where(one).values(undone_at=now()))
        of_target = mine & (grade.c.target_id == found[0]) & (_is_verdict() == found[1])
        query = sa.select(grade.c.grade_id, grade.c.grade).where(of_target)
        left = conn.execute(query.order_by(grade.c.graded_at.desc(), grade.c.grade_id.desc())).first()
        return TakenBack(int(found[0]), *(left or (None, None)))

    return writing(db, work)


def clear_grades(db: str | None, reviewer_id: int, target_id: int, *, verdicts: bool = False) -> None:
    """Take back every grade of a reviewer on a target, or every verdict, so that none counts again."""
    mine = (grade.c.reviewer_id == reviewer_id) & (grade.c.target_id == target_id)
    mine &= grade.c.undone_at.is_(None) & (_is_verdict() == verdicts)
    writing(db, lambda conn: conn.execute(grade.update().where(mine).values(undone_at=now())))


def _is_verdict() -> sa.ColumnElement[bool]:
    return sa.func.coalesce(grade.c.is_adjudication, sa.false())


def last_grades(
    conn: sa.Connection, reviewer_id: int, limit: int = 50, *, verdicts: bool = False
) -> list[dict[str, Any]]:
    """This reviewer's standing grades, or verdicts, latest first: what undo and back go through at first."""
    mine = (grade.c.reviewer_id == reviewer_id) & grade.c.undone_at.is_(None) & (_is_verdict() == verdicts)
    columns = (grade.c.grade_id, grade.c.target_id, grade.c.grade, grade.c.queue, grade.c.graded_at)
    query = sa.select(*columns).where(mine).order_by(grade.c.graded_at.desc(), grade.c.grade_id.desc())
    return [dict(r) for r in conn.execute(query.limit(limit)).mappings()]


# ---------------------------------------------------------------- notes


def add_note(
    db: str | None, reviewer_id: int, target_id: int, token: str, *, body: str = "", tag: str = ""
) -> bool:
    """Save a comment or a tag; a token saved before changes nothing."""
    body, tag = clean(body, BODY_LENGTH), clean(tag, TAG_LENGTH)
    if not body and not tag:
        return False
    note_id = hashed_id("review_note", reviewer_id, token)
    row = {"note_id": note_id, "target_id": target_id, "reviewer_id": reviewer_id, "noted_at": now()}
    return insert_once(db, review_note, "note_id", {**row, "body": body or None, "tag": tag or None})


def remove_note(db: str | None, reviewer_id: int, note_id: int) -> None:
    """Take a comment or a tag of this reviewer back."""
    mine = (review_note.c.note_id == note_id) & (review_note.c.reviewer_id == reviewer_id)
    writing(db, lambda conn: conn.execute(review_note.update().where(mine).values(removed_at=now())))


def notes_of(conn: sa.Connection, target_id: int) -> list[dict[str, Any]]:
    """Standing comments and tags on a target, oldest first, with who wrote them."""
    query = (
        sa.select(review_note, reviewer.c.name.label("reviewer"))
        .join(reviewer, reviewer.c.reviewer_id == review_note.c.reviewer_id)
        .where((review_note.c.target_id == target_id) & review_note.c.removed_at.is_(None))
        .order_by(review_note.c.noted_at, review_note.c.note_id)
    )
    return [dict(r) for r in conn.execute(query).mappings()]


# ---------------------------------------------------------------- calibrators and queries


def add_calibrators(db: str | None, target_ids: list[int], *, is_lens: bool, origin: str) -> int:
    """Enter targets of known truth; those that are there already keep theirs. Returns how many are new."""

    def work(conn: sa.Connection) -> int:
        have = set(conn.execute(sa.select(calibrator.c.target_id)).scalars())
        rows = [
            {"target_id": t, "is_lens": is_lens, "origin": origin, "added_at": now()}
            for t in dict.fromkeys(target_ids)
            if t not in have
        ]
        if rows:
            conn.execute(calibrator.insert(), rows)
        return len(rows)

    return writing(db, work)


def save_query(db: str | None, reviewer_id: int, name: str, query: str, description: str = "") -> None:
    """Keep a query under a name; one's own of that name is replaced.

    Raises
    ------
    UserError
        When somebody else keeps a query of that name.
    """
    shown = checked_name(name)
    row = {
        "query_id": hashed_id("saved_query", shown),
        "name": shown,
        "sql": query,
        "description": clean(description, BODY_LENGTH),
        "reviewer_id": reviewer_id,
        "saved_at": now(),
    }

    def work(conn: sa.Connection) -> None:
        same = saved_query.c.query_id == row["query_id"]
        held = conn.execute(sa.select(saved_query.c.reviewer_id).where(same)).first()
        if held is not None and held[0] not in (None, reviewer_id):
            raise UserError(f"somebody else keeps a query named {shown!r}; save yours under another name")
        if held is not None:
            conn.execute(
                saved_query.update().where(same).values({k: v for k, v in row.items() if k != "query_id"})
            )
        else:
            conn.execute(saved_query.insert(), [row])

    writing(db, work)


def list_queries(conn: sa.Connection) -> list[dict[str, Any]]:
    """Queries that people keep, by name."""
    return [dict(r) for r in conn.execute(sa.select(saved_query).order_by(saved_query.c.name)).mappings()]


def save_settings(db: str | None, values: dict[str, float]) -> None:
    """Change thresholds of the review in table cut_setting."""

    def work(conn: sa.Connection) -> None:
        for name, value in values.items():
            conn.execute(cut_setting.update().where(cut_setting.c.name == name).values(value=float(value)))

    writing(db, work)
