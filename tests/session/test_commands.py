"""Pins: a demonstration on a real arm that can only end as a failure, by its length."""

from __future__ import annotations

from pathlib import Path

import pytest

from inril_core.session import requests as ask
from inril_core.session.commands import label_earlier, obey
from inril_core.session.ledger import Ledger
from inril_core.session.states import State
from inril_core.session.statuses import RecorderNews
from inril_core.vocabulary import Command
from tests.session.session_bench import SessionBench


@pytest.fixture
def bench(tmp_path: Path) -> SessionBench:
    return SessionBench(tmp_path)


def ends(bench: SessionBench) -> list[tuple[bool | None, str]]:
    said = [request for request in bench.asked(ask.Announce) if request.kind is ask.EventKind.END]
    return [(request.success, request.by) for request in said]


@pytest.mark.parametrize(("command", "success"), [(Command.SUCCESS, True), (Command.FAILURE, False)])
def test_a_person_ends_the_running_episode(bench: SessionBench, command: Command, success: bool) -> None:
    bench.until(State.RUNNING)
    answer = bench.say(command)
    assert answer[0], answer
    bench.step()
    result = bench.session.ledger.results[0]
    assert (result.success, result.terminated, result.source, result.valid) == (success, True, "anna", True)
    assert ends(bench) == [(success, "anna")]


def test_a_person_who_says_success_while_time_runs_out_is_believed(bench: SessionBench) -> None:
    bench.until(State.RUNNING)
    bench.obeys_end = False
    assert bench.session.attempt is not None
    episode_id = bench.session.attempt.episode_id
    assert bench.say(Command.SUCCESS)[0]
    bench.close(episode_id, False, False, "episode_length", "100 steps")
    bench.act()
    result = bench.session.ledger.results[0]
    assert (result.success, result.source, result.valid) == (True, "anna", True)


def test_a_person_who_comes_just_after_the_end_is_believed(bench: SessionBench) -> None:
    bench.until(State.RUNNING)
    assert bench.session.attempt is not None
    episode_id = bench.session.attempt.episode_id
    bench.close(episode_id, False, False, "episode_length", "100 steps")
    bench.news["recorder"] = RecorderNews("r", state=1, episode_id=episode_id, last_step_on_disk=5)
    # counted already: the label of an earlier episode
    assert not bench.say(Command.SUCCESS)[0]
    assert label_earlier(bench.session, episode_id, True, "anna")[0]
    assert bench.session.ledger.results[0].success


def test_while_the_recorder_still_writes_the_word_goes_into_the_result(bench: SessionBench) -> None:
    bench.until(State.RUNNING)
    assert bench.session.attempt is not None
    episode_id = bench.session.attempt.episode_id
    bench.news["recorder"] = RecorderNews("r", state=1, episode_id=episode_id, last_step_on_disk=18)
    bench.step()
    bench.session.on_outcome(outcome(episode_id), bench.now_ns)
    assert bench.state is State.RECORDING
    assert bench.say(Command.SUCCESS, episode_id)[0]
    bench.news["recorder"] = RecorderNews("r", episode_id=episode_id, last_step_on_disk=19)
    bench.step()
    assert bench.session.ledger.results[0].success and bench.session.ledger.results[0].valid


def outcome(episode_id: str) -> object:
    from inril_core.session.states import EpisodeOutcome

    return EpisodeOutcome(episode_id, 19, False, False, "episode_length", "")


def test_a_discarded_episode_does_not_count_and_is_done_again(bench: SessionBench) -> None:
    bench.until(State.RUNNING)
    first = bench.session.attempt
    assert bench.say(Command.DISCARD)[0]
    bench.until(State.RUNNING)
    second = bench.session.attempt
    assert first is not None and second is not None and first.episode_id != second.episode_id
    assert (first.index, first.seed) == (second.index, second.seed)
    assert ends(bench) == [(None, "anna")]
    taken_out = [r for r in bench.asked(ask.Announce) if r.kind is ask.EventKind.DISCARD]
    assert [(r.episode_id, r.by) for r in taken_out] == [(first.episode_id, "anna")], "nothing is learned from it"
    assert not bench.session.ledger.results[0].valid


def test_the_last_episode_is_taken_back_also_after_a_restart(bench: SessionBench, tmp_path: Path) -> None:
    taken = bench.end_by_cell()
    bench.until(State.RUNNING)
    bench.say(Command.DISCARD)
    assert bench.say(Command.REDO)[0]
    again = Ledger(tmp_path / "session.jsonl")
    assert not next(r for r in again.results if r.episode_id == taken).valid
    assert again.progress(0).episodes == 0
    taken_out = [r.episode_id for r in bench.asked(ask.Announce) if r.kind is ask.EventKind.DISCARD]
    assert taken in taken_out and len(taken_out) == 2
    bench.until(State.RUNNING)
    assert bench.session.attempt is not None and bench.session.attempt.index == 0


def test_taking_back_while_the_next_is_laid_out_stops_that(bench: SessionBench) -> None:
    bench.end_by_cell()
    bench.arm.on_ask = lambda reset_id, now_ns: None
    bench.until(State.RESETTING)
    assert bench.session.attempt is not None and bench.session.attempt.index == 1
    assert bench.say(Command.REDO)[0]
    assert bench.arm.cancelled == bench.arm.asked[1:]
    bench.step()
    assert bench.session.attempt is not None and bench.session.attempt.index == 0


def test_a_running_episode_goes_on_through_a_pause_and_none_follows(bench: SessionBench) -> None:
    bench.until(State.RUNNING)
    assert bench.say(Command.PAUSE)[0]
    bench.step()
    assert bench.state is State.RUNNING
    bench.end_by_cell()
    bench.step(100.0)
    assert bench.state is State.PAUSED and "resume" in bench.session.waiting.text
    assert len(bench.arm.asked) == 1
    bench.say(Command.RESUME)
    bench.until(State.RUNNING)


@pytest.mark.parametrize("command", list(Command))
def test_a_word_without_a_name_is_refused(bench: SessionBench, command: Command) -> None:
    bench.until(State.RUNNING)
    assert not bench.say(command, by=" ")[0]


@pytest.mark.parametrize("command", [Command.SUCCESS, Command.FAILURE, Command.DISCARD, Command.REDO])
def test_a_word_about_another_episode_is_refused(bench: SessionBench, command: Command) -> None:
    bench.end_by_cell()
    bench.until(State.RUNNING)
    success, message = bench.say(command, episode_id="another")
    assert not success and "another" in message
    assert bench.state is State.RUNNING


@pytest.mark.parametrize("code", [0, 8, 255])
def test_an_unknown_command_is_refused(bench: SessionBench, code: int) -> None:
    assert not bench.say(code)[0]


def test_labels_of_earlier_episodes(bench: SessionBench) -> None:
    episode_id = bench.end_by_cell(success=False)
    assert label_earlier(bench.session, episode_id, True, "anna")[0]
    assert label_earlier(bench.session, episode_id, None, "anna")[0]
    assert not label_earlier(bench.session, "another", True, "anna")[0]
    assert not label_earlier(bench.session, episode_id, True, "")[0]
    bench.until(State.RUNNING)
    assert bench.session.attempt is not None
    assert not label_earlier(bench.session, bench.session.attempt.episode_id, True, "anna")[0]


def test_a_full_disk_costs_no_result(bench: SessionBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.until(State.RUNNING)

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench.session.ledger, "append", full)
    episode_id = bench.end_by_cell()
    bench.step(10.0)
    assert bench.state is State.RECORDING and "No space left" in bench.session.waiting.text
    monkeypatch.undo()
    bench.step()
    assert Ledger(bench.path).find(episode_id) is not None


def test_tags_are_for_trials_of_an_evaluation(bench: SessionBench) -> None:
    episode_id = bench.end_by_cell()
    done, why = label_earlier(bench.session, episode_id, False, "anna", "stuck")
    assert not done and "only trials of an evaluation have tags" in why
    bench.until(State.RUNNING)
    done, why = obey(bench.session, Command.FAILURE, "", "anna", bench.now_ns, "stuck")
    assert not done and "only trials of an evaluation have tags" in why and bench.state is State.RUNNING
    assert Ledger(bench.path).results[0].source == "cell"
