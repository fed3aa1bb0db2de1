"""The report's plots as inline SVG that follows the page's light or dark colours."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from inril_core.evaluation.curve import Bin
from inril_core.evaluation.intervals import SuccessRate

# Drawn in these, then replaced by the page's CSS variables.
_COLOURS = {
    "#010101": "var(--ink)",
    "#020202": "var(--soft)",
    "#030303": "var(--line)",
    "#040404": "var(--first)",
    "#050505": "var(--second)",
    "#060606": "var(--third)",
}
INK, SOFT, LINE, FIRST, SECOND, THIRD = _COLOURS
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
MAX_POINTS = 400


def learning_curve(
    bins: Sequence[Bin], evaluations: Sequence[tuple[float, SuccessRate]], real_time_from: float | None
) -> Markup:
    """Success over control steps: binned training episodes as a band, evaluations as points with intervals.

    real_time_from: control steps at which training went over to real time, if it did.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(8.4, 3.6, "training steps (control steps)", "success rate")
        if bins:
            x = [b.steps for b in bins]
            axes.fill_between(x, [b.rate.low for b in bins], [b.rate.high for b in bins], color=FIRST, alpha=0.18, lw=0)
            axes.plot(
                x,
                [b.rate.rate for b in bins],
                color=FIRST,
                marker="o",
                ms=3.5,
                lw=1.6,
                label="training (explores)",
            )
        if evaluations:
            rates = [rate for _, rate in evaluations]
            below = [r.rate - r.low for r in rates]
            above = [r.high - r.rate for r in rates]
            axes.errorbar(
                [step for step, _ in evaluations],
                [r.rate for r in rates],
                yerr=[below, above],
                fmt="D",
                color=SECOND,
                ms=7,
                capsize=4,
                lw=1.8,
                zorder=5,
                label="evaluation (deterministic)",
            )
        if real_time_from is not None:
            axes.axvline(real_time_from, color=SOFT, lw=1.0, ls=(0, (4, 3)), label="real time from here")
        axes.set_ylim(-0.03, 1.03)
        add_legend(axes)
        return as_svg(figure, "learning curve")


def series(
    rows: Sequence[Mapping[str, float]], names: Mapping[str, str], title: str, zero_line: bool = False
) -> Markup:
    """Metrics over updates. names: metric to legend text; metrics that no row has are left out."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(3.9, 2.6, "updates", "")
        figure.suptitle(title, fontsize=10.5, color=INK, x=0.02, ha="left")
        if zero_line:
            axes.axhline(0.0, color=SOFT, lw=1.0)
        drawn = 0
        for colour, (name, label) in zip((FIRST, SECOND, THIRD), names.items(), strict=False):
            points = [(row["updates"], row[name]) for row in rows if name in row]
            if points:
                x, y = thinned(np.array(points))
                axes.plot(x, y, color=colour, lw=1.5, marker="o" if len(x) == 1 else None, label=label)
                drawn += 1
        if drawn > 1:
            add_legend(axes)
        return as_svg(figure, title)


def histogram(values: np.ndarray, expected: float, xlabel: str) -> Markup:
    """How often which value, logarithmic so that one outlier is seen; a line at the expected one."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(8.4, 2.7, xlabel, "control periods")
        finite = values[np.isfinite(values)]
        low, high = float(min(finite.min(), expected)), float(max(finite.max(), expected))
        margin = max(0.02 * (high - low), 0.01 * abs(expected))
        axes.hist(finite, bins=80, range=(low - margin, high + margin), color=FIRST, log=True)
        axes.axvline(expected, color=SECOND, lw=1.4, ls=(0, (4, 3)), label=f"contract: {expected:.0f} ms")
        axes.set_ylim(bottom=0.7)
        axes.yaxis.set_major_formatter(ScalarFormatter())
        add_legend(axes)
        return as_svg(figure, "control periods")


def thinned(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64[n, 2] as x and y with at most about `MAX_POINTS` points, each the mean of its neighbours."""
    size = -(-len(points) // MAX_POINTS)
    whole = len(points) // size * size
    means = points[:whole].reshape(-1, size, 2).mean(axis=1)
    return means[:, 0], means[:, 1]


def new_axes(width_in: float, height_in: float, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """A figure on the page's own background; to be used within ``matplotlib.rc_context(STYLE)``."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.subplots()
    axes.patch.set_alpha(0.0)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.tick_params(length=3)
    return figure, axes


def add_legend(axes: Axes) -> None:
    """Above the plot, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2, handlelength=1.6)


def as_svg(figure: Figure, label: str) -> Markup:
    """The figure inline, in the page's colours. label: for readers of the page who do not see it."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": label}):  # ids differ between plots and not between runs
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for drawn, shown in _COLOURS.items():
        text = text.replace(drawn, shown)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    title = Markup('<svg role="img" aria-label="{}" ').format(label)
    return Markup(text.replace("<svg ", str(title), 1))
