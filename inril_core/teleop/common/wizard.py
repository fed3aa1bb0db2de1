"""The questions by which a person tells which control of a device means what, in lines of text, as over SSH."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from inril_core.errors import InrilError
from inril_core.teleop.common.mapping import DIRECTIONS, MEANINGS, AxisMap, ControlMap, Direction, Reading

REST_READINGS = 20
MOVED = 0.5
"""So far from rest a control is meant; a trigger that another finger brushes is not."""
NEAR = 0.25
"""So near to rest it is let go of."""
LEAST_DEAD_ZONE = 0.05
WORDS: dict[Direction, tuple[str, str]] = {
    "x": ("forward (+x)", "back (-x)"),
    "y": ("to the left (+y)", "to the right (-y)"),
    "z": ("up (+z)", "down (-z)"),
    "rx": ("roll to the right (+rx)", "roll to the left (-rx)"),
    "ry": ("pitch down (+ry)", "pitch up (-ry)"),
    "rz": ("turn to the left (+rz)", "turn to the right (-rz)"),
}


class Stopped(InrilError):
    """The person gave up, or nobody answered; nothing is written."""


class Terminal(Protocol):
    """Where the person reads and types."""

    def say(self, text: str) -> None:
        """Print a line."""

    def typed(self) -> str | None:
        """Wait for the next reading of the device, a twentieth of a second; a line that was typed meanwhile, or None.

        Raises:
            Stopped: nobody has done anything for too long, or the terminal is gone.
        """


class _Rest:
    """Where each axis is when nobody touches it, and how much it trembles."""

    def __init__(self, readings: list[Reading]) -> None:
        values = {name: [reading.axes[name] for reading in readings] for name in readings[0].axes}
        self.at = {name: sum(some) / len(some) for name, some in values.items()}
        self.noise = {name: max(abs(value - self.at[name]) for value in some) for name, some in values.items()}
        self.held = {name for name, down in readings[-1].buttons.items() if down}

    def away(self, axes: Mapping[str, float], name: str) -> float:
        return axes[name] - self.at[name]

    def ends(self, name: str) -> float:
        """Rest of a trigger, which lies at one end of its way, exactly; 0 for a stick."""
        at = self.at[name]
        return float(round(at)) if abs(at) > 0.9 else 0.0

    def dead_zone(self, *names: str) -> float:
        return round(min(0.9, max(LEAST_DEAD_ZONE, *(3.0 * self.noise[name] for name in names))), 3)


class Wizard:
    """Asks for six directions and the buttons. An empty line skips a question, ``q`` ends.

    Args:
        read: the device's newest reading.
        terminal: see `Terminal`.
    """

    def __init__(self, read: Callable[[], Reading], terminal: Terminal) -> None:
        self._read, self._terminal = read, terminal
        self._taken: set[str] = set()

    def run(self, device: str, product: str) -> ControlMap:
        """The mapping.

        Raises:
            Stopped: see there.
            DeviceLost: the device is gone.
        """
        say = self._terminal.say
        say("Let go of the device.")
        readings = []
        for _ in range(REST_READINGS):
            self._terminal.typed()
            readings.append(self._read())
        self._rest = _Rest(readings)
        say("Move or press what is asked for. Empty line: skip; q: stop, nothing is written.")
        axes = {direction: moved for direction in DIRECTIONS if (moved := self._direction(direction)) is not None}
        buttons = {}
        for meaning, words in MEANINGS.items():
            found = self._found(f"button: {words}", axes=False)
            if found is not None:
                buttons[meaning] = found[1]
                self._taken.add(found[1])
        return ControlMap(device=device, product=product, axes=axes, buttons=buttons)

    def _direction(self, direction: Direction) -> AxisMap | None:
        there, back = WORDS[direction]
        plus = self._found(f"the arm shall move {there}")
        if plus is None:
            return None
        minus = self._found(f"and {back}", besides=plus[1])
        kind, name, sign = plus
        self._taken.update([name, *([] if minus is None else [minus[1]])])
        if kind == "button":
            against = minus[1] if minus is not None and minus[0] == "button" else ""
            return AxisMap(plus_button=name, minus_button=against)
        names = [name]
        other = button = ""
        if minus is not None and minus[1] != name:
            other, button = (minus[1], "") if minus[0] == "axis" else ("", minus[1])
            names += [other] if other else []
        return AxisMap(
            axis=name,
            minus_axis=other,
            # of an inverted axis the button moves the other way too
            plus_button=button if sign < 0.0 else "",
            minus_button=button if sign > 0.0 else "",
            invert=sign < 0.0,
            rest=self._rest.ends(name),
            dead_zone=self._rest.dead_zone(*names),
        )

    def _found(self, question: str, axes: bool = True, besides: str = "") -> tuple[str, str, float] | None:
        """``axis`` or ``button``, its name, and which way it went; None: skipped."""
        self._terminal.say(f"{question} ?")
        while True:
            line = self._terminal.typed()
            if line is not None:
                if line.strip().lower() == "q":
                    raise Stopped("stopped; nothing was written")
                self._terminal.say("  skipped")
                return None
            found = self._moved(self._read(), axes, besides)
            if found is not None:
                self._terminal.say(f"  {found[0]} {found[1]}; let go of it")
                while not self._at_rest(self._read()):
                    self._terminal.typed()
                return found

    def _moved(self, reading: Reading, axes: bool, besides: str) -> tuple[str, str, float] | None:
        for name, down in reading.buttons.items():
            if down and name not in self._taken and name not in self._rest.held and name != besides:
                return "button", name, 1.0
        if not axes:
            return None
        ways = {name: self._rest.away(reading.axes, name) for name in reading.axes if name not in self._taken}
        name = max(ways, key=lambda each: abs(ways[each]), default="")
        if not name or abs(ways[name]) < MOVED:
            return None
        return "axis", name, 1.0 if ways[name] > 0.0 else -1.0

    def _at_rest(self, reading: Reading) -> bool:
        pressed = any(down and name not in self._rest.held for name, down in reading.buttons.items())
        return not pressed and all(abs(self._rest.away(reading.axes, name)) < NEAR for name in reading.axes)
