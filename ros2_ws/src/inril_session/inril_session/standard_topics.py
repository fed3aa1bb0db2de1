"""The graph's state in the standard messages of ROS, for RViz, Foxglove, PlotJuggler and bags.

A process of its own, so that a tick costs nothing where it does not run. Every name is relative.
"""

from __future__ import annotations

from typing import Any

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, PoseStamped, TransformStamped
from inril_common.node import InrilPlainNode
from inril_common.process import run_node
from inril_common.qos import LATCHED, SENSOR, TICK
from inril_msgs.msg import RobotState, Target
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from inril_core.hardware.description import JointTree, robot_description


class StandardTopics(InrilPlainNode):
    """Publishes joint_states, measured_pose, commanded_pose, tf, tf_static and robot_description.

    Stamps and frames are those of the source. A camera's own node publishes its standard topics.
    """

    def __init__(self) -> None:
        super().__init__("standard_topics")

    def setup(self) -> None:
        """Subscribe to what is translated."""
        self.contract = self.contract_param()
        urdf = robot_description(self.param("urdf", "", "URDF of the arm; empty: the Panda that comes with inril"))
        self._tree = JointTree(urdf)
        self._joints = self.create_publisher(JointState, "joint_states", TICK)
        self._measured = self.create_publisher(PoseStamped, "measured_pose", TICK)
        self._commanded = self.create_publisher(PoseStamped, "commanded_pose", TICK)
        self._tf = self.create_publisher(TFMessage, "tf", TICK)
        self._tf_static = self.create_publisher(TFMessage, "tf_static", LATCHED)
        self._description = self.create_publisher(String, "robot_description", LATCHED)
        self._description.publish(String(data=urdf))
        self._publish_static()
        self.create_subscription(RobotState, "robot_state", self._on_robot, SENSOR)
        self.create_subscription(Target, "target", self._on_target, SENSOR)

    def _publish_static(self) -> None:
        stamp, base = self.get_clock().now().to_msg(), self.contract.base_frame
        transforms = [_transform(stamp, j.parent, j.child, *j.transform(0.0)) for j in self._tree.joints if _fixed(j)]
        if self._tree.root != base:
            transforms.append(_transform(stamp, base, self._tree.root, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)))
        self._tf_static.publish(TFMessage(transforms=transforms))

    def _on_robot(self, state: RobotState) -> None:
        positions = self._tree.positions(state.joint_position_rad, state.gripper_width_m)
        message = JointState(header=state.header, name=list(positions), position=list(positions.values()))
        moving = len(message.name)
        message.velocity = _filled(state.joint_velocity_radps, moving)
        message.effort = _filled(state.joint_torque_nm, moving)
        self._joints.publish(message)
        self._measured.publish(PoseStamped(header=state.header, pose=state.tool_pose))
        stamp = state.header.stamp
        transforms = [
            _transform(stamp, joint.parent, joint.child, *joint.transform(positions.get(joint.name, 0.0)))
            for joint in self._tree.joints
            if not _fixed(joint)
        ]
        transforms.append(_of_pose(stamp, self.contract.base_frame, "tool_measured", state.tool_pose))
        self._tf.publish(TFMessage(transforms=transforms))

    def _on_target(self, target: Target) -> None:
        self._commanded.publish(PoseStamped(header=target.header, pose=target.pose))
        commanded = _of_pose(target.header.stamp, self.contract.base_frame, "tool_commanded", target.pose)
        self._tf.publish(TFMessage(transforms=[commanded]))


def _fixed(joint: Any) -> bool:
    return not joint.turns and joint.kind != "prismatic"


def _filled(values: Any, count: int) -> list[float]:
    """JointState wants as many as there are names, or none; fingers are not measured one by one."""
    found = [float(value) for value in values][:count]
    return found + [float("nan")] * (count - len(found))


def _of_pose(stamp: Time, parent: str, child: str, pose: Pose) -> TransformStamped:
    p, q = pose.position, pose.orientation
    return _transform(stamp, parent, child, (p.x, p.y, p.z), (q.x, q.y, q.z, q.w))


def _transform(
    stamp: Time, parent: str, child: str, xyz_m: tuple[float, ...], quat_xyzw: tuple[float, ...]
) -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.stamp, message.header.frame_id = stamp, parent
    t, r = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = xyz_m
    r.x, r.y, r.z, r.w = quat_xyzw
    return message


def main() -> None:
    """Entry point."""
    run_node(StandardTopics)


if __name__ == "__main__":
    main()
