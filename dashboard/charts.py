"""A plot as data: drawn in the browser by Vega, and by matplotlib for a paper; both say what they show."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

MOST_POINTS = 4000
COLOURS = ("#0b57a4", "#b3261e", "#1e7b34", "#8a5a00", "#6b3fa0", "#00696e", "#7a7d88")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4])


@dataclass(frozen=True)
class Series:
    """One curve or cloud.

    Attributes
    ----------
    label : str  name in the legend
    x, y : array_like, shape (n,)
    lo, hi : array_like, shape (n,), or None  ends of the 95% interval of y
    kind : str  line, points, bars or steps
    faint : bool  drawn small and light, as a background
    """

    label: str
    x: ArrayLike
    y: ArrayLike
    lo: ArrayLike | None = None
    hi: ArrayLike | None = None
    kind: str = "line"
    faint: bool = False


@dataclass(frozen=True)
class Chart:
    """One plot.

    Attributes
    ----------
    key : str  name of the files downloaded
    title, x_label, y_label : str
    series : list of Series
    shows : str  model, run, selection and date
    says : str  the plot in words, for who cannot see it
    log_x, log_y, reverse_x : bool
    x_range, y_range : (float, float) or None
    """

    key: str
    title: str
    x_label: str
    y_label: str
    series: list[Series]
    shows: str
    says: str = ""
    log_x: bool = False
    log_y: bool = False
    reverse_x: bool = False
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    names: list[str] = field(default_factory=list)

    def frame(self) -> pd.DataFrame:
        """The data, one row a point: series, x, y, lo, hi."""
        parts = []
        for one in self.series:
            x = np.atleast_1d(np.asarray(one.x, dtype=float))
            nothing = np.full(len(x), np.nan)
            parts.append(
                pd.DataFrame(
                    {
                        "series": one.label,
                        "x": x,
                        "y": np.atleast_1d(np.asarray(one.y, dtype=float)),
                        "lo": nothing if one.lo is None else np.asarray(one.lo, dtype=float),
                        "hi": nothing if one.hi is None else np.asarray(one.hi, dtype=float),
                    }
                )
            )
        return (
            pd.concat(parts, ignore_index=True)
            if parts
            else pd.DataFrame(columns=["series", "x", "y", "lo", "hi"])
        )

    def csv(self) -> bytes:
        """The data as CSV; the first line says what it is."""
        head = f"# {self.title}; {self.shows}; x: {self.x_label}; y: {self.y_label}\n"
        return (head + self.frame().to_csv(index=False)).encode()

    def description(self) -> str:
        """The plot in words."""
        counts = ", ".join(
            f"{s.label} with {len(np.atleast_1d(np.asarray(s.x)))} points" for s in self.series
        )
        return f"{self.title}. {self.says} {self.y_label} against {self.x_label}: {counts}. {self.shows}"

    def vega(self) -> Any:
        """Altair chart for the browser."""
        import altair as alt

        labels = [s.label for s in self.series]
        colour = alt.Color(
            "series:N",
            title=None,
            sort=labels,
            scale=alt.Scale(domain=labels, range=list(COLOURS[: len(labels)])),
            legend=alt.Legend(orient="top", labelLimit=400, symbolOpacity=1) if len(labels) > 1 else None,
        )
        frame = self.frame()
        layers = []
        for k, one in enumerate(self.series):
            rows = frame[frame["series"] == one.label]
            x = alt.X("x:Q", title=self.x_label, scale=self._scale(self.log_x, self.x_range, self.reverse_x))
            y = alt.Y("y:Q", title=self.y_label, scale=self._scale(self.log_y, self.y_range, False))
            tip = [
                alt.Tooltip("series:N"),
                alt.Tooltip("x:Q", format=".5g", title=self.x_label),
                alt.Tooltip("y:Q", format=".5g", title=self.y_label),
            ]
            if one.kind == "points" and len(rows) > MOST_POINTS:
                rows = rows.sample(MOST_POINTS, random_state=1)
            base = alt.Chart(rows)
            if one.lo is not None and one.kind == "line":
                layers.append(
                    base.mark_area(opacity=0.15).encode(x=x, y=alt.Y("lo:Q"), y2="hi:Q", color=colour)
                )
            elif one.lo is not None:
                layers.append(base.mark_rule().encode(x=x, y=alt.Y("lo:Q"), y2="hi:Q", color=colour))
            if one.kind == "line":
                layers.append(
                    base.mark_line(strokeDash=DASHES[k % len(DASHES)]).encode(
                        x=x, y=y, color=colour, tooltip=tip, order="x:Q"
                    )
                )
            elif one.kind == "steps":
                layers.append(
                    base.mark_line(interpolate="step-after").encode(
                        x=x, y=y, color=colour, tooltip=tip, order="x:Q"
                    )
                )
            elif one.kind == "bars":
                continue
            else:
                size = 12 if one.faint else 45
                layers.append(
                    base.mark_circle(size=size, opacity=0.25 if one.faint else 0.85).encode(
                        x=x, y=y, color=colour, tooltip=tip
                    )
                )
        if any(s.kind == "bars" for s in self.series):
            layers.append(self._bars(frame, colour))
        chart = alt.layer(*layers) if layers else alt.Chart(frame).mark_point()
        return chart.properties(height=420, description=self.description())

    def _bars(self, frame: pd.DataFrame, colour: Any) -> Any:
        """Bars of every series, side by side at each name."""
        import altair as alt

        labels = [s.label for s in self.series if s.kind == "bars"]
        floor = 0.5 if self.log_y else 0.0
        rows = frame[frame["series"].isin(labels)].assign(floor=floor)
        rows = rows.assign(name=[self.names[int(v)] for v in rows["x"]])
        top = max(float(rows["y"].max()), 1.0)
        decades = [10.0**k for k in range(int(np.ceil(np.log10(2 * top))) + 1)]
        axis = alt.Axis(values=decades, format="~s") if self.log_y else alt.Axis()
        scale = (
            alt.Scale(type="log", domain=[floor, 2 * top])
            if self.log_y
            else alt.Scale(domain=[0, 1.05 * top])
        )
        return (
            alt.Chart(rows)
            .mark_bar()
            .encode(
                x=alt.X("name:N", title=self.x_label, sort=self.names, axis=alt.Axis(labelAngle=-30)),
                xOffset=alt.XOffset("series:N", sort=labels),
                y=alt.Y("y:Q", title=self.y_label, scale=scale, axis=axis),
                y2="floor:Q",
                color=colour,
                tooltip=[alt.Tooltip("name:N"), alt.Tooltip("series:N"), alt.Tooltip("y:Q", format=",.0f")],
            )
        )

    def _scale(self, log: bool, limits: tuple[float, float] | None, reverse: bool) -> Any:
        import altair as alt

        options: dict[str, Any] = {"zero": False, "reverse": reverse}
        if limits is not None:
            options["domain"] = list(limits)
        return alt.Scale(type="log", **options) if log else alt.Scale(**options)

    def picture(self, kind: str = "png") -> bytes:
        """The plot for a paper: png, pdf or svg."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.add_subplot()
        width = 0.8 / max(1, sum(s.kind == "bars" for s in self.series))
        for k, one in enumerate(self.series):
            x, y = np.atleast_1d(np.asarray(one.x, float)), np.atleast_1d(np.asarray(one.y, float))
            colour = COLOURS[k % len(COLOURS)]
            if one.kind == "bars":
                axes.bar(x + k * width - 0.4 + width / 2, y, width, color=colour, label=one.label)
            elif one.kind == "line":
                style = ("-", "--", ":", "-.")[k % 4]
                axes.plot(x, y, color=colour, ls=style, lw=1.4, label=one.label)
            elif one.kind == "steps":
                axes.step(x, y, where="post", color=colour, lw=1.4, label=one.label)
            else:
                axes.plot(
                    x,
                    y,
                    "." if one.faint else "o",
                    ms=1.5 if one.faint else 4,
                    color=colour,
                    alpha=0.3 if one.faint else 0.9,
                    label=one.label,
                )
            if one.lo is not None:
                lo, hi = np.asarray(one.lo, float), np.asarray(one.hi, float)
                if one.kind == "line":
                    axes.fill_between(x, lo, hi, color=colour, alpha=0.15, lw=0)
                else:
                    axes.vlines(x, lo, hi, color=colour, lw=0.9)
        axes.set(xlabel=self.x_label, ylabel=self.y_label, title=self.title)
        if self.names:
            axes.set_xticks(range(len(self.names)), self.names, rotation=30, ha="right", fontsize=8)
        if self.log_x:
            axes.set_xscale("log")
        if self.log_y:
            axes.set_yscale("log")
        if self.x_range:
            axes.set_xlim(*self.x_range)
        if self.y_range:
            axes.set_ylim(*self.y_range)
        if self.reverse_x:
            axes.invert_xaxis()
        if len(self.series) > 1:
            axes.legend(fontsize=8, frameon=False)
        figure.supxlabel(self.shows, fontsize=6, color="#4a4d5a")
        out = io.BytesIO()
        figure.savefig(out, format=kind, dpi=150)
        return out.getvalue()
