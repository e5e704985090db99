"""What the name of an image file says: the object, the band, the role of the file, sometimes the position.

Files of one object that differ in their band alone have one group: ``stamp-g.fits`` and ``stamp-i.fits``,
``2-cutout-HSC-G-9813-pdr2_wide.fits`` and its siblings, ``X_r_sci.fits``. Filters of space telescopes stay
apart, as their pixel grids differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

SCIENCE, NOISE, MASK, PSF = "science", "noise", "mask", "psf"
SUFFIX = re.compile(r"\.(fits|fit|h5|hdf5|npz)(\.gz|\.fz)?$", re.IGNORECASE)

_BAND = re.compile(
    r"(?:(?<=[-_.])|^)(HSC-[GRIZY]2?|[ugrizyUGRIZY]|F\d{3,4}(?:W|X|LP|M|N)|VIS|NB\d{3,4})(?=[-_.]|$)"
)
_SPACE = re.compile(r"F\d{3,4}(W|X|LP|M|N)$|VIS$")
_WORDS = {
    PSF: {"psf", "psfs"},
    MASK: {"mask", "msk", "dq"},
    NOISE: {"rms", "wht", "weight", "var", "variance", "err", "ivar", "sigma"},
}
_GENERIC = {
    "image", "img", "images", "stamp", "stamps", "cutout", "cutouts", "sci", "coadd", "calexp", "drz", "drc",
    "old", "new", "masknoise",
}  # fmt: skip
_JNAME = re.compile(r"([A-Za-z0-9]*?)J(\d{4,6})(\.\d+)?([+-])(\d{4,6})(\.\d+)?")
_DEGREES = (
    re.compile(r"ra=(?P<ra>\d{1,3}\.\d+)_dec=(?P<dec>[-+]?\d{1,2}\.\d+)"),
    re.compile(r"_(?P<ra>\d{1,3}\.\d{3,})_(?P<dec>[-+]?\d{1,2}\.\d{3,})(?=[._]|$)"),
)
_CHALLENGE = re.compile(r"image(SDSS|EUC)_([A-Z]+)-(\d+)$")
_OBJECT_ID = re.compile(r"(?:(?<=[-_.])|^)(\d{14,19})(?=[-_.]|$)")


@dataclass(frozen=True)
class NamePosition:
    """A position read from a name, and half the sides of the box that it stands for [arcsec]."""

    ra_deg: float
    dec_deg: float
    half_ra_arcsec: float
    half_dec_arcsec: float


@dataclass(frozen=True)
class Name:
    """What a file's name says."""

    role: str
    band: str | None
    group: str
    object_name: str
    position: NamePosition | None
    is_challenge: bool = False
    is_lens: bool | None = None


def canonical_band(text: str | None) -> str | None:
    """One name for a band however a survey writes it: g.MP9401 and HSC-G are g, f814w is F814W.

    Returns
    -------
    str or None
        None when it names no band.
    """
    words = re.split(r"[\s.,;|/]+", (text or "").strip())
    for word in words:
        found = re.fullmatch(r"(?:HSC-|SDSS_)?([ugrizyUGRIZY])2?", word)
        if found:
            return found[1].lower()
        if re.fullmatch(r"[Ff]\d{3,4}(?:[WwXxMmNn]|[Ll][Pp])", word) or word.upper() == "VIS":
            return word.upper()
        if re.fullmatch(r"NB\d{3,4}", word):
            return word
    return None


def is_space_band(band: str | None) -> bool:
    """Whether a band is a filter of a space telescope, whose images are cutouts of their own."""
    return band is not None and _SPACE.match(band) is not None


@lru_cache(maxsize=1 << 15)
def parse_name(path: str) -> Name:
    """Read a file's name and its folder's.

    Parameters
    ----------
    path : str
        Absolute path or URL.
    """
    pure = PurePosixPath(path.split("::", 1)[0])
    stem = SUFFIX.sub("", pure.name)
    folder = str(pure.parent)
    challenge = _CHALLENGE.match(stem)
    if challenge:
        kind = "ground" if challenge[1] == "SDSS" else "space"
        truth = {"lens": True, "nolens": False}.get(pure.parent.name)
        name = f"{kind}-{challenge[3]}"
        group = f"{folder}/image{challenge[1]}_*-{challenge[3]}"
        return Name(SCIENCE, canonical_band(challenge[2]), group, name, None, True, truth)
    found = list(_BAND.finditer(stem))
    last = found[-1] if found else None
    band = canonical_band(last[1]) if last else None
    rest = stem if last is None else stem[: last.start()] + "*" + stem[last.end() :]
    role = _role(rest)
    kept = [w for w in _words(rest) if w.lower() not in _WORDS[role]] if role != SCIENCE else _words(rest)
    pattern = "_".join(w for w in kept if w.lower() not in ("sci", "image", "img"))
    if is_space_band(band):
        pattern = pattern.replace("*", str(band))
    return Name(
        role, band, f"{folder}/{pattern}", _object(stem, kept, pure), _position(stem, pure.parent.name)
    )


def _words(text: str) -> list[str]:
    return [w for w in re.split(r"[-_]", text) if w]


def _role(text: str) -> str:
    words = {w.lower() for w in re.split(r"[-_.]", text)}
    for role, names in _WORDS.items():
        if words & names:
            return role
    return SCIENCE


def _object(stem: str, words: list[str], pure: PurePosixPath) -> str:
    """The survey's identifier, a J name, what stands before a position, the words left, or the folder."""
    digits = _OBJECT_ID.search(stem)
    if digits:
        return digits[1]
    for text in (stem, pure.parent.name):
        named = _JNAME.search(text)
        if named:
            return named[0]
        if text is stem:
            for pattern in _DEGREES:
                at = pattern.search(stem)
                if at:
                    return stem[: at.end()]
    left = [w for w in words if w != "*" and w.lower() not in _GENERIC and not re.fullmatch(r"v\d+", w)]
    return "_".join(left) or pure.parent.name or stem


def _position(stem: str, folder: str) -> NamePosition | None:
    for pattern in _DEGREES:
        at = pattern.search(stem)
        if at:
            ra, dec = float(at["ra"]), float(at["dec"])
            if ra < 360 and abs(dec) <= 90:
                return NamePosition(ra, dec, 1.0, 1.0)
    for text in (stem, folder):
        found = _JNAME.search(text)
        if found:
            return j_position(found[0])
    return None


def j_position(name: str) -> NamePosition | None:
    """Position of a name such as SDSSJ1020+1122 or J021411-040502: the middle of the box it stands for.

    Names truncate (IAU), so J1020+1122 is anything from 10h20m to 10h21m.
    """
    found = _JNAME.search(name)
    if not found:
        return None
    ra, ra_unit = _sexagesimal(found[2], found[3])
    dec, dec_unit = _sexagesimal(found[5], found[6])
    if ra is None or dec is None or ra >= 24 or dec > 90:
        return None
    sign = -1.0 if found[4] == "-" else 1.0
    return NamePosition(
        (ra + ra_unit / 2) * 15.0,
        sign * min(dec + dec_unit / 2, 90.0),
        ra_unit * 15.0 * 1800.0,
        dec_unit * 1800.0,
    )


def _sexagesimal(digits: str, fraction: str | None) -> tuple[float | None, float]:
    """Value of HHMM, HHMMS.s or HHMMSS.s, and the unit of its last digit."""
    if len(digits) == 5:
        return None, 0.0
    value = int(digits[:2]) + int(digits[2:4]) / 60.0
    if int(digits[2:4]) >= 60:
        return None, 0.0
    if len(digits) == 4:
        unit = 10.0 ** -(len(fraction or ".") - 1) / 60.0
        return value + float(f"0{fraction or ''}") / 60.0, unit
    if int(digits[4:6]) >= 60:
        return None, 0.0
    unit = 10.0 ** -(len(fraction or ".") - 1) / 3600.0
    return value + (int(digits[4:6]) + float(f"0{fraction or ''}")) / 3600.0, unit
