"""Which measured poses of the tool can be true: what a driver or a wire got wrong moves nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from inril_core.contract import Contract
from inril_core.transforms import never_filled, pose_problem, quat_normalise, within_turn

Pose = tuple[float, float, float, float, float, float, float]

REFUSED_IN_A_ROW = 3
"""So many measurements in a row that the arm cannot have reached are a fault; fewer are left out."""

SPEED_MARGIN = 2.0
"""An arm may be this many times as fast as the contract lets it be commanded: it overshoots, and is pushed."""

LONGEST_GAP_S = 0.5
"""A longer gap between two measurements, or a clock that jumps, allows no further way than this one."""

START_MARGIN_M = 1.0
"""Commanding may begin this far outside the contract's box, along each axis: an arm may be parked there."""


def malformed(pose: Sequence[float]) -> str | None:
    """Why a measured tool pose (7, m and xyzw) is none at all; None: it may be one."""
    if problem := pose_problem(pose):
        return problem
    return "exactly zero without rotation, as in a message that nobody filled" if never_filled(pose) else None


class MeasuredPose:
    """The newest measured pose that the arm can have reached since the one before.

    Reachable is what lies within the contract's speeds (largest step times rate) times `SPEED_MARGIN`, for the time
    between the two stamps and one control period more, plus the wind-up by which the arm may lag.
    """

    def __init__(self, contract: Contract) -> None:
        limits, action, rate_hz = contract.limits, contract.action, contract.control_rate_hz
        self._speed_mps = SPEED_MARGIN * limits.max_translation_step_m * rate_hz
        self._speed_radps = SPEED_MARGIN * limits.max_rotation_step_rad * rate_hz
        self._lag_m, self._lag_rad = action.windup_translation_m, action.windup_rotation_rad
        self._period_s = 1.0 / rate_hz
        self._box_m = list(zip("xyz", limits.position_min_m, limits.position_max_m, strict=True))
        self.pose: Pose | None = None
        """float64[7], base frame, m and a unit quaternion xyzw; None before the first one."""
        self.refused_n = 0
        """Measurements refused in a row."""
        self.refused: Pose | None = None
        """The newest of them."""
        self.stamp_ns = 0
        """Of `pose`."""
        self._refused_stamp_ns = 0

    def restart(self) -> None:
        """The next measurement is taken as it is: the cell was laid out anew."""
        self.pose = self.refused = None
        self.refused_n = 0

    def can_be(self, pose: Sequence[float], stamp_ns: int) -> bool:
        """Whether a pose that somebody else made of a measurement can be true. It is not one more measurement."""
        if malformed(pose) is not None or self.pose is None:
            return False
        x, y, z, *quat = pose
        return self._can_reach(self.pose, self.stamp_ns, (x, y, z, *quat_normalise(quat)), stamp_ns)

    def take(self, pose: Sequence[float], stamp_ns: int, jump_allowed: bool) -> bool:
        """Take a measurement, or refuse it: whether it can be true.

        jump_allowed: something else may have moved the arm, such as a reset. A jump is then believed as soon as the
        next measurement confirms it.
        """
        if malformed(pose) is not None:
            return False  # a fault of its own
        x, y, z, *quat = pose
        found: Pose = (x, y, z, *quat_normalise(quat))
        if self.pose is not None and not self._can_reach(self.pose, self.stamp_ns, found, stamp_ns):
            confirmed = self.refused is not None and self._can_reach(
                self.refused, self._refused_stamp_ns, found, stamp_ns
            )
            self.refused_n += 1
            self.refused, self._refused_stamp_ns = found, stamp_ns
            if not (jump_allowed and confirmed):
                return False
        self.pose, self.stamp_ns = found, stamp_ns
        self.refused, self.refused_n = None, 0
        return True

    def too_far_to_start(self) -> str | None:
        """Why commanding cannot begin at the measured pose; None: it can."""
        assert self.pose is not None
        for (axis, low, high), value in zip(self._box_m, self.pose, strict=False):
            if not low - START_MARGIN_M <= value <= high + START_MARGIN_M:
                return (
                    f"measured {axis} = {value:.6g} m is over {START_MARGIN_M} m outside the contract's box "
                    f"[{low}, {high}]; look at the arm's driver, or bring the arm near the box"
                )
        return None

    def _can_reach(self, old: Pose, old_ns: int, new: Pose, new_ns: int) -> bool:
        time_s = min(abs(new_ns - old_ns) * 1e-9, LONGEST_GAP_S) + self._period_s
        x, y, z = new[0] - old[0], new[1] - old[1], new[2] - old[2]
        if not math.sqrt(x * x + y * y + z * z) <= self._speed_mps * time_s + self._lag_m:
            return False
        return within_turn(new[3:], old[3:], self._speed_radps * time_s + self._lag_rad)
