"""Numbers of one run, by hand."""

import pytest

from inril_core.bench import measures
from inril_core.bench.experiment import CurveSettings
from tests.bench.made import CURVE, TRAIN, experiment, line

JOB = experiment().jobs()[0]


def test_drop_counts_from_the_first_update() -> None:
    """Pins: a drop measured against another start than the same curve's first point."""
    assert measures.lowest(line(JOB)) == pytest.approx(0.2)
    assert measures.worst_drop(line(JOB)) == pytest.approx(0.2)
    assert measures.worst_drop(line(JOB, curve=[[1000, 3, 25], [2000, 5, 25]])) == 0.0


def test_drop_in_training_is_smoothed_and_starts_at_the_warm_up() -> None:
    """Pins: single failed episodes called a collapse, or the warm-up's failures charged to the method."""
    before = [[10 * i, i % 2] for i in range(1, 101)]  # half of them, to step 1000
    during = [[1000 + 10 * i, int(i > 30)] for i in range(1, 101)]  # 30 failures, then success
    made = line(JOB, train=before + during)
    assert measures.worst_training_drop(made) == pytest.approx(0.5 - 10 / 40)
    assert measures.worst_training_drop(line(JOB)) != measures.worst_training_drop(line(JOB))  # too few: NaN


def test_fall_after_having_worked() -> None:
    """Pins: a collapse hidden by a good end, or one counted before anything worked."""
    curve = [[1000, 5, 10], [2000, 2, 10], [3000, 8, 10], [4000, 9, 10], [5000, 4, 10], [6000, 10, 10]]
    assert measures.drop_after_reaching(line(JOB, curve=curve)) == pytest.approx(0.5)
    assert measures.drop_after_reaching(line(JOB, curve=curve[:2])) is None


def test_success_signal_pools_training_and_evaluation_of_the_last_window() -> None:
    """Pins: windows that reach into the future, or evaluations that count as one episode."""
    at, rates = measures.success_signal(line(JOB, curve=CURVE, train=TRAIN))
    assert list(at) == [1500, 2500, 3500, 4000]
    # (500, 1500]: evaluation at 1000 with 10 of 25, training 1 (990) and 0 (1500)
    assert rates[0] == pytest.approx(11 / 27)
    # (3000, 4000]: evaluation at 4000 with 25 of 25, training 0 (3500) and 1 (4000)
    assert rates[3] == pytest.approx(26 / 27)


def test_steps_to_a_rate_first_and_for_good() -> None:
    """Pins: the first lucky window taken for success that lasts, and a lower bound taken for a result."""
    job = experiment(curve=CurveSettings(episodes=10, every_steps=100)).jobs()[0]
    train = [[50 * i, 1] for i in range(1, 41)]
    for step in range(1000, 1301, 50):
        train[step // 50 - 1][1] = 0
    made = line(job, train=train, curve=[[100, 10, 10], [2000, 10, 10]])
    assert measures.steps_to(made, 0.9, for_good=False) == measures.StepsTo(100.0, True)
    assert measures.steps_to(made, 0.9) == measures.StepsTo(1400.0, True)  # window (1300, 1400]
    assert measures.failures_before_lasting(made) == (6, True)  # that at 1000 is still in the warm-up
    lost = line(job, train=[[50 * i, 0] for i in range(1, 41)], curve=[[100, 0, 10]], env_steps=2000)
    assert measures.steps_to(lost, 0.5) == measures.StepsTo(2000.0, False)
    assert measures.failures_before_lasting(lost) == (20, False)  # after the warm-up of 1000 steps


def test_chance_drop_is_none_without_chance() -> None:
    """Pins: noise expected where there is none, or none where a point has few episodes."""
    assert measures.drop_by_chance(1.0, 25, 10) == 0.0
    # two points of one fair coin each: a drop of 1 in a quarter of all cases
    assert measures.drop_by_chance(0.5, 1, 2) == pytest.approx(0.25, abs=0.03)
