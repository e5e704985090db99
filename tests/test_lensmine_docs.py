"""What README and docs tell people to type exists and runs."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa

import lensmine
from lensmine_config import EXAMPLE
from schema.engine import connect_engine
from schema.tables import metadata

REPO = Path(lensmine.__file__).resolve().parent
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


SQL = [(page.name, k, text) for page in PAGES for k, text in enumerate(blocks(page, "sql"))]


@pytest.mark.parametrize(("page", "k", "text"), SQL, ids=[f"{page}-{k}" for page, k, _ in SQL])
def test_sql_of_the_documentation_runs_on_both_engines(db: str, page: str, k: int, text: str) -> None:
    with connect_engine(db).connect() as conn:
        for statement in filter(str.strip, text.split(";")):
            conn.execution_options(no_parameters=True).exec_driver_sql(statement)
        conn.rollback()


def test_first_two_shell_blocks_of_readme_are_the_demo_and_the_tests() -> None:
    first, second = blocks(REPO / "README.md", "bash")[:2]
    assert first.strip().splitlines()[-1] == ".venv/bin/lensmine demo"
    assert "pip install ." in first
    assert "pip install --editable '.[test]'" in second
    assert "-m pytest" in second.strip().splitlines()[-1]
    assert re.findall(r"^```(\w*)", (REPO / "README.md").read_text(), re.MULTILINE)[0] == "bash"


def commands() -> list[tuple[str, list[str]]]:
    """Every line that starts with lensmine in the shell blocks, without comment."""
    out = []
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["lensmine"]:
                    out.append((page.name, words[1:]))
    return out


def test_every_command_in_the_documentation_exists() -> None:
    from typer.main import get_command

    root = get_command(lensmine.app)
    seen = commands()
    assert len(seen) > 10
    for page, words in seen:
        command, at = root, 0
        while hasattr(command, "commands"):
            assert words[at] in command.commands, f"{page}: lensmine {' '.join(words)}"
            command, at = command.commands[words[at]], at + 1
        command.make_context(f"{page}: lensmine", words[at:])  # raises on what it does not understand


def test_every_command_has_help_with_an_example() -> None:
    from typer.main import get_command

    def leaves(name: str, command: object) -> list[tuple[str, object]]:
        children = getattr(command, "commands", None)
        if not children:
            return [(name, command)]
        return [leaf for n, child in children.items() for leaf in leaves(f"{name} {n}".strip(), child)]

    for name, command in leaves("", get_command(lensmine.app)):
        text = f"{getattr(command, 'help', '')} {getattr(command, 'epilog', '')}"
        assert "Example" in text, f"lensmine {name} --help shows no example"


def test_example_settings_in_the_documentation_are_those_the_command_prints() -> None:
    assert blocks(REPO / "docs" / "cron.md", "toml") == [EXAMPLE]


def test_tables_in_readme_exist_and_all_of_them_are_there(db: str) -> None:
    readme = (REPO / "README.md").read_text()
    table = readme[readme.index("| table |") : readme.index("Views:")]
    named = set(
        re.findall(r"`([a-z_]+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if line))
    )
    assert named <= set(metadata.tables)
    assert set(metadata.tables) - named <= {"known_lens_cell"}
    with connect_engine(db, read_only=True).connect() as conn:
        views = set(sa.inspect(conn).get_view_names())
    assert {"hit", "attrition", "candidate", "known_lens_match", "selectable"} <= views


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name} -> {link}"


def test_nothing_names_a_machine_or_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=REPO).stdout
    for name in listed.split():
        if Path(name).suffix in (".md", ".py", ".toml", ".sql", ".json") and (REPO / name).exists():
            text = (REPO / name).read_text(encoding="utf-8")
            assert (
                not re.search(r"/home/|/root/|--index-url|pypi\.org", text)
                or name == "tests/test_lensmine_docs.py"
            ), name
