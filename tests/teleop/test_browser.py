"""Pins: a page that is gone, late or out of order and still moves the arm; a motion in the wrong frame."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from inril_core.contract import load_contract
from inril_core.teleop.base import DeviceLost, Inbox, device_config
from inril_core.teleop.browser import PAGE_INPUT
from inril_core.teleop.common.keeper import DeviceKeeper

MS = 1_000_000


def made(task: str = "insert_leg", settings: str = "") -> Any:
    device = device_config("browser", settings).build(load_contract(task))
    device.inbox = Inbox(device.topics)
    return device


def say(device: Any, mono_ns: int, seq: int = 1, **changes: Any) -> None:
    values = {
        **{"client_id": "1-a", "operator_name": "Ada", "seq": seq, "grab": True, "released": False},
        **{"motion": [0.5, 0.0, -0.25, 0.0, 0.0, 1.0], "gripper": math.nan, **changes},
    }
    device.inbox.put(PAGE_INPUT, values, 0, 0, mono_ns)
    device.inbox.mono_ns = mono_ns


def test_it_says_what_the_page_says() -> None:
    device = made()
    say(device, 10 * MS)
    device.open()
    said = device.read(None)
    assert said.action.tolist() == [0.5, 0.0, -0.25, 0.0, 0.0, 1.0] and said.grab and not said.released
    assert device.operator == "Ada"
    say(device, 20 * MS, seq=2, grab=False, released=True, motion=[0.0] * 6)
    said = device.read(None)
    assert not said.action.any() and not said.grab and said.released


def test_a_silent_page_is_a_lost_device_and_the_arm_is_told_to_hold_first() -> None:
    device = made()
    keeper = DeviceKeeper(device, 6, start=lambda work: work())
    assert keeper.read(None, 0) is None and "Take control" in keeper.trouble
    now = 20_000 * MS
    say(device, now, motion=[0.0] * 6, grab=False)
    keeper.tend(now)
    assert keeper.read(None, now) is not None
    say(device, now + 100 * MS, seq=2)
    said = keeper.read(None, now + 100 * MS)
    assert said is not None and said.grab and said.action[0] == 0.5
    device.inbox.mono_ns = now + 399 * MS
    assert keeper.read(None, now + 399 * MS) is not None  # just under 0.3 s: still true
    device.inbox.mono_ns = now + 401 * MS
    last = keeper.read(None, now + 401 * MS)
    assert last is not None and last.grab and not last.action.any()  # keeps control, holds still
    assert keeper.read(None, now + 402 * MS) is None and "silent for 0.3 s" in keeper.trouble


def test_what_a_page_said_before_does_not_act_again() -> None:
    device = made()
    say(device, MS, seq=7)
    device.read(None)
    device.read(None)
    say(device, 2 * MS, seq=6)
    with pytest.raises(DeviceLost, match="message 6 of page 1-a after 7"):
        device.read(None)
    say(device, 3 * MS, seq=0, client_id="2-b")  # another page counts from the beginning
    assert device.read(None).grab


@pytest.mark.parametrize("motion", [[math.nan] * 6, [math.inf, 0, 0, 0, 0, 0], [0.0] * 5])
def test_a_motion_that_is_none_is_refused(motion: list[float]) -> None:
    device = made()
    say(device, MS, motion=motion)
    with pytest.raises(DeviceLost, match="must be 6 finite numbers"):
        device.read(None)


def test_motion_in_the_tools_frame_is_turned_into_the_base_frame() -> None:
    device = made(settings="{frame: tool}")
    say(device, MS, motion=[1.0, 0, 0, 0, 0, 1.0])
    with pytest.raises(DeviceLost, match="pose is not known"):
        device.read(None)
    quarter = math.sqrt(0.5)
    device.inbox.tool_pose = (0.5, 0.0, 0.3, 0.0, 0.0, quarter, quarter)  # turned by 90 degrees about z
    assert np.allclose(device.read(None).action, [0, 1, 0, 0, 0, 1], atol=1e-9)


def test_the_gripper_of_a_task_that_has_one() -> None:
    device = made("one_leg_low")
    say(device, MS, gripper=-1.0)
    assert device.read(None).action[6] == -1.0
    say(device, MS, seq=2)
    assert math.isnan(device.read(None).action[6])  # keeps its width


def test_a_page_that_comes_back_after_a_long_time_drives_at_once() -> None:
    device = made()
    keeper = DeviceKeeper(device, 6, start=lambda work: work())
    now = 0
    for _ in range(20):  # failures in a row: nobody is there
        now += 10_000 * MS
        device.inbox.mono_ns = now
        assert keeper.read(None, now) is None
    back = now + 501 * MS
    say(device, back, motion=[0.0] * 6, grab=False)
    assert keeper.read(None, back) is not None
