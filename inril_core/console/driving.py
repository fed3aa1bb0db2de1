"""The dead-man switch between a page and the arm.

A page that drives speaks many times a second. What it says counts while it is fresh: by the order in which it was sent,
and by the newest `Beat` of the console that the page had seen when it sent it. So a network that delivers late, or in
bursts after a silence, moves nothing. Reads no clock.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from inril_core.console.messages import Drive

BEAT_PERIOD_NS = 50_000_000
KEPT_BEATS = 256


@dataclass(frozen=True)
class PersonInput:
    """What the person at the page does now, for the input device ``browser``."""

    client_id: str
    operator: str
    seq: int
    motion: tuple[float, ...]
    """6, as `Drive.motion`; zeros while nothing is grabbed."""
    gripper: float
    """As `Drive.gripper`; NaN: it keeps its width."""
    grab: bool
    released: bool


class Beats:
    """Numbers that are sent to the pages, and when. A page's echo tells how old its newest view of us is."""

    def __init__(self) -> None:
        self._sent: deque[tuple[int, int]] = deque(maxlen=KEPT_BEATS)
        self._next_ns = 0
        self.newest = 0

    def due(self, now_ns: int) -> bool:
        """A new number is due; it is `newest` then."""
        if now_ns < self._next_ns:
            return False
        self._next_ns = now_ns + BEAT_PERIOD_NS
        self.newest += 1
        self._sent.append((self.newest, now_ns))
        return True

    def age_s(self, beat: int, now_ns: int) -> float:
        """Time since a number was sent; infinite for one that was not, or long ago."""
        if not self._sent or not self._sent[0][0] <= beat <= self.newest:
            return float("inf")
        return (now_ns - self._sent[beat - self._sent[0][0]][1]) / 1e9  # divided: 300 ms are 0.3 s to the last bit


class Driving:
    """Judges one page's drive messages.

    Args:
        timeout_s: oldest echo that counts.
    """

    def __init__(self, client_id: str, operator: str, timeout_s: float) -> None:
        self._client_id, self._operator, self._timeout_s = client_id, operator, timeout_s
        self._seq = -1
        self._grabs = False
        self.refused = 0
        """Messages that did not count."""

    def end(self) -> PersonInput | None:
        """The page drives no more: what is to be said in its name. None: it had not grabbed the arm.

        It keeps the arm and moves nothing, so the arm holds at once, and not only when the silence is noticed.
        """
        if not self._grabs:
            return None
        self._grabs = False
        self._seq += 1
        return PersonInput(self._client_id, self._operator, self._seq, (0.0,) * 6, math.nan, True, False)

    def judge(self, drive: Drive, beat_age_s: float) -> PersonInput | str:
        """What the person does; or why the message does not count, empty where its page cannot do anything about it."""
        if drive.seq <= self._seq:
            self.refused += 1
            return ""
        self._seq = drive.seq
        if not beat_age_s <= self._timeout_s:
            self.refused += 1
            late = "long ago" if beat_age_s == float("inf") else f"{beat_age_s:.2f} s ago"
            return (
                f"the connection is too slow to drive: what you do now answers what was sent {late}, "
                f"at most {self._timeout_s:g} s"
            )
        grab = self._grabs = drive.grab and not drive.release
        motion = tuple(drive.motion) if grab else (0.0,) * 6
        gripper = math.nan if drive.gripper is None or not grab else drive.gripper
        return PersonInput(self._client_id, self._operator, drive.seq, motion, gripper, grab, drive.release)
