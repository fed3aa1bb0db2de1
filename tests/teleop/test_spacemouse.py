"""Pins: a SpaceMouse, from the bytes of its HID reports; the fake begins at the HID library, below pyspacemouse."""

from __future__ import annotations

import struct
import sys
import types
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from inril_core.contract import Contract
from inril_core.teleop import DeviceLost
from inril_core.teleop.base import Inbox
from inril_core.teleop.spacemouse import Config, SpaceMouse

FULL = 350
VENDOR, COMPACT = 0x256F, 0xC635


class FakeHid:
    """One SpaceMouse Compact as ``easyhid`` gives it: reports in, reports out."""

    vendor_id, product_id, path = VENDOR, COMPACT, "/dev/hidraw7"
    product_string, manufacturer_string, release_number, serial_number = "SpaceMouse Compact", "3Dconnexion", 1, ""
    reports: ClassVar[list[bytes]] = []
    plugged_in: ClassVar[bool] = True
    may_open: ClassVar[bool] = True

    def open(self) -> None:
        if not self.may_open:
            raise HIDException("Failed to open device")

    def close(self) -> None:
        pass

    def set_nonblocking(self, on: bool) -> None:
        assert on

    def read(self, size: int = 64) -> bytearray:
        if not self.plugged_in:
            raise HIDException("Failed to read from HID device: -1")
        report = self.reports.pop(0) if self.reports else b""
        return bytearray(report[:size].ljust(size, b"\0")) if report else bytearray()


class HIDException(Exception):
    pass


class Enumeration:
    def find(self, **_: Any) -> list[FakeHid]:
        return [FakeHid()] if FakeHid.plugged_in else []


def translation(x: int, y: int, z: int) -> None:
    FakeHid.reports.append(struct.pack("<Bhhh", 1, x, y, z))


def rotation(x: int, y: int, z: int) -> None:
    FakeHid.reports.append(struct.pack("<Bhhh", 2, x, y, z))


def buttons(bits: int) -> None:
    FakeHid.reports.append(bytes((3, bits, 0, 0, 0, 0, 0)))


@pytest.fixture
def mouse(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> Iterator[SpaceMouse]:
    fake = types.ModuleType("easyhid")
    fake.Enumeration, fake.HIDException, fake.Device = Enumeration, HIDException, FakeHid  # type: ignore[attr-defined]
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyspacemouse"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "easyhid", fake)
    pytest.importorskip("pyspacemouse", reason="needs pyspacemouse")
    FakeHid.reports.clear()
    FakeHid.plugged_in = FakeHid.may_open = True
    device = Config().build(contract)
    device.inbox = Inbox()
    yield device
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyspacemouse"]:
        sys.modules.pop(name)


def test_the_caps_axes_are_those_of_the_base_frame(mouse: SpaceMouse) -> None:
    """The device says: x right, y towards the person, z down; REP 103 wants forward, left, up."""
    mouse.open()
    for report, wanted in (
        ((FULL, 0, 0), [0, -1, 0]),
        ((0, FULL, 0), [-1, 0, 0]),
        ((0, 0, FULL), [0, 0, -1]),
        ((0, -FULL, 0), [1, 0, 0]),
    ):
        translation(*report)
        assert mouse.read(None).action == pytest.approx([*wanted, 0, 0, 0])
    translation(0, 0, 0)
    rotation(0, 0, FULL)  # clockwise from above
    assert mouse.read(None).action == pytest.approx([0, 0, 0, 0, 0, -1])


def test_the_newest_of_many_reports_counts_and_silence_keeps_it(mouse: SpaceMouse) -> None:
    mouse.open()
    assert not mouse.heard
    for y in range(0, -FULL - 1, -10):
        translation(0, y, 0)
    assert mouse.read(None).action[0] == pytest.approx(1.0)
    assert mouse.read(None).action[0] == pytest.approx(1.0), "the device says nothing while nothing changes"
    translation(0, -35, 0)
    assert not mouse.read(None).action.any(), "a tenth of the way is within the dead zone"
    assert mouse.heard


def test_buttons(mouse: SpaceMouse) -> None:
    mouse.open()
    buttons(0b01)
    assert (mouse.read(None).grab, mouse.read(None).released) == (True, False)
    buttons(0b10)
    assert (mouse.read(None).grab, mouse.read(None).released) == (False, True)


def test_unplugged_and_plugged_in_again(mouse: SpaceMouse) -> None:
    mouse.open()
    translation(0, -FULL, 0)
    mouse.read(None)
    FakeHid.plugged_in = False
    with pytest.raises(DeviceLost, match="plug it in again"):
        mouse.read(None)
    mouse.close()
    with pytest.raises(DeviceLost, match=r"not there \(found: none\)"):
        mouse.open()
    FakeHid.plugged_in = True
    mouse.open()
    assert not mouse.read(None).action.any() and not mouse.heard


def test_without_permission_the_rule_is_named(mouse: SpaceMouse) -> None:
    FakeHid.may_open = False
    assert Config.plugged_in() == ["0: SpaceMouseCompact"]
    with pytest.raises(DeviceLost, match="inril devices udev"):
        mouse.open()


def test_without_the_package_the_install_command_is_named(mouse: SpaceMouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspacemouse", None)
    with pytest.raises(DeviceLost, match=r"pip install .*\[spacemouse\]"):
        mouse.open()
