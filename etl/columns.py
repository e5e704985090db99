"""Which FITS columns become which columns of spec_obj, and how their values are picked out of a row.

One list serves specObj, spAll, spZbest and HDU 2 of spec files. A field that has several sources takes
the first that the file has; ``CMODELMAG[3]`` is element 3 (the i band of ugriz) of an array column.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etl.checks import Fault
from etl.fits_fast import Column, FitsBytes, Hdu, Layout, unscaled


@dataclass(frozen=True)
class Field:
    """One value that is kept: our name, the kind of value, and the FITS columns it may come from."""

    name: str
    kind: str
    sources: tuple[tuple[str, int], ...]


def _field(name: str, kind: str, *sources: str) -> Field:
    parsed = []
    for text in sources or (name.upper(),):
        found = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", text)
        assert found is not None
        parsed.append((found[1], int(found[2] or 0)))
    return Field(name, kind, tuple(parsed))


FIELDS: tuple[Field, ...] = (
    _field("ra_deg", "float", "PLUG_RA", "FIBER_RA", "RACAT", "RA"),
    _field("dec_deg", "float", "PLUG_DEC", "FIBER_DEC", "DECCAT", "DEC"),
    _field("plate", "int"),
    _field("mjd", "int"),
    _field("fiber_id", "int", "FIBERID", "FIBER_ID"),
    _field("spec_obj_id", "id", "SPECOBJID", "SPECOBJ_ID"),
    _field("best_obj_id", "id", "BESTOBJID", "OBJID"),
    _field("survey_name", "text", "SURVEY"),
    _field("instrument", "text"),
    _field("programname", "text"),
    _field("chunk", "text"),
    _field("platequality", "text"),
    _field("plate_sn2", "float", "PLATESN2"),
    _field("run2d", "text"),
    _field("run1d", "text"),
    _field("tile", "int"),
    _field("objtype", "text"),
    _field("targettype", "text"),
    _field("sourcetype", "text"),
    _field("class", "text"),
    _field("subclass", "text"),
    _field("z", "float"),
    _field("z_err", "float"),
    _field("z_warning", "int", "ZWARNING"),
    _field("z_noqso", "float"),
    _field("z_err_noqso", "float"),
    _field("z_warning_noqso", "int", "ZWARNING_NOQSO"),
    _field("class_noqso", "text"),
    _field("subclass_noqso", "text"),
    _field("rchi2", "float"),
    _field("dof", "int"),
    _field("vdisp", "float"),
    _field("vdisp_err", "float"),
    _field("wave_min", "float", "WAVEMIN"),
    _field("wave_max", "float", "WAVEMAX"),
    _field("wcoverage", "float"),
    _field("sn_median_all", "float"),
    _field("spectro_flux_g", "float", "SPECTROFLUX[1]"),
    _field("spectro_flux_r", "float", "SPECTROFLUX[2]"),
    _field("spectro_flux_i", "float", "SPECTROFLUX[3]"),
    _field("cmodel_mag_i", "float", "CMODELMAG[3]"),
    _field("fiber2_mag_i", "float", "FIBER2MAG[3]"),
    _field("anyandmask", "int"),
    _field("anyormask", "int"),
    _field("boss_target1", "int"),
    _field("eboss_target0", "int"),
)
"""Every value kept of a row of specObj, spAll or HDU 2."""

IDENTITY = ("plate", "mjd", "fiber_id", "ra_deg", "dec_deg")
"""Without these a row names no spectrum."""

REDSHIFT = ("z", "class", "z_warning")
"""Without these a table is no catalogue of redshifts."""


@dataclass
class Plan:
    """How to pick the fields out of the rows of one layout."""

    fields: tuple[Field, ...]
    columns: tuple[Column, ...]
    dtype: np.dtype[Any]

    def has(self, name: str) -> bool:
        """Whether the layout offers that field."""
        return any(f.name == name for f in self.fields)


def make_plan(layout: Layout) -> Plan:
    """Plan for a layout; kept with it."""
    made = layout.plans.get(0)
    if made is None:
        fields, columns, names, formats, offsets = [], [], [], [], []
        for field in FIELDS:
            picked = _source(layout, field)
            if picked is None:
                continue
            column, element = picked
            kind = column.numpy_type()
            fields.append(field)
            columns.append(column)
            names.append(field.name)
            formats.append(kind)
            offsets.append(column.offset + (0 if column.is_text else element * np.dtype(kind).itemsize))
        dtype = np.dtype(
            {"names": names, "formats": formats, "offsets": offsets, "itemsize": layout.row_bytes}
        )
        made = layout.plans[0] = Plan(tuple(fields), tuple(columns), dtype)
    return made


def _source(layout: Layout, field: Field) -> tuple[Column, int] | None:
    """First of the field's sources that the layout has and that can hold it."""
    for name, element in field.sources:
        column = layout.columns.get(name)
        if column is None or column.repeat < 1 or (not column.is_text and column.repeat <= element):
            continue
        if name == "OBJID" and not column.is_text:
            continue  # 5J in SPECOBJ: run, rerun, camcol, field, id, no object number
        if (field.kind == "text") != column.is_text and field.kind != "id":
            raise Fault(
                "bad_column",
                f"column {name} has format {column.repeat}{column.code}, a {field.kind} is needed",
            )
        return column, element
    return None


def require(have: set[str], wanted: tuple[str, ...], hdu: int) -> None:
    """Refuse a table that lacks fields, naming the FITS columns it should have."""
    missing = [next(f for f in FIELDS if f.name == w).sources[0][0] for w in wanted if w not in have]
    if missing:
        raise Fault("missing_columns", f"HDU {hdu} lacks the columns {', '.join(missing)}", hdu)


def pick(fits: FitsBytes, hdu: Hdu, first: int, count: int) -> dict[str, NDArray[Any]]:
    """Fields of some rows: native arrays of shape (count,) by our name; text as bytes."""
    plan = make_plan(fits.layout(hdu))
    records = fits.rows(hdu, plan.dtype, first, count)
    return {f.name: unscaled(records[f.name], c) for f, c in zip(plan.fields, plan.columns, strict=True)}


def pick_row(fits: FitsBytes, hdu: Hdu) -> dict[str, Any]:
    """Fields of the first row as plain Python values; text as bytes."""
    plan = make_plan(fits.layout(hdu))
    values = fits.rows(hdu, plan.dtype, 0, 1)[0].item()
    row = {}
    for field, column, value in zip(plan.fields, plan.columns, values, strict=True):
        if not column.is_text and (column.zero or column.scale != 1.0):
            value = unscaled(np.asarray([value], dtype=column.numpy_type()), column)[0].item()
        row[field.name] = value
    return row
