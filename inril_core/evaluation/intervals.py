"""Success rates with their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

from inril_core.errors import ConfigError
from inril_core.evaluation.statistics.proportions import wilson


@dataclass(frozen=True)
class SuccessRate:
    """A success rate with its interval. Rates are in [0, 1]."""

    successes: int
    """Out of `episodes`."""
    episodes: int
    rate: float
    low: float
    """The true rate lies between `low` and `high`, with the confidence that was asked for."""
    high: float


def success_rate(successes: int, episodes: int, confidence: float = 0.95) -> SuccessRate:
    """Rate with its Wilson score interval (Wilson 1927), sound also near 0, near 1 and for few episodes.

    Raises:
        ValueError: no episodes, more successes than episodes, or a confidence outside (0.5, 1).
    """
    if episodes < 1 or not 0 <= successes <= episodes:
        raise ValueError(
            f"{successes} successes in {episodes} episodes: need 0 <= successes <= episodes and episodes >= 1"
        )
    try:
        interval = wilson(successes, episodes, confidence)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return SuccessRate(successes, episodes, successes / episodes, interval.low, interval.high)
