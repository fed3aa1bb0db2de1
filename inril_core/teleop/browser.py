"""The console's page as an input device: keyboard, touch stick and gamepad of the machine that the browser runs on.

The page speaks to `console_node`, which publishes what the person does on ``page_input``: so it works over SSH port
forwarding, on a tablet and where the robot's host has neither screen nor USB. A page that is gone, hidden or slow
is silent here, and silence is a lost device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from inril_core.contract import Contract
from inril_core.teleop.base import Device, DeviceLost, HumanInput, TickView, Topic
from inril_core.teleop.common.frames import FrameConfig, to_base

PAGE_INPUT = "page_input"
START = "open the page that `inril up` names (console:=true), and press `Take control` there"


class Browser(Device):
    """Says what the page says, turned into the base frame."""

    name: ClassVar[str] = "browser"
    longest_wait_s = 0.5  # opening it costs nothing, and a person who has just come back must not wait

    def __init__(self, config: Config, contract: Contract) -> None:
        self._config = config
        self._size = contract.action_size
        self.topics = (Topic(PAGE_INPUT, "inril_msgs/msg/PageInput", config.max_age_s, stamped=False, start=START),)
        self.needs_robot = config.frame == "tool"
        self._last: tuple[str, int] = ("", -1)

    def open(self) -> None:
        """See `Device.open`. It is there as soon as a page has control."""
        self.inbox.newest(PAGE_INPUT)

    def read(self, tick: TickView | None) -> HumanInput:
        """See `Device.read`."""
        said = self.inbox.newest(PAGE_INPUT)
        self._check_order(said)
        self.operator = str(said["operator_name"])
        motion = tuple(float(value) for value in said["motion"])
        if len(motion) != 6 or not all(map(math.isfinite, motion)):
            raise DeviceLost(f"topic {PAGE_INPUT}: motion = {list(motion)}: must be 6 finite numbers")
        rotation = self._config.rotation(self.inbox)
        if rotation is None:
            if any(motion):
                raise DeviceLost("frame: tool, and the arm's pose is not known now; look after the arm's node")
            rotation = (0.0, 0.0, 0.0, 1.0)
        action = np.zeros(self._size)
        action[:6] = to_base(rotation, motion)
        if self._size > 6:
            action[6] = float(said["gripper"])
        return HumanInput(action, bool(said["grab"]), bool(said["released"]))

    def _check_order(self, said: Mapping[str, Any]) -> None:
        """What a page said before must not act again after what it said later."""
        client_id, seq = str(said["client_id"]), int(said["seq"])
        if client_id == self._last[0] and seq < self._last[1]:
            raise DeviceLost(f"topic {PAGE_INPUT}: message {seq} of page {client_id} after {self._last[1]}")
        self._last = client_id, seq


class Config(FrameConfig):
    """Settings of the page as a device."""

    moves_by_grab: ClassVar[bool] = True
    gives_back_explicitly: ClassVar[bool] = True

    max_age_s: float = Field(0.3, gt=0.0, le=5.0)
    """A page that is silent for longer is a lost device: the arm holds."""

    def build(self, contract: Contract) -> Browser:
        """See `DeviceConfig.build`."""
        return Browser(self, contract)
