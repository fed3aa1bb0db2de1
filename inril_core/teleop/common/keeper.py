"""Keeps a device at hand: opens it, reads it, names what is wrong, and gets it back. Reads no clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from typing import get_args

import numpy as np

from inril_core.backoff import wait_s
from inril_core.teleop.base import Device, Event, HumanInput, TickView

FIRST_WAIT_S = 0.5
"""Between a failure and the next attempt to open: doubled with each failure in a row, up to `Device.longest_wait_s`."""
STABLE_NS = 5_000_000_000
"""A device that has worked for so long begins with the first wait again."""
OPENING_NS = 10_000_000_000
"""An `open` that has not returned after so long is reported."""
CLOSING_S = 2.0
TURN_END = 6
"""The numbers of an action that move the tool come first; the gripper's may be NaN."""

Start = Callable[[Callable[[], None]], None]


class _State(Enum):
    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"


def in_a_thread(work: Callable[[], None]) -> None:
    """Do it beside the caller; a thread that never returns does not keep the process."""
    threading.Thread(target=work, daemon=True, name="teleop device").start()


class DeviceKeeper:
    """A device and its state. Whatever the device raises or returns, no exception leaves this class.

    A device that fails is silent until it works again, so that the arbiter's watchdogs see that nobody is there. If the
    person held or pushed anything, the failure is first told as one reading that holds the same and pushes nothing: the
    arm stops at once. An asynchronous device that was opened says nothing that moves before it was at rest once: a
    button that was held while it was plugged in grabs nothing.

    Args:
        action_size: numbers in an action.
        start: runs `Device.open` of an asynchronous device; one that is synchronous is opened in place.
    """

    def __init__(self, device: Device, action_size: int, start: Start = in_a_thread) -> None:
        self.device = device
        self.trouble = ""
        """What is wrong and what is done about it; empty: nothing."""
        self.failures = 0
        """Since it was made."""
        self.waits_for_rest = False
        """It was opened, and the person has not let go of it since."""
        self._size = action_size
        self._start = start
        self._state = _State.CLOSED
        self._lock = threading.Lock()
        self._opened: list[str] = []
        self._held: bool | None = None
        """Whether the newest reading grabs; None: it neither grabs nor moves, or there is none."""
        self._in_a_row = 0
        self._next_open_ns = self._opening_ns = self._open_ns = 0
        self._ended = False

    @property
    def ready(self) -> bool:
        """The device is open."""
        return self._state is _State.OPEN

    def tend(self, mono_ns: int) -> None:
        """Open the device if it is time to. Call it regularly."""
        if self._state is _State.OPENING:
            self._take_opened(mono_ns)
        elif self._state is _State.CLOSED and mono_ns >= self._next_open_ns and not self._ended:
            self._state, self._opening_ns = _State.OPENING, mono_ns
            if self.device.synchronous:
                self._open()
            else:
                self._start(self._open)
            self._take_opened(mono_ns)

    def read(self, tick: TickView | None, mono_ns: int) -> HumanInput | None:
        """What the person does, action float32[A] within [-1, 1]; None while there is no device."""
        self.tend(mono_ns)
        if self._state is not _State.OPEN:
            return None
        try:
            said = self._checked(self.device.read(tick))
        except Exception as error:  # code of somebody else: whatever it raises, the node and the person go on
            return self._failed(f"{type(error).__name__}: {error}", mono_ns)
        said = self._after_rest(said)
        moves = said.grab or bool(said.action[:TURN_END].any())
        self._held = said.grab if moves and not said.released else None
        self.trouble = ""
        if mono_ns - self._open_ns >= STABLE_NS:
            self._in_a_row = 0
        return said

    def close(self) -> None:
        """Close the device for good; waits for it for a moment only."""
        self._ended, self._state = True, _State.CLOSED
        closing = threading.Thread(target=self._close, daemon=True)
        closing.start()
        closing.join(CLOSING_S)

    def _open(self) -> None:
        try:
            self._close()
            self.device.open()
            outcome = ""
        except Exception as error:  # as in `read`
            outcome = f"{type(error).__name__}: {error}"
        with self._lock:
            self._opened.append(outcome)
            ended = self._ended
        if ended:
            self._close()

    def _close(self) -> None:
        try:
            self.device.close()
        except Exception as error:  # as in `read`
            self.trouble = f"device {self.device.name} cannot be closed ({type(error).__name__}: {error})"

    def _take_opened(self, mono_ns: int) -> None:
        with self._lock:
            outcome = self._opened.pop() if self._opened else None
        if outcome is None:
            if mono_ns - self._opening_ns >= OPENING_NS:
                waited_s = (mono_ns - self._opening_ns) // 1_000_000_000
                self.trouble = f"device {self.device.name}: open() has not returned for {waited_s} s; unplug it?"
        elif outcome:
            self._failed(outcome, mono_ns)
        else:
            self._state, self._open_ns = _State.OPEN, mono_ns
            self.waits_for_rest = not self.device.synchronous

    def _after_rest(self, said: HumanInput) -> HumanInput:
        if self.waits_for_rest:
            self.waits_for_rest = said.grab or bool(said.action[:TURN_END].any())
        if not self.waits_for_rest:
            return said
        return HumanInput(self._still(), False, False)

    def _still(self) -> np.ndarray:
        still = np.zeros(self._size, np.float32)
        still[TURN_END:] = np.nan  # the gripper stays as it is
        return still

    def _failed(self, what: str, mono_ns: int) -> HumanInput | None:
        held, self._held = self._held, None
        again_s = wait_s(self._in_a_row, FIRST_WAIT_S, self.device.longest_wait_s)
        self._in_a_row += 1
        self.failures += 1
        self._state, self._next_open_ns = _State.CLOSED, mono_ns + round(again_s * 1e9)
        self.trouble = f"device {self.device.name} is lost ({what}); tried again in {again_s:g} s"
        if held is None or self.device.synchronous:
            return None
        return HumanInput(self._still(), held, False)

    def _checked(self, said: HumanInput) -> HumanInput:
        if not isinstance(said, HumanInput):
            raise TypeError(f"read() gave {type(said).__name__}, not HumanInput")
        action = np.asarray(said.action, np.float64)
        sound = action.shape == (self._size,) and np.isfinite(action[:TURN_END]).all()
        if not sound or np.isinf(action).any():
            raise ValueError(f"read() gave the action {action.tolist()}; {self._size} finite numbers are expected")
        if said.event not in get_args(Event):
            raise ValueError(f"read() gave the event {said.event!r}; there are {', '.join(get_args(Event)[1:])}")
        action = action.clip(-1.0, 1.0).astype(np.float32)
        return HumanInput(action, bool(said.grab), bool(said.released), said.event)
