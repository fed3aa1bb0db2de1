"""teleop_node and arbiter_node over DDS, an arm that is where it is told to be, and time that the test makes pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
from inril_common.convert import ns_to_stamp
from inril_common.qos import LATCHED, TICK
from inril_control.arbiter_node import ArbiterNode
from inril_msgs.msg import (
    ArbiterStatus,
    ExecutedAction,
    Observation,
    PolicyAction,
    RobotState,
    Target,
    TeleopAction,
    TeleopStatus,
)
from inril_msgs.srv import Arm
from inril_session.recorder_node import RecorderNode
from inril_session.teleop_node import TeleopNode
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from inril_core.contract import load_contract
from tests.domains import own_domain
from tests.sim.nodes import Bench, ros_arguments

CONTRACT = load_contract("insert_leg")
STEP_NS = 20_000_000


class Cell(Bench):
    """What the test sees and does."""

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
        self.devices: list[TeleopStatus] = []
        self.client.create_subscription(TeleopStatus, "/teleop_status", self.devices.append, LATCHED)
        self._policy = self.client.create_publisher(PolicyAction, "/policy_action", TICK)
        self.client.create_subscription(ArbiterStatus, "/arbiter_status", self.statuses.append, LATCHED)
        self._observe = self.client.create_publisher(Observation, "/observation", TICK)
        self._robot = self.client.create_publisher(RobotState, "/robot_state", TICK)
        self._height_m, self._k = 0.2, 0

    def pass_time(self) -> bool:
        """One step of time: the arm has followed the newest Target, and says where it is."""
        self.now_ns += STEP_NS
        if self.targets:
            self._height_m = self.targets[-1].pose.position.z
        self._say_state()
        return True

    def _say_state(self) -> None:
        message = RobotState(boot_id="arm")
        message.header.stamp, message.header.frame_id = ns_to_stamp(self.now_ns), "base"
        self._place(message.tool_pose)
        self._robot.publish(message)

    @staticmethod
    def _heard_ns(arbiter: Any) -> int:
        robot = arbiter._arbiter._watch._robot
        return 0 if robot is None else int(robot.stamp_ns)

    def step(self) -> bool:
        """One step of time, and nobody is behind: the arbiter has heard the arm, and a device that works was read."""
        count = len(self.said)
        self.pass_time()
        teleop, arbiter, *_ = self._nodes
        self.until(self._robot.get_subscription_count, "subscription of the arbiter")
        self.until(lambda: self._heard_ns(arbiter) == self.now_ns or self._say_state(), "state of the arm")
        self.until(lambda: len(self.said) > count or not teleop._keeper.ready, "reading of the device")
        return True

    def hears(self, count: int) -> None:
        """Let time pass with each message of the device."""
        for _ in range(count):
            heard = len(self.said)
            self.pass_time()
            self.until(lambda heard=heard: len(self.said) > heard, "sign of life of the device")

    def observation(self, last: bool = False, purpose: int = Observation.PURPOSE_DEMO) -> None:
        """Open a tick of an episode."""
        message = Observation(boot_id="o", k=self._k, episode_id="e", step=self._k, phase=Observation.PHASE_RUN)
        message.purpose, message.last = purpose, last
        message.header.stamp, message.header.frame_id = ns_to_stamp(self.now_ns), "base"
        message.link_age_s = [0.0, 0.0, float("nan")]
        message.state = [0.0] * CONTRACT.state_size
        self._place(message.tool_pose)
        self._observe.publish(message)
        self._k += 1

    def tick(self, policy: list[float]) -> ExecutedAction:
        """One control tick of training that the policy answers, and what was executed."""
        self.pass_time()
        count = len(self.executed)
        self.observation(purpose=Observation.PURPOSE_TRAIN)
        self._policy.publish(PolicyAction(boot_id="o", k=self._k - 1, run_id="run", n=1, action=policy))
        self.until(lambda: len(self.executed) > count, "closed tick")
        return self.executed[-1]

    def arm(self) -> None:
        self.hears(1)
        answers = ["not asked"]

        def armed() -> bool:
            self.pass_time()
            answer = self.call(Arm, "/arbiter/arm", ARM)
            answers.append(answer.message)
            return bool(answer.success)

        try:
            self.until(armed, "arming")
        except AssertionError as error:
            raise AssertionError(f"{error}: {answers[-1]}") from error

    @property
    def faults(self) -> list[str]:
        return list(self.statuses[-1].faults)

    def _place(self, pose: Any) -> None:
        pose.position.x, pose.position.z = 0.5, self._height_m
        pose.orientation.x, pose.orientation.w = 1.0, 0.0


ARM = Arm.Request(arm=True, operator_name="test")


@contextmanager
def running(recorder: bool = False, **parameters: Any) -> Iterator[Cell]:
    """The two nodes, active, and, if wanted, a recorder_node."""
    with own_domain() as domain:
        given = {
            "real_time_factor": 1.0,
            "expects_policy": False,
            "device": "scripted",
            "simulated_cell": True,
            **parameters,
        }
        rclpy.init(domain_id=domain, args=ros_arguments(given))
        nodes: list[Any] = [TeleopNode(), ArbiterNode(), *([RecorderNode()] if recorder else [])]
        cell = Cell(nodes)
        try:
            for node in nodes:
                assert node.trigger_configure().name == "SUCCESS"
                assert node.trigger_activate().name == "SUCCESS"
            yield cell
        finally:
            for node in nodes:
                node.end()
                node.destroy_node()
            cell.client.destroy_node()
            rclpy.shutdown()
