"""Two methods against each other, run for run, and in plain words whether one can be told to be better."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from inril_core.bench import measures, statistics
from inril_core.bench.job import Line
from inril_core.bench.statistics import MIN_SEEDS, Estimate

Runs = Mapping[tuple[str, int], Line]
"""Finished runs of one method by (task, seed)."""


def runs(lines: Sequence[Line], method: str) -> dict[tuple[str, int], Line]:
    """The finished runs of a method."""
    return {(line["task"], line["seed"]): line for line in lines if line["method"] == method}


@dataclass(frozen=True)
class Finding:
    """One comparison: what was measured, how large it is, and what may be concluded."""

    what: str
    estimate: Estimate | None
    winner: str | None
    """Name of the better method; None: cannot be told."""
    reason: str
    """Why not, otherwise empty."""


def steps_ratio(names: tuple[str, str], a: Runs, b: Runs, rate: float = 0.9, for_good: bool = True) -> Finding:
    """Steps of A over steps of B until ``rate`` is reached (for good), in pairs of one task and seed.

    A run that never gets there counts with all its steps, a lower bound. So nothing is concluded for a method that
    missed the rate somewhere: its advantage would be made up.
    """
    goal = f"{100 * rate:.0f} %{' for good' if for_good else ''}"
    what = f"steps to {goal}, {names[0]} / {names[1]}"
    pairs = sorted(a.keys() & b.keys())
    if not pairs:
        return Finding(what, None, None, "no seed was run with both")
    steps = [[measures.steps_to(runs[pair], rate, for_good) for pair in pairs] for runs in (a, b)]
    missed = [sum(not s.reached for s in method) for method in steps]
    notes = [f"{n} missed it on {k} of {len(pairs)}" for n, k in zip(names, missed, strict=True) if k]
    what += f" ({'; '.join(notes)}: counted with the whole run)" if notes else ""
    if all(k == len(pairs) for k in missed):
        return Finding(what, None, None, f"neither reached {goal}")
    estimate = statistics.ratio(*([max(s.steps, 1.0) for s in method] for method in steps))
    finding = _decide(what, estimate, 1.0, (names[1], names[0]), _seeds(pairs))
    if finding.winner is not None and missed[names.index(finding.winner)]:
        return Finding(what, estimate, None, f"{finding.winner} did not get there on every seed")
    return finding


def final_difference(names: tuple[str, str], a: Runs, b: Runs) -> Finding:
    """Final success of A minus that of B in percentage points, mean over pairs of one task and seed."""
    what = f"final success in points, {names[0]} - {names[1]}"
    return _paired(what, names, a, b, lambda line: 100.0 * measures.final_rate(line))


def drop_difference(names: tuple[str, str], a: Runs, b: Runs) -> Finding:
    """Worst drop of B minus that of A in percentage points: above 0, A falls less."""
    what = f"worst drop in points, {names[1]} - {names[0]}"
    return _paired(what, names, a, b, lambda line: -100.0 * measures.worst_drop(line))


def improvement(names: tuple[str, str], a: Runs, b: Runs) -> Finding:
    """Probability that a run of A ends higher than a run of B."""
    what = f"probability that {names[0]} ends higher than {names[1]}"
    tasks = sorted({task for task, _ in a} & {task for task, _ in b})
    columns = [
        [[measures.final_rate(runs[key]) for key in sorted(runs) if key[0] == t] for t in tasks] for runs in (a, b)
    ]
    if not tasks or any(len({len(c) for c in method}) != 1 for method in columns):
        return Finding(what, None, None, "the tasks have different numbers of finished seeds")
    scores = [list(zip(*method, strict=True)) for method in columns]
    estimate = statistics.improvement(*scores)
    return _decide(what, estimate, 0.5, names, estimate.n)


def _paired(what: str, names: tuple[str, str], a: Runs, b: Runs, score: Callable[[Line], float]) -> Finding:
    pairs = sorted(a.keys() & b.keys())
    if not pairs:
        return Finding(what, None, None, "no seed was run with both")
    return _decide(what, statistics.mean([score(a[p]) - score(b[p]) for p in pairs]), 0.0, names, _seeds(pairs))


def _decide(what: str, estimate: Estimate, even: float, names: tuple[str, str], seeds: int) -> Finding:
    """names: the winner above ``even``, the winner below."""
    if seeds < MIN_SEEDS:
        return Finding(what, estimate, None, f"{seeds} seeds are too few, {MIN_SEEDS} are needed")
    if not estimate.excludes(even):
        return Finding(what, estimate, None, f"the interval contains {even:g}")
    return Finding(what, estimate, names[0] if estimate.low > even else names[1], "")


def _seeds(pairs: Sequence[tuple[str, int]]) -> int:
    tasks = {task for task, _ in pairs}
    return min(sum(task == own for own, _ in pairs) for task in tasks)


def compare(names: tuple[str, str], a: Runs, b: Runs) -> list[Finding]:
    """All that is compared."""
    return [
        steps_ratio(names, a, b, 0.9),
        steps_ratio(names, a, b, 0.9, for_good=False),
        steps_ratio(names, a, b, 0.5),
        final_difference(names, a, b),
        improvement(names, a, b),
        drop_difference(names, a, b),
    ]


def sentence(finding: Finding) -> str:
    """For people."""
    verdict = f"cannot tell: {finding.reason}" if finding.winner is None else f"{finding.winner} is better"
    return (
        f"{finding.what}: {interval(finding.estimate)}: {verdict}" if finding.estimate else f"{finding.what}: {verdict}"
    )


def interval(estimate: Estimate | None, digits: int = 2) -> str:
    """``value [low, high]``; of fewer than `MIN_SEEDS` runs the value alone."""
    if estimate is None:
        return "-"
    if estimate.n < MIN_SEEDS:
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"
