"""What an arm is to the node that drives it.

An arm is one file here, an entry point ``inril.arms`` or ``module:class``: a settings class `ArmConfig`, called
``Config`` in a file of this package, that makes the `Arm`. `inril_core.hardware.driver.ArmDriver` decides whose targets
the arm follows and when it holds; the arm only does what it is told, and says what it measures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from inril_core.contract import Contract
from inril_core.errors import InrilError
from inril_core.plugins import Kind
from inril_core.settings import Settings, read_settings


class ArmLost(InrilError):
    """The arm is not there, or no longer measures or moves. The message names why and what to do."""


@dataclass(frozen=True)
class ArmState:
    """What an arm measures at one moment; base frame, SI units, quaternions xyzw."""

    tool_pose: np.ndarray
    """float64[7], m and xyzw."""
    tool_twist: np.ndarray
    """float64[6], linear m/s, then angular rad/s."""
    joint_position_rad: np.ndarray
    """float64[7]."""
    joint_velocity_radps: np.ndarray
    """float64[7]."""
    joint_torque_nm: np.ndarray
    """float64[7], measured."""
    gripper_width_m: float
    """Between the fingers."""
    external_wrench: np.ndarray | None = field(default=None, kw_only=True)
    """float64[6], N and Nm, on the tool, as the arm estimates it; None: it does not."""
    mode: str = field(default="", kw_only=True)
    """Of its controller, in the vendor's words, e.g. ``move``, ``reflex``, ``user_stopped``; empty: it does not say."""
    fault: str = field(default="", kw_only=True)
    """Why the arm itself does not move, with the fix; empty: it would. `ArmDriver` then stops until a person arms."""
    stamp_ns: int | None = field(default=None, kw_only=True)
    """Time of measurement on the ROS clock; None: now."""


class Arm(ABC):
    """An arm with a gripper. One thread calls it, one call at a time, each to return within a control period.

    Time passes for a simulated arm by `follow` and `hold` alone: each of them is one control period. One that can cut
    its periods (`cut_periods`) lets only the first part pass then, and one more in each `wait`.
    """

    simulated: ClassVar[bool] = False
    """Nobody can be hurt, and it can run in lockstep."""

    def cut_periods(self, most: int) -> int:
        """Ask a simulated arm to cut its periods into equal parts, at most so many; returns how many it makes."""
        return 1

    def wait(self) -> None:  # noqa: B027 time passes for a real arm by itself
        """A part of the period passes, and nothing new is commanded."""

    def open(self) -> None:  # noqa: B027 a simulated arm has nothing to connect to
        """Connect. MUST NOT move the arm. May be called again after `close`.

        Raises:
            ArmLost: the message says what is missing.
        """

    def reopen(self) -> None:
        """Connect again to an arm that was lost; tried once a second until it succeeds. MUST NOT move the arm.

        Raises:
            ArmLost: it is still lost.
        """
        self.close()
        self.open()

    @abstractmethod
    def measure(self) -> ArmState:
        """The newest measured state.

        Raises:
            ArmLost: the measurement is older than it should be, or there is none. MUST NOT repeat an old one.
        """

    @abstractmethod
    def follow(self, tool_pose: np.ndarray, gripper_width_m: float | None) -> None:
        """Be at the pose at the end of this control period.

        Set-points come at the control rate, far below what a motor controller needs: the arm MUST interpolate between
        them and limit velocity, acceleration and jerk, and MUST hold by itself where they stop coming.

        Args:
            tool_pose: float64[7], m and xyzw, base frame.
            gripper_width_m: None keeps the width.

        Raises:
            ArmLost: it cannot be told.
        """

    @abstractmethod
    def hold(self) -> None:
        """Stay at the measured pose for this control period.

        Raises:
            ArmLost: it cannot be told.
        """

    def recover(self) -> None:  # noqa: B027 as `open`
        """A named person has looked at the arm and arms it: clear the faults of its controller. MUST NOT move it.

        Raises:
            ArmLost: a fault remains; the arm is then not armed.
        """

    def reset(self, seed: int, purpose: str) -> None:  # noqa: B027 a person lays out the parts of a real cell
        """Make ready for an episode. A simulated arm lays its cell out as the seed says.

        Args:
            purpose: ``demo``, ``train`` or ``eval``.

        Raises:
            InrilError: the cell cannot be laid out.
        """

    def close(self) -> None:  # noqa: B027 as `open`
        """Disconnect; the arm holds. MUST be idempotent, also after an `open` that failed half-way."""


class ArmConfig(Settings):
    """Settings of an arm; a subclass adds its own and makes the arm."""

    delay_steps: int = Field(0, ge=0, le=100)
    """Control periods by which each target acts later, as over a slow link; for experiments."""

    @abstractmethod
    def build(self, contract: Contract) -> Arm:
        """The arm for a contract; not yet opened.

        Raises:
            ConfigError: these settings do not fit the contract, or a package is missing.
        """


KIND = Kind("arms", "inril_core.hardware.arms", "Config", ArmConfig)


def arm_config(name: str, settings: Mapping[str, Any] | str = "") -> ArmConfig:
    """The checked settings of an arm.

    Args:
        name: of the arm's file, entry point, or ``module:class``.
        settings: values, or a YAML mapping of them; empty: its defaults.

    Raises:
        ConfigError: no such arm; or a setting is unknown, missing or out of its range.
    """
    found: type[ArmConfig] = KIND.find(name, "arm")
    return read_settings(found, settings, "arm_settings")
