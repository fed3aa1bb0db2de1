"""Pins: a trial in which other weights acted than planned, a safety stop that leaves a gap, an interrupted trial that
is lost, and a session that goes on after it has decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from inril_core.errors import ConfigError
from inril_core.safety.faults import Fault
from inril_core.session import requests as ask
from inril_core.session.commands import label_earlier, obey
from inril_core.session.ledger import EpisodeResult, Ledger
from inril_core.session.states import EpisodeOutcome, ExitCode, State
from inril_core.session.statuses import ArbiterNews, RecorderNews
from inril_core.session.trials import SAFETY_FAULTS, PlannedTrial
from inril_core.vocabulary import Command
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
        self.failure_tags: tuple[str, ...] = ("dropped", "stuck")
        self.said: list[tuple[int, str, bool | None, str, str]] = []

    def __len__(self) -> int:
        return len(TRIALS)

    def planned(self, number: int) -> PlannedTrial:
        return TRIALS[number]

    def begin(self, number: int, episode_id: str) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.begun.append((number, episode_id))

    def label(self, number: int, episode_id: str, success: bool | None, tag: str, by: str) -> None:
        if self.full:
            raise ConfigError("the disk is full; free some space")
        if tag and tag not in self.failure_tags:
            raise ConfigError(f"tag = {tag!r}: one of dropped, stuck")
        self.said.append((number, episode_id, success, tag, by))

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


def test_a_persons_word_on_a_trial_is_a_note_beside_its_result(tmp_path: Path) -> None:
    """A label overwrote what the task had said, so that nobody could see where the two differ."""
    bench, trials = evaluation(tmp_path)
    episode_id = bench.end_by_cell()
    written = bench.path.read_bytes()
    assert label_earlier(bench.session, episode_id, False, "anna", "stuck") == (True, "")
    assert label_earlier(bench.session, episode_id, None, "bert") == (True, "")
    assert trials.said == [(0, episode_id, False, "stuck", "anna"), (0, episode_id, None, "", "bert")]
    assert bench.path.read_bytes() == written
    bench.act()
    told = [(r.success, r.by) for r in bench.asked(ask.Announce) if r.kind is ask.EventKind.LABEL]
    assert told == [(False, "anna"), (None, "bert")], "the recording's list of labels follows"


def test_a_word_that_cannot_be_written_down_is_not_taken(tmp_path: Path) -> None:
    bench, trials = evaluation(tmp_path)
    episode_id = bench.end_by_cell()
    assert "dropped, stuck" in label_earlier(bench.session, episode_id, False, "anna", "fell")[1]
    bench.until(State.RUNNING)
    assert bench.session.attempt is not None
    running = bench.session.attempt.episode_id
    assert "is not over" in label_earlier(bench.session, running, False, "anna", "stuck")[1]
    assert "with a failure only" in obey(bench.session, Command.SUCCESS, "", "anna", bench.now_ns, "stuck")[1]
    trials.full = True
    assert "free some space" in label_earlier(bench.session, episode_id, False, "anna", "stuck")[1]
    done, why = obey(bench.session, Command.FAILURE, "", "anna", bench.now_ns, "stuck")
    assert not done and "free some space" in why and bench.state is State.RUNNING
    bench.act()
    assert not trials.said and not [r for r in bench.asked(ask.Announce) if r.kind is ask.EventKind.LABEL]


def test_a_trial_that_does_not_count_has_no_label(tmp_path: Path) -> None:
    bench, trials = evaluation(tmp_path)
    episode_id = bench.end_by_cell()
    assert bench.say(Command.REDO)[0]
    done, why = label_earlier(bench.session, episode_id, False, "anna", "stuck")
    assert not done and "does not count and is done again (taken back by anna)" in why and not trials.said


def test_who_ends_a_trial_as_a_failure_may_say_why(tmp_path: Path) -> None:
    bench, trials = evaluation(tmp_path)
    bench.until(State.RUNNING)
    assert bench.session.attempt is not None
    episode_id = bench.session.attempt.episode_id
    done, said = obey(bench.session, Command.FAILURE, "", "anna", bench.now_ns, "dropped")
    assert done and said == f"{episode_id}: a failure (dropped), says anna"
    assert trials.said == [(0, episode_id, False, "dropped", "anna")], "on disk before the trial has ended"
    bench.act()
    bench.step()
    result = Ledger(bench.path).results[0]
    assert (result.success, result.source, result.valid) == (False, "anna", True)


def test_a_word_just_after_the_end_leaves_the_tasks_own(tmp_path: Path) -> None:
    bench, trials = evaluation(tmp_path)
    bench.until(State.RUNNING)
    assert bench.session.attempt is not None
    episode_id = bench.session.attempt.episode_id
    bench.news["recorder"] = RecorderNews("r", state=1, episode_id=episode_id, last_step_on_disk=5)
    bench.step()
    bench.session.on_outcome(EpisodeOutcome(episode_id, 19, False, False, "episode_length", "100 steps"), bench.now_ns)
    assert bench.state is State.RECORDING
    assert bench.say(Command.SUCCESS)[0]
    assert trials.said == [(0, episode_id, True, "", "anna")]
    bench.news["recorder"] = RecorderNews("r", episode_id=episode_id, last_step_on_disk=19)
    bench.step()
    result = Ledger(bench.path).results[0]
    assert (result.success, result.source, result.valid) == (False, "episode_length", True)


def test_who_pauses_in_the_last_trial_has_time_to_label_it(tmp_path: Path) -> None:
    """The graph ended with its last trial, before anybody could say why it had failed."""
    bench, trials = evaluation(tmp_path)
    for _ in TRIALS[1:]:
        bench.end_by_cell()
    bench.until(State.RUNNING)
    assert bench.say(Command.PAUSE)[0]
    episode_id = bench.end_by_cell(success=False)
    for _ in range(4):
        bench.step()
    assert bench.state is State.PAUSED
    assert label_earlier(bench.session, episode_id, False, "anna", "stuck")[0] and trials.said
    assert bench.say(Command.RESUME)[0]
    bench.until(State.DONE)
    assert bench.session.exit_code == ExitCode.FINISHED
