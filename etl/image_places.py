"""Which target a cutout belongs to, and where that lies.

A target of the same survey and name takes the cutout. Else one of the survey within 1 arcsec of the cutout's
own position, so that a stamp meets the catalogue row it was cut for. Else the target is new, at the cutout's
position; one that is known by a coarse name alone is looked up among the known lenses first.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from etl.checks import Note
from etl.epochs import unit_vectors
from etl.image_batch import Place
from etl.image_names import NamePosition
from schema.engine import read_columns
from schema.healpix import hpx29
from schema.ids import hashed_id

MATCH_ARCSEC = 1.0
COARSE_ARCSEC = 5.0
"""A name that allows for more than this gives a coarse position."""

_RANK = {"wcs": 0, "degrees": 1, "name": 2, "none": 3, "fake": 0}


class Places:
    """Targets and known lenses of the database, read when first asked for."""

    def __init__(self) -> None:
        self._trees: dict[str, tuple[Any, NDArray[np.int64]] | None] = {}
        self._lenses: dict[str, NDArray[Any]] | None = None
        self._names: dict[str, tuple[float, float]] = {}

    def forget(self) -> None:
        """Read the targets again, as others were added."""
        self._trees.clear()

    def settle(
        self, conn: sa.Connection, wanted: list[tuple[str, str, Place]]
    ) -> tuple[list[int | None], list[dict[str, Any]], list[tuple[int, Note]], list[int]]:
        """Find or make the target of every cutout.

        Parameters
        ----------
        conn : sqlalchemy.Connection
            Within a transaction.
        wanted : list of (survey, native_id, Place)
            One a cutout.

        Returns
        -------
        ids : list of int or None
            Target of each; None where there is no position.
        rows : list of dict
            Rows of target that are new or have a better position now.
        notes : list of (int, Note)
            What is to be told, by the number of the cutout.
        mended : list of int
            Targets among the rows that had a coarse position.
        """
        best: dict[tuple[str, str], int] = {}
        for k, (survey, native, place) in enumerate(wanted):
            first = best.setdefault((survey, native), k)
            if _RANK[place.kind] < _RANK[wanted[first][2].kind]:
                best[(survey, native)] = k
        own = {key: hashed_id("target", *key) for key in best}
        there = _existing(conn, list(own.values()))
        coarse = _coarse(conn, [key[1] for key in best if own[key] in there])
        found: dict[tuple[str, str], int | None] = {}

        rows: list[dict[str, Any]] = []
        notes: list[tuple[int, Note]] = []
        mended: list[int] = []
        for key, k in best.items():
            place, own_id = wanted[k][2], own[key]
            if own_id in there:
                found[key] = own_id
                if key[1] in coarse and place.kind in ("wcs", "degrees", "name"):
                    better, note = self._position(conn, key[1], place)
                    if note is not None:  # still coarse: said of the file's new content too
                        notes.append((k, note))
                    elif better is not None:
                        rows.append(_row(own_id, key, better, False))
                        mended.append(own_id)
                continue
            near = self._near(conn, key[0], place) if place.kind in ("wcs", "degrees") else None
            if near is not None:
                found[key] = near
                continue
            at, note = self._position(conn, key[1], place)
            if note is not None:
                notes.append((k, note))
            found[key] = own_id if at is not None else None
            if at is not None:
                rows.append(_row(own_id, key, at, place.kind == "fake"))
        cells = hpx29(np.array([r["ra_deg"] for r in rows]), np.array([r["dec_deg"] for r in rows]))
        for row, cell in zip(rows, cells.tolist(), strict=True):
            row["hpx29"] = cell
        ids = [found[(survey, native)] for survey, native, _ in wanted]
        told = {k for k, _ in notes}
        for k, target_id in enumerate(ids):
            if target_id is None and k not in told:
                notes.append((k, _homeless(wanted[k][1])))
        return ids, rows, notes, mended

    def is_known(self, conn: sa.Connection, native: str, at: NamePosition | None) -> bool:
        """Whether the known lenses that are there now tell the position of a coarse name."""
        if at is None:
            return False
        place = Place("name", at.ra_deg, at.dec_deg, at.half_ra_arcsec, at.half_dec_arcsec)
        return self._position(conn, native, place)[1] is None

    def _position(
        self, conn: sa.Connection, native: str, place: Place
    ) -> tuple[tuple[float, float] | None, Note | None]:
        if place.kind in ("wcs", "degrees", "fake"):
            return (place.ra_deg, place.dec_deg), None
        self._read_lenses(conn)
        named = self._names.get(plain_name(native))
        if named is not None:
            return named, None
        if place.kind == "none":
            return None, _homeless(native)
        lens = self._lens_in_box(place)
        if lens is not None:
            return lens, None
        reach = max(place.half_ra_arcsec * math.cos(math.radians(place.dec_deg)), place.half_dec_arcsec)
        if reach <= COARSE_ARCSEC:
            return (place.ra_deg, place.dec_deg), None
        told = (
            f"the position of {native} is the middle of what its name allows, good to {reach / 60:.1f} "
            "arcmin; load catalogues of known lenses first (lensmine ingest lenses), or an image with "
            "coordinates"
        )
        return (place.ra_deg, place.dec_deg), Note("coarse_position", told, False, native_id=native)

    def _lens_in_box(self, place: Place) -> tuple[float, float] | None:
        """The only known lens that the name can mean; names truncate, a few round."""
        lenses = self._lenses
        if lenses is None or not len(lenses["ra"]):
            return None
        d_ra = np.abs((lenses["ra"] - place.ra_deg + 180.0) % 360.0 - 180.0) * 3600.0
        d_dec = np.abs(lenses["dec"] - place.dec_deg) * 3600.0
        for room in (1.001, 2.0):
            inside = np.flatnonzero(
                (d_ra <= room * place.half_ra_arcsec) & (d_dec <= room * place.half_dec_arcsec)
            )
            if len(inside) == 1:
                k = int(inside[0])
                return float(lenses["ra"][k]), float(lenses["dec"][k])
            if len(inside) > 1:
                return None
        return None

    def _read_lenses(self, conn: sa.Connection) -> None:
        if self._lenses is not None:
            return
        self._lenses = read_columns(
            conn,
            "select ra_deg as ra, dec_deg as dec from known_lens",
            {"ra": "float", "dec": "float"},
        )
        rows = conn.execute(
            sa.text(
                "select n.name, l.ra_deg, l.dec_deg from known_lens_name n "
                "join known_lens l on l.lens_id = n.lens_id"
            )
        )
        for name, ra, dec in rows:
            self._names.setdefault(plain_name(name), (float(ra), float(dec)))

    def _near(self, conn: sa.Connection, survey: str, place: Place) -> int | None:
        """Target of the survey nearest to a position, within `MATCH_ARCSEC`, of those there at first."""
        if survey not in self._trees:
            from scipy.spatial import cKDTree

            sky = read_columns(
                conn,
                "select target_id, ra_deg, dec_deg from target where not is_injection and survey = '"
                + survey.replace("'", "''") + "'",
                {"target_id": "int", "ra_deg": "float", "dec_deg": "float"},
            )  # fmt: skip
            tree = None
            if len(sky["target_id"]):
                tree = (cKDTree(unit_vectors(sky["ra_deg"], sky["dec_deg"])), sky["target_id"])
            self._trees[survey] = tree
        found = self._trees[survey]
        if found is None:
            return None
        at = unit_vectors(np.array([place.ra_deg]), np.array([place.dec_deg]))
        chord, k = found[0].query(at[0], distance_upper_bound=2 * math.sin(math.radians(MATCH_ARCSEC / 7200)))
        return int(found[1][k]) if math.isfinite(chord) else None


def plain_name(name: str) -> str:
    """A name without blanks and case, by which catalogues' spellings meet."""
    return re.sub(r"[\s_]", "", name).upper()


def _homeless(native: str) -> Note:
    return Note(
        "no_position",
        f"{native} has no position: the header has no celestial coordinates, the name holds none, and no "
        "target or known lens is called so; load a catalogue that lists it (object_id, ra, dec) first",
        True,
        native_id=native,
    )


def _row(target_id: int, key: tuple[str, str], at: tuple[float, float], is_injection: bool) -> dict[str, Any]:
    return {
        "target_id": target_id,
        "survey": key[0],
        "native_id": key[1],
        "ra_deg": at[0],
        "dec_deg": at[1],
        "is_injection": is_injection,
    }


def _existing(conn: sa.Connection, ids: list[int]) -> set[int]:
    import pyarrow as pa

    from etl.merge import existing_ids
    from schema.tables import target

    return set(
        existing_ids(conn, target, "target_id", pa.chunked_array([pa.array(ids, pa.int64())])).tolist()
    )


def _coarse(conn: sa.Connection, names: list[str]) -> set[str]:
    """Of these names, those whose position is told to be coarse."""
    if not names:
        return set()
    rows = conn.execute(
        sa.text("select distinct native_id from reject where reason_code = 'coarse_position'")
    ).scalars()
    return set(rows) & set(names)
