"""What reaches a device over topics: plain values with their ages. Reads no clock."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from inril_core.errors import InrilError

LATEST_S = 0.1
"""A stamp may lie so far in the future: two clocks are never the same."""


class DeviceLost(InrilError):
    """The device is not there or no longer answers. The message names what is missing and how to get it back."""


@dataclass(frozen=True)
class Topic:
    """A topic that a device needs."""

    name: str
    """Relative, so that two arms can run in two namespaces."""
    message: str
    """E.g. ``sensor_msgs/msg/Joy``."""
    max_age_s: float = 0.5
    """An older message is refused, by its stamp and by when it came."""
    stamped: bool = True
    """``header.stamp`` is needed; otherwise a message without one is as old as it came."""
    start: str = ""
    """How to start who publishes it, for messages."""


class Inbox:
    """The newest message of each topic, and where the arm is."""

    def __init__(self, topics: Iterable[Topic] = ()) -> None:
        self._topics = {topic.name: topic for topic in topics}
        self._newest: dict[str, tuple[Mapping[str, Any], int]] = {}
        self._refused: dict[str, str] = {}
        self.mono_ns = 0
        """Now; whoever runs the device sets it before each call of the device."""
        self.tool_pose: tuple[float, ...] | None = None
        """7, measured, base frame, m and xyzw; None: unknown or too old."""
        self.commanded_pose: tuple[float, ...] | None = None
        """7, of the newest Target, as `tool_pose`; None: nothing is commanded."""
        self.gripper: float = math.nan
        """The number for the gripper that keeps it as it is, in [-1, 1]: what is commanded now, or else its measured
        width; NaN: unknown."""

    def put(self, topic: str, values: Mapping[str, Any], stamp_ns: int, now_ns: int, mono_ns: int) -> None:
        """Take a message, unless it is too old.

        values: fields by name; messages within are mappings, arrays are lists.
        stamp_ns: of its header, ROS clock; 0: it has none.
        now_ns, mono_ns: ROS clock and monotonic clock when it came.
        """
        wanted = self._topics[topic]
        if stamp_ns == 0 and wanted.stamped:
            self._refused[topic] = "its messages have no header.stamp; let its publisher fill it"
            return
        age_s = (now_ns - stamp_ns) * 1e-9 if stamp_ns else 0.0
        if not -LATEST_S <= age_s <= wanted.max_age_s:
            self._refused[topic] = (
                f"its messages are {age_s:.2f} s old by their stamps, at most {wanted.max_age_s} s are allowed; "
                "synchronise the clocks of the two machines, or look after the link"
            )
            return
        self._refused.pop(topic, None)
        self._newest[topic] = values, mono_ns - round(max(age_s, 0.0) * 1e9)

    def newest(self, topic: str) -> Mapping[str, Any]:
        """The newest message.

        Raises:
            DeviceLost: there is none, or it is too old.
        """
        wanted = self._topics[topic]
        where = f"topic {topic} ({wanted.message})"
        start = wanted.start or "start its driver"
        if topic in self._newest:
            values, since_ns = self._newest[topic]
            silent_s = (self.mono_ns - since_ns) * 1e-9
            if silent_s <= wanted.max_age_s:
                return values
            raise DeviceLost(f"{where}: {self._refused.get(topic, f'silent for {silent_s:.1f} s; {start}')}")
        raise DeviceLost(f"{where}: {self._refused.get(topic, f'nothing was heard; {start}')}")
