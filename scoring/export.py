"""Tables and views as files that keep the unit, UCD and meaning of every column.

The format follows the ending: ``.fits`` (TUNIT, TUCD and TCOMM of each column), ``.vot`` or ``.xml``
(VOTable), ``.parquet`` (metadata of the fields), ``.csv`` or ``.ecsv`` (comma-separated under an ECSV header
of # lines, which astropy and TOPCAT read as it is, and pandas with ``comment="#"``). Rows have a fixed order
and nothing in the file tells the time, so the same rows give the same bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import decimal
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlalchemy as sa

from schema.dictionary import Entry, Relation, dictionary
from schema.engine import connect_engine
from schema.errors import UserError

if TYPE_CHECKING:
    from astropy.table import Table

ORDER = ("model", "model_id", "step_no", "target_id", "spectrum_id", "lens_id", "native_id", "name")
"""Columns that order the rows of a view, those that it has."""


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What was written where."""

    path: str
    format: str
    relation: str
    n_rows: int
    n_columns: int

    def as_dict(self) -> dict[str, Any]:
        """The report for printing as JSON."""
        return dataclasses.asdict(self)

    def line(self) -> str:
        """The report in one line."""
        return (
            f"{self.path}: {self.n_rows:,} rows of {self.relation}, {self.n_columns} columns, {self.format}"
        )


def export(
    db: str | None,
    path: str | Path,
    view: str = "candidate",
    *,
    where: str | None = None,
    model: str | None = None,
) -> ExportReport:
    """Write a table or view to a file; the file appears complete or not at all.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    path : str or Path
        File to write; its ending names the format.
    view : str
        A table or view of lensmine.
    where : str, optional
        SQL condition on its columns.
    model : str, optional
        Only rows of the model of this name; for relations with a column ``model``.

    Returns
    -------
    ExportReport

    Raises
    ------
    UserError
        An ending, view or condition that is not known, or a folder that is not there.
    """
    path = Path(path)
    kind, write = _writer(path)
    if not path.parent.is_dir():
        raise UserError(f"no folder {path.parent} to write {path.name} into; make it first")
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file, for example {path / (view + '.fits')}")
    (relation,) = dictionary(view)
    table = read_relation(db, relation, where=where, model=model)
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(table, relation, draft)
        with open(draft, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(draft, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
    return ExportReport(str(path), kind, view, table.num_rows, table.num_columns)


def _writer(path: Path) -> tuple[str, Callable[[pa.Table, Relation, Path], None]]:
    """Format and writer by the ending of the file."""
    found = _WRITERS.get(path.suffix.lower())
    if found is None:
        raise UserError(
            f"cannot tell the format of {path.name}: its ending must be one of {', '.join(_WRITERS)}"
        )
    return found


def read_relation(
    db: str | None, relation: Relation, *, where: str | None = None, model: str | None = None
) -> pa.Table:
    """Rows of a table or view in their fixed order, each field with unit, ucd and description.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    relation : Relation
        From `schema.dictionary.dictionary`.
    where, model : str, optional
        As for `export`.

    Raises
    ------
    UserError
        When the database refuses the condition.
    """
    names = [c.name for c in relation.columns]
    conditions = []
    if where is not None:
        if ";" in where or not where.strip():
            raise UserError(f"--where {where!r} must be one SQL condition on the columns of {relation.name}")
        conditions.append(f"({where})")
    if model is not None:
        if "model" not in names:
            raise UserError(f"{relation.name} has no column model; leave --model out or use --where")
        conditions.append("model = '" + model.replace("'", "''") + "'")
    keys = [c.name for c in relation.columns if c.key] or [c for c in ORDER if c in names] or names
    quoted = ", ".join(f'"{n}"' for n in names)
    ordered = ", ".join(f'"{k}"' for k in keys)
    condition = " and ".join(conditions) or "true"
    query = f'select {quoted} from "{relation.name}" where {condition} order by {ordered}'
    with connect_engine(db, read_only=True).connect() as conn:
        try:
            rows = conn.execution_options(no_parameters=True).exec_driver_sql(query).all()
        except sa.exc.DBAPIError as exc:
            said = " ".join(str(exc.orig).split())[:300]
            raise UserError(
                f"the database refuses --where {where!r} on {relation.name}: {said}; "
                f"its columns: lensmine db dictionary {relation.name}"
            ) from exc
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    arrays = [_array(values, entry) for values, entry in zip(columns, relation.columns, strict=True)]
    fields = [
        pa.field(e.name, a.type, metadata={"unit": e.unit, "ucd": e.ucd, "description": e.doc})
        for e, a in zip(relation.columns, arrays, strict=True)
    ]
    about = {"relation": relation.name, "description": relation.doc, "where": " and ".join(conditions)}
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=about))


_TYPES = {"bigint": pa.int64(), "integer": pa.int64(), "number": pa.float64(), "double": pa.float64(),
          "boolean": pa.bool_(), "bool": pa.bool_(), "text": pa.string(), "string": pa.string()}  # fmt: skip


def _array(values: tuple[Any, ...], entry: Entry) -> pa.Array:
    """One column; a column of a table by its declared type, a computed one by what it holds."""
    plain = [_plain(v) for v in values]
    if all(v is None for v in plain):
        return pa.nulls(len(plain), _TYPES.get(entry.type, pa.string()))
    return pa.array(plain, from_pandas=True)


def _plain(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, (dict, list)):
        return json.dumps(value, sort_keys=True)
    return value


def _astropy(table: pa.Table, *, ascii_only: bool = False) -> Table:
    """The rows as an astropy table; nulls are masked, except that a missing float is NaN."""
    import numpy as np
    from astropy.table import MaskedColumn, Table

    out = Table()
    for name in table.column_names:
        array = table[name].combine_chunks()
        missing = np.asarray(array.is_null())
        if pa.types.is_floating(array.type):
            out[name] = array.to_numpy(zero_copy_only=False)
            continue
        if pa.types.is_boolean(array.type) and (not missing.any() or not ascii_only):
            data = np.array([bool(v) for v in array.to_pylist()], dtype=bool)
        elif pa.types.is_boolean(array.type):  # FITS has no null among its logicals
            data = np.array([int(bool(v)) for v in array.to_pylist()], dtype=np.int16)
        elif pa.types.is_integer(array.type):
            data = np.array([0 if v is None else v for v in array.to_pylist()], dtype=np.int64)
        else:
            text = ["" if v is None else str(v) for v in array.to_pylist()]
            if ascii_only:
                text = [t.encode("ascii", "replace").decode() for t in text]
            data = np.array(text, dtype=str) if text else np.array([], dtype="U1")
        out[name] = MaskedColumn(data, mask=missing) if missing.any() else data
    return out


def _write_fits(table: pa.Table, relation: Relation, path: Path) -> None:
    from astropy import units
    from astropy.io import fits

    hdu = fits.table_to_hdu(_astropy(table, ascii_only=True))
    hdu.name = relation.name.upper()
    for k, entry in enumerate(relation.columns, 1):
        if entry.unit:
            try:
                hdu.header[f"TUNIT{k}"] = units.Unit(entry.unit).to_string("fits")
            except ValueError:
                hdu.header[f"TUNIT{k}"] = entry.unit
        hdu.header[f"TUCD{k}"] = entry.ucd
        hdu.header[f"TCOMM{k}"] = _ascii(entry.doc)
    hdu.header["COMMENT"] = _ascii(relation.doc)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _write_votable(table: pa.Table, relation: Relation, path: Path) -> None:
    from astropy import units
    from astropy.io.votable import from_table

    rows = _astropy(table)
    for entry in relation.columns:
        if rows[entry.name].dtype.kind == "U" and not len(rows):
            rows[entry.name] = rows[entry.name].astype("U8")
    document = from_table(rows)
    found = document.get_first_table()
    found.name = relation.name
    found.description = relation.doc
    for field, entry in zip(found.fields, relation.columns, strict=True):
        field.description = entry.doc
        field.ucd = entry.ucd or None
        if entry.unit:
            with warnings.catch_warnings():  # VOUnit now prefers 0.1nm and cm**2.g.s**-2 to Angstrom and erg
                warnings.simplefilter("ignore", units.UnitsWarning)
                field.unit = entry.unit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", units.UnitsWarning)
        document.to_xml(str(path))


def _write_parquet(table: pa.Table, relation: Relation, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path)


def _write_csv(table: pa.Table, relation: Relation, path: Path) -> None:
    from astropy import units

    rows = _astropy(table)
    for entry in relation.columns:
        column = rows[entry.name]
        if entry.unit:
            column.unit = units.Unit(entry.unit)
        column.description = str(entry.doc)
        column.meta["ucd"] = entry.ucd
    rows.meta = {"relation": str(relation.name), "description": str(relation.doc)}  # not SQLAlchemy's own str
    rows.write(path, format="ascii.ecsv", delimiter=",", overwrite=True)


_WRITERS: dict[str, tuple[str, Callable[[pa.Table, Relation, Path], None]]] = {
    ".fits": ("FITS", _write_fits),
    ".vot": ("VOTable", _write_votable),
    ".xml": ("VOTable", _write_votable),
    ".parquet": ("Parquet", _write_parquet),
    ".csv": ("CSV", _write_csv),
    ".ecsv": ("CSV", _write_csv),
}
