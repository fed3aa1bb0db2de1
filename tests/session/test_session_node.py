"""Pins: the wiring of session_node, with an arm of somebody else's: slow, twice, late, in person, by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from inril_common.node import NodeFinished
from inril_common.qos import EVENT, LATCHED, TICK
from inril_msgs.msg import ArbiterStatus, EpisodeEvent, ResetStatus, RobotState, SessionStatus, StepOutcome
from inril_msgs.srv import Arm, BeginEpisode, EndEpisode, LabelEpisode, ResetCell, SessionCommand
from inril_session.session_node import SessionNode

from inril_core.session.ledger import Ledger
from inril_core.session.states import ExitCode
from tests.sim.nodes import Bench, bench

NAMED = {"by": "anna"}


class Graph:
    """An armed arbiter, an observation_node that obeys, and an arm whose answers the test gives."""

    def __init__(self, bench: Bench, armed: bool, by_hand: bool) -> None:
        self.bench = bench
        self.node = bench.client
        self.resets: list[ResetCell.Request] = []
        self.begun: list[str] = []
        self.ended: list[EndEpisode.Request] = []
        self.armed: list[str] = []
        self.answer = ResetCell.Response(success=True, working=True)
        self.events = bench.hear(EpisodeEvent, "episode_event")
        self.status = bench.hear(SessionStatus, "session_status")
        self._arbiter = self.node.create_publisher(ArbiterStatus, "arbiter_status", LATCHED)
        self._outcome = self.node.create_publisher(StepOutcome, "episode_outcome", EVENT)
        self._reset_status = self.node.create_publisher(ResetStatus, "reset_status", EVENT)
        self.robot = self.node.create_publisher(RobotState, "robot_state", TICK)
        if not by_hand:
            self.node.create_service(ResetCell, "cell/reset", self._on_reset)
        self.node.create_service(BeginEpisode, "observation/begin_episode", self._on_begin)
        self.node.create_service(EndEpisode, "observation/end_episode", self._on_end)
        for name in ("robot/arm", "arbiter/arm"):
            self.node.create_service(Arm, name, self._on_arm(name))
        self.arbiter = ArbiterStatus(boot_id="a", armed=armed)
        self.node.create_timer(0.05, lambda: self._arbiter.publish(self.arbiter), clock=_steady())
        self.until(
            lambda: self._outcome.get_subscription_count() and self._reset_status.get_subscription_count(), "DDS"
        )

    def _on_reset(self, request: ResetCell.Request, response: Any) -> ResetCell.Response:
        self.resets.append(request)
        return self.answer

    def _on_begin(self, request: BeginEpisode.Request, response: Any) -> Any:
        self.begun.append(request.episode_id)
        response.success = True
        return response

    def _on_end(self, request: EndEpisode.Request, response: Any) -> Any:
        self.ended.append(request)
        response.success = True
        labels = {EpisodeEvent.LABEL_SUCCESS: True, EpisodeEvent.LABEL_FAILURE: False}
        success = labels.get(request.label)
        self.close(request.episode_id, bool(success), success is not None, request.by)
        return response

    def _on_arm(self, name: str) -> Callable[[Any, Any], Any]:
        def on_arm(request: Arm.Request, response: Any) -> Any:
            self.armed.append(name)
            self.arbiter = ArbiterStatus(boot_id="a", armed=name == "arbiter/arm")
            response.success = True
            return response

        return on_arm

    def close(self, episode_id: str, success: bool, terminated: bool, source: str) -> None:
        self._outcome.publish(
            StepOutcome(episode_id=episode_id, step=9, success=success, terminated=terminated, source=source)
        )

    def say(self, reset_id: str, state: int, text: str = "") -> None:
        self._reset_status.publish(ResetStatus(reset_id=reset_id, state=state, text=text))

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        return self.bench.until(condition, what)

    def tell(self, command: int, **fields: Any) -> SessionCommand.Response:
        return self.bench.call(SessionCommand, "session/command", SessionCommand.Request(command=command, **fields))


def _steady() -> Any:
    from rclpy.clock import Clock, ClockType

    return Clock(clock_type=ClockType.STEADY_TIME)


@contextmanager
def session(run_dir: Path, armed: bool = True, **parameters: Any) -> Iterator[Graph]:
    """A session_node of demonstrations, without a recorder, in this process."""
    given = {"run_dir": str(run_dir), "plan": "demo:2:episodes", "expects_policy": False, "expects_learner": False}
    with bench(SessionNode, **{**given, "expects_recorder": False, **parameters}) as made:
        yield Graph(made, armed, parameters.get("reset") == "by_hand")


def test_a_slow_arm_of_somebody_elses_and_a_person_who_ends_the_demonstration(tmp_path: Path) -> None:
    with session(tmp_path) as graph:
        graph.answer = ResetCell.Response(success=False, message="a person is in the cell")
        graph.until(lambda: graph.status and "person is in the cell" in graph.status[-1].waiting_for, "refusal")
        graph.answer = ResetCell.Response(success=True, working=True)
        graph.resets.clear()
        graph.until(lambda: graph.resets and not graph.resets[-1].cancel, "reset")
        graph.resets = graph.resets[-1:]
        reset_id = graph.resets[0].reset_id
        assert graph.resets[0].purpose == 1 and graph.resets[0].seed == 1_000_000 and not graph.resets[0].cancel
        graph.say("another", ResetStatus.DONE)
        graph.say(reset_id, ResetStatus.WORKING, "homing joint 3")
        graph.until(lambda: "homing joint 3" in graph.status[-1].waiting_for, "what the arm does")
        assert graph.status[-1].state == "resetting" and not graph.begun
        assert graph.status[-1].start == 1_000_000
        for _ in range(2):
            graph.say(reset_id, ResetStatus.DONE)
        graph.until(lambda: graph.status[-1].state == "running", "episode")
        assert graph.begun == [reset_id]
        assert not graph.tell(SessionCommand.Request.SUCCESS).success, "without a name"
        answer = graph.tell(SessionCommand.Request.SUCCESS, **NAMED)
        assert answer.success, answer.message
        graph.until(lambda: len(graph.resets) == 2, "next reset")
        result = Ledger(tmp_path / "session.jsonl").results[0]
        assert (result.success, result.terminated, result.source, result.valid) == (True, True, "anna", True)
        graph.until(lambda: len(graph.events) == 2, "events")
        assert [e.event for e in graph.events] == [EpisodeEvent.BEGIN, EpisodeEvent.END]
        assert (graph.events[1].label, graph.events[1].by) == (EpisodeEvent.LABEL_SUCCESS, "anna")

        label = LabelEpisode.Request(episode_id=reset_id, label=EpisodeEvent.LABEL_FAILURE, by="bert")
        assert graph.bench.call(LabelEpisode, "session/label_episode", label).success
        graph.until(lambda: len(graph.events) == 3, "label")
        assert not Ledger(tmp_path / "session.jsonl").results[0].success
        assert graph.tell(SessionCommand.Request.PAUSE, **NAMED).success
        graph.until(lambda: len(graph.resets) == 3, "cancel")
        assert graph.resets[2].cancel and graph.resets[2].reset_id == graph.resets[1].reset_id
        graph.until(lambda: graph.status[-1].state == "paused", "pause")


def test_by_hand_a_person_says_when(tmp_path: Path) -> None:
    with session(tmp_path, reset="by_hand", plan="demo:1:episodes") as graph:
        graph.until(lambda: graph.status and "inril episode ready" in graph.status[-1].waiting_for, "the asking")
        assert graph.status[-1].waits_for_person and not graph.resets
        assert graph.tell(SessionCommand.Request.READY, **NAMED).success
        graph.until(lambda: graph.begun, "episode")
        graph.until(lambda: graph.status[-1].state == "running", "episode")
        graph.close(graph.begun[0], True, True, "cell")
        with pytest.raises(NodeFinished) as finished:
            graph.until(lambda: False, "end")
        assert finished.value.code == ExitCode.FINISHED


@pytest.mark.parametrize("simulated", [True, False])
def test_arm_at_start_arms_what_says_that_it_is_simulated(tmp_path: Path, simulated: bool) -> None:
    with session(tmp_path, armed=False, arm_at_start=True) as graph:
        graph.until(lambda: graph.status and "robot_state" in graph.status[-1].waiting_for, "wait for the arm")
        assert not graph.armed
        graph.until(lambda: graph.robot.get_subscription_count(), "subscription")
        graph.robot.publish(RobotState(simulated=simulated))
        if simulated:
            graph.until(lambda: graph.resets, "reset")
            assert graph.armed == ["robot/arm", "arbiter/arm"] and (tmp_path / "armed_at_start").exists()
        else:
            graph.until(lambda: "not armed" in graph.status[-1].waiting_for, "wait for a person")
            assert not graph.armed and not (tmp_path / "armed_at_start").exists()


def test_a_ledger_with_bad_lines_does_not_end_the_node(tmp_path: Path) -> None:
    (tmp_path / "session.jsonl").write_text('{"purpose": 1.5, "segment_index": []}\nnot json\n')
    with session(tmp_path) as graph:
        graph.until(lambda: graph.resets, "reset")


def test_where_nobody_comes_the_process_ends_with_its_own_exit_code(tmp_path: Path) -> None:
    with session(tmp_path, armed=False, unattended=True, unattended_wait_s=0.5) as graph:
        with pytest.raises(NodeFinished) as finished:
            graph.until(lambda: False, "end")
        assert finished.value.code == ExitCode.NOBODY_CAME
        assert not graph.resets and not graph.armed
