"""Pins: an episode lost, doubled or begun unasked; a real arm that arms itself; a run that waits for nobody."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inril_core.session import requests as ask
from inril_core.session.ledger import Ledger
from inril_core.session.reset import ResetState
from inril_core.session.states import EpisodeOutcome, ExitCode, State
from inril_core.session.statuses import ArbiterNews, RecorderNews
from inril_core.vocabulary import Command
from tests.session.session_bench import SessionBench


def test_a_plan_is_done_in_order_and_the_process_ends_with_0(tmp_path: Path) -> None:
    bench = SessionBench(tmp_path, plan="demo:2:episodes,demo:1:episodes")
    for _ in range(3):
        bench.end_by_cell()
    bench.until(State.DONE)
    assert bench.session.exit_code == ExitCode.FINISHED
    assert [r.seed for r in bench.session.ledger.results] == [1_000_000, 1_000_001, 1_000_002]


def test_a_session_that_is_told_to_stop_has_not_finished(tmp_path: Path) -> None:
    bench = SessionBench(tmp_path)
    bench.until(State.RUNNING)
    bench.session.close(bench.now_ns)
    assert bench.session.exit_code == ExitCode.NOT_FINISHED != 0
    assert [r.valid for r in Ledger(bench.path).results] == [False]


def test_a_grown_plan_goes_on_with_new_starts(tmp_path: Path) -> None:
    bench = SessionBench(tmp_path, plan="demo:3:episodes")
    for _ in range(3):
        bench.end_by_cell()
    bench.until(State.DONE)
    grown = SessionBench(tmp_path, plan="demo:5:episodes")
    grown.session.ledger.check_plan(grown.plan)
    for _ in range(2):
        grown.end_by_cell()
    grown.until(State.DONE)
    seeds = [r.seed for r in Ledger(bench.path).results]
    assert seeds == [1_000_000 + index for index in range(5)]


def test_a_cut_episode_is_done_again(tmp_path: Path) -> None:
    bench = SessionBench(tmp_path)
    bench.until(State.RUNNING)
    armed = bench.news["arbiter"]
    bench.news["arbiter"] = replace(armed, faults=["observation_stale"], details=["why"])
    bench.step()
    bench.step()
    assert [r.valid for r in bench.session.ledger.results] == [False]
    assert bench.session.waiting.person and "inril arm" in bench.session.waiting.text
    bench.news["arbiter"] = armed
    bench.until(State.RUNNING)
    assert bench.session.attempt is not None and bench.session.attempt.index == 0


def test_an_episode_that_nobody_closes_is_given_up(tmp_path: Path) -> None:
    bench = SessionBench(tmp_path)
    bench.until(State.RUNNING)
    bench.obeys_end = False
    bench.news["arbiter"] = ArbiterNews("restarted", armed=True, recorder_boot_id="r")
    for _ in range(10):
        bench.step()
    assert [r.reason for r in bench.session.ledger.results][:1] == ["no node closed the episode in time"]


def unarmed(tmp_path: Path, **settings: object) -> SessionBench:
    bench = SessionBench(tmp_path, arm_at_start=True, **settings)
    bench.news["arbiter"] = ArbiterNews("a", armed=False, recorder_boot_id="r")
    return bench


def test_a_simulated_arm_is_armed_once(tmp_path: Path) -> None:
    bench = unarmed(tmp_path)
    bench.step()
    assert not bench.asked(ask.ArmRobot), "nothing is armed before the arm has said that it is simulated"
    bench.session.arming.simulated = True
    bench.step()
    assert bench.state is State.ARMING
    bench.session.arming.on_robot_armed(True, "", bench.now_ns)
    bench.act()
    bench.session.arming.on_arbiter_armed(True, "", bench.now_ns)
    assert [type(r) for r in bench.done if not isinstance(r, ask.Tell)] == [ask.ArmRobot, ask.ArmArbiter]
    for _ in range(100):
        bench.step()
    assert len(bench.asked(ask.ArmRobot)) == 1 and "not armed" in bench.session.waiting.text


def test_a_real_arm_is_never_armed(tmp_path: Path) -> None:
    bench = unarmed(tmp_path)
    bench.session.arming.simulated = False
    for _ in range(10):
        bench.step()
        bench.session.arming.simulated = True  # whatever comes later
    assert not bench.asked(ask.ArmRobot) and not bench.asked(ask.ArmArbiter)
    assert any("real arm" in tell.text for tell in bench.asked(ask.Tell))


def test_a_real_arm_that_is_heard_while_arming_is_not_armed(tmp_path: Path) -> None:
    bench = unarmed(tmp_path)
    bench.session.arming.simulated = True
    bench.step()
    bench.session.arming.simulated = False
    bench.session.arming.on_robot_armed(True, "", bench.now_ns)
    for _ in range(10):
        bench.step()
    assert not bench.asked(ask.ArmArbiter)


def test_a_person_who_was_faster_and_disarms_stays_obeyed(tmp_path: Path) -> None:
    bench = unarmed(tmp_path)
    bench.session.arming.simulated = True
    disarmed = bench.news["arbiter"]
    bench.news["arbiter"] = replace(disarmed, armed=True)
    bench.step()
    bench.news["arbiter"] = disarmed
    for _ in range(10):
        bench.step()
    assert not bench.asked(ask.ArmRobot)


def test_an_arming_that_is_refused_is_asked_again(tmp_path: Path) -> None:
    bench = unarmed(tmp_path)
    bench.session.arming.simulated = True
    bench.step()
    bench.session.arming.on_robot_armed(True, "", bench.now_ns)
    bench.session.arming.on_arbiter_armed(False, "robot_needs_rearm", bench.now_ns)
    assert bench.state is State.WAITING
    bench.step()
    bench.step()
    assert bench.state is State.ARMING and len(bench.asked(ask.ArmRobot)) == 2


@pytest.mark.parametrize("unattended", [True, False])
def test_where_nobody_comes_the_run_ends_and_says_why(tmp_path: Path, unattended: bool) -> None:
    """Pins: `inril demo` that waits for ever for a person who is not there."""
    bench = SessionBench(tmp_path, unattended_wait_s=60.0 if unattended else None)
    bench.until(State.RUNNING)
    bench.news["arbiter"] = replace(bench.news["arbiter"], faults=["robot_state_stale"], details=["0.4 s old"])
    for _ in range(110):
        bench.step()
    assert bench.state is State.WAITING
    for _ in range(20):
        bench.step()
    assert bench.state is (State.DONE if unattended else State.WAITING)
    if unattended:
        assert bench.session.exit_code == ExitCode.NOBODY_CAME
        assert "robot_state_stale" in bench.session.end_reason


def test_a_pause_is_no_absence(tmp_path: Path) -> None:
    bench = SessionBench(tmp_path, unattended_wait_s=60.0)
    bench.until(State.RUNNING)
    bench.say(Command.PAUSE)
    bench.end_by_cell()
    for _ in range(1000):
        bench.step()
    assert bench.state is State.PAUSED


def test_waiting_for_a_node_is_no_absence(tmp_path: Path) -> None:
    bench = SessionBench(tmp_path, unattended_wait_s=60.0)
    bench.news = {}
    for _ in range(1000):
        bench.step()
    assert bench.state is State.WAITING


FACTS = st.one_of(
    st.tuples(st.just("time"), st.sampled_from([0.02, 0.5, 3.0, 6.0, 20.0])),
    st.tuples(st.just("answer"), st.tuples(st.integers(0, 5), st.booleans(), st.booleans())),
    st.tuples(st.just("heartbeat"), st.tuples(st.integers(0, 5), st.sampled_from(list(ResetState)))),
    st.tuples(
        st.just("outcome"), st.tuples(st.integers(0, 5), st.booleans(), st.sampled_from(["cell", "session", "x"]))
    ),
    st.tuples(st.just("command"), st.integers(0, 9)),
    st.tuples(st.just("arbiter"), st.tuples(st.sampled_from(["a", "b"]), st.booleans(), st.booleans())),
    st.tuples(st.just("recorder"), st.tuples(st.sampled_from(["r", "s"]), st.integers(0, 3), st.integers(-1, 20))),
    st.tuples(st.just("served"), st.booleans()),
    st.tuples(st.just("deaf"), st.booleans()),
    st.tuples(st.just("restart"), st.none()),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FACTS, max_size=60), st.booleans())
def test_whatever_happens_each_episode_is_begun_once_and_ended_once(facts: list, by_hand: bool) -> None:
    """No order of facts raises, begins an episode that was not laid out or not armed, or counts one twice."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench = SessionBench(folder, plan="demo:2:episodes,eval:1:episodes", reset_by_hand=by_hand)
        bench.arm.on_ask = lambda reset_id, now_ns: None
        bench.served = not by_hand
        laid_out: set[str] = set()
        everything: list[ask.Request] = []
        for kind, fact in facts:
            ids = [*bench.arm.asked[-3:], "", "foreign", "run-0-demo-00000-b00t1d"]
            match kind:
                case "time":
                    bench.step(fact)
                case "answer":
                    reset_id = ids[fact[0] % len(ids)]
                    if fact[1] and not fact[2] and not by_hand:
                        laid_out.add(reset_id)
                    bench.session.on_reset_answer(reset_id, fact[1], fact[2], "", bench.now_ns)
                case "heartbeat":
                    reset_id = ids[fact[0] % len(ids)]
                    if fact[1] is ResetState.DONE and not by_hand:
                        laid_out.add(reset_id)
                    bench.arm.say(reset_id, fact[1], "", bench.now_ns)
                case "outcome":
                    outcome = EpisodeOutcome(ids[fact[0] % len(ids)], 9, fact[1], fact[1], fact[2], "")
                    bench.session.on_outcome(outcome, bench.now_ns)
                case "command":
                    if fact == Command.READY and by_hand and bench.session.attempt is not None:
                        laid_out.add(bench.session.attempt.episode_id)
                    bench.say(fact)
                case "arbiter":
                    bench.news["arbiter"] = ArbiterNews(
                        fact[0], armed=fact[1], faults=["f"] * fact[2], details=["d"] * fact[2]
                    )
                case "recorder":
                    bench.news["recorder"] = RecorderNews(fact[0], fact[1], ids[0], fact[2])
                case "served":
                    bench.served = fact
                case "deaf":
                    bench.obeys_end = fact
                case "restart":
                    bench.session.close(bench.now_ns)
                    everything += [*bench.done, *bench.session.requests]
                    news = bench.news
                    bench = SessionBench(folder, plan="demo:2:episodes,eval:1:episodes", reset_by_hand=by_hand)
                    bench.news, bench.served = news, not by_hand
                    bench.arm.on_ask = lambda reset_id, now_ns: None
            if bench.state in (State.BEGINNING, State.RUNNING):
                assert bench.session.attempt is not None
            bench.act()
        bench.session.close(bench.now_ns)
        everything += [*bench.done, *bench.session.requests]
        said = [r for r in everything if isinstance(r, ask.Announce)]
        begun = Counter(r.episode_id for r in said if r.kind is ask.EventKind.BEGIN)
        ended = Counter(r.episode_id for r in said if r.kind is ask.EventKind.END)
        assert begun == ended, "each episode that began has ended"
        results = Ledger(folder / "session.jsonl").results
        assert {r.episode_id for r in results} == set(begun), "each is in the ledger"
        counted = [(r.segment_index, r.index) for r in results if r.valid]
        assert len(counted) == len(set(counted)), "no number counts twice"
        assert set(begun) <= laid_out, "none begins before its cell is laid out"
        assert Ledger(folder / "session.jsonl").problems == []


@pytest.mark.parametrize("episode_id", ["", "another", "run-0-demo-00001-b00t1d"])
def test_the_outcome_of_another_episode_ends_nothing(tmp_path: Path, episode_id: str) -> None:
    bench = SessionBench(tmp_path)
    bench.until(State.RUNNING)
    bench.session.on_outcome(EpisodeOutcome(episode_id, 9, True, True, "cell", ""), bench.now_ns)
    assert bench.state is State.RUNNING and not bench.session.ledger.results
