"""A timer that is set to a time, where another one looks again and again whether it has come."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node
from rclpy.timer import Timer

SHORTEST_WAIT_NS = 100_000
"""A `DeadlineTimer` that is late already comes after this, so that it cannot keep everything else waiting."""
POSTPONED_BY_NS = 10_000_000
"""A time that is later by less than this is not worth setting it anew: it fires early and asks again."""


class DeadlineTimer:
    """Fires once at each time that it is set to, instead of looking again and again.

    steady_timer: makes an rclpy timer of period [s] and callback. callback: returns when to call it next (monotonic
    ns); None, or an exception: after the same time once more, so that it is never silent.
    """

    def __init__(self, steady_timer: Callable[..., Timer], callback: Callable[[], int | None], first_s: float) -> None:
        self._callback = callback
        self._at_ns = time.monotonic_ns() + round(first_s * 1e9)
        self._timer = steady_timer(first_s, self._fire)

    def at(self, at_ns: int) -> None:
        """Fire at `at_ns` (monotonic): a time that is earlier than the one set counts, one that is later may count.

        One that has come already is never put off.
        """
        if self._at_ns <= at_ns <= self._at_ns + POSTPONED_BY_NS:
            return
        now_ns = time.monotonic_ns()
        if at_ns < self._at_ns or now_ns < self._at_ns:
            self._set(at_ns, now_ns)

    def destroy(self, node: Node) -> None:
        """Never fire again. `node`: the timer's."""
        node.destroy_timer(self._timer)

    def _set(self, at_ns: int, now_ns: int) -> None:
        self._at_ns = at_ns
        self._timer.timer_period_ns = max(at_ns - now_ns, SHORTEST_WAIT_NS)
        self._timer.reset()

    def _fire(self) -> None:
        now_ns = time.monotonic_ns()
        self._at_ns = now_ns + self._timer.timer_period_ns
        at_ns = self._callback()
        if at_ns is not None:
            self._set(at_ns, time.monotonic_ns())
