"""Catalogues with photometry, by the surveys' own column names, into rows of target and phot_obj.

Which catalogue it is follows from the columns (`KINDS`). A name is matched as it is written first and without
case second, when only one column is then meant: zCOSMOS has m_I (apparent) and M_I (absolute) side by side.
Sentinels (-99, -99.9, 99, 999, -9999 ...) become null. A column that is named as a magnitude and holds what
can only be fluxes refuses the whole file: a selection by it would be silently wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etl.checks import LISTED_PER_REASON, Fault, Note
from etl.rows import add_listed
from schema.healpix import hpx29
from schema.ids import hashed_id, sdss_target_id
from schema.tables import phot_obj, target

BANDS = ("u", "g", "r", "i", "z", "y")
SENTINELS = (99.0, 99.9, 99.99, 99.999, 999.0, 999.9, 9999.0, 99999.0)
NJY_ZEROPOINT = 31.4
"""AB magnitude of 1 nJy, the unit of HSC's fluxes since PDR2."""

NANOMAGGY_ZEROPOINT = 22.5
LN_TO_MAG = 2.5 / np.log(10.0)

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Kind:
    """One catalogue: how it is recognised, whose objects it lists, and where our columns are in it.

    ``magnitude`` and ``flux`` give candidates by our band names; a flux is converted with ``zeropoint``.
    """

    name: str
    needs: tuple[str, ...]
    survey: str | None
    native: str
    ids: tuple[str, ...]
    ra: tuple[str, ...]
    dec: tuple[str, ...]
    mag_kind: str
    magnitude: Callable[[str], tuple[str, ...]] = lambda _band: ()
    error: Callable[[str], tuple[str, ...]] = lambda _band: ()
    flux: Callable[[str], tuple[str, ...]] = lambda _band: ()
    flux_error: Callable[[str], tuple[str, ...]] = lambda _band: ()
    zeropoint: float = NJY_ZEROPOINT
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rank: int = 0


def _hsc_magnitude(b: str) -> tuple[str, ...]:
    return (f"{b}_cmodel_mag", f"{b}cmodel_mag", f"{b}mag_cmodel", f"{b}mag_kron", f"{b}_kronflux_mag",
            f"{b}_psfflux_mag", f"{b}_mag", f"mag_{b}")  # fmt: skip


def _hsc_error(b: str) -> tuple[str, ...]:
    return (f"{b}_cmodel_magsigma", f"{b}_cmodel_magerr", f"{b}_cmodel_mag_err", f"{b}cmodel_mag_err",
            f"{b}cmodel_magsigma", f"{b}cmodel_magerr", f"{b}mag_cmodel_err", f"{b}mag_kron_err",
            f"{b}_kronflux_magsigma", f"{b}_psfflux_magsigma", f"{b}_mag_err", f"mag_err_{b}")  # fmt: skip


_HSC_OTHERS: dict[str, tuple[str, ...]] = {
    "z_phot": ("photoz_best", "photoz_median", "pz_best", "photo_z", "photoz", "z_phot"),
    "z_spec": ("specz_redshift", "redshift", "z_spec", "specz"),
    "extendedness": ("i_extendedness_value", "iclassification_extendedness", "i_extendedness",
                     "iextendedness", "extendedness"),
    "primary": ("isprimary", "detect_is_primary"),
    "moment_xx": ("i_sdssshape_shape11", "ishape_sdss_11", "i_sdss_shape_shape11"),
    "moment_yy": ("i_sdssshape_shape22", "ishape_sdss_22", "i_sdss_shape_shape22"),
    "moment_xy": ("i_sdssshape_shape12", "ishape_sdss_12", "i_sdss_shape_shape12"),
    "mag_f814w": ("mag_f814w",),
    "r_eff_arcsec": ("r_eff_arcsec",),
}  # fmt: skip

_COSMOS_BANDS = {"u": "u", "g": "g", "r": "r", "i": "ip", "z": "zp", "y": "y"}

KINDS = (
    Kind("hsc_match", ("ra_hsc", "dec_hsc", "object_id"), "hsc", "{}", ("object_id",), ("ra_hsc",),
         ("dec_hsc",), "kron", _hsc_magnitude, _hsc_error, others={"z_spec": ("Z",)}, rank=4),
    Kind("sdss_photo", ("plate", "mjd", "fiberid", "ra", "dec"), "sdss", "{}", ("plate",), ("ra",), ("dec",),
         "model", lambda b: () if b == "y" else (b,), lambda b: (f"err_{b}", f"{b}err"),
         others={"z_spec": ("redshift",), "class": ("class",)}, rank=3),
    Kind("zcosmos", ("id_zcosmos", "alpha", "delta"), "cosmos", "zcosmos-{}", ("id_zcosmos",), ("alpha",),
         ("delta",), "auto", lambda b: (f"{b}_photzi25",), lambda b: (f"e{b}_photzi25",),
         others={"z_spec": ("zpec", "zspec"), "mag_f814w": ("mag_sel",)}, rank=3),
    Kind("zcosmos_sample", ("ID_2015", "z_spec", "RA", "Dec"), "cosmos", "zcosmos-{}", ("ID",), ("RA",),
         ("Dec",), "auto", others={"z_spec": ("z_spec",), "mag_f814w": ("m_I",)}, rank=2),
    Kind("cosmos2015", ("NUMBER", "ALPHA_J2000", "DELTA_J2000"), "cosmos", "cosmos2015-{}", ("NUMBER",),
         ("ALPHA_J2000",), ("DELTA_J2000",), "auto",
         lambda b: (f"{_COSMOS_BANDS[b]}_MAG_AUTO", f"{_COSMOS_BANDS[b]}p_MAG_AUTO"),
         lambda b: (f"{_COSMOS_BANDS[b]}_MAGERR_AUTO", f"{_COSMOS_BANDS[b]}p_MAGERR_AUTO"),
         others={"z_phot": ("PHOTOZ", "ZPDF"), "type": ("TYPE",)}, rank=4),
    Kind("galsim_cosmos", ("IDENT", "RA", "DEC", "MAG", "GAL_FILENAME"), "cosmos", "galsim-{}", ("IDENT",),
         ("RA",), ("DEC",), "auto", others={"mag_f814w": ("MAG",)}, rank=1),
    Kind("tractor", ("BRICKID", "OBJID", "RA", "DEC", "FLUX_R"), "legacy", "{}", ("BRICKID",), ("RA",),
         ("DEC",), "model", flux=lambda b: (f"FLUX_{b.upper()}",),
         flux_error=lambda b: (f"FLUX_IVAR_{b.upper()}",), zeropoint=NANOMAGGY_ZEROPOINT,
         others={"r_eff_arcsec": ("SHAPE_R",), "sersic_n": ("SERSIC",)}, rank=4),
    Kind("hsc", ("object_id", "ra", "dec", "tract"), "hsc", "{}", ("object_id",), ("ra",), ("dec",), "cmodel",
         _hsc_magnitude, _hsc_error, lambda b: (f"{b}_cmodel_flux",),
         lambda b: (f"{b}_cmodel_fluxsigma", f"{b}_cmodel_fluxerr", f"{b}_cmodel_flux_err"),
         others=_HSC_OTHERS, rank=5),
    Kind("catalogue", ("object_id", "ra", "dec"), None, "{}", ("object_id",), ("ra",), ("dec",), "cmodel",
         _hsc_magnitude, _hsc_error, lambda b: (f"{b}_cmodel_flux",),
         lambda b: (f"{b}_cmodel_fluxsigma", f"{b}_cmodel_fluxerr", f"{b}_cmodel_flux_err"),
         others=_HSC_OTHERS, rank=5),
)  # fmt: skip
"""Catalogues in the order in which they are tried."""

ALIASES = {"name": "object_id", "native_id": "object_id", "id": "object_id", "objid": "object_id"}
"""Names that a plain list of positions may use for its identifiers."""


@dataclass(frozen=True)
class Plan:
    """How to read one file: its kind, and its column for each value."""

    kind: Kind
    columns: dict[str, str]

    @property
    def needed(self) -> list[str]:
        """Columns of the file, each once."""
        return list(dict.fromkeys(self.columns.values()))


def make_plan(names: Iterable[str]) -> Plan:
    """Find the kind of a catalogue and its columns.

    Parameters
    ----------
    names : iterable of str
        Column names as the file has them.

    Raises
    ------
    Fault
        When it is no catalogue that is known, naming what was looked for.
    """
    have = list(names)
    for kind in KINDS:
        if all(pick(have, (n,)) for n in kind.needs):
            return Plan(kind, _columns(have, kind))
    aliased = {ALIASES.get(n.lower(), n): n for n in reversed(have)}
    if {"object_id", "ra", "dec"} <= {a.lower() for a in aliased}:
        plan = _columns(list(aliased), KINDS[-1])
        return Plan(KINDS[-1], {ours: aliased[theirs] for ours, theirs in plan.items()})
    raise Fault(
        "not_catalogue",
        f"{len(have)} columns ({', '.join(have[:8])}{' ...' if len(have) > 8 else ''}) without object_id, "
        "ra and dec, or those of zCOSMOS, COSMOS2015, SkyServer or Tractor; for spectra run: "
        "lensmine ingest sdss",
    )


def pick(names: list[str], wanted: tuple[str, ...]) -> str | None:
    """The first wanted name that is there: as written, else without case when one column alone is meant."""
    for name in wanted:
        if name in names:
            return name
    for name in wanted:
        alike = [n for n in names if n.lower() == name.lower()]
        if len(alike) == 1:
            return alike[0]
    return None


def _columns(names: list[str], kind: Kind) -> dict[str, str]:
    """Column of the file by our name: id, ra, dec, mag_g, err_g, flux_g, ferr_g, and the others."""
    out: dict[str, str] = {}
    wanted: dict[str, tuple[str, ...]] = {"id": kind.ids, "ra": kind.ra, "dec": kind.dec, **kind.others}
    if kind.name == "sdss_photo":
        lower = {n.lower() for n in names}
        wanted |= {"mjd": ("mjd",), "fiber": ("fiberid",)}
        if not {"u", "g", "r", "i"} <= lower:  # then z is a redshift, and there are no magnitudes
            wanted["z_spec"] = ("redshift", "z")
    if kind.name == "tractor":
        wanted["id2"] = ("OBJID",)
    for ours, theirs in wanted.items():
        if found := pick(names, theirs):
            out[ours] = found
    for band in BANDS:
        if kind.name == "sdss_photo" and "u" not in {n.lower() for n in names}:
            break
        found = pick(names, kind.magnitude(band))
        if found:
            out[f"mag_{band}"] = found
            if error := pick(names, kind.error(band)):
                out[f"err_{band}"] = error
        elif flux := pick(names, kind.flux(band)):
            out[f"flux_{band}"] = flux
            if error := pick(names, kind.flux_error(band)):
                out[f"ferr_{band}"] = error
    return out


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
