"""Is one policy better than another, from counts: over independent trials, or over the same starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import scipy  # its parts are loaded at first use, or every learner would load them for a second

from inril_core.errors import ConfigError
from inril_core.evaluation.statistics.proportions import Interval, check_confidence, check_counts, wilson

BARNARD_MAX_TRIALS_N = 200
"""Trials of each policy up to which Barnard's test is computed (0.3 s); above, Fisher's."""


class Verdict(StrEnum):
    """What a comparison says."""

    BETTER = "better"
    WORSE = "worse"
    NO_RELEVANT_GAIN = "no relevant gain"
    """The interval excludes a gain as large as the one that matters."""
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Comparison:
    """A policy against the control."""

    difference: float
    """Success rate of the policy minus the control's, in [-1, 1]."""
    interval: Interval
    """Of the difference."""
    p_value: float
    """Two-sided, of "both are equally good"."""
    verdict: Verdict
    method: str
    """Test and interval, for people."""


def judge(interval: Interval, p_value: float, alpha: float, relevant: float | None = None) -> Verdict:
    """Test and interval must agree before anything is claimed; so the false alarms are at most the test's.

    Args:
        alpha: two-sided false-alarm rate.
        relevant: smallest gain that matters; None: any does.
    """
    if p_value <= alpha and interval.low > 0.0:
        return Verdict.BETTER
    if p_value <= alpha and interval.high < 0.0:
        return Verdict.WORSE
    if relevant is not None and interval.high < relevant:
        return Verdict.NO_RELEVANT_GAIN
    return Verdict.CANNOT_TELL


def compare_unpaired(
    policy: tuple[int, int], control: tuple[int, int], confidence: float = 0.95, relevant: float | None = None
) -> Comparison:
    """Two policies on independent trials.

    The test is Barnard's unconditional exact one with the pooled score (Barnard 1945; Suissa & Shuster 1985), more
    powerful than Fisher's, which conditions on the total of successes; Fisher's is used for large samples, where the
    two agree. The interval is Newcombe's hybrid score interval (Statist. Med. 17, 873, 1998, method 10).

    Args:
        policy, control: successes and trials.

    Raises:
        ConfigError: see `check_counts` and `check_confidence`.
    """
    check_counts(*policy)
    check_counts(*control, "control")
    check_confidence(confidence)
    (k1, n1), (k2, n2) = policy, control
    table = [[k1, k2], [n1 - k1, n2 - k2]]
    if max(n1, n2) <= BARNARD_MAX_TRIALS_N:
        test, p_value = "Barnard's exact test", float(scipy.stats.barnard_exact(table).pvalue)
    else:
        test, p_value = "Fisher's exact test", float(scipy.stats.fisher_exact(table).pvalue)
    p_value = min(p_value, 1.0)
    difference = k1 / n1 - k2 / n2
    interval = newcombe(policy, control, confidence)
    verdict = judge(interval, p_value, 1.0 - confidence, relevant)
    return Comparison(difference, interval, p_value, verdict, f"{test}, Newcombe's interval")


def newcombe(policy: tuple[int, int], control: tuple[int, int], confidence: float) -> Interval:
    """Interval of the difference of two independent success rates, from the Wilson interval of each."""
    (k1, n1), (k2, n2) = policy, control
    p1, p2 = k1 / n1, k2 / n2
    one, two = wilson(k1, n1, confidence), wilson(k2, n2, confidence)
    low = p1 - p2 - math.hypot(p1 - one.low, two.high - p2)
    high = p1 - p2 + math.hypot(one.high - p1, p2 - two.low)
    return Interval(max(low, -1.0), min(high, 1.0))


@dataclass(frozen=True)
class Pairs:
    """Outcomes of two policies on the same starts.

    Raises:
        ConfigError: no pair, or a negative or fractional count.
    """

    wins: int
    """The policy succeeded and the control failed."""
    losses: int
    """The other way round."""
    ties: int
    """Both the same."""

    def __post_init__(self) -> None:
        for name in ("wins", "losses", "ties"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ConfigError(f"{name} = {value!r}: must be a whole number >= 0")
        if self.pairs_n == 0:
            raise ConfigError("no pair: both policies need a finished trial on the same start")

    @property
    def pairs_n(self) -> int:
        """Number of starts that both ran."""
        return self.wins + self.losses + self.ties


def compare_paired(pairs: Pairs, confidence: float = 0.95, relevant: float | None = None) -> Comparison:
    """Two policies on the same starts.

    The test is McNemar's exact one: of the pairs that differ, each side has half under equality, a binomial test. The
    interval is Tango's score interval (Statist. Med. 17, 891, 1998).

    Raises:
        ConfigError: see `check_confidence`.
    """
    check_confidence(confidence)
    differing = pairs.wins + pairs.losses
    p_value = float(scipy.stats.binomtest(pairs.wins, differing, 0.5).pvalue) if differing else 1.0
    interval = tango(pairs, confidence)
    verdict = judge(interval, p_value, 1.0 - confidence, relevant)
    difference = (pairs.wins - pairs.losses) / pairs.pairs_n
    return Comparison(difference, interval, p_value, verdict, "McNemar's exact test, Tango's interval")


def tango(pairs: Pairs, confidence: float) -> Interval:
    """Score interval of the difference of two success rates on the same starts."""
    n, b, c = pairs.pairs_n, pairs.wins, pairs.losses
    z = float(scipy.stats.norm.isf((1.0 - confidence) / 2.0))
    estimate = (b - c) / n

    def score(delta: float) -> float:
        """Falls in delta, and is 0 at the estimate. eq. (3) and (4) of the paper."""
        linear = -b - c + (2 * n - b + c) * delta
        constant = -c * delta * (1.0 - delta)
        q = (math.sqrt(max(linear * linear - 8.0 * n * constant, 0.0)) - linear) / (4.0 * n)
        variance = n * (2.0 * q + delta * (1.0 - delta))
        gap = b - c - n * delta
        return gap / math.sqrt(variance) if variance > 1e-12 else math.copysign(math.inf, gap) if gap else 0.0

    edge, brentq = 1.0 - 1e-9, scipy.optimize.brentq
    low = -1.0 if score(-edge) <= z else brentq(lambda d: score(d) - z, -edge, estimate - 1e-12 if b < n else edge)
    high = 1.0 if score(edge) >= -z else brentq(lambda d: score(d) + z, estimate + 1e-12 if c < n else -edge, edge)
    return Interval(float(low), float(high))
