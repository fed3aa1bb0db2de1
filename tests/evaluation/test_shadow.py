"""Pins: a gate that lets through what is shown worse, that holds back good versions more often than it says, or that
can never hold back anything."""

from __future__ import annotations

from itertools import product
from math import comb

import pytest

from inril_core.errors import ConfigError
from inril_core.evaluation.shadow import GateConfig, judge
from inril_core.evaluation.statistics.comparison import Pairs
from inril_core.evaluation.statistics.power import paired_power


def held_back(config: GateConfig, candidate: float, reference: float) -> float:
    """Probability that a candidate of this success rate is held back; outcomes independent, by enumeration."""
    n, total = config.trials, 0.0
    win, loss = candidate * (1.0 - reference), reference * (1.0 - candidate)
    for wins, losses in product(range(n + 1), repeat=2):
        ties = n - wins - losses
        if ties >= 0 and not judge(config, Pairs(wins, losses, ties)).passes:
            ways = comb(n, wins) * comb(n - wins, losses)
            total += ways * win**wins * loss**losses * (1.0 - win - loss) ** ties
    return total


def test_an_equal_version_is_held_back_with_half_of_the_false_alarms_at_most() -> None:
    config = GateConfig()
    assert all(held_back(config, rate / 20, rate / 20) <= 0.025 for rate in range(21))


def test_a_worse_version_is_held_back_as_often_as_the_power_says() -> None:
    """So `inril evaluate power --trials` tells users what their gate finds."""
    config = GateConfig()
    assert held_back(config, 0.7, 0.95) == pytest.approx(paired_power(20, 0.7, 0.25, 0.95), abs=0.01)
    assert held_back(config, 0.0, 0.9) > 0.999


def test_a_margin_holds_back_what_loses_as_much() -> None:
    config = GateConfig(trials=60, not_worse_by=0.15)
    assert held_back(config, 0.8, 0.95) >= 0.95
    assert held_back(config, 0.95, 0.95) <= 0.2
    asked = judge(config, Pairs(2, 8, 50))
    assert not asked.passes and not asked.shown_worse and "15 points" in asked.reason


def test_only_a_version_that_is_shown_better_takes_the_references_place() -> None:
    config = GateConfig()
    assert judge(config, Pairs(10, 0, 10)).better
    assert judge(config, Pairs(5, 0, 15)).passes and not judge(config, Pairs(5, 0, 15)).better
    worse = judge(config, Pairs(0, 6, 14))
    assert worse.shown_worse and not worse.passes and not worse.better and "-30 points" in worse.reason


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"trials": 5}, "gate.trials = 5"), ({"trials": 20, "not_worse_by": 0.1}, "gate.not_worse_by = 0.1")],
)
def test_a_gate_that_cannot_tell_is_refused(settings: dict[str, float], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        GateConfig(**settings)  # type: ignore[arg-type]
