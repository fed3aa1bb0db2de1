"""Pins: RViz and bags that need a translator of one's own, and names that clash between two arms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped
from inril_common.convert import array_to_pose, ns_to_stamp
from inril_common.qos import LATCHED, TICK
from inril_msgs.msg import RobotState, Target
from inril_session.standard_topics import StandardTopics
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from inril_core.sim.kinematics import ArmKinematics
from tests.sim.nodes import Bench, bench

ARM_RAD = [0.1, -0.4, 0.2, -2.1, 0.05, 1.8, 0.7]


@pytest.fixture(name="bench")
def left() -> Iterator[Bench]:
    with bench(StandardTopics, namespace="/left") as made:
        yield made


def test_the_state_of_the_arm_in_standard_messages_in_the_graphs_namespace(bench: Bench) -> None:
    heard: dict[str, list[Any]] = {}
    for kind, topic, qos in (
        (JointState, "joint_states", TICK),
        (PoseStamped, "measured_pose", TICK),
        (PoseStamped, "commanded_pose", TICK),
        (TFMessage, "tf", TICK),
        (TFMessage, "tf_static", LATCHED),
        (String, "robot_description", LATCHED),
    ):
        heard[topic] = []
        bench.client.create_subscription(kind, topic, heard[topic].append, qos)
    publishers = {
        kind: bench.client.create_publisher(kind, topic, TICK)
        for kind, topic in ((RobotState, "robot_state"), (Target, "target"))
    }
    pose = ArmKinematics(np.zeros(7)).tool_pose(np.array(ARM_RAD))
    state = RobotState(joint_position_rad=ARM_RAD, gripper_width_m=0.04, tool_pose=array_to_pose(pose))
    target = Target(pose=array_to_pose(pose))
    for message in (state, target):
        message.header.stamp, message.header.frame_id = ns_to_stamp(5_000_000_007), "base"

    def say() -> bool:
        publishers[RobotState].publish(state)
        publishers[Target].publish(target)
        return all(heard.values()) and any(len(message.transforms) == 1 for message in heard["tf"])

    bench.until(say, "a message on every topic")
    joints = heard["joint_states"][0]
    assert joints.header == state.header and len(joints.name) == len(joints.velocity) == len(joints.effort) == 9
    assert joints.name[:7] == [f"joint{i}" for i in range(1, 8)]
    np.testing.assert_allclose(joints.position, [*ARM_RAD, 0.02, 0.02])
    assert heard["measured_pose"][0].pose == state.tool_pose and heard["measured_pose"][0].header.frame_id == "base"
    assert heard["commanded_pose"][0].pose == target.pose
    assert "<robot" in heard["robot_description"][0].data

    moving = {t.child_frame_id: t for m in heard["tf"] for t in m.transforms}
    fixed = {t.child_frame_id: t for m in heard["tf_static"] for t in m.transforms}
    assert {"tool_measured", "tool_commanded", "link7", "finger1"} <= moving.keys()
    assert fixed["link0"].header.frame_id == "base" and fixed["tool"].header.frame_id == "hand"
    chain, link = [], "tool"
    while link != "base":
        transform = {**moving, **fixed}[link]
        chain.append(transform)
        link = transform.header.frame_id
    assert len(chain) == 10  # base, link0 to link7, hand, tool: one tree
    assert all(topic.startswith("/left/") for topic, _ in bench.client.get_topic_names_and_types() if "joint" in topic)
