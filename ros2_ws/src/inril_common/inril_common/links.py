"""Watching the links between nodes: rate, age and drops, by the clocks handed in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class LinkReport:
    """One second of a link.

    age_s: since the newest message, on the monotonic clock; None before the first.
    drops: sequence numbers never seen, in total.
    """

    name: str
    rate_hz: float
    age_s: float | None
    worst_gap_s: float
    drops: int
    timeout_s: float

    @property
    def stale(self) -> bool:
        """Older than the link's limit, or never heard."""
        return self.age_s is None or self.age_s > self.timeout_s


class LinkMonitor:
    """Counts the messages of one link. Times are monotonic nanoseconds."""

    def __init__(self, name: str, timeout_s: float) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self.total = 0
        self.drops = 0
        self._last_ns: int | None = None
        self._last_sequence: int | None = None
        self._since_ns: int | None = None
        self._count = 0
        self._worst_gap_ns = 0

    def saw(self, now_ns: int, sequence: int | None = None) -> None:
        """Note a message; `sequence` counts up by one per message of the same boot."""
        if self._last_ns is not None:
            self._worst_gap_ns = max(self._worst_gap_ns, now_ns - self._last_ns)
        if sequence is not None:
            if self._last_sequence is not None and sequence > self._last_sequence + 1:
                self.drops += sequence - self._last_sequence - 1
            self._last_sequence = sequence
        self._last_ns = now_ns
        self._count += 1
        self.total += 1

    def age_s(self, now_ns: int) -> float | None:
        """Time since the newest message; None before the first."""
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
        )
        self._since_ns, self._count, self._worst_gap_ns = now_ns, 0, 0
        return report
