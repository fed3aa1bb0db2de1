"""An input device: datagrams ``grab x y z rx ry rz`` from a program of the lab, e.g. that of a pedal or a phone."""

import socket
import time
from typing import ClassVar

import numpy as np
from pydantic import Field

from inril_core.teleop import Device, DeviceConfig, DeviceLost, HumanInput


class Config(DeviceConfig):
    """Settings, as ``device_settings`` gives them."""

    port: int = Field(ge=1024, le=65535)
    """On this machine alone: who can send a datagram moves the arm."""
    silent_s: float = Field(0.25, gt=0.0, le=10.0)
    """A device that was silent for longer is lost."""

    def build(self, contract):
        """See `DeviceConfig.build`."""
        return Udp(self, contract.action_size)


class Udp(Device):
    """Asynchronous: it is polled, and the newest datagram counts."""

    name: ClassVar[str] = "udp"

    def __init__(self, config, action_size):
        self._config, self._size = config, action_size
        self._socket = None

    def open(self):
        """See `Device.open`."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", self._config.port))
        self._socket.setblocking(False)
        self._heard_s, self._newest = time.monotonic(), HumanInput(np.zeros(self._size), False, False)

    def read(self, tick):
        """See `Device.read`."""
        grabbed = self._newest.grab
        while (datagram := self._datagram()) is not None:
            numbers = np.array(datagram.split(), np.float64)
            if len(numbers) != 1 + self._size or not np.isfinite(numbers).all():
                raise DeviceLost(f"a datagram of {len(numbers)} numbers; send grab and the action's {self._size}")
            self._heard_s = time.monotonic()
            self._newest = HumanInput(numbers[1:], bool(numbers[0]), False)
        if time.monotonic() - self._heard_s > self._config.silent_s:
            raise DeviceLost(f"port {self._config.port} is silent; start the program that sends to it")
        newest = self._newest
        return HumanInput(newest.action, newest.grab, released=grabbed and not newest.grab)

    def _datagram(self):
        try:
            return self._socket.recv(512)
        except BlockingIOError:
            return None

    def close(self):
        """See `Device.close`."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
