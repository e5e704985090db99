"""Catalogues of known lenses: every name kept, every lens once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from etl.lens_files import packaged_catalogue, read_lens_file, redshift
from etl.lenses import group_entries, ingest_lenses
from schema.engine import connect_engine
from schema.errors import UserError

LENSCAT = "name,RA [deg],DEC [deg],zlens,type,grading,ref\n"
MASTER_NAMES = ["system_name", "kind_acronym", "reference_identifier", "ra_coord", "dec_coord", "lensgrade",
                "theta_e", "z_lens", "z_source", "alternate_name"]  # fmt: skip


def lenscat(path: Path, *lines: str) -> str:
    path.write_text(LENSCAT + "".join(line + "\n" for line in lines))
    return str(path)


def masterlens(path: Path, *rows: dict[str, str]) -> str:
    def line(values: list[str], numbers: tuple[str, ...] = ()) -> str:
        return (
            "\t ".join(v if n in numbers else f'"{v}"' for n, v in zip(MASTER_NAMES, values, strict=True))
            + "\n"
        )

    numbers = ("ra_coord", "dec_coord", "theta_e", "z_lens", "z_source")
    blank = dict.fromkeys(MASTER_NAMES, "") | dict.fromkeys(numbers, "NaN")
    head = "# This file was made automatically.\n# " + line(MASTER_NAMES)
    path.write_text(head + "".join(line(list((blank | r).values()), numbers) for r in rows))
    return str(path)


def select(db: str, sql: str) -> list[tuple[Any, ...]]:
    with connect_engine(db, read_only=True).connect() as conn:
        return [tuple(r) for r in conn.execute(sa.text(sql))]


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.49", 0.49), ("0.49 | 0.49", 0.49), ("0.479 | 0.479044", 0.479), ("0.367 | nan", 0.367), ("nan | nan", None),  # noqa: E501
     ("0.3 | 0.6", None), ("not measured", None), ("-", None), ("L", None), ("0.3?", None), ("", None), (None, None),  # noqa: E501
     ("0.0", None), ("measured", None), ("1e400", None)],
)  # fmt: skip
def test_redshifts_as_printed(text: str | None, value: float | None) -> None:
    assert redshift(text) == value


def test_one_lens_under_several_names(db: str, tmp_path: Path) -> None:
    first = lenscat(
        tmp_path / "a.csv",
        "J0001+0001,10.0,20.0,0.49 | 0.49,galaxy,probable,ref one",
        "J0001+0001,10.0,20.0,0.49 | 0.49,galaxy,probable,ref one",
        "Other,10.1,20.0,not measured,galaxy,probable,ref two",
        "Cluster A,50.0,-5.0,0.3,cluster,confident,ref",
        "Nowhere,nan,20.0,0.3,galaxy,confident,ref",
    )
    done = ingest_lenses([first], db)
    assert (done.names, done.lenses) == (3, 3)
    assert dict(done.reasons) == {"bad_position": 1, "duplicate_row": 1}
    second = masterlens(
        tmp_path / "m.tsv",
        {"system_name": "J0001&minus;0001", "kind_acronym": "GAL-GAL", "ra_coord": str(10.0 + 1.0 / 3600), "dec_coord": "20.0",  # noqa: E501
         "lensgrade": "A", "z_lens": "0.4902", "z_source": "1.5", "theta_e": "1.2", "reference_identifier": "A&amp;A 1"},  # noqa: E501
        {"system_name": "Arc 1", "kind_acronym": "CLUST-GAL", "ra_coord": "50.0", "dec_coord": str(-5.0 + 8.0 / 3600)},  # noqa: E501
        {"system_name": "Arc 2", "kind_acronym": "CLUST-GAL", "ra_coord": "50.0", "dec_coord": str(-5.0 + 25.0 / 3600)},  # noqa: E501
        {"system_name": "Beside", "kind_acronym": "GAL-QSO", "ra_coord": "10.1", "dec_coord": str(20.0 + 4.0 / 3600)},  # noqa: E501
        {"system_name": "Lost", "kind_acronym": "GAL-QSO"},
    )  # fmt: skip
    done = ingest_lenses([second], db)
    assert (done.names, done.lenses) == (7, 5)
    (lens,) = select(
        db,
        "select name, z_lens, z_source, grading, theta_e_arcsec, n_names, lens_type from known_lens where ra_deg < 10.05",  # noqa: E501
    )
    assert lens == ("J0001-0001", 0.4902, 1.5, "confident", 1.2, 2, "galaxy")
    names = select(
        db,
        "select catalogue, name, z_lens_text, reference from known_lens_name where ra_deg < 10.05 order by 1",
    )
    assert names == [
        ("lenscat", "J0001+0001", "0.49 | 0.49", "ref one"),
        ("masterlens", "J0001-0001", "0.4902", "A&A 1"),
    ]
    assert select(db, "select n_names from known_lens where lens_type = 'cluster' order by 1") == [(1,), (2,)]
    assert select(db, "select count(*) from known_lens_cell c where not exists "
                      "(select 1 from known_lens l where l.lens_id = c.lens_id)") == [(0,)]  # fmt: skip
    assert select(db, "select count(*) from known_lens l where not exists "
                      "(select 1 from known_lens_cell c where c.lens_id = l.lens_id)") == [(0,)]  # fmt: skip
    state = [
        select(db, f"select * from {t} order by 1, 2")
        for t in ("known_lens", "known_lens_name", "known_lens_cell")
    ]
    assert ingest_lenses([first, second], db).nothing_new
    assert state == [
        select(db, f"select * from {t} order by 1, 2")
        for t in ("known_lens", "known_lens_name", "known_lens_cell")
    ]
    # the catalogue changes: what it no longer names goes
    lenscat(tmp_path / "a.csv", "J0001+0001,10.0,20.0,0.49,galaxy,probable,ref one")
    done = ingest_lenses([first], db)
    assert (done.names, done.lenses) == (5, 4)
    assert select(db, "select count(*) from known_lens_name where name in ('Other', 'Cluster A')") == [(0,)]


def test_grouping_keeps_to_the_radius_of_the_best() -> None:
    dec = np.array([0.0, 2.5, 5.0, 100.0, 108.0, 116.0]) / 3600
    types: list[str | None] = ["galaxy", "galaxy", None, "cluster", "cluster", "cluster"]
    best = group_entries(np.zeros(6), dec, types, np.arange(6))
    assert best.tolist() == [0, 0, 2, 3, 3, 5]
    assert group_entries(
        np.zeros(2), np.array([0.0, 8.0]) / 3600, ["cluster", "galaxy"], np.arange(2)
    ).tolist() == [0, 1]


def test_the_real_catalogues(duckdb_template: Path, tmp_path: Path, data_dir: Path) -> None:
    db = str(tmp_path / "l.duckdb")
    Path(db).write_bytes(duckdb_template.read_bytes())
    folder = data_dir / "lens_catalogs"
    first = ingest_lenses([str(folder / "lenscat__lenscat" / "catalog.csv")], db)
    assert (first.names, first.lenses) == (32818, 32721)
    both = ingest_lenses([str(folder / "noahfranz13__SpecLens" / "masterlens.tsv")], db)
    assert (both.names, both.lenses) == (44446, 33937)
    assert dict(both.reasons) == {"bad_position": 1}


def test_the_packaged_catalogue_is_found_without_importing_it() -> None:
    read = read_lens_file(packaged_catalogue().read_bytes())
    assert read.catalogue == "lenscat"
    assert len(read.entries) > 30_000
    assert "lenscat" not in sys.modules


def test_no_catalogue_at_all(db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    done = ingest_lenses([str(other)], db)
    assert (done.rejected, done.lenses) == (1, 0)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(UserError, match=r"pip install '\.\[lenses\]' in the folder of the project"):
        ingest_lenses([], db)
