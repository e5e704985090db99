"""Who may grade: reviewers by name, by passphrase, or by the identity that a provider vouched for."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dashboard.transactions import now, reading, writing
from schema.errors import UserError
from schema.ids import hashed_id
from schema.tables import reviewer

NAME_LENGTH = 80


@dataclass(frozen=True)
class Reviewer:
    """Who grades."""

    reviewer_id: int
    name: str
    is_adjudicator: bool


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
        return sign_in_locally(db, shown, passphrase)  # another browser may have been first with the name
    if not passphrase_fits(passphrase, found[1]):
        raise UserError(f"this is not the passphrase of {shown}; choose another name, or ask who has it")
    return found[0]
