"""Which catalogue of photometry a file is, by the surveys' own column names, and where our columns are in it.

A name is matched as it is written first and without case second, when only one column is then meant: zCOSMOS
has m_I (apparent) and M_I (absolute) side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from etl.checks import Fault

BANDS = ("u", "g", "r", "i", "z", "y")
NJY_ZEROPOINT = 31.4
"""AB magnitude of 1 nJy, the unit of HSC's fluxes since PDR2."""

NANOMAGGY_ZEROPOINT = 22.5


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
