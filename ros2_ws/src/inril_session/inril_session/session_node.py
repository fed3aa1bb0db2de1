"""Runs a session's plan in the graph: `inril_core.session` decides, this node is its link to topics and services."""

from __future__ import annotations

import math
import time
from dataclasses import fields
from typing import Any, TypeVar

from inril_common.calls import Calls
from inril_common.node import InrilPlainNode, NodeFinished
from inril_common.process import run_node
from inril_common.qos import EVENT, LATCHED, TICK
from inril_msgs.msg import (
    ArbiterStatus,
    EpisodeEvent,
    LearnerStatus,
    PolicyStatus,
    RecorderStatus,
    ResetStatus,
    RobotState,
    SessionStatus,
    StepOutcome,
)
from inril_msgs.srv import Arm, BeginEpisode, EndEpisode, LabelEpisode, ResetCell, RollBack, SessionCommand

from inril_core.run import open_run
from inril_core.session import requests as ask
from inril_core.session.commands import label_earlier, obey
from inril_core.session.ledger import Ledger
from inril_core.session.long_wait import LongWait
from inril_core.session.plan import parse_plan
from inril_core.session.progress import progress_line
from inril_core.session.readiness import Expected, Readiness
from inril_core.session.reset import ResetTimes
from inril_core.session.session import END_GRACE_S, Session
from inril_core.session.states import EpisodeOutcome, ExitCode, SessionSettings, State
from inril_core.session.statuses import ArbiterNews, LearnerNews, News, PolicyNews, RecorderNews
from inril_core.vocabulary import Label, Purpose
from inril_session.arm_marker import armed_by_this_launch, note_armed

POLL_PERIOD_S = 0.2
"""How often time-outs and services are looked at; what is heard is acted on at once."""
CALL_TIMEOUT_S = 10.0
STATUS_PERIOD_S = 0.5
PROGRESS_PERIOD_S = 2.0

N = TypeVar("N", bound=News)


class SessionNode(InrilPlainNode):
    """Serves session/command and session/label_episode; publishes episode_event and session_status."""

    def __init__(self) -> None:
        super().__init__("session_node")
        self._calls = Calls(self)
        self._session: Session | None = None
        self.exit_code_when_stopped = ExitCode.NOT_FINISHED

    def setup(self) -> None:
        """Read the plan, open the ledger, and start looking for the first episode."""
        self.contract = self.contract_param()
        run = open_run(self.param("run_dir", "runs/run", "folder of this run"))
        trials = None
        if self.param("evaluation", False, "run_dir holds the locked plan of an evaluation: its trials are run"):
            from inril_core.evaluation.session.graph import GraphTrials

            trials = GraphTrials(run.paths.root, self.contract)
        text = self.param(
            "plan", "eval:10:episodes", "segments PURPOSE:AMOUNT:UNIT, separated by commas, done in order"
        )
        plan = parse_plan(text if trials is None else f"eval:{len(trials)}:episodes")
        seed = self.param("seed", 0, "chooses the demonstrations' and the training's starts", 0, 999)
        factor = self.param("real_time_factor", 0.0, "0: lockstep; N: the cell runs at N times real time", 0.0, 100.0)
        arm_at_start = self.param("arm_at_start", False, "simulation only: arm once when the graph is started")
        unattended = self.param("unattended", False, "nobody comes: a wait for a person ends the run with exit code 3")
        unattended_wait_s = self.param("unattended_wait_s", 60.0, "longest such wait", 0.1, 86400.0)
        times = ResetTimes(
            self.param("reset_timeout_s", ResetTimes.timeout_s, "longest reset of the cell", 1.0, 86400.0),
            self.param("reset_heartbeat_s", ResetTimes.heartbeat_s, "silence that ends a reset", 0.5, 60.0),
        )
        by_hand = self.param("reset", "service", "who lays the cell out", choices=("service", "by_hand")) == "by_hand"
        expected = Expected(
            self.param("expects_policy", True, "the graph has a policy_node"),
            self.param("expects_recorder", True, "the graph has a recorder_node that records all"),
            self.param("expects_learner", True, "the graph has a learner_node"),
        )
        ledger = Ledger(run.paths.session)
        for problem in ledger.problems:
            self.get_logger().error(problem)
        ledger.check_plan(plan)
        self._arm_marker = run.paths.root / "armed_at_start"
        session = self._session = Session(
            SessionSettings(
                run.run_id,
                self.boot_id,
                self.contract.episode_length_steps,
                seed,
                by_hand,
                times,
                unattended_wait_s if unattended else None,
            ),
            plan,
            ledger,
            Readiness(self.contract, expected, factor == 0.0, self.mono_ns()),
            time.time,
            arm_at_start and not armed_by_this_launch(self._arm_marker),
            trials,
        )
        self._run_id, self._reset_timeout_s = run.run_id, times.timeout_s
        self._long_wait = LongWait(self.get_logger().warning)
        self._began_ns, self._shown_results = self.mono_ns(), len(ledger)
        self._next_status_ns = self._next_progress_ns = 0
        self._shown: tuple[Any, ...] = ()
        self._events = self.create_publisher(EpisodeEvent, "episode_event", EVENT)
        self._status = self.create_publisher(SessionStatus, "session_status", LATCHED)
        self._listen(session, expected)
        self.create_service(SessionCommand, "session/command", self._on_command)
        self.create_service(LabelEpisode, "session/label_episode", self._on_label)
        self.steady_timer(POLL_PERIOD_S, self._poll)

    def _listen(self, session: Session, expected: Expected) -> None:
        self._hear(ArbiterStatus, "arbiter_status", LATCHED, ArbiterNews)
        if expected.policy:
            self._hear(PolicyStatus, "policy_status", LATCHED, PolicyNews)
        if expected.learner:
            self._hear(LearnerStatus, "learner_status", LATCHED, LearnerNews)
        if expected.recorder:
            self._hear(RecorderStatus, "recorder_status", EVENT, RecorderNews)
        self.create_subscription(StepOutcome, "episode_outcome", self._on_outcome, EVENT)
        self.create_subscription(ResetStatus, "reset_status", self._on_reset_status, EVENT)
        self._robot: Any = None
        if session.arming.wanted:
            self._robot = self.create_subscription(RobotState, "robot_state", self._on_robot, TICK)

    def _hear(self, kind: Any, topic: str, qos: Any, news: type[N]) -> None:
        names = [declared.name for declared in fields(news)]

        def hear(message: Any) -> None:
            assert self._session is not None
            self._session.readiness.hear(news(**{n: getattr(message, n) for n in names}), self.mono_ns())
            self._advance()

        self.create_subscription(kind, topic, hear, qos)

    def teardown(self) -> None:
        """End the running episode, so that the recorder can close it."""
        if self._session is not None:
            self._session.close(self.mono_ns())
            self._act()
        self._calls.cancel()

    def _poll(self) -> None:
        session, now_ns = self._session, self.mono_ns()
        assert session is not None
        self._calls.poll(now_ns)
        self._advance()
        self._long_wait.update(session.waiting.text, now_ns)
        if not session.arming.wanted and self._robot is not None:
            self.destroy_subscription(self._robot)
            self._robot = None

    def _advance(self) -> None:
        """Go on, as far as what was heard and the time allow."""
        session, now_ns = self._session, self.mono_ns()
        assert session is not None
        session.readiness.recorder_connected = self._events.get_subscription_count() > 0
        session.hear_services(
            self._calls.not_served(ResetCell, "cell/reset"),
            self._calls.not_served(BeginEpisode, "observation/begin_episode"),
        )
        session.poll(now_ns)
        self._act()
        if session.state is State.DONE:
            self._finish(session)
        if now_ns >= self._next_status_ns or (session.state, session.waiting.person) != self._shown:
            self._publish_status(session, now_ns)

    def _finish(self, session: Session) -> None:
        self._publish_status(session, self.mono_ns())
        if session.exit_code == ExitCode.FINISHED:
            self._progress(session)
            self.get_logger().info(session.end_reason)
        else:
            self.get_logger().error(session.end_reason)
        raise NodeFinished(session.exit_code)

    def _act(self) -> None:
        """Do what the session asks, in its order; an answer that comes at once may add to it."""
        session = self._session
        assert session is not None
        while session.requests:
            self._do(session, session.requests.popleft())
        if len(session.ledger) > self._shown_results and self.mono_ns() >= self._next_progress_ns:
            self._shown_results = len(session.ledger)
            self._next_progress_ns = self.mono_ns() + round(PROGRESS_PERIOD_S * 1e9)
            self._progress(session)

    def _do(self, session: Session, request: ask.Request) -> None:
        arm = Arm.Request(graph_id=self.graph_id, arm=True, operator_name="arm_at_start")
        match request:
            case ask.Tell(text, warning=True):
                self.get_logger().warning(text)
            case ask.Tell(text):
                self.get_logger().info(text)  # rclpy refuses another severity from the same line
            case ask.ArmRobot():
                self._ask_to_arm("robot/arm", arm, session.arming.on_robot_armed)
            case ask.ArmArbiter():
                note_armed(self._arm_marker)  # first: killed in between, nobody arms a second time
                self._ask_to_arm("arbiter/arm", arm, session.arming.on_arbiter_armed)
            case ask.ChooseVersion(n):
                choose = RollBack.Request(graph_id=self.graph_id, run_id=self._run_id, n=n)
                self._call(RollBack, "policy/roll_back", choose, CALL_TIMEOUT_S, self._on_chosen, _ignore)
            case ask.ResetCell(attempt):
                self._reset(session, attempt)
            case ask.CancelReset(reset_id):
                cancel = ResetCell.Request(graph_id=self.graph_id, reset_id=reset_id, cancel=True)
                self._call(ResetCell, "cell/reset", cancel, CALL_TIMEOUT_S, _ignore, _ignore)
            case ask.BeginEpisode(attempt):
                self._begin(session, attempt)
            case ask.EndEpisode(episode_id, success, by, reason):
                self._end(session, episode_id, success, by, reason)
            case ask.Announce():
                self._announce(request)

    def _call(self, kind: Any, service: str, request: Any, timeout_s: float, on_reply: Any, on_failure: Any) -> None:
        self._calls.call(kind, service, request, self.mono_ns(), timeout_s, on_reply, on_failure)

    def _ask_to_arm(self, service: str, request: Arm.Request, on_answer: Any) -> None:
        assert self._session is not None
        failed = self._session.arming.on_failure

        def answered(reply: Arm.Response) -> None:
            on_answer(reply.success, reply.message, self.mono_ns())
            self._advance()

        self._call(Arm, service, request, CALL_TIMEOUT_S, answered, lambda why: failed(why, self.mono_ns()))

    def _on_chosen(self, reply: RollBack.Response) -> None:
        """Its status says whether it does so; only a refusal says why not."""
        if not reply.success:
            self.get_logger().error(f"policy/roll_back: {reply.message}")

    def _reset(self, session: Session, attempt: ask.Attempt) -> None:
        request = ResetCell.Request(
            graph_id=self.graph_id,
            reset_id=attempt.episode_id,
            seed=attempt.seed,
            purpose=Purpose.of(attempt.purpose),
            starts=Purpose.of(attempt.start_purpose),
        )

        def answered(reply: ResetCell.Response) -> None:
            session.on_reset_answer(attempt.episode_id, reply.success, reply.working, reply.message, self.mono_ns())
            self._advance()

        # the session itself notices a server that has gone, and a reset that takes too long
        self._call(ResetCell, "cell/reset", request, self._reset_timeout_s, answered, _ignore)

    def _begin(self, session: Session, attempt: ask.Attempt) -> None:
        request = BeginEpisode.Request(
            graph_id=self.graph_id,
            episode_id=attempt.episode_id,
            purpose=Purpose.of(attempt.purpose),
            seed=attempt.seed,
            explore=attempt.explore,
            max_steps=self.contract.episode_length_steps,
        )

        def begun(success: bool, message: str) -> None:
            session.on_begun(attempt.episode_id, success, message, self.mono_ns())
            self._advance()

        self._call(
            BeginEpisode,
            "observation/begin_episode",
            request,
            CALL_TIMEOUT_S,
            lambda reply: begun(reply.success, reply.message),
            lambda why: begun(False, why),
        )

    def _end(self, session: Session, episode_id: str, success: bool | None, by: str, reason: str) -> None:
        request = EndEpisode.Request(
            graph_id=self.graph_id, episode_id=episode_id, label=Label.of(success), by=by, reason=reason
        )

        def answered(reply: EndEpisode.Response) -> None:
            if not reply.success:
                session.on_end_refused(episode_id, self.mono_ns())
                self._advance()

        self._call(EndEpisode, "observation/end_episode", request, END_GRACE_S, answered, _ignore)

    def _announce(self, news: ask.Announce) -> None:
        event = EpisodeEvent(
            event=int(news.kind),
            run_id=self._run_id,
            episode_id=news.episode_id,
            label=Label.of(news.success),
            by=news.by,
            reason=news.reason,
        )
        if news.attempt is not None:
            event.purpose, event.seed = Purpose.of(news.attempt.purpose), news.attempt.seed
            event.explore, event.max_steps = news.attempt.explore, self.contract.episode_length_steps
        event.header.stamp = self.get_clock().now().to_msg()
        self._events.publish(event)

    def _on_outcome(self, message: StepOutcome) -> None:
        assert self._session is not None
        outcome = EpisodeOutcome(
            message.episode_id, message.step, message.success, message.terminated, message.source, message.reason
        )
        self._session.on_outcome(outcome, self.mono_ns())
        self._advance()

    def _on_reset_status(self, message: ResetStatus) -> None:
        assert self._session is not None
        self._session.on_reset_status(message.reset_id, message.state, message.text, self.mono_ns())
        self._advance()

    def _on_robot(self, message: RobotState) -> None:
        assert self._session is not None
        self._session.arming.simulated = bool(message.simulated)

    def _on_command(self, request: SessionCommand.Request, response: SessionCommand.Response) -> Any:
        session = self._session
        assert session is not None
        response.message = self.meant_for_another(request.graph_id)
        if response.message:
            return response
        response.success, response.message = obey(
            session, request.command, request.episode_id, request.by, self.mono_ns(), request.tag
        )
        self.get_logger().info(f"{request.by!r}: {response.message}")
        self._act()  # not further: the answer must leave before the node may end
        return response

    def _on_label(self, request: LabelEpisode.Request, response: LabelEpisode.Response) -> LabelEpisode.Response:
        assert self._session is not None
        response.message = self.meant_for_another(request.graph_id)
        if response.message:
            return response
        if request.label not in [label.value for label in Label]:
            response.message = f"label = {request.label}: give one of {[f'{one.value} ({one.name})' for one in Label]}"
            return response
        said = Label(request.label).success, request.by, request.tag
        response.success, response.message = label_earlier(self._session, request.episode_id, *said)
        self._act()
        return response

    def _publish_status(self, session: Session, now_ns: int) -> None:
        self._next_status_ns = now_ns + round(STATUS_PERIOD_S * 1e9)
        self._shown = (session.state, session.waiting.person)
        index = session.segment_index
        done = index == len(session.plan)
        progress = session.ledger.progress(index)
        status = SessionStatus(
            boot_id=self.boot_id,
            run_id=self._run_id,
            segment="done" if done else session.plan[index].purpose,
            state=str(session.state),
            waiting_for=session.waiting.text,
            waits_for_person=session.waiting.person,
            episode_id="" if session.attempt is None else session.attempt.episode_id,
            start=-1 if session.attempt is None else session.attempt.seed,
            episodes=progress.episodes,
            steps=progress.steps,
            successes=progress.successes,
            failures=progress.episodes - progress.successes,
            steps_per_s=self._steps_per_s(session),
            eta_s=math.nan if done else session.ledger.eta_s(session.plan[index], index),
            trials=session.evaluating.trials_n,
            failure_tags=list(session.evaluating.failure_tags),
        )
        status.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(status)

    def _steps_per_s(self, session: Session) -> float:
        return session.steps / max((self.mono_ns() - self._began_ns) * 1e-9, 1e-6)

    def _progress(self, session: Session) -> None:
        learner = session.readiness.learner_summary()
        line = progress_line(session.ledger, session.plan, self._steps_per_s(session), learner)
        self.get_logger().info(line)


def _ignore(_: Any) -> None:
    """What follows is seen by the session's own clock."""


def main() -> None:
    """Entry point."""
    run_node(SessionNode)


if __name__ == "__main__":
    main()
