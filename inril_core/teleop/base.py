"""What an input device is.

A device is one file here, an entry point ``inril.teleop`` or ``module:class``: a settings class `DeviceConfig`, called
``Config`` in a file of this package, that makes the `Device`. `teleop_node` runs any of them; it opens the device,
reads it, closes it when it fails and opens it again, so a device only has to say what is wrong.

Two kinds. An *asynchronous* device (a gamepad, a SpaceMouse, a leader arm, a headset, a page in a browser) is polled at
`DeviceConfig.poll_hz`, whether or not an episode runs: its messages are the person's sign of life, and it may retract
the arm between episodes. A *synchronous* one (the scripted human) answers every tick, and the arbiter waits for it.

No device knows ROS. One that needs a topic names it in `Device.topics`, and `teleop_node` puts each message, as plain
values, into its `inbox`. Whether the person has control is decided by the arbiter (`inril_core.safety.takeover`): a
device says what is held and what moves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.plugins import Kind
from inril_core.settings import Settings, read_settings
from inril_core.teleop.common.inbox import DeviceLost, Inbox, Topic

__all__ = [
    "Device",
    "DeviceConfig",
    "DeviceLost",
    "Event",
    "HumanInput",
    "Inbox",
    "Scene",
    "TickView",
    "Topic",
    "device_config",
]

Event = Literal["", "success", "failure", "discard"]


@dataclass(frozen=True)
class Scene:
    """Arm and parts, as they were measured for a tick."""

    tool_twist: np.ndarray
    """float64[6], base frame, m/s and rad/s."""
    gripper_width_m: float
    parts: Mapping[str, np.ndarray]
    """Poses float64[7] by name, base frame, m and xyzw."""


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
    scene: Scene | None = None
    """What the state was made of, for a device that `looks_at_scene`."""


@dataclass(frozen=True)
class HumanInput:
    """What the person does."""

    action: np.ndarray
    """[A] in contract units within [-1, 1], base frame; what is beyond is clipped. Zeros: hold still. A gripper's
    number, the seventh, may be NaN: the gripper keeps the width that is commanded now."""
    grab: bool
    """Holds the grab button. A synchronous device: has control."""
    released: bool
    """Hands control back, explicitly, at this reading."""
    event: Event = ""
    """What the person says of the running episode; in one reading for each press of a button."""


class Device(ABC):
    """An input device. One thread calls it, one call at a time."""

    name: ClassVar[str]
    """For people and for the record."""
    synchronous: ClassVar[bool] = False
    """It answers every tick; otherwise it is polled."""
    topics: Sequence[Topic] = ()
    """What `inbox` is to hold."""
    longest_wait_s: float = 8.0
    """Before it is opened again after many failures in a row."""
    operator: str = ""
    """Who sits at it, where the device itself knows: set by `read`."""
    needs_robot: bool = False
    """`inbox` is to hold the arm's poses."""
    looks_at_scene: bool = False
    """A synchronous device that is to get `TickView.scene`: a simulated person does not see what the policy sees."""
    inbox: Inbox = Inbox()
    """Set before `open`; whoever runs the device fills it."""

    @property
    def heard(self) -> bool:
        """Something has come from the hardware since `open`: it is the one that the person holds, and it works.

        Without it nobody arms. True from the start where it cannot be known.
        """
        return True

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

    simulated_only: ClassVar[bool] = False
    """It acts without a person, so it must not drive an arm that can hurt somebody."""
    moves_by_grab: ClassVar[bool] = False
    """It moves nothing but while it is grabbed, and is grabbed again and again."""
    gives_back_explicitly: ClassVar[bool] = False
    """It is let go of also where the person keeps control, e.g. when another person relieves the first."""

    def refuse_arm(self, name: str, simulated: bool) -> None:
        """Refuse what is not for an arm.

        Args:
            name: as the user gave it.
            simulated: whether the cell is simulated.

        Raises:
            ConfigError: it is not, and the device is for simulated cells only.
        """
        if self.simulated_only and not simulated:
            raise ConfigError(
                f"device = {name!r} acts without a person: for a simulated cell only; give the device of a person, "
                "see `inril devices`"
            )

    @classmethod
    def plugged_in(cls) -> list[str]:
        """What of this kind is connected to this machine now, in words.

        Raises:
            DeviceLost: that cannot be found out, e.g. because a package is missing.
        """
        return []

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
