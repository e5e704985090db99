"""The metadata object, the shared column types and the helpers that make a documented column."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = sa.MetaData(naming_convention=NAMING)

Json = sa.JSON().with_variant(JSONB(), "postgresql")
Time = sa.DateTime(timezone=True)
FLUX_UNIT = "1e-17 erg / (s cm2)"
FLUX_DENSITY_UNIT = "1e-17 erg / (s cm2 Angstrom)"


def col(
    name: str, kind: Any, doc: str, *, unit: str = "", ucd: str = "meta", ref: str | None = None, **kw: Any
) -> sa.Column[Any]:
    """One documented column; ``ref`` names the parent column of a foreign key kept on PostgreSQL only."""
    info = {"unit": unit, "ucd": ucd, "ref": ref}
    return sa.Column(name, kind, doc=doc, comment=doc, info=info, **kw)


def key(name: str, doc: str, **kw: Any) -> sa.Column[Any]:
    """A 64-bit primary key made by schema.ids."""
    return col(name, sa.BigInteger, doc, ucd="meta.id;meta.main", primary_key=True, autoincrement=False, **kw)
