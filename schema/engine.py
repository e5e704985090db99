"""Connections to the two engines; with schema.upsert the only place where the engines differ.

DuckDB lets one process hold a file for writing, and then no other can open it even to read. So engines do not
pool there: open late, write in short transactions, close. A file held by another process is waited for a
moment (LENSMINE_LOCK_WAIT seconds, 5 unless set) and is then a TransientError.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from schema.driver_errors import driver_errors, shown, translated
from schema.errors import TransientError, UserError

if TYPE_CHECKING:
    import pandas as pd
    from alembic.config import Config
    from numpy.typing import NDArray

__all__ = [
    "HEAD",
    "MIGRATIONS",
    "REVISIONS",
    "alembic_config",
    "check_revision",
    "connect_engine",
    "current_revision",
    "database_file",
    "declares_keys",
    "dialect_name",
    "downgrade",
    "driver_errors",
    "finish_upgrade",
    "migration_engine",
    "raw_connection",
    "read_frame",
    "resolve_url",
    "scratch_engine",
    "shard_root",
    "shown",
    "translated",
    "upgrade",
]

DEFAULT_FILE = "lensmine.duckdb"
MIGRATIONS = Path(__file__).parent / "migrations"
REVISIONS: tuple[str, ...] = tuple(
    sorted(p.stem.split("_")[0] for p in (MIGRATIONS / "versions").glob("[0-9]*.py"))
)
HEAD = REVISIONS[-1]


def resolve_url(db: str | None = None) -> str:
    """SQLAlchemy URL of the database that a command means.

    Parameters
    ----------
    db : str or None
        A DuckDB file, ``duckdb:///FILE`` or ``postgresql://...``; None means LENSMINE_DB, and without it
        ./lensmine.duckdb.

    Returns
    -------
    str
        A ``duckdb:///`` URL with an absolute path, or a ``postgresql+psycopg://`` URL.

    Raises
    ------
    UserError
        When the text names neither engine.
    """
    text = db or os.environ.get("LENSMINE_DB") or DEFAULT_FILE
    scheme, sep, rest = text.partition("://")
    if not sep:
        scheme, rest = "duckdb", "/" + text
    if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        return f"postgresql+psycopg://{rest}"
    if scheme == "duckdb" and len(rest) > 1 and rest.startswith("/"):
        if rest[1:].startswith(":memory:"):
            raise UserError(f"database {text!r} would vanish between two commands; name a file instead")
        return f"duckdb:///{Path(rest[1:]).expanduser().absolute()}"
    raise UserError(
        f"database {text!r} is no DuckDB file and no postgresql:// URL; give --db FILE or --db URL"
    )


def database_file(db: str | None = None) -> Path | None:
    """Path of a DuckDB database; None for a server."""
    url = resolve_url(db)
    return Path(url.removeprefix("duckdb:///")) if url.startswith("duckdb:///") else None


def shard_root(db: str | None = None) -> Path:
    """Folder of the pixel shards: LENSMINE_SHARDS, else FILE.shards beside FILE, else ./lensmine.shards."""
    given = os.environ.get("LENSMINE_SHARDS")
    if given:
        return Path(given).expanduser().absolute()
    file = database_file(db)
    return file.with_name(file.name + ".shards") if file else Path("lensmine.shards").absolute()


def connect_engine(
    db: str | None = None, *, read_only: bool = False, must_exist: bool = True, check: bool = True
) -> sa.Engine:
    """Engine on an upgraded database.

    Parameters
    ----------
    db : str or None
        As for `resolve_url`.
    read_only : bool
        Open a DuckDB file for reading, next to other readers; transactions of a server refuse writes.
    must_exist : bool
        Refuse a database that is not there; False creates an empty DuckDB file.
    check : bool
        Refuse a database that stands at another migration than this lensmine.

    Returns
    -------
    sqlalchemy.Engine
        Opens a connection when asked for one, and closes it when it is given back.

    Raises
    ------
    UserError
        No such database, no database at all, or one at another migration.
    TransientError
        The file is held by another process, or the server is not reachable.
    """
    url = resolve_url(db)
    file = database_file(url)
    if file is not None and must_exist and not file.exists():
        raise UserError(f"no database at {file}; make one with: lensmine db upgrade --db {file}")
    if file is not None and not file.parent.is_dir():
        raise UserError(f"no folder {file.parent} for database {file.name}; make it first")
    if file is not None and read_only and not file.exists():
        read_only = False
    engine = sa.create_engine(url, poolclass=NullPool)
    event.listen(engine, "do_connect", _open(url, read_only))
    event.listen(engine, "handle_error", _translate)
    if check and must_exist:
        with engine.connect() as conn:
            check_revision(conn, url)
    return engine


def migration_engine(db: str | None) -> sa.Engine:
    """Engine on a database of any migration, made when it is a DuckDB file that is not there yet."""
    return connect_engine(db, must_exist=False, check=False)


def scratch_engine() -> sa.Engine:
    """Engine on a database in memory that vanishes with it."""
    return sa.create_engine("duckdb:///:memory:")


def _open(url: str, read_only: bool) -> Any:
    """Listener that opens the driver's connection and turns its failures into our classes."""

    def connect(dialect: Any, record: Any, cargs: Any, cparams: Any) -> Any:
        if dialect.name == "postgresql":
            # the cuts are one query of 500 expressions: compiling them takes longer than running it
            options = "-c timezone=UTC -c jit=off" + (
                " -c default_transaction_read_only=on" if read_only else ""
            )
            cparams.setdefault("options", options)
            cparams.setdefault("connect_timeout", 10)
        elif read_only:
            cparams["read_only"] = True
        until = time.monotonic() + float(os.environ.get("LENSMINE_LOCK_WAIT", "5"))
        pause = 0.02
        while True:
            try:
                opened = dialect.connect(*cargs, **cparams)
                break
            except Exception as exc:
                if "different configuration" in str(exc):  # this process has it open for writing already
                    cparams.pop("read_only", None)
                    read_write = dialect.connect(*cargs, **cparams)
                    read_write.execute("set TimeZone = 'UTC'")
                    return read_write
                known = translated(exc, url)
                if isinstance(known, TransientError) and "held by" in str(known) and time.monotonic() < until:
                    time.sleep(pause)
                    pause = min(2 * pause, 0.5)
                    continue
                if known is None:
                    raise
                raise known from exc
        if dialect.name == "duckdb":
            opened.execute("set TimeZone = 'UTC'")
        return opened

    return connect


def _translate(context: Any) -> None:
    """Listener that raises our class in place of the driver's, where one fits."""
    known = translated(context.original_exception, "")
    if known is not None:
        raise known from context.original_exception


def current_revision(conn: sa.Connection) -> str | None:
    """Migration that the database stands at; None when it has none of ours."""
    here = "select 1 from information_schema.tables where table_name = 'alembic_version'"
    if conn.execute(sa.text(here)).scalar() is None:
        return None
    return conn.execute(sa.text("select version_num from alembic_version")).scalar()


def check_revision(conn: sa.Connection, url: str) -> None:
    """Refuse a database at another migration than this lensmine's."""
    have = current_revision(conn)
    if have == HEAD:
        return
    where = shown(url)
    if have is None:
        raise UserError(f"{where} holds no lensmine tables; make them with: lensmine db upgrade --db {where}")
    if have in REVISIONS:
        raise UserError(
            f"{where} is at migration {have}, this lensmine needs {HEAD}; "
            f"run: lensmine db upgrade --db {where}"
        )
    raise UserError(
        f"{where} is at migration {have}, newer than this lensmine knows ({HEAD}); update lensmine, "
        "or downgrade the database with the lensmine that made it"
    )


def dialect_name(conn: sa.Connection | sa.Engine) -> str:
    """``duckdb`` or ``postgresql``."""
    return conn.dialect.name


def declares_keys(conn: sa.Connection) -> bool:
    """True where foreign keys and secondary indexes are declared: PostgreSQL (see schema.tables.keys)."""
    return conn.dialect.name == "postgresql"


def raw_connection(conn: sa.Connection) -> Any:
    """The driver's connection within SQLAlchemy's transaction, for bulk work inside `driver_errors`."""
    if not conn.in_transaction():
        conn.begin()
    if conn.dialect.name == "duckdb":
        conn.exec_driver_sql("select 1")  # the driver's own BEGIN
    return conn.connection.dbapi_connection


def read_frame(conn: sa.Connection, sql: str, **params: Any) -> pd.DataFrame:
    """Rows of a query as a frame; ``:name`` in the SQL is a parameter."""
    import pandas as pd

    return pd.read_sql_query(sa.text(sql), conn, params=params or None)


def read_columns(conn: sa.Connection, sql: str, types: dict[str, str]) -> dict[str, NDArray[Any]]:
    """Columns of a query of millions of rows as arrays, without a Python object a value.

    Parameters
    ----------
    conn : sqlalchemy.Connection
        Its transaction is used.
    sql : str
        A query without parameters, whose columns hold no nulls: wrap them in coalesce.
    types : dict of str to str
        Names of the columns in order, each ``int`` for bigint, ``float`` for double precision or ``bool``.

    Returns
    -------
    dict of ndarray, each of shape (n,)
        int64, float64 or bool.
    """
    import numpy as np

    raw = raw_connection(conn)
    stored = {"int": (">i8", np.int64), "float": (">f8", np.float64), "bool": ("?", np.bool_)}
    with driver_errors():
        if conn.dialect.name == "duckdb":
            found = raw.execute(sql).fetchnumpy()
            return {name: np.asarray(found[name], dtype=stored[kind][1]) for name, kind in types.items()}
        fields: list[tuple[str, str]] = [("", ">i2")]
        for name, kind in types.items():
            fields += [(f"{name} length", ">i4"), (name, stored[kind][0])]
        row = np.dtype([(name or "columns", form) for name, form in fields])
        parts = []
        rest = b""
        with raw.cursor() as cursor, cursor.copy(f"copy ({sql}) to stdout (format binary)") as copy:
            pending: list[bytes] = []
            held, header = 0, 19  # bytes of the signature, flags and extension length
            for block in copy:
                pending.append(bytes(block))
                held += len(pending[-1])
                if held < 4 << 20:
                    continue
                rest = b"".join([rest, *pending])
                pending, held = [], 0
                n = (len(rest) - header - 2) // row.itemsize  # the last two bytes may be the trailer
                parts.append(np.frombuffer(rest, dtype=row, count=n, offset=header).copy())
                rest, header = rest[header + n * row.itemsize :], 0
            rest = b"".join([rest, *pending])
            n = (len(rest) - header) // row.itemsize
            parts.append(np.frombuffer(rest, dtype=row, count=n, offset=header))
        rows = np.concatenate(parts)
    for name in types:
        if len(rows) and (rows[f"{name} length"] != row[name].itemsize).any():
            raise ValueError(f"column {name} of {sql!r} holds nulls or has another type than {types[name]}")
    return {name: rows[name].astype(stored[kind][1]) for name, kind in types.items()}


def alembic_config(conn: sa.Connection | None = None) -> Config:
    """Alembic's configuration without a file, so that it works from an installed package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    return config


def finish_upgrade(conn: sa.Connection) -> None:
    """What stands beside the tables of the newest migration: views, default thresholds and comments."""
    from schema.defaults import ensure_defaults
    from schema.tables import metadata
    from schema.views.order import create_views

    create_views(conn)
    ensure_defaults(conn)
    comments: list[sa.schema.ExecutableDDLElement] = []
    for table in metadata.tables.values():
        comments.append(sa.schema.SetTableComment(table))
        comments += [sa.schema.SetColumnComment(column) for column in table.c]
    with driver_errors():  # in one go: some three hundred statements
        statements = ";\n".join(str(c.compile(dialect=conn.dialect)) for c in comments)
        raw_connection(conn).execute(statements.replace("%%", "%"))  # doubled for parameters, of which none


def upgrade(db: str | None = None, revision: str = "head") -> tuple[str | None, str | None]:
    """Bring a database up to a migration, making the DuckDB file when it is not there.

    Returns
    -------
    before, after : str or None
        Migration before and after.
    """
    from alembic import command

    return _migrate(db, lambda conn: command.upgrade(alembic_config(conn), revision))


def downgrade(db: str | None, revision: str) -> tuple[str | None, str | None]:
    """Take a database down to a migration: a number as ``0001``, ``-1`` for one step, ``base`` for none.

    Returns
    -------
    before, after : str or None
        Migration before and after.
    """
    from alembic import command

    return _migrate(db, lambda conn: command.downgrade(alembic_config(conn), revision), must_exist=True)


def _migrate(db: str | None, work: Any, *, must_exist: bool = False) -> tuple[str | None, str | None]:
    from alembic.util.exc import CommandError

    engine = connect_engine(db, must_exist=must_exist, check=False)
    with engine.connect() as conn:
        before = current_revision(conn)
        if before is not None and before not in REVISIONS:
            check_revision(conn, resolve_url(db))
        conn.rollback()
        try:
            work(conn)
        except CommandError as exc:
            raise UserError(f"no such migration: {exc}; there are {', '.join(REVISIONS)}") from exc
        conn.commit()
        after = current_revision(conn)
    return before, after
