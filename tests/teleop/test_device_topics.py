"""Pins: what a device learns of the arm over topics, in plain values, and that what is old is not known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped
from inril_common.convert import array_to_pose
from inril_msgs.msg import RobotState, Target
from inril_session.device_topics import DeviceTopics, message_class, plain
from sensor_msgs.msg import JointState, Joy

from inril_core.contract import load_contract
from inril_core.errors import ConfigError
from inril_core.teleop import device_config

S = 1_000_000_000
POSE = np.array([0.5, 0.1, 0.2, 1.0, 0.0, 0.0, 0.0])


class Node:
    """What `DeviceTopics` needs of a node; messages are handed in by topic."""

    def __init__(self) -> None:
        self.now_ns = S
        self.heard: dict[str, Any] = {}

    def create_subscription(self, kind: Any, topic: str, callback: Any, qos: Any) -> None:
        self.heard[topic] = callback

    def guarded(self, callback: Any) -> Any:
        return callback

    def mono_ns(self) -> int:
        return self.now_ns

    def ros_ns(self) -> int:
        return 10**18 + self.now_ns


def made(task: str, **settings: Any) -> tuple[Node, Any, DeviceTopics]:
    contract, node = load_contract(task), Node()
    device = device_config("joy", settings).build(contract)
    return node, device, DeviceTopics(node, device, contract)


def target(**values: Any) -> Target:
    message = Target(**values)
    message.header.frame_id = "base"
    return message


def test_a_takeover_keeps_the_gripper_as_the_policy_holds_it() -> None:
    """Pins: a person who grabs, and the part that the policy held falls."""
    node, device, topics = made("one_leg_low")
    open_m = load_contract("one_leg_low").action.gripper_open_m  # type: ignore[union-attr]
    for width_m, number in ((open_m, -1.0), (0.0, 1.0), (0.5 * open_m, 0.0)):
        node.heard["target"](target(pose=array_to_pose(POSE), gripper_width_m=width_m))
        assert device.inbox.gripper == pytest.approx(number)
    node.heard["target"](target(pose=array_to_pose(POSE), gripper_width_m=0.0))
    node.heard["joy"](Joy(axes=[0.0] * 6, buttons=[0] * 11))
    topics.update(node.now_ns)
    device.open()
    held = [0] * 11
    held[5] = 1
    node.heard["joy"](Joy(axes=[0.0] * 6, buttons=held))
    said = device.read(None)
    assert said.grab and math.isnan(said.action[6]), "the node fills in what is commanded"
    held[0] = 1
    node.heard["joy"](Joy(axes=[0.0] * 6, buttons=held))
    assert device.read(None).action[6] == -1.0, "its button opens what is closed"


def test_where_nothing_is_commanded_a_person_keeps_the_gripper_as_it_is_measured() -> None:
    """Pins: the first motion of an episode that closes the gripper as it was commanded in the one before."""
    node, device, _ = made("one_leg_low")
    open_m = load_contract("one_leg_low").action.gripper_open_m  # type: ignore[union-attr]

    def hears(commanded_m: float, measured_m: float) -> float:
        node.heard["target"](target(pose=array_to_pose(POSE), gripper_width_m=commanded_m))
        node.heard["robot_state"](RobotState(gripper_width_m=measured_m))
        return float(device.inbox.gripper)

    assert hears(0.0, open_m) == 1.0, "what is commanded, also while the gripper still moves"
    assert hears(math.nan, 0.75 * open_m) == pytest.approx(-0.5)
    assert hears(math.nan, 1.1 * open_m) == -1.0
    assert math.isnan(hears(math.nan, math.nan))
    assert hears(0.5 * open_m, open_m) == pytest.approx(0.0)


def test_poses_that_are_old_or_in_another_frame_are_not_known() -> None:
    node, device, topics = made("insert_leg", frame="tool")
    state = RobotState(tool_pose=array_to_pose(POSE))
    node.heard["robot_state"](state)
    assert device.inbox.tool_pose is None, "no frame"
    state.header.frame_id = "base"
    node.heard["target"](Target(pose=array_to_pose(POSE)))
    assert device.inbox.commanded_pose is None, "no frame"
    node.heard["robot_state"](state)
    node.heard["target"](target(pose=array_to_pose(POSE)))
    topics.update(node.now_ns)
    assert device.inbox.tool_pose == pytest.approx(tuple(POSE)) == device.inbox.commanded_pose
    topics.update(node.now_ns + 10 * S)
    assert device.inbox.tool_pose is None and device.inbox.commanded_pose is None


def test_a_device_that_needs_no_pose_costs_no_subscription() -> None:
    node, _, _ = made("insert_leg")
    assert set(node.heard) == {"joy"}


def test_messages_become_plain_values() -> None:
    joints = JointState(name=["a"], position=[1.5])
    joints.header.frame_id = "x"
    values = plain(joints)
    assert values["name"] == ["a"] and values["position"] == [1.5] and values["header"]["frame_id"] == "x"
    assert plain(Joy(axes=[0.5], buttons=[1]))["axes"] == [0.5]
    pose = plain(PoseStamped())["pose"]
    assert pose["orientation"] == {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}


@pytest.mark.parametrize("name", ["nowhere_msgs/msg/Joy", "sensor_msgs/msg/Jo", "Joy"])
def test_a_message_type_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match="install the package"):
        message_class(name)
