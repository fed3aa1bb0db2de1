"""From a camera's own clock to this machine's: offset and drift, measured while it runs."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

BIN_NS = 500_000_000
"""Of the arrivals within one bin, only the one that was under way for the shortest time says something."""
BINS = 120
"""A minute: over longer times the temperature of a crystal changes its rate."""
LEAST_SPAN_NS = 10_000_000_000
"""Below it the drift is taken as zero: 1 ms of jitter over 10 s already looks like 100 ppm."""
MOST_DRIFT = 500e-6
"""Crystals are better than 100 ppm; what looks worse is no drift."""
JUMP_NS = 200_000_000
"""One of the clocks was set, or the camera's began anew: what was measured before is void."""


class _Pair(NamedTuple):
    device_ns: int
    host_ns: int


class ClockFit:
    """host = device + offset + drift * (device - origin), from when images arrive.

    An arrival is late by the time that the image was under way, which varies and is never negative. So the fit is the
    line that lies below all arrivals with the least sum of distances: the edge of their lower convex hull that spans
    their mean (Zhang, Liu and Xia, "Clock synchronization algorithms for network measurements", INFOCOM 2002). The
    shortest delay of all stays in the offset; `inril calibrate latency` measures it.
    """

    def __init__(self) -> None:
        self._pairs: deque[_Pair] = deque(maxlen=BINS)
        self._line = (0, 0, 0.0)
        """Device and host time of a point of the line, and the drift."""
        self.resets = 0
        """How often one of the clocks jumped."""

    @property
    def drift_ppm(self) -> float:
        """How much faster the host's clock runs than the camera's; 0 until it is known."""
        return self._line[2] * 1e6

    @property
    def offset_ns(self) -> int:
        """Host's clock minus camera's, at the newest bin."""
        return self.host_ns(self._pairs[-1].device_ns) - self._pairs[-1].device_ns if self._pairs else 0

    def add(self, device_ns: int, arrived_ns: int) -> int:
        """Take in an image; returns its time on the host's clock, which is never later than its arrival.

        Args:
            device_ns: its time on the camera's clock, from any origin.
            arrived_ns: host's clock when the image was there.
        """
        if self._pairs and self._jumped(device_ns, arrived_ns):
            self._pairs.clear()
            self.resets += 1
        pair = _Pair(device_ns, arrived_ns)
        pairs = self._pairs
        if not pairs or device_ns // BIN_NS != pairs[-1].device_ns // BIN_NS:
            pairs.append(pair)
            self._fit()
        elif arrived_ns - device_ns < pairs[-1].host_ns - pairs[-1].device_ns:
            pairs[-1] = pair
            self._fit()
        return min(self.host_ns(device_ns), arrived_ns)

    def host_ns(self, device_ns: int) -> int:
        """A time of the camera's clock on the host's."""
        origin_ns, host_ns, drift = self._line
        passed_ns = device_ns - origin_ns
        return host_ns + passed_ns + round(drift * passed_ns)

    def _jumped(self, device_ns: int, arrived_ns: int) -> bool:
        """Backwards on either clock, or an arrival that is early: a late one is a stalled machine, as any delay is."""
        newest = self._pairs[-1]
        early_ns = self.host_ns(device_ns) - arrived_ns
        late_ns = (arrived_ns - newest.host_ns) - (device_ns - newest.device_ns)
        back = device_ns < newest.device_ns - BIN_NS
        # a host clock that was set forward looks like delay; no image is under way for ten seconds
        return back or early_ns > JUMP_NS or late_ns > 10_000_000_000

    def _fit(self) -> None:
        pairs = self._pairs
        origin = pairs[0]
        x = np.array([p.device_ns - origin.device_ns for p in pairs], np.float64)
        y = np.array([(p.host_ns - p.device_ns) - (origin.host_ns - origin.device_ns) for p in pairs], np.float64)
        drift, at = 0.0, int(np.argmin(y))
        if x[-1] - x[0] >= LEAST_SPAN_NS:
            left, right = _spanning_edge(x, y)
            drift = (y[right] - y[left]) / (x[right] - x[left])
            at = left
            if abs(drift) > MOST_DRIFT:
                drift = float(np.clip(drift, -MOST_DRIFT, MOST_DRIFT))
                at = int(np.argmin(y - drift * x))
        self._line = (pairs[at].device_ns, pairs[at].host_ns, drift)


def _spanning_edge(x: np.ndarray, y: np.ndarray) -> tuple[int, int]:
    """Ends of the edge of the lower convex hull (x rising) that spans the mean of x."""
    hull: list[int] = []
    for i in range(len(x)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            hull.pop()
        hull.append(i)
    mean = x.mean()
    return next((a, b) for a, b in zip(hull, hull[1:], strict=False) if x[b] >= mean)
