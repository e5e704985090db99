"""Migrations go up and down with data in them, and give exactly the tables of schema.tables."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from schema.engine import HEAD, REVISIONS, connect_engine, downgrade, read_frame, upgrade
from schema.errors import UserError
from schema.tables import cut_setting, metadata
from schema.upsert import insert_rows
from schema.views.order import VIEW_ORDER


def value(column: sa.Column[Any]) -> Any:
    """Some value of a column's type."""
    kind = column.type
    if column.name == "is_primary":
        return True
    if isinstance(kind, sa.Integer):
        return 1
    if isinstance(kind, sa.Boolean):
        return False
    if isinstance(kind, sa.Double):
        return 0.5
    if isinstance(kind, sa.DateTime):
        return datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    if isinstance(kind, sa.JSON):
        return {"a": [1, "é"]}
    return f"{column.name} é"


def one_row_each(conn: sa.Connection, tables: list[str] | None = None) -> None:
    """One row in every table, every column filled."""
    for table in metadata.sorted_tables:
        if tables is None or table.name in tables:
            insert_rows(conn, table, [{c.name: value(c) for c in table.c}])


def everything(conn: sa.Connection) -> dict[str, dict[str, list[Any]]]:
    """All values of all columns that are there, by table and column."""
    there = sa.inspect(conn)
    names = there.get_table_names()
    found: dict[str, dict[str, list[Any]]] = {}
    for table in (t for t in metadata.sorted_tables if t.name in names):
        columns = [table.c[c["name"]] for c in there.get_columns(table.name)]
        rows = sorted((tuple(r) for r in conn.execute(sa.select(*columns))), key=repr)
        found[table.name] = {c.name: [row[i] for row in rows] for i, c in enumerate(columns)}
    return found


def only(whole: dict[str, dict[str, list[Any]]], part: dict[str, dict[str, list[Any]]]) -> Any:
    """What `whole` holds of the tables and columns that `part` has."""
    return {name: {c: whole[name][c] for c in columns} for name, columns in part.items()}


def test_down_and_up_with_rows_in_every_table(db: str) -> None:
    """Each step down keeps the rows of the tables that stay; coming up again, they are there still."""
    engine = connect_engine(db, check=False)
    with engine.begin() as conn:
        one_row_each(conn)
        full = everything(conn)
        assert all(all(full[t.name].values()) for t in metadata.sorted_tables)
        before = full
    for k in range(len(REVISIONS) - 2, -1, -1):
        assert downgrade(db, "-1") == (REVISIONS[k + 1], REVISIONS[k])
        with engine.connect() as conn:
            left = everything(conn)
            assert left == only(full, left)
            assert sa.inspect(conn).get_view_names() == []
        columns = [sum(map(len, tables.values())) for tables in (left, before)]
        assert 0 < columns[0] < columns[1]
        before = left
        with pytest.raises(
            UserError, match=f"at migration {REVISIONS[k]}, this lensmine needs {HEAD}.*db upgrade"
        ):
            connect_engine(db)
    for k in range(1, len(REVISIONS)):
        assert upgrade(db, REVISIONS[k]) == (REVISIONS[k - 1], REVISIONS[k])
    with connect_engine(db).begin() as conn:
        again = everything(conn)
        assert only(again, left) == left
        added = set(again["source_file"]) - set(left["source_file"])
        assert added == {"modified_at"}
        assert again["source_file"]["modified_at"] == [None]
        assert set(sa.inspect(conn).get_view_names()) == set(VIEW_ORDER)
        one_row_each(conn, [t for t in full if t not in left])


def test_simulated_cutouts_of_before_have_north_up(db: str) -> None:
    """Those of arcs on a host lie as its cutout does, which is not known before that is ingested again."""
    tables = metadata.tables
    with connect_engine(db).begin() as conn:
        for k, (survey, host) in enumerate((("sim", None), ("sim", 3), ("hsc", None))):
            for name, change in (
                ("target", {"survey": survey, "native_id": f"{survey}{k}"}),
                ("injection", {"host_target_id": host}),
                ("cutout", {"cutout_id": k + 1, "orientat_deg": 5.0, "sky_parity": -1}),
            ):
                row = {c.name: value(c) for c in tables[name].c} | change | {"target_id": k + 1}
                if name != "injection" or survey == "sim":
                    insert_rows(conn, tables[name], [row])
        insert_rows(
            conn,
            tables["image_shard"],
            [{c.name: value(c) for c in tables["image_shard"].c}],
        )
    downgrade(db, "0006")
    upgrade(db)
    with connect_engine(db).connect() as conn:
        found = conn.execute(sa.text("select orientat_deg, sky_parity from cutout order by cutout_id")).all()
    assert [tuple(r) for r in found] == [(0.0, 1), (None, None), (None, None)]


def test_down_to_nothing(db: str) -> None:
    with connect_engine(db).begin() as conn:
        one_row_each(conn)
    assert downgrade(db, "base") == (HEAD, None)
    with connect_engine(db, check=False).connect() as conn:
        assert set(sa.inspect(conn).get_table_names()) <= {"alembic_version"}
        assert sa.inspect(conn).get_view_names() == []
    assert upgrade(db) == (None, HEAD)


def test_upgrade_keeps_what_the_user_tuned(db: str) -> None:
    with connect_engine(db).begin() as conn:
        before = conn.execute(sa.select(sa.func.count()).select_from(cut_setting)).scalar()
        conn.execute(
            cut_setting.update().where(cut_setting.c.name == "known_lens_radius_arcsec").values(value=7.5)
        )
        conn.execute(cut_setting.insert().values(name="mine", value=1.0))
    assert upgrade(db) == (HEAD, HEAD)
    with connect_engine(db).connect() as conn:
        values = dict(conn.execute(sa.select(cut_setting.c.name, cut_setting.c.value)).all())
    assert values["known_lens_radius_arcsec"] == 7.5
    assert values["mine"] == 1.0
    assert len(values) == before + 1


def test_migrated_database_is_the_metadata(db: str) -> None:
    """Autogenerate finds nothing to do: same tables, columns, types, nullability, keys and indexes."""

    def declared(obj: Any, name: Any, kind: str, reflected: bool, compared: Any) -> bool:
        # keys and indexes are declared on PostgreSQL alone: see schema.tables.keys
        return conn.dialect.name == "postgresql" or kind not in ("index", "foreign_key_constraint")

    with connect_engine(db).connect() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True, "include_object": declared})
        changes = [c for c in compare_metadata(context, metadata) if "comment" not in str(c[0])]
        assert changes == []
        for table in metadata.sorted_tables:
            columns = {c["name"]: c for c in sa.inspect(conn).get_columns(table.name)}
            for column in table.c:
                assert columns[column.name]["nullable"] == column.nullable, f"{table.name}.{column.name}"
                assert columns[column.name]["comment"] == column.doc
            assert sa.inspect(conn).get_table_comment(table.name)["text"] == table.comment


def test_a_drift_is_found(db: str) -> None:
    """The comparison above can fail."""
    with connect_engine(db).begin() as conn:
        conn.execute(sa.text("alter table job add column extra integer"))
        conn.execute(sa.text("alter table evaluation alter column name type integer using 1"))
        changes = compare_metadata(MigrationContext.configure(conn, opts={"compare_type": True}), metadata)
    found = {c[0] if isinstance(c, tuple) else c[0][0] for c in changes}
    assert {"remove_column", "modify_type"} <= found


def test_foreign_keys_hold_at_commit(db: str) -> None:
    """PostgreSQL refuses a child without its parent, in any order of loading; DuckDB leaves it to check."""
    row = {c.name: value(c) for c in metadata.tables["spec_obj"].c}
    engine = connect_engine(db)
    if engine.dialect.name == "duckdb":
        with engine.begin() as conn:
            insert_rows(conn, metadata.tables["spec_obj"], [row])
        return
    with pytest.raises(sa.exc.IntegrityError, match="fk_spec_obj_target_id"), engine.begin() as conn:
        insert_rows(conn, metadata.tables["spec_obj"], [row])
    with engine.begin() as conn:
        insert_rows(conn, metadata.tables["spec_obj"], [row])
        one_row_each(conn, ["target"])


def test_wrong_revisions_are_refused(db: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such migration"):
        upgrade(db, "9999")
    with connect_engine(db).begin() as conn:
        conn.execute(sa.text("update alembic_version set version_num = '7777'"))
    for attempt in (lambda: connect_engine(db), lambda: upgrade(db)):
        with pytest.raises(UserError, match=f"at migration 7777, newer than this lensmine knows .{HEAD}."):
            attempt()


def test_alembic_command_with_the_ini(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's `alembic downgrade` finds the database by LENSMINE_DB."""
    import subprocess
    import sys

    repo = Path(__file__).resolve().parent.parent
    monkeypatch.setenv("LENSMINE_DB", db)
    for arguments in (["downgrade", "base"], ["upgrade", "head"]):
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=repo,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    with connect_engine(db).connect() as conn:
        assert len(read_frame(conn, "select * from cut_setting")) > 0
