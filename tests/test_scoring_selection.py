"""Selections: what a predicate may hold, versions, and the paper's own selection."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from schema.engine import connect_engine
from schema.errors import UserError
from schema.tables import selection, spec_obj, target
from schema.upsert import insert_rows
from scoring.selection import (
    BUILT_IN,
    add_selection,
    checked_selection,
    count_selection,
    get_selection,
    list_selections,
    seed_selections,
)

ACCEPTED = [
    "z > 0.3",
    "z > 0.3 -- far enough",
    "z > 0.3 /* far; enough */",
    "native_id like '%;%' or native_id = 'a -- b' or native_id = ':x'",
    "(z > 0.3) or (z < 0.1)",
    "\"class\" = 'GALAXY' and subclass is distinct from 'AGN'",
    "class in ('GALAXY', 'QSO') and z between 0.1 and 0.2",
    "target_id in (select target_id from injection where is_lens)",
    "exists (select 1 from known_lens_match m where m.target_id = selectable.target_id)",
    "coalesce(lower(subclass), '') <> 'agn' and abs(dec_deg) < 30",
    "is_injection",
    "target_id in (with far as (select target_id from spec_obj where z > 1) select target_id from far)",
]

REFUSED = [
    ("", "empty"),
    ("z >", "does not parse"),
    ("z > 0.3)", "does not parse"),
    ("1=1) or (1=1", "does not parse"),
    ("1=1 /* never closed", "does not parse"),
    ("z > 0.3 limit 5", "not one expression"),
    ("z > 0.3 order by z", "not one expression"),
    ("z > 0.3 union select 1 from selectable", "not one expression"),
    ("z > 0.3; select 1", "second statement"),
    ("z > 0.3; drop table score", "second statement"),
    ("z > 0.3;;delete from score", "second statement"),
    ("zz > 0.3", "unknown column 'zz', did you mean z"),
    ("cmodelmag_i < 19", "did you mean cmodel_mag_i"),
    ("selectable.redshift_ > 1", "unknown column 'redshift_'"),
    ("z", "not boolean"),
    ("z + 1", "not boolean"),
    ("null", "not boolean"),
    ("max(z) > 1", "cannot use it"),
    ("row_number() over () > 1", "cannot use it"),
    ("no_such_function(z) > 1", "cannot use it"),
    ("z in (delete from score returning 1)", "writes or changes state (DELETE)"),
    (
        "exists (with d as (delete from score returning 1) select 1 from d)",
        "writes or changes state (DELETE)",
    ),
    ("z in (copy score to '/tmp/x')", "writes or changes state (COPY)"),
    ("exists (select 1 from read_csv('/etc/passwd'))", "read_csv() reads outside"),
    ("exists (select 1 from read_text('/etc/passwd'))", "read_text() reads outside"),
    ("exists (select 1 from '/etc/passwd')", "is no table or view of lensmine"),
    ("exists (select 1 from pg_catalog.pg_authid)", "is no table or view of lensmine"),
    ("exists (select 1 from scores)", "did you mean score"),
    ("nextval('s') > 0", "nextval() has side effects"),
    ("random() < 0.5", "random() has side effects"),
    ("z > ?", "parameter"),
    ("z > $1", "parameter"),
]

REFUSED_BY_POSTGRESQL = [
    ("pg_sleep(5) is null", "pg_sleep() has side effects"),
    ("lo_import('/etc/passwd') > 0", "lo_import() has side effects"),
    ("pg_read_file('/etc/passwd') <> ''", "pg_read_file() has side effects"),
    ("query_to_xml('delete from score', true, true, '') is null", "query_to_xml() has side effects"),
    ("set_config('x.y', 'z', false) <> ''", "set_config() has side effects"),
]


def is_server(db: str) -> bool:
    return db.startswith("postgresql")


def test_accepted_predicates_are_kept_as_given(db: str) -> None:
    for number, where in enumerate(ACCEPTED):
        chosen, new = add_selection(db, f"s{number}", where)
        assert new
        assert chosen.where_sql == where
        with connect_engine(db, read_only=True).connect() as conn:
            counts = count_selection(conn, checked_selection(db, f"s{number}"))
        assert counts == {"targets": 0, "spectra": 0, "cutouts": 0}


def test_refused_predicates_say_why_and_leave_nothing(db: str) -> None:
    cases = REFUSED + (REFUSED_BY_POSTGRESQL if is_server(db) else [])
    for where, why in cases:
        with pytest.raises(UserError) as caught:
            add_selection(db, "bad", where)
        assert why in str(caught.value), (where, str(caught.value))
        assert "\n" not in str(caught.value)
    with connect_engine(db).connect() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(selection)).scalar_one() == 0


def test_functions_that_read_files_do_not_run_while_checked(db: str, tmp_path: Path) -> None:
    written = tmp_path / "out.csv"
    with pytest.raises(UserError):
        add_selection(db, "bad", f"z > 1; copy (select 1) to '{written}'")
    assert not written.exists()


def test_a_predicate_put_in_by_hand_is_checked_before_use(db: str) -> None:
    add_selection(db, "mine", "z > 1")
    with connect_engine(db).begin() as conn:
        conn.execute(selection.update().where(selection.c.name == "mine").values(where_sql="1=1) or (1=1"))
    with pytest.raises(UserError, match="does not parse"):
        checked_selection(db, "mine")


def test_versions_grow_only_with_the_predicate(db: str) -> None:
    first, new = add_selection(db, "far", "z > 1", "far away")
    assert (first.version, new) == (1, True)
    same, new = add_selection(db, "far", "  z > 1 ")
    assert (same.version, new) == (1, False)
    second, new = add_selection(db, "far", "z > 2")
    assert (second.version, new, second.description) == (2, True, "far away")
    with connect_engine(db, read_only=True).connect() as conn:
        assert get_selection(conn, "far").where_sql == "z > 2"
        assert get_selection(conn, "far", 1).where_sql == "z > 1"
        with pytest.raises(UserError, match="versions 1, 2, not 3"):
            get_selection(conn, "far", 3)
        with pytest.raises(UserError, match="did you mean far"):
            get_selection(conn, "farr")
    with pytest.raises(UserError, match="name"):
        add_selection(db, "far away", "z > 1")


def test_built_in_selections_are_there_before_and_after_seeding(db: str) -> None:
    with connect_engine(db).begin() as conn:
        before = list_selections(conn)
        assert {s.name for s in before} == {s.name for s in BUILT_IN}
        assert seed_selections(conn) == len(BUILT_IN)
        assert seed_selections(conn) == 0
        assert list_selections(conn) == before
    for chosen in BUILT_IN:
        assert checked_selection(db, chosen.name) == chosen


def test_the_papers_selection(db: str) -> None:
    rows = [
        # class, subclass, z, objtype, chosen
        ("GALAXY", None, 0.5, "GALAXY", True),
        ("GALAXY", "", 0.5, None, True),
        ("GALAXY", "STARBURST", 0.5, "GALAXY", True),
        ("GALAXY", "STARFORMING", 0.5, "GALAXY", False),
        ("GALAXY", "STARFORMING BROADLINE", 0.5, "GALAXY", False),
        ("GALAXY", "AGN BROADLINE", 0.5, "GALAXY", False),
        ("GALAXY", "AGN", 0.5, "GALAXY", False),
        ("GALAXY", "BROADLINE", 0.5, "GALAXY", False),
        ("GALAXY", None, 0.3, "GALAXY", False),
        ("GALAXY", None, None, "GALAXY", False),
        ("GALAXY", None, 0.5, "SKY", False),
        ("QSO", None, 2.5, "QSO", False),
        (None, None, 0.5, None, False),
    ]
    with connect_engine(db).begin() as conn:
        for i, (kind, subclass, z, objtype, _) in enumerate(rows):
            place = {"ra_deg": 1.0, "dec_deg": 2.0, "hpx29": 1, "is_injection": False}
            insert_rows(conn, target, [{"target_id": i, "survey": "sdss", "native_id": str(i), **place}])
            observed = {"class": kind, "subclass": subclass, "z": z, "objtype": objtype, "is_primary": True}
            insert_rows(conn, spec_obj, [{"target_id": i, **observed}])
    chosen = checked_selection(db, "li2018_lrg")
    with connect_engine(db, read_only=True).connect() as conn:
        found = (
            conn.execute(sa.text(f"select target_id from selectable where {chosen.where}")).scalars().all()
        )
    assert sorted(found) == [i for i, row in enumerate(rows) if row[-1]]
