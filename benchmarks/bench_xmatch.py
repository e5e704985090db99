"""Cross-match of a million targets with every known lens in SQL, against astropy in the same run.

    python benchmarks/bench_xmatch.py [--targets 1000000] [--postgres URL] [--json]

Lens positions are lenscat's; a fifth of the targets lies within 10 arcsec of a lens, the rest is spread over
the sky. Both engines must find exactly the pairs of ``search_around_sky``, and for each target the nearest
lens of ``match_to_catalog_sky``; timed is the query of view known_lens_match, from committed rows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from astropy.coordinates import SkyCoord

from schema.engine import connect_engine, read_frame, upgrade
from schema.healpix import hpx29, lens_cells
from schema.tables import known_lens, known_lens_cell, target
from schema.upsert import insert_rows

RADIUS_ARCSEC = 5.0


def lens_positions() -> tuple[np.ndarray, np.ndarray]:
    """Positions of the packaged lenscat catalogue [deg]."""
    from importlib.util import find_spec

    found = find_spec("lenscat")  # its import draws in a plotting stack
    if found is None or found.origin is None:
        raise SystemExit("this benchmark needs lenscat: pip install lenscat")
    table = pd.read_csv(Path(found.origin).parent / "data" / "catalog.csv")
    ra, dec = (
        pd.to_numeric(table[c], errors="coerce").to_numpy(dtype=float) for c in ("RA [deg]", "DEC [deg]")
    )
    good = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
    return ra[good] % 360, dec[good]


def target_positions(n: int, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets: a fifth near lenses, the others anywhere [deg]."""
    rng = np.random.default_rng(2026)
    near = rng.integers(0, len(ra), n // 5)
    angle, shift = rng.uniform(0, 2 * np.pi, len(near)), rng.uniform(0, 10 / 3600, len(near))
    near_dec = np.clip(dec[near] + shift * np.sin(angle), -90, 90)
    near_ra = ra[near] + shift * np.cos(angle) / np.maximum(np.cos(np.radians(near_dec)), 1e-6)
    far = n - len(near)
    all_ra = np.concatenate([near_ra % 360, rng.uniform(0, 360, far)])
    all_dec = np.concatenate([near_dec, np.degrees(np.arcsin(rng.uniform(-1, 1, far)))])
    return all_ra, all_dec


def load(db: str, ra: np.ndarray, dec: np.ndarray, lens_ra: np.ndarray, lens_dec: np.ndarray) -> None:
    """Targets, lenses and the lenses' cells, committed."""
    n, m = len(ra), len(lens_ra)
    upgrade(db)
    row, cell = lens_cells(lens_ra, lens_dec)
    with connect_engine(db).begin() as conn:
        ids = pa.array(np.arange(n))
        columns = {
            "target_id": ids,
            "survey": pa.array(["mock"] * n),
            "native_id": ids.cast(pa.string()),
            "ra_deg": ra,
        }
        more = {"dec_deg": dec, "hpx29": hpx29(ra, dec), "is_injection": np.zeros(n, bool)}
        insert_rows(conn, target, pa.table(columns | more))
        ids = pa.array(np.arange(m))
        columns = {"lens_id": ids, "name": ids.cast(pa.string()), "ra_deg": lens_ra, "dec_deg": lens_dec}
        insert_rows(conn, known_lens, pa.table(columns | {"hpx29": hpx29(lens_ra, lens_dec)}))
        insert_rows(conn, known_lens_cell, pa.table({"lens_id": row, "cell": cell}))
    with connect_engine(db).connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(sa.text("analyze"))


def in_sql(db: str, repeats: int) -> tuple[float, pd.DataFrame]:
    """Best time [s] of the view, and its pairs."""
    best, pairs = np.inf, pd.DataFrame()
    with connect_engine(db).connect() as conn:
        for _ in range(repeats):
            start = time.perf_counter()
            pairs = read_frame(conn, "select target_id, lens_id, sep_arcsec from known_lens_match")
            best = min(best, time.perf_counter() - start)
    return best, pairs


def timed(work: object, repeats: int) -> tuple[float, object]:
    """Best time [s] and the result of a call."""
    best, result = np.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()  # type: ignore[operator]
        best = min(best, time.perf_counter() - start)
    return best, result


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--postgres", help="URL of an empty PostgreSQL database; left out when not given")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    lens_ra, lens_dec = lens_positions()
    ra, dec = target_positions(options.targets, lens_ra, lens_dec)
    lenses = SkyCoord(lens_ra * u.deg, lens_dec * u.deg)

    def sky() -> SkyCoord:
        return SkyCoord(ra * u.deg, dec * u.deg)  # anew each time: astropy keeps its search tree

    around, found = timed(lambda: lenses.search_around_sky(sky(), RADIUS_ARCSEC * u.arcsec), options.repeats)
    nearest, matched = timed(lambda: sky().match_to_catalog_sky(lenses), options.repeats)
    theirs = set(zip(found[0].tolist(), found[1].tolist(), strict=True))  # type: ignore[index]
    sep = matched[1].arcsec  # type: ignore[index]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, db in (("DuckDB", f"{folder}/x.duckdb"), ("PostgreSQL", options.postgres)):
            if not db:
                continue
            load(db, ra, dec, lens_ra, lens_dec)
            seconds, pairs = in_sql(db, options.repeats)
            ours = set(zip(pairs["target_id"].tolist(), pairs["lens_id"].tolist(), strict=True))
            closest = pairs.groupby("target_id")["sep_arcsec"].min()
            inside = np.flatnonzero(sep <= RADIUS_ARCSEC)
            same_nearest = bool(
                np.array_equal(closest.index, inside) and np.allclose(closest, sep[inside], atol=1e-6)
            )
            rows.append(
                {
                    "engine": name, "seconds": seconds, "pairs": len(ours),
                    "same_pairs": ours == theirs, "same_nearest": same_nearest,
                    "search_around_sky_s": around, "match_to_catalog_sky_s": nearest,
                    "times_search_around_sky": around / seconds,
                    "times_match_to_catalog_sky": nearest / seconds,
                }
            )  # fmt: skip
    if options.json:
        print(json.dumps({"targets": options.targets, "lenses": len(lens_ra), "rows": rows}, indent=2))
        return
    print(f"{options.targets:,} targets x {len(lens_ra):,} lenses within {RADIUS_ARCSEC:g} arcsec")
    print(f"astropy search_around_sky     {around:7.2f} s  {len(theirs):,} pairs")
    print(f"astropy match_to_catalog_sky  {nearest:7.2f} s")
    for r in rows:
        print(
            f"{r['engine']:<12} known_lens_match  {r['seconds']:7.2f} s  {r['pairs']:,} pairs, "
            f"same pairs: {r['same_pairs']}, same nearest: {r['same_nearest']}, "
            f"{r['times_search_around_sky']:.1f} x and {r['times_match_to_catalog_sky']:.1f} x as fast"
        )


if __name__ == "__main__":
    main()
