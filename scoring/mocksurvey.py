"""A mock survey in the real file formats, whose lenses are known: what ``lensmine demo`` searches.

A folder gets ``specObj-mock.fits``, ``spectra/PLATE/spec-PLATE-MJD-FIBER.fits``, ``known_lenses.csv`` in the
layout of the lenscat catalogue, and ``truth.csv``. As in a real delivery not everything is in order: one file
is cut short, one row of specObj has no position, one spectrum has a negative inverse variance, and some
galaxies were observed twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from schema.errors import DataError
from schema.ids import sdss_target_id
from schema.tables import injection, target
from schema.upsert import upsert_rows
from scoring.mock_files import SpecFile, specobj_id, write_specobj
from scoring.mock_population import FIBERS_PER_PLATE, MockRecipe, draw_population, fwhm_km_s
from scoring.mock_spectra import MockPixels, simulate

RECIPE_NAME = "mocksurvey-1"
RUN2D = "v5_13_0"
CHUNK = 250
"""Spectra simulated at once; a divisor of the fibres of a plate."""


@dataclass(frozen=True)
class MockSurvey:
    """Where a mock survey was written.

    Attributes
    ----------
    folder : Path
        Folder of it all.
    specobj, spectra, lenses, truth : Path
        The specObj table, the folder of spec files, the catalogue of known lenses, the truth.
    n_files : int
        Spec files written.
    n_bytes : int
        Bytes written.
    """

    folder: Path
    specobj: Path
    spectra: Path
    lenses: Path
    truth: Path
    n_files: int
    n_bytes: int


def write_mock_survey(
    folder: Path, recipe: MockRecipe | None = None, on_files: Callable[[int], None] | None = None
) -> MockSurvey:
    """Write a mock survey.

    Parameters
    ----------
    folder : Path
        Folder to write to; made if missing. Files of the same names are overwritten.
    recipe : MockRecipe, optional
        What it holds.
    on_files : callable, optional
        Told after every chunk how many files it wrote.

    Raises
    ------
    UserError
        If the recipe asks for more special galaxies than there are.
    """
    recipe = recipe or MockRecipe()
    sky = draw_population(recipe)
    spectra = folder / "spectra"
    n_bytes = 0
    extra: list[pd.DataFrame] = []
    for plate in sorted(set(sky["plate"].tolist())):
        fibers = sky[sky["plate"] == plate]
        pix0, npix = 35552 + plate % 7, 4606 + plate % 11
        file = SpecFile(pix0, npix)
        place = spectra / f"{plate}"
        place.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(fibers), CHUNK):
            rows = fibers.iloc[start : start + CHUNK]
            pixels = simulate(rows, pix0, npix, seed=recipe.seed * 100_003 + int(rows.index[0]))
            extra.append(_measured(rows, pixels, pix0))
            n_bytes += _write_chunk(file, place, rows, pixels, extra[-1])
            if on_files:
                on_files(len(rows))
    measured = pd.concat(extra)
    survey = MockSurvey(
        folder,
        folder / "specObj-mock.fits",
        spectra,
        folder / "known_lenses.csv",
        folder / "truth.csv",
        len(sky),
        n_bytes,
    )
    _write_specobj(survey.specobj, sky, measured)
    _write_lenses(survey.lenses, sky)
    truth_table(sky, recipe).to_csv(survey.truth, index=False)
    _damage(spectra, sky)
    return survey


def truth_table(sky: pd.DataFrame, recipe: MockRecipe) -> pd.DataFrame:
    """The truth of every object as rows of table injection, with its native_id and kind beside.

    A plain galaxy, and every look-alike, is a negative control: ``is_lens`` is false.
    """
    wave, sigma, alpha = (
        sky[c].to_numpy(dtype=float) for c in ("wave_angstrom", "sigma_angstrom", "skewness")
    )
    is_lens = sky["kind"].isin(["lens", "known_lens"]).to_numpy()
    with_line = sky["line"].to_numpy() != ""
    width = fwhm_km_s(sigma, alpha, wave)
    fwhm_angstrom = width * wave / 299792.458
    keep = [np.where(with_line, v, np.nan) for v in (wave, sky["line_flux"], width, alpha)]
    return pd.DataFrame(
        {
            "target_id": sdss_target_id(sky["plate"], sky["mjd"], sky["fiber"]),
            "native_id": [
                f"{p}-{m}-{f}" for p, m, f in zip(sky["plate"], sky["mjd"], sky["fiber"], strict=True)
            ],
            "kind": sky["kind"],
            "is_lens": is_lens,
            "z_lens": sky["z"].where(is_lens),
            "z_source": sky["z_source"],
            "line": sky["line"].where(with_line),
            "wave_angstrom": keep[0],
            "line_flux": keep[1],
            "peak_flux": keep[1] / (1.09 * fwhm_angstrom),
            "fwhm_km_s": keep[2],
            "skewness": keep[3],
            "recipe": RECIPE_NAME,
            "seed": recipe.seed,
        }
    )


def load_truth(conn: sa.Connection, path: Path) -> int:
    """Enter the truth of a mock survey beside its ingested targets, and mark these as simulated.

    Parameters
    ----------
    conn : sqlalchemy.Connection
        An open transaction on the database that holds the ingested survey.
    path : Path
        The ``truth.csv`` of the survey.

    Returns
    -------
    int
        Rows entered: objects of the truth that ingest loaded.

    Raises
    ------
    DataError
        If none of its objects is in the database.
    """
    truth = pd.read_csv(path, keep_default_na=True)
    known = set(
        conn.execute(
            sa.select(target.c.target_id).where(target.c.target_id >= int(truth["target_id"].min()))
        ).scalars()
    )
    truth = truth[truth["target_id"].isin(known)]
    if truth.empty:
        raise DataError(f"no object of {path} is in the database; first: lensmine ingest sdss {path.parent}")
    names = [c.name for c in injection.columns if c.name in truth.columns]
    rows = truth[names].astype(object).where(truth[names].notna(), None).to_dict("records")
    upsert_rows(conn, injection, rows, key=["target_id"], update=[n for n in names if n != "target_id"])
    ids = sa.select(injection.c.target_id).where(injection.c.recipe == RECIPE_NAME)
    conn.execute(
        sa.update(target).where(target.c.target_id.in_(ids)).values(survey="mock", is_injection=True)
    )
    return len(rows)


def _measured(rows: pd.DataFrame, pixels: MockPixels, pix0: int) -> pd.DataFrame:
    """What the pipeline writes about the pixels: S/N, masks, goodness of fit."""
    root = np.sqrt(pixels.ivar)
    chi2 = (((pixels.flux - pixels.model) * root) ** 2).sum(axis=1)
    good = (pixels.ivar > 0).sum(axis=1)
    return pd.DataFrame(
        {
            "sn": np.median(pixels.flux * root, axis=1),
            "and_mask": np.bitwise_or.reduce(pixels.and_mask, axis=1),
            "rchi2": chi2 / good,
            "dof": good - 5,
            "wave_min": 10 ** (pix0 * 1e-4),
            "wave_max": 10 ** ((pix0 + pixels.flux.shape[1] - 1) * 1e-4),
        },
        index=rows.index,
    )


def _write_chunk(
    file: SpecFile, place: Path, rows: pd.DataFrame, pixels: MockPixels, extra: pd.DataFrame
) -> int:
    """Write the files of one chunk; returns the bytes."""
    size = 0
    columns = _pipeline_columns(rows, extra)
    for i, row in enumerate(rows.itertuples(index=False)):
        header = {
            "MJD": row.mjd,
            "PLATEID": row.plate,
            "FIBERID": row.fiber,
            "RA": 15.0,
            "DEC": 2.0,
            "COEFF0": file.pix0 / 10000,
            "PLUG_RA": row.ra_deg,
            "PLUG_DEC": row.dec_deg,
        }
        spall = {name: values[i] for name, values in columns.items()}
        mag = np.full(5, row.mag_i, dtype=np.float32) + np.array([4.2, 2.1, 0.8, 0.0, -0.3], dtype=np.float32)
        spall |= {
            "CMODELMAG": mag,
            "FIBER2MAG": mag + 1.1,
            "OBJTYPE": row.objtype,
            "RA": row.ra_deg,
            "DEC": row.dec_deg,
        }
        coadd = {name: getattr(pixels, name)[i] for name in ("flux", "ivar", "and_mask", "sky", "model")}
        coadd |= {"or_mask": coadd["and_mask"], "wdisp": pixels.wdisp}
        file.fill(header, spall, coadd)
        size += file.write(place / f"spec-{row.plate:04d}-{row.mjd}-{row.fiber:04d}.fits")
    return size


def _pipeline_columns(rows: pd.DataFrame, extra: pd.DataFrame) -> dict[str, Any]:
    """Columns that specObj and spAll share."""
    n = len(rows)
    is_sky = (rows["kind"] == "sky").to_numpy()
    return {
        "CHUNK": ["mock1"] * n,
        "PROGRAMNAME": ["boss"] * n,
        "PLATEQUALITY": ["good"] * n,
        "PLATESN2": np.full(n, 14.0),
        "SPECPRIMARY": np.ones(n),
        "SPECOBJID": specobj_id(
            rows["plate"].to_numpy(), rows["mjd"].to_numpy(), rows["fiber"].to_numpy(), RUN2D
        ).view(np.int64),
        "RUN2D": [RUN2D] * n,
        "RUN1D": [RUN2D] * n,
        "PLATE": rows["plate"].to_numpy(),
        "TILE": rows["plate"].to_numpy() - 4000,
        "MJD": rows["mjd"].to_numpy(),
        "FIBERID": rows["fiber"].to_numpy(),
        "PLUG_RA": rows["ra_deg"].to_numpy(dtype=float),
        "PLUG_DEC": rows["dec_deg"].to_numpy(dtype=float),
        "CLASS": rows["class"].to_list(),
        "SUBCLASS": rows["subclass"].to_list(),
        "Z": rows["z"].to_numpy(dtype=float),
        "Z_ERR": np.where(is_sky, -3.0, 1.5e-4),
        "ZWARNING": rows["z_warning"].to_numpy(),
        "Z_NOQSO": rows["z"].to_numpy(dtype=float),
        "Z_ERR_NOQSO": np.where(is_sky, -3.0, 1.5e-4),
        "ZWARNING_NOQSO": rows["z_warning"].to_numpy(),
        "CLASS_NOQSO": rows["class"].to_list(),
        "RCHI2": extra["rchi2"].to_numpy(),
        "DOF": extra["dof"].to_numpy(),
        "VDISP": np.full(n, 220.0),
        "VDISP_ERR": np.full(n, 25.0),
        "WAVEMIN": extra["wave_min"].to_numpy(),
        "WAVEMAX": extra["wave_max"].to_numpy(),
        "WCOVERAGE": np.log10(extra["wave_max"].to_numpy() / extra["wave_min"].to_numpy()),
        "SN_MEDIAN_ALL": extra["sn"].to_numpy(),
        "ANYANDMASK": extra["and_mask"].to_numpy(),
        "ANYORMASK": extra["and_mask"].to_numpy(),
    }


def _write_specobj(path: Path, sky: pd.DataFrame, measured: pd.DataFrame) -> None:
    """The specObj table: all fibres, ids as right-justified text, and one row without a position."""
    n = len(sky)
    columns = _pipeline_columns(sky, measured)
    ids = columns["SPECOBJID"].view(np.uint64)
    nmgy = 10 ** (0.4 * (22.5 - sky["mag_i"].to_numpy(dtype=float)))
    columns |= {
        "SURVEY": ["boss"] * n,
        "INSTRUMENT": ["BOSS"] * n,
        "SOURCETYPE": np.where(sky["objtype"] == "GALAXY", "LRG", sky["objtype"]),
        "TARGETTYPE": np.where(sky["objtype"] == "SKY", "SKY", "SCIENCE"),
        "SPECBOSS": np.ones(n),
        "SPECOBJID": [f"{i:>22d}" for i in ids],
        "SPECTROFLUX": nmgy[:, None] * np.array([0.02, 0.15, 0.5, 1.0, 1.3]),
    }
    lost = int(np.flatnonzero((sky["kind"] == "plain").to_numpy())[7])
    for name in ("PLUG_RA", "PLUG_DEC"):
        columns[name] = columns[name].copy()
        columns[name][lost] = np.nan
    write_specobj(path, columns, n)


def _write_lenses(path: Path, sky: pd.DataFrame) -> None:
    """The known lenses, in lenscat's columns, each off its galaxy by a fraction of an arcsecond."""
    known = sky[sky["kind"] == "known_lens"]
    pd.DataFrame(
        {
            "name": [f"MOCK J{i:04d}" for i in range(len(known))],
            "RA [deg]": known["ra_deg"].to_numpy(dtype=float) + 1e-4,
            "DEC [deg]": known["dec_deg"].to_numpy(dtype=float) - 5e-5,
            "zlens": known["z"].map("{:.4f}".format),
            "type": "galaxy",
            "grading": "confident",
            "ref": "mock",
        }
    ).to_csv(path, index=False)


def _damage(spectra: Path, sky: pd.DataFrame) -> None:
    """Cut one file short and give another a negative inverse variance."""
    plain = sky[(sky["kind"] == "plain") & (sky["fiber"] < FIBERS_PER_PLATE)]
    names = [f"{p}/spec-{p:04d}-{m}-{f:04d}.fits" for p, m, f in plain[["plate", "mjd", "fiber"]].to_numpy()]
    short = spectra / names[11]
    short.write_bytes(short.read_bytes()[:100_000])
    negative = spectra / names[12]
    raw = bytearray(negative.read_bytes())
    row = raw.index(b"COADD") // 2880 * 2880 + 2880 + 1200 * 32 + 8
    raw[row : row + 4] = np.array(-1.0, ">f4").tobytes()
    negative.write_bytes(raw)
