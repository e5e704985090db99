"""A search of a few hundred hits, made row by row, that tests of the cuts change and look at."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

from schema.engine import connect_engine, read_frame
from schema.tables import (
    cut_setting,
    injection,
    known_lens,
    known_lens_cell,
    line_fit,
    metadata,
    model,
    score,
    scoring_run,
    spec_obj,
    spectrum,
    target,
)
from schema.upsert import insert_rows

WHEN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
MODEL = 7
Z = 0.5


def good_fit(target_id: int, wave: float, **changes: Any) -> dict[str, Any]:
    """A fit that passes every cut."""
    row = {
        "fit_id": 1000 + target_id, "target_id": target_id, "spectrum_id": target_id, "content_hash": "a",
        "model_id": MODEL, "fit_version": "1", "hit_wave_angstrom": wave, "status": "ok",
        "wave_angstrom": wave, "line_flux": 30.0, "line_flux_err": 2.0, "peak_flux": 5.0,
        "skewness": 2.0, "skewness_err": 0.7, "delta_chi2_gaussian": 9.0,
        "sigma_angstrom": 2.0, "sigma_err_angstrom": 0.2,
        "z_lya": wave / 1215.67 - 1, "n_mask_near": 0, "fitted_at": WHEN,
    }  # fmt: skip
    return {**row, **changes}


class Search:
    """Rows of a small search, written to one database."""

    def __init__(self, url: str) -> None:
        self.engine = connect_engine(url)
        self.rows: dict[str, list[dict[str, Any]]] = {t: [] for t in metadata.tables}
        self.rows["model"].append(
            {"model_id": MODEL, "name": "m", "preprocessing_hash": "p", "weights_hash": "w", "threshold": 0.5}
        )
        self.rows["scoring_run"].append({"run_id": 1, "model_id": MODEL, "status": "done"})

    def hit(
        self, target_id: int, wave: float, *, fit: dict[str, Any] | bool | None = True,
        probability: float = 0.9, z: float = Z, ra: float = 10.0, dec: float = 0.0, lens: bool = False,
        **obj: Any,
    ) -> None:  # fmt: skip
        """One scored target; ``fit`` True for a good one, None for none, or the columns that differ."""
        self.rows["target"].append(
            {
                "target_id": target_id,
                "survey": "sdss",
                "native_id": f"1-2-{target_id}",
                "ra_deg": ra,
                "dec_deg": dec,
                "hpx29": obj.pop("hpx29", 0),
                "is_injection": lens,
            }
        )
        self.rows["spec_obj"].append({"target_id": target_id, "z": z, "is_primary": True, **obj})
        self.rows["spectrum"].append(
            {
                "spectrum_id": target_id,
                "target_id": target_id,
                "shard_id": 1,
                "shard_row": 0,
                "content_hash": "a",
                "is_primary": True,
            }
        )
        self.rows["score"].append(
            {
                "spectrum_id": target_id,
                "model_id": MODEL,
                "run_id": 1,
                "target_id": target_id,
                "content_hash": "a",
                "z_used": z,
                "probability": probability,
                "wave_angstrom": wave,
                "snr": 9.0,
            }
        )
        if fit is not None:
            self.rows["line_fit"].append(good_fit(target_id, wave, **(fit if isinstance(fit, dict) else {})))
        if lens:
            self.rows["injection"].append({"target_id": target_id, "is_lens": True})

    def write(self) -> Search:
        with self.engine.begin() as conn:
            insert_rows(conn, metadata.tables["pixel_shard"], [{"shard_id": 1, "name": "s"}])
            for table in (model, scoring_run, target, spec_obj, spectrum, score, line_fit, injection,
                          known_lens, known_lens_cell):  # fmt: skip
                insert_rows(conn, table, self.rows[table.name])
        return self

    def set(self, name: str, value: float) -> None:
        with self.engine.begin() as conn:
            conn.execute(cut_setting.update().where(cut_setting.c.name == name).values(value=value))

    def read(self, view: str) -> dict[int, dict[str, Any]]:
        with self.engine.connect() as conn:
            frame = read_frame(conn, f"select * from {view} order by target_id")
        return {int(r["target_id"]): r for r in frame.to_dict("records")}

    def first_failed(self, column: str = "first_failed_cut") -> dict[int, Any]:
        found = {k: r[column] for k, r in self.read("hit_cut").items()}
        return {k: v if isinstance(v, str) else None for k, v in found.items()}


def spread(search: Search, first: int, n: int, rng: np.random.Generator) -> None:
    """Hits scattered evenly over observed wavelength and lens redshift."""
    for k in range(n):
        search.hit(first + k, float(rng.uniform(3805, 4995)), z=float(rng.uniform(0.3, 0.7)))
