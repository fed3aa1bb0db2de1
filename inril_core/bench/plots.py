"""The pictures of a page: learning curves, results per method, gradient cosines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from inril_core.bench import measures, statistics
from inril_core.bench.collapse import DROP_POINTS
from inril_core.bench.job import Line

Array = npt.NDArray[np.float64]
Groups = Mapping[str, Sequence[Line]]
"""Finished runs of one task by method, in the order of the experiment."""

COLUMNS = 4
_GREY, _INK = "0.55", "0.25"
_DPI = 120


def colours(methods: Sequence[str]) -> dict[str, str]:
    """One per method, the same in every picture; grey is the baseline's."""
    cycle = [f"C{number}" for number in range(10) if number != 7]
    return {method: cycle[number % len(cycle)] for number, method in enumerate(methods)}


def learning_curves(groups: Groups, baseline: str | None, colour: Mapping[str, str], path: Path) -> None:
    """A panel per method: the interquartile mean of its evaluations, with its band where there are seeds enough, each
    seed thin at its own evaluations, the training episodes dashed; the baseline in grey in each panel."""
    columns = min(COLUMNS, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(3.1 * columns + 0.4, 2.5 * rows + 0.5), layout="constrained")
    ends = [max(line["env_steps"] for line in lines) for lines in groups.values()]
    alike = max(ends) <= 1.5 * min(ends)  # of very different budgets the short ones would be squeezed
    panels = figure.subplots(rows, columns, sharex=alike, sharey=True, squeeze=False).ravel()
    curves = {method: evaluations(lines) for method, lines in groups.items()}
    for axes, (method, lines) in zip(panels, groups.items(), strict=False):
        if baseline in curves and method != baseline:
            at, scores = curves[baseline]
            axes.plot(at, 100 * statistics.iqm_curve(scores)[0], color=_GREY, lw=1.3, label=baseline)
        at, scores = curves[method]
        middle, low, high = statistics.iqm_curve(scores)
        if len(lines) >= statistics.MIN_SEEDS:
            axes.fill_between(at, 100 * low, 100 * high, color=colour[method], alpha=0.2, lw=0)
        if len(lines) > 1:
            for line in lines:
                steps, rates = measures.curve(line)
                axes.plot(steps, 100 * rates, color=colour[method], alpha=0.45, lw=0.8)
        axes.plot(at, 100 * middle, color=colour[method], lw=2.0, label=method)
        axes.plot(*_training(lines), color=colour[method], lw=1.2, ls=(0, (3, 2)))
        axes.axvline(measures.warmup_steps(lines[0]), color=_GREY, lw=0.8, ls=":")
        axes.set_title(f"{method} (n = {len(lines)})", fontsize=9, color=_INK)
        axes.grid(color="0.92")
        axes.set_ylim(-3, 103)
        if not alike:
            axes.set_xlim(right=1.03 * max(line["env_steps"] for line in lines))
        _thousands(axes)
    for axes in panels[len(groups) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(groups) - columns) : len(groups)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel("thousand environment steps", fontsize=9)
    figure.supylabel("success, %", fontsize=9)
    _save(figure, path)


def results(groups: Groups, colour: Mapping[str, str], path: Path) -> None:
    """Per method: final success, worst drop and steps to 90 %; small points are seeds, bars are 95 % intervals where
    there are seeds enough."""
    figure = Figure(figsize=(11.0, 0.42 * len(groups) + 1.3), layout="constrained")
    final, drop, steps = figure.subplots(1, 3, sharey=True)
    for place, (method, lines) in enumerate(groups.items()):
        first = [100 * measures.start_rate(line) for line in lines]
        final.plot(np.mean(first), place, "o", mfc="none", color=_GREY, ms=6)
        _points(final, [100 * measures.final_rate(line) for line in lines], place, colour[method])
        _points(drop, [100 * measures.worst_drop(line) for line in lines], place, colour[method], with_mean=True)
        for line, shift in zip(lines, _spread(len(lines)), strict=True):
            reached = measures.steps_to(line, 0.9)
            face = colour[method] if reached.reached else "none"
            steps.plot(reached.steps, place + shift, "o", ms=4.5, color=colour[method], mfc=face)
    final.set_yticks(range(len(groups)), list(groups))
    final.invert_yaxis()
    drop.axvline(0, color=_GREY, lw=0.8)
    drop.axvline(DROP_POINTS, color=_GREY, lw=0.8, ls=":")
    final.set_xlim(-3, 103)
    steps.set_xlim(0, 1.05 * steps.get_xlim()[1])
    _thousands(steps)
    final.set_title("success, %: before (ring), after (IQM)", fontsize=9)
    drop.set_title(f"worst drop, points (mean; dotted: {DROP_POINTS:.0f})", fontsize=9)
    steps.set_title("thousand steps to 90 % for good (ring: never)", fontsize=9)
    for axes in (final, drop, steps):
        axes.grid(axis="x", color="0.92")
        axes.set_axisbelow(True)
    _save(figure, path)


def cosines(groups: Groups, colour: Mapping[str, str], path: Path) -> bool:
    """Cosine of the two gradients over updates, and of the step taken with the RL gradient; whether there are any."""
    having = {method: [line for line in lines if line["cosines"]] for method, lines in groups.items()}
    having = {method: lines for method, lines in having.items() if lines}
    if not having:
        return False
    figure = Figure(figsize=(11.0, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    titles = ("cosine of the IL and the RL gradient", "cosine of the step taken and the RL gradient")
    for column, (axes, title) in enumerate(zip(panels, titles, strict=True), 1):
        for method, lines in having.items():
            at, values = _cosine(lines, column)
            if len(at):
                marker = "o" if len(at) <= 5 else ""
                axes.plot(at, values, color=colour[method], lw=1.6, marker=marker, ms=4, label=method)
        axes.axhline(0, color=_INK, lw=0.8, zorder=0)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("updates", fontsize=9)
        axes.grid(color="0.92")
    panels[0].legend(fontsize=8, frameon=False)
    _save(figure, path)
    return True


def evaluations(lines: Sequence[Line]) -> tuple[Array, Array]:
    """Mean steps ``[T]`` of the first, second, ... evaluations of each seed, and their rates ``[n, T]``.

    Episodes end where they end, so that the steps differ by less than an episode. A seed that was stopped early ends
    all of them.
    """
    curves = [measures.curve(line) for line in lines]
    count = min(len(steps) for steps, _ in curves)
    return np.mean([steps[:count] for steps, _ in curves], 0), np.stack([rates[:count] for _, rates in curves])


def _training(lines: Sequence[Line]) -> tuple[Array, Array]:
    """Success in percent of the training episodes of all seeds within half a curve's interval of each step."""
    steps, wins = (np.concatenate(part) for part in zip(*map(measures.training, lines), strict=True))
    half = lines[0]["curve_settings"][1] / 2
    at = np.linspace(half, max(line["env_steps"] for line in lines), 60)
    near = np.abs(steps[None] - at[:, None]) <= half
    seen = near.any(1)
    return at[seen], 100 * (near * wins).sum(1)[seen] / near.sum(1)[seen]


def _cosine(lines: Sequence[Line], column: int) -> tuple[Array, Array]:
    rows = np.array([[row[0], row[column]] for line in lines for row in line["cosines"] if row[column] is not None])
    if len(rows) == 0:
        return np.zeros(0), np.zeros(0)
    bins = np.linspace(rows[:, 0].min(), rows[:, 0].max() + 1, 41)
    place = np.digitize(rows[:, 0], bins)
    filled = np.unique(place)
    return (
        np.array([rows[place == b, 0].mean() for b in filled]),
        np.array([rows[place == b, 1].mean() for b in filled]),
    )


def _points(axes: Axes, values: Sequence[float], place: int, colour: str, with_mean: bool = False) -> None:
    estimate = statistics.mean(values) if with_mean else statistics.iqm(values)
    for value, shift in zip(values, _spread(len(values)), strict=True):
        axes.plot(value, place + shift, "o", color=colour, ms=3, alpha=0.55)
    if estimate.n >= statistics.MIN_SEEDS:
        axes.plot([estimate.low, estimate.high], [place, place], color=colour, lw=2)
    axes.plot(estimate.value, place, "D", color=colour, ms=6)


def _thousands(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda steps, _: f"{steps / 1000:g}")


def _spread(count: int) -> Array:
    """Places beside each other for points of equal value."""
    return np.linspace(-0.22, 0.22, count) if count > 1 else np.zeros(1)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})  # the same lines give the same file
