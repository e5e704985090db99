"""Which database a command means, and what it says when that cannot be had."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from schema.engine import (
    connect_engine,
    database_file,
    driver_errors,
    raw_connection,
    read_frame,
    resolve_url,
    shard_root,
    shown,
    upgrade,
)
from schema.errors import TransientError, UserError
from schema.tables import cut_setting

REPO = Path(__file__).resolve().parent.parent


def test_resolve_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_url() == f"duckdb:///{tmp_path}/lensmine.duckdb"
    assert resolve_url("a b/x.duckdb") == f"duckdb:///{tmp_path}/a b/x.duckdb"
    assert resolve_url("duckdb:///rel.db") == f"duckdb:///{tmp_path}/rel.db"
    assert resolve_url("duckdb:////abs/x.db") == "duckdb:////abs/x.db"
    for text in ("postgresql://u@h/d", "postgres://u@h/d", "postgresql+psycopg://u@h/d"):
        assert resolve_url(text) == "postgresql+psycopg://u@h/d"
    monkeypatch.setenv("LENSMINE_DB", "other.db")
    assert database_file() == tmp_path / "other.db"
    assert database_file("mine.db") == tmp_path / "mine.db"
    assert database_file("postgresql:///d") is None
    for text in ("mysql://h/d", "duckdb://", "duckdb:///:memory:"):
        with pytest.raises(UserError):
            resolve_url(text)


def test_shard_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert shard_root("x/y.duckdb") == tmp_path / "x" / "y.duckdb.shards"
    assert shard_root("postgresql:///d") == tmp_path / "lensmine.shards"
    monkeypatch.setenv("LENSMINE_SHARDS", "pixels")
    assert shard_root("x/y.duckdb") == tmp_path / "pixels"


def test_a_password_is_not_shown() -> None:
    assert "secret" not in shown(resolve_url("postgresql://u:secret@host/d"))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no database at .*none\.duckdb; make one with: lensmine db upgrade"):
        connect_engine(str(tmp_path / "none.duckdb"))
    with pytest.raises(UserError, match="no folder"):
        upgrade(str(tmp_path / "none" / "x.duckdb"))
    assert list(tmp_path.iterdir()) == []


def test_not_upgraded(empty_db: str) -> None:
    if database_file(empty_db):
        connect_engine(empty_db, must_exist=False).connect().close()
    with pytest.raises(UserError, match="holds no lensmine tables; make them with: lensmine db upgrade"):
        connect_engine(empty_db)
    upgrade(empty_db)
    connect_engine(empty_db)


def test_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    path.write_bytes(b"SIMPLE  =                    T" * 1000)
    for attempt in (connect_engine, upgrade):
        with pytest.raises(UserError, match=r"x\.duckdb is not a DuckDB database"):
            attempt(str(path))
    assert path.read_bytes().startswith(b"SIMPLE")


def test_server_not_reachable(tmp_path: Path) -> None:
    for url in (f"postgresql:///d?host={tmp_path}", "postgresql://u@127.0.0.1:1/d"):
        with pytest.raises(TransientError, match="PostgreSQL is not reachable") as caught:
            connect_engine(url)
        assert caught.value.exit_code == 75
        assert "\n" not in str(caught.value)


def test_no_such_database_on_the_server(postgres_server: str) -> None:
    with pytest.raises(UserError, match=r"no such database.*createdb"):
        connect_engine(f"postgresql://lensmine@/nowhere?host={postgres_server}")
    with pytest.raises(UserError, match=r"refused the login"):
        connect_engine(f"postgresql://nobody_known@/postgres?host={postgres_server}")


HOLD = """
    import sys, time, duckdb
    conn = duckdb.connect(sys.argv[1])
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(path: str, seconds: float) -> subprocess.Popen[str]:
    """Another process that keeps a DuckDB file open for writing."""
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), path, str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    return other


def test_file_held_by_another_process(
    duckdb_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer elsewhere is waited for, then named; reading fails alike; afterwards all is well."""
    path = tmp_path / "x.duckdb"
    path.write_bytes(duckdb_template.read_bytes())
    other = hold(str(path), 60)
    monkeypatch.setenv("LENSMINE_LOCK_WAIT", "0.3")
    for read_only in (False, True):
        start = time.monotonic()
        with pytest.raises(TransientError, match=f"held by process {other.pid}; try again") as caught:
            connect_engine(str(path), read_only=read_only)
        assert 0.3 <= time.monotonic() - start < 3
        assert caught.value.exit_code == 75
    other.kill()
    other.wait()
    connect_engine(str(path))
    other = hold(str(path), 1.0)
    monkeypatch.setenv("LENSMINE_LOCK_WAIT", "30")
    connect_engine(str(path))
    other.wait()


def test_several_engines_in_one_process(db: str) -> None:
    """Engines on one database live side by side, read-only ones too, and see what is committed."""
    first, second = connect_engine(db), connect_engine(db, read_only=True)
    with first.begin() as conn:
        conn.execute(cut_setting.insert().values(name="mine", value=1.0))
    with first.connect() as a, second.connect() as b:
        for conn in (a, b):
            query = sa.select(cut_setting.c.value).where(cut_setting.c.name == "mine")
            assert conn.execute(query).scalar() == 1.0


def test_read_only_refuses_writes(db: str) -> None:
    engine = connect_engine(db, read_only=True)
    with engine.connect() as conn, pytest.raises(Exception, match=r"(?i)read.only"):
        conn.execute(cut_setting.insert().values(name="mine", value=1.0))


def test_times_are_utc(db: str) -> None:
    with connect_engine(db).connect() as conn:
        now = conn.execute(sa.text("select current_timestamp")).scalar()
        assert now is not None
        assert now.utcoffset() == datetime.timedelta(0)


def test_raw_work_belongs_to_the_transaction(db: str) -> None:
    engine = connect_engine(db)
    with engine.connect() as conn:
        raw_connection(conn).execute("insert into cut_setting (name, value) values ('raw', 1)")
        conn.rollback()
    with engine.connect() as conn:
        raw_connection(conn).execute("insert into cut_setting (name, value) values ('kept', 1)")
        conn.commit()
    with engine.connect() as conn:
        names = set(
            read_frame(conn, "select name from cut_setting where name in (:a, :b)", a="raw", b="kept")["name"]
        )
    assert names == {"kept"}


def test_full_disk_is_transient(tmp_path: Path, duckdb_template: Path) -> None:
    """A write that the disk refuses ends as a TransientError, and the committed rows stay."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs Linux's /dev/full")
    with pytest.raises(TransientError, match=r"disk of .* is full"), driver_errors():
        Path("/dev/full").write_bytes(b"x")


def test_own_views_block_an_upgrade_with_advice(db: str) -> None:
    """PostgreSQL will not drop a view that another needs: the message says which."""
    engine = connect_engine(db)
    with engine.begin() as conn:
        conn.execute(sa.text("create view mine as select target_id from selectable"))
    if engine.dialect.name == "duckdb":
        upgrade(db)
        return
    with pytest.raises(UserError, match=r"view mine depends on .*drop your own views first"):
        upgrade(db)
    connect_engine(db)


def test_a_server_does_not_compile_queries(db: str) -> None:
    """The view of all cuts holds 500 expressions: compiling them took most of its time."""
    with connect_engine(db, read_only=True).connect() as conn:
        if conn.dialect.name == "duckdb":
            return
        assert conn.execute(sa.text("show jit")).scalar() == "off"
        assert conn.execute(sa.text("show default_transaction_read_only")).scalar() == "on"
