"""Bulk rows come back as they went in, on both engines."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

from schema.engine import connect_engine, read_frame
from schema.errors import DataError
from schema.tables import cut_setting, job, model, reject, selection, spec_obj, target
from schema.upsert import bulk_load, delete_keys, insert_rows, upsert_rows

NOW = datetime.datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=datetime.UTC)
OLD = datetime.datetime(1969, 7, 20, 20, 17, 40, 1, tzinfo=datetime.UTC)


def target_rows(n: int, first: int = 0) -> pa.Table:
    return pa.table(
        {
            "target_id": np.arange(first, first + n),
            "survey": pa.array(["sdss"] * n, pa.string()),
            "native_id": pa.array([f"object {k} é λ" for k in range(first, first + n)], pa.string()),
            "ra_deg": np.linspace(0, 359, n),
            "dec_deg": np.linspace(-90, 90, n),
            "hpx29": np.arange(n) * 1000,
            "is_injection": np.arange(n) % 2 == 0,
        }
    )


def test_every_type_round_trips(db: str) -> None:
    """Integers, doubles with NaN and infinity, text, booleans, times, JSON and nulls of each."""
    rejects = [
        {"reject_id": 2**62 + 1, "source_file_id": -5, "hdu": -(2**31), "row_index": 2**63 - 1, "path": "",
         "reason": "naïve λ∞ 🜚 'quoted' \\N \t\n", "fatal": True, "rejected_at": NOW},
        {"reject_id": 2, "source_file_id": None, "hdu": None, "row_index": None, "path": None, "reason": None,
         "fatal": None, "rejected_at": None},
        {"reject_id": 3, "fatal": False, "rejected_at": OLD, "reason": "x" * 70_000},
    ]  # fmt: skip
    cuts = [
        {"name": "nan", "value": float("nan"), "unit": None, "description": "d"},
        {"name": "inf", "value": float("-inf")},
        {"name": "tiny", "value": 5e-324},
    ]
    document = {"a": [1, 2.5, None, True], "λ": {"é": 'say "no"'}, "n": np.float32(0.5), "v": np.arange(3)}
    jobs = [
        {"job_id": 1, "command": "ingest", "status": "done", "summary": document, "started_at": NOW},
        {"job_id": 2, "command": "ingest", "status": "done", "summary": None},
    ]
    engine = connect_engine(db)
    with engine.begin() as conn:
        conn.execute(cut_setting.delete())
        assert insert_rows(conn, reject, rejects) == 3
        assert insert_rows(conn, cut_setting, cuts) == 3
        assert insert_rows(conn, job, jobs) == 2
    with engine.connect() as conn:
        back = {r["reject_id"]: r for r in conn.execute(sa.select(reject)).mappings()}
        for row in rejects:
            for column in list(reject.c.keys()):
                assert back[row["reject_id"]][column] == row.get(column), column
        values = dict(conn.execute(sa.select(cut_setting.c.name, cut_setting.c.value)).all())
        assert np.isnan(values["nan"])
        assert values["inf"] == -np.inf
        assert values["tiny"] == 5e-324
        summaries = dict(conn.execute(sa.select(job.c.job_id, job.c.summary)).all())
        assert summaries[1] == {"a": [1, 2.5, None, True], "λ": {"é": 'say "no"'}, "n": 0.5, "v": [0, 1, 2]}
        assert summaries[2] is None
        assert conn.execute(sa.select(job.c.started_at).where(job.c.job_id == 1)).scalar() == NOW


@pytest.mark.parametrize("n", [1, 7, 100_003])
def test_arrow_blocks(db: str, n: int) -> None:
    """A sliced, chunked Arrow table larger than one block arrives whole and in step."""
    whole = pa.concat_tables([target_rows(n // 2, 10), target_rows(n - n // 2, 10 + n // 2)])
    null_text = pa.array([None if k % 3 == 0 else "s" * (k % 40) for k in range(n)])
    kinds = pa.table(
        {
            "reject_id": np.arange(n),
            "reason": null_text,
            "hdu": pa.array(range(n), mask=np.arange(n) % 5 == 0),
        }
    )
    with connect_engine(db).begin() as conn:
        insert_rows(conn, target, whole.slice(0, n))
        insert_rows(conn, reject, kinds.slice(n // 3))
        got = read_frame(
            conn,
            "select count(*) n, sum(length(native_id)) chars, sum(hpx29) h, count(distinct native_id) d "
            "from target",
        ).iloc[0]
        names = whole["native_id"].to_pylist()
        assert got["n"] == n == got["d"]
        assert got["chars"] == sum(map(len, names))
        assert got["h"] == sum(whole["hpx29"].to_pylist())
        wanted = kinds.slice(n // 3).to_pylist()
        rows = conn.execute(
            sa.select(reject.c.reject_id, reject.c.reason, reject.c.hdu).order_by(reject.c.reject_id)
        ).all()
        assert [tuple(r) for r in rows] == [(w["reject_id"], w["reason"], w["hdu"]) for w in wanted]


def test_upsert_updates_inserts_and_keeps(db: str) -> None:
    """Named columns are overwritten, the others kept; of one key twice in a batch the last row wins."""
    with connect_engine(db).begin() as conn:
        insert_rows(conn, target, target_rows(4))
        change = [
            {**target_rows(4).to_pylist()[1], "native_id": "first", "ra_deg": 1.0},
            {**target_rows(4).to_pylist()[1], "native_id": "second", "ra_deg": 2.0, "hpx29": -1},
            {**target_rows(1, 9).to_pylist()[0], "native_id": "new"},
        ]
        assert upsert_rows(conn, target, change, key=["target_id"], update=["native_id", "ra_deg"]) == 2
        got = {r["target_id"]: r for r in conn.execute(sa.select(target)).mappings()}
        assert sorted(got) == [0, 1, 2, 3, 9]
        assert (got[1]["native_id"], got[1]["ra_deg"], got[1]["hpx29"]) == ("second", 2.0, 1000)
        assert got[9]["native_id"] == "new"
        upsert_rows(conn, target, [{**change[0], "native_id": "ignored"}], key=["target_id"])
        assert conn.execute(sa.select(target.c.native_id).where(target.c.target_id == 1)).scalar() == "second"


def test_upsert_indexed_column_twice_in_a_transaction(db: str) -> None:
    """An indexed column can be rewritten again and again, also before the commit."""
    with connect_engine(db).begin() as conn:
        for k in range(3):
            rows = target_rows(50).set_column(5, "hpx29", pa.array(np.arange(50) + k))
            upsert_rows(conn, target, rows, key=["target_id"], update=["hpx29", "native_id"])
        assert conn.execute(sa.select(sa.func.sum(target.c.hpx29))).scalar() == sum(range(2, 52))
    with connect_engine(db).begin() as conn:
        found = conn.execute(sa.select(target.c.target_id).where(target.c.hpx29 == 2)).scalars().all()
        assert found == [0]


def test_upsert_by_unique_constraint(db: str) -> None:
    rows = [
        {"selection_id": 1, "name": "a", "version": 1, "where_sql": "z > 0"},
        {"selection_id": 2, "name": "a", "version": 1, "where_sql": "z > 1"},
    ]
    with connect_engine(db).begin() as conn:
        upsert_rows(conn, selection, rows[:1], key=["name", "version"])
        upsert_rows(conn, selection, rows[1:], key=["name", "version"], update=["where_sql"])
        assert conn.execute(sa.select(selection.c.selection_id, selection.c.where_sql)).all() == [
            (1, "z > 1")
        ]


def test_delete_keys(db: str) -> None:
    with connect_engine(db).begin() as conn:
        insert_rows(conn, target, target_rows(10))
        assert delete_keys(conn, target, "target_id", np.array([1, 1, 3, 77])) == 2
        assert delete_keys(conn, target, "target_id", []) == 0
        left = conn.execute(sa.select(target.c.target_id)).scalars().all()
        assert sorted(left) == [0, 2, 4, 5, 6, 7, 8, 9]
        insert_rows(conn, target, target_rows(1, 3))  # the key is free again within the transaction


def test_rollback_leaves_nothing(db: str) -> None:
    engine = connect_engine(db)
    with pytest.raises(RuntimeError, match="stop"), engine.begin() as conn:  # noqa: PT012
        insert_rows(conn, target, target_rows(10))
        upsert_rows(conn, target, target_rows(20), key=["target_id"])
        raise RuntimeError("stop")
    with engine.connect() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(target)).scalar() == 0


def test_bad_rows_are_refused(db: str) -> None:
    """A wrong column, type or a zero byte is named; a key that is there already is an error."""
    row = target_rows(1).to_pylist()[0]
    engine = connect_engine(db)
    with engine.begin() as conn:
        with pytest.raises(DataError, match="no column nonsense"):
            insert_rows(conn, target, [{**row, "nonsense": 1}])
        with pytest.raises(DataError, match=r"target\.ra_deg takes double"):
            insert_rows(conn, target, [{**row, "ra_deg": "north"}])
        with pytest.raises(DataError, match="zero byte"):
            insert_rows(conn, target, [{**row, "native_id": "a\0b"}])
        with pytest.raises(DataError, match="needs its key"):
            upsert_rows(conn, model, [{"name": "x"}], key=["model_id"])
    with engine.begin() as conn:
        insert_rows(conn, target, [row])
    with pytest.raises(Exception, match=r"(?i)duplicate key"), engine.begin() as conn:
        insert_rows(conn, target, [row])


def test_bulk_load_remakes_keys_and_indexes(db: str) -> None:
    """After a large load the keys and indexes stand as before, and a missing parent is still refused."""
    engine = connect_engine(db)

    def keys() -> tuple[set[str], set[str]]:
        inspector = sa.inspect(engine)
        return (
            {str(i["name"]) for i in inspector.get_indexes("spec_obj")},
            {f"{k['name']} {k['options']}" for k in inspector.get_foreign_keys("spec_obj")},
        )

    def load(first: int, n: int, parents: int) -> None:
        ids = np.arange(first, first + n)
        with engine.begin() as conn, bulk_load(conn, [target, spec_obj], 60_000):
            insert_rows(conn, spec_obj, pa.table({"target_id": ids, "is_primary": np.ones(n, bool)}))
            insert_rows(conn, target, target_rows(parents, first))

    before = keys()
    load(0, 60_000, 60_000)
    assert keys() == before
    if engine.dialect.name == "postgresql":
        assert all(before)
        with pytest.raises(sa.exc.IntegrityError, match="fk_spec_obj_target_id"):
            load(100_000, 3, 2)
        assert keys() == before
    with engine.connect() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(spec_obj)).scalar() == 60_000


def test_coded_text_arrives_as_its_words(db: str) -> None:
    """Dictionary arrays: nulls, words of many lengths, a column of nulls with no word at all."""
    n = 300_000
    words = ["", "é λ", "x" * 300, "plain"]
    numbers = np.arange(n) % 5
    reason = pa.DictionaryArray.from_arrays(
        pa.array(np.where(numbers == 4, 0, numbers), pa.int32(), mask=numbers == 4), pa.array(words)
    )
    nothing = pa.DictionaryArray.from_arrays(pa.nulls(n, pa.int32()), pa.array([], pa.string()))
    rows = pa.table({"reject_id": np.arange(n), "reason": reason, "path": nothing})
    query = sa.text("select reason, path, count(*), sum(reject_id) from reject group by 1, 2 order by 4")
    wanted = [(word, None, n // 5, sum(range(k, n, 5))) for k, word in enumerate([*words, None])]
    with connect_engine(db).begin() as conn:
        insert_rows(conn, reject, rows)
        assert [tuple(r) for r in conn.execute(query)] == wanted
        upsert_rows(conn, reject, rows.slice(7, 1000), key=["reject_id"], update=["reason", "path"])
        assert [tuple(r) for r in conn.execute(query)] == wanted
        with pytest.raises(DataError, match="zero byte"):
            insert_rows(
                conn, reject, pa.table({"reject_id": [n], "reason": pa.array(["a\0"]).dictionary_encode()})
            )
