"""The figure of a selection function: a corner of all pairs, as figure 3.3 of Pourrahmani (2019)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schema.errors import UserError
from scoring.selfunc.measure import Measurement
from scoring.selfunc.parameters import SPECTRAL, THESIS

if TYPE_CHECKING:
    from scoring.selfunc.cells import Plane
    from scoring.selfunc.estimate import Shares

LABELS = {p.name: p.label for p in (*THESIS, *SPECTRAL)}
SUFFIXES = (".png", ".pdf", ".svg")
NO_DATA = "#d9d9d9"
BAND = "BAND"
"""Stands for the band's name in a label."""


def check_path(path: Path) -> None:
    """Refuse a file that cannot be drawn to before anything is measured."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--plot {path}: allowed are {', '.join(SUFFIXES)}; a text table: --table FILE.txt")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--plot {path}: there is no folder {path.absolute().parent}; make it first")


def draw(done: Measurement, path: Path) -> None:
    """Draw a measurement: a plane a pair, the line of each parameter on the diagonal."""
    check_path(path)
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    paired = {axis.name for plane, _ in done.planes if plane.y is not None for axis in (plane.x, plane.y)}
    names = [p.x.name for p, _ in done.planes if p.y is None and p.x.name in paired]
    n = len(names)
    figure, axes = plt.subplots(n, n, figsize=(1.6 * n + 1.2, 1.6 * n + 0.6), squeeze=False)
    figure.subplots_adjust(left=0.085, right=0.95, bottom=0.095, top=0.985, wspace=0.09, hspace=0.09)
    reference = done.recipe.get("reference", {})
    for row in axes:
        for ax in row:
            ax.set_visible(False)
    image = None
    for plane, found in done.planes:
        if plane.x.name not in names:  # a line without planes has no place in a corner of pairs
            continue
        i = names.index(plane.x.name)
        if plane.y is None:
            _line(axes[i][i], plane, found)
        else:
            j = names.index(plane.y.name)
            image = _plane(axes[j][i], plane, found)
            _mark(axes[j][i], reference, plane.x.name, plane.y.name)
    for j in range(n):
        for i in range(j + 1):
            _dress(axes[j][i], names, i, j, n, done.band)
    if image is not None:
        # the empty upper corner holds the colour bar and what was measured
        where = figure.add_axes((0.55, 0.80, 0.38, 0.018))
        bar = figure.colorbar(image, cax=where, orientation="horizontal")
        bar.set_label("P(selected)")
        bar.ax.axvline(0.5, color="white", linewidth=1.2)
    figure.text(0.55, 0.98, _title(done), ha="left", va="top", fontsize=10.5, linespacing=1.5)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _title(done: Measurement) -> str:
    what = {
        "slice": "other parameters fixed",
        "population": f"others drawn from {done.recipe.get('prior', 'the prior')}",
        "rows": f"injections of {done.recipe.get('selection', 'a selection')}",
    }[done.mode]
    where = f" on {done.instrument.upper()}" if done.instrument else ""
    lines = [
        f"{done.model}{where}, stage {done.stage} (p ≥ {done.threshold:.3g})",
        f"{done.n_injected:,} injected lenses; {what}" + (" at +" if done.mode == "slice" else ""),
        "white line: P = 0.5; blue: 95% interval; grey: too few",
    ]
    fixed = done.recipe.get("fixed", {})
    if "source_r_eff_arcsec" in fixed:
        size, index = fixed["source_r_eff_arcsec"], fixed["source_sersic_n"]
        lines.insert(2, rf"source: $r_\mathrm{{eff}}$ = {size:g} arcsec, Sérsic n = {index:g}")
    return "\n".join(lines)


def _mark(ax: Any, reference: dict[str, float], x: str, y: str) -> None:
    """A cross where both parameters are when they are the fixed ones."""
    if x in reference and y in reference:
        ax.plot(reference[x], reference[y], marker="+", markersize=7, color="#d55e00", markeredgewidth=1.4)


def _plane(ax: Any, plane: Plane, found: Shares) -> Any:
    """Share selected over two parameters, x across and y up."""
    ax.set_visible(True)
    grid = np.ma.masked_invalid(found.p.reshape(plane.shape)).T
    ax.set_facecolor(NO_DATA)
    image = ax.pcolormesh(plane.x_edges, plane.y_edges, grid, vmin=0, vmax=1, cmap="viridis", rasterized=True)
    x, y = (0.5 * (e[1:] + e[:-1]) for e in (plane.x_edges, plane.y_edges))
    full = grid.filled(np.nan)
    if len(x) > 1 and len(y) > 1 and np.nanmin(full, initial=1) < 0.5 < np.nanmax(full, initial=0):
        ax.contour(x, y, full, levels=[0.5], colors="white", linewidths=1.4)
    return image


def _line(ax: Any, plane: Plane, found: Shares) -> None:
    """Share selected along one parameter with its interval."""
    ax.set_visible(True)
    known = np.isfinite(found.p)
    edges = plane.x_edges
    for i in np.flatnonzero(known):
        ax.fill_between(edges[i : i + 2], found.lo[i], found.hi[i], color="#9ecae1", linewidth=0)
    ax.stairs(np.where(known, found.p, np.nan), edges, color="#08519c", linewidth=1.4, baseline=None)
    ax.axhline(0.5, color="grey", linewidth=0.6, linestyle=":")
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(-0.03, 1.03)


def _dress(ax: Any, names: list[str], i: int, j: int, n: int, band: str | None) -> None:
    """Ticks and labels: at the left and the bottom alone, and the scale of P on the diagonal."""

    def label(name: str) -> str:
        # the unit on a line of its own: names are as long as a panel is wide
        return LABELS.get(name, name).replace(BAND, f"${band}$" if band else "").replace(" [", "\n[")

    ax.tick_params(labelsize=8, direction="in", top=True, right=True)
    ax.locator_params(axis="x", nbins=4)
    if i != j:
        ax.locator_params(axis="y", nbins=4)
    if j == n - 1:
        ax.set_xlabel(label(names[i]), fontsize=9)
        ax.tick_params(axis="x", labelrotation=45)
    else:
        ax.set_xticklabels([])
    if i == j:
        ax.yaxis.tick_right()
        ax.set_yticks([0, 0.5, 1])
        ax.yaxis.set_label_position("right")
        ax.set_ylabel("P", fontsize=9, rotation=0, labelpad=4)
    elif i == 0:
        ax.set_ylabel(label(names[j]), fontsize=9)
    else:
        ax.set_yticklabels([])
