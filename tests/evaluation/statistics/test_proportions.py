"""Pins: the intervals of a success rate cover what they say, over all rates and sample sizes, by enumeration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from inril_core.errors import ConfigError
from inril_core.evaluation.statistics.proportions import clopper_pearson, wilson

RATES = np.linspace(0.001, 0.999, 999)


def coverage(interval, trials: int) -> np.ndarray:
    """Probability that the interval holds the true rate, for each of `RATES`."""
    bounds = [interval(k, trials) for k in range(trials + 1)]
    chance = binom.pmf(np.arange(trials + 1)[:, None], trials, RATES)
    inside = np.array([[b.low <= p <= b.high for p in RATES] for b in bounds])
    return (chance * inside).sum(0)


@pytest.mark.parametrize("trials", [1, 5, 10, 20, 40, 100])
def test_the_exact_interval_covers_every_rate(trials: int) -> None:
    assert coverage(clopper_pearson, trials).min() >= 0.95


@pytest.mark.parametrize("trials", [10, 20, 40, 100])
def test_the_score_interval_covers_on_average(trials: int) -> None:
    covered = coverage(wilson, trials)
    assert 0.94 <= covered.mean() <= 0.96
    assert covered.min() < 0.95  # why the exact one is read near the ceiling


def test_no_failure_in_n_trials_has_the_closed_form() -> None:
    """Of n successes in n trials the exact bound is (alpha / 2) ** (1 / n)."""
    assert clopper_pearson(40, 40).low == pytest.approx(0.025 ** (1 / 40))
    assert clopper_pearson(40, 40).high == 1.0


@pytest.mark.parametrize(
    ("successes", "trials", "text"),
    [
        (3, 2, "successes = 3: must be in \\[0, 2\\]"),
        (-1, 2, "successes = -1"),
        (0, 0, "trials = 0"),
        (1.5, 3, "whole number"),
        (True, 3, "whole number"),
        (1, 10**9, "trials = 1000000000"),
    ],
)
def test_what_cannot_be_counts_is_refused(successes: int, trials: int, text: str) -> None:
    for interval in (wilson, clopper_pearson):
        with pytest.raises(ConfigError, match=text):
            interval(successes, trials)
    with pytest.raises(ConfigError, match="confidence = nan"):
        wilson(1, 2, float("nan"))
