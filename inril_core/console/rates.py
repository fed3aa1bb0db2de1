"""How many messages a page may send."""

from __future__ import annotations


class Bucket:
    """A token bucket: `rate_hz` in the long run, `burst` at once. Times are monotonic nanoseconds."""

    def __init__(self, rate_hz: float, burst: int, now_ns: int) -> None:
        self._rate_hz, self._burst = rate_hz, float(burst)
        self._left, self._at_ns = float(burst), now_ns

    def take(self, now_ns: int) -> bool:
        """Whether one more is allowed now."""
        elapsed_s = max(0, now_ns - self._at_ns) * 1e-9
        self._at_ns = max(self._at_ns, now_ns)
        self._left = min(self._burst, self._left + elapsed_s * self._rate_hz)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
