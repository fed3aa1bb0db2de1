"""Pins: false alarms and coverage of the comparisons of two policies, by enumeration of all outcomes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, multinomial

from inril_core.errors import ConfigError
from inril_core.evaluation.statistics.comparison import (
    Pairs,
    Verdict,
    compare_paired,
    compare_unpaired,
    judge,
    newcombe,
    tango,
)
from inril_core.evaluation.statistics.proportions import Interval

CLAIMS = (Verdict.BETTER, Verdict.WORSE)


@cache
def unpaired(n: int) -> np.ndarray:
    """Whether two arms of n trials are told apart, ``bool[n + 1, n + 1]``."""
    claims = np.zeros((n + 1, n + 1), bool)
    for one in range(n + 1):
        for two in range(one + 1):  # the test is symmetric
            claims[one, two] = claims[two, one] = compare_unpaired((one, n), (two, n)).verdict in CLAIMS
    return claims


def test_equal_policies_are_told_apart_no_more_often_than_stated() -> None:
    counts = np.arange(13)
    for rate in np.linspace(0.0, 1.0, 201):
        chance = binom.pmf(counts, 12, rate)
        assert chance @ unpaired(12) @ chance <= 0.05


def test_the_unpaired_interval_covers_on_average() -> None:
    n = 20
    counts = np.arange(n + 1)
    bounds = [[newcombe((a, n), (b, n), 0.95) for b in counts] for a in counts]
    low = np.array([[bound.low for bound in row] for row in bounds])
    high = np.array([[bound.high for bound in row] for row in bounds])
    covered = []
    for p in np.linspace(0.025, 0.975, 20):
        for q in np.linspace(0.025, 0.975, 20):
            inside = (low <= p - q + 1e-12) & (p - q - 1e-12 <= high)
            covered.append(binom.pmf(counts, n, p) @ inside @ binom.pmf(counts, n, q))
    assert 0.94 <= np.mean(covered) <= 0.97
    assert min(covered) >= 0.92


def outcomes(n: int) -> list[tuple[int, int, int]]:
    """All (wins, losses, ties) of n pairs."""
    return [(w, lost, n - w - lost) for w in range(n + 1) for lost in range(n + 1 - w)]


def test_equal_policies_on_shared_starts_are_told_apart_no_more_often_than_stated() -> None:
    n = 40
    table = outcomes(n)
    claims = np.array([compare_paired(Pairs(*counts)).verdict in CLAIMS for counts in table])
    for half in np.linspace(0.0, 0.5, 26):
        chance = multinomial.pmf(table, n, [half, half, 1 - 2 * half])
        assert chance @ claims <= 0.05


def test_the_paired_interval_covers_on_average() -> None:
    n = 40
    table = outcomes(n)
    bounds = [tango(Pairs(*counts), 0.95) for counts in table]
    low, high = np.array(bounds).T
    covered = []
    for wins in np.linspace(0.025, 0.6, 12):
        for losses in np.linspace(0.025, 0.375, 8):
            truth = wins - losses
            chance = multinomial.pmf(table, n, [wins, losses, 1 - wins - losses])
            covered.append(chance @ ((low <= truth + 1e-12) & (truth - 1e-12 <= high)))
    assert 0.94 <= np.mean(covered) <= 0.965
    assert min(covered) >= 0.925


@given(st.integers(1, 30), st.data())
def test_turned_round_the_answer_is_turned_round(n: int, data: st.DataObject) -> None:
    one, two = data.draw(st.integers(0, n)), data.draw(st.integers(0, n))
    here, there = compare_unpaired((one, n), (two, n)), compare_unpaired((two, n), (one, n))
    assert here.p_value == pytest.approx(there.p_value, abs=1e-9)
    assert here.interval.low == pytest.approx(-there.interval.high, abs=1e-9)
    wins = data.draw(st.integers(0, n))
    pair, other = Pairs(wins, n - wins, one), Pairs(n - wins, wins, one)
    assert tango(pair, 0.95).low == pytest.approx(-tango(other, 0.95).high, abs=1e-6)
    assert tango(pair, 0.95).low <= (2 * wins - n) / (n + one) + 1e-9


def test_known_values() -> None:
    """Newcombe 1998, table II: 56/70 against 48/80 gives (0.0524, 0.3339) by method 10."""
    low, high = newcombe((56, 70), (48, 80), 0.95)
    assert (low, high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))
    assert compare_unpaired((17, 20), (14, 20)).verdict is Verdict.CANNOT_TELL
    assert compare_unpaired((103, 121), (85, 121)).verdict is Verdict.BETTER


def test_a_claim_needs_test_and_interval() -> None:
    assert judge(Interval(0.01, 0.2), 0.06, 0.05) is Verdict.CANNOT_TELL
    assert judge(Interval(-0.01, 0.2), 0.04, 0.05) is Verdict.CANNOT_TELL
    assert judge(Interval(-0.2, 0.05), 0.4, 0.05, relevant=0.1) is Verdict.NO_RELEVANT_GAIN
    assert judge(Interval(-0.2, -0.05), 0.01, 0.05, relevant=0.1) is Verdict.WORSE


def test_large_samples_are_compared_too() -> None:
    assert compare_unpaired((700_000, 1_000_000), (500_000, 1_000_000)).verdict is Verdict.BETTER
    with pytest.raises(ConfigError, match="control successes = 3"):
        compare_unpaired((1, 2), (3, 2))
    with pytest.raises(ConfigError, match="no pair"):
        Pairs(0, 0, 0)
