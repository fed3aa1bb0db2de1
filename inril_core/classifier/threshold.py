"""The threshold of a stated precision, from episodes that training did not see.

One episode is one trial, because its observations resemble each other. It counts as fired where any of its
observations reaches the threshold, and as right where it is a success and none reached it before it could be one. A
small set of thresholds is tried, and the bounds hold for all of them together (Bonferroni), so that choosing among them
does not spoil the confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from inril_core.classifier.examples import Example
from inril_core.classifier.model import Threshold
from inril_core.errors import ConfigError
from inril_core.evaluation.statistics.proportions import clopper_pearson

TRIED = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


def lower_bound(right: int, fired: int, confidence: float, tried: int = 1) -> float:
    """One-sided Clopper-Pearson bound that holds for ``tried`` rates together; 0 where nothing fired."""
    if fired == 0:
        return 0.0
    return clopper_pearson(right, fired, 1.0 - 2.0 * (1.0 - confidence) / tried).low


def needed_n(precision: float, confidence: float, tried: int = len(TRIED)) -> int:
    """Fewest fired episodes, all of them right, whose `lower_bound` reaches ``precision``."""
    return math.ceil(math.log((1.0 - confidence) / tried) / math.log(precision) - 1e-9)


def choose(
    held_out: Sequence[Example],
    scores: Sequence[npt.NDArray[np.float32]],
    precision: float,
    confidence: float,
) -> Threshold:
    """The threshold that finds most successes among those whose bound reaches ``precision``; of equal ones the lowest.

    Args:
        scores: of each held-out episode's observations.

    Raises:
        ConfigError: none does; says how much is missing.
    """
    found = []
    for score in TRIED:
        fired, right = counts(held_out, scores, score)
        low = lower_bound(right, fired, confidence, len(TRIED))
        successes = sum(example.success for example in held_out)
        found.append(Threshold(score, precision, confidence, fired, right, successes, low))
    good = [threshold for threshold in found if threshold.precision_low >= precision]
    if good:
        return max(good, key=lambda threshold: (threshold.right_n, -threshold.score))
    best = max(found, key=lambda threshold: threshold.precision_low)
    raise ConfigError(
        f"no threshold has precision {precision:g} with confidence {confidence:g} on {len(held_out)} held-out "
        "episodes: "
        f"the best, {best.score:g}, was right in {best.right_n} of {best.fired_n}, so its precision is at least "
        f"{best.precision_low:.3f}; label more episodes ({needed_n(precision, confidence)} held-out successes that are "
        "all found would do), or state a lower precision"
    )


def counts(episodes: Sequence[Example], scores: Sequence[npt.NDArray[np.float32]], threshold: float) -> tuple[int, int]:
    """Episodes in which the threshold is reached, and in how many of them rightly."""
    fired = right = 0
    for example, row in zip(episodes, scores, strict=True):
        reached = row >= threshold
        if reached.any():
            fired += 1
            right += example.success and not (reached & example.negative).any()
    return fired, right
