"""Pins: a person is heard between episodes and without observation_node; a device that is lost stops the arm, not the
node. Real nodes over DDS; their clocks are the test's, so a stalled machine changes nothing."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from inril_msgs.msg import ExecutedAction

from inril_core.teleop import HumanInput
from tests.teleop.cell import CONTRACT, STEP_NS, Cell, running
from tests.teleop.queue_device import EVENTS, QueueDevice

UP = np.array([0.0, 0.0, 0.5, 0.0, 0.0, 0.0])


def press(action: np.ndarray, grab: bool = True) -> None:
    EVENTS.put(HumanInput(action, grab, False))
    EVENTS.join()


@pytest.fixture
def cell() -> Iterator[Cell]:
    QueueDevice.plugged_in = True
    with running(device="tests.teleop.queue_device:Config") as cell:
        cell.until(lambda: cell.said, "first reading")
        yield cell
    while True:
        try:
            EVENTS.get_nowait()
            EVENTS.task_done()
        except queue.Empty:
            break


def test_an_episode_ends_with_the_button_held_and_nothing_is_lost(cell: Cell) -> None:
    """Pins: TELEOP_LOST latched after each episode whose end found a person's hand on the button."""
    cell.arm()
    press(np.zeros(6))
    for last in (False, False, True):
        cell.hears(1)
        cell.observation(last)
        count = len(cell.executed)
        if not last:
            cell.until(lambda count=count: len(cell.executed) > count, "closed tick")
    assert cell.executed[-1].source == ExecutedAction.SOURCE_HUMAN
    silence_ns = round(CONTRACT.staleness.teleop_s * 1e9)
    cell.hears(3 * silence_ns // STEP_NS)
    assert cell.statuses[-1].armed and "teleop_lost" not in cell.faults
    assert cell.said[-1].grab and not cell.said[-1].synchronous and cell.said[-1].k == 0


def test_without_observation_node_a_person_can_retract_the_arm(cell: Cell) -> None:
    cell.arm()
    press(UP)
    began_m = cell._height_m
    cell.until(
        lambda: cell.hears(1) or (cell.targets and cell.targets[-1].pose.position.z > began_m + 0.02), "the arm raised"
    )
    assert not cell.targets[-1].hold and cell.targets[-1].episode_id == ""
    press(np.zeros(6), grab=False)
    cell.hears(2)


def test_a_device_that_is_lost_stops_the_arm_and_comes_back(cell: Cell) -> None:
    cell.arm()
    press(UP)
    cell.until(lambda: cell.hears(1) or (cell.targets and not cell.targets[-1].hold), "motion")
    QueueDevice.plugged_in = False
    cell.until(lambda: not any(cell.said[-1].action), "hold reading")
    assert cell.said[-1].grab
    cell.until(lambda: cell.pass_time() and "teleop_lost" in cell.faults, "fault that the device is lost")
    count = len(cell.said)
    opened = QueueDevice.opened
    QueueDevice.plugged_in = True
    cell.until(lambda: cell.pass_time() and QueueDevice.opened > opened and len(cell.said) > count, "device again")
    assert not cell.said[-1].grab, "opened anew, the device knows of no button"
    cell.arm()
    assert "teleop_lost" not in cell.faults


@pytest.mark.parametrize("bad", [RuntimeError("driver"), HumanInput(np.full(6, np.nan), True, False), None], ids=str)
def test_a_device_that_talks_nonsense_is_silent_and_tried_again(cell: Cell, bad: Any) -> None:
    opened = QueueDevice.opened
    EVENTS.put(bad)
    EVENTS.join()
    cell.until(lambda: cell.pass_time() and QueueDevice.opened > opened, "the device opened again")
    count = len(cell.said)
    cell.until(lambda: cell.pass_time() and len(cell.said) > count, "its readings")
    assert all(np.isfinite(said.action).all() for said in cell.said)
