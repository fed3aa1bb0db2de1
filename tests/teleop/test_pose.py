"""Pins: a tracked hand moves the tool by what it moved since its clutch closed, in the frame that was chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from inril_core.contract import Contract
from inril_core.teleop import DeviceLost
from inril_core.teleop.base import Inbox
from inril_core.teleop.common.pursuit import away
from inril_core.teleop.pose import Config, Hand
from inril_core.transforms import quat_from_rotvec, quat_multiply

S = 1_000_000_000
DOWN = (1.0, 0.0, 0.0, 0.0)
START = (0.5, 0.0, 0.2, *DOWN)
NONE = (0.0, 0.0, 0.0)


class Rig:
    """A hand, and an arm that is where the device's actions have led it."""

    def __init__(self, contract: Contract, **settings: Any) -> None:
        self.contract = contract
        self.device: Hand = Config(**settings).build(contract)
        self.inbox = self.device.inbox = Inbox(self.device.topics)
        self.now_ns = S
        self.pose: tuple[float, ...] = START
        self.say((1.0, 2.0, 3.0), NONE, False)
        self.device.open()

    def say(self, position_m: Sequence[float], rotvec: Sequence[float], held: bool) -> None:
        self.now_ns += 20_000_000
        quat = quat_from_rotvec(rotvec)
        values = {
            "pose": {
                "position": dict(zip("xyz", position_m, strict=True)),
                "orientation": dict(zip("xyzw", quat, strict=True)),
            }
        }
        ros_ns = 10**18 + self.now_ns
        self.inbox.put("hand/pose", values, ros_ns, ros_ns, self.now_ns)
        self.inbox.put("joy", {"axes": [], "buttons": [held, 0, 0, 0]}, 0, ros_ns, self.now_ns)
        self.inbox.mono_ns, self.inbox.commanded_pose, self.inbox.tool_pose = self.now_ns, self.pose, self.pose

    def tick(self, position_m: Sequence[float], rotvec: Sequence[float] = NONE, held: bool = True) -> np.ndarray:
        self.say(position_m, rotvec, held)
        action = self.device.read(None).action
        move_m = action[:3] * self.contract.action.translation_scale_m
        turn = quat_from_rotvec(action[3:6] * self.contract.action.rotation_scale_rad)
        self.pose = (*(np.array(self.pose[:3]) + move_m), *quat_multiply(turn, self.pose[3:]))
        return action

    def settle(self, position_m: Sequence[float], rotvec: Sequence[float] = NONE) -> tuple[Any, Any]:
        """The hand goes there with the clutch closed; how far the tool has gone when it rests."""
        self.tick((1.0, 2.0, 3.0), held=False)
        self.tick((1.0, 2.0, 3.0))
        for _ in range(60):
            self.tick(position_m, rotvec)
        return away(self.pose, START)


@pytest.mark.parametrize(
    ("settings", "hand_m", "rotvec", "tool_m", "turn"),
    [
        ({}, (0.05, -0.02, 0.03), (0.0, 0.0, 0.2), (0.05, -0.02, 0.03), (0.0, 0.0, 0.2)),
        ({"frame": "tool"}, (0.05, 0.02, 0.03), (0.1, 0.0, 0.2), (0.05, -0.02, -0.03), (0.1, 0.0, -0.2)),
        ({"translation_scale": 0.5, "rotation_scale": 0.0}, (0.08, 0, 0), (0, 0, 0.4), (0.04, 0, 0), NONE),
        # y up, as headsets have it: the hand's up is the base's up
        (
            {"world_quat_xyzw": quat_from_rotvec((math.pi / 2, 0, 0))},
            (0.0, 0.06, 0.0),
            (0.0, 0.3, 0.0),
            (0.0, 0.0, 0.06),
            (0.0, 0.0, 0.3),
        ),
    ],
)
def test_the_tool_goes_as_the_hand_went(
    contract: Contract, settings: Any, hand_m: Any, rotvec: Any, tool_m: Any, turn: Any
) -> None:
    moved, turned = Rig(contract, **settings).settle(np.add((1.0, 2.0, 3.0), hand_m), rotvec)
    assert moved == pytest.approx(tool_m, abs=1e-5) and turned == pytest.approx(turn, abs=1e-5)


def test_closing_the_clutch_moves_nothing_wherever_the_hand_is(contract: Contract) -> None:
    rig = Rig(contract)
    rig.tick((1.05, 2.0, 3.0), held=False)
    assert not rig.tick((1.05, 2.0, 3.0)).any()


def test_with_the_clutch_open_the_hand_goes_back_and_the_tool_stays(contract: Contract) -> None:
    """Pins: reaching far in several strokes."""
    rig = Rig(contract)
    for _ in range(2):
        rig.settle((1.05, 2.0, 3.0))
        rig.tick((1.0, 2.0, 3.0), held=False)
    assert rig.pose[0] == pytest.approx(START[0] + 0.10, abs=1e-5)


def test_a_tracker_that_jumps_opens_the_clutch_until_a_new_grab(contract: Contract) -> None:
    rig = Rig(contract)
    rig.settle((1.02, 2.0, 3.0))
    before = rig.pose
    assert not rig.tick((1.4, 2.0, 3.0)).any()
    assert not rig.tick((1.4, 2.0, 3.0)).any() and rig.pose == pytest.approx(before)
    rig.tick((1.4, 2.0, 3.0), held=False)
    rig.tick((1.4, 2.0, 3.0))
    assert rig.tick((1.41, 2.0, 3.0))[0] > 0.0


def test_a_clutch_that_is_held_when_the_device_opens_waits_for_a_new_grab(contract: Contract) -> None:
    rig = Rig(contract)
    rig.device.open()
    rig.tick((1.0, 2.0, 3.0))
    assert not rig.tick((1.05, 2.0, 3.0)).any()


@pytest.mark.parametrize("position", [(math.nan, 0.0, 0.0), (0.0, math.inf, 0.0)])
def test_a_pose_that_is_none_is_a_lost_device(contract: Contract, position: Any) -> None:
    rig = Rig(contract)
    rig.say(position, NONE, True)
    with pytest.raises(DeviceLost, match="finite"):
        rig.device.read(None)


def test_a_tracker_that_is_silent_is_a_lost_device(contract: Contract) -> None:
    rig = Rig(contract)
    rig.inbox.mono_ns += round(0.3 * S)
    with pytest.raises(DeviceLost, match=r"hand/pose .* silent for 0.3 s"):
        rig.device.read(None)
