"""Pins: a person is heard between episodes and without observation_node; a device that is lost stops the arm, not the
node. Real nodes over DDS; their clocks are the test's, so a stalled machine changes nothing."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from inril_common.convert import ns_to_stamp
from inril_common.qos import LATCHED, TICK
from inril_control.arbiter_node import ArbiterNode
from inril_msgs.msg import ArbiterStatus, ExecutedAction, Observation, RobotState, Target, TeleopAction
from inril_msgs.srv import Arm
from inril_session.teleop_node import TeleopNode
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from inril_core.contract import load_contract
from inril_core.teleop import HumanInput
from tests.domains import own_domain
from tests.sim.nodes import Bench, ros_arguments
from tests.teleop.queue_device import EVENTS, QueueDevice

CONTRACT = load_contract("insert_leg")
UP = np.array([0.0, 0.0, 0.5, 0.0, 0.0, 0.0])
STEP_NS = 20_000_000


class Cell(Bench):
    """teleop_node and arbiter_node, an arm that is where it is told to be, and time that the test makes pass."""

    def __init__(self, nodes: list[Any]) -> None:
        self.now_ns = 10**18
        self._nodes = nodes
        self.client = Node("bench")
        self._executor = SingleThreadedExecutor()
        for node in (self.client, *nodes):
            self._executor.add_node(node)
        for node in nodes:
            node.mono_ns = node.ros_ns = lambda: self.now_ns
        self.said = self.hear(TeleopAction, "/teleop_action")
        self.targets = self.hear(Target, "/target")
        self.executed = self.hear(ExecutedAction, "/executed_action")
        self.statuses: list[ArbiterStatus] = []
        self.client.create_subscription(ArbiterStatus, "/arbiter_status", self.statuses.append, LATCHED)
        self._observe = self.client.create_publisher(Observation, "/observation", TICK)
        self._robot = self.client.create_publisher(RobotState, "/robot_state", TICK)
        self._height_m, self._k = 0.2, 0

    def pass_time(self) -> bool:
        """One step of time: the arm has followed the newest Target, and says where it is."""
        self.now_ns += STEP_NS
        if self.targets:
            self._height_m = self.targets[-1].pose.position.z
        message = RobotState(boot_id="arm")
        message.header.stamp, message.header.frame_id = ns_to_stamp(self.now_ns), "base"
        self._place(message.tool_pose)
        self._robot.publish(message)
        return True

    def hears(self, count: int) -> None:
        """Let time pass with each message of the device."""
        for _ in range(count):
            heard = len(self.said)
            self.pass_time()
            self.until(lambda heard=heard: len(self.said) > heard, "sign of life of the device")

    def observation(self, last: bool = False) -> None:
        """Open a tick of an episode."""
        message = Observation(boot_id="o", k=self._k, episode_id="e", step=self._k, phase=Observation.PHASE_RUN)
        message.purpose, message.last = Observation.PURPOSE_DEMO, last
        message.header.stamp, message.header.frame_id = ns_to_stamp(self.now_ns), "base"
        message.link_age_s = [0.0, 0.0, float("nan")]
        self._place(message.tool_pose)
        self._observe.publish(message)
        self._k += 1

    def arm(self) -> None:
        self.hears(1)
        self.until(lambda: self.pass_time() and self.call(Arm, "/arbiter/arm", ARM).success, "arming")

    @property
    def faults(self) -> list[str]:
        return list(self.statuses[-1].faults)

    def _place(self, pose: Any) -> None:
        pose.position.x, pose.position.z = 0.5, self._height_m
        pose.orientation.x, pose.orientation.w = 1.0, 0.0


ARM = Arm.Request(arm=True, operator_name="test")


def press(action: np.ndarray, grab: bool = True) -> None:
    EVENTS.put(HumanInput(action, grab, False))
    EVENTS.join()


@pytest.fixture
def cell() -> Iterator[Cell]:
    QueueDevice.plugged_in = True
    parameters = {
        "device": "tests.teleop.queue_device:Config",
        "real_time_factor": 1.0,
        "expects_policy": False,
    }
    with own_domain() as domain:
        rclpy.init(domain_id=domain, args=ros_arguments(parameters))
        nodes = [TeleopNode(), ArbiterNode()]
        try:
            cell = Cell(nodes)
            for node in nodes:
                assert node.trigger_configure().name == "SUCCESS"
                assert node.trigger_activate().name == "SUCCESS"
            cell.until(lambda: cell.said, "first reading")
            yield cell
        finally:
            for node in nodes:
                node.end()
                node.destroy_node()
            rclpy.shutdown()
            while True:
                try:
                    EVENTS.get_nowait()
                    EVENTS.task_done()
                except queue.Empty:
                    break


def test_an_episode_ends_with_the_button_held_and_nothing_is_lost(cell: Cell) -> None:
    """Pins: TELEOP_LOST latched after each episode whose end found a person's hand on the button."""
    cell.arm()
    press(np.zeros(6))
    for last in (False, False, True):
        cell.hears(1)
        cell.observation(last)
        count = len(cell.executed)
        if not last:
            cell.until(lambda count=count: len(cell.executed) > count, "closed tick")
    assert cell.executed[-1].source == ExecutedAction.SOURCE_HUMAN
    silence_ns = round(CONTRACT.staleness.teleop_s * 1e9)
    cell.hears(3 * silence_ns // STEP_NS)
    assert cell.statuses[-1].armed and "teleop_lost" not in cell.faults
    assert cell.said[-1].grab and not cell.said[-1].synchronous and cell.said[-1].k == 0


def test_without_observation_node_a_person_can_retract_the_arm(cell: Cell) -> None:
    cell.arm()
    press(UP)
    began_m = cell._height_m
    cell.until(
        lambda: cell.hears(1) or (cell.targets and cell.targets[-1].pose.position.z > began_m + 0.02), "the arm raised"
    )
    assert not cell.targets[-1].hold and cell.targets[-1].episode_id == ""
    press(np.zeros(6), grab=False)
    cell.hears(2)


def test_a_device_that_is_lost_stops_the_arm_and_comes_back(cell: Cell) -> None:
    cell.arm()
    press(UP)
    cell.until(lambda: cell.hears(1) or (cell.targets and not cell.targets[-1].hold), "motion")
    QueueDevice.plugged_in = False
    cell.until(lambda: not any(cell.said[-1].action), "hold reading")
    assert cell.said[-1].grab
    cell.until(lambda: cell.pass_time() and "teleop_lost" in cell.faults, "fault that the device is lost")
    count = len(cell.said)
    opened = QueueDevice.opened
    QueueDevice.plugged_in = True
    cell.until(lambda: cell.pass_time() and QueueDevice.opened > opened and len(cell.said) > count, "device again")
    assert not cell.said[-1].grab, "opened anew, the device knows of no button"
    cell.arm()
    assert "teleop_lost" not in cell.faults


@pytest.mark.parametrize("bad", [RuntimeError("driver"), HumanInput(np.full(6, np.nan), True, False), None], ids=str)
def test_a_device_that_talks_nonsense_is_silent_and_tried_again(cell: Cell, bad: Any) -> None:
    opened = QueueDevice.opened
    EVENTS.put(bad)
    EVENTS.join()
    cell.until(lambda: cell.pass_time() and QueueDevice.opened > opened, "the device opened again")
    count = len(cell.said)
    cell.until(lambda: cell.pass_time() and len(cell.said) > count, "its readings")
    assert all(np.isfinite(said.action).all() for said in cell.said)
