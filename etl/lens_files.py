"""Catalogues of known lenses as entries: lenscat's CSV and dumps of the Master Lens Database.

What stands in a catalogue is kept as it is printed; numbers are taken from it only where it says one number.
"""

from __future__ import annotations

import csv
import html
import io
import math
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from etl.checks import Fault, Note
from schema.errors import UserError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_KINDS = (
    ("XRAY-CLUST", "cluster"),
    ("CLUST", "cluster"),
    ("GRP", "group"),
    ("GAL", "galaxy"),
    ("QSO", "galaxy"),
)
LENSCAT_COLUMNS = ("name", "RA [deg]", "DEC [deg]", "zlens", "type", "grading", "ref")
MASTERLENS_COLUMNS = (
    "system_name", "kind_acronym", "reference_identifier", "ra_coord", "dec_coord",
    "lensgrade", "theta_e", "z_lens", "z_source",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One entry of a catalogue: a row of known_lens_name without its keys.

    ``row`` counts the entries of the file from 0.
    """

    row: int
    name: str
    ra_deg: float
    dec_deg: float
    z_lens_text: str | None
    z_lens: float | None
    z_source: float | None
    lens_type: str | None
    grading: str | None
    theta_e_arcsec: float | None
    reference: str | None


@dataclass
class LensFile:
    """Entries of one catalogue and what could not be used of it."""

    catalogue: str
    entries: list[Entry]
    notes: list[Note]


def packaged_catalogue() -> Path:
    """The catalogue that the lenscat package carries; the package itself is not imported.

    Raises
    ------
    UserError
        When the package is not installed.
    """
    try:
        for file in metadata.files("lenscat") or []:
            if file.name == "catalog.csv":
                path = Path(str(file.locate()))
                if path.is_file():
                    return path.resolve()
    except metadata.PackageNotFoundError:
        pass
    raise UserError(
        "no lenscat catalogue: pip install '.[lenses]' in the folder of the project, or give the path of a "
        "catalogue"
    )


def read_lens_file(data: bytes) -> LensFile:
    """Entries of a catalogue of either kind.

    Raises
    ------
    Fault
        When it is neither.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise Fault("not_sdss", f"no catalogue of lenses: not UTF-8 text ({exc.reason})") from exc
    head = text[:4000]
    if "system_name" in head and "\t" in head:
        found = _masterlens(text)
    elif "RA [deg]" in head:
        found = _lenscat(text)
    else:
        raise Fault(
            "not_sdss", "neither lenscat's CSV (name, RA [deg], DEC [deg], zlens ...) nor a Master Lens dump"
        )
    if not found.entries and not found.notes:
        raise Fault("empty", "the catalogue has no entries")
    found.entries, repeated = _without_repeats(found.entries)
    found.notes += repeated
    return found


def redshift(text: str | None) -> float | None:
    """The one redshift that a text gives: None for none, for several that differ, or for an uncertain one.

    ``0.49 | 0.49`` and ``0.367 | nan`` give one; ``not measured``, ``-``, ``L`` and ``0.3?`` give none.
    """
    values = []
    for part in (text or "").split("|"):
        word = part.strip()
        if word.lower() == "nan":
            continue
        value = number(word)
        if value is None:
            return None
        values.append(value)
    if not values or max(values) - min(values) > 0.005 * (1.0 + max(values)):
        return None
    return values[0] if 0.0 < values[0] < 20.0 else None


def number(text: str | None) -> float | None:
    """A plain finite number, or None."""
    word = (text or "").strip()
    if not _NUMBER.fullmatch(word):
        return None
    value = float(word)
    return value if math.isfinite(value) else None


def _lenscat(text: str) -> LensFile:
    entries: list[Entry] = []
    notes: list[Note] = []
    reader = csv.DictReader(io.StringIO(text))
    _need(reader.fieldnames or [], LENSCAT_COLUMNS)
    for row, line in enumerate(reader):
        name = " ".join((line["name"] or "").split())
        spot = _position(line["RA [deg]"], line["DEC [deg]"], name, row, notes)
        if spot is None:
            continue
        kept = (line["zlens"] or "").strip()
        entries.append(
            Entry(
                row, name, *spot, kept or None, redshift(kept), None,
                _words(line["type"]), _words(line["grading"]), None, _words(line["ref"]),
            )
        )  # fmt: skip
    return LensFile("lenscat", entries, notes)


def _masterlens(text: str) -> LensFile:
    entries: list[Entry] = []
    notes: list[Note] = []
    lines = text.splitlines()
    at = next(k for k, line in enumerate(lines) if "system_name" in line)
    names = [_cell(c) for c in lines[at].lstrip("# ").split("\t")]
    _need(names, MASTERLENS_COLUMNS)
    row = -1
    for line in lines[at + 1 :]:
        if not line.strip() or line.startswith("#"):
            continue
        row += 1
        cells = [_cell(c) for c in line.split("\t")]
        if len(cells) != len(names):
            notes.append(
                Note("damaged", f"{len(cells)} fields where {len(names)} are needed", True, None, row)
            )
            continue
        values = dict(zip(names, cells, strict=True))
        name = values["system_name"]
        spot = _position(values["ra_coord"], values["dec_coord"], name, row, notes)
        if spot is None:
            continue
        z_text = values["z_lens"]
        radius = number(values["theta_e"])
        entries.append(
            Entry(
                row, name, *spot, None if z_text in ("", "NaN") else z_text, redshift(z_text),
                redshift(values["z_source"]), _kind(values["kind_acronym"]), values["lensgrade"] or None,
                radius if radius and radius > 0 else None, values["reference_identifier"] or None,
            )
        )  # fmt: skip
    return LensFile("masterlens", entries, notes)


def _need(have: object, wanted: tuple[str, ...]) -> None:
    missing = [c for c in wanted if c not in list(have)]  # type: ignore[call-overload]
    if missing:
        raise Fault("missing_columns", f"the catalogue lacks the columns {', '.join(missing)}")


def _position(
    ra: str | None, dec: str | None, name: str, row: int, notes: list[Note]
) -> tuple[float, float] | None:
    a, d = number(ra), number(dec)
    if not name:
        notes.append(Note("bad_identity", "the entry has no name", True, None, row))
        return None
    if a is None or d is None or not -360.0 <= a <= 360.0 or not -90.0 <= d <= 90.0:
        notes.append(Note("bad_position", f"ra {ra}, dec {dec}: no position", True, None, row, name))
        return None
    return a % 360.0, d


def _cell(text: str) -> str:
    """A field without its quotes; HTML entities as what they stand for, a minus sign as a hyphen."""
    plain = html.unescape(text.strip().strip('"')).replace("\u2212", "-").replace("\u2013", "-")
    return " ".join(plain.split())


def _words(text: str | None) -> str | None:
    return " ".join((text or "").split()) or None


def _kind(acronym: str) -> str | None:
    return next((kind for start, kind in _KINDS if acronym.startswith(start)), None)


def _without_repeats(entries: list[Entry]) -> tuple[list[Entry], list[Note]]:
    """Entries without those that repeat an earlier one's name at its position (0.36 arcsec)."""
    seen: dict[tuple[str, int, int], Entry] = {}
    kept, notes = [], []
    for entry in entries:
        place = (entry.name, round(entry.ra_deg * 1e4), round(entry.dec_deg * 1e4))
        if place in seen:
            reason = f"the same name and position as entry {seen[place].row}"
            notes.append(Note("duplicate_row", reason, False, None, entry.row, entry.name))
            continue
        seen[place] = entry
        kept.append(entry)
    return kept, notes
