"""What one finished run is worth: numbers of a line, none of which needs another run."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inril_core.bench.job import Line
from inril_core.evaluation.curve import moving_rate

REACHED = 0.8
"""After this success rate a fall counts as a collapse of something that worked."""
TRAINING_WINDOW_EPISODES = 40
"""Training episodes in one smoothed rate: its standard error is then 0.08 at most."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StepsTo:
    """When a run came to a success rate."""

    steps: float
    """Environment steps, warm-up included; as many as were observed where the rate was not reached."""
    reached: bool
    """False: not within `steps`."""


def start_rate(line: Line) -> float:
    """Success of the cloned policy."""
    return float(line["start_successes"] / line["start_episodes"])


def final_rate(line: Line) -> float:
    """Success after fine-tuning; the weights are the last ones."""
    return float(line["final_successes"] / line["final_episodes"])


def warmup_steps(line: Line) -> int:
    """Environment steps before the first update."""
    return int(line["first_update_step"])


def curve(line: Line) -> tuple[Array, Array]:
    """Steps and success rates of the evaluations during training; the first is before the first update."""
    steps, wins, episodes = np.array(line["curve"], np.float64).reshape(-1, 3).T
    return steps, wins / episodes


def lowest(line: Line) -> float:
    """Lowest rate on the learning curve after the first update."""
    rates = curve(line)[1]
    return float(rates[1:].min()) if len(rates) > 1 else float("nan")


def worst_drop(line: Line) -> float:
    """How far the learning curve falls below its first point, the cloned policy on the same starts; 0: never below."""
    return max(0.0, float(curve(line)[1][0]) - lowest(line))


def worst_training_drop(line: Line) -> float:
    """The same in training episodes, which explore: the rate during the warm-up minus the lowest one of
    `TRAINING_WINDOW_EPISODES` consecutive episodes after it. NaN with fewer episodes."""
    steps, wins = training(line)
    before = wins[steps <= warmup_steps(line)]
    rates = moving_rate(list(wins[steps > warmup_steps(line)].astype(bool)), TRAINING_WINDOW_EPISODES)
    if len(before) == 0 or len(rates) == 0:
        return float("nan")
    return max(0.0, float(before.mean() - rates.min()))


def drop_after_reaching(line: Line, rate: float = REACHED) -> float | None:
    """The largest fall of the learning curve from its highest point so far, counted from the first point at or above
    ``rate``; None: it never got there."""
    rates = curve(line)[1]
    above = np.flatnonzero(rates >= rate - 1e-9)
    if len(above) == 0:
        return None
    later = rates[above[0] :]
    return float((np.maximum.accumulate(later) - later).max())


def training(line: Line) -> tuple[Array, Array]:
    """Step at the end, and success (0 or 1), of each training episode."""
    steps, wins = np.array(line["train"], np.float64).reshape(-1, 2).T
    return steps, wins


def success_signal(line: Line) -> tuple[Array, Array]:
    """Success over steps from everything that was seen: at the end of each training episode, the successes of all
    training episodes and evaluation episodes of the last W steps over their number. W is the distance of two
    evaluations, so about one evaluation counts at any time. Begins when W steps are done."""
    window = float(line["curve_settings"][1])
    steps, wins = training(line)
    at = steps[steps >= window]
    points = np.array(line["curve"], np.float64).reshape(-1, 3)
    seen = np.concatenate([steps, points[:, 0]])
    won = np.concatenate([wins, points[:, 1]])
    episodes = np.concatenate([np.ones_like(wins), points[:, 2]])
    order = np.argsort(seen, kind="stable")
    seen = seen[order]
    sums = np.concatenate([np.zeros((1, 2)), np.cumsum(np.stack([won[order], episodes[order]], 1), 0)])
    upto, since = np.searchsorted(seen, at, "right"), np.searchsorted(seen, at - window, "right")
    total = sums[upto] - sums[since]
    return at, total[:, 0] / total[:, 1]


def steps_to(line: Line, rate: float, for_good: bool = True) -> StepsTo:
    """Steps until `success_signal` reaches ``rate``: for the first time, or (default) for good, that is, after the last
    time it was below. Not reached: the steps of the whole run, which is then a lower bound."""
    at, rates = success_signal(line)
    above = rates >= rate - 1e-9
    if not above.any() or (for_good and not above[-1]):
        return StepsTo(float(line["env_steps"]), False)
    below = np.flatnonzero(~above)
    since = below[-1] + 1 if len(below) else 0
    return StepsTo(float(at[since if for_good else np.argmax(above)]), True)


def steps_to_evaluated(line: Line, rate: float) -> StepsTo:
    """Steps until an evaluation (without exploration) on the learning curve first reaches ``rate``."""
    steps, rates = curve(line)
    above = np.flatnonzero(rates >= rate - 1e-9)
    return StepsTo(float(steps[above[0]]), True) if len(above) else StepsTo(float(line["env_steps"]), False)


def failures_before_lasting(line: Line, rate: float = 0.9) -> tuple[int, bool]:
    """Failed training episodes after the warm-up until ``rate`` is reached for good, and whether it was; if not, all.
    What a person beside the robot sees."""
    reached = steps_to(line, rate)
    steps, wins = training(line)
    counted = (steps > warmup_steps(line)) & (steps <= reached.steps)
    return int((1.0 - wins[counted]).sum()), reached.reached


def drop_by_chance(rate: float, episodes: int, points: int) -> float:
    """Mean worst drop of a policy that never changes, from the spread of its evaluations alone.

    rate: its success. episodes: per point. points: of the curve, the first included.
    """
    draws = np.random.default_rng(0).binomial(episodes, rate, (4000, points)) / episodes
    return float(np.maximum(0.0, draws[:, 0] - draws[:, 1:].min(1)).mean())
