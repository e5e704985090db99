"""Which instrument a command means, the stamp it takes by default, and the band that magnitudes refer to."""

from __future__ import annotations

from schema.errors import UserError
from scoring.light.instruments import INSTRUMENTS, Instrument

ALIASES = {"vis": "euclid"}
"""What a command may call an instrument, beside its name."""

CUTOUT_NAMES = {"euclid": "vis", "acs50": "acs"}
"""How the columns `instrument` of cutout and selection_function call it, where that is not its name.

The simulator tells pixel scales apart, a file's header names the camera alone.
"""

NPIX = {"hsc": 64, "acs": 100, "acs50": 100, "euclid": 101}
"""Side of a stamp [px]: Pourrahmani (2019) for HSC and ACS, the lens-finding challenge for VIS."""

BATCH = 512
"""Images made at a time: some 25 MB of HSC pixels."""


def find_instrument(name: str) -> Instrument:
    """Instrument by its name or what commands call it; `UserError` lists the names."""
    key = ALIASES.get(name.lower(), name.lower())
    if key not in INSTRUMENTS:
        every = sorted({*INSTRUMENTS, *ALIASES})
        raise UserError(f"unknown instrument {name!r}: known are {', '.join(every)}")
    return INSTRUMENTS[key]


def cutout_name(instrument: Instrument) -> str:
    """What the columns `instrument` of cutout and selection_function hold for it."""
    return CUTOUT_NAMES.get(instrument.name, instrument.name)


def stamp_side(instrument: Instrument, npix: int | None) -> int:
    """Side of the stamp [px]: as given, else the instrument's own."""
    if npix is None:
        return NPIX.get(instrument.name, 64)
    if not 16 <= npix <= 512:
        raise UserError(f"--npix {npix}: allowed are 16 to 512 pixels; HSC stamps have 64")
    return npix


def band_index(instrument: Instrument, band: str | None) -> int:
    """Place of the band that magnitudes refer to: as given, else g as in the thesis, else the first."""
    if band is None:
        return instrument.bands.index("g") if "g" in instrument.bands else 0
    if band not in instrument.bands:
        raise UserError(
            f"{instrument.name} has no band {band!r}; it has {', '.join(instrument.bands)}: "
            "give one with --band"
        )
    return instrument.bands.index(band)
