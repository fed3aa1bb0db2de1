"""Estimates against closed forms and known values."""

import numpy as np
import pytest

pytest.importorskip("rliable", reason="the extra `bench` is not installed")
from inril_core.bench import statistics  # noqa: E402
from tests.bench.made import bounds  # noqa: E402


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 400)


def test_interquartile_mean_drops_a_quarter_at_each_end() -> None:
    """Pins: an aggregate that one lucky or broken seed moves."""
    assert statistics.iqm([0.0, 50.0, 60.0, 1000.0]).value == 55.0
    assert statistics.iqm([[0.0, 60.0], [50.0, 1000.0]]).value == 55.0  # over runs and tasks together
    assert statistics.iqm([1.0, 2.0, 9.0]).value == 4.0  # three: nothing to drop, as the page says


def test_interval_of_a_large_sample_is_the_normal_one() -> None:
    """Pins: an interval of another width than 95 %."""
    values = np.random.default_rng(3).normal(5.0, 2.0, 400)
    made = statistics.mean(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert made.value == pytest.approx(values.mean())
    assert made.high - made.low == pytest.approx(2 * half, rel=0.15)
    assert made.low < made.value < made.high


def test_strata_are_resampled_within_a_task() -> None:
    """Pins: the difference between tasks taken for uncertainty: seeds that agree leave none."""
    assert bounds(statistics.mean([[0.1, 0.9], [0.1, 0.9], [0.1, 0.9]])) == pytest.approx((0.5, 0.5, 0.5))


def test_one_run_has_no_interval() -> None:
    """Pins: a certain-looking interval of width zero from a single seed."""
    made = statistics.iqm([3.0])
    assert made.value == 3.0 and np.isnan(made.low) and np.isnan(made.high) and not made.excludes(0.0)


def test_probability_of_improvement_counts_pairs_and_half_ties() -> None:
    """Pins: a tie counted as a win, or the methods swapped."""
    assert statistics.improvement([3, 4, 5], [0, 1, 2]).value == 1.0
    assert statistics.improvement([0, 1, 2], [3, 4, 5]).value == 0.0
    assert statistics.improvement([1, 3], [2, 3]).value == pytest.approx((0 + 0 + 1 + 0.5) / 4)


def test_ratio_is_geometric_and_paired() -> None:
    """Pins: an arithmetic mean of ratios (2 and 1/2 give 1.25), or pairing lost."""
    assert statistics.ratio([2.0, 1.0], [1.0, 2.0]).value == pytest.approx(1.0)
    made = statistics.ratio([100.0, 2000.0, 30.0], [200.0, 4000.0, 60.0])
    assert bounds(made) == pytest.approx((0.5, 0.5, 0.5))  # pairs agree, however far the seeds lie apart


def test_curve_is_the_interquartile_mean_at_each_step() -> None:
    """Pins: seeds and steps mixed up."""
    scores = np.array([[0.0, 1.0], [0.5, 0.5], [0.6, 0.4], [9.0, 0.0]])
    middle, low, high = statistics.iqm_curve(scores)
    assert middle == pytest.approx([0.55, 0.45]) and (low <= middle).all() and (middle <= high).all()


def test_same_data_same_interval_and_nobody_else_is_disturbed() -> None:
    """Pins: a page that changes without new lines, and a bootstrap that reseeds NumPy for the whole process."""
    np.random.seed(7)
    expected = np.random.RandomState(7).random_sample(3)
    first = statistics.iqm([1.0, 2.0, 3.0, 5.0, 8.0])
    assert np.random.random_sample(3) == pytest.approx(expected)
    assert bounds(statistics.iqm([1.0, 2.0, 3.0, 5.0, 8.0])) == bounds(first)
