"""The command itself: quick help, one-line errors with the exit code of their class, lensmine sql."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lensmine
from schema.errors import DataError, TransientError, UserError

REPO = Path(lensmine.__file__).resolve().parent


def run(*args: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    import os

    return subprocess.run(
        [sys.executable, str(REPO / "lensmine.py"), *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPO), **env},
    )


def test_help_lists_the_commands_people_script_against() -> None:
    done = run("--help", COLUMNS="200")
    assert done.returncode == 0
    named = "demo db ingest select models score fit explain export evaluate train refresh status sql"
    for command in named.split():
        assert f" {command} " in done.stdout


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    heavy = "{'torch', 'pandas', 'astropy', 'sqlalchemy', 'duckdb', 'numpy'}"
    code = f"import sys, lensmine; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO)
    assert done.stdout.strip() == "[]"
    began = time.perf_counter()
    run("--help")
    assert time.perf_counter() - began < 5


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"lensmine {lensmine.__version__}\n")


def test_missing_database_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = run("status", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: no database at ")
    assert "lensmine db upgrade" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "lensmine.duckdb").write_text("this is no database" * 1000)
    done = run("status", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (UserError("x"), 2),
        (DataError("x"), 65),
        (TransientError("x"), 75),
        (OSError(errno.ENOSPC, "No space left on device", "/data/shard"), 75),
        (MemoryError(), 75),
    ],
)
def test_exit_code_follows_the_class(raised: BaseException, code: int) -> None:
    known = lensmine.as_lensmine_error(raised)
    assert known is not None
    assert known.exit_code == code


def test_what_nobody_foresaw_is_a_line_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: object) -> None:
        raise ValueError("the\nthing broke")

    monkeypatch.delenv("LENSMINE_TRACEBACK", raising=False)
    monkeypatch.setattr(lensmine, "app", broken)
    with pytest.raises(SystemExit) as leave:
        lensmine.main()
    assert leave.value.code == 1
    printed = capsys.readouterr().err
    assert "ValueError: the thing broke" in printed
    assert "LENSMINE_TRACEBACK=1" in printed
    monkeypatch.setenv("LENSMINE_TRACEBACK", "1")
    with pytest.raises(ValueError, match="thing broke"):
        lensmine.main()


def test_sql_prints_json_csv_and_a_table(db: str) -> None:
    query = "select name, value from cut_setting where name like 'peak%' order by name"
    as_json = run("sql", query, "--json", "--db", db)
    assert json.loads(as_json.stdout) == [{"name": "peak_flux_min", "value": 1.0}]
    assert run("sql", query, "--csv", "--db", db).stdout == "name,value\npeak_flux_min,1.0\n"
    assert run("sql", query, "--db", db).stdout.split() == ["name", "value", "peak_flux_min", "1"]


@pytest.mark.parametrize(
    "query", ["delete from cut_setting", "select nonsense from target", "drop table target", " "]
)
def test_sql_refuses_what_writes_or_does_not_parse(db: str, query: str) -> None:
    done = run("sql", query, "--db", db)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    kept = run("sql", "select count(*) as n from cut_setting", "--json", "--db", db)
    assert json.loads(kept.stdout)[0]["n"] > 5


def test_output_into_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    command = f"{sys.executable} {REPO / 'lensmine.py'} db dictionary | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
