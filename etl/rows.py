"""Fields of survey rows into rows of target and spec_obj, and the rows that cannot be used into notes.

Everything works on whole columns: a catalogue of a million rows takes no Python loop. Values that mean
"nothing" become null: NaN, blank text, the zeros that stand for the fits SDSS-I/II did not make,
magnitudes of 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl.checks import LISTED_PER_REASON, Note, run2d_bits, spec_obj_id
from etl.text import codes, constant, encoded, first_known, from_codes, matches, plain, text
from schema.healpix import hpx29
from schema.ids import sdss_target_id
from schema.tables import spec_obj

NOQSO = ("z_noqso", "z_err_noqso", "z_warning_noqso", "class_noqso", "subclass_noqso")
TARGET_COLUMNS = ("target_id", "survey", "native_id", "ra_deg", "dec_deg", "hpx29", "is_injection")


@dataclass
class Rows:
    """Rows ready to load, and what was wrong with others.

    ``kept`` gives the index of each loaded row among those given, ``provided`` the columns of spec_obj that
    the file has, also those that hold nothing.
    """

    target: pa.Table
    spec_obj: pa.Table
    kept: NDArray[np.int64]
    notes: list[Note]
    provided: frozenset[str]


def make_rows(
    fields: dict[str, Any],
    source_file_id: int | NDArray[np.int64],
    *,
    hdu: int | None = None,
    first_row: int | NDArray[np.int64] = 0,
    listed: dict[str, int] | None = None,
    one_file: bool = True,
) -> Rows:
    """Check rows and turn them into rows of target and spec_obj.

    Parameters
    ----------
    fields : dict of ndarray or pyarrow.Array, each of shape (n,)
        Values by field name of etl.columns; text as bytes or text.
    source_file_id : int or ndarray of int64, shape (n,)
        File of each row.
    hdu, first_row
        HDU and number of the first row, or the number of each, for the notes.
    listed : dict, optional
        Running count of notes by code, so that many faults of one kind are counted and not listed.
    one_file : bool
        Of several rows with one plate, MJD and fibre keep the last; False where the rows are of several
        files.

    Returns
    -------
    Rows
        In the order given.
    """
    counts = {} if listed is None else listed
    n = len(fields["plate"])
    notes: list[Note] = []
    number = first_row + np.arange(n) if isinstance(first_row, int) else first_row
    plate, mjd, fiber = (_integers(fields[k]) for k in ("plate", "mjd", "fiber_id"))
    named = (plate > 0) & (plate < 1 << 20) & (mjd > 0) & (mjd < 1 << 20) & (fiber > 0) & (fiber < 1 << 16)
    ra, dec = (np.asarray(fields[k], dtype=np.float64) for k in ("ra_deg", "dec_deg"))
    with np.errstate(invalid="ignore"):
        placed = np.isfinite(ra) & np.isfinite(dec) & (ra >= -360.0) & (ra <= 360.0) & (np.abs(dec) <= 90.0)

    def name(k: int) -> str:
        return f"{plate[k]}-{mjd[k]}-{fiber[k]}"

    for k in np.flatnonzero(~named):
        reason = f"plate {plate[k]}, mjd {mjd[k]}, fiber {fiber[k]} identify no spectrum"
        notes.append(Note("bad_identity", reason, True, hdu, int(number[k])))
    for k in np.flatnonzero(named & ~placed):
        reason = f"ra {ra[k]}, dec {dec[k]}: no position; -360 to 360 and -90 to 90 degrees are allowed"
        notes.append(Note("bad_position", reason, True, hdu, int(number[k]), name(int(k))))
    kept = np.flatnonzero(named & placed)
    target_id = sdss_target_id(plate[kept], mjd[kept], fiber[kept])
    last = _last_of_each(target_id) if one_file else np.arange(len(kept))
    if len(last) < len(kept):
        again = np.ones(len(kept), dtype=bool)
        again[last] = False
        for k in kept[again]:
            reason = "a later row of the file has the same plate, MJD and fibre, and is used instead"
            add_listed(notes, counts, Note("duplicate_row", reason, False, hdu, int(number[k]), name(int(k))))
        kept, target_id = kept[last], target_id[last]

    whole = len(kept) == n
    columns = {
        k: v if whole else v[kept] if isinstance(v, np.ndarray) else v.take(pa.array(kept))
        for k, v in fields.items()
    }
    out = {
        "target_id": pa.array(target_id),
        "source_file_id": pa.array(
            np.full(len(kept), source_file_id, dtype=np.int64)
            if isinstance(source_file_id, int)
            else source_file_id[kept]
        ),
    }
    for key, values in columns.items():
        if key not in spec_obj.c or key in ("spec_obj_id", "best_obj_id"):
            continue
        kind = str(spec_obj.c[key].type)
        if kind == "TEXT":
            out[key] = text(values)
        elif kind == "DOUBLE":
            out[key] = _doubles(values)
        else:
            out[key] = _whole(values, pa.int32() if kind == "INTEGER" else pa.int64())
    out.update(
        plate=pa.array(plate[kept], pa.int32()),
        mjd=pa.array(mjd[kept], pa.int32()),
        fiber_id=pa.array(fiber[kept], pa.int32()),
    )
    _meanings(out, columns)
    out["best_obj_id"] = _object_ids(columns.get("best_obj_id"), len(kept))
    out["spec_obj_id"], wrong = _spec_obj_ids(columns, out)
    for k in np.flatnonzero(wrong):
        given, right = given_id(columns["spec_obj_id"], int(k)), out["spec_obj_id"][int(k)].as_py()
        reason = f"specObjID {given:.40} is not that of its plate, MJD, fibre and run2d; {right} is used"
        row = int(kept[k])
        add_listed(notes, counts, Note("specobjid_mismatch", reason, False, hdu, int(number[row]), name(row)))
    out["is_primary"] = pa.array(np.ones(len(kept), dtype=bool))
    out["primary_target_id"] = out["target_id"]
    out["n_epoch"] = pa.array(np.ones(len(kept), dtype=np.int32))
    ra, dec = ra[kept] % 360.0, dec[kept]
    target = pa.table(
        {
            "target_id": out["target_id"],
            "survey": constant("sdss", len(kept)),
            "native_id": _native_ids(plate[kept], mjd[kept], fiber[kept]),
            "ra_deg": pa.array(ra),
            "dec_deg": pa.array(dec),
            "hpx29": pa.array(hpx29(ra, dec)),
            "is_injection": pa.array(np.zeros(len(kept), dtype=bool)),
        }
    )
    # a column that holds nothing is left out: no engine need be told a million times
    ordered = [c.name for c in spec_obj.columns if c.name in out and out[c.name].null_count < len(kept)]
    spec = pa.table([out[c] for c in ordered], names=ordered)
    return Rows(target, spec, kept, notes, _provided(set(fields)))


def _provided(given: set[str]) -> frozenset[str]:
    """Columns of spec_obj that some fields tell, with those that are worked out from others."""
    told = {c.name for c in spec_obj.columns if c.name in given} | {"target_id", "source_file_id"}
    for column, sources in (
        ("objtype", {"targettype", "sourcetype"}),
        ("instrument", {"run2d"}),
        ("spec_obj_id", {"run2d"}),
    ):
        if given & sources:
            told.add(column)
    return frozenset(told)


def add_listed(notes: list[Note], counts: dict[str, int], note: Note) -> None:
    """Append a note, unless a thousand of its kind were listed already."""
    counts[note.code] = counts.get(note.code, 0) + 1
    if counts[note.code] <= LISTED_PER_REASON:
        notes.append(note)


def unlisted(counts: dict[str, int]) -> list[Note]:
    """One note for each kind of which more occurred than were listed."""
    return [
        Note("more_like_this", f"{n - LISTED_PER_REASON} more of {code}", False)
        for code, n in counts.items()
        if n > LISTED_PER_REASON
    ]


def _native_ids(plate: NDArray[np.int64], mjd: NDArray[np.int64], fiber: NDArray[np.int64]) -> pa.Array:
    """PLATE-MJD-FIBER; a catalogue holds few plates and fibre numbers, so their digits are made once."""
    nights = pa.array((plate << 20) | mjd).dictionary_encode()
    names = [f"{night >> 20}-{night & 0xFFFFF}" for night in nights.dictionary.to_pylist()]
    fibers = pa.array(fiber).dictionary_encode()
    return pc.binary_join_element_wise(
        pa.array(names, pa.string()).take(nights.indices),
        fibers.dictionary.cast(pa.string()).take(fibers.indices),
        "-",
    )


def _meanings(out: dict[str, Any], columns: dict[str, Any]) -> None:
    """What a value means beyond its digits."""
    n = len(out["target_id"])
    nothing = constant(None, n)
    run2d = out.get("run2d", nothing)
    sdss = matches(run2d, lambda run: run.isdigit() and run.isascii())
    fitted = np.asarray(out.get("class_noqso", nothing).is_valid()) & ~sdss
    for key in NOQSO:  # SDSS-I/II rows carry zeros there: the fit was not made
        if key in out:
            out[key] = _only_where(fitted, out[key])
    for key in ("cmodel_mag_i", "fiber2_mag_i"):
        if key in out:
            real = pc.fill_null(pc.and_(pc.greater(out[key], 0.0), pc.less(out[key], 90.0)), False)
            out[key] = _only_where(np.asarray(real), out[key])
    # specObj has TARGETTYPE and SOURCETYPE where spAll has OBJTYPE
    purpose = text(columns["targettype"]) if "targettype" in columns else nothing
    sky = from_codes(np.where(matches(purpose, "SKY".__eq__), 0, -1).astype(np.int32), ["SKY"])
    out["objtype"] = first_known(out.get("objtype", nothing), sky, out.get("sourcetype", nothing))
    boss = matches(run2d, lambda run: run.startswith("v"))
    known = from_codes(np.where(boss, 0, np.where(sdss, 1, -1)).astype(np.int32), ["BOSS", "SDSS"])
    out["instrument"] = first_known(out.get("instrument", nothing), known)


def _only_where(keep: NDArray[np.bool_], values: pa.Array) -> pa.Array:
    """Values where a row keeps them, null elsewhere."""
    if keep.all():
        return values
    if not keep.any():
        return pa.nulls(len(values), values.type)
    return pc.if_else(pa.array(keep), plain(values), pa.scalar(None, plain(values).type))


def _integers(values: Any) -> NDArray[np.int64]:
    """Identity columns as integers; -1 where a value is missing or no whole number."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        values = np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False))
    if values.dtype.kind in "iu":
        return np.asarray(values.astype(np.int64))
    with np.errstate(invalid="ignore"):
        fine = np.isfinite(values) & (values == np.rint(values)) & (np.abs(values) < 1 << 40)
        return np.where(fine, values, -1).astype(np.int64)


def _doubles(values: Any) -> pa.Array:
    data = np.asarray(values, dtype=np.float64)
    bad = ~np.isfinite(data)
    return pa.array(data, mask=bad) if bad.any() else pa.array(data)


def _whole(values: Any, kind: pa.DataType) -> pa.Array:
    """Integers of a column's type; null where a value is missing, no whole number or beyond the type."""
    if isinstance(values, pa.Array):
        return _whole_arrow(values, kind)
    data = np.asarray(values)
    bits = 31 if kind == pa.int32() else 63
    if data.dtype.kind == "u":
        bad = data >= np.uint64(1 << bits) if data.dtype.itemsize == 8 else data.astype(np.int64) >= 1 << bits
    elif data.dtype.kind == "i":
        bad = (
            np.zeros(len(data), bool)
            if bits == 63 or data.dtype.itemsize < 4
            else (data >= 1 << bits) | (data < -(1 << bits))
        )
    else:
        data = data.astype(np.float64)
        bad = ~np.isfinite(data) | (np.abs(data) >= 2.0**bits) | (data != np.rint(data))
    if bad.any():
        data = np.where(bad, 0, data)
        return pa.array(data.astype(np.int64), pa.int64(), mask=bad).cast(kind)
    return pa.array(data.astype(np.int32 if bits == 31 else np.int64))


def _whole_arrow(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The same for int64 with nulls."""
    if kind == pa.int32():
        fits = pc.and_(pc.less(values, 1 << 31), pc.greater_equal(values, -(1 << 31)))
        values = pc.if_else(pc.fill_null(fits, False), values, pa.scalar(None, pa.int64()))
    return values.cast(kind)


def _object_ids(values: Any, n: int) -> pa.Array:
    """Photometric object identifiers as decimal digits; null for 0 and blank."""
    if values is None:
        return pa.nulls(n, pa.string())
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        digits = pa.array(values).cast(pa.string())
    elif isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return pa.nulls(n, pa.string())  # a double cannot hold them
    else:
        digits = plain(text(values))
    return _only_numbers(digits)


def _only_numbers(digits: pa.Array) -> pa.Array:
    """Strings that are decimal numbers above 0, null in place of others."""
    if digits.null_count == 0 and len(digits) and digits.offset == 0:
        ends, data = (
            np.frombuffer(b, dtype=t) for b, t in zip(digits.buffers()[1:], ("<i4", "u1"), strict=True)
        )
        first = data[ends[:-1][: len(digits)]] if ends[len(digits)] else np.zeros(1, np.uint8)
        used = data[: ends[len(digits)]]
        if (
            (used - np.uint8(48) < 10).all()
            and (first != 48).all()
            and (np.diff(ends[: len(digits) + 1]) > 0).all()
        ):
            return digits
    real = pc.fill_null(pc.match_substring_regex(digits, r"^[1-9]\d*$"), False)
    return pc.if_else(real, digits, pa.scalar(None, pa.string()))


def given_id(values: Any, k: int) -> str:
    """A specObjID as the file gives it."""
    value = values[k]
    return value.decode("latin-1").strip() if isinstance(value, bytes) else str(value)


def _spec_obj_ids(columns: dict[str, Any], out: dict[str, Any]) -> tuple[pa.Array, NDArray[np.bool_]]:
    """specObjID as unsigned decimal digits, and where the file's disagrees with what it packs."""
    n = len(out["target_id"])
    runs = encoded(out.get("run2d", constant(None, n)))
    number = np.array([run2d_bits(r) for r in runs.dictionary.to_pylist()] + [-1], dtype=np.int64)
    bits = number[codes(runs)]
    plate, mjd, fiber = (np.asarray(out[k]) for k in ("plate", "mjd", "fiber_id"))
    packed, known = spec_obj_id(plate, mjd, fiber, bits)
    given = columns.get("spec_obj_id")
    if given is None or (isinstance(given, np.ndarray) and given.dtype.kind == "f"):
        digits: pa.Array = pa.nulls(n, pa.string())
    elif isinstance(given, np.ndarray) and given.dtype.kind in "iu":
        # a signed column holds the same 64 bits: from plate 8192 on they read as a negative number
        unsigned = (
            given.view(np.uint64) if given.dtype.itemsize == 8 else given.astype(np.int64).view(np.uint64)
        )
        if known.all() and np.array_equal(unsigned, packed):
            return pa.array(packed).cast(pa.string()), np.zeros(n, dtype=bool)
        digits = pa.array(unsigned).cast(pa.string())
    else:
        digits = plain(text(given))
        if known.all() and digits.equals(right := pa.array(packed).cast(pa.string())):
            return right, np.zeros(n, dtype=bool)
        digits = _only_numbers(digits)
    computed = pc.if_else(pa.array(known), pa.array(packed).cast(pa.string()), pa.scalar(None, pa.string()))
    differs = pc.fill_null(pc.not_equal(digits, computed), False)
    return pc.coalesce(computed, digits), np.asarray(differs)


def _last_of_each(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the last row of each key, ascending; all of them when none repeats."""
    order = np.argsort(ids, kind="stable")
    ranked = ids[order]
    if not (ranked[1:] == ranked[:-1]).any():
        return np.arange(len(ids))
    is_last = np.append(ranked[1:] != ranked[:-1], True)
    return np.sort(order[is_last])
