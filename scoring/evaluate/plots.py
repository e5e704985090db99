"""Plots of evaluations, one idea each, for a screen (PNG) and a paper (PDF)."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scoring.evaluate.figures import FPR, PAPER_COMPLETENESS, Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe & Ito's colours, told apart without colour vision too."""

MARKERS = "osD^vPX"
STYLE: Any = {
    "font.size": 9,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.92",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "lines.linewidth": 1.4,
}
FLUX_LABEL = r"line flux  [$10^{-17}$ erg s$^{-1}$ cm$^{-2}$]"
PEAK_LABEL = r"peak flux density  [$10^{-17}$ erg s$^{-1}$ cm$^{-2}$ $\mathrm{\AA}^{-1}$]"
WAVE_LABEL = r"observed wavelength  [$\mathrm{\AA}$]"


def plot_all(found: Sequence[Evaluation], out: Path) -> list[Path]:
    """Draw every plot that these evaluations, of one test set, have figures for.

    Parameters
    ----------
    found : sequence of Evaluation
        One a model.
    out : Path
        Folder, made if it is not there.

    Returns
    -------
    list of Path
        PNG and PDF of each plot.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    out.mkdir(parents=True, exist_ok=True)
    drawings: dict[str, tuple[str, Callable[[Axes, Sequence[Evaluation]], None]]] = {
        "roc": ("roc", _roc),
        "tracer_recovery": ("trc", _trc),
        "reliability": ("reliability", _reliability),
        **{name: (name, partial(_by_flux, name)) for name in ("completeness_flux", "completeness_flux_fpr")},
        **{name: (name, partial(_by_peak, name)) for name in ("completeness_peak", "completeness_peak_fpr")},
        **{name: (name, partial(_by_wave, name)) for name in ("completeness_wave", "completeness_wave_fpr")},
        "cuts": ("completeness_after", _cuts),
    }
    written = []
    for name, (needs, draw) in drawings.items():
        some = [each for each in found if each.curve(needs)]
        if not some:
            continue
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(4.6, 3.9), layout="constrained")
            axes = figure.subplots()
            draw(axes, some)
            axes.set_title(_caption(some), fontsize=7, color="0.35", loc="left")
            for kind in ("png", "pdf"):
                path = out / f"{found[0].name}_{name}.{kind}"
                figure.savefig(path)
                written.append(path)
    return written


def _caption(found: Sequence[Evaluation]) -> str:
    """Test set, size, evaluation and date, so that a plot says what it shows when it stands alone."""
    first = found[0]
    what = {
        "paper_test": "Published recipe",
        "injections": "Lines in real spectra",
        "run": "Stored scores",
        "trc": "Tracers among what is scored",
    }
    parts = [f"{what.get(first.name, first.name)}: {first.n_positive:,} lenses, {first.n_negative:,} others"]
    if "selection" in first.recipe:
        hosts = first.recipe["hosts"]
        count = len(hosts) if isinstance(hosts, list) else hosts
        parts.append(f"selection {first.recipe['selection']} ({count} galaxies)")
    if first.evaluation_id is not None:
        parts.append(f"evaluation {first.evaluation_id}")
    if "seed" in first.recipe:
        parts.append(f"seed {first.recipe['seed']}")
    parts.append(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}")
    return parts[0] + "\n" + ", ".join(parts[1:])


def _xy(each: Evaluation, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    curve = each.curve(name)
    return tuple(np.array([getattr(m, part) for m in curve]) for part in ("x", "value", "lo", "hi"))  # type: ignore[return-value]


def _bands(axes: Axes, found: Sequence[Evaluation], name: str, **line: Any) -> None:
    for k, each in enumerate(found):
        x, value, lo, hi = _xy(each, name)
        colour = COLOURS[k % len(COLOURS)]
        axes.plot(x, value, color=colour, label=each.model, **line)
        axes.fill_between(
            x, lo, hi, color=colour, alpha=0.15, linewidth=0, step=line.get("drawstyle", "")[6:] or None
        )


def _points(axes: Axes, found: Sequence[Evaluation], name: str, logarithmic: bool = False) -> None:
    """Points with error bars, set a little apart where models share an abscissa."""
    for k, each in enumerate(found):
        x, value, lo, hi = _xy(each, name)
        step = k - (len(found) - 1) / 2
        span = x.max() - x.min() if len(x) > 1 else 1.0
        x = x * 1.015**step if logarithmic else x + 0.006 * span * step
        axes.errorbar(
            x,
            value,
            yerr=np.clip([value - lo, hi - value], 0, None),
            color=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)],
            markersize=4,
            capsize=2,
            elinewidth=1,
            label=each.model,
        )
    axes.set_ylim(0, 1.02)
    axes.legend(loc="best")


def _roc(axes: Axes, found: Sequence[Evaluation]) -> None:
    _bands(axes, found, "roc", drawstyle="steps-post")
    floor = 0.5 / max(each.n_negative for each in found)
    axes.set(xscale="log", xlim=(floor, 1), ylim=(0, 1.02))
    axes.set(xlabel="false-positive rate", ylabel="completeness")
    axes.axvline(FPR, color="0.5", linewidth=0.8, linestyle=":")
    axes.legend(loc="lower right")


def _trc(axes: Axes, found: Sequence[Evaluation]) -> None:
    for k, each in enumerate(found):
        x, value, lo, hi = _xy(each, "trc")
        best = np.minimum(1, x * (each.n_positive + each.n_negative) / each.n_positive)
        hi = np.clip(hi, value, np.maximum(best, value))  # an exact interval does not know what rank allows
        performance = each.get("ranking_performance")
        label = f"{each.model}  ({performance.value:.3f}, {performance.lo:.3f} to {performance.hi:.3f})"
        axes.plot(x, value, color=COLOURS[k % len(COLOURS)], label=label)
        axes.fill_between(x, lo, hi, color=COLOURS[k % len(COLOURS)], alpha=0.15, linewidth=0)
    first = found[0]
    total = first.n_positive + first.n_negative
    rank = np.geomspace(1 / total, 1, 300)
    perfect = np.minimum(1, rank * total / first.n_positive)
    axes.plot(rank, perfect, color="0.6", linewidth=0.9, linestyle="--", label="perfect")
    axes.plot(rank, rank, color="0.6", linewidth=0.9, linestyle=":", label="no discrimination")
    axes.set(xscale="log", xlim=(1 / total, 1), ylim=(0, 1.02))
    axes.set(xlabel="share of the list that is inspected, best first", ylabel="share of lenses recovered")
    axes.legend(loc="upper left", title="ranking performance", title_fontsize=8, fontsize=7)


def _reliability(axes: Axes, found: Sequence[Evaluation]) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.9, linestyle="--")
    _points(axes, found, "reliability")
    labels = [f"{each.model}  (error {each.get('calibration_error').value:.4f})" for each in found]
    axes.legend(axes.get_legend_handles_labels()[0], labels, loc="lower right")
    axes.set(xlim=(-0.02, 1.02), xlabel="probability given", ylabel="share that are lenses")


def _at(name: str, found: Sequence[Evaluation]) -> str:
    """Label of a completeness: where its threshold stands."""
    at_rate = name.endswith("_fpr") or found[0].name == "injections"
    return (
        f"completeness at {FPR:.1%} false positives" if at_rate else "completeness at the model's threshold"
    )


def _by_flux(name: str, axes: Axes, found: Sequence[Evaluation]) -> None:
    _points(axes, found, name)
    axes.set(xlabel=FLUX_LABEL, ylabel=_at(name, found))
    axes.legend(loc="lower right")


def _by_peak(name: str, axes: Axes, found: Sequence[Evaluation]) -> None:
    _points(axes, found, name, logarithmic=True)
    if not name.endswith("_fpr"):
        axes.axhline(PAPER_COMPLETENESS, color="0.5", linewidth=0.8, linestyle=":")
    axes.set(xlabel=PEAK_LABEL, ylabel=_at(name, found), xscale="log")
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    axes.set_xticks([1.5, 2, 3, 5, 8, 12])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _by_wave(name: str, axes: Axes, found: Sequence[Evaluation]) -> None:
    _points(axes, found, name)
    axes.set(xlabel=WAVE_LABEL, ylabel=_at(name, found), xlim=(3780, 5020))


def _cuts(axes: Axes, found: Sequence[Evaluation]) -> None:
    from scoring.evaluate.stored import STEPS

    for k, each in enumerate(found):
        for name, line in (("completeness_after", "-"), ("precision_after", "--")):
            x, value, lo, hi = _xy(each, name)
            axes.errorbar(
                x,
                value,
                yerr=np.clip([value - lo, hi - value], 0, None),
                color=COLOURS[k % len(COLOURS)],
                linestyle=line,
                marker=MARKERS[k % len(MARKERS)],
                markersize=4,
                capsize=2,
                elinewidth=1,
                label=f"{each.model}: {name.split('_')[0]}",
            )
    axes.set_xticks(range(len(STEPS) + 1), ["score", *STEPS], rotation=40, ha="right")
    axes.set(ylim=(0, 1.02), ylabel="share, after each cut in turn")
    axes.legend(loc="best")
