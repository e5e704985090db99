"""The job that fits every hit which lacks a current fit, and writes the results as rows of line_fit.

A fit is current when it is of the pixels, wavelength and model of the hit as they now stand, by the present
version of this code and its settings. Older fits stay; view hit_fit takes the latest one that is current.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from schema.engine import connect_engine, shard_root
from schema.errors import UserError
from schema.ids import hashed_id
from schema.shards import Shard
from schema.tables import line_fit
from schema.upsert import upsert_rows
from scoring.fits.oii import DEFAULT_OII, OiiConfig, oii_alternative
from scoring.fits.skewnormal import DEFAULT_FIT, FitConfig, cut_windows, fit_lines

BATCH = 512
"""Spectra in one pass: their full range in double precision takes about 100 MB."""

PER_COMMIT = 4096
"""Fits written in one transaction."""

WAVE_TOLERANCE = 0.01
"""A hit that moved by less keeps its fit [Angstrom]; view hit_fit has the same."""


def fit_version(fit: FitConfig, oii: OiiConfig) -> str:
    """Version of the fitting code with its settings, as it stands in line_fit.fit_version."""
    settings = [dataclasses.astuple(fit), dataclasses.astuple(oii)]
    return f"1-{hashed_id('fit_settings', settings) & 0xFFFFFFFF:08x}"


@dataclasses.dataclass
class FitReport:
    """What one run of the job did.

    Attributes
    ----------
    n_hits : int
        Hits that the run was asked about.
    n_current : int
        Of these, fitted already.
    n_fitted : int
        Fitted now.
    statuses : dict
        How many of those ended with each status.
    seconds : float
        Wall time [s].
    """

    n_hits: int = 0
    n_current: int = 0
    n_fitted: int = 0
    statuses: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The report for printing as JSON."""
        return dataclasses.asdict(self)

    def line(self) -> str:
        """The report in one line."""
        if not self.n_hits:
            return "no hits to fit; score a selection first: lensmine score MODEL SELECTION"
        if not self.n_fitted:
            return f"{self.n_hits} hits, all fitted already"
        ended = ", ".join(f"{n} {status}" for status, n in sorted(self.statuses.items(), key=lambda p: -p[1]))
        return f"{self.n_hits} hits, {self.n_current} fitted already, {self.n_fitted} fitted now: {ended}"


def fit_hits(
    db: str | None,
    model: str | None = None,
    *,
    selection: str | None = None,
    fit: FitConfig = DEFAULT_FIT,
    oii: OiiConfig = DEFAULT_OII,
    progress: Callable[[int, int], None] | None = None,
) -> FitReport:
    """Fit every hit that has no current fit.

    Parameters
    ----------
    db : str or None
        Database URL or path.
    model : str, optional
        Only hits of the model of this name; of every model by default.
    selection : str, optional
        Only hits within the selection of this name.
    fit, oii : FitConfig, OiiConfig
        Settings; others than before make every fit stale.
    progress : callable, optional
        Called with the number of fits done and to do.

    Returns
    -------
    FitReport

    Raises
    ------
    UserError
        When no such model has scored, or there is no such selection.
    DataError
        When a shard is missing or damaged.
    """
    began = time.monotonic()
    version = fit_version(fit, oii)
    todo, n_hits = _unfitted(db, model, selection, version)
    report = FitReport(n_hits=n_hits, n_current=n_hits - len(todo))
    ended: Counter[str] = Counter()
    waiting: list[pa.Table] = []

    def write() -> None:
        if waiting:
            with connect_engine(db).begin() as conn:
                upsert_rows(conn, line_fit, pa.concat_tables(waiting), key=["fit_id"])
            report.n_fitted += sum(t.num_rows for t in waiting)
            waiting.clear()

    for shard, rows in _by_shard(todo, shard_root(db)):
        columns = fit_rows(shard, rows, version, fit, oii)
        ended.update(str(s) for s in columns["status"])
        waiting.append(_arrow(columns))
        if sum(t.num_rows for t in waiting) >= PER_COMMIT:
            write()
        if progress:
            progress(report.n_fitted + sum(t.num_rows for t in waiting), len(todo))
    write()
    report.statuses = dict(ended)
    report.seconds = time.monotonic() - began
    return report


def fit_rows(
    shard: Shard, hits: pd.DataFrame, version: str, fit: FitConfig = DEFAULT_FIT, oii: OiiConfig = DEFAULT_OII
) -> dict[str, NDArray[Any]]:
    """Columns of line_fit for hits whose spectra stand in one shard.

    Parameters
    ----------
    shard : Shard
        Pixels; ``model`` and ``mask`` are used where it has them.
    hits : DataFrame
        With columns target_id, model_id, spectrum_id, content_hash, wave_angstrom [Angstrom], z_lens and
        shard_row.

    Returns
    -------
    dict of ndarray, shape (n,)
        One entry per column of table line_fit.
    """
    index = hits["shard_row"].to_numpy(np.int64)
    wave = hits["wave_angstrom"].to_numpy(np.float64)
    flux, ivar = shard.read("flux", index), shard.read("ivar", index)
    galaxy = shard.read("model", index) if "model" in shard.arrays else None
    mask = shard.read("mask", index) if "mask" in shard.arrays else None
    line = fit_lines(cut_windows(shard.pix0, wave, flux, ivar, galaxy, mask, fit), wave, fit)
    z_lens = hits["z_lens"].to_numpy(np.float64)
    oii_lines = oii_alternative(
        shard.pix0, line["wave_angstrom"], line["sigma_angstrom"], z_lens, flux, ivar, galaxy, oii
    )
    names = ("target_id", "spectrum_id", "content_hash", "model_id")
    keys = zip(hits["spectrum_id"], hits["content_hash"], hits["model_id"], wave, strict=True)
    return {
        "fit_id": np.array([hashed_id("line_fit", s, c, m, f"{w:.4f}", version) for s, c, m, w in keys]),
        **{name: hits[name].to_numpy() for name in names},
        "fit_version": np.full(len(hits), version, dtype=object),
        "hit_wave_angstrom": wave,
        **line,
        **oii_lines,
    }


def _unfitted(
    db: str | None, model: str | None, selection: str | None, version: str
) -> tuple[pd.DataFrame, int]:
    """Hits without a current fit, in the order of the pixels, and the number of all hits asked about."""
    where = ["hit.wave_angstrom > 0"]
    params: dict[str, Any] = {"version": version, "tolerance": WAVE_TOLERANCE}
    within = None
    with connect_engine(db, read_only=True).connect() as conn:
        if model is not None:
            known_model(conn, model)
            where.append("hit.model = :model")
            params["model"] = model
        if selection is not None:
            within = _selected_hits(db, conn, selection)
        hits = pd.read_sql_query(sa.text(_HITS.format(where=" and ".join(where))), conn, params=params)
    if within is not None:
        hits = hits[hits["target_id"].isin(within)]
    return hits[~hits["is_fitted"]], len(hits)


_HITS = """
select
    hit.target_id, hit.model_id, hit.spectrum_id, hit.content_hash, hit.wave_angstrom, hit.z_lens,
    pixel_shard.name as shard, spectrum.shard_row,
    exists (
        select 1 from line_fit
        where
            line_fit.spectrum_id = hit.spectrum_id and line_fit.model_id = hit.model_id
            and line_fit.content_hash = hit.content_hash and line_fit.fit_version = :version
            and abs(line_fit.hit_wave_angstrom - hit.wave_angstrom) < :tolerance
    ) as is_fitted
from hit
inner join spectrum on spectrum.spectrum_id = hit.spectrum_id
inner join pixel_shard on pixel_shard.shard_id = spectrum.shard_id
where {where}
order by pixel_shard.name, spectrum.shard_row, hit.model_id
"""


def _selected_hits(db: str | None, conn: sa.Connection, selection: str) -> list[int]:
    """Targets of the hits that lie within a selection."""
    from scoring.selection import checked_selection

    chosen = checked_selection(db, selection)
    bare = conn.execution_options(no_parameters=True)
    query = (
        f"select target_id from selectable where {chosen.where} and target_id in (select target_id from hit)"
    )
    return list(bare.exec_driver_sql(query).scalars())


def known_model(conn: sa.Connection, name: str) -> None:
    """Refuse a model that has never scored here."""
    names = sorted(set(conn.execute(sa.text("select name from model")).scalars()))
    if name not in names:
        have = f"there are {', '.join(names)}" if names else "none has yet"
        raise UserError(f"no model {name!r} has scored in this database; {have} (see: lensmine score --help)")


def _by_shard(todo: pd.DataFrame, root: Any) -> Iterator[tuple[Shard, pd.DataFrame]]:
    """Batches of hits within one shard each."""
    for name, rows in todo.groupby("shard", sort=False):
        shard = Shard(root / str(name))
        for first in range(0, len(rows), BATCH):
            yield shard, rows.iloc[first : first + BATCH]


def _arrow(columns: dict[str, NDArray[Any]]) -> pa.Table:
    """Columns as an Arrow table; what is not finite becomes null, as SQL has it."""
    now = datetime.datetime.now(datetime.UTC)
    arrays: dict[str, pa.Array] = {}
    for name, values in columns.items():
        kind = line_fit.c[name].type
        if isinstance(kind, sa.Text):
            arrays[name] = pa.array([str(v) for v in values], pa.string())
        elif isinstance(kind, sa.Double):
            numbers = np.asarray(values, dtype=np.float64)
            arrays[name] = pa.array(numbers, mask=~np.isfinite(numbers))
        else:
            numbers = np.asarray(values, dtype=np.float64 if values.dtype.kind == "f" else np.int64)
            missing = ~np.isfinite(numbers)
            whole = np.where(missing, 0, numbers).astype(np.int64)
            arrays[name] = pa.array(whole, mask=missing)
    n = len(next(iter(columns.values())))
    arrays["fitted_at"] = pa.array([now] * n, pa.timestamp("us", tz="UTC"))
    return pa.table(arrays)
