"""What a person asks of a running graph: arm it, look at it, roll weights back."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import rclpy
from inril_common.convert import image_to_array
from inril_common.executor import NodeExecutor
from inril_common.qos import EVENT, LATCHED, SENSOR
from inril_msgs.msg import (
    ArbiterStatus,
    ExecutedAction,
    LearnerStatus,
    PolicyStatus,
    RecorderStatus,
    SessionStatus,
)
from inril_msgs.srv import Arm, RollBack
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import Image

from inril_bringup.control import Here, Refused, here, person_name
from inril_bringup.environment import use_dds_of_the_graph
from inril_core.control.measurement import BadMeasurement
from inril_core.safety.faults import Fault

SERVICE_TIMEOUT_S = 10.0
ASK_AGAIN_S = 1.5
NOT_YET_KNOWN = "_NODE_NAME_UNKNOWN_"
"""rmw's name of a node whose publisher DDS has found before its name."""
"""For a service to be matched, and again for its answer: discovery on a loaded machine takes seconds."""
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


class NotServed(Refused):
    """Nobody serves what was asked for."""


class Operator:
    """A short-lived node that speaks for a person."""

    def __init__(self, node: Node, executor: NodeExecutor, graph_id: str | None = None) -> None:
        self._node, self._executor, self._graph_id = node, executor, graph_id

    def graph_id(self) -> str:
        """Of the only graph in this domain and namespace, as its arbiter says it; empty if it says none.

        Raises:
            Refused: no arbiter is heard, more than one, or one that does not answer.
        """
        if self._graph_id is None:
            arbiters = self._arbiters
            if not self._spin_until(lambda: bool(arbiters()), time.monotonic() + SERVICE_TIMEOUT_S):
                raise Refused(f"no arbiter is heard {self.where()}; is the graph up? (inril status)")
            if len(arbiters()) > 1:
                raise Refused(
                    f"{len(arbiters())} arbiters are heard {self.where()}: run this on the host of the one you mean"
                )
            name = arbiters()[0]
            client = self._node.create_client(GetParameters, f"{name}/get_parameters")
            self._spin_until(client.service_is_ready, time.monotonic() + SERVICE_TIMEOUT_S)
            deadline_s, answered = time.monotonic() + SERVICE_TIMEOUT_S, None
            while answered is None:  # an answer to a client that DDS has just found may be lost
                future = client.call_async(GetParameters.Request(names=["graph_id"]))
                if self._spin_until(future.done, min(deadline_s, time.monotonic() + ASK_AGAIN_S)):
                    answered = future.result()
                elif time.monotonic() >= deadline_s:
                    raise Refused(f"{name} does not say whose graph it is {self.where()}; is it overloaded? Try again")
            self._graph_id = next((value.string_value for value in answered.values), "")
        return self._graph_id

    def _arbiters(self) -> list[str]:
        publishers = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name("arbiter_status"))
        known = [p for p in publishers if p.node_name != NOT_YET_KNOWN]
        return sorted({f"{p.node_namespace.rstrip('/')}/{p.node_name}" for p in known})  # a dead one is listed on

    def where(self) -> str:
        """Domain and namespace, for messages."""
        namespace = self._node.get_namespace()
        inside = f", namespace {namespace}" if namespace != "/" else ""
        return f"on ROS domain {os.environ.get('ROS_DOMAIN_ID', '0')}{inside}"

    def call(self, service_type: Any, service: str, request: Any, timeout_s: float = SERVICE_TIMEOUT_S) -> Any:
        """Call a service and return its answer.

        Raises:
            Refused: nobody serves it, nobody answers in time, or the answer is no.
        """
        client = self._node.create_client(service_type, service)
        if not self._spin_until(client.service_is_ready, time.monotonic() + timeout_s):
            raise NotServed(f"{service}: nobody serves it {self.where()}; is the graph up? (inril status)")
        deadline_s = time.monotonic() + timeout_s
        future = client.call_async(request)
        if not self._spin_until(future.done, deadline_s):
            raise Refused(f"{service}: no answer within {timeout_s:.0f} s; see the log of the node that serves it")
        answer = future.result()
        if not answer.success:
            raise Refused(f"{service}: {answer.message or 'refused without a reason'}")
        return answer

    def tell_all(self, service_type: Any, services: list[str], request: Any) -> list[str]:
        """Call several services at once, each as soon as it is matched; what went wrong."""
        clients = {service: self._node.create_client(service_type, service) for service in services}
        futures: dict[str, Any] = {}

        def all_answered() -> bool:
            for service, client in clients.items():
                if service not in futures and client.service_is_ready():
                    futures[service] = client.call_async(request)
            return len(futures) == len(clients) and all(future.done() for future in futures.values())

        self._spin_until(all_answered, time.monotonic() + SERVICE_TIMEOUT_S)
        troubles = []
        for service in services:
            if service not in futures:
                troubles.append(f"{service}: nobody serves it {self.where()}")
            elif not futures[service].done():
                troubles.append(f"{service}: no answer within {SERVICE_TIMEOUT_S:.0f} s")
            elif not futures[service].result().success:
                troubles.append(f"{service}: {futures[service].result().message or 'refused without a reason'}")
        return troubles

    def statuses(self, timeout_s: float = STATUS_TIMEOUT_S) -> dict[str, Any]:
        """Newest status message of each node that publishes one; those not heard in time are missing."""
        heard: dict[str, Any] = {}
        for name, (message_type, profile) in STATUSES.items():
            take = partial(heard.__setitem__, name)
            self._node.create_subscription(message_type, f"{name}_status", take, profile)
        self._spin_until(lambda: len(heard) == len(STATUSES), time.monotonic() + timeout_s)
        return heard

    def image(self, camera: str, timeout_s: float) -> np.ndarray:
        """The next image of a camera: uint8[H, W, 3].

        Raises:
            Refused: none comes in time, or it is of an encoding that cannot be read.
        """
        heard: list[Image] = []
        subscription = self._node.create_subscription(Image, f"camera/{camera}/image", heard.append, SENSOR)
        try:
            if not self._spin_until(lambda: bool(heard), time.monotonic() + timeout_s):
                topic, publishers = subscription.topic_name, self._node.count_publishers(subscription.topic_name)
                raise Refused(
                    f"no image on {topic} within {timeout_s:g} s, it has {publishers} publishers {self.where()}; does "
                    "the contract name this camera, and is it plugged in? (a simulated one is drawn in episodes only)"
                )
            return image_to_array(heard[-1])
        except BadMeasurement as error:
            raise Refused(f"camera {camera}: {error}") from error
        finally:
            self._node.destroy_subscription(subscription)

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
def operator(namespace: str = "", graph_id: str | None = None) -> Iterator[Operator]:
    """An `Operator` on this shell's ROS domain, in a namespace.

    Args:
        graph_id: of the graph that is meant; None: the only one there.
    """
    use_dds_of_the_graph()
    context = Context()
    rclpy.init(args=["--ros-args", "--disable-external-lib-logs"], context=context)
    node = rclpy.create_node(
        "inril_operator",
        context=context,
        namespace=f"/{namespace}",
        enable_rosout=False,
        start_parameter_services=False,
    )
    executor = NodeExecutor(context=context)
    executor.add_node(node)
    try:
        yield Operator(node, executor, graph_id)
    finally:
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def arm(namespace: str, graph: Here | None) -> str:
    """Arm a graph of another host: the arm's own watchdog where it has one, then the arbiter.

    Args:
        graph: the one on this machine, whose arbiter does not run.

    Raises:
        Refused: one of them says no.
    """
    if graph is not None:
        raise Refused("not armed; `inril arm` again once the arbiter is back")
    with operator(namespace) as person:
        return arm_both(person, person_name())


def arm_both(person: Operator, name: str) -> str:
    """See `arm`. The arbiter hears with the arm's next state that its watchdog lets go, and is asked until then."""
    request = Arm.Request(graph_id=person.graph_id(), arm=True, operator_name=name)
    with suppress(NotServed):  # an arm without a watchdog of its own; the arbiter refuses where one holds
        person.call(Arm, "robot/arm", request)
    for _ in range(ARM_TRIES):
        try:
            return person.call(Arm, "arbiter/arm", request).message or "armed"
        except Refused as error:
            if not any(fault in str(error) for fault in (Fault.ROBOT_NEEDS_REARM, Fault.ROBOT_FAULT)):
                raise
            refused = error
        person.pause(ARM_PAUSE_S)
    raise refused


def disarm(namespace: str, graph: Here | None) -> str:
    """Disarm whoever hears it: arbiter and arm of another host, or the arm alone.

    Args:
        graph: the one on this machine, whose arbiter does not run.

    Raises:
        Refused: one of them did not obey.
    """
    request = Arm.Request(arm=False, operator_name=person_name())  # for no graph: a stop is for everybody
    services = ["robot/arm"] if graph is not None else ["arbiter/arm", "robot/arm"]
    with operator(namespace) as person:
        troubles = person.tell_all(Arm, services, request)
    if troubles:
        raise Refused("; ".join(troubles) + "; if the arm still moves, press its emergency stop")
    return "disarmed" if graph is None else "the arm is disarmed; the arbiter does not run"


def meant(namespace: str) -> AbstractContextManager[Operator]:
    """An operator for the graph on this machine, otherwise for the only one that is heard."""
    graph: Here | None = here(namespace)
    return operator(namespace, None if graph is None else graph.graph_id)


def roll_back(namespace: str, run_id: str, n: int) -> str:
    """Act with an accepted version again and stay there. Raises `Refused`."""
    with meant(namespace) as person:
        request = RollBack.Request(graph_id=person.graph_id(), run_id=run_id, n=n, unpin=False)
        answer = person.call(RollBack, "policy/roll_back", request)
    return answer.message or f"version {n} acts and is pinned; `inril unpin` lets newer ones in again"


def unpin(namespace: str) -> str:
    """Let new versions in again. Raises `Refused`."""
    with meant(namespace) as person:
        answer = person.call(RollBack, "policy/roll_back", RollBack.Request(graph_id=person.graph_id(), unpin=True))
    return answer.message or "new versions are accepted again"


def status(namespace: str = "") -> dict[str, dict[str, Any] | None]:
    """Status of each part as plain values; None: not heard."""
    with operator(namespace) as person:
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
            f"no node of a graph was heard within {STATUS_TIMEOUT_S:g} s: is a graph up (inril up), with the same "
            "ROS_DOMAIN_ID and namespace?"
        ]
    lines = []
    for name, values in states.items():
        text = f"not heard within {STATUS_TIMEOUT_S:g} s" if values is None else _DESCRIPTIONS[name](values)
        lines.append(f"{name:<9} {text}")
    return lines


def _session(s: dict[str, Any]) -> str:
    eta = "" if s["eta_s"] is None else f", {s['eta_s']:.0f} s to go"
    doing = f"waits for {s['waiting_for']}" if s["waiting_for"] else f"episode {s['episode_id']}"
    done = f"{s['episodes']} episodes ({s['successes']} successes, {s['failures']} failures)"
    if s["trials"]:  # how they count is the report's to say: people's labels are notes beside the results
        done = f"{s['episodes']} of {s['trials']} trials"
    return f"{s['segment']}: {done}, {s['steps']} steps, {s['steps_per_s']:.1f} steps/s{eta}; {doing}"


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
