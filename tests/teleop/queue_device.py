"""A complete asynchronous device outside the package: a queue is what a driver's thread would fill."""

from __future__ import annotations

import queue
import threading
from typing import Any, ClassVar

import numpy as np

from inril_core.contract import Contract
from inril_core.teleop import Device, DeviceConfig, DeviceLost, HumanInput, TickView

EVENTS: queue.Queue[Any] = queue.Queue()
"""What the driver sends: a `HumanInput`, an exception that `read` shall raise, or anything else it shall return."""


class QueueDevice(Device):
    """Its thread takes events from the queue; `read` gives the newest one, again and again, as a held button does."""

    name: ClassVar[str] = "queue"
    plugged_in: ClassVar[bool] = True
    opened: ClassVar[int] = 0
    closed: ClassVar[int] = 0

    def __init__(self, contract: Contract) -> None:
        self._size = contract.action_size
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        if not self.plugged_in:
            raise DeviceLost("no queue is plugged in; plug one in")
        type(self).opened += 1
        self._newest: Any = HumanInput(np.zeros(self._size), False, False)
        self._stop, self._taken = threading.Event(), threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                self._newest = EVENTS.get(timeout=0.05)
                EVENTS.task_done()
            except queue.Empty:
                continue

    def read(self, tick: TickView | None) -> HumanInput:
        if not self.plugged_in:
            raise DeviceLost("the queue was pulled out; plug it in again")
        newest = self._newest
        if isinstance(newest, Exception):
            raise newest
        return newest  # type: ignore[no-any-return]

    def close(self) -> None:
        if self._thread is not None:
            type(self).closed += 1
            self._stop.set()
            self._thread.join()
            self._thread = None


class Config(DeviceConfig):
    """Settings of the device."""

    poll_hz: float = 100.0

    def build(self, contract: Contract) -> QueueDevice:
        return QueueDevice(contract)
