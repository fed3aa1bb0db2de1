"""A thread that sends set-points to a controller at its rate, between the targets of the control rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from inril_core.hardware.arms.base import ArmLost
from inril_core.hardware.motion import SmoothMotion

JOIN_S = 5.0


class SetPointStream:
    """Sends `SmoothMotion`'s set-points, `rate_hz` a second, until it is closed.

    It sends nothing before `start` has given it the measured pose. Where targets cease it goes on with the set-point
    at which it came to rest: that is the hold of a controller that has no watchdog of its own.

    send: called in the thread with float64[7], m and xyzw; what it raises ends the stream and is told by `aim`.
    """

    def __init__(self, motion: SmoothMotion, rate_hz: float, send: Callable[[np.ndarray], None]) -> None:
        self._motion, self._period_s, self._send = motion, 1.0 / rate_hz, send
        self._lock = threading.Lock()
        self._begun = False
        self.failure = ""
        """Why nothing can be sent any more; empty: it can."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="set-points", daemon=True)
        self._thread.start()

    @property
    def started(self) -> bool:
        """It has a pose to go on from."""
        return self._begun

    def start(self, pose: Sequence[float]) -> None:
        """Go on from a measured pose, at rest."""
        with self._lock:
            self._motion.start(pose, time.monotonic())
            self._begun = True

    def aim(self, pose: Sequence[float]) -> None:
        """A target, float64[7].

        Raises:
            ArmLost: set-points cannot be sent, or none was started.
        """
        if self.failure:
            raise ArmLost(f"no set-points can be sent: {self.failure}")
        if not self._begun:
            raise ArmLost("no pose was measured since the last arming; arm again")
        with self._lock:
            self._motion.aim(pose, time.monotonic())

    def stop(self) -> None:
        """Come to rest, and hold there."""
        with self._lock:
            if self._begun:
                self._motion.stop(time.monotonic())

    def pause(self) -> None:
        """Send nothing until `start`."""
        with self._lock:
            self._begun = False

    def close(self) -> None:
        """Send no more."""
        self._closing.set()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        next_s = time.monotonic()
        while not self._closing.wait(max(0.0, next_s - time.monotonic())):
            now_s = time.monotonic()
            next_s = max(next_s + self._period_s, now_s)  # periods that were missed are left out
            try:
                with self._lock:
                    if not self._begun:
                        continue
                    pose = self._motion.at(now_s).pose
                    self._send(pose)
            except Exception as error:  # of a vendor's library: whatever it is, the arm is lost with this text
                self.failure = f"{type(error).__name__}: {error}"
                return
