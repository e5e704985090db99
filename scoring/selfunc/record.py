"""Rows of table selection_function, and the text table of a measurement."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from typing import Any

from schema.engine import connect_engine
from schema.ids import hashed_id
from schema.tables import selection_function
from schema.upsert import delete_keys, upsert_rows
from scoring.selfunc.measure import Measurement


def cells(done: Measurement) -> Iterator[dict[str, Any]]:
    """One dict a cell: its edges, counts, share and interval; None where there is no figure."""
    for plane, found in done.planes:
        bounds = plane.bounds()
        for i in range(plane.n_cells):
            x_lo, x_hi, y_lo, y_hi = (float(v) for v in bounds[i])
            on_line = plane.y is None
            p = float(found.p[i])
            yield {
                "x_name": plane.x.name,
                "x_lo": x_lo,
                "x_hi": x_hi,
                "y_name": None if plane.y is None else plane.y.name,
                "y_lo": None if on_line else y_lo,
                "y_hi": None if on_line else y_hi,
                "n_injected": int(found.n_injected[i]),
                "n_selected": int(found.n_selected[i]),
                "n_eff": float(found.n_eff[i]),
                "p_selected": None if math.isnan(p) else p,
                "p_lo": float(found.lo[i]),
                "p_hi": float(found.hi[i]),
            }


def save(db: str | None, done: Measurement) -> int:
    """Write a measurement; the same one again takes the place of itself. Returns the number of cells."""
    now = datetime.datetime.now(datetime.UTC)
    common = {
        "measurement_id": done.measurement_id,
        "model_id": done.model_id,
        "stage": done.stage,
        "mode": done.mode,
        "instrument": done.instrument,
        "band": done.band,
        "threshold": done.threshold,
        "recipe": done.recipe,
        "measured_at": now,
    }
    rows = [
        common | cell | {"cell_id": hashed_id("selection_function", done.measurement_id, *_where(cell))}
        for cell in cells(done)
    ]
    with connect_engine(db).begin() as conn:
        delete_keys(conn, selection_function, "measurement_id", [done.measurement_id])
        upsert_rows(conn, selection_function, rows, ["cell_id"])
    return len(rows)


def _where(cell: dict[str, Any]) -> list[Any]:
    return [cell[name] for name in ("x_name", "x_lo", "x_hi", "y_name", "y_lo", "y_hi")]


def text_table(done: Measurement) -> str:
    """Every cell of a measurement as aligned text: what the figure shows, in figures."""
    lines = [
        f"# selection function of {done.model}, stage {done.stage}, mode {done.mode}, instrument "
        f"{done.instrument or '-'}, threshold {done.threshold:g}",
        f"# {done.n_selected} of {done.n_injected} injected lenses selected; p with its 95% interval; "
        f"magnitudes in band {done.band or '-'}; - means too few injections",
        f"{'x':<20}{'x_lo':>10}{'x_hi':>10}  {'y':<20}{'y_lo':>10}{'y_hi':>10}{'n':>7}{'n_eff':>9}{'k':>7}"
        f"{'p':>8}{'p_lo':>8}{'p_hi':>8}",
    ]
    for c in cells(done):
        y = (
            f"{c['y_name']:<20}{c['y_lo']:>10.4g}{c['y_hi']:>10.4g}"
            if c["y_name"]
            else f"{'-':<20}{'-':>10}{'-':>10}"
        )
        p = "-" if c["p_selected"] is None else f"{c['p_selected']:.3f}"
        lines.append(
            f"{c['x_name']:<20}{c['x_lo']:>10.4g}{c['x_hi']:>10.4g}  {y}{c['n_injected']:>7}"
            f"{c['n_eff']:>9.1f}{c['n_selected']:>7}{p:>8}{c['p_lo']:>8.3f}{c['p_hi']:>8.3f}"
        )
    return "\n".join(lines) + "\n"
