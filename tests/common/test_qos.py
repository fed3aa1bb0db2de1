"""Pins: two endpoints that DDS does not connect, and nobody says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from hypothesis import given
from hypothesis import strategies as st
from inril_common.node import InrilPlainNode
from inril_common.qos import LATCHED, SENSOR, TICK, incompatible_policies, sensor_qos
from inril_msgs.msg import RobotState, Target
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

from tests.domains import own_domain

PATIENCE_S = 60.0

profiles = st.builds(
    QoSProfile,
    depth=st.just(5),
    reliability=st.sampled_from([ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE]),
    durability=st.sampled_from([DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL]),
    liveliness=st.sampled_from([LivelinessPolicy.AUTOMATIC, LivelinessPolicy.MANUAL_BY_TOPIC]),
    deadline=st.sampled_from([Duration(), Duration(seconds=1), Duration(seconds=2)]),
    liveliness_lease_duration=st.sampled_from([Duration(), Duration(seconds=1), Duration(seconds=2)]),
)


@given(offered=profiles, requested=profiles)
def test_the_rules_are_those_of_the_middleware(offered: QoSProfile, requested: QoSProfile) -> None:
    verdict, _ = qos_check_compatible(offered, requested)
    assert bool(incompatible_policies(offered, requested)) == (verdict == QoSCompatibility.ERROR)


def test_drivers_of_both_kinds_fit_in_real_time_and_lockstep_loses_nothing() -> None:
    for offered in (TICK, SENSOR, LATCHED):
        assert not incompatible_policies(offered, sensor_qos(lockstep=False))
    for record in (False, True):
        assert sensor_qos(True, record).reliability is ReliabilityPolicy.RELIABLE
        assert not incompatible_policies(SENSOR, sensor_qos(False, record))


class Told(InrilPlainNode):
    """A node of inril that notes what it is told."""

    def __init__(self, context: Context) -> None:
        Node.__init__(self, "told", context=context, namespace="arm_1")
        self._init_shared()
        self.told: list[tuple[str, str]] = []

    def on_incompatible_qos(self, topic: str, text: str) -> None:
        self.told.append((topic, text))

    def quality(self) -> DiagnosticStatus | None:
        return next((s for s in self.diagnostics.statuses() if s.name == "told: quality of service"), None)


@pytest.fixture
def pair() -> Iterator[tuple[Told, Node, Callable[[Callable[[], Any]], Any]]]:
    """A node of inril, one of somebody else, and a wait for a state of them."""
    with own_domain() as domain:
        context = Context()
        rclpy.init(context=context, domain_id=domain)
        told, other = Told(context), rclpy.create_node("driver", context=context, namespace="arm_1")
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(told)
        executor.add_node(other)

        def until(condition: Callable[[], Any]) -> Any:
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline:
                if value := condition():
                    return value
                executor.spin_once(timeout_sec=0.02)
            raise AssertionError("it did not come about")

        yield told, other, until
        told.end()
        for node in (told, other):
            node.destroy_node()
        executor.shutdown()
        rclpy.shutdown(context=context)


def test_a_publisher_that_offers_too_little_is_named_until_it_has_gone(pair) -> None:
    told, other, until = pair
    told.create_subscription(RobotState, "robot_state", lambda message: None, TICK)
    driver = other.create_publisher(RobotState, "robot_state", SENSOR)
    until(lambda: told.told)
    assert told.told[0][0] == "robot_state"
    wanted = "/arm_1/robot_state: /arm_1/driver offers reliability BEST_EFFORT, this node requests RELIABLE"
    until(lambda: told.quality() and told.quality().message.startswith(wanted))
    assert told.quality().level == DiagnosticStatus.ERROR
    assert "publish with reliability RELIABLE" in told.quality().message
    assert told.diagnostics.incompatible(["robot_state"]) and not told.diagnostics.incompatible(["target"])
    other.destroy_publisher(driver)
    until(lambda: told.quality().level == DiagnosticStatus.OK)
    assert not told.diagnostics.incompatible(["robot_state"])


def test_a_subscription_that_requests_too_much_is_named(pair) -> None:
    told, other, until = pair
    told.create_publisher(Target, "target", TICK)
    other.create_subscription(Target, "target", lambda message: None, LATCHED)
    until(lambda: told.told)
    until(lambda: told.quality() and "/arm_1/driver requests durability TRANSIENT_LOCAL" in told.quality().message)
    assert "this node offers VOLATILE" in told.quality().message


def test_what_fits_is_no_error(pair) -> None:
    told, other, until = pair
    heard: list[RobotState] = []
    told.create_subscription(RobotState, "robot_state", heard.append, SENSOR)
    publishers = [other.create_publisher(RobotState, "robot_state", quality) for quality in (SENSOR, TICK)]
    for publisher in publishers:
        until(lambda publisher=publisher: publisher.get_subscription_count() == 1)
        heard.clear()
        until(lambda publisher=publisher: publisher.publish(RobotState()) or heard)
    assert told.quality() is None and not told.told
