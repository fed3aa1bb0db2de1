"""Pins: the number of trials that a question needs."""

from __future__ import annotations

import pytest
from scipy.stats import binom, binomtest, multinomial

from inril_core.errors import ConfigError
from inril_core.evaluation.statistics.power import (
    _wins_needed,
    paired_power,
    paired_trials_n,
    unpaired_trials_n,
)


def test_twenty_cannot_tell_and_121_can() -> None:
    assert unpaired_trials_n(0.7, 0.15) == 121
    assert paired_power(20, 0.7, 0.15) < 0.1
    n = paired_trials_n(0.7, 0.15)
    assert paired_power(n, 0.7, 0.15) >= 0.8 > paired_power(n - 8, 0.7, 0.15)


@pytest.mark.parametrize("differing", range(0, 40))
def test_the_claim_begins_where_the_exact_test_rejects(differing: int) -> None:
    wins = _wins_needed(differing, 0.05)
    claims = [k for k in range(differing + 1) if 2 * k > differing and binomtest(k, differing, 0.5).pvalue <= 0.05]
    assert wins == (claims[0] if claims else wins)
    assert bool(claims) == (wins <= differing)


def test_the_power_is_that_of_all_outcomes() -> None:
    n, baseline, difference = 30, 0.5, 0.3
    win, loss = 0.8 * 0.5, 0.5 * 0.2
    power = 0.0
    for d in range(n + 1):
        for wins in range(d + 1):
            if 2 * wins > d and binomtest(wins, d, 0.5).pvalue <= 0.05:
                power += multinomial.pmf([wins, d - wins, n - d], n, [win, loss, 1 - win - loss])
    assert paired_power(n, baseline, difference) == pytest.approx(power)
    assert binom.pmf(0, n, win + loss) < power


@pytest.mark.parametrize(
    ("baseline", "difference", "power"),
    [(0.7, 0.0, 0.8), (0.7, 0.4, 0.8), (0.7, float("nan"), 0.8), (-0.1, 0.2, 0.8), (0.7, 0.1, 1.0), (0.5, 1e-4, 0.8)],
)
def test_questions_without_an_answer_are_refused(baseline: float, difference: float, power: float) -> None:
    with pytest.raises(ConfigError):
        paired_trials_n(baseline, difference, power)
