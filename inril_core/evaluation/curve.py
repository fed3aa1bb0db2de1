"""Learning curves from successes and failures: bins with intervals, the dip, and what learning cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inril_core.evaluation.intervals import SuccessRate, success_rate

WINDOW_EPISODES = 20
"""Training episodes over which a success rate is taken: its standard error is then 0.11 at most. The pages
of `inril bench` compare several runs over 40 (`inril_core.bench.measures.TRAINING_WINDOW_EPISODES`)."""


@dataclass(frozen=True)
class Bin:
    """Consecutive episodes as one point."""

    steps: float
    """Control steps at their middle."""
    rate: SuccessRate
    """Their success rate."""


def binned_curve(steps: Sequence[int], successes: Sequence[bool], bins: int) -> list[Bin]:
    """A learning curve of at most `bins` points with equally many episodes each (the last may have fewer).

    steps: control steps done at the end of each episode, ascending.

    Raises:
        ValueError: lengths differ or `bins` is below 1.
    """
    if len(steps) != len(successes) or bins < 1:
        raise ValueError(
            f"{len(steps)} steps, {len(successes)} successes, {bins} bins: need equal lengths and bins >= 1"
        )
    size = max(1, -(-len(steps) // bins))
    curve = []
    for start in range(0, len(steps), size):
        part = slice(start, start + size)
        won = successes[part]
        curve.append(Bin(0.5 * (steps[part][0] + steps[part][-1]), success_rate(sum(won), len(won))))
    return curve


def moving_rate(successes: Sequence[bool], window: int = WINDOW_EPISODES) -> np.ndarray:
    """float64[max(n - window + 1, 0)]: success rate of each `window` consecutive episodes."""
    if len(successes) < window:
        return np.zeros(0)
    return np.convolve(np.asarray(successes, np.float64), np.full(window, 1.0 / window), "valid")


def dip_depth(before: float, successes: Sequence[bool], window: int = WINDOW_EPISODES) -> float | None:
    """How far success fell while training: `before` minus the lowest moving rate, at least 0.

    before: success rate of the policy that training began with. None with fewer episodes than `window`.
    Training episodes explore, so a part of the dip is exploration, not forgetting.
    """
    rates = moving_rate(successes, window)
    return max(0.0, before - float(rates.min())) if len(rates) else None


def failures_until(rate: float, successes: Sequence[bool], window: int = WINDOW_EPISODES) -> int | None:
    """Failed episodes until the end of the first `window` whose success reaches `rate`; None: none does."""
    reached = np.flatnonzero(moving_rate(successes, window) >= rate - 1e-9)
    return None if len(reached) == 0 else sum(not s for s in successes[: int(reached[0]) + window])
