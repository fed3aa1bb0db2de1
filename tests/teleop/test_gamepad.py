"""Pins: a gamepad, simulated by SDL's virtual joystick, through SDL's own mappings; unplugged and plugged in again."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pygame._sdl2.controller", reason="needs pygame-ce")

from inril_core.contract import Contract
from inril_core.teleop import DeviceLost, device_config
from inril_core.teleop.base import Device, Inbox
from inril_core.teleop.common.keeper import DeviceKeeper
from inril_core.teleop.gamepad import AXES, BUTTONS, Config, Gamepad, _sdl

TYPE_GAMECONTROLLER = 1


class VirtualPad:
    """What a person does to it; SDL takes it for hardware."""

    def __init__(self) -> None:
        _sdl()
        with open("/proc/self/maps") as maps:
            library = next(line.split()[-1] for line in maps if "libSDL2-2" in line)
        self._sdl = ctypes.CDLL(library)
        self._sdl.SDL_JoystickOpen.restype = ctypes.c_void_p
        self._sdl.SDL_JoystickSetVirtualAxis.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int16]
        self._sdl.SDL_JoystickSetVirtualButton.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint8]
        self._index = -1

    def plug_in(self) -> None:
        self._index = self._sdl.SDL_JoystickAttachVirtual(TYPE_GAMECONTROLLER, len(AXES), len(BUTTONS), 0)
        assert self._index >= 0
        self._joystick = self._sdl.SDL_JoystickOpen(self._index)
        for trigger in ("lefttrigger", "righttrigger"):
            self.move(trigger, -1.0)

    def unplug(self) -> None:
        if self._index >= 0:
            self._sdl.SDL_JoystickDetachVirtual(self._index)
            self._index = -1

    def move(self, axis: str, to: float) -> None:
        """In [-1, 1] as the hardware has it; a trigger rests at -1."""
        self._sdl.SDL_JoystickSetVirtualAxis(self._joystick, AXES.index(axis), round(32767 * to))

    def press(self, button: str, down: bool = True) -> None:
        self._sdl.SDL_JoystickSetVirtualButton(self._joystick, BUTTONS.index(button), down)


@pytest.fixture
def pad() -> Iterator[VirtualPad]:
    pad = VirtualPad()
    pad.plug_in()
    yield pad
    pad.unplug()
    _sdl()


def opened(contract: Contract, **settings: Any) -> Gamepad:
    device = Config(**settings).build(contract)
    device.inbox = Inbox()
    device.open()
    return device


def test_sticks_triggers_and_buttons(contract: Contract, pad: VirtualPad) -> None:
    device = opened(contract)
    said = device.read(None)
    assert not said.grab and not said.action.any() and not device.heard
    for axis, to, where, wanted in (
        ("lefty", -1.0, 0, 1.0),  # away from the person: forward
        ("leftx", -1.0, 1, 1.0),
        ("righttrigger", 1.0, 2, 1.0),
        ("lefttrigger", 1.0, 2, -1.0),
        ("rightx", 0.55, 5, -0.5),  # half-way, beyond a dead zone of 0.1
    ):
        pad.move(axis, to)
        action = device.read(None).action
        assert action[where] == pytest.approx(wanted, abs=1e-3) and np.count_nonzero(action) == 1, axis
        pad.move(axis, -1.0 if "trigger" in axis else 0.0)
    assert device.heard
    pad.press("rightshoulder")
    assert device.read(None).grab
    pad.press("b")
    assert device.read(None).released
    pad.press("y")
    assert [device.read(None).event for _ in range(2)] == ["success", ""]
    device.close()


def test_unplugged_it_holds_and_plugged_in_again_it_waits_for_a_new_grab(contract: Contract, pad: VirtualPad) -> None:
    device = Config().build(contract)
    device.inbox = Inbox()
    keeper = DeviceKeeper(device, contract.action_size, lambda work: work())
    keeper.read(None, 0)
    pad.move("lefty", -1.0)
    pad.press("rightshoulder")
    said = keeper.read(None, 1)
    assert said is not None and said.grab and said.action[0] == pytest.approx(1.0, abs=1e-3)
    pad.unplug()
    held = keeper.read(None, 2)
    assert held is not None and held.grab and not held.action.any(), "the arm stops at once"
    assert "unplugged" in keeper.trouble
    again_ns = round(1e9 * Device.longest_wait_s)
    assert keeper.read(None, again_ns) is None and "gamepad 0 is not there (found: none)" in keeper.trouble
    pad.plug_in()
    pad.move("lefty", -1.0)
    pad.press("rightshoulder")
    back = keeper.read(None, 2 * again_ns)
    assert back is not None and not back.grab and not back.action.any() and keeper.waits_for_rest
    pad.move("lefty", 0.0)
    pad.press("rightshoulder", False)
    keeper.read(None, 2 * again_ns + 1)
    pad.press("rightshoulder")
    grabbed = keeper.read(None, 2 * again_ns + 2)
    assert grabbed is not None and grabbed.grab
    keeper.close()


def test_what_is_plugged_in_is_named(contract: Contract, pad: VirtualPad) -> None:
    assert Config.plugged_in() == ["0: Virtual Controller"]
    with pytest.raises(DeviceLost, match=r"gamepad 3 is not there \(found: Virtual Controller\)"):
        opened(contract, index=3)


def test_without_the_package_the_install_command_is_named(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pygame", None)
    with pytest.raises(DeviceLost, match=r"pip install .*\[gamepad\]"):
        device_config("gamepad").build(contract).open()
