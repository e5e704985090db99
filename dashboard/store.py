"""What reviewers do: short transactions, saved once, that wait while a scoring run writes."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import secrets
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa

from schema.engine import connect_engine, database_file
from schema.errors import DataError, TransientError, UserError
from schema.ids import hashed_id
from schema.tables import calibrator, cut_setting, grade, review_note, reviewer, saved_query

GRADES = ("A", "B", "C", "X")
PATIENCE_S = 40.0
"""How long a save waits for a DuckDB file that a scoring run, or a query of the SQL page, holds [s]."""
MIXED_MODES = "different configuration"
"""What DuckDB says when this process has the file open for reading and asks to write."""
NAME_LENGTH = 80
TAG_LENGTH = 40
BODY_LENGTH = 4000
_T = TypeVar("_T")


@dataclass(frozen=True)
class Reviewer:
    """Who grades."""

    reviewer_id: int
    name: str
    is_adjudicator: bool


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


@lru_cache(maxsize=8)
def _engine(db: str | None, read_only: bool, stamp: str) -> sa.Engine:
    return connect_engine(db, read_only=read_only, check=False)


def engine(db: str | None, *, read_only: bool = False) -> sa.Engine:
    """Engine of a database whose migration was checked when the page began; opens a connection when asked.

    Raises
    ------
    UserError
        When the DuckDB file has gone: opening it for writing would make an empty one.
    """
    file = database_file(db)
    if file is not None and not file.exists():
        raise UserError(
            f"no database at {file}; put it back, or make one with: lensmine db upgrade --db {file}"
        )
    return _engine(db, read_only, os.environ.get("LENSMINE_DB", ""))


def writing(db: str | None, work: Callable[[sa.Connection], _T], patience_s: float = PATIENCE_S) -> _T:
    """Do `work` in one transaction, again and again while another process is in the way.

    Raises
    ------
    TransientError
        When it is still in the way after `patience_s`.
    """
    return _patiently(lambda: _in_transaction(engine(db), work), patience_s)


def reading(db: str | None, work: Callable[[sa.Connection], _T], patience_s: float = PATIENCE_S) -> _T:
    """Do `work`, which only reads, as patiently as `writing`.

    A DuckDB file is opened as for writing: within one process DuckDB refuses to open it for writing while it
    is open for reading, and no save may wait for somebody else's long query.
    """

    def once() -> _T:
        with engine(db, read_only=database_file(db) is None).connect() as conn:
            return work(conn)

    return _patiently(once, patience_s)


def _in_transaction(to: sa.Engine, work: Callable[[sa.Connection], _T]) -> _T:
    with to.begin() as conn:
        return work(conn)


def _patiently(once: Callable[[], _T], patience_s: float) -> _T:
    until = time.monotonic() + patience_s
    pause = 0.02
    while True:
        try:
            return once()
        except Exception as exc:
            in_the_way = MIXED_MODES in str(exc)
            if not in_the_way and not isinstance(exc, TransientError):
                raise
            if time.monotonic() + pause > until:
                if in_the_way:
                    raise TransientError("the database is being read by this dashboard; try again") from exc
                raise
            time.sleep(pause)
            pause = min(2 * pause, 0.5)


def now() -> datetime.datetime:
    """The time in UTC."""
    return datetime.datetime.now(datetime.UTC)


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


def insert_once(db: str | None, table: sa.Table, key: str, row: dict[str, Any]) -> bool:
    """Insert a row unless its key is there; says whether it was inserted."""

    def work(conn: sa.Connection) -> bool:
        same = table.c[key] == row[key]
        if conn.execute(sa.select(sa.literal(1)).select_from(table).where(same)).first():
            return False
        conn.execute(table.insert(), [row])
        return True

    try:
        return writing(db, work)
    except sa.exc.IntegrityError as exc:
        # another tab saved the same token between the look and the insert, or the parent row is gone
        def there(conn: sa.Connection) -> bool:
            return conn.execute(sa.select(table.c[key]).where(table.c[key] == row[key])).first() is not None

        if reading(db, there):
            return False
        first = str(exc.orig).strip().splitlines()[0]
        raise DataError(f"not saved in {table.name}: {first}; load the page again") from exc


def take_back(db: str | None, reviewer_id: int, grade_id: int) -> int | None:
    """Take a grade of this reviewer back; returns its target, or None when it does not stand any more."""

    def work(conn: sa.Connection) -> int | None:
        mine = (
            (grade.c.grade_id == grade_id)
            & (grade.c.reviewer_id == reviewer_id)
            & grade.c.undone_at.is_(None)
        )
        target_id = conn.execute(sa.select(grade.c.target_id).where(mine)).scalar()
        if target_id is not None:
            conn.execute(grade.update().where(mine).values(undone_at=now()))
        return target_id

    return writing(db, work)


def last_grades(conn: sa.Connection, reviewer_id: int, limit: int = 50) -> list[dict[str, Any]]:
    """This reviewer's standing grades, latest first: what undo and back go through after a restart."""
    mine = (grade.c.reviewer_id == reviewer_id) & grade.c.undone_at.is_(None)
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


# ---------------------------------------------------------------- reviewers


def clean(text: str, length: int) -> str:
    """Text without control characters and blank ends, composed, cut to a length; markup stays as typed."""
    composed = unicodedata.normalize("NFC", text)
    kept = "".join(c for c in composed if c in "\n\t" or not unicodedata.category(c).startswith("C"))
    return kept.strip()[:length]


def checked_name(name: str) -> str:
    """A reviewer's name as it is stored.

    Raises
    ------
    UserError
        When nothing is left of it.
    """
    found = " ".join(clean(name, NAME_LENGTH).split())
    if not found:
        raise UserError(
            f"reviewer name {name!r} holds no letters; give a name of 1 to {NAME_LENGTH} characters"
        )
    return found


def find_reviewer(conn: sa.Connection, name: str) -> tuple[Reviewer, str | None] | None:
    """A reviewer by name with the subject stored for the sign-in."""
    row = conn.execute(sa.select(reviewer).where(reviewer.c.name == name)).mappings().first()
    return (_reviewer(row), row["subject"]) if row else None


def list_reviewers(conn: sa.Connection) -> list[Reviewer]:
    """Everyone who may grade, by name."""
    return [_reviewer(row) for row in conn.execute(sa.select(reviewer).order_by(reviewer.c.name)).mappings()]


def _reviewer(row: Any) -> Reviewer:
    return Reviewer(int(row["reviewer_id"]), str(row["name"]), bool(row["is_adjudicator"]))


def ensure_reviewer(
    db: str | None, name: str, *, subject: str | None = None, email: str | None = None, key: str | None = None
) -> Reviewer:
    """The reviewer of a name, entered when new; the first of a database adjudicates.

    Parameters
    ----------
    db : str or None
        Database.
    name : str
        Name shown.
    subject : str, optional
        Issuer and subject of a sign-in, or the hash of a passphrase; stored for a new reviewer only.
    email : str, optional
        Address that the sign-in gave.
    key : str, optional
        What the reviewer is known by; the name unless given.
    """
    shown = checked_name(name)
    reviewer_id = hashed_id("reviewer", key or shown)

    def work(conn: sa.Connection) -> Reviewer:
        by_key = sa.select(reviewer).where(reviewer.c.reviewer_id == reviewer_id)
        row: Any = conn.execute(by_key).mappings().first()
        if row is None and key is None:
            row = conn.execute(sa.select(reviewer).where(reviewer.c.name == shown)).mappings().first()
        if row is None:
            first = conn.execute(sa.select(sa.func.count()).select_from(reviewer)).scalar() == 0
            taken = conn.execute(sa.select(reviewer.c.name).where(reviewer.c.name == shown)).first()
            row = {
                "reviewer_id": reviewer_id,
                "name": (
                    f"{shown} ({hashlib.sha256((key or shown).encode()).hexdigest()[:6]})" if taken else shown
                ),
                "subject": subject,
                "email": email,
                "is_adjudicator": first,
                "added_at": now(),
            }
            conn.execute(reviewer.insert(), [row])
        return _reviewer(row)

    try:
        return writing(db, work)
    except sa.exc.IntegrityError:  # another browser entered the same reviewer just now
        return writing(db, work)


def set_adjudicator(db: str | None, name: str, value: bool) -> Reviewer:
    """Let a reviewer settle disagreements, or no longer.

    Raises
    ------
    UserError
        When there is no reviewer of that name.
    """
    shown = checked_name(name)

    def work(conn: sa.Connection) -> Reviewer:
        found = find_reviewer(conn, shown)
        if found is None:
            have = ", ".join(r.name for r in list_reviewers(conn)) or "none yet"
            raise UserError(f"no reviewer {shown!r}; there are: {have}")
        conn.execute(reviewer.update().where(reviewer.c.name == shown).values(is_adjudicator=value))
        return Reviewer(found[0].reviewer_id, shown, value)

    return writing(db, work)


def passphrase_hash(passphrase: str, salt: bytes | None = None) -> str:
    """What is stored of a local reviewer's passphrase: salt and scrypt hash."""
    salt = salt or secrets.token_bytes(16)
    made = hashlib.scrypt(passphrase.encode(), salt=salt, n=1 << 14, r=8, p=1, dklen=32)
    return f"local:{salt.hex()}:{made.hex()}"


def passphrase_fits(passphrase: str, stored: str | None) -> bool:
    """Whether a passphrase is the one stored."""
    kind, _, rest = (stored or "").partition(":")
    salt, _, _ = rest.partition(":")
    if kind != "local" or not salt:
        return False
    return hmac.compare_digest(passphrase_hash(passphrase, bytes.fromhex(salt)), stored or "")


def sign_in_locally(db: str | None, name: str, passphrase: str) -> Reviewer:
    """The local reviewer of a name, whose passphrase is set at the first sign-in.

    Raises
    ------
    UserError
        When the passphrase is too short, or not that of the name.
    """
    shown = checked_name(name)
    found = reading(db, lambda conn: find_reviewer(conn, shown))
    if found is None or found[1] is None:
        if len(passphrase) < 4:
            raise UserError("a passphrase of at least 4 characters keeps others from grading under this name")
        stored = passphrase_hash(passphrase)
        who = ensure_reviewer(db, shown, subject=stored)
        if found is not None:  # entered by the command, without a passphrase yet
            mine = (reviewer.c.reviewer_id == who.reviewer_id) & reviewer.c.subject.is_(None)
            writing(db, lambda conn: conn.execute(reviewer.update().where(mine).values(subject=stored)))
        return sign_in_locally(db, shown, passphrase) if found is not None else who
    if not passphrase_fits(passphrase, found[1]):
        raise UserError(f"this is not the passphrase of {shown}; choose another name, or ask who has it")
    return found[0]


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
    """Keep a query under a name; the latest of a name stands."""
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
        if conn.execute(sa.select(saved_query.c.query_id).where(same)).first():
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
