"""Intervals of one success rate."""

from __future__ import annotations

from numbers import Integral
from typing import NamedTuple

import scipy

from inril_core.errors import ConfigError

MAX_TRIALS_N = 10_000_000
"""Above this the counts are taken for a slip."""


class Interval(NamedTuple):
    """Two bounds of one quantity, in the quantity's unit."""

    low: float
    high: float


def check_counts(successes: int, trials: int, what: str = "") -> None:
    """Refuse what cannot be counts of successes and trials.

    Args:
        what: names the policy in the message, e.g. ``control``.

    Raises:
        ConfigError: not whole numbers, no trial, or not 0 <= successes <= trials.
    """
    name = f"{what} " if what else ""
    for word, value in (("successes", successes), ("trials", trials)):
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ConfigError(f"{name}{word} = {value!r}: must be a whole number")
    if not 1 <= trials <= MAX_TRIALS_N:
        raise ConfigError(f"{name}trials = {trials}: must be in [1, {MAX_TRIALS_N}]")
    if not 0 <= successes <= trials:
        raise ConfigError(f"{name}successes = {successes}: must be in [0, {trials}], the number of trials")


def check_confidence(confidence: float) -> None:
    """Raises:
    ConfigError: ``confidence`` is no number in (0.5, 1), or so close to 1 that quantiles lose their digits.
    """
    if not 0.5 < confidence <= 1.0 - 1e-9:  # false for NaN too
        raise ConfigError(f"confidence = {confidence}: must be in (0.5, 1), and at least 1e-9 below 1")


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Score interval (Wilson 1927): its coverage averages the confidence, and is below it for some rates.

    Raises:
        ConfigError: see `check_counts` and `check_confidence`.
    """
    return _interval(successes, trials, confidence, "wilson")


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Exact interval (Clopper & Pearson 1934): it covers every rate with at least the confidence.

    The one to read near 0 and 1, where the score interval is too short.

    Raises:
        ConfigError: see `check_counts` and `check_confidence`.
    """
    return _interval(successes, trials, confidence, "exact")


def _interval(successes: int, trials: int, confidence: float, method: str) -> Interval:
    check_counts(successes, trials)
    check_confidence(confidence)
    found = scipy.stats.binomtest(int(successes), int(trials)).proportion_ci(confidence, method=method)
    return Interval(float(found.low), float(found.high))
