"""Pins: a policy that fell and goes on acting; a healthy run that is said to have fallen; a guard that costs more than
it says. Versions are numbers here: their rates of success."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from inril_core.evaluation.guard import GuardConfig, GuardVerdict, PeakGuard
from inril_core.evaluation.statistics.sequential import log_capital_if_worse
from tests.evaluation.statistics.test_sequential import probability_of_ever

RUNS = 200
RISE = [*np.linspace(0.5, 0.95, 8), *[0.95] * 8]


def guarded(rates: Sequence[float], seed: int, **settings: object) -> PeakGuard[float]:
    """A run whose versions have these rates; it ends where one is said to have fallen."""
    rng = np.random.default_rng(seed)
    guard: PeakGuard[float] = PeakGuard(GuardConfig(**settings))
    for n, rate in enumerate(rates):
        if (
            guard.check(float(rate), n, lambda version, start: bool(rng.random() < version)).verdict
            is GuardVerdict.FALLEN
        ):
            break
    return guard


def fell(guard: PeakGuard[float]) -> bool:
    return guard.checks[-1].verdict is GuardVerdict.FALLEN


def test_one_confirmation_errs_no_more_often_than_it_may() -> None:
    """By enumeration of 120 pairs that differ, for the alphas of the first, second and fifth confirmation."""
    for k in (1, 2, 5):
        alpha = 0.05 / (k * (k + 1))
        stops = [[log_capital_if_worse(w, lost) >= -np.log(alpha) for lost in range(121)] for w in range(121)]
        assert 0.0 < probability_of_ever(np.array(stops)) <= alpha


@pytest.mark.parametrize("rates", [[0.5] * 16, [0.9] * 16, [1.0] * 16, RISE], ids=["half", "high", "perfect", "rise"])
def test_healthy_runs_are_let_alone(rates: list[float]) -> None:
    """False alarms <= 5 %: of 200 runs more than 16 have a probability of 0.03 at exactly 5 %."""
    assert sum(fell(guarded(rates, seed)) for seed in range(RUNS)) <= 16


def test_what_fell_is_found_at_once_and_the_best_comes_back() -> None:
    """A ruined policy after a peak of 95 %: found at its first check, and what acts is within 10 points of the best."""
    runs = [guarded([*RISE, 0.0], seed) for seed in range(RUNS)]
    found = [run for run in runs if fell(run) and run.checks[-1].n == len(RISE)]
    assert len(found) >= 0.95 * RUNS
    best = [run.best for run in found]
    assert np.mean([record is not None and record.version >= 0.85 for record in best]) >= 0.95


def test_a_smaller_fall_is_found_within_a_few_checks() -> None:
    runs = [guarded([0.95] * 5 + [0.65] * 10, seed) for seed in range(100)]
    assert np.mean([fell(run) and run.best is not None and run.best.version == 0.95 for run in runs]) >= 0.7


@pytest.mark.parametrize(("fall", "kept"), [(0.05, 0.6), (0.15, 0.95), (0.3, 0.99)])
def test_at_the_end_the_better_one_acts(fall: float, kept: float) -> None:
    """A fall too small to be noticed in the middle of a run; `kept`: less than the probability of the right sign."""
    rng = np.random.default_rng(3)
    back = []
    for _ in range(RUNS):
        guard: PeakGuard[float] = PeakGuard(GuardConfig())
        guard.check(0.95, 0, lambda version, start: bool(rng.random() < version))
        last = guard.check(0.95 - fall, 1, lambda version, start: bool(rng.random() < version), at_end=True)
        assert guard.best is not None and (last.best_n == 0 or last.verdict is GuardVerdict.BEST)
        back.append(last.verdict.best_acts)
    assert np.mean(back) >= kept - 3 * np.sqrt(kept * (1 - kept) / RUNS)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=10, max_size=10))
def test_the_choice_is_what_all_its_pairs_say(pairs: list[tuple[bool, bool]]) -> None:
    """Pins a choice that stops early on what the rest could still turn round."""
    guard: PeakGuard[str] = PeakGuard(GuardConfig(screen_trials=1, record_trials=1, choice_pairs=10))
    guard.check("best", 0, lambda version, start: True)
    trials = iter([True, *(one for now, then in pairs for one in (now, then))])
    last = guard.check("acting", 1, lambda version, start: next(trials), at_end=True)
    worse = sum(now for now, _ in pairs) < sum(then for _, then in pairs)
    assert last.verdict.best_acts == worse
    assert guard.trials_run == 1 + last.trials_run and last.trials_run == 1 + 2 * (last.trials - 1)


def test_the_cost_is_what_the_checks_say() -> None:
    asked: list[int] = []
    rng = np.random.default_rng(1)

    def trial(rate: float, start: int) -> bool:
        asked.append(start)
        return bool(rng.random() < rate)

    guard: PeakGuard[float] = PeakGuard(GuardConfig())
    for n, rate in enumerate([0.5, 0.7, 0.9, 0.9, 0.6, 0.9]):
        guard.check(rate, n, trial)
    assert guard.trials_run == len(asked)
    perfect = guarded([1.0] * 16, 0)
    assert [check.trials_run for check in perfect.checks] == [20] + [5] * 15, "at the ceiling only the screen is paid"
    mean = np.mean([guarded([0.9] * 16, seed).trials_run / 16 for seed in range(50)])
    assert mean <= 25


def test_each_start_is_fresh() -> None:
    """Reused starts would let the luck that made a version the best count twice."""
    asked: list[tuple[float, int]] = []
    rng = np.random.default_rng(2)

    def trial(rate: float, start: int) -> bool:
        asked.append((rate, start))
        return bool(rng.random() < rate)

    guard: PeakGuard[float] = PeakGuard(GuardConfig())
    for n, rate in enumerate([0.9, 0.89, 0.3]):
        guard.check(rate, n, trial)
    assert len(set(asked)) == len(asked)


def test_what_is_kept_of_a_guard_is_the_whole_of_it() -> None:
    """A guard that starts again in the middle of a run says what the one would have said that did not."""
    rates = [0.5, 0.9, 0.9, 0.85, 0.9, 0.2, 0.9, 0.1]
    whole, first = PeakGuard[float](GuardConfig()), PeakGuard[float](GuardConfig())

    def trial(rate: float, start: int) -> bool:
        return bool(np.random.default_rng((start, round(1000 * rate))).random() < rate)

    for n, rate in enumerate(rates):
        whole.check(rate, n, trial)
    for n, rate in enumerate(rates[:4]):
        first.check(rate, n, trial)
    second = PeakGuard[float](GuardConfig())
    assert first.best is not None
    second.load(json.loads(json.dumps(first.facts())), first.best.version)
    for n, rate in enumerate(rates[4:], 4):
        second.check(rate, n, trial)
    assert second.checks == whole.checks and second.best == whole.best and fell(whole)


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"screen_trials": 0}, {"on_fall": "nothing"}, {"every": 3}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GuardConfig(**wrong)
