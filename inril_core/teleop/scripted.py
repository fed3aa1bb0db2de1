"""Devices a human speaks through; here the scripted one, which answers every tick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from inril_core.errors import ConfigError
from inril_core.experts.insert_leg import DialledExpert


@dataclass(frozen=True)
class TickView:
    """What a device may know of tick k. purpose: demo, train or eval. state float32[D]."""

    episode_id: str
    step: int
    purpose: str
    seed: int
    state: np.ndarray


@dataclass(frozen=True)
class HumanInput:
    """What the human does: action float32[A] in contract units, base frame.

    grab: has taken control and keeps it. released: hands control back, explicitly.
    """

    action: np.ndarray
    grab: bool
    released: bool


class Device(Protocol):
    """A human's input device. `synchronous`: it answers every tick, and the arbiter waits for it."""

    name: str
    synchronous: bool

    def read(self, tick: TickView) -> HumanInput:
        """What the human does at this tick."""
        ...


class ScriptedHuman:
    """Demonstrates whole episodes; in train and eval it takes over in `takeover_steps` only.

    takeover_steps: first step with control and first step without it; None: never.
    """

    name = "scripted"
    synchronous = True

    def __init__(self, expert: DialledExpert, takeover_steps: tuple[int, int] | None = None) -> None:
        self._expert = expert
        self._takeover_steps = takeover_steps
        self._episode_id = ""
        self._had_control = False

    def read(self, tick: TickView) -> HumanInput:
        """The expert's action; its noise restarts with each episode's seed."""
        if tick.episode_id != self._episode_id:
            self._episode_id = tick.episode_id
            self._expert.reset(tick.seed)
        action = self._expert.act(tick.state)
        grab = tick.purpose == "demo" or self._takes_over(tick.step)
        released = self._had_control and not grab
        self._had_control = grab
        return HumanInput(action if grab else np.zeros_like(action), grab, released)

    def _takes_over(self, step: int) -> bool:
        return self._takeover_steps is not None and self._takeover_steps[0] <= step < self._takeover_steps[1]


def parse_takeover_steps(text: str) -> tuple[int, int] | None:
    """`first:end` as two step numbers; empty text is None.

    Raises:
        ConfigError: anything else, or an empty range.
    """
    if not text:
        return None
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ConfigError(f"takeover_steps = {text!r}: give FIRST:END with FIRST < END, e.g. 20:40, or nothing")
    return int(first), int(end)
