"""What a person asks of a running graph: arm it, look at it, roll weights back."""

from __future__ import annotations

import getpass
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import rclpy
from inril_common.executor import NodeExecutor
from inril_common.qos import EVENT, LATCHED
from inril_msgs.msg import (
    ArbiterStatus,
    ExecutedAction,
    LearnerStatus,
    PolicyStatus,
    RecorderStatus,
    SessionStatus,
)
from inril_msgs.srv import Arm, RollBack
from rclpy.context import Context
from rclpy.node import Node

from inril_bringup.environment import use_dds_of_the_graph
from inril_core.errors import InrilError
from inril_core.safety.faults import Fault

SERVICE_TIMEOUT_S = 5.0
STATUS_TIMEOUT_S = 2.5
ARM_TRIES, ARM_PAUSE_S = 20, 0.1  # far longer than the arm takes to publish its next state
STATUSES: dict[str, tuple[Any, Any]] = {
    "session": (SessionStatus, LATCHED),
    "arbiter": (ArbiterStatus, LATCHED),
    "policy": (PolicyStatus, LATCHED),
    "recorder": (RecorderStatus, EVENT),
    "learner": (LearnerStatus, LATCHED),
}
_SOURCES = {
    ExecutedAction.SOURCE_POLICY: "policy",
    ExecutedAction.SOURCE_HUMAN: "human",
    ExecutedAction.SOURCE_HOLD: "hold",
    ExecutedAction.SOURCE_RESET: "reset",
}
_RECORDER_STATES = {
    RecorderStatus.IDLE: "idle",
    RecorderStatus.RECORDING: "recording",
    RecorderStatus.FINALISING: "finalising",
    RecorderStatus.REFUSING: "refusing",
}


class Refused(InrilError):
    """The graph did not do what was asked; the message says why and the mend."""


class Operator:
    """A short-lived node that speaks for a person."""

    def __init__(self, node: Node, executor: NodeExecutor) -> None:
        self._node, self._executor = node, executor

    def call(self, service_type: Any, service: str, request: Any, timeout_s: float = SERVICE_TIMEOUT_S) -> Any:
        """Call a service and return its answer.

        Raises:
            Refused: nobody serves it, nobody answers in time, or the answer is no.
        """
        client = self._node.create_client(service_type, service)
        deadline_s = time.monotonic() + timeout_s
        if not self._spin_until(client.service_is_ready, deadline_s):
            raise Refused(
                f"{service}: nobody serves it on ROS domain {os.environ.get('ROS_DOMAIN_ID', '0')}; "
                "is the graph up? (inril status)"
            )
        future = client.call_async(request)
        if not self._spin_until(future.done, deadline_s):
            raise Refused(f"{service}: no answer within {timeout_s:.0f} s; see the log of the node that serves it")
        answer = future.result()
        if not answer.success:
            raise Refused(f"{service}: {answer.message or 'refused without a reason'}")
        return answer

    def served(self, service_type: Any, service: str, timeout_s: float = 1.0) -> bool:
        """Whether somebody serves it."""
        client = self._node.create_client(service_type, service)
        return self._spin_until(client.service_is_ready, time.monotonic() + timeout_s)

    def statuses(self, timeout_s: float = STATUS_TIMEOUT_S) -> dict[str, Any]:
        """Newest status message of each node that publishes one; those not heard in time are missing."""
        heard: dict[str, Any] = {}
        for name, (message_type, profile) in STATUSES.items():
            take = partial(heard.__setitem__, name)
            self._node.create_subscription(message_type, f"/{name}_status", take, profile)
        self._spin_until(lambda: len(heard) == len(STATUSES), time.monotonic() + timeout_s)
        return heard

    def pause(self, seconds: float) -> None:
        """Let the graph go on for a while."""
        self._spin_until(lambda: False, time.monotonic() + seconds)

    def _spin_until(self, condition: Any, deadline_s: float) -> bool:
        while not condition():
            if time.monotonic() > deadline_s:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True


@contextmanager
def operator() -> Iterator[Operator]:
    """An `Operator` on this shell's ROS domain."""
    use_dds_of_the_graph()
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node("inril_operator", context=context, enable_rosout=False, start_parameter_services=False)
    executor = NodeExecutor(context=context)
    executor.add_node(node)
    try:
        yield Operator(node, executor)
    finally:
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def arm(name: str) -> str:
    """Arm the arm's own watchdog where it has one, then the arbiter.

    Raises:
        Refused: one of them says no.
    """
    with operator() as person:
        return arm_both(person, name)


def arm_both(person: Operator, name: str) -> str:
    """See `arm`. The arbiter hears with the arm's next state that its watchdog lets go, and is asked until then."""
    request = Arm.Request(arm=True, operator_name=name)
    if person.served(Arm, "/robot/arm"):
        person.call(Arm, "/robot/arm", request)
    for _ in range(ARM_TRIES):
        try:
            return person.call(Arm, "/arbiter/arm", request).message or "armed"
        except Refused as error:
            if Fault.ROBOT_NEEDS_REARM not in str(error):
                raise
            refused = error
        person.pause(ARM_PAUSE_S)
    raise refused


def disarm(name: str) -> str:
    """Disarm both; the arm's own watchdog is told even when the arbiter does not answer.

    Raises:
        Refused: one of them did not obey.
    """
    request = Arm.Request(arm=False, operator_name=name)
    troubles = []
    with operator() as person:
        for service in ("/arbiter/arm", "/robot/arm"):
            try:
                person.call(Arm, service, request)
            except Refused as error:
                troubles.append(str(error))
    if troubles:
        raise Refused("; ".join(troubles) + "; if the arm still moves, press its emergency stop")
    return "disarmed"


def roll_back(run_id: str, n: int) -> str:
    """Act with an accepted version again and stay there. Raises `Refused`."""
    with operator() as person:
        answer = person.call(RollBack, "/policy/roll_back", RollBack.Request(run_id=run_id, n=n, unpin=False))
    return answer.message or f"version {n} acts and is pinned; `inril unpin` lets newer ones in again"


def unpin() -> str:
    """Let new versions in again. Raises `Refused`."""
    with operator() as person:
        answer = person.call(RollBack, "/policy/roll_back", RollBack.Request(unpin=True))
    return answer.message or "new versions are accepted again"


def person_name() -> str:
    """Who sits at this shell."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def status() -> dict[str, dict[str, Any] | None]:
    """Status of each part as plain values; None: not heard."""
    with operator() as person:
        heard = person.statuses()
    return {name: _plain(heard[name]) if name in heard else None for name in STATUSES}


def _plain(message: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in message.get_fields_and_field_types():
        value = getattr(message, field)
        if field == "header":
            continue
        if isinstance(value, float) and not math.isfinite(value):
            value = None  # JSON has no NaN
        values[field] = value if isinstance(value, str | int | float | None) else list(value)
    return values


def describe(states: dict[str, dict[str, Any] | None]) -> list[str]:
    """One line per part, for people."""
    if not any(states.values()):
        return [
            f"no part was heard within {STATUS_TIMEOUT_S:g} s: is a graph up (inril up), under the same ROS_DOMAIN_ID?"
        ]
    lines = []
    for name, values in states.items():
        text = f"not heard within {STATUS_TIMEOUT_S:g} s" if values is None else _DESCRIPTIONS[name](values)
        lines.append(f"{name:<9} {text}")
    return lines


def _session(s: dict[str, Any]) -> str:
    eta = "" if s["eta_s"] is None else f", {s['eta_s']:.0f} s to go"
    doing = f"waits for {s['waiting_for']}" if s["waiting_for"] else f"episode {s['episode_id']}"
    return (
        f"{s['segment']}: {s['episodes']} episodes ({s['successes']} successes, {s['failures']} failures), "
        f"{s['steps']} steps, {s['steps_per_s']:.1f} steps/s{eta}; {doing}"
    )


def _arbiter(s: dict[str, Any]) -> str:
    armed = "armed" if s["armed"] else "not armed (inril arm)"
    faults = "; ".join(f"{fault}: {detail}" for fault, detail in zip(s["faults"], s["details"], strict=False))
    return (
        f"{armed}, in control: {_SOURCES.get(s['in_control'], '?')}, {s['ticks']} ticks "
        f"({s['late_ticks']} late, {s['late_answers']} answers dropped), faults: {faults or 'none'}"
    )


def _policy(s: dict[str, Any]) -> str:
    version = f"{s['active_run_id']} n={s['active_n']}" if s["active_n"] >= 0 else "none"
    pinned = ", pinned (inril unpin)" if s["pinned"] else ""
    rejected = f", last refused n={s['last_rejected_n']}: {s['last_rejection']}" if s["last_rejection"] else ""
    delay = "" if s["push_to_acting_ms"] is None else f", {s['push_to_acting_ms']:.0f} ms from push to action"
    return f"acts with {version}{pinned}, {s['accepted']} accepted, {s['rejected']} refused{rejected}{delay}"


def _recorder(s: dict[str, Any]) -> str:
    reason = f": {s['reason']}" if s["reason"] else ""
    return (
        f"{_RECORDER_STATES.get(s['state'], '?')}{reason}, {s['episodes_on_disk']} episodes on disk, "
        f"last step on disk {s['last_step_on_disk']}, {s['free_bytes'] / (1 << 30):.1f} GiB free"
    )


def _learner(s: dict[str, Any]) -> str:
    reason = f": {s['reason']}" if s["reason"] else ""
    return (
        f"{s['state']}{reason}, {s['updates']} of {s['target_updates']:.0f} updates due, "
        f"{s['ingested_steps']} steps of {s['ingested_episodes']} episodes, "
        f"newest version {s['published_n']}, {s['updates_per_s'] or 0.0:.0f} updates/s"
    )


_DESCRIPTIONS = {
    "session": _session,
    "arbiter": _arbiter,
    "policy": _policy,
    "recorder": _recorder,
    "learner": _learner,
}
