"""Any joystick that has a ROS driver: a topic of ``sensor_msgs/Joy``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from inril_core.contract import Contract
from inril_core.teleop.base import DeviceLost, Topic
from inril_core.teleop.common.mapped import MappedConfig, MappedDevice
from inril_core.teleop.common.mapping import AxisMap, ControlMap, Reading, buttons_of

START = "start it, e.g. `ros2 run joy joy_node`, with autorepeat_rate 20 or more, or it is silent at rest"

BUILTIN = ControlMap(
    device="joy",
    product="joy_node with a gamepad in Xbox layout",
    axes={
        "x": AxisMap(axis="1"),
        "y": AxisMap(axis="0"),
        "z": AxisMap(axis="4"),
        "rz": AxisMap(axis="3"),
    },
    buttons={"grab": "5", "hand_back": "1", "gripper": "0", "success": "3", "failure": "2", "discard": "6"},
)
"""Axes of joy_node point forward and to the left, as the base frame's do."""


def joy_topic(name: str, max_age_s: float) -> Topic:
    """A topic of ``sensor_msgs/Joy``."""
    return Topic(name, "sensor_msgs/msg/Joy", max_age_s, stamped=False, start=START)


def joy_reading(values: Mapping[str, Any], topic: str) -> Reading:
    """Axes and buttons by their numbers.

    Raises:
        DeviceLost: an axis is not finite.
    """
    axes = {str(index): float(value) for index, value in enumerate(values["axes"])}
    if not all(map(math.isfinite, axes.values())):
        raise DeviceLost(f"topic {topic}: axes = {list(axes.values())}; look after its driver")
    return Reading(axes, buttons_of(values["buttons"]))


class Joy(MappedDevice):
    """Follows the newest message; one that is too old is a lost device."""

    name: ClassVar[str] = "joy"

    def __init__(self, config: Config, contract: Contract) -> None:
        super().__init__(config, contract, BUILTIN)
        self._topic = config.topic
        self.topics = (joy_topic(config.topic, config.max_age_s),)

    def open(self) -> None:
        """See `Device.open`."""
        self.opened()

    def reading(self) -> Reading:
        """See `MappedDevice.reading`."""
        return joy_reading(self.inbox.newest(self._topic), self._topic)


class Config(MappedConfig):
    """Settings of a joystick on a topic."""

    topic: str = Field("joy", min_length=1)
    """Relative to the graph's namespace."""
    max_age_s: float = Field(0.5, gt=0.0, le=5.0)
    """A driver that is silent for longer is a lost device."""

    def build(self, contract: Contract) -> Joy:
        """See `DeviceConfig.build`."""
        return Joy(self, contract)
