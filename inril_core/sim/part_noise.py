"""What a tracker would say of a simulated cell's parts: late, noisy, and at times nothing.

The poses of a simulator are exact and of this moment. Those of a camera that looks at tags are neither, and a policy
that was only ever given exact poses need not survive that.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import numpy as np

from inril_core.contract import Contract
from inril_core.contract.definitions import PartNoise
from inril_core.transforms import quat_conjugate, quat_from_rotvec, quat_multiply, quat_normalise, rotvec_from_quat

Parts = Mapping[str, np.ndarray]
"""Poses float64[7] by name, m and xyzw, base frame."""


class PartTracker:
    """Measures the parts of a simulated cell as `PartNoise` says.

    An image of ``delay_s`` ago lies between two states of the cell, which is interpolated. A cell stands still before
    an episode's first state. The noise of an episode is decided by its seed.
    """

    def __init__(self, noise: PartNoise) -> None:
        self._noise, self._is_perfect = noise, noise == PartNoise()
        self._delay_ns = round(noise.delay_s * 1e9)
        self._image_ns = None if noise.rate_hz is None else round(1e9 / noise.rate_hz)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin an episode: forget what was seen, and restart the noise."""
        self._states: deque[tuple[int, Parts]] = deque()
        self._rng = np.random.default_rng([seed, 7])  # not the generator that lays the cell out
        self._image_due_ns: int | None = None
        self._found: tuple[int, Parts] | None = None

    def measure(self, stamp_ns: int, parts: Parts) -> tuple[int, Parts] | None:
        """What the tracker says at ``stamp_ns``: the time of its newest measurement, and the poses.

        None: nothing came since the call before. The first measurement of an episode always comes: the tracker has
        looked at the cell while it was laid out.

        Args:
            parts: true poses at ``stamp_ns``, which is later than that of the call before.
        """
        if self._is_perfect:
            return stamp_ns, parts
        self._states.append((stamp_ns, parts))
        before = self._found
        for at_ns in self._images(stamp_ns - self._delay_ns):
            while len(self._states) > 1 and self._states[1][0] <= at_ns:
                self._states.popleft()
            lost = self._noise.dropout > 0.0 and self._rng.random() < self._noise.dropout
            if self._found is None or not lost:
                self._take(at_ns, {name: self._disturbed(pose) for name, pose in self._at(at_ns).items()})
        return None if self._found is before else self._found

    def _images(self, newest_ns: int) -> list[int]:
        """Times of the images since the call before, the newest at ``newest_ns`` or before."""
        if self._image_ns is None or self._image_due_ns is None:
            times = [newest_ns]
        else:
            times = list(range(self._image_due_ns, newest_ns + 1, self._image_ns))
        if times and self._image_ns is not None:
            self._image_due_ns = times[-1] + self._image_ns
        return times

    def _take(self, at_ns: int, seen: Parts) -> None:
        if self._found is not None and self._noise.smoothing_s > 0.0:
            then_ns, smooth = self._found
            gain = 1.0 - math.exp(-(at_ns - then_ns) * 1e-9 / self._noise.smoothing_s)
            seen = {name: _between(smooth[name], pose, gain) for name, pose in seen.items()}
        self._found = (at_ns, seen)

    def _at(self, at_ns: int) -> Parts:
        (begin_ns, before), (end_ns, after) = self._states[0], self._states[min(1, len(self._states) - 1)]
        if at_ns <= begin_ns or end_ns == begin_ns:
            return before
        share = (at_ns - begin_ns) / (end_ns - begin_ns)
        return {name: _between(before[name], after[name], share) for name in before}

    def _disturbed(self, pose: np.ndarray) -> np.ndarray:
        noise = self._noise
        if noise.position_m == 0.0 and noise.rotation_rad == 0.0:
            return pose
        moved = pose[:3] + noise.position_m * self._rng.standard_normal(3)
        turn = quat_from_rotvec((noise.rotation_rad * self._rng.standard_normal(3)).tolist())
        return np.array([*moved, *quat_normalise(quat_multiply(pose[3:].tolist(), turn))])


def _between(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    """The pose after ``share`` of the straight way, at constant angular velocity."""
    first = before[3:].tolist()
    whole = rotvec_from_quat(quat_multiply(quat_conjugate(first), after[3:].tolist()))
    turned = quat_multiply(first, quat_from_rotvec([share * part for part in whole]))
    return np.array([*(before[:3] + share * (after[:3] - before[:3])), *quat_normalise(turned)])


def noise_of(contract: Contract) -> PartNoise:
    """How the simulated cell of a contract has its parts tracked; the default is a perfect tracker."""
    return getattr(contract.sim, "part_noise", None) or PartNoise()
