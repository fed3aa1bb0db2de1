"""Pins: a trial in which other weights acted than planned, a safety stop that leaves a gap, an interrupted trial that
is lost, and a session that goes on after it has decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from inril_core.safety.faults import Fault
from inril_core.session import requests as ask
from inril_core.session.ledger import EpisodeResult, Ledger
from inril_core.session.states import ExitCode, State
from inril_core.session.statuses import ArbiterNews
from inril_core.session.trials import SAFETY_FAULTS, PlannedTrial
from tests.session.session_bench import SessionBench

TRIALS = [
    PlannedTrial(700_003, "eval", 1, False),
    PlannedTrial(700_003, "eval", 0, False),
    PlannedTrial(700_001, "demo", None, False),
    PlannedTrial(700_001, "demo", 1, True),
]


class Planned:
    """Four trials; the second and third of them swap policies, one is the scripted human's."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, str]] = []
        self.full = False
        self.enough = 99

    def __len__(self) -> int:
        return len(TRIALS)

    def planned(self, number: int) -> PlannedTrial:
        return TRIALS[number]

    def begin(self, number: int, episode_id: str) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.begun.append((number, episode_id))

    def decided(self, results: Sequence[EpisodeResult]) -> bool:
        return sum(result.valid for result in results) >= self.enough


def evaluation(tmp_path: Path) -> tuple[SessionBench, Planned]:
    trials = Planned()
    return SessionBench(tmp_path, plan=f"eval:{len(TRIALS)}:episodes", trials=trials), trials


def test_each_trial_has_its_start_and_its_weights(tmp_path: Path) -> None:
    bench, trials = evaluation(tmp_path)
    for _ in TRIALS:
        bench.end_by_cell()
    bench.until(State.DONE)
    assert bench.session.exit_code == ExitCode.FINISHED
    results = Ledger(bench.path).results
    assert [(r.seed, r.version_n, r.purpose, r.valid) for r in results] == [
        *((700_003, 1, "eval", True), (700_003, 0, "eval", True)),
        *((700_001, -1, "eval", True), (700_001, 1, "eval", True)),
    ]
    began = [request.attempt for request in bench.asked(ask.BeginEpisode)]
    assert [(a.purpose, a.start_purpose, a.explore) for a in began] == [
        *(("eval", "eval", False), ("eval", "eval", False)),
        *(("demo", "demo", False), ("eval", "demo", True)),
    ]
    assert [request.n for request in bench.asked(ask.ChooseVersion)] == [1, 0, 1], "only where others act"
    assert trials.begun == [(r.index, r.episode_id) for r in results]


def test_no_trial_begins_before_its_weights_are_there(tmp_path: Path) -> None:
    bench, trials = evaluation(tmp_path)
    bench.obeys_choice = False
    for _ in range(40):
        bench.step()
    assert trials.begun == [] and "act with version 1" in bench.session.waiting.text
    assert len(bench.asked(ask.ChooseVersion)) >= 3, "asked again: the policy may have been away"
    bench.obeys_choice = True
    bench.until(State.RUNNING)


def test_a_trial_in_which_others_acted_is_done_again(tmp_path: Path) -> None:
    bench, trials = evaluation(tmp_path)
    bench.until(State.RUNNING)
    bench.news["policy"] = replace(bench.news["policy"], active_n=7)
    bench.step()
    bench.end_by_cell()
    first = Ledger(bench.path).results[0]
    assert not first.valid and first.reason == "version 7 acted, not 1 as planned"
    bench.end_by_cell()
    assert [number for number, _ in trials.begun] == [0, 0]
    assert [r.valid for r in Ledger(bench.path).results] == [False, True]


@pytest.mark.parametrize("cause", ["limit_stop", "disarmed"])
def test_a_safety_stop_is_an_outcome(tmp_path: Path, cause: str) -> None:
    bench, trials = evaluation(tmp_path)
    bench.until(State.RUNNING)
    armed = bench.news["arbiter"]
    faults = {"faults": [cause], "details": ["why"]} if cause == "limit_stop" else {"armed": False}
    bench.news["arbiter"] = replace(armed, **faults)
    bench.step()
    bench.step()
    stopped = Ledger(bench.path).results[0]
    assert stopped.valid and not stopped.success and stopped.reason.startswith("safety stop: ")
    bench.news["arbiter"] = armed
    bench.until(State.RUNNING)
    assert [number for number, _ in trials.begun] == [0, 1]


@pytest.mark.parametrize("fault", ["policy_action_stale", "observation_stale", "internal_error"])
def test_a_fault_of_the_machinery_is_not(tmp_path: Path, fault: str) -> None:
    bench, trials = evaluation(tmp_path)
    bench.until(State.RUNNING)
    armed = bench.news["arbiter"]
    bench.news["arbiter"] = replace(armed, faults=["limit_stop", fault], details=["why", "why"])
    bench.step()
    bench.step()
    assert [r.valid for r in Ledger(bench.path).results] == [False]
    bench.news["arbiter"] = ArbiterNews("restarted", armed=True, recorder_boot_id="r")
    bench.until(State.RUNNING)
    assert [number for number, _ in trials.begun] == [0, 0]


def test_a_restarted_session_goes_on_with_the_trial_that_was_cut(tmp_path: Path) -> None:
    bench, first = evaluation(tmp_path)
    bench.end_by_cell()
    bench.until(State.RUNNING)
    again, second = evaluation(tmp_path)
    again.end_by_cell()
    assert [number for number, _ in first.begun] == [0, 1] and second.begun[0][0] == 1
    assert [r.index for r in Ledger(bench.path).results] == [0, 1]


def test_what_cannot_be_written_down_does_not_begin(tmp_path: Path) -> None:
    bench, trials = evaluation(tmp_path)
    trials.full = True
    for _ in range(5):
        bench.step()
    assert not bench.asked(ask.BeginEpisode) and "No space left" in bench.session.waiting.text
    trials.full = False
    bench.until(State.RUNNING)


def test_a_decided_session_ends(tmp_path: Path) -> None:
    bench, trials = evaluation(tmp_path)
    trials.enough = 2
    bench.end_by_cell()
    bench.end_by_cell()
    bench.until(State.DONE)
    assert bench.session.exit_code == ExitCode.FINISHED and len(trials.begun) == 2


def test_the_faults_have_the_arbiters_names() -> None:
    assert {str(fault) for fault in Fault} >= SAFETY_FAULTS
