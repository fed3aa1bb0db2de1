"""Pins: a device that fails in any way is named, silent, and tried again; nothing it does reaches the node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inril_core.teleop import Device, DeviceLost, HumanInput, TickView
from inril_core.teleop.common.keeper import (
    FIRST_WAIT_S,
    OPENING_NS,
    STABLE_NS,
    DeviceKeeper,
    in_a_thread,
)

SIZE = 6
PUSH = HumanInput(np.full(SIZE, 0.5), True, False)
REST = HumanInput(np.zeros(SIZE), False, False)
MS = 1_000_000
FIRST_WAIT_NS, LONGEST_WAIT_NS = round(FIRST_WAIT_S * 1e9), round(Device.longest_wait_s * 1e9)


class Told(Device):
    """Does what it is told: `said` is returned, or raised where it is an exception."""

    name: ClassVar[str] = "told"

    def __init__(self) -> None:
        self.said: Any = PUSH
        self.on_open: Any = None
        self.on_close: Any = None
        self.calls: list[str] = []

    def open(self) -> None:
        self.calls.append("open")
        if isinstance(self.on_open, BaseException):
            raise self.on_open

    def read(self, tick: TickView | None) -> HumanInput:
        self.calls.append("read")
        if isinstance(self.said, BaseException):
            raise self.said
        return self.said  # type: ignore[no-any-return]

    def close(self) -> None:
        self.calls.append("close")
        if isinstance(self.on_close, BaseException):
            raise self.on_close


class Answering(Told):
    synchronous: ClassVar[bool] = True


def at_once(work: Callable[[], None]) -> None:
    work()


def opened(device: Told | None = None) -> tuple[Told, DeviceKeeper]:
    device = device or Told()
    keeper = DeviceKeeper(device, SIZE, at_once)
    keeper.tend(0)
    assert keeper.ready
    wanted, device.said = device.said, REST
    assert keeper.read(None, 0) is not None
    device.said = wanted
    return device, keeper


def test_a_reading_is_given_on_and_clipped() -> None:
    device, keeper = opened()
    device.said = HumanInput([2.0, -3.0, 0.1, 0, 0, 0], True, False)  # type: ignore[arg-type]
    said = keeper.read(None, MS)
    assert said is not None and said.action.dtype == np.float32
    assert said.action == pytest.approx([1.0, -1.0, 0.1, 0, 0, 0])
    assert device.calls[:2] == ["close", "open"] and not keeper.trouble


BAD = [
    DeviceLost("unplugged; plug it in"),
    RuntimeError("driver"),
    HumanInput(np.full(SIZE, np.nan), True, False),
    HumanInput(np.full(SIZE, np.inf), True, False),
    HumanInput(np.zeros(SIZE + 1), True, False),
    HumanInput(np.zeros((2, SIZE)), True, False),
    HumanInput("fast", True, False),  # type: ignore[arg-type]
    None,
    7,
]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_the_arm_is_held_once_then_there_is_silence_and_another_try(bad: Any) -> None:
    device, keeper = opened()
    assert keeper.read(None, MS) is not None
    device.said = bad
    held = keeper.read(None, 2 * MS)
    assert held is not None and held.grab and not held.released and not held.action.any()
    assert "told is lost" in keeper.trouble and "tried again in 0.5 s" in keeper.trouble
    assert keeper.read(None, 3 * MS) is None and not keeper.ready
    device.said = PUSH
    assert keeper.read(None, 2 * MS + FIRST_WAIT_NS - 1) is None
    assert device.calls.count("open") == 1
    back = keeper.read(None, 2 * MS + FIRST_WAIT_NS)
    assert back is not None and not keeper.trouble
    assert device.calls[-3:] == ["close", "open", "read"] and keeper.failures == 1


def test_plugged_in_again_with_the_button_held_it_grabs_nothing_before_it_was_let_go_of() -> None:
    device, keeper = opened()
    keeper.read(None, MS)
    device.said = DeviceLost("unplugged")
    keeper.read(None, 2 * MS)
    device.said = HumanInput(np.full(SIZE, 0.5), True, False, "success")
    now_ns = 2 * MS + FIRST_WAIT_NS
    for said in (device.said, HumanInput(np.full(SIZE, 0.5), False, False), HumanInput(np.zeros(SIZE), True, False)):
        device.said = said
        masked = keeper.read(None, now_ns)
        assert masked is not None and not masked.grab and not masked.action.any() and not masked.event
        assert keeper.waits_for_rest
        now_ns += MS
    for said in (REST, PUSH):
        device.said = said
        given = keeper.read(None, now_ns)
        assert given is not None and given.grab is said.grab and given.action.any() == said.action.any()


def test_the_grippers_number_may_be_nan_and_no_other() -> None:
    device = Told()
    keeper = DeviceKeeper(device, SIZE + 1, at_once)
    device.said = HumanInput(np.array([0.0] * SIZE + [np.nan]), False, False)
    said = keeper.read(None, 0)
    assert said is not None and np.isnan(said.action[SIZE]) and not keeper.trouble
    device.said = HumanInput(np.array([0.0] * SIZE + [np.inf]), False, False)
    assert keeper.read(None, MS) is None and "finite" in keeper.trouble


def test_without_control_and_of_a_synchronous_device_a_failure_is_silence_alone() -> None:
    device, keeper = opened()
    device.said = REST
    keeper.read(None, MS)
    device.said = RuntimeError()
    assert keeper.read(None, 2 * MS) is None
    device, keeper = opened(Answering())
    keeper.read(None, MS)
    device.said = RuntimeError()
    assert keeper.read(None, 2 * MS) is None


def test_a_failure_while_something_is_pushed_without_a_grab_stops_the_arm_at_once_too() -> None:
    """Pins: with ``takeover`` toggle or motion the last push went on until the silence was noticed."""
    device, keeper = opened()
    device.said = HumanInput(PUSH.action, False, False)
    keeper.read(None, MS)
    device.said = RuntimeError()
    last = keeper.read(None, 2 * MS)
    assert last is not None and not last.action.any() and not last.grab and not last.released
    assert keeper.read(None, 3 * MS) is None


def test_waits_double_up_to_a_limit_and_begin_anew_after_a_stable_time() -> None:
    device, now_ns, waits = Told(), 0, []
    device.on_open = DeviceLost("no permission for /dev/input; add yourself to group input")
    keeper = DeviceKeeper(device, SIZE, at_once)
    for _ in range(8):
        keeper.tend(now_ns)
        assert "no permission" in keeper.trouble
        tries, failed_ns = device.calls.count("open"), now_ns
        while device.calls.count("open") == tries:
            now_ns += 100 * MS
            keeper.tend(now_ns)
        waits.append(now_ns - failed_ns)
    assert waits == [min(FIRST_WAIT_NS << i, LONGEST_WAIT_NS) for i in range(8)]
    device.on_open = None
    now_ns += LONGEST_WAIT_NS
    assert keeper.read(None, now_ns) is not None
    assert keeper.read(None, now_ns + STABLE_NS) is not None
    device.said = DeviceLost("gone")
    keeper.read(None, now_ns + STABLE_NS)
    assert "in 0.5 s" in keeper.trouble


def test_an_open_that_hangs_is_named_and_may_still_succeed() -> None:
    waiting: list[Callable[[], None]] = []
    device = Told()
    keeper = DeviceKeeper(device, SIZE, waiting.append)
    assert keeper.read(None, 0) is None and not keeper.trouble
    assert keeper.read(None, OPENING_NS) is None
    assert "has not returned for 10 s" in keeper.trouble and len(waiting) == 1
    waiting[0]()
    assert keeper.read(None, OPENING_NS + MS) is not None and not keeper.trouble


def test_a_device_that_cannot_be_closed_ends_nothing() -> None:
    device, keeper = opened()
    device.on_close = OSError("busy")
    device.said = OSError("busy")
    keeper.read(None, MS)
    device.said = PUSH
    assert keeper.read(None, MS + FIRST_WAIT_NS) is not None
    keeper.close()
    keeper.tend(MS + 2 * LONGEST_WAIT_NS)
    assert not keeper.ready and device.calls[-1] == "close"


def test_a_device_opened_after_the_end_is_closed_again() -> None:
    waiting: list[Callable[[], None]] = []
    device = Told()
    keeper = DeviceKeeper(device, SIZE, waiting.append)
    keeper.tend(0)
    keeper.close()
    waiting[0]()
    assert device.calls[-2:] == ["open", "close"] and not keeper.ready


def test_a_thread_runs_beside_the_caller() -> None:
    import threading

    done = threading.Event()
    in_a_thread(done.set)
    assert done.wait(60.0)


@given(st.lists(st.tuples(st.sampled_from([PUSH, REST, *BAD]), st.booleans(), st.integers(0, 3 * LONGEST_WAIT_NS))))
def test_whatever_a_device_does_readings_are_sound(events: list[tuple[Any, bool, int]]) -> None:
    device, now_ns, had_control = Told(), 0, False
    keeper = DeviceKeeper(device, SIZE, at_once)
    for said, opens, wait_ns in events:
        device.said, device.on_open = said, None if opens else RuntimeError("no")
        now_ns += wait_ns
        reading = keeper.read(None, now_ns)
        sound = said is PUSH or said is REST
        if reading is not None:
            assert reading.action.shape == (SIZE,) and np.isfinite(reading.action).all()
            assert sound or (had_control and reading.grab and not reading.action.any())
        assert bool(keeper.trouble) == (not (reading is not None and sound))
        had_control = reading is not None and reading.grab and sound
