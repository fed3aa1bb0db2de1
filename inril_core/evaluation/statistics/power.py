"""How many trials a question needs."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import scipy

from inril_core.errors import ConfigError
from inril_core.evaluation.statistics.proportions import check_confidence

MAX_TRIALS_N = 20_000
EXACT_MAX_TRIALS_N = 2000
"""Trials up to which the power is enumerated."""


def check_question(baseline: float, difference: float, power: float) -> None:
    """Raises:
    ConfigError: a rate is outside [0, 1], there is no difference, or the power is outside (0, 1).
    """
    if not 0.0 <= baseline <= 1.0:
        raise ConfigError(f"baseline = {baseline}: must be a success rate in [0, 1]")
    if not (difference > 0.0 and baseline + difference <= 1.0):
        raise ConfigError(
            f"difference = {difference}: must be above 0, and {baseline} + difference at most 1; it is a difference of "
            "success rates, e.g. 0.15"
        )
    if not 0.0 < power < 1.0:
        raise ConfigError(f"power = {power}: must be in (0, 1), e.g. 0.8")


def unpaired_trials_n(baseline: float, difference: float, power: float = 0.8, confidence: float = 0.95) -> int:
    """Trials of each policy that a two-sided test of two independent proportions needs (Fleiss, Levin & Paik,
    Statistical Methods for Rates and Proportions, 3rd ed., eq. 4.14, without continuity correction).

    Raises:
        ConfigError: see `check_question`; or more than `MAX_TRIALS_N` are needed.
    """
    check_question(baseline, difference, power)
    check_confidence(confidence)
    p1, p2 = baseline, baseline + difference
    mean = 0.5 * (p1 + p2)
    alarm, found = float(scipy.stats.norm.isf((1 - confidence) / 2)), float(scipy.stats.norm.ppf(power))
    spread = alarm * math.sqrt(2 * mean * (1 - mean)) + found * math.sqrt(p1 * (1 - p1) + p2 * (1 - p2))
    ratio = min(spread / difference, float(MAX_TRIALS_N))  # a difference next to 0 would need an infinite number
    return _bounded(max(2, math.ceil(ratio**2 - 1e-9)), difference)


def paired_trials_n(baseline: float, difference: float, power: float = 0.8, confidence: float = 0.95) -> int:
    """Shared starts on which McNemar's exact test finds the difference with this power.

    The outcomes of the two policies on a start are taken as independent; where both find the same starts hard it needs
    fewer.

    Raises:
        ConfigError: see `check_question`; or more than `MAX_TRIALS_N` are needed.
    """
    check_question(baseline, difference, power)
    check_confidence(confidence)
    n = unpaired_trials_n(baseline, difference, power, confidence)
    if n > EXACT_MAX_TRIALS_N:  # there the exact test loses next to nothing
        return n
    while paired_power(n, baseline, difference, confidence) < power:
        n += 1
    return _bounded(n, difference)


def paired_power(pairs_n: int, baseline: float, difference: float, confidence: float = 0.95) -> float:
    """Probability that McNemar's exact test says "better" when it is so, enumerated.

    Raises:
        ConfigError: see `check_question`.
    """
    check_question(baseline, difference, 0.5)
    better = baseline + difference
    wins, losses = better * (1 - baseline), baseline * (1 - better)
    differing = wins + losses
    counts = np.arange(pairs_n + 1)
    chance = scipy.stats.binom.pmf(counts, pairs_n, differing)
    needed = np.array([_wins_needed(int(d), 1 - confidence) for d in counts])
    return float(chance @ scipy.stats.binom.sf(needed - 1, counts, wins / differing if differing else 0.0))


@cache
def _wins_needed(differing_n: int, alpha: float) -> int:
    """Least wins among this many pairs that differ with which the two-sided exact test says "better"."""
    wins = int(scipy.stats.binom.isf(alpha / 2, differing_n, 0.5)) + 1
    while wins > 0 and 2 * scipy.stats.binom.sf(wins - 2, differing_n, 0.5) <= alpha:
        wins -= 1
    while 2 * scipy.stats.binom.sf(wins - 1, differing_n, 0.5) > alpha and wins <= differing_n:
        wins += 1
    return wins


def _bounded(trials_n: int, difference: float) -> int:
    if trials_n > MAX_TRIALS_N:
        raise ConfigError(
            f"difference = {difference}: needs {trials_n} or more trials of each policy; ask for a larger one"
        )
    return trials_n
