"""Success rates with their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import binomtest


@dataclass(frozen=True)
class SuccessRate:
    """`successes` out of `episodes`, and the interval the true rate lies in. Rates are in [0, 1]."""

    successes: int
    episodes: int
    rate: float
    low: float
    high: float


def success_rate(successes: int, episodes: int, confidence: float = 0.95) -> SuccessRate:
    """Rate with its Wilson score interval (Wilson 1927), sound also near 0, near 1 and for few episodes.

    Raises:
        ValueError: no episodes, more successes than episodes, or a confidence outside (0, 1).
    """
    if episodes < 1 or not 0 <= successes <= episodes:
        raise ValueError(
            f"{successes} successes in {episodes} episodes: need 0 <= successes <= episodes and episodes >= 1"
        )
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence = {confidence}: must be in (0, 1)")
    interval = binomtest(successes, episodes).proportion_ci(confidence, method="wilson")
    return SuccessRate(successes, episodes, successes / episodes, float(interval.low), float(interval.high))
