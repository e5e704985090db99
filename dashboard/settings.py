"""What the dashboard runs with: set once by the command, read by every page."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from schema.engine import database_file, resolve_url

SECRET_NAME = "secret"
PICTURE_BYTES = 512 << 20


@dataclass(frozen=True)
class Settings:
    """Settings of one dashboard process.

    Attributes
    ----------
    db : str or None  database, as for `schema.engine.resolve_url`
    reviewer : str or None  everyone who opens the pages is this reviewer; None asks people to sign in
    picture_dir : Path  folder of the pictures made, which may be deleted at any time
    picture_bytes : int  most bytes of it [byte]
    base : str  path under which the pages are served, without slashes at its ends
    secret : bytes  key that signs addresses of pictures and the cookie of local sign-in
    """

    db: str | None = None
    reviewer: str | None = None
    picture_dir: Path = field(default_factory=lambda: default_picture_dir(None))
    picture_bytes: int = PICTURE_BYTES
    base: str = ""
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @property
    def audience(self) -> str:
        """Which database a sign-in is good for; one folder, and one host name, may serve several."""
        return hashlib.sha256(resolve_url(self.db).encode()).hexdigest()[:16]

    @property
    def cookie(self) -> str:
        """Name of the cookie of local sign-in: cookies do not know ports, databases do differ."""
        return f"lensmine_reviewer_{self.audience[:8]}"


def default_picture_dir(db: str | None) -> Path:
    """LENSMINE_PICTURES, else FILE.pictures beside a DuckDB file, else ./lensmine.pictures."""
    given = os.environ.get("LENSMINE_PICTURES")
    if given:
        return Path(given).expanduser().absolute()
    file = database_file(db)
    return file.with_name(file.name + ".pictures") if file else Path("lensmine.pictures").absolute()


def kept_secret(folder: Path) -> bytes:
    """The key kept beside the pictures, so that a restart signs nobody out; made at first."""
    path = folder / SECRET_NAME
    try:
        found = path.read_bytes()
        if len(found) >= 32:
            return found
    except FileNotFoundError:
        pass
    folder.mkdir(parents=True, exist_ok=True)
    made = secrets.token_bytes(32)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(made)
    return made


_current: Settings | None = None


def use(settings: Settings) -> None:
    """Make these the settings of the process."""
    global _current
    _current = settings


def current() -> Settings:
    """Settings of the process; those of the environment where the command has set none."""
    global _current
    if _current is None:
        folder = default_picture_dir(None)
        _current = Settings(
            reviewer=os.environ.get("LENSMINE_REVIEWER"), picture_dir=folder, secret=kept_secret(folder)
        )
    return _current
