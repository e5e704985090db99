"""The query box: reads, and is refused everything else by the database itself."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from dashboard import store
from dashboard.pages.sql import CLOSED, EXAMPLES
from schema.engine import connect_engine
from schema.errors import UserError
from schema.untrusted import ask

WRITES = [
    "delete from reviewer",
    "insert into reviewer (reviewer_id, name) values (1, 'x')",
    "update cut_setting set value = 0",
    "drop table reviewer cascade",
    "create table t (a integer)",
    "truncate table reviewer",
    "select 1; delete from reviewer",
    "rollback; delete from reviewer",
    "commit; delete from reviewer",
    "with gone as (delete from reviewer returning *) select * from gone",
]


@pytest.fixture
def people(db):
    store.ensure_reviewer(db, "Ada")
    return db


def count(db):
    with connect_engine(db, read_only=True).connect() as conn:
        reviewers = conn.execute(sa.text("select count(*) from reviewer")).scalar()
        return reviewers, conn.execute(sa.text("select sum(value) from cut_setting")).scalar()


def test_reads(people):
    found = ask(people, "select name, is_adjudicator from reviewer;")
    assert (found.names, found.rows, found.cut) == (["name", "is_adjudicator"], [["Ada", True]], False)
    many = ask(people, "select name from cut_setting order by name", most_rows=3)
    assert len(many.rows) == 3
    assert many.cut


def test_percent_and_colon_are_not_parameters(people):
    assert ask(people, "select name from reviewer where name like '%d%' and ':x' = ':x'").rows == [["Ada"]]


@pytest.mark.parametrize("query", WRITES)
def test_writes_are_refused(people, query):
    before = count(people)
    with pytest.raises(UserError):
        ask(people, query)
    assert count(people) == before


def test_a_transaction_cannot_be_made_to_write(people):
    if not people.startswith("postgresql"):
        pytest.skip("DuckDB opens the file for reading")
    before = count(people)
    for query in (
        "set transaction read write",
        "set session characteristics as transaction read write",
        "do $$ begin set transaction_read_only = off; delete from reviewer; end $$",
        "select set_config('transaction_read_only', 'off', false), (select 1)",
    ):
        with pytest.raises(UserError):
            ask(people, query)
    assert count(people) == before


def test_files_of_the_server_are_closed(people, tmp_path):
    if people.startswith("postgresql"):
        pytest.skip("files of a PostgreSQL server are closed by the role that the dashboard connects as")
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    for query in (
        f"select * from read_csv('{secret}')",
        f"copy (select 1) to '{tmp_path}/out.csv'",
        f"attach '{tmp_path}/other.duckdb'",
        "set enable_external_access = true",
    ):
        with pytest.raises(UserError):
            ask(people, query)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    "query",
    [
        "select * from grade",
        "select p_lens from consensus",
        "select count(*) from current_grade",
        'select 1 as x from "grade" limit 1',
        "with g as (select target_id from grade) select count(*) from g",
        "select n from reviewer_confusion",
        "select count(*) from grade where target_id > 9000000000000000000",  # answered from extremes alone
    ],
)
def test_grades_are_closed_to_reviewers_views_and_all(people, query):
    with pytest.raises(UserError, match="closed to reviewers"):
        ask(people, query, closed=CLOSED)
    ask(people, query)


@pytest.mark.parametrize(
    "query",
    [
        "select query_to_xml('select * from grade', true, true, '')",
        "select table_to_xml('grade', true, true, '')",
        "select (select word from ts_stat('select to_tsvector(grade) from grade') limit 1)",
        "select most_common_vals::text from pg_stats where tablename = 'grade'",
    ],
)
def test_functions_that_read_grades_out_of_sight_are_closed(people, query):
    if not people.startswith("postgresql"):
        pytest.skip("functions of PostgreSQL")
    with pytest.raises(UserError, match="closed to reviewers"):
        ask(people, query, closed=CLOSED)
    ask(people, query)


def test_extremes_of_a_closed_table_are_closed(people):
    if people.startswith("postgresql"):
        pytest.skip("a function of DuckDB")
    query = "select stats from pragma_storage_info('grade')"
    with pytest.raises(UserError, match="closed to reviewers"):
        ask(people, query, closed=CLOSED)
    ask(people, query)


def test_answers_without_rows_keep_their_columns(people):
    found = ask(people, "select name, added_at from reviewer where name = 'nobody'")
    assert (found.names, found.rows) == (["name", "added_at"], [])


def test_other_tables_stay_open_to_reviewers(people):
    for view in ("candidate", "image_candidate", "ranked"):
        assert ask(people, f"select count(*) from {view}", closed=CLOSED).rows == [[0]]
    for query in EXAMPLES.values():
        ask(people, query, closed=CLOSED)


def test_a_query_that_runs_away_is_stopped(people):
    endless = "select count(*) from generate_series(1, 2000000000) as a, generate_series(1, 1000) as b"
    with pytest.raises(UserError, match="ran longer than 1 s"):
        ask(people, endless, limit_s=1.0)


@pytest.mark.parametrize("query", ["", "  ;", "selec 1", "select no_such_column from target"])
def test_bad_queries_say_what_is_wrong(people, query):
    with pytest.raises(UserError, match=r"no query given|refuses the query"):
        ask(people, query)
