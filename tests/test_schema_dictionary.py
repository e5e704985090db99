"""Every column says what it holds, with a unit that astropy reads and a UCD that the IVOA knows."""

from __future__ import annotations

import importlib
import json
from importlib.metadata import packages_distributions
from pathlib import Path

import astropy.units as u
import pytest
import sqlalchemy as sa
import typer
from astropy.io.votable.ucd import parse_ucd
from typer.testing import CliRunner

from schema.cli import register
from schema.dictionary import Relation, as_markdown, column_entry, dictionary
from schema.engine import connect_engine
from schema.errors import UserError
from schema.tables import metadata, spec_obj, target
from schema.views.columns import VIEW_COLUMNS
from schema.views.order import VIEW_ORDER, view_header

REPO = Path(__file__).resolve().parent.parent
RELATIONS = dictionary()


def test_every_table_and_view_is_described() -> None:
    assert {r.name for r in RELATIONS} == {*metadata.tables, *VIEW_ORDER}
    for r in RELATIONS:
        assert r.doc.startswith("One row "), r.name
        assert r.columns, r.name


@pytest.mark.parametrize("relation", RELATIONS, ids=[r.name for r in RELATIONS])
def test_columns(relation: Relation) -> None:
    ends = {"_deg": "deg", "_arcsec": "arcsec", "_angstrom": "Angstrom", "_km_s": "km / s", "_bytes": "byte"}
    for column in relation.columns:
        name = f"{relation.name}.{column.name}"
        assert column.doc.strip().endswith("."), f"{name} needs a sentence"
        u.Unit(column.unit)
        parse_ucd(column.ucd, check_controlled_vocabulary=True)
        for end, unit in ends.items():
            assert not column.name.endswith(end) or column.unit == unit, f"{name} ends in {end}"


def test_view_columns_are_used() -> None:
    """No entry for a column that no view has."""
    have = {c.name for r in RELATIONS if r.kind == "view" for c in r.columns}
    have |= {f"{r.name}.{c.name}" for r in RELATIONS if r.kind == "view" for c in r.columns}
    assert set(VIEW_COLUMNS) - {"passes"} <= have


def test_view_files_and_order_agree() -> None:
    files = {p.stem for p in (REPO / "schema" / "views").glob("*.sql")}
    assert files == set(VIEW_ORDER)
    assert all(view_header(name) for name in files)


def test_selectable_offers_every_column(db: str) -> None:
    """A new column of target or spec_obj can be selected on at once."""
    with connect_engine(db).connect() as conn:
        have = {c["name"] for c in sa.inspect(conn).get_columns("selectable")}
    assert {c.name for c in target.c} | {c.name for c in spec_obj.c} <= have


def test_views_carry_their_header(db: str) -> None:
    with connect_engine(db).connect() as conn:
        assert sa.inspect(conn).get_table_comment("candidate")["text"] == view_header("candidate")


def test_command() -> None:
    app = typer.Typer()
    register(app)
    run = CliRunner().invoke
    everything = json.loads(run(app, ["db", "dictionary", "--json"]).stdout)
    assert {r["name"] for r in everything} == {r.name for r in RELATIONS}
    one = json.loads(run(app, ["db", "dictionary", "target", "--json"]).stdout)
    assert [c["name"] for c in one[0]["columns"]] == [c.name for c in target.c]
    assert "pos.eq.ra" in run(app, ["db", "dictionary", "target"]).stdout
    assert "| `ra_deg` | double | deg |" in run(app, ["db", "dictionary", "--format", "md"]).stdout
    assert as_markdown(RELATIONS).count("## table") == len(metadata.tables)
    wrong = run(app, ["db", "dictionary", "nonsense"])
    assert isinstance(wrong.exception, UserError)


def test_column_entry() -> None:
    entry = column_entry("candidate", "z_lens")
    assert entry is not None
    assert entry.ucd == "src.redshift"
    assert column_entry("candidate", "nonsense") is None


@pytest.mark.parametrize("name", ["schema", "etl", "scoring", "dashboard"])
def test_a_package_is_ours(name: str) -> None:
    """The floors are imported from this repository, and no other distribution owns their names."""
    module = importlib.import_module(name)
    assert Path(module.__file__ or "").resolve().is_relative_to(REPO)
    owners = set(packages_distributions().get(name, []))
    assert owners <= {"lensmine"}, (
        f"{owners} also install a package {name}: use an environment of lensmine's own"
    )
