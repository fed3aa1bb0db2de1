"""Watching the links between nodes: rate, age, drops and refused messages, by the clocks handed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _never() -> bool:
    return False


@dataclass
class LinkReport:
    """What happened on a link since the report before."""

    name: str
    rate_hz: float
    """Messages that were taken."""
    age_s: float | None
    """Since the newest message that was taken, on the monotonic clock; None before the first."""
    worst_gap_s: float
    drops: int
    """Sequence numbers never seen, in total."""
    timeout_s: float
    refused: int
    """Messages that were left out, in total."""
    refusal: str
    """Why the newest message was left out, if one was since the report before; else empty."""
    idle: bool
    """Nothing has to come now."""

    @property
    def stale(self) -> bool:
        """Older than the link's limit, or never heard."""
        return self.age_s is None or self.age_s > self.timeout_s


class LinkMonitor:
    """Counts the messages of one link. Times are monotonic nanoseconds.

    idle: whether the link may be silent now by design, for instance because no episode runs.
    """

    def __init__(self, name: str, timeout_s: float, idle: Callable[[], bool] = _never) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self.total = 0
        self.drops = 0
        self.refused_total = 0
        self._idle = idle
        self._refusal = ""
        self._last_ns: int | None = None
        self._last_sequence: int | None = None
        self._since_ns: int | None = None
        self._count = 0
        self._worst_gap_ns = 0

    def saw(self, now_ns: int, sequence: int | None = None) -> None:
        """Note a message that is taken; `sequence` counts up by one per message of the same boot."""
        if self._last_ns is not None:
            self._worst_gap_ns = max(self._worst_gap_ns, now_ns - self._last_ns)
        if sequence is not None:
            if self._last_sequence is not None and sequence > self._last_sequence + 1:
                self.drops += sequence - self._last_sequence - 1
            self._last_sequence = sequence
        self._last_ns = now_ns
        self._count += 1
        self.total += 1

    def refused(self, reason: str) -> None:
        """Note a message that is left out: the link grows stale as if it had not come."""
        self.refused_total += 1
        self._refusal = reason

    def age_s(self, now_ns: int) -> float | None:
        """Time since the newest message that was taken; None before the first."""
        return None if self._last_ns is None else (now_ns - self._last_ns) * 1e-9

    def report(self, now_ns: int) -> LinkReport:
        """What happened since the last report, and start anew."""
        since_ns = self._since_ns if self._since_ns is not None else now_ns
        elapsed_s = (now_ns - since_ns) * 1e-9
        report = LinkReport(
            self.name,
            self._count / elapsed_s if elapsed_s > 0 else 0.0,
            self.age_s(now_ns),
            self._worst_gap_ns * 1e-9,
            self.drops,
            self.timeout_s,
            self.refused_total,
            self._refusal,
            self._idle(),
        )
        self._since_ns, self._count, self._worst_gap_ns, self._refusal = now_ns, 0, 0, ""
        return report
