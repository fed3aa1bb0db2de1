"""Pins: a reset that takes a person longer than 10 s and never starts an episode, and a dead arm that is waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from inril_core.errors import ConfigError
from inril_core.session import requests as ask
from inril_core.session.reset import ResetState, ResetTimes
from inril_core.session.states import State
from inril_core.session.statuses import ArbiterNews
from inril_core.vocabulary import Command
from tests.session.session_bench import SessionBench


@pytest.fixture
def bench(tmp_path: Path) -> SessionBench:
    return SessionBench(tmp_path, reset_times=ResetTimes(timeout_s=120.0, heartbeat_s=5.0))


def begun(bench: SessionBench) -> list[str]:
    return [request.attempt.episode_id for request in bench.asked(ask.BeginEpisode)]


def works(bench: SessionBench, seconds: float, text: str = "homing") -> None:
    """The arm works on the newest reset and says so each second."""
    for _ in range(round(seconds)):
        bench.arm.say(bench.arm.asked[-1], ResetState.WORKING, text, bench.now_ns)
        bench.step(1.0)


@pytest.mark.parametrize("seconds", [8, 30, 110])
def test_an_arm_that_works_and_says_so_is_waited_for(bench: SessionBench, seconds: int) -> None:
    bench.arm.on_ask = lambda reset_id, now_ns: bench.session.on_reset_answer(reset_id, True, True, "", now_ns)
    bench.until(State.RESETTING)
    works(bench, seconds)
    assert bench.state is State.RESETTING and "homing" in bench.session.waiting.text
    bench.arm.say(bench.arm.asked[-1], ResetState.DONE, "", bench.now_ns)
    bench.act()
    assert bench.arm.asked == begun(bench) and len(begun(bench)) == 1


@pytest.mark.parametrize("seconds", [8, 30, 110])
def test_an_arm_that_answers_only_when_it_is_ready_is_waited_for(bench: SessionBench, seconds: int) -> None:
    bench.arm.on_ask = lambda reset_id, now_ns: None
    bench.until(State.RESETTING)
    for _ in range(seconds):
        bench.step(1.0)
    bench.session.on_reset_answer(bench.arm.asked[-1], True, False, "", bench.now_ns)
    bench.act()
    assert bench.arm.asked == begun(bench) and len(begun(bench)) == 1


def test_an_arm_that_never_answers_is_told_to_stop_and_asked_anew(bench: SessionBench) -> None:
    bench.arm.on_ask = lambda reset_id, now_ns: None
    for _ in range(130):
        bench.step(1.0)
    assert len(bench.arm.asked) == 2 and bench.arm.cancelled == bench.arm.asked[:1]
    assert len(set(bench.arm.asked)) == 2 and not begun(bench)
    assert any("120 s" in tell.text for tell in bench.asked(ask.Tell))


def test_an_arm_that_dies_in_the_middle_is_asked_anew(bench: SessionBench) -> None:
    bench.arm.on_ask = lambda reset_id, now_ns: bench.session.on_reset_answer(reset_id, True, True, "", now_ns)
    bench.until(State.RESETTING)
    works(bench, 20)
    for _ in range(7):
        bench.step(1.0)
    first, second = bench.arm.asked
    assert first != second and bench.arm.cancelled == [first]
    bench.arm.say(first, ResetState.DONE, "", bench.now_ns)
    bench.session.on_reset_answer(first, True, False, "", bench.now_ns)
    bench.step(1.0)
    assert not begun(bench), "a late answer of an old id starts nothing"
    bench.arm.say(second, ResetState.DONE, "", bench.now_ns)
    bench.act()
    assert begun(bench) == [second]


def test_an_arm_whose_process_is_gone_is_not_waited_for(bench: SessionBench) -> None:
    bench.arm.on_ask = lambda reset_id, now_ns: None
    bench.until(State.RESETTING)
    bench.served = False
    for _ in range(7):
        bench.step(1.0)
    assert bench.state is State.WAITING and "served" in bench.session.waiting.text
    bench.served = True
    bench.until(State.RESETTING)
    assert len(bench.arm.asked) == 2


def test_answers_that_come_twice_begin_one_episode(bench: SessionBench) -> None:
    bench.until(State.RUNNING)
    reset_id = bench.arm.asked[0]
    for _ in range(2):
        bench.arm.lay_out_at_once(reset_id, bench.now_ns)
        bench.arm.say(reset_id, ResetState.DONE, "", bench.now_ns)
        bench.arm.say(reset_id, ResetState.FAILED, "", bench.now_ns)
    bench.step()
    assert bench.state is State.RUNNING and begun(bench) == [reset_id]


def test_a_refusal_is_asked_again_later_and_later(bench: SessionBench) -> None:
    """Pins: a permanent refusal asked again seven times a second."""
    bench.arm.on_ask = lambda reset_id, now_ns: bench.session.on_reset_answer(reset_id, False, False, "no", now_ns)
    for _ in range(1000):
        bench.step(0.1)
    assert 4 <= len(bench.arm.asked) <= 9
    assert bench.session.waiting.text == "cell/reset refused: no"


def test_a_pause_cancels_the_reset(bench: SessionBench) -> None:
    bench.arm.on_ask = lambda reset_id, now_ns: bench.session.on_reset_answer(reset_id, True, True, "", now_ns)
    bench.until(State.RESETTING)
    assert bench.say(Command.PAUSE)[0]
    assert bench.arm.cancelled == bench.arm.asked and bench.state is State.PAUSED
    bench.step(100.0)
    assert len(bench.arm.asked) == 1
    bench.say(Command.RESUME)
    bench.step()
    assert len(bench.arm.asked) == 2


def test_what_comes_up_while_a_person_lays_out_does_not_cost_the_layout(bench: SessionBench) -> None:
    bench.arm.on_ask = lambda reset_id, now_ns: bench.session.on_reset_answer(reset_id, True, True, "", now_ns)
    bench.until(State.RESETTING)
    armed = bench.news["arbiter"]
    bench.news["arbiter"] = ArbiterNews("a", armed=False, recorder_boot_id="r")
    works(bench, 10)
    bench.arm.say(bench.arm.asked[-1], ResetState.DONE, "", bench.now_ns)
    bench.step(30.0)
    assert not begun(bench) and "not armed" in bench.session.waiting.text and bench.session.waiting.person
    bench.news["arbiter"] = armed
    bench.step()
    assert bench.arm.asked == begun(bench)


def test_a_person_lays_out_by_hand_and_says_so(tmp_path: Path) -> None:
    bench = SessionBench(tmp_path, reset_by_hand=True)
    bench.served = False
    assert not bench.say(Command.READY)[0]
    bench.until(State.RESETTING)
    bench.step(3600.0)
    assert bench.state is State.RESETTING and "inril episode ready" in bench.session.waiting.text
    assert bench.say(Command.READY)[0]
    assert bench.state is State.RUNNING and not bench.arm.asked
    assert not bench.say(Command.READY)[0], "the next layout needs a word of its own"


def test_the_arm_does_its_part_after_the_person(tmp_path: Path) -> None:
    bench = SessionBench(tmp_path, reset_by_hand=True)
    bench.arm.on_ask = lambda reset_id, now_ns: bench.session.on_reset_answer(reset_id, True, True, "", now_ns)
    bench.until(State.RESETTING)
    bench.step(3600.0)
    assert not bench.arm.asked, "it does not move while somebody may be in the cell"
    assert bench.say(Command.READY)[0]
    assert not bench.say(Command.READY)[0]
    works(bench, 10)
    assert bench.state is State.RESETTING and not begun(bench)
    bench.arm.say(bench.arm.asked[-1], ResetState.DONE, "", bench.now_ns)
    bench.act()
    assert begun(bench) == bench.arm.asked and len(bench.arm.asked) == 1


def test_what_a_person_laid_out_waits_for_the_arming(tmp_path: Path) -> None:
    bench = SessionBench(tmp_path, reset_by_hand=True)
    bench.served = False
    bench.until(State.RESETTING)
    armed = bench.news["arbiter"]
    bench.news["arbiter"] = ArbiterNews("a", armed=False, recorder_boot_id="r")
    bench.step(3600.0)
    assert bench.say(Command.READY)[0]
    for _ in range(100):
        bench.step(60.0)
    assert bench.state is State.RESETTING and "not armed" in bench.session.waiting.text
    bench.news["arbiter"] = armed
    bench.step()
    assert bench.state is State.RUNNING and len(begun(bench)) == 1


def test_nobody_confirms_what_a_node_does(bench: SessionBench) -> None:
    bench.arm.on_ask = lambda reset_id, now_ns: None
    bench.until(State.RESETTING)
    assert not bench.say(Command.READY)[0]
    assert not begun(bench)


@pytest.mark.parametrize(
    ("timeout_s", "heartbeat_s"), [(1.0, 2.0), (1.0, 0.0), (float("nan"), 1.0), (5.0, float("nan"))]
)
def test_times_that_cannot_be_are_refused(timeout_s: float, heartbeat_s: float) -> None:
    with pytest.raises(ConfigError, match="reset_heartbeat_s"):
        ResetTimes(timeout_s, heartbeat_s)
