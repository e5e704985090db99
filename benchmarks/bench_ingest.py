"""Rows and files per second of ``lensmine ingest sdss``, beside astropy and pandas in the same run.

    python -m benchmarks.bench_ingest
    python -m benchmarks.bench_ingest --postgresql postgresql://user@host/empty_database
    python -m benchmarks.bench_ingest --rows 5800000 --files 0 --rss

The table is specObj-like: 40 columns of the real layout. A row counts when target (with its HEALPix
cell), spec_obj and the epochs are committed. Its reference is astropy.table.Table.read, to_pandas and
to_sql into a table of the same database, on a part of the rows. The spec files are BOSS lite files of a
mock survey, 236 columns in HDU 2; a file counts when its pixels are in a shard on disk and its rows are
committed. Their reference is astropy.io.fits reading every column of HDU 1 and HDU 2, in one process and
without writing anything. Files are read from the page cache.

With --rss each table is ingested by ``lensmine ingest sdss`` in a process of its own, whose start counts
into the time, and its peak memory is told: resident, and without the pages of the mapped file, which the
system takes back when it needs them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from astropy.io import fits
from astropy.table import Table

from etl.sdss import ingest_sdss
from schema.engine import connect_engine, dialect_name, upgrade

TEXTS = {
    "SURVEY": ("6A", ["sdss", "segue1", "boss"]),
    "INSTRUMENT": ("4A", ["SDSS"]),
    "CHUNK": ("16A", ["chunk5", "chunk22", "boss3"]),
    "PROGRAMNAME": ("23A", ["legacy", "seguefaint", "boss"]),
    "PLATEQUALITY": ("8A", ["good", "marginal", "bad"]),
    "SOURCETYPE": ("19A", ["GALAXY", "QSO", "NONLEGACY", "SKY"]),
    "TARGETTYPE": ("8A", ["SCIENCE", "SKY"]),
    "RUN1D": ("6A", [""]),
    "CLASS": ("6A", ["GALAXY", "QSO", "STAR"]),
    "SUBCLASS": ("21A", ["", "STARFORMING", "BROADLINE", "AGN"]),
    "CLASS_NOQSO": ("6A", [""]),
    "SUBCLASS_NOQSO": ("21A", [""]),
}
FLOATS = [
    "PLATESN2", "Z", "Z_ERR", "RCHI2", "VDISP", "VDISP_ERR", "WAVEMIN", "WAVEMAX", "WCOVERAGE",
    "SN_MEDIAN_ALL", "Z_NOQSO", "Z_ERR_NOQSO",
]  # fmt: skip
INTEGERS = ["TILE", "DOF", "ZWARNING", "ANYANDMASK", "ANYORMASK", "ZWARNING_NOQSO"]


WRITTEN_AT_ONCE = 1_000_000
"""Rows made and written at once, so that a table may be larger than memory."""


def write_table(path: Path, n: int) -> int:
    """A specObj-like table of n rows and 40 columns; returns the number of columns."""
    part = path.with_name("part.fits")
    with open(path, "wb") as whole:
        for first in range(0, n, WRITTEN_AT_ONCE):
            _table_part(first, min(WRITTEN_AT_ONCE, n - first)).writeto(part, overwrite=True)
            with fits.open(part) as hdus, open(part, "rb") as written:
                header, at = hdus[1].header, hdus[1].fileinfo()["datLoc"]
                width, rows = header["NAXIS1"], header["NAXIS2"]
                if not first:
                    whole.write(hdus[0].header.tostring().encode())
                    header["NAXIS2"] = n
                    whole.write(header.tostring().encode())
                written.seek(at)
                whole.write(written.read(width * rows))
        whole.write(bytes(-whole.tell() % 2880))
    part.unlink()
    return int(header["TFIELDS"])


def _table_part(first: int, n: int) -> fits.BinTableHDU:
    rng = np.random.default_rng(1 + first)
    serial = first + np.arange(n)
    plate, fiber = 266 + serial // 640, 1 + serial % 640
    mjd = 51_600 + plate % 4000
    packed = (plate.astype("u8") << 50) | (fiber.astype("u8") << 38) | ((mjd - 50_000).astype("u8") << 24)
    columns = [
        fits.Column(
            "SPECOBJID", "22A", array=np.char.rjust((packed | np.uint64(26 << 10)).astype("S20"), 22)
        ),
        fits.Column("BESTOBJID", "19A", array=(1237650000000000000 + serial).astype("S19")),
        fits.Column("RUN2D", "6A", array=np.full(n, "26")),
        fits.Column("PLATE", "J", array=plate),
        fits.Column("MJD", "J", array=mjd),
        fits.Column("FIBERID", "J", array=fiber),
        fits.Column("PLUG_RA", "D", array=rng.uniform(0.0, 360.0, n)),
        fits.Column("PLUG_DEC", "D", array=np.degrees(np.arcsin(rng.uniform(-0.3, 1.0, n)))),
        fits.Column("SPECTROFLUX", "5E", array=rng.lognormal(2.0, 1.0, (n, 5))),
        fits.Column("BOSS_TARGET1", "K", array=rng.integers(0, 1 << 40, n)),
    ]
    columns += [
        fits.Column(k, f, array=np.array(v)[rng.integers(0, len(v), n)]) for k, (f, v) in TEXTS.items()
    ]
    columns += [fits.Column(k, "E", array=rng.uniform(0.0, 3.0, n)) for k in FLOATS]
    columns += [fits.Column(k, "J", array=rng.integers(0, 64, n)) for k in INTEGERS]
    return fits.BinTableHDU.from_columns(columns)


def reference_rows(path: Path, part: Path, db: str, n: int) -> float:
    """Rows per second of astropy and pandas.to_sql, over the first n rows."""
    with fits.open(path) as hdus:
        fits.BinTableHDU(hdus[1].data[:n]).writeto(part)
    engine = connect_engine(db)
    began = time.perf_counter()
    read = Table.read(part, hdu=1)
    for name in [c for c in read.colnames if read[c].ndim > 1]:  # pandas holds no arrays in cells
        for k in range(read[name].shape[1]):
            read[f"{name}_{k}"] = read[name][:, k]
        read.remove_column(name)
    with engine.begin() as conn:
        read.to_pandas().to_sql("reference", conn, index=False)
    seconds = time.perf_counter() - began
    with engine.begin() as conn:
        conn.execute(sa.text("drop table reference"))
    return n / seconds


def bench_rows(
    path: Path, folder: Path, db: str, n: int, n_reference: int, apart: bool
) -> dict[str, float | str]:
    """Ingest the table into an empty database."""
    upgrade(db)
    plain = reference_rows(path, folder / f"part-{time.monotonic_ns()}.fits", db, n_reference)
    memory = {}
    began = time.perf_counter()
    if apart:
        memory = ingest_apart(path, db)
    else:
        ingest_sdss([str(path)], db)
    seconds = time.perf_counter() - began
    with connect_engine(db).connect() as conn:
        name = dialect_name(conn)
        held = conn.execute(
            sa.text("select count(*) from spec_obj o join target t on t.target_id = o.target_id")
        )
        assert held.scalar_one() == n
    wanted = 300e3 if name == "duckdb" else 100e3
    told: dict[str, float | str] = {
        "what": f"specObj rows, {name}",
        "per_s": n / seconds,
        "reference": plain,
        "wanted": wanted,
    }
    return told | memory


def ingest_apart(path: Path, db: str) -> dict[str, float | str]:
    """Ingest in another process; its peak memory [GB], looked up every 20 ms."""
    program = "import lensmine; lensmine.app()"
    command = [sys.executable, "-c", program, "ingest", "sdss", str(path), "--db", db, "--json"]
    peak = {"VmHWM": 0, "RssAnon": 0}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        while child.poll() is None:
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{child.pid}/status").read_text()
                for key, value in re.findall(r"^(VmHWM|RssAnon):\s*(\d+) kB", status, re.MULTILINE):
                    peak[key] = max(peak[key], int(value))
            time.sleep(0.02)
    if child.returncode:
        raise RuntimeError(f"ingest ended with exit code {child.returncode}")
    return {"peak_resident_gb": peak["VmHWM"] * 1024 / 1e9, "peak_own_gb": peak["RssAnon"] * 1024 / 1e9}


def bench_files(folder: Path, n: int, n_reference: int) -> dict[str, float | str]:
    """Ingest spec files into an empty DuckDB database."""
    from scoring.mock_population import MockRecipe
    from scoring.mocksurvey import write_mock_survey

    survey = write_mock_survey(folder / "mock", MockRecipe(n_spectra=n))
    files = sorted(survey.spectra.rglob("spec-*.fits"))
    began = time.perf_counter()
    read = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in files[:n_reference]:
            try:
                with fits.open(path, memmap=False) as hdus:
                    for hdu in hdus[1:3]:
                        _ = {name: np.array(hdu.data[name]) for name in hdu.columns.names}
                read += 1
            except (OSError, TypeError, ValueError, IndexError):
                pass  # the survey holds one damaged file
    plain = read / (time.perf_counter() - began)
    db = str(folder / "files.duckdb")
    upgrade(db)
    began = time.perf_counter()
    done = ingest_sdss([str(survey.spectra)], db)
    seconds = time.perf_counter() - began
    assert done.spectra >= len(files) - 3
    return {
        "what": "spec files to shards and rows",
        "per_s": len(files) / seconds,
        "reference": plain,
        "wanted": 690.0,
    }


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--reference-rows", type=int, default=20_000)
    parser.add_argument("--reference-files", type=int, default=100)
    parser.add_argument("--postgresql", metavar="URL", help="an empty database on a server")
    parser.add_argument("--rss", action="store_true", help="ingest rows in a process apart, tell its memory")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LENSMINE_SHARDS"] = str(folder / "shards")
        results = []
        if args.rows:
            path = folder / "specObj-bench.fits"
            n_columns = write_table(path, args.rows)
            assert n_columns == 40
            for db in [str(folder / "rows.duckdb"), *([args.postgresql] if args.postgresql else [])]:
                results.append(bench_rows(path, folder, db, args.rows, args.reference_rows, args.rss))
        if args.files:
            results.append(bench_files(folder, args.files, args.reference_files))
    for r in results:
        r["ratio"] = float(r["per_s"]) / float(r["reference"])
    load = os.getloadavg()[0]
    if args.json:
        print(json.dumps({"results": results, "load_average": load, "cores": os.cpu_count()}, indent=1))
        return
    print(f"{'what':32s} {'per second':>12s} {'reference':>12s} {'ratio':>8s} {'wanted':>10s}")
    for r in results:
        print(
            f"{r['what']:32s} {r['per_s']:12,.0f} {r['reference']:12,.1f} {r['ratio']:8.0f} "
            f"{r['wanted']:10,.0f}"
        )
    for r in results:
        if "peak_own_gb" in r:
            print(
                f"{r['what']}: peak memory of the ingest {r['peak_own_gb']:.2f} GB, "
                f"{r['peak_resident_gb']:.2f} GB with pages of the file"
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{os.cpu_count()} cores, load average {load:.1f}, peak memory of this process {peak:.1f} GB")


if __name__ == "__main__":
    main()
