"""Saves of the dashboard: once, by their reviewer only, and with patience."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid

import pytest
import sqlalchemy as sa
from dashboard_data import MARKUP, write_search

from dashboard import store
from dashboard.calibration import choose_calibrators
from dashboard.store import Grade
from schema.engine import connect_engine
from schema.errors import TransientError, UserError

pytestmark = pytest.mark.usefixtures("db")


def rows(db: str, query: str, **params: object) -> list[tuple]:
    with connect_engine(db, read_only=True).connect() as conn:
        return [tuple(r) for r in conn.execute(sa.text(query), params)]


@pytest.fixture
def search(db):
    return write_search(db)


def test_a_token_is_one_grade(db, search):
    ada = store.ensure_reviewer(db, "Ada")
    first = store.save_grade(db, ada.reviewer_id, Grade(search.ids[0], "A", "t1", shown={"model": "first"}))
    again = store.save_grade(db, ada.reviewer_id, Grade(search.ids[1], "X", "t1"))
    assert first == again
    assert rows(db, "select target_id, grade from grade") == [(search.ids[0], "A")]


def test_a_later_grade_supersedes_and_undo_brings_the_earlier_back(db, search):
    ada = store.ensure_reviewer(db, "Ada")
    first = store.save_grade(db, ada.reviewer_id, Grade(search.ids[0], "B", "t1"))
    second = store.save_grade(db, ada.reviewer_id, Grade(search.ids[0], "X", "t2"))
    assert rows(db, "select grade, grade_value from current_grade") == [("X", 0)]
    taken = store.take_back(db, ada.reviewer_id, second)
    assert (taken.target_id, taken.grade_id, taken.grade) == (search.ids[0], first, "B")
    assert store.take_back(db, ada.reviewer_id, second) is None
    assert rows(db, "select grade, grade_value from current_grade") == [("B", 2)]
    assert rows(db, "select count(*) from grade") == [(2,)]


def test_a_verdict_taken_back_does_not_bring_a_grade_back(db, search):
    ada = store.ensure_reviewer(db, "Ada")
    store.save_grade(db, ada.reviewer_id, Grade(search.ids[0], "B", "t1"))
    verdict = store.save_grade(db, ada.reviewer_id, Grade(search.ids[0], "X", "t2", is_adjudication=True))
    assert store.take_back(db, ada.reviewer_id, verdict) == store.TakenBack(search.ids[0])
    assert rows(db, "select grade from current_grade") == [("B",)]


def test_nobody_takes_back_the_grade_of_another(db, search):
    ada, bo = store.ensure_reviewer(db, "Ada"), store.ensure_reviewer(db, "Bo")
    given = store.save_grade(db, ada.reviewer_id, Grade(search.ids[0], "A", "t1"))
    assert store.take_back(db, bo.reviewer_id, given) is None
    assert rows(db, "select count(*) from current_grade") == [(1,)]


def test_an_unknown_grade_is_refused(db, search):
    ada = store.ensure_reviewer(db, "Ada")
    with pytest.raises(UserError, match="allowed are A, B, C, X"):
        store.save_grade(db, ada.reviewer_id, Grade(search.ids[0], "D", "t1"))


def test_two_people_at_the_same_moment(db, search):
    """Eight threads, each a reviewer, each saving every grade twice: every grade is there once."""
    people = [store.ensure_reviewer(db, f"reviewer {k}") for k in range(8)]
    failed: list[BaseException] = []

    def work(who: store.Reviewer) -> None:
        try:
            for target_id in search.ids[:10]:
                token = uuid.uuid4().hex
                store.save_grade(db, who.reviewer_id, Grade(target_id, "B", token))
                store.save_grade(db, who.reviewer_id, Grade(target_id, "B", token))
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=work, args=(p,)) for p in people]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed
    assert rows(db, "select count(*), count(distinct reviewer_id) from grade") == [(80, 8)]
    assert rows(db, "select distinct n_grade from grade_count") == [(8,)]


def test_the_same_token_from_two_tabs(db, search):
    ada = store.ensure_reviewer(db, "Ada")
    barrier = threading.Barrier(4)
    failed: list[BaseException] = []

    def press() -> None:
        barrier.wait()
        try:
            store.save_grade(db, ada.reviewer_id, Grade(search.ids[0], "A", "same"))
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=press) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed
    assert rows(db, "select count(*) from grade") == [(1,)]


def test_notes_are_text(db, search):
    ada = store.ensure_reviewer(db, "Ada")
    assert store.add_note(db, ada.reviewer_id, search.ids[0], "n1", body=MARKUP + "\x00\x07")
    assert not store.add_note(db, ada.reviewer_id, search.ids[0], "n1", body="again")
    assert not store.add_note(db, ada.reviewer_id, search.ids[0], "n2", body="  ")
    store.add_note(db, ada.reviewer_id, search.ids[0], "n3", tag="ring")
    notes = store.reading(db, lambda conn: store.notes_of(conn, search.ids[0]))
    assert [(n["body"], n["tag"], n["reviewer"]) for n in notes] == [
        (MARKUP, None, "Ada"),
        (None, "ring", "Ada"),
    ]
    store.remove_note(db, ada.reviewer_id, notes[0]["note_id"])
    assert len(store.reading(db, lambda conn: store.notes_of(conn, search.ids[0]))) == 1


@pytest.mark.parametrize(
    "name",
    ["Ada", "Zoë Łukasz", "O'Brien; drop table grade; --", "<script>x</script>", "李 明", "🔭", '"%s" {0}'],
)
def test_reviewer_names_of_odd_characters(db, name):
    made = store.ensure_reviewer(db, f"  {name}\n")
    assert made.name == name
    assert store.ensure_reviewer(db, name) == made
    assert rows(db, "select name from reviewer") == [(name,)]


def test_a_name_without_letters_is_refused(db):
    with pytest.raises(UserError, match="holds no letters"):
        store.ensure_reviewer(db, " \x00\x1b ")


def test_the_first_reviewer_adjudicates_and_can_hand_over(db):
    assert store.ensure_reviewer(db, "Ada").is_adjudicator
    assert not store.ensure_reviewer(db, "Bo").is_adjudicator
    assert store.set_adjudicator(db, "Bo", True).is_adjudicator
    with pytest.raises(UserError, match="there are: Ada, Bo"):
        store.set_adjudicator(db, "Cy", True)


def test_local_sign_in_needs_the_passphrase_of_the_name(db):
    ada = store.sign_in_locally(db, "Ada", "correct horse")
    assert store.sign_in_locally(db, "Ada", "correct horse") == ada
    with pytest.raises(UserError, match="not the passphrase"):
        store.sign_in_locally(db, "Ada", "wrong horse")
    with pytest.raises(UserError, match="at least 4 characters"):
        store.sign_in_locally(db, "Bo", "abc")
    stored = rows(db, "select subject from reviewer")[0][0]
    assert "correct" not in stored


def test_a_reviewer_entered_by_the_command_sets_the_passphrase_at_first_sign_in(db):
    entered = store.ensure_reviewer(db, "Ada")
    assert store.sign_in_locally(db, "Ada", "mine alone") == entered
    with pytest.raises(UserError, match="not the passphrase"):
        store.sign_in_locally(db, "Ada", "another")


def test_two_people_of_one_name_by_oidc_are_two_reviewers(db):
    one = store.ensure_reviewer(db, "Ada", subject="https://a 1", key="https://a 1")
    two = store.ensure_reviewer(db, "Ada", subject="https://b 7", key="https://b 7")
    assert one.reviewer_id != two.reviewer_id
    assert two.name.startswith("Ada (")
    assert store.ensure_reviewer(db, "Ada Renamed", subject="https://a 1", key="https://a 1") == one


def test_calibrators_by_condition_and_from_injections(db, search):
    done = choose_calibrators(
        db, lenses="native_id = 'object-30'", others="native_id in ('object-31', 'object-32')"
    )
    assert done == {"new": 3, "lenses": 1, "others": 2}
    done = choose_calibrators(db, injections=4)
    assert done == {"new": 8, "lenses": 5, "others": 6}
    assert choose_calibrators(db, injections=4)["new"] == 0
    with pytest.raises(UserError, match="the database refuses"):
        choose_calibrators(db, lenses="no_such_column = 1")
    with pytest.raises(UserError, match="no target fits"):
        choose_calibrators(db, others="native_id = 'nobody'")


def test_saved_queries_are_replaced_by_name(db):
    ada = store.ensure_reviewer(db, "Ada")
    store.save_query(db, ada.reviewer_id, "mine", "select 1", "one")
    store.save_query(db, ada.reviewer_id, "mine", "select 2")
    with pytest.raises(UserError, match="somebody else keeps a query named 'mine'"):
        store.save_query(db, store.ensure_reviewer(db, "Bo").reviewer_id, "mine", "select 3")
    assert [(q["name"], q["sql"]) for q in store.reading(db, store.list_queries)] == [("mine", "select 2")]


HOLD = """
import sys, time, duckdb
conn = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def duckdb_file(db, monkeypatch):
    if db.startswith("postgresql"):
        pytest.skip("only a DuckDB file is held by one process")
    monkeypatch.setenv("LENSMINE_LOCK_WAIT", "0.1")
    return db


def _hold(db: str, seconds: float) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, db, str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_save_waits_while_another_process_writes(duckdb_file):
    search = write_search(duckdb_file)
    ada = store.ensure_reviewer(duckdb_file, "Ada")
    holder = _hold(duckdb_file, 1.5)
    try:
        store.save_grade(duckdb_file, ada.reviewer_id, Grade(search.ids[0], "A", "t1"))
    finally:
        holder.wait()
    assert rows(duckdb_file, "select count(*) from grade") == [(1,)]


def test_a_save_gives_up_with_a_reason(duckdb_file):
    ada = store.ensure_reviewer(duckdb_file, "Ada")
    holder = _hold(duckdb_file, 30)
    try:
        with pytest.raises(TransientError, match="held by process"):
            store.writing(duckdb_file, lambda conn: conn.execute(sa.text("select 1")), patience_s=0.5)
    finally:
        holder.kill()
        holder.wait()
    assert store.ensure_reviewer(duckdb_file, "Ada") == ada


def test_a_save_waits_for_a_reader_of_this_process(duckdb_file):
    search = write_search(duckdb_file)
    ada = store.ensure_reviewer(duckdb_file, "Ada")
    reading = threading.Event()

    def read() -> None:
        with connect_engine(duckdb_file, read_only=True).connect() as conn:
            conn.execute(sa.text("select 1"))
            reading.set()
            time.sleep(0.7)

    reader = threading.Thread(target=read)
    reader.start()
    assert reading.wait(20)
    store.save_grade(duckdb_file, ada.reviewer_id, Grade(search.ids[0], "A", "t1"))
    reader.join()
    assert rows(duckdb_file, "select count(*) from grade") == [(1,)]


def test_a_save_does_not_wait_for_a_long_look_of_the_dashboard(duckdb_file):
    search = write_search(duckdb_file)
    ada = store.ensure_reviewer(duckdb_file, "Ada")
    looking, saved = threading.Event(), threading.Event()

    def look(conn: sa.Connection) -> bool:
        conn.execute(sa.text("select 1"))
        looking.set()
        return saved.wait(30)

    found: list[bool] = []
    looker = threading.Thread(target=lambda: found.append(store.reading(duckdb_file, look)))
    looker.start()
    assert looking.wait(20)
    store.save_grade(duckdb_file, ada.reviewer_id, Grade(search.ids[0], "A", "t1"))
    saved.set()
    looker.join()
    assert found == [True]


def test_a_database_that_has_gone_is_not_made_anew(duckdb_file, tmp_path):
    import pathlib

    store.ensure_reviewer(duckdb_file, "Ada")
    pathlib.Path(duckdb_file).rename(tmp_path / "elsewhere.duckdb")
    with pytest.raises(UserError, match="put it back"):
        store.ensure_reviewer(duckdb_file, "Ada")
    assert not pathlib.Path(duckdb_file).exists()
