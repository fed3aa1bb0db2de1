"""Pins: a gripper's call that blocks its caller, is repeated, or is done although a newer wish waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from inril_core.hardware.newest import NewestWins


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def test_only_the_first_and_the_newest_wish_are_done() -> None:
    done: list[float] = []
    release = threading.Event()

    def do(wish: float, superseded: threading.Event) -> None:
        done.append(wish)
        if wish == 1.0:
            release.wait(60.0)
            assert superseded.is_set()

    worker = NewestWins(do)
    worker.ask(1.0)
    until(lambda: done)
    for wish in (1.0, 2.0, 3.0, 3.0):
        worker.ask(wish)  # returns at once: the first is still under way
    release.set()
    until(lambda: len(done) == 2)
    worker.ask(3.0)
    worker.close()
    assert done == [1.0, 3.0] and not worker.failure


def test_going_back_to_the_wish_under_way_does_it_again_if_it_was_cut_short() -> None:
    done: list[float] = []
    release = threading.Event()

    def do(wish: float, superseded: threading.Event) -> None:
        done.append(wish)
        release.wait(60.0)

    worker = NewestWins(do)
    worker.ask(1.0)
    until(lambda: done)
    worker.ask(2.0)
    worker.ask(1.0)
    release.set()
    until(lambda: len(done) == 2)
    worker.close()
    assert done == [1.0, 1.0]


def test_a_failure_is_kept_and_the_wish_done_when_asked_again() -> None:
    def do(wish: float, superseded: threading.Event) -> None:
        raise OSError("no hand")

    worker = NewestWins(do)
    worker.ask(1.0)
    until(lambda: worker.failure)
    assert worker.failure == "OSError: no hand"
    worker.forget()
    assert not worker.failure
    worker.ask(1.0)
    until(lambda: worker.failure)
    worker.close()
