"""What all devices with sticks and buttons share: mapping, dead zone, speed, frame, gripper and buttons."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated

import numpy as np
from pydantic import Field

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.teleop.base import Device, DeviceConfig, Event, HumanInput, TickView
from inril_core.teleop.common.frames import FrameConfig, to_base
from inril_core.teleop.common.mapping import ControlMap, Meaning, Reading, read_mapping_file

Speed = Annotated[float, Field(gt=0.0, le=5.0)]
EVENTS: tuple[Event, ...] = ("success", "failure", "discard")


class ControlConfig(DeviceConfig):
    """Settings of a device with buttons."""

    mapping: str = ""
    """Mapping file, which `inril devices map` writes; empty: the device's own."""


class MappedConfig(ControlConfig, FrameConfig):
    """Settings of a device whose deflection is a velocity."""

    speed_mps: tuple[Speed, Speed, Speed] | None = None
    """Of the tool at full deflection along x, y, z; None: what the contract's action reaches."""
    speed_radps: tuple[Speed, Speed, Speed] | None = None
    """About x, y, z, likewise."""

    def scales(self, contract: Contract) -> tuple[float, ...]:
        """Contract units at full deflection, 6 numbers.

        Raises:
            ConfigError: a speed is more than the contract's action can ask for.
        """
        action, period_s = contract.action, 1.0 / contract.control_rate_hz
        scales: list[float] = []
        for name, speeds, scale in (
            ("speed_mps", self.speed_mps, action.translation_scale_m),
            ("speed_radps", self.speed_radps, action.rotation_scale_rad),
        ):
            most = scale / period_s
            for speed in speeds or (most,) * 3:
                if speed > most * (1.0 + 1e-9):
                    raise ConfigError(
                        f"device_settings.{name} = {list(speeds or ())}: {speed} is above {most:g}, the most that an "
                        f"action of contract {contract.task} can ask for; give less"
                    )
                scales.append(speed / most)
        return tuple(scales)


class Buttons:
    """What the buttons of a mapping say, reading by reading."""

    def __init__(self, mapping: ControlMap) -> None:
        self._mapping = mapping
        self.forget()

    def forget(self) -> None:
        """The device was opened: what was pressed before counts no more."""
        self._down: set[Meaning] = set(self._mapping.buttons)  # a press begins with a reading in which it is not down
        self._gripper = math.nan
        self._episode_id = ""

    def take(self, reading: Reading, commanded: float, tick: TickView | None) -> tuple[bool, bool, Event]:
        """Whether grab and hand-back are held, and what was said of the episode.

        commanded: the gripper's number now, which its button turns round; NaN: unknown.
        tick: as `Device.read`; what was asked of the gripper in another episode, or between two, counts no more.
        """
        episode_id = "" if tick is None else tick.episode_id
        if episode_id != self._episode_id:
            self._episode_id, self._gripper = episode_id, math.nan
        held = {meaning for meaning in self._mapping.buttons if self._mapping.pressed(reading, meaning)}
        pressed, self._down = held - self._down, held
        if "close" in pressed or "open" in pressed:
            self._gripper = 1.0 if "close" in pressed else -1.0
        elif "gripper" in pressed:
            now = commanded if math.isnan(self._gripper) else self._gripper
            self._gripper = -1.0 if now > 0.0 else 1.0
        said: Event = next((event for event in EVENTS if event in pressed), "")
        return "grab" in held, "hand_back" in held, said

    def gripper(self, has_grab: bool) -> float:
        """The number for the gripper; NaN keeps the width that is commanded. Letting go forgets it."""
        gripper = self._gripper
        if not has_grab and "grab" in self._mapping.buttons:
            self._gripper = math.nan
        return gripper


class MappedDevice(Device):
    """A device whose reading is a deflection per control and a state per button.

    Args:
        builtin: the mapping where the settings name no file.
    """

    def __init__(self, config: MappedConfig, contract: Contract, builtin: ControlMap) -> None:
        self.config = config
        self.mapping = read_mapping_file(config.mapping) if config.mapping else builtin
        self._where = config.mapping or f"the built-in mapping of {self.name}"
        self._scales = config.scales(contract)
        self._has_gripper = contract.action_size > 6
        self._buttons = Buttons(self.mapping)
        self.needs_robot = config.frame == "tool" or self._has_gripper

    @abstractmethod
    def reading(self) -> Reading:
        """What the hardware says now; every control that there is stands in it.

        Raises:
            DeviceLost: as `Device.read`.
        """

    def opened(self) -> None:
        """A subclass calls it at the end of `open`.

        Raises:
            ConfigError: the mapping names controls that this hardware does not have.
        """
        reading = self.reading()
        self.mapping.check(reading.axes, reading.buttons, self._where)
        self._buttons.forget()

    def read(self, tick: TickView | None) -> HumanInput:
        """See `Device.read`."""
        reading = self.reading()
        grab, released, event = self._buttons.take(reading, self.inbox.gripper, tick)
        rotation = self.config.rotation(self.inbox)
        deflection = self.mapping.deflection(reading)
        action = np.zeros(6 + self._has_gripper)
        if rotation is not None:
            scaled = tuple(d * scale for d, scale in zip(deflection, self._scales, strict=True))
            action[:6] = to_base(rotation, scaled)
            for part in (action[:3], action[3:6]):
                part /= max(1.0, abs(part).max())  # shorter, and the same way
        if self._has_gripper:
            action[6] = self._buttons.gripper(grab)
        return HumanInput(action, grab, released, event)
