"""From the graph's messages to what the console's pages are told."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from inril_common.convert import pose_to_array
from inril_msgs.msg import RecorderStatus

from inril_core.console import messages as m
from inril_core.files import parse_line
from inril_core.vocabulary import Phase, Purpose, Source
from inril_core.weights.store import STATE_NAME, StoreState

HEARD_NS = 3_000_000_000
"""A status that is older is not heard any more: statuses come every 0.5 s at least."""
LINK_NS = 5_000_000_000
"""A line of /diagnostics that is older belongs to a node that is gone."""

Level = Literal["ok", "warning", "error", "stale"]
_LEVELS: dict[bytes, Level] = {
    DiagnosticStatus.OK: "ok",
    DiagnosticStatus.WARN: "warning",
    DiagnosticStatus.ERROR: "error",
    DiagnosticStatus.STALE: "stale",
}
_RECORDER = {
    RecorderStatus.IDLE: "idle",
    RecorderStatus.RECORDING: "recording",
    RecorderStatus.FINALISING: "finalising",
    RecorderStatus.REFUSING: "refusing",
}


class Heard:
    """The newest message of each name, and when it came. Times are monotonic nanoseconds."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[Any, int]] = {}

    def keep(self, name: str, message: Any, now_ns: int) -> None:
        """Take a message."""
        self._newest[name] = message, now_ns

    def newest(self, name: str) -> Any:
        """However old it is; None: none came."""
        return self._newest[name][0] if name in self._newest else None

    def age_s(self, name: str, now_ns: int) -> float:
        """Since it came; NaN: none came."""
        return (now_ns - self._newest[name][1]) * 1e-9 if name in self._newest else math.nan

    def lives(self, name: str, now_ns: int) -> bool:
        """It came just now."""
        return name in self._newest and now_ns - self._newest[name][1] <= HEARD_NS


def safety(heard: Heard, now_ns: int) -> m.Safety:
    """Arbiter and arm; where the arbiter is silent nothing is said to be armed."""
    arbiter, robot, device = (heard.newest(name) for name in ("arbiter", "robot", "teleop"))
    lives = heard.lives("arbiter", now_ns)
    source = Source.HOLD if arbiter is None else arbiter.in_control
    return m.Safety(
        lives,
        lives and arbiter.armed,
        Source(source).word if source in set(Source) else "unknown",
        () if arbiter is None else tuple(map(m.FaultLine, arbiter.faults, arbiter.details)),
        heard.lives("robot", now_ns),
        robot is not None and robot.holding,
        robot is not None and robot.needs_rearm,
        robot is not None and robot.simulated,
        0 if arbiter is None else arbiter.late_ticks,
        "" if device is None else device.trouble,
    )


def session(heard: Heard, now_ns: int) -> m.SessionState:
    """Session, reset and recorder."""
    said, recorder, reset = heard.newest("session"), heard.newest("recorder"), heard.newest("reset")
    records = recorder is not None and heard.lives("recorder", now_ns)
    counts = (0, 0, 0, 0) if said is None else (said.episodes, said.successes, said.failures, said.steps)
    resets = said is not None and said.state == "resetting" and reset is not None
    return m.SessionState(
        heard.lives("session", now_ns),
        "" if said is None else said.segment,
        "" if said is None else said.state,
        "" if said is None else said.waiting_for,
        said is not None and said.waits_for_person,
        "" if said is None else said.episode_id,
        *counts,
        math.nan if said is None else round(said.steps_per_s, 1),
        math.nan if said is None else said.eta_s,
        0 if said is None else said.trials,
        () if said is None else tuple(said.failure_tags),
        reset.text if resets else "",
        _RECORDER.get(recorder.state, "unknown") if records else "",
        recorder.reason if records else "",
        round(recorder.free_bytes / 1e9, 1) if records else math.nan,
    )


def start_laid_out(heard: Heard, now_ns: int) -> int:
    """The start that is being laid out; -1: none is."""
    said = heard.newest("session")
    return said.start if said is not None and heard.lives("session", now_ns) and said.state == "resetting" else -1


def policy(heard: Heard, now_ns: int, versions: tuple[m.ShownVersion, ...]) -> m.PolicyState:
    """Policy and learner."""
    said, learner = heard.newest("policy"), heard.newest("learner")
    lives = heard.lives("policy", now_ns)
    learns = learner is not None and heard.lives("learner", now_ns)
    doing = "" if not learns else learner.state + (f": {learner.reason}" if learner.reason else "")
    updates, rate = (learner.updates, round(learner.updates_per_s, 1)) if learns else (0, math.nan)
    if said is None:
        return m.PolicyState(False, "", -1, -1, False, 0, 0, -1, "", versions, doing, updates, rate)
    return m.PolicyState(
        lives,
        said.active_run_id,
        said.active_n,
        said.pending_n,
        said.pinned,
        said.accepted,
        said.rejected,
        said.last_rejected_n,
        said.last_rejection,
        versions,
        doing,
        updates,
        rate,
    )


def pose(heard: Heard, now_ns: int) -> m.Pose:
    """Measured and commanded."""
    robot, target = heard.newest("robot"), heard.newest("target")
    return m.Pose(
        () if robot is None else tuple(map(float, robot.joint_position_rad)),
        math.nan if robot is None else robot.gripper_width_m,
        () if robot is None else _rounded(pose_to_array(robot.tool_pose).tolist()),
        () if target is None else _rounded(pose_to_array(target.pose).tolist()),
        round(heard.age_s("robot", now_ns), 2),
        round(heard.age_s("target", now_ns), 2),
    )


def observed(message: Any) -> m.Observed | None:
    """From an Observation; None: no episode runs in it."""
    if message is None or message.last or message.phase != Phase.RUN:
        return None
    try:
        purpose = Purpose.of(message.purpose).word
    except ValueError:
        return None
    return m.Observed(message.episode_id, purpose, message.step, _rounded(np.asarray(message.state).tolist()))


def _rounded(values: list[float]) -> tuple[float, ...]:
    return tuple(round(value, 5) for value in values)


class LinkTable:
    """What the nodes of one graph say of their links on /diagnostics."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[m.LinkLine, int]] = {}

    def hear(self, message: DiagnosticArray, now_ns: int) -> None:
        """Take the lines of a node."""
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            name = status.name.partition(": ")[2] or status.name
            line = m.LinkLine(
                status.hardware_id.rpartition("/")[2],
                name,
                _LEVELS.get(status.level, "error"),
                status.message,
                _number(values.get("rate_hz")),
                _number(values.get("age_s")),
                int(_number(values.get("drops", "0"))),
            )
            self._lines[status.name] = line, now_ns

    def message(self, now_ns: int) -> m.Links:
        """All lines that are news, by node."""
        fresh = {key: line for key, (line, heard_ns) in self._lines.items() if now_ns - heard_ns <= LINK_NS}
        self._lines = {key: value for key, value in self._lines.items() if key in fresh}
        return m.Links(tuple(fresh[key] for key in sorted(fresh)))


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def kept_versions(weights: Path) -> tuple[m.ShownVersion, ...]:
    """The packs that the policy can go back to, oldest first; none where its folder is not there or not readable."""
    try:
        state = parse_line((weights / STATE_NAME).read_bytes(), StoreState)
    except (OSError, ValueError):
        return ()
    return tuple(m.ShownVersion(pack.run_id, pack.n) for pack in state.packs)
