"""What the sky subtraction leaves at the lines of mercury lamps, in the real spectra of a database.

At every pixel the S/N of a Gaussian in flux - model is taken (scoring.localise); its scatter within 4
Angstrom of each lamp line stands beside that 8 to 40 Angstrom away. Residuals would make the first larger.

    lensmine ingest sdss FOLDER
    python -m benchmarks.sky_residuals
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from schema.grid import WINDOW_FIRST, WINDOW_NPIX, wave_angstrom
from scoring.evaluate.hosts import read_spectra
from scoring.evaluate.testsets import window
from scoring.localise import LineFilter, line_snr

LAMPS_ANGSTROM = (4047.7, 4359.6)
"""Hg I, vacuum [Angstrom]."""


def measure(db: str | None, where: str) -> dict[str, float]:
    """Scatter of the S/N on and beside each line, and the shares of spectra above 4 there."""
    spectra = window(read_spectra(db, where).spectra)
    assert spectra.model is not None
    settings = LineFilter(rescale_errors=False)
    snr = line_snr(spectra.flux - spectra.model, spectra.ivar, settings)[:, 0].numpy()
    wave = wave_angstrom(WINDOW_FIRST + np.arange(WINDOW_NPIX))
    out: dict[str, float] = {"spectra": len(snr)}
    for lamp in LAMPS_ANGSTROM:
        far = np.abs(wave - lamp)
        out[f"{lamp}_scatter_on"] = float(snr[:, far < 4].std())
        out[f"{lamp}_scatter_beside"] = float(snr[:, (far > 8) & (far < 40)].std())
        out[f"{lamp}_share_above_4"] = float((snr[:, far < 4].max(1) > 4).mean())
    return out


def main() -> None:
    """Print figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--db", default=None, help="database; default as the command lensmine")
    parser.add_argument("--where", default="\"class\" = 'GALAXY'", help="predicate on view selectable")
    given = parser.parse_args()
    print(json.dumps({k: round(v, 3) for k, v in measure(given.db, given.where).items()}))


if __name__ == "__main__":
    main()
