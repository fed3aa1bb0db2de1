"""A leader arm (GELLO, or any arm that is moved by hand) whose joints come as ``sensor_msgs/JointState``."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, model_validator

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.teleop.base import Device, DeviceLost, HumanInput, TickView, Topic
from inril_core.teleop.common.kinematics import PANDA, PANDA_TOOL_M, PANDA_TOOL_QUAT, DhRow, tool_pose
from inril_core.teleop.common.mapped import Buttons, ControlConfig
from inril_core.teleop.common.mapping import ControlMap, read_mapping_file
from inril_core.teleop.common.pursuit import Pursuit, away
from inril_core.teleop.joy import joy_reading, joy_topic
from inril_core.transforms import quat_normalise

Positive = Annotated[float, Field(gt=0.0)]
BUILTIN = ControlMap(device="leader", buttons={"grab": "0", "hand_back": "1", "success": "2", "failure": "3"})
MAX_AGE_S = 0.5


class Config(ControlConfig):
    """Settings of a leader arm."""

    moves_by_grab: ClassVar[bool] = True

    topic: str = Field("leader/joint_states", min_length=1)
    """Relative to the graph's namespace; messages older than 0.5 s are refused."""
    buttons_topic: str = Field("joy", min_length=1)
    """``sensor_msgs/Joy`` of a pedal or of buttons at the handle: a leader arm moves whenever it is touched, so taking
    control needs a button of its own."""
    joints: tuple[str, ...] = tuple(f"fr3_joint{number}" for number in range(1, 8))
    """Names in ``JointState.name``, from the base to the tool."""
    sign: tuple[float, ...] = (1.0,) * 7
    """1 or -1 for each joint: joint [rad] = sign * (position - offset_rad)."""
    offset_rad: tuple[float, ...] = (0.0,) * 7
    dh: tuple[DhRow, ...] = PANDA
    """a [m], d [m], alpha [rad] of each joint of the arm that follows, modified Denavit-Hartenberg; as given: Panda."""
    tool_m: tuple[float, float, float] = PANDA_TOOL_M
    """Of the tool in the last joint's frame."""
    tool_quat_xyzw: tuple[float, float, float, float] = PANDA_TOOL_QUAT
    gripper_joint: str = ""
    """Name of the trigger; empty: there is none, the gripper's button counts."""
    gripper_open_rad: float = 0.0
    """Position of the trigger that opens the gripper wide."""
    gripper_closed_rad: float = 1.0
    """Position that closes it."""
    align_speed_mps: Positive = 0.05
    """After a grab the arm goes to the leader's pose so slowly, until it is there."""
    align_speed_radps: Positive = 0.3
    aligned_m: Positive = 0.01
    """The arm is there when it is nearer than this, and than ``aligned_rad``; from then on it follows at full speed."""
    aligned_rad: Positive = 0.1
    apart_m: Positive = 0.10
    """Further away than this, or than ``apart_rad``, it goes slowly again: the leader fell, or an encoder jumped."""
    apart_rad: Positive = 0.6
    gain: float = Field(0.7, gt=0.0, le=1.0)
    """Share of the remaining way that one action covers."""

    @model_validator(mode="after")
    def _fits(self) -> Config:
        for name, values in (("sign", self.sign), ("offset_rad", self.offset_rad), ("dh", self.dh)):
            if len(values) != len(self.joints):
                raise ValueError(f"{name} has {len(values)} entries for {len(self.joints)} joints; give one for each")
        if any(abs(sign) != 1.0 for sign in self.sign):
            raise ValueError(f"sign = {list(self.sign)}: each must be 1 or -1")
        if self.gripper_joint and self.gripper_open_rad == self.gripper_closed_rad:
            raise ValueError("gripper_open_rad and gripper_closed_rad are the same; give the trigger's two ends")
        if not (self.aligned_m < self.apart_m and self.aligned_rad < self.apart_rad):
            raise ValueError("aligned_m and aligned_rad must be below apart_m and apart_rad")
        quat_normalise(self.tool_quat_xyzw)
        return self

    def build(self, contract: Contract) -> Leader:
        """See `DeviceConfig.build`."""
        if self.gripper_joint and contract.action_size < 7:
            raise ConfigError(
                f"device_settings.gripper_joint = {self.gripper_joint!r}: the action of contract {contract.task} moves "
                "no gripper; leave it out"
            )
        return Leader(self, contract)


class Leader(Device):
    """The arm's tool follows the leader's tool while the button is held."""

    name: ClassVar[str] = "leader"

    def __init__(self, config: Config, contract: Contract) -> None:
        self._config = config
        self._mapping = read_mapping_file(config.mapping) if config.mapping else BUILTIN
        self._buttons = Buttons(self._mapping)
        self._pursuit = Pursuit(contract, config.gain)
        self._has_gripper = contract.action_size > 6
        self._tool_quat = quat_normalise(config.tool_quat_xyzw)
        self.topics = (
            Topic(config.topic, "sensor_msgs/msg/JointState", MAX_AGE_S, start="start the leader's driver"),
            joy_topic(config.buttons_topic, MAX_AGE_S),
        )
        self.needs_robot = True
        self.aligned = False
        """The arm has reached the leader since the last grab."""

    def open(self) -> None:
        """See `Device.open`."""
        self._joints()
        reading = joy_reading(self.inbox.newest(self._config.buttons_topic), self._config.buttons_topic)
        self._mapping.check(reading.axes, reading.buttons, self._config.mapping or "the built-in mapping of leader")
        self._buttons.forget()
        self.aligned = False

    def read(self, tick: TickView | None) -> HumanInput:
        """See `Device.read`."""
        config, inbox = self._config, self.inbox
        joints = self._joints()
        desired = tool_pose(config.dh, self._joint_rad(joints), config.tool_m, self._tool_quat)
        reading = joy_reading(inbox.newest(config.buttons_topic), config.buttons_topic)
        grab, released, event = self._buttons.take(reading, inbox.gripper, tick)
        now = inbox.commanded_pose or inbox.tool_pose
        action = np.zeros(6 + self._has_gripper)
        if self._has_gripper:
            action[6] = self._gripper(joints) if config.gripper_joint and grab else self._buttons.gripper(grab)
        if not grab or now is None:
            self.aligned = False
            return HumanInput(action, grab, released, event)
        step, turn = away(desired, now)
        way_m, way_rad = math.hypot(*step), math.hypot(*turn)
        if self.aligned:
            self.aligned = way_m <= config.apart_m and way_rad <= config.apart_rad
        else:
            self.aligned = way_m <= config.aligned_m and way_rad <= config.aligned_rad
        slow = (math.inf, math.inf) if self.aligned else (config.align_speed_mps, config.align_speed_radps)
        action[:6] = self._pursuit.action(desired, now, *slow)
        return HumanInput(action, grab, released, event)

    def _joints(self) -> dict[str, float]:
        """Positions by name.

        Raises:
            DeviceLost: the newest message is too old, or a joint is missing or not finite.
        """
        topic = self._config.topic
        values = self.inbox.newest(topic)
        joints = dict(zip(values["name"], map(float, values["position"]), strict=False))
        wanted = [*self._config.joints, *filter(None, [self._config.gripper_joint])]
        for name in wanted:
            if not math.isfinite(joints.get(name, math.nan)):
                raise DeviceLost(
                    f"topic {topic}: joint {name!r} is {joints.get(name, 'missing')}, it has {', '.join(joints)}; set "
                    "joints and gripper_joint in device_settings to its names"
                )
        return joints

    def _joint_rad(self, joints: dict[str, float]) -> list[float]:
        config = self._config
        return [
            sign * (joints[name] - offset)
            for name, sign, offset in zip(config.joints, config.sign, config.offset_rad, strict=True)
        ]

    def _gripper(self, joints: dict[str, float]) -> float:
        config = self._config
        way = config.gripper_closed_rad - config.gripper_open_rad
        share = (joints[config.gripper_joint] - config.gripper_open_rad) / way
        return 2.0 * min(max(share, 0.0), 1.0) - 1.0
