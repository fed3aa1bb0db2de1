"""Which of an arm's or a tracker's messages stands beside which Observation in a recording.

They come at the driver's own rate and know no episode. Of each topic one is written for each Observation: the newest
whose stamp is not later than the Observation's. So a recording's size does not depend on the driver's rate.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

KEPT = 2048
"""Messages of a topic that are kept for Observations still to come: two seconds of a driver at 1 kHz."""


class Sample(NamedTuple):
    """A message as it came. Times in ns: of its header's stamp, and of its receipt."""

    stamp_ns: int
    log_time_ns: int
    data: bytes


@dataclass(frozen=True)
class _Wanted:
    episode_id: str
    stamp_ns: int


class SensorTrack:
    """The recent messages of one topic, and the Observations that wait for theirs.

    A later Observation gets no message that an earlier one of the same episode got already.
    """

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        self._wanted: deque[_Wanted] = deque(maxlen=KEPT)
        self._given: dict[str, int] = {}

    def hear(self, sample: Sample) -> None:
        """Keep a message. One that is older than those before (a clock that was set back) starts anew."""
        if self._samples and sample.stamp_ns < self._samples[-1].stamp_ns:
            self._samples.clear()
        self._samples.append(sample)

    def want(self, episode_id: str, stamp_ns: int) -> None:
        """An Observation of an open episode needs its message."""
        self._wanted.append(_Wanted(episode_id, stamp_ns))

    def awaited_by(self, episode_id: str) -> bool:
        """Whether a message of this episode may still be on its way; never if none has come so far."""
        return bool(self._samples) and any(wanted.episode_id == episode_id for wanted in self._wanted)

    def take(self) -> list[tuple[str, Sample]]:
        """(episode_id, message) for the Observations whose message is certain: none that fits better can come."""
        found = []
        while self._wanted and self._samples and self._samples[-1].stamp_ns >= self._wanted[0].stamp_ns:
            found += self._give(self._wanted.popleft())
        return found

    def close(self, episode_id: str) -> list[tuple[str, Sample]]:
        """The same for all Observations of an episode that ends: the best of what has come."""
        mine = [wanted for wanted in self._wanted if wanted.episode_id == episode_id]
        self._wanted = deque((w for w in self._wanted if w.episode_id != episode_id), maxlen=KEPT)
        found = [given for wanted in mine for given in self._give(wanted)]
        self._given.pop(episode_id, None)
        return found

    def _give(self, wanted: _Wanted) -> list[tuple[str, Sample]]:
        best = next((s for s in reversed(self._samples) if s.stamp_ns <= wanted.stamp_ns), None)
        if best is None or self._given.get(wanted.episode_id, -1) >= best.stamp_ns:
            return []
        self._given[wanted.episode_id] = best.stamp_ns
        return [(wanted.episode_id, best)]


def header_stamp_ns(data: bytes) -> int:
    """Stamp of a serialised (CDR) message whose first field is its header, without decoding the rest.

    Raises:
        ValueError: too short, or no CDR.
    """
    if len(data) < 12 or data[0] != 0 or data[1] > 1:
        raise ValueError(f"{len(data)} bytes that are no CDR message with a header")
    sec, nanosec = struct.unpack_from("<iI" if data[1] == 1 else ">iI", data, 4)
    return int(sec) * 1_000_000_000 + int(nanosec)
