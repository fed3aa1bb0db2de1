"""Pins: motion in the tool's or a camera's frame goes the other way in the base frame. Closed forms."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.settings import read_settings
from inril_core.teleop.common.frames import to_base
from inril_core.teleop.common.inbox import Inbox
from inril_core.teleop.common.mapped import MappedConfig, MappedDevice
from inril_core.teleop.common.mapping import DIRECTIONS, AxisMap, ControlMap, Reading
from inril_core.transforms import quat_from_rotvec, quat_multiply

HALF = math.sqrt(0.5)
DOWN = (1.0, 0.0, 0.0, 0.0)  # half a turn about x: the tool's z points down, its y to -y
MAPPING = ControlMap(axes={d: AxisMap(axis=d, dead_zone=0.0) for d in DIRECTIONS})


class Stick(MappedDevice):
    """A stick with one axis for each direction."""

    name: ClassVar[str] = "stick"
    push: tuple[float, ...] = (0.0,) * 6

    def reading(self) -> Reading:
        return Reading(dict(zip(DIRECTIONS, self.push, strict=True)))


class Config(MappedConfig):
    def build(self, contract: Contract) -> Stick:
        return Stick(self, contract, MAPPING)


def stick(contract: Contract, tool_quat: Any = DOWN, **settings: Any) -> Stick:
    device = Config(**settings).build(contract)
    device.inbox = Inbox()
    device.inbox.tool_pose = None if tool_quat is None else (0.5, 0.0, 0.2, *tool_quat)
    device.open()
    return device


def pushed(device: Stick, *push: float) -> np.ndarray:
    device.push = push
    return device.read(None).action


@pytest.mark.parametrize(
    ("frame", "tool_quat", "push", "wanted"),
    [
        ("base", DOWN, (0, 0, 1, 0, 0, 0.5), (0, 0, 1, 0, 0, 0.5)),
        ("tool", DOWN, (0, 0, 1, 0, 0, 0.5), (0, 0, -1, 0, 0, -0.5)),
        ("tool", DOWN, (0.5, 1, 0, 0.5, 1, 0), (0.5, -1, 0, 0.5, -1, 0)),
        # the tool looks down and is turned by 90 degrees about the vertical: its x is the base's y
        ("tool", (HALF, HALF, 0.0, 0.0), (1, 0, 0, 0, 0, 0), (0, 1, 0, 0, 0, 0)),
        ("tool", (HALF, HALF, 0.0, 0.0), (0, 1, 0, 0, 1, 0), (1, 0, 0, 1, 0, 0)),
    ],
)
def test_frames(contract: Contract, frame: str, tool_quat: Any, push: Any, wanted: Any) -> None:
    assert pushed(stick(contract, tool_quat, frame=frame), *push) == pytest.approx(wanted, abs=1e-12)


def test_a_camera_that_looks_at_the_robot_from_the_front(contract: Contract) -> None:
    """Optical frame: x right, y down, z forward, which is the base's -x; so right is the base's +y."""
    quat = quat_multiply(quat_from_rotvec((0, 0, math.pi / 2)), quat_from_rotvec((-math.pi / 2, 0, 0)))
    device = stick(contract, None, frame="camera", camera_quat_xyzw=quat)
    for push, wanted in (
        ((1, 0, 0, 0, 0, 0), (0, 1, 0, 0, 0, 0)),
        ((0, 1, 0, 0, 0, 0), (0, 0, -1, 0, 0, 0)),
        ((0, 0, 1, 0, 0, 0), (-1, 0, 0, 0, 0, 0)),
    ):
        assert pushed(device, *push) == pytest.approx(wanted, abs=1e-12)


def test_while_the_tools_pose_is_unknown_nothing_moves_in_its_frame(contract: Contract) -> None:
    assert not pushed(stick(contract, None, frame="tool"), 1, 0, 0, 0, 0, 0).any()


def test_a_rotated_diagonal_is_shortened_not_bent(contract: Contract) -> None:
    quat = quat_from_rotvec((0.0, 0.0, 0.3))
    action = pushed(stick(contract, quat, frame="tool"), 1, 1, 0, 0, 0, 0)
    assert np.abs(action).max() == pytest.approx(1.0)
    assert math.atan2(action[1], action[0]) == pytest.approx(math.pi / 4 + 0.3)


def test_speed_has_units(contract: Contract) -> None:
    """10 mm and 0.12 rad a step at 10 Hz: 0.1 m/s and 1.2 rad/s are an action of 1."""
    device = stick(contract, speed_mps=(0.05, 0.1, 0.025), speed_radps=(0.6, 1.2, 0.3))
    assert pushed(device, 1, 1, 1, 1, 1, 1) == pytest.approx([0.5, 1.0, 0.25, 0.5, 1.0, 0.25])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"speed_mps": (0.1, 0.1, 0.2)}, "0.2 is above 0.1"),
        ({"frame": "camera"}, "camera_quat_xyzw"),
        ({"frame": "tool", "camera_quat_xyzw": (0.0, 0.0, 0.0, 1.0)}, "camera_quat_xyzw"),
        ({"frame": "camera", "camera_quat_xyzw": (0.0, 0.0, 0.0, 0.0)}, "norm"),
        ({"frame": "world"}, "frame"),
    ],
)
def test_mistakes_are_named(contract: Contract, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read_settings(Config, settings, "device_settings").build(contract)


@given(st.tuples(*[st.floats(-2.0, 2.0)] * 6), st.tuples(*[st.floats(-1.0, 1.0)] * 3))
def test_a_rotation_vector_turns_like_a_vector(motion: tuple[float, ...], rotvec: tuple[float, float, float]) -> None:
    """R exp(w) R^T = exp(R w)."""
    rotation = quat_from_rotvec(rotvec)
    inverse = (-rotation[0], -rotation[1], -rotation[2], rotation[3])
    turned = quat_from_rotvec(to_base(rotation, motion)[3:])
    wanted = quat_multiply(quat_multiply(rotation, quat_from_rotvec(motion[3:])), inverse)
    assert abs(np.dot(turned, wanted)) == pytest.approx(1.0)
