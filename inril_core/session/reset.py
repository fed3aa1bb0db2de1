"""One reset of the cell, from the asking to the answer: its heartbeat, its time-outs, and whose word counts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from inril_core.errors import ConfigError

NS_PER_S = 1_000_000_000


class ResetState(IntEnum):
    """As ResetStatus.state."""

    WORKING = 0
    DONE = 1
    FAILED = 2
    CANCELLED = 3


@dataclass(frozen=True)
class ResetTimes:
    """How long a reset may take, on the monotonic clock.

    Raises:
        ConfigError: a time is not positive, or the heartbeat is longer than the whole.
    """

    timeout_s: float = 600.0
    """From asking to laid out: a person may have to walk to the cell."""
    heartbeat_s: float = 5.0
    """Silence after which the server is taken for dead; it speaks each second."""

    def __post_init__(self) -> None:
        if not 0.0 < self.heartbeat_s <= self.timeout_s:
            raise ConfigError(
                f"reset_heartbeat_s = {self.heartbeat_s}, reset_timeout_s = {self.timeout_s}: give a heartbeat above 0 "
                "and a time-out that is not shorter"
            )


class Reset:
    """A reset that was asked for. Ends as done or lost; what is said of another id is ignored.

    A server that has accepted must be heard each `heartbeat_s`. One that has not answered yet is waited for as long
    as it is there (`served`), so a server that answers only when it is ready works too.
    """

    def __init__(self, reset_id: str, times: ResetTimes, now_ns: int) -> None:
        self.reset_id = reset_id
        self.done = False
        self.lost = ""
        """Why it came to nothing; empty while it may still be done."""
        self._times = times
        self._asked_ns = self._heard_ns = now_ns
        self._accepted = False
        self._text = ""

    @property
    def open(self) -> bool:
        """Neither done nor lost."""
        return not self.done and not self.lost

    def on_answer(self, reset_id: str, success: bool, working: bool, message: str, now_ns: int) -> None:
        """The server's answer to the request."""
        if reset_id != self.reset_id or not self.open:
            return
        self._heard_ns = now_ns
        if not success:
            self.lost = f"cell/reset refused: {message or 'no reason given'}"
        elif working:
            self._accepted = True
            self._text = self._text or message
        else:
            self.done = True

    def on_status(self, reset_id: str, state: int, text: str, now_ns: int) -> None:
        """The server's heartbeat; it counts as an answer, should that be late or lost."""
        if reset_id != self.reset_id or not self.open:
            return
        self._heard_ns = now_ns
        self._accepted, self._text = True, text
        if state == ResetState.DONE:
            self.done = True
        elif state == ResetState.CANCELLED:
            self.lost = f"the reset was cancelled: {text or 'no reason given'}"
        elif state != ResetState.WORKING:
            self.lost = f"the reset failed: {text or 'no reason given'}"

    def poll(self, served: bool, now_ns: int) -> None:
        """Look at the clock. served: somebody offers cell/reset."""
        if not self.open:
            return
        if served and not self._accepted:
            self._heard_ns = now_ns
        if now_ns - self._heard_ns > self._times.heartbeat_s * NS_PER_S:
            silent_s = (now_ns - self._heard_ns) // NS_PER_S
            self.lost = (
                f"nothing heard of the reset for {silent_s} s: its node must publish reset_status each second"
                if self._accepted
                else f"cell/reset has not been served for {silent_s} s; is its node running? (`inril status`)"
            )
        elif now_ns - self._asked_ns > self._times.timeout_s * NS_PER_S:
            self.lost = f"the reset was not done within {self._times.timeout_s:g} s (reset_timeout_s)"

    def waiting_for(self, now_ns: int) -> str:
        """What a person reads meanwhile."""
        waited_s = (now_ns - self._asked_ns) // NS_PER_S
        return f"the reset of the cell ({waited_s} s): {self._text or 'cell/reset has not said what it does'}"
