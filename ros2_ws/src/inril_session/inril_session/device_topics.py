"""Gives a device, which knows no ROS, what comes over topics: plain values, and where the arm is."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from inril_common.convert import pose_to_array, stamp_to_ns
from inril_common.qos import SENSOR, TICK
from inril_msgs.msg import RobotState, Target

from inril_core.contract import Contract, DeltaPoseGripper
from inril_core.errors import ConfigError
from inril_core.teleop import Device, Inbox, Topic
from inril_core.transforms import pose_problem


def message_class(name: str) -> Any:
    """The class of e.g. ``sensor_msgs/msg/Joy``.

    Raises:
        ConfigError: its package is not installed here, or there is no such message.
    """
    package, _, message = name.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), message)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{name}: {error}; install the package {package} in inril's environment") from error


def plain(value: Any) -> Any:
    """Messages as mappings, arrays as lists, numbers and texts as they are."""
    if hasattr(value, "get_fields_and_field_types"):
        return {name: plain(getattr(value, name)) for name in value.get_fields_and_field_types()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, str | bytes):
        return value
    try:
        return [plain(item) for item in value]
    except TypeError:
        return value


class DeviceTopics:
    """Fills the inbox of a device. Makes the subscriptions that it needs when it is made.

    node: has ``create_subscription``, ``mono_ns()`` and ``ros_ns()``.
    """

    def __init__(self, node: Any, device: Device, contract: Contract) -> None:
        self._node = node
        self._inbox = device.inbox = Inbox(device.topics)
        self._frame = contract.base_frame
        action = contract.action
        self._open_m = action.gripper_open_m if isinstance(action, DeltaPoseGripper) else None
        staleness = contract.staleness
        self._robot_ns, self._target_ns = (
            round(limit_s * 1e9) for limit_s in (staleness.robot_state_s, staleness.target_s)
        )
        self._robot_mono_ns = self._target_mono_ns = 0
        self._commands_gripper = False
        for topic in device.topics:
            kind = message_class(topic.message)
            node.create_subscription(kind, topic.name, self._hear(topic), SENSOR)
        if device.needs_robot or (self._open_m is not None and not device.synchronous):
            node.create_subscription(RobotState, "robot_state", self._on_robot, SENSOR)
            node.create_subscription(Target, "target", self._on_target, TICK)

    def update(self, mono_ns: int) -> None:
        """Call it before the device is: what is too old by then is not known."""
        inbox = self._inbox
        inbox.mono_ns = mono_ns
        if mono_ns - self._robot_mono_ns > self._robot_ns:
            inbox.tool_pose = None
        if mono_ns - self._target_mono_ns > self._target_ns:
            inbox.commanded_pose = None

    def _hear(self, topic: Topic) -> Callable[[Any], None]:
        def on_message(message: Any) -> None:
            stamp_ns = stamp_to_ns(message.header.stamp) if hasattr(message, "header") else 0
            self._inbox.put(topic.name, plain(message), stamp_ns, self._node.ros_ns(), self._node.mono_ns())

        return on_message

    def _on_robot(self, message: RobotState) -> None:
        pose = pose_to_array(message.tool_pose).tolist()
        if message.header.frame_id == self._frame and pose_problem(pose) is None:
            self._inbox.tool_pose, self._robot_mono_ns = tuple(pose), self._node.mono_ns()
        if not self._commands_gripper:
            self._inbox.gripper = self._number(message.gripper_width_m)

    def _on_target(self, message: Target) -> None:
        pose = pose_to_array(message.pose).tolist()
        if message.header.frame_id != self._frame or pose_problem(pose) is not None:
            return
        self._inbox.commanded_pose = tuple(pose)
        self._target_mono_ns = self._node.mono_ns()
        commands, width_m = math.isfinite(message.gripper_width_m), message.gripper_width_m
        if commands:
            self._inbox.gripper = self._number(width_m)
        elif self._commands_gripper:  # an episode has begun: what the last one asked of the gripper counts no more
            self._inbox.gripper = math.nan
        self._commands_gripper = commands

    def _number(self, width_m: float) -> float:
        """The number of an action that asks for this width; NaN: the action has none, or the width is not known."""
        if self._open_m is None or not math.isfinite(width_m):
            return math.nan
        return min(max(1.0 - 2.0 * width_m / self._open_m, -1.0), 1.0)
