"""Pins: set-points before a measured pose is known, after an arm was let go, or that cease without a word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("ruckig")

from inril_core.hardware.arms.base import ArmLost
from inril_core.hardware.motion import MotionLimits, SmoothMotion
from inril_core.hardware.stream import SetPointStream

HERE = [0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0]


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


class Controller:
    """Counts and keeps set-points; `broken`: as its library fails."""

    def __init__(self) -> None:
        self.said: list[np.ndarray] = []
        self.broken = False
        self.lock = threading.Lock()
        self.stream = SetPointStream(SmoothMotion(MotionLimits(), 0.1, 60.0), 500.0, self.send)

    def send(self, pose: np.ndarray) -> None:
        if self.broken:
            raise OSError("no route to host")
        self.said.append(pose)


def test_it_begins_at_the_measured_pose_and_says_nothing_before_or_after_a_pause() -> None:
    controller = Controller()
    stream = controller.stream
    stream.stop()
    with pytest.raises(ArmLost, match="arm again"):
        stream.aim(HERE)
    assert not controller.said and not stream.started
    stream.start(HERE)
    stream.aim([0.6, *HERE[1:]])
    until(lambda: len(controller.said) > 20)
    assert np.linalg.norm(controller.said[0][:3] - HERE[:3]) < 1e-3, "the first is the measured pose"
    assert controller.said[-1][0] > HERE[0]
    stream.pause()
    count = len(controller.said)
    with pytest.raises(ArmLost, match="arm again"):
        stream.aim(HERE)
    stream.start([0.4, *HERE[1:]])
    until(lambda: len(controller.said) > count)
    assert all(abs(pose[0] - 0.4) < 1e-9 for pose in controller.said[count:]), "it went on from the old pose"
    stream.close()


def test_what_a_controller_raises_is_told_with_the_next_target() -> None:
    controller = Controller()
    controller.stream.start(HERE)
    controller.broken = True
    until(lambda: controller.stream.failure)
    with pytest.raises(ArmLost, match="no route to host"):
        controller.stream.aim(HERE)
    controller.stream.close()
