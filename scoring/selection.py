"""Selections: named, versioned SQL predicates that say which targets a job is about.

A changed predicate is a new version, the same predicate changes nothing, and every scoring run names the
version it used.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
from typing import Any

import sqlalchemy as sa

from schema.engine import connect_engine
from schema.errors import UserError
from schema.ids import hashed_id
from schema.tables import selection as selection_table
from scoring.predicate import VIEW, check_predicate, where_clause


@dataclasses.dataclass(frozen=True)
class Selection:
    """One version of a named predicate over view ``selectable``."""

    name: str
    version: int
    where_sql: str
    description: str = ""

    @property
    def selection_id(self) -> int:
        """Key in table selection, the same in every database."""
        return hashed_id("selection", self.name, self.version)

    @property
    def where(self) -> str:
        """The predicate in parentheses, ready to stand in a query."""
        return where_clause(self.where_sql)

    def as_dict(self) -> dict[str, Any]:
        """The selection for printing as JSON."""
        return dataclasses.asdict(self)


_NO_SUBCLASS = "\n".join(
    f"  and coalesce(upper(subclass), '') not like '%{word}%'" for word in ("STARFORMING", "BROADLINE", "AGN")
)

BUILT_IN = (
    Selection(
        "li2018_lrg",
        1,
        f"\"class\" = 'GALAXY'\n{_NO_SUBCLASS}\n  and z > 0.3\n  and coalesce(upper(objtype), '') <> 'SKY'",
        "Early-type galaxies as Li et al. (2018) select them, section 3.2: class GALAXY, no STARFORMING, "
        "BROADLINE or AGN subclass, z > 0.3; without fibres on empty sky.",
    ),
    Selection(
        "li2018_lrg_sure",
        1,
        f"\"class\" = 'GALAXY'\n{_NO_SUBCLASS}\n  and z > 0.3\n  and coalesce(upper(objtype), '') <> 'SKY'\n"
        "  and z_warning = 0 and is_primary",
        "li2018_lrg, one epoch per object and only redshifts without a warning.",
    ),
    Selection(
        "injections",
        1,
        "is_injection",
        "Simulated targets, whose truth is known: for completeness and purity.",
    ),
    Selection(
        "all_spectra",
        1,
        "spectrum_id is not null",
        "Every target with a spectrum in a shard, whatever its class.",
    ),
    Selection(
        "all_images",
        1,
        "cutout_id is not null",
        "Every target with an image cutout in a shard, simulated ones included.",
    ),
)
"""Selections that every database has."""


def seed_selections(conn: sa.Connection) -> int:
    """Add the built-in selections that the database lacks; returns how many."""
    have = set(conn.execute(sa.select(selection_table.c.name)).scalars())
    rows = [_row(chosen) for chosen in BUILT_IN if chosen.name not in have]
    if rows:
        conn.execute(selection_table.insert(), rows)
    return len(rows)


def _row(chosen: Selection) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    return {"selection_id": chosen.selection_id, **chosen.as_dict(), "created_at": now}


def ensure_selection(conn: sa.Connection, chosen: Selection) -> None:
    """Add the row of a selection version if the database lacks it."""
    c = selection_table.c
    if conn.execute(sa.select(c.selection_id).where(c.selection_id == chosen.selection_id)).first() is None:
        conn.execute(selection_table.insert(), [_row(chosen)])


def list_selections(conn: sa.Connection, *, all_versions: bool = False) -> list[Selection]:
    """Selections by name, the latest version of each unless all are asked for; built-in ones included."""
    t = selection_table.c
    rows = conn.execute(sa.select(t.name, t.version, t.where_sql, t.description).order_by(t.name, t.version))
    found = [Selection(r.name, r.version, r.where_sql, r.description or "") for r in rows]
    names = {chosen.name for chosen in found}
    found += [chosen for chosen in BUILT_IN if chosen.name not in names]
    if not all_versions:
        found = list({chosen.name: chosen for chosen in found}.values())
    return sorted(found, key=lambda chosen: (chosen.name, chosen.version))


def get_selection(conn: sa.Connection, name: str, version: int | None = None) -> Selection:
    """The latest, or the given, version of a selection.

    Raises
    ------
    UserError
        If there is none; the message lists near matches, or every name.
    """
    every = list_selections(conn, all_versions=True)
    versions = {chosen.version: chosen for chosen in every if chosen.name == name}
    if not versions:
        names = sorted({chosen.name for chosen in every})
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(names)}"
        raise UserError(
            f'no selection is called {name!r}; {hint} (add one: lensmine select add {name} --where "...")'
        )
    if version is None:
        return versions[max(versions)]
    if version not in versions:
        raise UserError(
            f"selection {name!r} has versions {', '.join(map(str, sorted(versions)))}, not {version}"
        )
    return versions[version]


def add_selection(db: str | None, name: str, where_sql: str, description: str = "") -> tuple[Selection, bool]:
    """Add a selection, or a new version of it when the predicate differs from the latest.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    name : str
        Letters, digits, ``_``, ``-`` and ``.``.
    where_sql : str
        SQL predicate over view ``selectable``.
    description : str
        What it selects and why.

    Returns
    -------
    (Selection, bool)
        The version that now stands, and whether it is new.

    Raises
    ------
    UserError
        If the name or the predicate is refused.
    """
    if not name or not all(c.isalnum() or c in "_-." for c in name):
        raise UserError(f"selection name {name!r} is refused; use letters, digits, '_', '-' and '.'")
    where_sql = where_sql.strip()
    with connect_engine(db, read_only=True).connect() as conn:
        check_predicate(conn, where_sql)
    with connect_engine(db).begin() as conn:
        seed_selections(conn)
        last = max((s.version for s in list_selections(conn) if s.name == name), default=0)
        if last:
            latest = get_selection(conn, name)
            if latest.where_sql == where_sql:
                return latest, False
            description = description or latest.description
        chosen = Selection(name, last + 1, where_sql, description)
        conn.execute(selection_table.insert(), [_row(chosen)])
        return chosen, True


def count_selection(conn: sa.Connection, chosen: Selection) -> dict[str, int]:
    """How many targets the predicate selects; of these, how many have a spectrum or a cutout in a shard."""
    bare = conn.execution_options(no_parameters=True)
    counted = f"select count(*), count(spectrum_id), count(cutout_id) from {VIEW} where {chosen.where}"
    row = bare.exec_driver_sql(counted).one()
    return {"targets": int(row[0]), "spectra": int(row[1]), "cutouts": int(row[2])}


def checked_selection(db: str | None, name: str, version: int | None = None) -> Selection:
    """A selection from the database with its predicate checked anew, since the table can be edited by SQL.

    Raises
    ------
    UserError
        If there is none of that name or its predicate is refused.
    """
    with connect_engine(db, read_only=True).connect() as conn:
        chosen = get_selection(conn, name, version)
        check_predicate(conn, chosen.where_sql)
    return chosen
