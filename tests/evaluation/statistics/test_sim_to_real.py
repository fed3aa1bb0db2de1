"""Pins: trust in a simulation that the numbers do not support."""

from __future__ import annotations

import math

import numpy as np
import pytest

from inril_core.errors import ConfigError
from inril_core.evaluation.statistics.sim_to_real import agreement, prediction_powered


def test_the_same_ranking_violates_nothing() -> None:
    found = agreement([0.2, 0.5, 0.9], [0.1, 0.6, 0.7])
    assert found.mean_maximum_rank_violation == 0.0 and found.pearson > 0.9
    assert agreement([0.2, 0.4, 0.6], [0.3, 0.5, 0.7]).pearson == pytest.approx(1.0)
    assert agreement([0.2, 0.4, 0.6], [0.3, 0.5, 0.7]).mean_difference == pytest.approx(0.1)


def test_a_wrong_ranking_costs_what_is_lost_by_it() -> None:
    """Policies 1 and 2 are exchanged; each loses 0.3 by its worst comparison, policy 0 nothing: (0 + .3 + .3) / 3."""
    assert agreement([0.1, 0.5, 0.8], [0.0, 0.9, 0.6]).mean_maximum_rank_violation == pytest.approx(0.2)
    assert math.isnan(agreement([0.5, 0.5], [0.1, 0.2]).pearson)


def test_a_perfect_simulation_counts_as_reality() -> None:
    rng = np.random.default_rng(0)
    real, many = rng.random(50) < 0.7, rng.random(5000) < 0.7
    found = prediction_powered(real, real, many)
    assert found.share == pytest.approx(1 / (1 + 50 / 5000), rel=0.1) and abs(found.rate - many.mean()) < 0.01
    assert found.real_trials_saved_n > 1000


def test_a_simulation_that_tells_nothing_is_left_out() -> None:
    real = np.tile([1, 1, 0, 1], 15)
    useless = np.tile([1, 0, 1, 1], 15)  # negatively correlated
    found = prediction_powered(real, useless, np.ones(500) * np.tile([1, 0], 250))
    assert found.share == 0.0 and found.rate == pytest.approx(0.75) and found.real_trials_saved_n == 0


@pytest.mark.parametrize("bias", [0.0, 0.2], ids=["sound", "optimistic"])
def test_it_covers_the_truth_also_where_the_simulation_is_wrong(bias: float) -> None:
    """Real success 0.6; the simulation agrees with it on most starts, and is too optimistic on a share of them."""
    rng = np.random.default_rng(1)
    covered, widths, alone = [], [], []
    for _ in range(400):
        ease = rng.random(60 + 1000)
        truth = ease < 0.6
        simulated = np.where(rng.random(1060) < 0.1, rng.random(1060) < 0.5, ease < 0.6 + bias)
        found = prediction_powered(truth[:60], simulated[:60], simulated[60:])
        covered.append(found.interval.low <= 0.6 <= found.interval.high)
        widths.append(found.interval.high - found.interval.low)
        alone.append(2 * 1.96 * math.sqrt(np.var(truth[:60]) / 60))
    assert 0.915 <= np.mean(covered) <= 0.985
    assert np.mean(widths) < 0.9 * np.mean(alone)


def test_what_is_no_outcome_is_refused() -> None:
    with pytest.raises(ConfigError, match="as many paired"):
        prediction_powered([1] * 10, [1] * 9, [1] * 20)
    with pytest.raises(ConfigError, match="numbers in"):
        agreement([0.5, math.nan], [0.5, 0.6])
