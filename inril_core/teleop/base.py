"""What an input device is.

A device is one file here, an entry point ``inril.teleop`` or ``module:class``: a settings class `DeviceConfig`, called
``Config`` in a file of this package, that makes the `Device`. `teleop_node` runs any of them; it opens the device,
reads it, closes it when it fails and opens it again, so a device only has to say what is wrong.

Two kinds. An *asynchronous* device (a gamepad, a SpaceMouse, a leader arm, a headset, a page in a browser) is polled at
`DeviceConfig.poll_hz`, whether or not an episode runs: its messages are the person's sign of life, and it may retract
the arm between episodes. A *synchronous* one (the scripted human) answers every tick, and the arbiter waits for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from inril_core.contract import Contract
from inril_core.errors import InrilError
from inril_core.plugins import Kind
from inril_core.settings import Settings, read_settings


class DeviceLost(InrilError):
    """The device is not there or no longer answers. The message names what is missing and how to get it back."""


@dataclass(frozen=True)
class TickView:
    """What a device may know of a tick of the running episode."""

    episode_id: str
    step: int
    """Number of actions before this tick."""
    purpose: str
    """``demo``, ``train`` or ``eval``."""
    seed: int
    """Of the episode."""
    state: np.ndarray
    """float32[S], the contract's state vector."""
    tool_pose: np.ndarray
    """float64[7], measured, base frame, m and xyzw."""


@dataclass(frozen=True)
class HumanInput:
    """What the person does."""

    action: np.ndarray
    """[A] in contract units within [-1, 1], base frame; what is beyond is clipped. Zeros: hold still."""
    grab: bool
    """Has taken control and keeps it, e.g. holds the button."""
    released: bool
    """Hands control back, explicitly, at this reading."""


class Device(ABC):
    """An input device. One thread calls it, one call at a time."""

    name: ClassVar[str]
    """For people and for the record."""
    synchronous: ClassVar[bool] = False
    """It answers every tick; otherwise it is polled."""

    def open(self) -> None:  # noqa: B027 a device without hardware has nothing to open
        """Connect. Called before the first `read` and again after each failure, each time after `close`.

        It may block for some seconds, as finding a device does: of an asynchronous device it is called beside the node.

        Raises:
            DeviceLost: not connected, no permission, a package is missing; any other exception is treated alike.
        """

    @abstractmethod
    def read(self, tick: TickView | None) -> HumanInput:
        """What the person does now.

        MUST return at once, within a few milliseconds: a device that waits for events owns a thread and gives its
        newest reading. MUST raise rather than repeat a reading that is no longer true, e.g. when its own source has
        been silent for longer than it should.

        Args:
            tick: of a synchronous device the tick to answer; else the newest tick of the running episode, None
                between episodes.

        Raises:
            DeviceLost: it no longer answers; any other exception is treated alike.
        """

    def close(self) -> None:  # noqa: B027 as `open`
        """Disconnect and end its threads. Called also after an `open` that failed half-way; MUST be idempotent."""


class DeviceConfig(Settings):
    """Settings of a device; a subclass adds its own and makes the device."""

    poll_hz: float = Field(50.0, ge=2.0, le=500.0)
    """How often an asynchronous device is read."""

    @abstractmethod
    def build(self, contract: Contract) -> Device:
        """The device for a contract's action; not yet opened.

        Raises:
            ConfigError: these settings do not fit the contract, or a package is missing.
        """


KIND = Kind("teleop", "inril_core.teleop", "Config", DeviceConfig)


def device_config(name: str, settings: Mapping[str, Any] | str = "") -> DeviceConfig:
    """The checked settings of a device.

    Args:
        name: of the device's file, entry point, or ``module:class``.
        settings: values, or a YAML mapping of them; empty: its defaults.

    Raises:
        ConfigError: no such device; or a setting is unknown, missing or out of its range.
    """
    found: type[DeviceConfig] = KIND.find(name, "device")
    return read_settings(found, settings, "device_settings")
