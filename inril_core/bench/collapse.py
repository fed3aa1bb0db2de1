"""Which methods one would let run on a robot: those that keep a working policy working, and are not slow for it."""

from collections.abc import Mapping, Sequence

from inril_core.bench import measures, statistics
from inril_core.bench.job import Line

DROP_POINTS = 10.0
"""A learning curve that falls further below its first point on any seed has collapsed."""
RATE = 0.95
SLOWER = 1.3
"""Steps to `RATE` that are allowed, as a multiple of the fastest method's."""

HEAD = (
    "method",
    "largest drop on any seed, points",
    f"largest fall after {100 * measures.REACHED:.0f} %",
    f"thousand steps to {100 * RATE:.0f} %",
    "over the fastest",
    "bounds kept",
)
TEXT = (
    f"Bounds: no seed's learning curve falls more than {DROP_POINTS:.0f} points below its first point, and one of its "
    f"evaluations reaches {100 * RATE:.0f} % on every seed, on average within {SLOWER} times the steps of the fastest "
    "method that reaches it on every seed. A fall from a height above the start breaks no bound and stands beside it. "
    "Steps here are those of the evaluations alone. Means are IQMs; ≥: a run that never got there counts with all its "
    "steps."
)


def rows(groups: Mapping[str, Sequence[Line]]) -> list[list[str]]:
    """One row per method, as `HEAD`."""
    steps = {method: [measures.steps_to_evaluated(line, RATE) for line in lines] for method, lines in groups.items()}
    means = {method: statistics.iqm([s.steps / 1000 for s in found]).value for method, found in steps.items()}
    arrived = [means[method] for method, found in steps.items() if all(s.reached for s in found)]
    table = []
    for method, lines in groups.items():
        falls = [fall for fall in map(measures.drop_after_reaching, lines) if fall is not None]
        drop = max(100.0 * measures.worst_drop(line) for line in lines)
        missed = sum(not s.reached for s in steps[method])
        ratio = means[method] / min(arrived) if arrived else float("nan")
        kept = (
            "**yes**" if len(lines) >= statistics.MIN_SEEDS else f"so far ({len(lines)} seed{'s' * (len(lines) > 1)})"
        )
        broken = [
            *([f"fell {drop:.0f} points"] if drop > DROP_POINTS else []),
            *([f"{missed} of {len(lines)} seeds missed {100 * RATE:.0f} %"] if missed else []),
            *([f"{ratio:.1f} times the steps"] if not missed and ratio > SLOWER else []),
        ]
        table.append(
            [
                method,
                f"{drop:.0f}",
                f"{100 * max(falls):.0f}" if falls else "–",
                f"{'≥ ' * bool(missed)}{means[method]:.1f}",
                f"{'≥ ' * bool(missed)}{ratio:.2f}" if arrived else "–",
                f"no: {', '.join(broken)}" if broken else kept,
            ]
        )
    return table
