"""The data dictionary: what each table, view and column holds, its unit and UCD."""

from __future__ import annotations

import functools
import re
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa

from schema.engine import scratch_engine
from schema.errors import UserError
from schema.tables import metadata
from schema.views.columns import view_column
from schema.views.order import VIEW_ORDER, create_views, view_header, view_sql


@dataclass(frozen=True)
class Entry:
    """One column."""

    name: str
    type: str
    unit: str
    ucd: str
    doc: str
    key: bool = False
    nullable: bool = True
    ref: str | None = None


@dataclass(frozen=True)
class Relation:
    """One table or view."""

    name: str
    kind: str
    doc: str
    columns: list[Entry] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def dictionary(name: str | None = None) -> list[Relation]:
    """Tables, then views, in the order in which they are made.

    Parameters
    ----------
    name : str or None
        One table or view; None for all.

    Raises
    ------
    UserError
        When there is no table or view of that name.
    """
    relations = [_table(t) for t in metadata.sorted_tables] + _views()
    if name is None:
        return relations
    found = [r for r in relations if r.name == name]
    if not found:
        raise UserError(f"no table or view {name!r}; there are {', '.join(r.name for r in relations)}")
    return found


def column_entry(relation: str, column: str) -> Entry | None:
    """Unit, UCD and meaning of one column of a table or view; None when there is no such column."""
    for known in dictionary(relation):
        for entry in known.columns:
            if entry.name == column:
                return entry
    return None


def _table(table: sa.Table) -> Relation:
    columns = [
        Entry(
            c.name, _type_name(c.type), c.info["unit"], c.info["ucd"], c.doc or "",
            c.primary_key, bool(c.nullable), c.info["ref"],
        )
        for c in table.c
    ]  # fmt: skip
    return Relation(table.name, "table", table.comment or "", columns)


def _type_name(kind: Any) -> str:
    if isinstance(kind, sa.JSON):
        return "json"
    if isinstance(kind, sa.DateTime):
        return "timestamptz"
    return str(kind).lower()


@functools.cache
@functools.cache
def _views() -> list[Relation]:
    """The views as an empty scratch database makes them; a column takes unit and UCD from where it comes."""
    views = []
    known: dict[str, list[Entry]] = {t.name: _table(t).columns for t in metadata.sorted_tables}
    with scratch_engine().connect() as conn:
        metadata.create_all(conn)
        create_views(conn)
        for name in VIEW_ORDER:
            result = conn.execute(sa.text(f"select * from {name} limit 0"))
            described = result.cursor.description if result.cursor else []
            types = {str(c[0]): str(c[1]).lower() for c in described}
            words = re.findall(r"\w+", view_sql(name))
            sources = [w for w in dict.fromkeys(words) if w in known]
            columns = [
                _view_column(name, c, types.get(c, ""), [known[s] for s in sources])
                for c in list(result.keys())
            ]
            views.append(Relation(name, "view", view_header(name), columns))
            known[name] = columns
    return views


def _view_column(view: str, name: str, type_name: str, sources: list[list[Entry]]) -> Entry:
    computed = view_column(view, name)
    if computed is not None:
        doc, unit, ucd = computed
        return Entry(name, type_name, unit, ucd, doc)
    for source in sources:
        for entry in source:
            if entry.name == name:
                return Entry(name, entry.type, entry.unit, entry.ucd, entry.doc)
    return Entry(name, type_name, "", "", "")


def as_markdown(relations: list[Relation]) -> str:
    """The dictionary as a Markdown document."""
    lines = ["# Data dictionary", "", "Made by `lensmine db dictionary --format md`.", ""]
    for r in relations:
        lines += [f"## {r.kind} `{r.name}`", "", r.doc, "", "| column | type | unit | UCD | meaning |"]
        lines += ["|---|---|---|---|---|"]
        for c in r.columns:
            mark = " (key)" if c.key else ""
            ref = f" Refers to `{c.ref}`." if c.ref else ""
            doc = c.doc.replace("|", "\\|")
            lines.append(f"| `{c.name}`{mark} | {c.type} | {c.unit} | {c.ucd} | {doc}{ref} |")
        lines.append("")
    return "\n".join(lines)
