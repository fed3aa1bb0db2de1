"""What may be concluded from two methods, and what not."""

import pytest

pytest.importorskip("rliable", reason="the extra `bench` is not installed")
from inril_core.bench import statistics, versus  # noqa: E402
from inril_core.bench.experiment import CurveSettings  # noqa: E402
from tests.bench.made import experiment, line  # noqa: E402

NAMES = ("interleave", "rl_only")


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 400)


def runs(method: str, reached_at: list[int | None], final: int = 90) -> dict:
    """Runs that fail until a step and succeed from it on; None: never."""
    made = experiment(seeds=len(reached_at), curve=CurveSettings(episodes=1, every_steps=100))
    found = {}
    for job, step in zip([j for j in made.jobs() if j.method == method], reached_at, strict=True):
        train = [[100 * i, int(step is not None and 100 * i >= step)] for i in range(1, 41)]
        found[job.task, job.seed] = line(job, train=train, curve=[[100, 0, 1], [150, 0, 1]], final=final + job.seed)
    return found


def test_a_clear_ratio_is_told_with_its_interval() -> None:
    a, b = runs("interleave", [1000, 1100, 1200, 900, 1000]), runs("rl_only", [2000, 2200, 2400, 1800, 2000])
    finding = versus.steps_ratio(NAMES, a, b)
    assert finding.winner == "interleave" and finding.estimate.value == pytest.approx(0.5, rel=0.03)
    assert versus.steps_ratio(NAMES[::-1], b, a).winner == "interleave"
    assert versus.sentence(finding).endswith("interleave is better")


def test_too_few_seeds_tell_nothing() -> None:
    """Pins: three seeds sold as a result."""
    finding = versus.steps_ratio(NAMES, runs("interleave", [1000] * 4), runs("rl_only", [2000] * 4))
    assert finding.winner is None and "4 seeds are too few" in versus.sentence(finding)
    assert finding.estimate.value == pytest.approx(0.5)  # still shown


def test_an_interval_over_one_tells_nothing() -> None:
    a, b = runs("interleave", [1000, 3000, 1000, 3000, 2000]), runs("rl_only", [2000] * 5)
    finding = versus.steps_ratio(NAMES, a, b)
    assert finding.winner is None and "cannot tell: the interval contains 1" in versus.sentence(finding)


def test_whoever_did_not_arrive_is_not_faster() -> None:
    """Pins: a run that never reached the rate counted as having reached it at its end."""
    a, b = runs("interleave", [1000, 1000, 1000, 1000, None]), runs("rl_only", [4000] * 5)
    finding = versus.steps_ratio(NAMES, a, b)
    assert finding.winner is None and "did not get there" in finding.reason and "missed it on 1 of 5" in finding.what
    assert versus.steps_ratio(NAMES, a, runs("rl_only", [None] * 5)).winner is None
    won = versus.steps_ratio(NAMES, runs("interleave", [1000] * 5), runs("rl_only", [None] * 5))
    assert won.winner == "interleave"  # a lower bound on the loser's side is safe
    assert "neither" in versus.steps_ratio(NAMES, runs("interleave", [None]), runs("rl_only", [None])).reason


def test_final_success_and_probability() -> None:
    a, b = runs("interleave", [1000] * 5, final=90), runs("rl_only", [1000] * 5, final=50)
    difference, chance = versus.final_difference(NAMES, a, b), versus.improvement(NAMES, a, b)
    assert difference.winner == "interleave" and difference.estimate.value == pytest.approx(40.0)
    assert chance.winner == "interleave" and chance.estimate.value == 1.0
    assert versus.final_difference(NAMES, a, a).winner is None and versus.improvement(NAMES, a, a).winner is None
    assert versus.drop_difference(NAMES, a, b).winner is None  # both never drop


def test_only_common_seeds_are_paired() -> None:
    a, b = runs("interleave", [1000] * 5), runs("rl_only", [2000] * 5)
    del b["insert_leg", 0]
    assert versus.steps_ratio(NAMES, a, b).estimate.n == 4
    assert versus.final_difference(NAMES, a, {}).reason == "no seed was run with both"
