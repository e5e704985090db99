"""Cutouts per second of ``lensmine ingest hsc``, beside astropy reading the same files in the same run.

    python -m benchmarks.bench_ingest_images
    python -m benchmarks.bench_ingest_images --stamps 20000 --postgresql postgresql://user@host/empty_database

The cutouts are HSC-like: 64 x 64 pixels in g, r and i, a FITS file a band with the header of the survey's
coadds, and the same as one cube a cutout. A cutout counts when its pixels and its normalised stamp are in a
shard on disk and its rows are committed. The reference is astropy.io.fits in one process, which reads the
pixels and makes the world coordinates of each file's middle, and writes nothing. Files are read from the page
cache. Memory is the peak of this process; reading processes have less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from etl.hsc import ingest_hsc
from schema.engine import upgrade

BANDS = ("g", "r", "i")
SIDE = 64


def header(k: int, band: str) -> fits.Header:
    """Header of an HSC coadd cutout of object number k."""
    cards = {
        "EXTNAME": "IMAGE", "RADESYS": "ICRS", "EQUINOX": 2000.0, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN",
        "CUNIT1": "deg", "CUNIT2": "deg", "CRPIX1": -13684.0, "CRPIX2": 3566.0,
        "CRVAL1": 150.0 + (k % 1000) * 0.01, "CRVAL2": 1.0 + (k // 1000) * 0.01,
        "CD1_1": -4.666666666e-05, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 4.666666666e-05,
        "USER": "hsc", "AR_HDU": 5, "PSF_ID": 455, "WCS_ID": 443, "FILTER": band,
        "FLUXMAG0": 63095734448.0194, "BUNIT": "1.58479740e-02 nanomaggy",
    }  # fmt: skip
    return fits.Header(cards)


def write_stamps(folder: Path, n: int, cubes: bool) -> int:
    """Write n cutouts; returns the number of files."""
    rng = np.random.default_rng(1)
    pool = rng.normal(0.0, 0.05, (64, len(BANDS), SIDE, SIDE)).astype(">f4")
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    pool += (5.0 * np.exp(-np.hypot(x, y) / 4.0)).astype(">f4")
    folder.mkdir()
    for k in range(n):
        pixels = pool[k % 64].copy()
        pixels[:, 0, 0] += k * 1e-6  # no two cutouts are the same
        if cubes:
            head = header(k, "")
            head["BANDS"] = ",".join(BANDS)
            fits.PrimaryHDU(pixels, head).writeto(folder / f"{40_000_000_000_000_000 + k}.fits")
            continue
        for band, plane in zip(BANDS, pixels, strict=True):
            path = folder / f"{40_000_000_000_000_000 + k}-{band}.fits"
            fits.PrimaryHDU(plane, header(k, band)).writeto(path)
    return n if cubes else n * len(BANDS)


def read_with_astropy(folder: Path, n: int) -> float:
    """Seconds to read the pixels and positions of the first n files."""
    paths = sorted(folder.iterdir())[:n]
    started = time.perf_counter()
    total = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths:
            with fits.open(path, memmap=False) as hdus:
                pixels = hdus[0].data.astype(np.float32)
                wcs = WCS(hdus[0].header).celestial
                total += float(wcs.wcs_pix2world([[SIDE / 2, SIDE / 2]], 0)[0, 0]) + float(pixels.flat[0])
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--stamps", type=int, default=6000, help="cutouts of each layout")
    parser.add_argument("--postgresql", help="URL of an empty database, measured as well")
    parser.add_argument("--processes", type=int, default=0, help="reading processes, 0 for one a core")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as base:
        root = Path(base)
        os.environ["LENSMINE_SHARDS"] = str(root / "shards")
        engines = {"duckdb": str(root / "bench.duckdb")}
        if given.postgresql:
            engines["postgresql"] = given.postgresql
        for url in engines.values():
            upgrade(url)
        for layout in ("files by band", "cubes"):
            folder = root / layout.replace(" ", "_")
            n_files = write_stamps(folder, given.stamps, layout == "cubes")
            sample = min(n_files, 3000)
            reference = read_with_astropy(folder, sample) / sample * n_files / given.stamps
            for engine, url in engines.items():
                started = time.perf_counter()
                done = ingest_hsc([str(folder)], url, processes=given.processes or None)
                seconds = time.perf_counter() - started
                started = time.perf_counter()
                again = ingest_hsc([str(folder)], url, processes=given.processes or None)
                results.append(
                    {
                        "layout": layout, "engine": engine, "cutouts": done.cutouts,
                        "cutouts_per_s": round(done.cutouts / seconds),
                        "astropy_reading_per_s": round(1.0 / reference),
                        "rerun_per_s": round(again.unchanged / n_files * given.stamps
                                             / (time.perf_counter() - started)),
                        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                    }
                )  # fmt: skip
    if given.json:
        print(json.dumps(results, indent=1))
        return
    for row in results:
        print(
            f"{row['layout']:>14} {row['engine']:>10}: {row['cutouts_per_s']:>6} cutouts/s, astropy reading "
            f"alone {row['astropy_reading_per_s']}/s, unchanged {row['rerun_per_s']}/s, "
            f"peak {row['peak_mb']} MB"
        )


if __name__ == "__main__":
    main()
