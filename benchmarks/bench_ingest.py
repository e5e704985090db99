"""Rows and files per second of ``lensmine ingest sdss``, beside astropy and pandas in the same run.

    python -m benchmarks.bench_ingest
    python -m benchmarks.bench_ingest --postgresql postgresql://user@host/empty_database

The table is specObj-like: 40 columns of the real layout. A row counts when target (with its HEALPix
cell), spec_obj and the epochs are committed. Its reference is astropy.table.Table.read, to_pandas and
to_sql into a table of the same database, on a part of the rows. The spec files are BOSS lite files of a
mock survey, 236 columns in HDU 2; a file counts when its pixels are in a shard on disk and its rows are
committed. Their reference is astropy.io.fits reading every column of HDU 1 and HDU 2, in one process and
without writing anything. Files are read from the page cache.
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


def write_table(path: Path, n: int) -> int:
    """A specObj-like table of n rows and 40 columns; returns the number of columns."""
    rng = np.random.default_rng(1)
    plate, fiber = 266 + np.arange(n) // 640, 1 + np.arange(n) % 640
    mjd = 51_600 + plate % 4000
    packed = (plate.astype("u8") << 50) | (fiber.astype("u8") << 38) | ((mjd - 50_000).astype("u8") << 24)
    columns = [
        fits.Column(
            "SPECOBJID", "22A", array=np.char.rjust((packed | np.uint64(26 << 10)).astype("S20"), 22)
        ),
        fits.Column("BESTOBJID", "19A", array=(1237650000000000000 + np.arange(n)).astype("S19")),
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
    fits.BinTableHDU.from_columns(columns).writeto(path)
    return len(columns)


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


def bench_rows(path: Path, folder: Path, db: str, n: int, n_reference: int) -> dict[str, float | str]:
    """Ingest the table into an empty database."""
    upgrade(db)
    plain = reference_rows(path, folder / f"part-{time.monotonic_ns()}.fits", db, n_reference)
    began = time.perf_counter()
    done = ingest_sdss([str(path)], db)
    seconds = time.perf_counter() - began
    with connect_engine(db).connect() as conn:
        name = dialect_name(conn)
        held = conn.execute(
            sa.text("select count(*) from spec_obj o join target t on t.target_id = o.target_id")
        )
        assert held.scalar_one() == done.rows == n
    wanted = 300e3 if name == "duckdb" else 100e3
    return {"what": f"specObj rows, {name}", "per_s": n / seconds, "reference": plain, "wanted": wanted}


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
                results.append(bench_rows(path, folder, db, args.rows, args.reference_rows))
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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{os.cpu_count()} cores, load average {load:.1f}, peak memory of this process {peak:.1f} GB")


if __name__ == "__main__":
    main()
