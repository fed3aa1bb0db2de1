"""A wait that lasts is told on the console."""

from __future__ import annotations

from collections.abc import Callable

AFTER_NS = 5_000_000_000
AGAIN_NS = 15_000_000_000


class LongWait:
    """Tells what is waited for after 5 s and then every 15 s: it may be a person, who looks at nothing else."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._next_ns: int | None = None

    def update(self, what: str, now_ns: int) -> None:
        """``what`` is waited for now [monotonic clock]; empty: nothing is."""
        if not what:
            self._next_ns = None
        elif self._next_ns is None:
            self._next_ns = now_ns + AFTER_NS
        elif now_ns >= self._next_ns:
            self._next_ns = now_ns + AGAIN_NS
            self._tell(f"waiting for: {what}")
