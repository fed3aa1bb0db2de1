"""Pins: the follower goes slowly to the leader after each grab and then follows; kinematics are the simulator's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inril_core.contract import Contract, load_contract
from inril_core.errors import ConfigError
from inril_core.settings import read_settings
from inril_core.sim.kinematics import ArmKinematics
from inril_core.teleop import DeviceLost
from inril_core.teleop.base import Inbox
from inril_core.teleop.common.kinematics import PANDA, PANDA_TOOL_M, PANDA_TOOL_QUAT, tool_pose
from inril_core.teleop.common.pursuit import away
from inril_core.teleop.leader import Config, Leader
from inril_core.transforms import quat_from_rotvec, quat_multiply

REST_RAD = (0.0, 0.2, 0.0, -2.1, 0.0, 2.3, 0.785)
NAMES = tuple(f"fr3_joint{n}" for n in range(1, 8))
HELD, LOOSE = [1, 0, 0, 0], [0, 0, 0, 0]
S = 1_000_000_000
KINEMATICS = ArmKinematics(np.array(REST_RAD))


def panda(joint_rad: Sequence[float]) -> tuple[float, ...]:
    return tool_pose(PANDA, joint_rad, PANDA_TOOL_M, PANDA_TOOL_QUAT)


@given(st.tuples(*[st.floats(-2.8, 2.8)] * 7))
def test_kinematics_are_the_simulators(joint_rad: tuple[float, ...]) -> None:
    step, turn = away(panda(joint_rad), KINEMATICS.tool_pose(np.array(joint_rad)).tolist())
    assert math.hypot(*step) < 1e-6 and math.hypot(*turn) < 1e-6


class Rig:
    """A leader, and an arm that is where the device's actions have led it."""

    def __init__(self, contract: Contract, **settings: Any) -> None:
        self.contract = contract
        self.device: Leader = Config(**settings).build(contract)
        self.inbox = self.device.inbox = Inbox(self.device.topics)
        self.now_ns = S
        self.joint_rad = list(REST_RAD)
        self.pose = panda(REST_RAD)
        self.names: Sequence[str] = NAMES
        self.extra: dict[str, float] = {}
        self.say(LOOSE)
        self.device.open()

    def say(self, buttons: list[int], age_s: float = 0.0) -> None:
        """One message of each topic."""
        self.now_ns += 20_000_000
        names = [*self.names, *self.extra]
        values = {"name": names, "position": [*self.joint_rad, *self.extra.values()]}
        ros_ns = 10**18 + self.now_ns
        self.inbox.put("leader/joint_states", values, ros_ns - round(age_s * S), ros_ns, self.now_ns)
        self.inbox.put("joy", {"axes": [], "buttons": buttons}, 0, ros_ns, self.now_ns)
        self.inbox.mono_ns = self.now_ns
        self.inbox.commanded_pose = self.pose

    def tick(self, buttons: list[int] = HELD) -> np.ndarray:
        """A control period, after which the arm has done what was asked."""
        self.say(buttons)
        action = self.device.read(None).action
        move_m = action[:3] * self.contract.action.translation_scale_m
        turn = quat_from_rotvec(action[3:6] * self.contract.action.rotation_scale_rad)
        self.pose = (*(np.array(self.pose[:3]) + move_m), *quat_multiply(turn, self.pose[3:]))
        return action

    @property
    def apart_m(self) -> float:
        return math.dist(self.pose[:3], panda(self.joint_rad)[:3])


def speed_mps(rig: Rig, action: np.ndarray) -> float:
    return float(np.linalg.norm(action[:3]) * rig.contract.action.translation_scale_m * rig.contract.control_rate_hz)


def test_without_the_button_it_moves_nothing(contract: Contract) -> None:
    rig = Rig(contract)
    rig.joint_rad[0] = 0.4
    assert not rig.tick(LOOSE).any()


def test_it_aligns_slowly_then_follows_at_full_speed(contract: Contract) -> None:
    rig = Rig(contract)
    rig.joint_rad[0] = 0.3  # the leader is elsewhere when the person grabs
    assert rig.apart_m > 0.1
    speeds = []
    while not rig.device.aligned:
        speeds.append(speed_mps(rig, rig.tick()))
        assert len(speeds) < 200
    assert max(speeds) <= 0.05 + 1e-9, "aligning is slow"
    assert rig.apart_m <= 0.01 + 1e-9
    fastest = 0.0
    for _ in range(20):
        rig.joint_rad[0] -= 0.02
        fastest = max(fastest, speed_mps(rig, rig.tick()))
    assert fastest > 0.08, "then as fast as the contract allows"
    for _ in range(30):
        rig.tick()
    assert rig.apart_m < 1e-4


def test_a_leader_that_jumps_is_followed_slowly_again(contract: Contract) -> None:
    """Pins: an encoder that loses a turn, or a leader that is dropped."""
    rig = Rig(contract)
    rig.tick()
    rig.tick()
    assert rig.device.aligned
    rig.joint_rad[0] += 0.8
    assert speed_mps(rig, rig.tick()) <= 0.05 + 1e-9 and not rig.device.aligned


def test_a_new_grab_aligns_anew(contract: Contract) -> None:
    rig = Rig(contract)
    rig.tick()
    rig.tick()
    rig.tick(LOOSE)
    rig.joint_rad[0] += 0.05
    rig.tick()
    assert not rig.device.aligned


def test_old_messages_are_refused(contract: Contract) -> None:
    rig = Rig(contract)
    rig.now_ns += S
    rig.say(HELD, age_s=0.6)
    with pytest.raises(DeviceLost, match="0.60 s old"):
        rig.device.read(None)


@pytest.mark.parametrize("position", [math.nan, math.inf])
def test_a_joint_that_is_no_number_or_missing_is_named(contract: Contract, position: float) -> None:
    rig = Rig(contract)
    rig.joint_rad[3] = position
    rig.say(HELD)
    with pytest.raises(DeviceLost, match="joint 'fr3_joint4' is"):
        rig.device.read(None)
    rig.joint_rad[3] = 0.0
    rig.names = NAMES[:6]
    rig.say(HELD)
    with pytest.raises(DeviceLost, match="'fr3_joint7' is missing"):
        rig.device.read(None)


def test_signs_and_offsets_of_the_leaders_encoders(contract: Contract) -> None:
    sign, offset = (1.0, -1.0, 1.0, -1.0, 1.0, 1.0, 1.0), (0.1, 0.2, 0.0, 0.3, 0.0, -0.4, 0.0)
    rig = Rig(contract, sign=sign, offset_rad=offset)
    rig.joint_rad = [s * q + o for s, q, o in zip(sign, REST_RAD, offset, strict=True)]
    assert np.abs(rig.tick()).max() < 1e-9


def test_the_trigger_moves_the_gripper_while_grabbed() -> None:
    contract = load_contract("one_leg_low")
    device = Config(gripper_joint="finger", gripper_open_rad=0.2, gripper_closed_rad=-0.8).build(contract)
    inbox = device.inbox = Inbox(device.topics)
    for position, wanted in ((0.2, -1.0), (-0.8, 1.0), (-0.3, 0.0), (5.0, -1.0)):
        values = {"name": [*NAMES, "finger"], "position": [*REST_RAD, position]}
        inbox.put("leader/joint_states", values, S, S, 0)
        for held, number in ((HELD, wanted), (LOOSE, math.nan)):
            inbox.put("joy", {"axes": [], "buttons": held}, 0, S, 0)
            assert device.read(None).action[6] == pytest.approx(number, nan_ok=True)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"joints": ["a"]}, "sign has 7 entries for 1 joints"),
        ({"sign": [2.0] * 7}, "must be 1 or -1"),
        ({"gripper_joint": "finger"}, "moves no gripper"),
        ({"gripper_joint": "finger", "gripper_closed_rad": 0.0}, "two ends"),
        ({"aligned_m": 0.2}, "below apart_m"),
        ({"frame": "tool"}, "frame"),
    ],
)
def test_mistakes_are_named(contract: Contract, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read_settings(Config, settings, "device_settings").build(contract)
