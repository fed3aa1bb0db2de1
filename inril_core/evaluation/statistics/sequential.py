"""Comparison of two policies on the same starts that may be looked at after every pair.

A confidence sequence by betting (Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting",
JRSS B 86, 1, 2024, sections 4.1 and 4.3): for each candidate m of a mean in [0, 1] a gambler with capital 1 bets
against it. If m is the mean, the capital is a non-negative martingale, and by Ville's inequality (1939) it ever reaches
1/alpha with probability alpha at most. So whoever stops when he likes errs no more often than alpha.

Bets are a uniform mixture over shares of the capital that may be lost, on both sides (Robbins 1970), so the order of
the outcomes does not matter and nothing is tuned.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import scipy

from inril_core.errors import ConfigError
from inril_core.evaluation.statistics.comparison import Comparison, Pairs, Verdict, judge
from inril_core.evaluation.statistics.proportions import Interval, check_confidence

SHARES_N = 48
GRID_N = 1001
"""Candidates of the mean; the bounds are moved outwards by one step, 0.002 of the difference."""

Array = npt.NDArray[np.float64]


def log_capital(wins: Array | int, ties: Array | int, losses: Array | int, mean: Array | float) -> Array:
    """Log of the gambler's capital against ``mean`` in (0, 1), where a win is 1, a tie 1/2 and a loss 0. Broadcasts."""
    w, t, lost, m = (np.asarray(value, np.float64)[..., None] for value in (wins, ties, losses, mean))
    share = (np.arange(SHARES_N) + 0.5) / SHARES_N
    upwards = w * np.log1p(share * (1 / m - 1)) + t * np.log1p(share * (0.5 / m - 1)) + lost * np.log1p(-share)
    other = 1 - m
    downwards = (
        w * np.log1p(-share) + t * np.log1p(share * (0.5 / other - 1)) + lost * np.log1p(share * (1 / other - 1))
    )
    both = scipy.special.logsumexp(np.stack([upwards, downwards], -1), axis=(-2, -1))
    return np.asarray(both - np.log(2 * SHARES_N))


@cache
def log_capital_if_worse(wins: int, losses: int) -> float:
    """Log of the capital of a gambler who bets that the policy is worse than the control.

    Against "not worse"; pairs that agree change nothing. It ever reaches 1/alpha with probability alpha at most, where
    the policy is not worse.
    """
    share = (np.arange(SHARES_N) + 0.5) / SHARES_N
    return float(scipy.special.logsumexp(wins * np.log1p(-share) + losses * np.log1p(share)) - np.log(SHARES_N))


@cache
def _grid() -> Array:
    return np.linspace(0.0, 1.0, GRID_N)


def interval_after(pairs: Pairs, confidence: float = 0.95) -> Interval:
    """What these pairs say of the difference of the success rates; all such intervals of one session hold together."""
    check_confidence(confidence)
    means = _grid()[1:-1]
    capital = log_capital(pairs.wins, pairs.ties, pairs.losses, means)
    kept = np.flatnonzero(capital < -np.log(1.0 - confidence))
    if len(kept) == 0:  # the mean lies between two candidates, or at an end
        kept = np.array([int(np.argmin(capital))])
    low, high = _grid()[kept[0]], _grid()[kept[-1] + 2]
    return Interval(float(2 * low - 1), float(2 * high - 1))


class SequentialComparison:
    """A policy against the control, pair by pair. Once it has decided it stays so."""

    def __init__(self, confidence: float = 0.95, relevant: float | None = None) -> None:
        """Args:
        confidence: 1 - the two-sided false-alarm rate over all looks together.
        relevant: smallest gain that matters: when it is excluded the comparison ends too; None: never.

        Raises:
            ConfigError: see `check_confidence`.
        """
        check_confidence(confidence)
        self._confidence, self._relevant = confidence, relevant
        self._wins = self._losses = self._ties = 0
        self._interval = Interval(-1.0, 1.0)
        self._least_p = 1.0
        self.decided_after_pairs_n: int | None = None

    def add(self, policy: bool, control: bool) -> None:
        """Take the outcomes of both on one start; later pairs than the decision are taken too and change nothing."""
        self._wins += policy and not control
        self._losses += control and not policy
        self._ties += policy == control
        if self.decided_after_pairs_n is not None:
            return
        pairs = self._pairs()
        now = interval_after(pairs, self._confidence)
        self._interval = Interval(max(self._interval.low, now.low), min(self._interval.high, now.high))
        capital = float(log_capital(pairs.wins, pairs.ties, pairs.losses, 0.5))
        self._least_p = min(self._least_p, float(np.exp(min(-capital, 0.0))))
        if self.verdict is not Verdict.CANNOT_TELL:
            self.decided_after_pairs_n = pairs.pairs_n

    @property
    def verdict(self) -> Verdict:
        """What is known by now."""
        return judge(self._interval, self._least_p, 1.0 - self._confidence, self._relevant)

    def comparison(self) -> Comparison:
        """As the tests of a fixed number of trials give it; the p-value is one that holds at any time.

        Raises:
            ConfigError: there is no pair yet.
        """
        pairs = self._pairs()
        difference = (pairs.wins - pairs.losses) / pairs.pairs_n
        return Comparison(
            difference, self._interval, self._least_p, self.verdict, "betting confidence sequence, valid at any stop"
        )

    def _pairs(self) -> Pairs:
        return Pairs(self._wins, self._losses, self._ties)


def compare_sequentially(
    outcomes: Sequence[tuple[bool, bool]], confidence: float = 0.95, relevant: float | None = None
) -> SequentialComparison:
    """The comparison after (policy, control) outcomes in the order in which they came.

    Raises:
        ConfigError: no outcome.
    """
    if not outcomes:
        raise ConfigError("no pair: both policies need a finished trial on the same start")
    comparison = SequentialComparison(confidence, relevant)
    for policy, control in outcomes:
        comparison.add(policy, control)
    return comparison
