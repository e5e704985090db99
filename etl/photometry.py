"""Catalogues with photometry into rows of target and phot_obj.

Which catalogue it is follows from the columns (etl.photometry_kinds). Sentinels (-99, -99.9, 99, 999, -9999
...) become null. A column that is named as a magnitude and holds what can only be fluxes refuses the whole
file: a selection by it would be silently wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etl.checks import LISTED_PER_REASON, Fault, Note
from etl.photometry_kinds import BANDS, Plan
from etl.rows import add_listed
from schema.healpix import hpx29
from schema.ids import hashed_id, sdss_target_id
from schema.tables import phot_obj, target

SENTINELS = (99.0, 99.9, 99.99, 99.999, 999.0, 999.9, 9999.0, 99999.0)
LN_TO_MAG = 2.5 / np.log(10.0)

Columns = Mapping[str, NDArray[Any]]


@dataclass
class PhotRows:
    """Rows of target and phot_obj in the same order, and what was noted of the piece."""

    targets: pa.Table
    rows: pa.Table
    notes: list[Note]


class PhotMaker:
    """Makes rows from pieces of one catalogue; remembers what it has met, to find duplicates.

    Parameters
    ----------
    plan : Plan
        The file's columns.
    file_id : int
        Key of the file.
    survey : str
        Survey of a plain list of positions; the known catalogues say their own.
    """

    def __init__(self, plan: Plan, file_id: int, survey: str) -> None:
        self.plan, self.file_id = plan, file_id
        self.survey = plan.kind.survey or survey
        self.seen: set[int] = set()
        self.counts: dict[str, int] = {}
        self.first_row = 0

    def make(self, columns: Columns) -> PhotRows:
        """Rows of one piece.

        Parameters
        ----------
        columns : mapping of str to ndarray, shape (n,)
            The file's columns by its names.

        Raises
        ------
        Fault
            When a column of magnitudes holds fluxes.
        """
        given = {ours: columns[theirs] for ours, theirs in self.plan.columns.items()}
        n = len(given["ra"])
        notes: list[Note] = []
        ra, dec = numbers(given["ra"]), numbers(given["dec"])
        native, ids = self._identity(given)
        keep = self._keep(given, ra, dec, native, ids, notes)
        out: dict[str, Any] = {
            "target_id": ids,
            "source_file_id": np.full(n, self.file_id, dtype=np.int64),
            "catalog": pa.array([self.plan.kind.name] * n),
            "object_id": pa.array(words(given["id"]) if "id2" not in given else native),
            "mag_kind": pa.array([self._mag_kind()] * n),
        }
        if self.plan.kind.name == "sdss_photo":
            out["object_id"] = pa.array(native)
        self._magnitudes(given, out, native, notes)
        self._shapes(given, out)
        chosen = pa.array(np.flatnonzero(keep))
        wrapped = np.where(np.isfinite(ra), ra, 0.0) % 360.0
        good_dec = np.where(np.abs(dec) <= 90, dec, 0.0)
        targets = pa.table(
            {
                "target_id": ids,
                "survey": pa.array([self.survey] * n),
                "native_id": pa.array(native),
                "ra_deg": wrapped,
                "dec_deg": good_dec,
                "hpx29": hpx29(wrapped, good_dec),
                "is_injection": np.zeros(n, dtype=bool),
            }
        )
        rows = pa.table({name: _nulls(v) for name, v in out.items() if name in phot_obj.c})
        self.first_row += n
        return PhotRows(targets.select([c.name for c in target.c]).take(chosen), rows.take(chosen), notes)

    def _mag_kind(self) -> str | None:
        used = " ".join(v.lower() for k, v in self.plan.columns.items() if k.startswith(("mag_", "flux_")))
        for word in ("cmodel", "kron", "psf"):
            if word in used:
                return word
        return self.plan.kind.mag_kind if used else None

    def _identity(self, given: Columns) -> tuple[list[str], NDArray[np.int64]]:
        """The survey's names and our keys."""
        if self.plan.kind.name == "sdss_photo":
            plate, mjd, fiber = (
                np.nan_to_num(numbers(given[k])).astype(np.int64) for k in ("id", "mjd", "fiber")
            )
            native = [
                f"{p}-{m}-{f}" for p, m, f in zip(plate.tolist(), mjd.tolist(), fiber.tolist(), strict=True)
            ]
            return native, sdss_target_id(plate, mjd, fiber)
        native = [self.plan.kind.native.format(w) for w in words(given["id"])]
        if "id2" in given:
            native = [f"{a}-{b}" for a, b in zip(native, words(given["id2"]), strict=True)]
        return native, np.array([hashed_id("target", self.survey, x) for x in native], dtype=np.int64)

    def _keep(
        self, given: Columns, ra: NDArray[Any], dec: NDArray[Any], native: list[str], ids: NDArray[Any],
        notes: list[Note],
    ) -> NDArray[np.bool_]:  # fmt: skip
        keep = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90) & (ra > -360) & (ra <= 360)
        for k in np.flatnonzero(~keep):
            self._tell(notes, "bad_position", f"ra {ra[k]}, dec {dec[k]} is no position", k, native[k])
        if "primary" in given:
            second = keep & _false(given["primary"])
            for k in np.flatnonzero(second):
                column = self.plan.columns["primary"]
                self._tell(notes, "not_primary", f"{column} is false: a duplicate detection", k, native[k])
            keep &= ~second
        for k in np.flatnonzero(keep):
            key = int(ids[k])
            if key in self.seen:
                self._tell(notes, "duplicate_object", f"object {native[k]} came before", k, native[k])
                keep[k] = False
            self.seen.add(key)
        return keep

    def _tell(
        self, notes: list[Note], code: str, reason: str, k: Any, native: str, fatal: bool = True
    ) -> None:
        note = Note(code, reason, fatal, None, self.first_row + int(k), native)
        if fatal and self.counts.get(code, 0) >= LISTED_PER_REASON:
            self.counts[code] += 1
            return
        if fatal:
            self.counts[code] = self.counts.get(code, 0) + 1
            notes.append(note)
        else:
            add_listed(notes, self.counts, note)

    def _magnitudes(self, given: Columns, out: dict[str, Any], native: list[str], notes: list[Note]) -> None:
        for name in [f"mag_{b}" for b in BANDS] + ["mag_f814w"]:
            band = name.removeprefix("mag_")
            if name in given:
                values = numbers(given[name])
                sentinel = is_sentinel(values)
                self._refuse_fluxes(self.plan.columns[name], values[~sentinel])
                bad = ~sentinel & ((values < 0) | (values > 50))
                for k in np.flatnonzero(bad):
                    told = f"{self.plan.columns[name]} is {values[k]:g}, no magnitude; it is null"
                    self._tell(notes, "bad_magnitude", told, k, native[k], fatal=False)
                out[name] = np.where(sentinel | bad, np.nan, values)
                if f"err_{band}" in given:
                    out[f"mag_err_{band}"] = _error(numbers(given[f"err_{band}"]), out[name])
            elif f"flux_{band}" in given:
                flux = numbers(given[f"flux_{band}"])
                good = flux > 0
                safe = np.where(good, flux, 1.0)
                out[name] = np.where(good, self.plan.kind.zeropoint - 2.5 * np.log10(safe), np.nan)
                if f"ferr_{band}" in given:
                    sigma = numbers(given[f"ferr_{band}"])
                    if "ivar" in self.plan.columns[f"ferr_{band}"].lower():
                        sigma = 1.0 / np.sqrt(np.where(sigma > 0, sigma, np.nan))
                    out[f"mag_err_{band}"] = _error(LN_TO_MAG * sigma / safe, out[name])

    def _refuse_fluxes(self, column: str, values: NDArray[np.float64]) -> None:
        """Magnitudes of real sources lie between 5 and 40; a column mostly outside holds fluxes."""
        if not values.size or ((values > 5) & (values < 40)).mean() >= 0.5:
            return
        raise Fault(
            "flux_as_magnitude",
            f"column {column} should hold magnitudes, but half of its values lie outside 5 to 40 (median "
            f"{np.median(values):g}, range {values.min():g} to {values.max():g}): fluxes, it seems. Convert "
            "them to AB magnitudes, or name the column as a flux in nJy (i_cmodel_flux)",
        )

    def _shapes(self, given: Columns, out: dict[str, Any]) -> None:
        for name, low, high in (("z_phot", -0.01, 20.0), ("z_spec", -0.01, 9.0), ("r_eff_arcsec", 0.0, 1e3),
                                ("sersic_n", 0.0, 20.0)):  # fmt: skip
            if name in given:
                values = numbers(given[name])
                out[name] = np.where((values >= low) & (values <= high), values, np.nan)
        if "extendedness" in given:
            extended = numbers(given["extendedness"])
            out["class_star"] = np.where((extended >= 0) & (extended <= 1), 1.0 - extended, np.nan)
        if "type" in given:  # COSMOS2015: 0 galaxy, 1 star, 2 X-ray source
            kind = numbers(given["type"])
            out["class_star"] = np.where((kind == 0) | (kind == 1), kind, np.nan)
        if "class" in given:
            classes = np.array([w.strip().upper() for w in words(given["class"])])
            known = np.isin(classes, ("STAR", "GALAXY"))
            out["class_star"] = np.where(known, (classes == "STAR").astype(np.float64), np.nan)
        if {"moment_xx", "moment_yy", "moment_xy"} <= set(given):
            xx, yy, xy = (numbers(given[f"moment_{m}"]) for m in ("xx", "yy", "xy"))
            out["r_eff_arcsec"], out["axis_ratio"] = moments_size(xx, yy, xy)


def moments_size(
    xx: NDArray[np.float64], yy: NDArray[np.float64], xy: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half-light radius [arcsec] and axis ratio of a Gaussian with these second moments [arcsec^2].

    Returns
    -------
    r_half, axis_ratio : ndarray
        sqrt(2 ln 2) times the geometric mean of the axes' sigmas, the PSF included; NaN where the moments are
        those of no ellipse.
    """
    middle, spread = (xx + yy) / 2.0, np.hypot((xx - yy) / 2.0, xy)
    good = np.isfinite(spread) & (middle - spread > 0)
    major, minor = np.where(good, middle + spread, np.nan), np.where(good, middle - spread, np.nan)
    return np.sqrt(2.0 * np.log(2.0) * np.sqrt(major * minor)), np.sqrt(minor / major)


def is_sentinel(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a magnitude says that there is none: not finite, 0, below -90, or 99, 999 and the like."""
    with np.errstate(invalid="ignore"):
        known = np.zeros(len(values), dtype=bool)
        for s in SENTINELS:
            known |= np.abs(values - s) < 1e-3
        return ~np.isfinite(values) | (values == 0) | (values <= -90) | known


def numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """Values as float64; what is no number becomes NaN."""
    if values.dtype.kind in "fiub":
        return values.astype(np.float64)
    import pandas as pd

    texts = [v.decode("ascii", "replace") if isinstance(v, bytes) else v for v in values.tolist()]
    return np.asarray(pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce"), dtype=np.float64)


def words(values: NDArray[Any]) -> list[str]:
    """Values as text: integers by their digits, whole floats too, text without blanks around it."""
    if values.dtype.kind in "iub":
        return [str(v) for v in values.tolist()]
    if values.dtype.kind == "f":
        return [str(int(v)) if np.isfinite(v) and v == int(v) else str(v) for v in values.tolist()]
    return [
        (v.decode("utf-8", "replace") if isinstance(v, bytes) else "" if v is None else str(v)).strip()
        for v in values.tolist()
    ]


def _error(errors: NDArray[np.float64], magnitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    good = np.isfinite(magnitudes) & (errors >= 0) & (errors < 50)
    return np.where(good, errors, np.nan)


def _false(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype.kind in "fiub":
        return values.astype(np.float64) == 0
    return np.array([w.lower() in ("f", "false", "0", "no") for w in words(values)])


def _nulls(values: Any) -> Any:
    """NaN as null."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return pa.array(values, mask=~np.isfinite(values))
    return values
