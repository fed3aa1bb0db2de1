"""Pins: whoever looks after every pair and stops when he likes errs no more often than the design states."""

from __future__ import annotations

import numpy as np
import pytest

from inril_core.errors import ConfigError
from inril_core.evaluation.statistics.comparison import Pairs, Verdict
from inril_core.evaluation.statistics.sequential import (
    SequentialComparison,
    compare_sequentially,
    interval_after,
    log_capital,
)


def probability_of_ever(stops: np.ndarray) -> float:
    """Probability that a fair walk over (wins, losses) ever comes to a cell of ``stops``, exactly."""
    size = len(stops)
    here, ever = np.array([1.0]), 0.0
    for steps in range(1, size):
        forth = np.zeros(steps + 1)
        forth[1:] += 0.5 * here
        forth[:-1] += 0.5 * here
        wins = np.arange(steps + 1)
        stopped = stops[wins, steps - wins]
        ever += float(forth[stopped].sum())
        here = np.where(stopped, 0.0, forth)
    return ever


def test_equal_policies_are_ever_told_apart_no_more_often_than_stated() -> None:
    """Pairs that agree change nothing at equality, so all rates of success are this one walk: 400 pairs that differ."""
    wins, losses = np.meshgrid(np.arange(401), np.arange(401), indexing="ij")
    capital = log_capital(wins.ravel(), 0, losses.ravel(), 0.5).reshape(wins.shape)
    for alpha in (0.05, 0.01):
        ever = probability_of_ever(capital >= -np.log(alpha))
        assert 0.2 * alpha < ever <= alpha
    assert log_capital(7, 90, 3, 0.5) == pytest.approx(float(log_capital(7, 0, 3, 0.5)))


def test_all_intervals_of_a_session_hold_together() -> None:
    """Three outcomes per pair and a true difference that is not 0: enumerated over 40 pairs."""
    for chances in ((0.3, 0.6, 0.1), (0.05, 0.9, 0.05), (0.5, 0.1, 0.4)):
        truth = chances[0] - chances[2]
        here, missed = {(0, 0, 0): 1.0}, 0.0
        for _ in range(40):
            forth: dict[tuple[int, int, int], float] = {}
            for (w, t, lost), chance in here.items():
                for step, share in zip(((1, 0, 0), (0, 1, 0), (0, 0, 1)), chances, strict=True):
                    cell = (w + step[0], t + step[1], lost + step[2])
                    forth[cell] = forth.get(cell, 0.0) + chance * share
            cells = np.array(list(forth))
            out = log_capital(cells[:, 0], cells[:, 1], cells[:, 2], 0.5 * (truth + 1)) >= -np.log(0.05)
            missed += sum(chance for chance, gone in zip(forth.values(), out, strict=True) if gone)
            here = {cell: chance for (cell, chance), gone in zip(forth.items(), out, strict=True) if not gone}
        assert missed <= 0.05


def test_the_interval_holds_what_the_capital_allows() -> None:
    low, high = interval_after(Pairs(10, 2, 30))
    for bound, inside in ((low, 0.004), (high, -0.004)):
        assert log_capital(10, 30, 2, 0.5 * (bound + 1)) >= -np.log(0.05) - 0.2
        assert log_capital(10, 30, 2, 0.5 * (bound + inside + 1)) < -np.log(0.05)
    assert interval_after(Pairs(30, 0, 0)).high == 1.0 and interval_after(Pairs(0, 30, 0)).low == -1.0


def test_it_finds_a_difference_and_stays_with_it() -> None:
    rng = np.random.default_rng(3)
    comparison = SequentialComparison()
    for _ in range(200):
        comparison.add(bool(rng.random() < 0.9), bool(rng.random() < 0.5))
    after = comparison.decided_after_pairs_n
    assert comparison.verdict is Verdict.BETTER and after is not None and after < 100
    for _ in range(300):
        comparison.add(False, True)
    assert comparison.verdict is Verdict.BETTER and comparison.decided_after_pairs_n == after


def test_it_ends_when_a_gain_that_matters_is_excluded() -> None:
    comparison = compare_sequentially([(True, True)] * 200, relevant=0.1)
    assert comparison.verdict is Verdict.NO_RELEVANT_GAIN
    assert compare_sequentially([(True, True)] * 200).verdict is Verdict.CANNOT_TELL
    with pytest.raises(ConfigError, match="no pair"):
        compare_sequentially([])
