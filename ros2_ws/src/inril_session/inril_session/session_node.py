"""Runs a session's plan: resets the cell, begins episodes, notes how they end, and says what it waits for."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from enum import Enum, auto
from typing import Any

from inril_common.calls import Calls
from inril_common.node import InrilPlainNode, NodeFinished, run_node
from inril_common.qos import EVENT, LATCHED
from inril_msgs.msg import EpisodeEvent, Observation, SessionStatus, StepOutcome
from inril_msgs.srv import Arm, BeginEpisode, EndEpisode, LabelEpisode, ResetCell

from inril_core.run import open_run
from inril_core.session.ledger import EpisodeResult, Ledger
from inril_core.session.plan import Segment, episode_seed, parse_plan
from inril_session.arm_marker import armed_by_this_launch, note_armed
from inril_session.long_wait import LongWait
from inril_session.progress import progress_line
from inril_session.readiness import Readiness

PURPOSE_CODES = {
    "demo": Observation.PURPOSE_DEMO,
    "train": Observation.PURPOSE_TRAIN,
    "eval": Observation.PURPOSE_EVAL,
}
LABELS = {True: EpisodeEvent.LABEL_SUCCESS, False: EpisodeEvent.LABEL_FAILURE, None: EpisodeEvent.LABEL_UNKNOWN}
CALL_TIMEOUT_S = 10.0
END_GRACE_S = 3.0
RECORDED_S = 5.0  # longest wait for the recorder to have an ended episode whole on disk
STATUS_PERIOD_S = 0.5
PROGRESS_PERIOD_S = 2.0


class State(Enum):
    """Where the running episode is."""

    WAITING = auto()
    RESETTING = auto()
    BEGINNING = auto()
    RUNNING = auto()
    ENDING = auto()
    ENDED = auto()
    """It counts once the recorder has it on disk."""


class SessionNode(InrilPlainNode):
    """Serves /session/label_episode; publishes /episode_event and /session_status."""

    def __init__(self) -> None:
        super().__init__("session_node")
        self._calls = Calls(self)
        self._state = State.WAITING
        self._ended: EpisodeResult | None = None

    def setup(self) -> None:
        """Read the plan, open the ledger, and start looking for the first episode."""
        self.contract = self.contract_param()
        self._run = open_run(self.param("run_dir", "runs/run", "folder of this run"))
        self._plan = parse_plan(
            self.param("plan", "eval:10:episodes", "segments PURPOSE:AMOUNT:UNIT, separated by commas, done in order")
        )
        self._seed = self.param("seed", 0, "chooses the demonstrations' and the training's starts", 0, 999)
        factor = self.param("real_time_factor", 0.0, "0: lockstep; N: the cell runs at N times real time", 0.0, 100.0)
        self._lockstep = factor == 0.0
        arm_at_start = self.param(
            "arm_at_start",
            False,
            "arm once when the graph is started; for simulated cells, a person arms a real one",
        )
        self._ledger = Ledger(self._run.paths.session)
        self._ledger.check_plan(self._plan)
        self._arm_marker = self._run.paths.root / "armed_at_start"
        self._arm_wanted = arm_at_start and not armed_by_this_launch(self._arm_marker)
        self._events = self.create_publisher(EpisodeEvent, "episode_event", EVENT)
        self._ready = Readiness(self, self._events, self.contract, self._lockstep)
        self._waiting_for = ""
        self._long_wait = LongWait(self.get_logger().warning)
        self._episode: dict[str, Any] = {}
        self._deadline_ns = 0
        self._begun_s = time.monotonic()
        self._steps_here = 0
        self._next_status_ns = self._next_progress_ns = 0
        self._status = self.create_publisher(SessionStatus, "session_status", LATCHED)
        self.create_subscription(StepOutcome, "episode_outcome", self._on_outcome, EVENT)
        self.create_service(LabelEpisode, "session/label_episode", self._label)
        self.create_timer(0.02, self._poll)

    def teardown(self) -> None:
        """End the running episode, so that the recorder can close it."""
        if self._state in (State.RUNNING, State.ENDING, State.BEGINNING):
            self._finish(success=None, terminated=False, steps=0, by="session", reason="session ended", valid=False)
        elif self._ended is not None:
            self._write_down(replace(self._ended, valid=False, reason="session ended"))
        self._calls.cancel()

    @property
    def _segment_index(self) -> int:
        for index, segment in enumerate(self._plan):
            if not self._ledger.progress(index).done(segment):
                return index
        return len(self._plan)

    def _poll(self) -> None:
        now_ns = self.mono_ns()
        self._calls.poll(now_ns)
        if self._state is State.ENDED:
            self._await_recording(now_ns)
        if self._state is State.WAITING:
            self._try_next()
        elif self._state is State.RUNNING:
            self._watch()
        elif self._state is State.ENDING and now_ns > self._deadline_ns:
            self._finish(None, False, 0, "session", "no node closed the episode in time", valid=False)
        self._long_wait.update(self._waiting_for, now_ns)  # also while it asks for arming, again and again
        if now_ns >= self._next_status_ns:
            self._next_status_ns = now_ns + round(STATUS_PERIOD_S * 1e9)
            self._publish_status()

    def _try_next(self) -> None:
        index = self._segment_index
        if self._arm_wanted:
            self._arm()
            return
        if index == len(self._plan):
            self._waiting_for = self._ready.drained()
            if not self._waiting_for:
                self._publish_status()
                self._progress()
                self.get_logger().info("plan finished")
                raise NodeFinished
            return
        segment = self._plan[index]
        self._waiting_for = (
            self._ready.blocked_by(segment.purpose)
            or self._calls.not_served(ResetCell, "cell/reset")
            or self._calls.not_served(BeginEpisode, "observation/begin_episode")
        )
        if not self._waiting_for:
            self._reset(index, segment)

    def _arm(self) -> None:
        if self._ready.armed():  # a person was faster: should they disarm, it stays disarmed
            self._arm_wanted = False
            return
        reason = self._ready.not_armable()
        self._waiting_for = reason or "the arbiter's readiness to be armed (/arbiter/arm)"
        if reason:
            return

        def armed(reply: Arm.Response) -> None:
            self._state = State.WAITING
            if reply.success:
                self._arm_wanted = False
                self.get_logger().info("armed once, as arm_at_start says; from here on only a person arms")
            else:
                self._waiting_for = reply.message

        def robot_armed(_: Arm.Response) -> None:
            # Before it is asked for: killed in between, this node must not arm a second time.
            note_armed(self._arm_marker)
            self._call(Arm, "arbiter/arm", request, armed)

        # the arm's own watchdog first: the arbiter refuses while it holds
        request = Arm.Request(graph_id=self.graph_id, arm=True, operator_name="arm_at_start")
        self._state = State.RESETTING
        self._call(Arm, "robot/arm", request, robot_armed)

    def _reset(self, index: int, segment: Segment) -> None:
        number = self._ledger.progress(index).episodes
        earlier = sum(
            self._ledger.progress(i).episodes for i in range(index) if self._plan[i].purpose == segment.purpose
        )
        if segment.purpose == "eval":
            earlier = 0  # every evaluation meets the same starts
        attempt = self._ledger.attempts(index)
        self._episode = {
            "index": number,
            "segment_index": index,
            "segment": segment,
            "episode_id": f"{self._run.run_id}-{index}-{segment.purpose}-{attempt:05d}-{self.boot_id[:6]}",
            "seed": episode_seed(segment.purpose, earlier + number, self._seed),
            "explore": segment.purpose == "train",
        }
        request = ResetCell.Request(
            graph_id=self.graph_id,
            seed=self._episode["seed"],
            reset_id=self._episode["episode_id"],
            purpose=PURPOSE_CODES[segment.purpose],
        )
        self._state = State.RESETTING
        self._call(ResetCell, "cell/reset", request, self._on_reset)

    def _on_reset(self, reply: ResetCell.Response) -> None:
        if not reply.success:
            self._give_up(f"cell/reset refused: {reply.message}")
            return
        self._state = State.BEGINNING
        self._ready.note_begin()
        self._publish_event(EpisodeEvent.BEGIN)
        request = BeginEpisode.Request(
            graph_id=self.graph_id,
            episode_id=self._episode["episode_id"],
            purpose=PURPOSE_CODES[self._episode["segment"].purpose],
            seed=self._episode["seed"],
            explore=self._episode["explore"],
            max_steps=self.contract.episode_length_steps,
        )
        self._episode["began_ns"] = self.mono_ns()
        self._call(BeginEpisode, "observation/begin_episode", request, self._on_begun)

    def _on_begun(self, reply: BeginEpisode.Response) -> None:
        if self._state is not State.BEGINNING:
            return  # the outcome was faster than this reply
        if not reply.success:
            self._finish(None, False, 0, "session", f"not begun: {reply.message}", valid=False)
            return
        self._state = State.RUNNING

    def _watch(self) -> None:
        trouble = self._ready.trouble_while_running()
        ran_s = (self.mono_ns() - self._episode["began_ns"]) * 1e-9
        if not trouble and ran_s > 2.0 * self.contract.episode_length_steps:
            trouble = f"the episode has run for {ran_s:.0f} s"
        if trouble:
            self._request_end(trouble)

    def _request_end(self, reason: str) -> None:
        self.get_logger().warning(f"ending {self._episode['episode_id']}: {reason}")
        self._episode["trouble"] = reason
        self._state = State.ENDING
        self._deadline_ns = self.mono_ns() + round(END_GRACE_S * 1e9)
        request = EndEpisode.Request(
            graph_id=self.graph_id,
            episode_id=self._episode["episode_id"],
            label=EpisodeEvent.LABEL_UNKNOWN,
            by="session",
            reason=reason,
        )

        def answered(reply: EndEpisode.Response) -> None:
            if not reply.success and self._state is State.ENDING:
                self._finish(None, False, 0, "session", reason, valid=False)

        self._calls.call(
            EndEpisode,
            "observation/end_episode",
            request,
            self.mono_ns(),
            END_GRACE_S,
            answered,
            lambda _: None,
        )

    def _on_outcome(self, outcome: StepOutcome) -> None:
        running = self._state in (State.BEGINNING, State.RUNNING, State.ENDING)
        if not running or outcome.episode_id != self._episode["episode_id"]:
            return
        trouble = self._episode.get("trouble") or self._ready.trouble_while_running()
        labelled = outcome.source != "session"
        self._finish(
            success=outcome.success if labelled else None,
            terminated=outcome.terminated,
            steps=outcome.step + 1,
            by=outcome.source,
            reason=trouble or outcome.reason,
            valid=not trouble,
        )

    def _finish(self, success: bool | None, terminated: bool, steps: int, by: str, reason: str, valid: bool) -> None:
        self._publish_event(EpisodeEvent.END, LABELS[success], by, reason)
        segment = self._episode["segment"]
        result = EpisodeResult(
            segment_index=self._episode["segment_index"],
            segment=segment.name,
            index=self._episode["index"],
            episode_id=self._episode["episode_id"],
            purpose=segment.purpose,
            seed=self._episode["seed"],
            steps=steps,
            success=bool(success),
            terminated=terminated,
            source=by,
            reason=reason,
            version_n=self._ready.active_version(),
            late_ticks=self._ready.late_ticks_while_running(),
            duration_s=(self.mono_ns() - self._episode["began_ns"]) * 1e-9,
            ended_unix_s=time.time(),
            valid=valid,
        )
        if not valid:
            self._write_down(result)
            return
        self._ended, self._state = result, State.ENDED
        self._deadline_ns = self.mono_ns() + round(RECORDED_S * 1e9)
        self._await_recording(self.mono_ns())

    def _await_recording(self, now_ns: int) -> None:
        """Count the ended episode once it is whole on disk; what the recorder lost is done again."""
        result = self._ended
        assert result is not None
        trouble = self._ready.not_recorded(result.episode_id, result.steps)
        if trouble is None and now_ns > self._deadline_ns:
            trouble = "recorder_node did not confirm the episode in time"
        if trouble:
            self.get_logger().warning(f"{result.episode_id} does not count: {trouble}")
            result = replace(result, valid=False, reason=trouble)
        if trouble is not None:
            self._write_down(result)

    def _write_down(self, result: EpisodeResult) -> None:
        self._ledger.append(result)
        self._steps_here += result.steps
        if result.purpose == "train" and result.valid:
            trained = [r.steps for r in self._ledger.results if r.purpose == "train" and r.valid]
            self._ready.note_trained(sum(trained))
        self._state, self._ended = State.WAITING, None
        self._episode = {}
        if self.mono_ns() >= self._next_progress_ns:
            self._next_progress_ns = self.mono_ns() + round(PROGRESS_PERIOD_S * 1e9)
            self._progress()

    def _give_up(self, reason: str) -> None:
        """Before an episode began: nothing to close, try again."""
        if self._state not in (State.RESETTING, State.BEGINNING):
            return  # an answer that nobody waits for any more
        self._waiting_for = reason
        self.get_logger().warning(reason, throttle_duration_sec=2.0)
        if self._state is State.BEGINNING:
            self._finish(None, False, 0, "session", reason, valid=False)
        self._state = State.WAITING

    def _call(self, service_type: Any, service: str, request: Any, on_reply: Any) -> None:
        self._calls.call(service_type, service, request, self.mono_ns(), CALL_TIMEOUT_S, on_reply, self._give_up)

    def _label(self, request: LabelEpisode.Request, response: LabelEpisode.Response) -> LabelEpisode.Response:
        response.message = self.meant_for_another(request.graph_id)
        if response.message:
            return response
        known = any(r.episode_id == request.episode_id for r in self._ledger.results)
        if not known or request.label not in (EpisodeEvent.LABEL_SUCCESS, EpisodeEvent.LABEL_FAILURE):
            response.message = f"episode {request.episode_id!r} or label {request.label} is unknown; see session.jsonl"
            return response
        event = EpisodeEvent(
            event=EpisodeEvent.LABEL,
            run_id=self._run.run_id,
            episode_id=request.episode_id,
            label=request.label,
            by=request.by,
        )
        event.header.stamp = self.get_clock().now().to_msg()
        self._events.publish(event)
        response.success = True
        return response

    def _publish_event(
        self, kind: int, label: int = EpisodeEvent.LABEL_UNKNOWN, by: str = "", reason: str = ""
    ) -> None:
        event = EpisodeEvent(
            event=kind,
            run_id=self._run.run_id,
            episode_id=self._episode["episode_id"],
            purpose=PURPOSE_CODES[self._episode["segment"].purpose],
            seed=self._episode["seed"],
            explore=self._episode["explore"],
            max_steps=self.contract.episode_length_steps,
            label=label,
            by=by,
            reason=reason,
        )
        event.header.stamp = self.get_clock().now().to_msg()
        self._events.publish(event)

    def _publish_status(self) -> None:
        index = self._segment_index
        done = index == len(self._plan)
        progress = self._ledger.progress(index)
        status = SessionStatus(
            boot_id=self.boot_id,
            run_id=self._run.run_id,
            segment="done" if done else self._plan[index].purpose,
            waiting_for=self._waiting_for if self._state is State.WAITING else "",
            episode_id=self._episode.get("episode_id", ""),
            episodes=progress.episodes,
            steps=progress.steps,
            successes=progress.successes,
            failures=progress.episodes - progress.successes,
            steps_per_s=self._steps_here / max(time.monotonic() - self._begun_s, 1e-6),
            eta_s=math.nan if done else self._ledger.eta_s(self._plan[index], index),
        )
        status.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(status)

    def _progress(self) -> None:
        steps_per_s = self._steps_here / max(time.monotonic() - self._begun_s, 1e-6)
        self.get_logger().info(progress_line(self._ledger, self._plan, steps_per_s, self._ready.learner_summary()))


def main() -> None:
    """Entry point."""
    run_node(SessionNode)


if __name__ == "__main__":
    main()
