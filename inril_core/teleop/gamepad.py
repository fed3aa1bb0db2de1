"""A gamepad on this machine, through SDL and its database of mappings (the extra `gamepad`)."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from pydantic import Field

from inril_core.contract import Contract
from inril_core.errors import missing_package
from inril_core.teleop.base import DeviceLost
from inril_core.teleop.common.mapped import MappedConfig, MappedDevice
from inril_core.teleop.common.mapping import AxisMap, ControlMap, Reading

AXES = ("leftx", "lefty", "rightx", "righty", "lefttrigger", "righttrigger")
BUTTONS = (
    *("a", "b", "x", "y", "back", "guide", "start", "leftstick", "rightstick", "leftshoulder", "rightshoulder"),
    *("dpup", "dpdown", "dpleft", "dpright"),
)
"""SDL's names in the order of its numbers. Every pad that SDL knows has the same ones, wherever they are printed."""
FULL = 32767.0

BUILTIN = ControlMap(
    device="gamepad",
    product="any that SDL knows",
    axes={
        "x": AxisMap(axis="lefty", invert=True),
        "y": AxisMap(axis="leftx", invert=True),
        "z": AxisMap(axis="righttrigger", minus_axis="lefttrigger"),
        "rx": AxisMap(plus_button="dpright", minus_button="dpleft"),
        "ry": AxisMap(axis="righty", invert=True),
        "rz": AxisMap(axis="rightx", invert=True),
    },
    buttons={
        **{"grab": "rightshoulder", "hand_back": "b", "gripper": "a"},
        **{"success": "y", "failure": "x", "discard": "back"},
    },
)


def _sdl() -> tuple[Any, Any]:
    """pygame and its controller module, ready.

    Raises:
        DeviceLost: the package is missing.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no window, and no need of a display
    os.environ.setdefault("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")
    try:
        import pygame
        from pygame._sdl2 import controller
    except ImportError as error:
        raise DeviceLost(str(missing_package("a gamepad needs pygame-ce", "gamepad", error))) from error
    if not pygame.display.get_init():
        pygame.display.init()
    if not controller.get_init():
        controller.init()
    pygame.event.pump()
    return pygame, controller


def _pads() -> list[Any]:
    _, controller = _sdl()
    return [controller.Controller(index) for index in range(controller.get_count()) if controller.is_controller(index)]


class Gamepad(MappedDevice):
    """The pad with the configured number."""

    name: ClassVar[str] = "gamepad"

    def __init__(self, config: Config, contract: Contract) -> None:
        super().__init__(config, contract, BUILTIN)
        self._index = config.index
        self._pad: Any = None
        self._pygame: Any = None
        self._first: Reading | None = None
        self._heard = False

    @property
    def heard(self) -> bool:
        """See `Device.heard`: a stick has moved or a button was pressed."""
        return self._heard

    def open(self) -> None:
        """See `Device.open`."""
        self._pygame, _ = _sdl()
        pads = _pads()
        if self._index >= len(pads):
            there = ", ".join(pad.name for pad in pads) or "none"
            raise DeviceLost(
                f"gamepad {self._index} is not there (found: {there}); plug it in, and see that this user may read "
                "/dev/input (`inril devices udev`)"
            )
        self._pad = pads[self._index]
        self._first, self._heard = None, False
        self.opened()

    def reading(self) -> Reading:
        """See `MappedDevice.reading`."""
        pad = self._pad
        self._pygame.event.pump()
        if pad is None or not pad.attached():
            raise DeviceLost("the gamepad was unplugged, or its battery is empty; plug it in")
        reading = Reading(
            {name: max(-1.0, pad.get_axis(index) / FULL) for index, name in enumerate(AXES)},
            {name: bool(pad.get_button(index)) for index, name in enumerate(BUTTONS)},
        )
        self._first = self._first or reading
        self._heard = self._heard or reading != self._first
        return reading

    def close(self) -> None:
        """See `Device.close`."""
        pad, self._pad = self._pad, None
        if pad is not None:
            pad.quit()


class Config(MappedConfig):
    """Settings of a gamepad."""

    index: int = Field(0, ge=0, le=15)
    """Which one, where several are plugged in; `inril devices` counts them."""

    @classmethod
    def plugged_in(cls) -> list[str]:
        """See `DeviceConfig.plugged_in`."""
        return [f"{index}: {pad.name}" for index, pad in enumerate(_pads())]

    def build(self, contract: Contract) -> Gamepad:
        """See `DeviceConfig.build`."""
        return Gamepad(self, contract)
