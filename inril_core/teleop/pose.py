"""A tracked hand: a VR controller or a phone whose pose comes as ``geometry_msgs/PoseStamped``, with a clutch."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, model_validator

from inril_core.contract import Contract
from inril_core.teleop.base import Device, DeviceLost, HumanInput, TickView, Topic
from inril_core.teleop.common.frames import FrameConfig, Quat, to_base
from inril_core.teleop.common.mapped import Buttons, ControlConfig
from inril_core.teleop.common.mapping import ControlMap, read_mapping_file
from inril_core.teleop.common.pursuit import Pursuit, away
from inril_core.teleop.joy import joy_reading, joy_topic
from inril_core.transforms import Quaternion, quat_from_rotvec, quat_multiply, quat_normalise

Positive = Annotated[float, Field(gt=0.0)]
BUILTIN = ControlMap(device="pose", buttons={"grab": "0", "hand_back": "1", "gripper": "2", "success": "3"})
Pose = tuple[float, ...]


class Config(ControlConfig, FrameConfig):
    """Settings of a tracked hand. ``grab`` is the clutch: the tool moves as the hand does while it is held."""

    moves_by_grab: ClassVar[bool] = True

    topic: str = Field("hand/pose", min_length=1)
    """Relative to the graph's namespace."""
    buttons_topic: str = Field("joy", min_length=1)
    """``sensor_msgs/Joy`` of the controller's buttons."""
    world_quat_xyzw: Quat = (0.0, 0.0, 0.0, 1.0)
    """Rotation from the axes that the tracker reports in to those of ``frame``, e.g. where a headset has y up."""
    translation_scale: float = Field(1.0, gt=0.0, le=10.0)
    """Way of the tool over way of the hand."""
    rotation_scale: float = Field(1.0, ge=0.0, le=10.0)
    """Turn of the tool over turn of the hand; 0: it does not turn."""
    max_jump_m: Positive = 0.10
    """A hand that is further from where it was one message ago was lost by its tracker: the clutch opens."""
    max_jump_rad: Positive = 0.7
    max_age_s: float = Field(0.25, gt=0.0, le=5.0)
    """A tracker that is silent for longer is a lost device."""
    gain: float = Field(0.7, gt=0.0, le=1.0)
    """Share of the remaining way that one action covers."""

    @model_validator(mode="after")
    def _is_rotation(self) -> Config:
        quat_normalise(self.world_quat_xyzw)
        return self

    def build(self, contract: Contract) -> Hand:
        """See `DeviceConfig.build`."""
        return Hand(self, contract)


class Hand(Device):
    """Where the hand is relative to where it was when the clutch closed."""

    name: ClassVar[str] = "pose"

    def __init__(self, config: Config, contract: Contract) -> None:
        self._config = config
        self._mapping = read_mapping_file(config.mapping) if config.mapping else BUILTIN
        self._buttons = Buttons(self._mapping)
        self._pursuit = Pursuit(contract, config.gain)
        self._has_gripper = contract.action_size > 6
        self._world = quat_normalise(config.world_quat_xyzw)
        start = "start the headset's or phone's bridge"
        self.topics = (
            Topic(config.topic, "geometry_msgs/msg/PoseStamped", config.max_age_s, start=start),
            joy_topic(config.buttons_topic, max(0.5, config.max_age_s)),
        )
        self.needs_robot = True
        self._forget()

    def _forget(self) -> None:
        self._before: Pose | None = None
        self._grabbed = True  # a grab begins with a reading in which the button is not held
        self._closed: tuple[Pose, Pose, Quaternion] | None = None  # of hand and tool, and from the frame to the base

    def open(self) -> None:
        """See `Device.open`."""
        self._pose()
        reading = joy_reading(self.inbox.newest(self._config.buttons_topic), self._config.buttons_topic)
        self._mapping.check(reading.axes, reading.buttons, self._config.mapping or "the built-in mapping of pose")
        self._buttons.forget()
        self._forget()

    def read(self, tick: TickView | None) -> HumanInput:
        """See `Device.read`."""
        config, inbox = self._config, self.inbox
        pose = self._pose()
        reading = joy_reading(inbox.newest(config.buttons_topic), config.buttons_topic)
        grab, released, event = self._buttons.take(reading, inbox.gripper, tick)
        now = inbox.commanded_pose or inbox.tool_pose
        rotation = config.rotation(inbox)
        if not grab or now is None or self._jumped(pose):
            self._closed = None
        elif not self._grabbed and rotation is not None:
            self._closed = pose, now, rotation
        self._before, self._grabbed = pose, grab
        action = np.zeros(6 + self._has_gripper)
        if self._has_gripper:
            action[6] = self._buttons.gripper(grab)
        if self._closed is not None and now is not None:
            action[:6] = self._pursuit.action(self._desired(pose, *self._closed), now)
        return HumanInput(action, grab, released, event)

    def _desired(self, pose: Pose, hand: Pose, tool: Pose, rotation: Quaternion) -> Pose:
        """Where the tool shall be."""
        step, turn = away(pose, hand)
        motion = to_base(rotation, to_base(self._world, (*step, *turn)))
        position = tuple(p + self._config.translation_scale * m for p, m in zip(tool[:3], motion[:3], strict=True))
        rotvec = tuple(self._config.rotation_scale * m for m in motion[3:])
        return (*position, *quat_multiply(quat_from_rotvec(rotvec), tool[3:]))

    def _jumped(self, pose: Pose) -> bool:
        if self._before is None:
            return False
        step, turn = away(pose, self._before)
        return math.hypot(*step) > self._config.max_jump_m or math.hypot(*turn) > self._config.max_jump_rad

    def _pose(self) -> Pose:
        """The hand's newest pose.

        Raises:
            DeviceLost: it is too old, or no pose.
        """
        topic = self._config.topic
        values = self.inbox.newest(topic)["pose"]
        position = [float(values["position"][axis]) for axis in "xyz"]
        quat = [float(values["orientation"][axis]) for axis in "xyzw"]
        try:
            if not all(map(math.isfinite, position)):
                raise ValueError(f"position = {position}: must be finite")
            return (*position, *quat_normalise(quat))
        except ValueError as error:
            raise DeviceLost(f"topic {topic}: {error}; look after the tracker") from error
