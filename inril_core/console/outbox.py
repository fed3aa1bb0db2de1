"""What waits to be sent to one page: bounded, however slowly it reads."""

from __future__ import annotations

from collections import OrderedDict, deque

from inril_core.console.messages import Frame, ToPage

MAX_EVENTS = 64


class Outbox:
    """States replace each other, events queue, and one camera picture is under way at a time.

    A page that reads slowly gets fewer and newer states; one that does not even take its events is `overflowed`.
    """

    def __init__(self) -> None:
        self._states: OrderedDict[str, str] = OrderedDict()
        self._events: deque[str] = deque()
        self._frames: dict[str, Frame] = {}
        self._turn = 0
        self._in_flight: int | None = None
        self.overflowed = False

    def put(self, message: ToPage, text: str | None = None) -> None:
        """Add a message. text: its encoding, where it was made for another page already."""
        text = message.encode() if text is None else text
        if message.newest_wins:
            self._states[message.key] = text  # it keeps its place in the queue
        elif len(self._events) >= MAX_EVENTS:
            self.overflowed = True
        else:
            self._events.append(text)

    def put_frame(self, frame: Frame) -> None:
        """A camera's newest picture; one that waits is dropped."""
        self._frames[frame.camera] = frame

    def shown(self, frame_id: int) -> None:
        """The page has shown the picture that was under way."""
        if frame_id == self._in_flight:
            self._in_flight = None

    @property
    def wants_frames(self) -> bool:
        """No picture is under way."""
        return self._in_flight is None

    @property
    def empty(self) -> bool:
        """Nothing can be sent now."""
        return not self._events and not self._states and (not self._frames or not self.wants_frames)

    def take(self) -> str | Frame | None:
        """The next thing to send: events first, then states in turn, then a picture of each camera in turn."""
        if self._events:
            return self._events.popleft()
        if self._states:
            return self._states.popitem(last=False)[1]
        if self._frames and self.wants_frames:
            cameras = sorted(self._frames)
            self._turn += 1
            frame = self._frames.pop(cameras[self._turn % len(cameras)])
            self._in_flight = frame.frame_id
            return frame
        return None
