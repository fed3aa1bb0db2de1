"""Pins: success rates carry the interval they claim, also at 0 and 1, where a normal one has none."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inril_core.evaluation.intervals import success_rate

Z = 1.959963984540054


def wilson(successes: int, episodes: int) -> tuple[float, float]:
    """The closed form of Wilson's score interval at 95 %."""
    p, n = successes / episodes, episodes
    middle = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return middle - half, middle + half


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_equals_the_closed_form_and_contains_the_rate(counts: tuple[int, int]) -> None:
    rate = success_rate(*counts)
    assert (rate.low, rate.high) == pytest.approx(wilson(*counts), abs=1e-12)
    assert 0.0 <= rate.low <= rate.rate <= rate.high <= 1.0


def test_known_values() -> None:
    all_won = success_rate(100, 100)
    assert (all_won.low, all_won.high) == pytest.approx((1 / (1 + Z**2 / 100), 1.0))
    none_won = success_rate(0, 10)
    assert (none_won.low, none_won.high) == pytest.approx((0.0, Z**2 / (10 + Z**2)))


@pytest.mark.parametrize(("successes", "episodes"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, episodes: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes in {episodes} episodes"):
        success_rate(successes, episodes)


@pytest.mark.parametrize("confidence", [0.0, 1.0, math.nan])
def test_impossible_confidence_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        success_rate(1, 2, confidence)
