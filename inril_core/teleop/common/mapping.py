"""Which stick moves what and which button means what: the mapping file that `inril devices map` writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import Field, model_validator

from inril_core.errors import ConfigError
from inril_core.settings import Settings, read_settings

Direction = Literal["x", "y", "z", "rx", "ry", "rz"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
Meaning = Literal["grab", "hand_back", "gripper", "open", "close", "success", "failure", "discard"]
MEANINGS: dict[Meaning, str] = {
    "grab": "take control; hold it while you move the arm",
    "hand_back": "give control back to the policy",
    "gripper": "close the gripper, or open it if it is closed",
    "open": "open the gripper",
    "close": "close the gripper",
    "success": "end the episode as a success",
    "failure": "end the episode as a failure",
    "discard": "end the episode, it does not count",
}


@dataclass(frozen=True)
class Reading:
    """What the hardware says now, by the names of its own controls."""

    axes: Mapping[str, float] = field(default_factory=dict)
    """Most controls are within [-1, 1]."""
    buttons: Mapping[str, bool] = field(default_factory=dict)


class AxisMap(Settings):
    """What moves the tool in one direction: an axis, or two axes or buttons against each other."""

    axis: str = ""
    minus_axis: str = ""
    """Subtracted, e.g. the left trigger from the right one."""
    plus_button: str = ""
    minus_button: str = ""
    """Buttons that move at full speed."""
    invert: bool = False
    rest: float = Field(0.0, ge=-1.0, le=1.0)
    """Value of ``axis`` and ``minus_axis`` when nobody touches them. Triggers of ROS joystick drivers rest at 1."""
    dead_zone: float = Field(0.1, ge=0.0, lt=1.0)
    """Share of the way from rest to the end that counts as rest. Beyond it the motion begins at zero."""

    @model_validator(mode="after")
    def _moves(self) -> AxisMap:
        if not (self.axis or self.plus_button or self.minus_button):
            raise ValueError("give axis, plus_button or minus_button")
        if self.minus_axis and not self.axis:
            raise ValueError(f"minus_axis = {self.minus_axis!r} without axis; give axis too")
        return self

    @property
    def axes(self) -> list[str]:
        """Names of the axes it needs."""
        return [name for name in (self.axis, self.minus_axis) if name]

    @property
    def buttons(self) -> list[str]:
        """Names of the buttons it needs."""
        return [name for name in (self.plus_button, self.minus_button) if name]

    def value(self, reading: Reading) -> float:
        """Deflection in [-1, 1]."""
        value = self._of(reading, self.axis) - self._of(reading, self.minus_axis)
        value += reading.buttons.get(self.plus_button, False) - reading.buttons.get(self.minus_button, False)
        return min(max(-value if self.invert else value, -1.0), 1.0)

    def _of(self, reading: Reading, axis: str) -> float:
        if not axis:
            return 0.0
        away = reading.axes[axis] - self.rest
        way = 1.0 - self.rest if away > 0.0 else 1.0 + self.rest
        if not abs(away) > self.dead_zone * way or not way:
            return 0.0
        share = away / way
        share = min(max(share, -1.0), 1.0)
        beyond = (abs(share) - self.dead_zone) / (1.0 - self.dead_zone)
        return beyond if share > 0.0 else -beyond


class ControlMap(Settings):
    """The mapping of one device."""

    device: str = ""
    """The kind it was made for, e.g. ``gamepad``."""
    product: str = ""
    """The product it was made with, for people."""
    axes: dict[Direction, AxisMap] = {}
    buttons: dict[Meaning, str] = {}

    @model_validator(mode="after")
    def _no_button_twice(self) -> ControlMap:
        names = [*self.buttons.values(), *(name for axis in self.axes.values() for name in axis.buttons)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"button {twice[0]!r} stands for two things; give each a button of its own")
        return self

    def check(self, axes: Iterable[str], buttons: Iterable[str], where: str) -> None:
        """Compare with the controls that the hardware has.

        Raises:
            ConfigError: it names one that is not there.
        """
        there = {"axis": set(axes), "button": set(buttons)}
        wanted = [("axis", name) for axis in self.axes.values() for name in axis.axes]
        wanted += [("button", name) for axis in self.axes.values() for name in axis.buttons]
        wanted += [("button", name) for name in self.buttons.values()]
        for kind, name in wanted:
            if name not in there[kind]:
                known = ", ".join(sorted(there[kind])) or "none"
                raise ConfigError(
                    f"{where}: there is no {kind} {name!r}; there are {known}; `inril devices map` writes a new mapping"
                )

    def pressed(self, reading: Reading, meaning: Meaning) -> bool:
        """Whether the button with this meaning is pressed; False where none has it."""
        name = self.buttons.get(meaning)
        return name is not None and reading.buttons.get(name, False)

    def deflection(self, reading: Reading) -> tuple[float, ...]:
        """Of the six directions, each in [-1, 1]."""
        return tuple(self.axes[d].value(reading) if d in self.axes else 0.0 for d in DIRECTIONS)

    def text(self) -> str:
        """As `read_mapping` takes it."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return "# Written by `inril devices map`; docs/teleoperation.md explains the fields.\n" + yaml.safe_dump(
            values, sort_keys=False
        )


def read_mapping_file(path: str | Path) -> ControlMap:
    """A mapping from its file.

    Raises:
        ConfigError: it cannot be read, is no mapping, or a field is wrong.
    """
    try:
        text = Path(path).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"mapping = {str(path)!r}: {reason}; `inril devices map` writes one") from error
    return read_settings(ControlMap, text, str(path))


def buttons_of(values: Iterable[Any]) -> dict[str, bool]:
    """Numbered buttons, as most drivers give them."""
    return {str(index): bool(value) for index, value in enumerate(values)}
