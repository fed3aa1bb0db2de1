"""Pins: a deadline that is looked at too late because an earlier one was set before, or never again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from inril_common import deadline_timer
from inril_common.deadline_timer import POSTPONED_BY_NS, SHORTEST_WAIT_NS, DeadlineTimer
from inril_common.executor import NodeExecutor
from rclpy.clock import Clock, ClockType

from tests.common.executor_bench import ExecutorBench

MS = 1_000_000


class Made:
    """A timer in a world whose time the test tells."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, callback: Callable[[], int | None]) -> None:
        self.now_ns = 0
        self.timer_period_ns = 0
        self.due_ns = 0
        monkeypatch.setattr(deadline_timer.time, "monotonic_ns", lambda: self.now_ns)
        self.deadline = DeadlineTimer(self._steady_timer, callback, 0.02)

    def _steady_timer(self, period_s: float, fire: Callable[[], None]) -> Any:
        self.timer_period_ns, self._fire = round(period_s * 1e9), fire
        self.reset()
        return self

    def reset(self) -> None:
        self.due_ns = self.now_ns + self.timer_period_ns

    def until_due(self) -> None:
        """Let time pass, and the timer fire as rcl does: the next call is a period later."""
        self.now_ns = self.due_ns
        self.due_ns += self.timer_period_ns
        self._fire()


def test_it_fires_when_the_callback_says(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = iter([50 * MS, 51 * MS])
    made = Made(monkeypatch, lambda: next(wanted))
    assert made.due_ns == 20 * MS
    made.until_due()
    assert made.due_ns == 50 * MS
    made.until_due()
    assert made.due_ns == 51 * MS


def test_an_earlier_time_counts_and_a_much_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(monkeypatch, lambda: 1000 * MS)
    made.until_due()
    made.deadline.at(30 * MS)
    assert made.due_ns == 30 * MS
    made.deadline.at(30 * MS + POSTPONED_BY_NS)
    assert made.due_ns == 30 * MS
    made.deadline.at(50 * MS)
    assert made.due_ns == 50 * MS


def test_what_is_due_is_never_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node was busy when the time came, and hears something else before the timer is served."""
    made = Made(monkeypatch, lambda: 1000 * MS)
    made.now_ns = 25 * MS
    made.deadline.at(500 * MS)
    assert made.due_ns == 20 * MS


def test_a_time_that_has_passed_is_made_up_for_without_keeping_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(monkeypatch, lambda: 0)
    made.until_due()
    assert made.due_ns == made.now_ns + SHORTEST_WAIT_NS


def test_a_callback_that_does_not_say_when_is_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(monkeypatch, lambda: None)
    made.until_due()
    assert made.due_ns == 40 * MS
    made.deadline.at(25 * MS)
    assert made.due_ns == 25 * MS


@pytest.fixture
def bench(domain: int) -> Iterator[ExecutorBench]:
    made = ExecutorBench(NodeExecutor, domain)
    yield made
    made.close()


def test_on_a_real_node_an_hour_becomes_now(bench: ExecutorBench) -> None:
    node = bench.node("n")

    def steady_timer(period_s: float, fire: Callable[[], None]) -> Any:
        return node.create_timer(period_s, fire, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def called() -> int:
        bench.log.append("called")
        return 2**62

    timer = DeadlineTimer(steady_timer, called, 3600.0)
    timer.at(0)
    bench.noted("called")
    timer.at(0)
    bench.noted("called", "called")
