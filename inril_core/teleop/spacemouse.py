"""A 3Dconnexion SpaceMouse on this machine, through pyspacemouse and hidapi (the extra `spacemouse`)."""

from __future__ import annotations

import contextlib
import io
from typing import Any, ClassVar

from pydantic import Field

from inril_core.contract import Contract
from inril_core.errors import missing_package
from inril_core.teleop.base import DeviceLost
from inril_core.teleop.common.mapped import MappedConfig, MappedDevice
from inril_core.teleop.common.mapping import AxisMap, ControlMap, Reading, buttons_of

MOST_REPORTS = 64
"""Read at a time; a device sends 125 a second at most."""
NO_REPORT_S = -1.0
"""What pyspacemouse gives as the time of the newest report before there was one."""
AXES = ("x", "y", "z", "roll", "pitch", "yaw")

BUILTIN = ControlMap(
    device="spacemouse",
    product="any that pyspacemouse knows",
    axes={
        "x": AxisMap(axis="x"),
        "y": AxisMap(axis="y"),
        "z": AxisMap(axis="z"),
        "rx": AxisMap(axis="roll", dead_zone=0.2),
        "ry": AxisMap(axis="pitch", dead_zone=0.2),
        "rz": AxisMap(axis="yaw", dead_zone=0.2),
    },
    buttons={"grab": "0", "hand_back": "1"},
)
"""Forward, left and up as REP 103 has them. With two buttons a gripper needs a mapping without ``grab``, and
``takeover:=motion``."""


def _library() -> Any:
    try:
        import pyspacemouse
    except ImportError as error:
        raise DeviceLost(str(missing_package("a SpaceMouse needs pyspacemouse", "spacemouse", error))) from error
    except OSError as error:
        raise DeviceLost(f"{error}: {_NO_HIDAPI}") from error
    return pyspacemouse


_NO_HIDAPI = "the system library hidapi is missing; sudo apt-get install libhidapi-hidraw0"


def _connected(library: Any) -> list[str]:
    try:
        return list(library.get_connected_devices())
    except RuntimeError as error:
        raise DeviceLost(_NO_HIDAPI) from error


class SpaceMouse(MappedDevice):
    """The cap's deflection; the device sends reports only while it changes."""

    name: ClassVar[str] = "spacemouse"

    def __init__(self, config: Config, contract: Contract) -> None:
        super().__init__(config, contract, BUILTIN)
        self._index = config.index
        self._mouse: Any = None
        self._heard = False
        self._report_s = NO_REPORT_S

    @property
    def heard(self) -> bool:
        """See `Device.heard`: a report has come."""
        return self._heard

    def open(self) -> None:
        """See `Device.open`."""
        library = _library()
        found = _connected(library)
        if self._index >= len(found):
            raise DeviceLost(
                f"SpaceMouse {self._index} is not there (found: {', '.join(found) or 'none'}); plug it in, and see "
                "that this user may read it (`inril devices udev`)"
            )
        self._heard, self._report_s = False, NO_REPORT_S
        name = found[self._index]
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints what it has found
                self._mouse = library.open(
                    device=name,
                    device_index=found[: self._index].count(name),
                    axis_convention=library.AxisConvention.ROS,
                )
        except RuntimeError as error:
            raise DeviceLost(
                f"{name} cannot be opened ({error}): another program has it, or this user may not read it "
                "(`inril devices udev` writes the rule)"
            ) from error
        self.opened()

    def reading(self) -> Reading:
        """See `MappedDevice.reading`."""
        mouse = self._mouse
        if mouse is None:
            raise DeviceLost("the SpaceMouse is closed")
        try:
            for _ in range(MOST_REPORTS):
                state = mouse.read()
                if state.t == self._report_s:
                    break
                self._report_s, self._heard = state.t, True
        except Exception as error:  # its HID library has exceptions of its own
            raise DeviceLost(f"the SpaceMouse does not answer ({error}); plug it in again") from error
        axes = {name: min(max(float(getattr(state, name)), -1.0), 1.0) for name in AXES}
        return Reading(axes, buttons_of(state.buttons))

    def close(self) -> None:
        """See `Device.close`."""
        mouse, self._mouse = self._mouse, None
        if mouse is not None:
            mouse.close()


class Config(MappedConfig):
    """Settings of a SpaceMouse."""

    index: int = Field(0, ge=0, le=15)
    """Which one, where several are plugged in; `inril devices` counts them."""

    @classmethod
    def plugged_in(cls) -> list[str]:
        """See `DeviceConfig.plugged_in`."""
        return [f"{index}: {name}" for index, name in enumerate(_connected(_library()))]

    def build(self, contract: Contract) -> SpaceMouse:
        """See `DeviceConfig.build`."""
        return SpaceMouse(self, contract)
