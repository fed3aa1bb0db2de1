"""Pins: no episode is lost from or doubled in a learning curve, and the dip is what its definition says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inril_core.evaluation.curve import binned_curve, dip_depth, failures_until, moving_rate


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 30))
def test_every_episode_is_in_one_bin(successes: list[bool], bins: int) -> None:
    steps = list(range(10, 10 + 7 * len(successes), 7))
    curve = binned_curve(steps, successes, bins)
    assert len(curve) <= bins
    assert sum(b.rate.episodes for b in curve) == len(successes)
    assert sum(b.rate.successes for b in curve) == sum(successes)
    middles = [b.steps for b in curve]
    assert middles == sorted(middles)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="equal lengths"):
        binned_curve([1, 2], [True], 3)


@given(st.lists(st.booleans(), min_size=5, max_size=60))
def test_moving_rate_is_the_mean_of_each_window(successes: list[bool]) -> None:
    slow = [np.mean(successes[i : i + 5]) for i in range(len(successes) - 4)]
    np.testing.assert_allclose(moving_rate(successes, 5), slow, atol=1e-12)


def test_dip_is_the_lowest_window_below_the_start() -> None:
    fell = [True] * 4 + [False] * 3 + [True] * 8
    assert dip_depth(0.5, fell, window=4) == pytest.approx(0.5 - 0.25)
    assert dip_depth(0.5, [True] * 10, window=4) == 0.0


def test_failures_are_counted_to_the_end_of_the_first_good_window() -> None:
    run = [False, False, True, False, True, True, True, True, False, False]
    assert failures_until(0.75, run, window=4) == 3
    assert failures_until(1.0, run, window=4) == 3
    assert failures_until(1.0, run[:7], window=4) is None


def test_too_few_episodes_say_nothing() -> None:
    assert dip_depth(0.5, [False] * 3, window=4) is None
    assert failures_until(0.9, [True] * 3, window=4) is None
