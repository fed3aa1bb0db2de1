"""The last check of every Target: it knows the contract and the previous Target, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from inril_core.contract import Contract, DeltaPoseGripper
from inril_core.transforms import quat_conjugate, quat_multiply, tilt_rad

# What the limiter's own rounding may add; far below what an arm can resolve.
ROUNDING_M = 1e-9
ROUNDING_RAD = 1e-7
ROUNDING_NORM = 1e-6


class TargetLimits(NamedTuple):
    """What the contract says of a Target."""

    position_min_m: tuple[float, float, float]
    position_max_m: tuple[float, float, float]
    max_translation_step_m: float
    max_rotation_step_rad: float
    max_tilt_rad: float
    gripper_min_m: float
    gripper_max_m: float

    @classmethod
    def of(cls, contract: Contract) -> TargetLimits:
        """The limits of a contract."""
        limits, action = contract.limits, contract.action
        if isinstance(action, DeltaPoseGripper):
            gripper_m = (0.0, float(action.gripper_open_m))
        else:
            gripper_m = (float(action.gripper_width_m), float(action.gripper_width_m))
        return cls(
            limits.position_min_m,
            limits.position_max_m,
            limits.max_translation_step_m,
            limits.max_rotation_step_rad,
            limits.max_tilt_rad,
            *gripper_m,
        )


def violation(
    limits: TargetLimits, previous: Sequence[float], pose: Sequence[float], gripper_width_m: float
) -> str | None:
    """The first rule that a Target breaks, in words; None: it may leave.

    previous: 7, the pose of the Target before, or where the arm was measured when commanding began. An axis (or the
    tilt) that was outside its limit there may stay or come back, but not go further out.
    pose: 7, the new Target. Both m and xyzw, base frame. gripper_width_m: NaN keeps the width.
    """
    if len(pose) != 7 or not all(map(math.isfinite, pose)):
        return f"pose {tuple(pose)} must be 7 finite numbers"
    x, y, z, *quat = pose
    old_x, old_y, old_z, *old_quat = previous
    qx, qy, qz, qw = quat
    norm = math.sqrt(qx * qx + qy * qy + qz * qz + qw * qw)
    if abs(norm - 1.0) > ROUNDING_NORM:
        return f"quaternion xyzw = {tuple(quat)} has norm {norm}: must be 1"
    for axis, value, old, low, high in zip(
        "xyz", (x, y, z), (old_x, old_y, old_z), limits.position_min_m, limits.position_max_m, strict=True
    ):
        if not (low if low < old else old) - ROUNDING_M <= value <= (high if high > old else old) + ROUNDING_M:
            return f"position {axis} = {value} m leaves the box [{low}, {high}]"
    x, y, z = x - old_x, y - old_y, z - old_z
    step_m = math.sqrt(x * x + y * y + z * z)
    if not step_m <= limits.max_translation_step_m + ROUNDING_M:
        return f"translation step {step_m:.6f} m is above {limits.max_translation_step_m}"
    x, y, z, w = quat_multiply(quat, quat_conjugate(old_quat))
    step_rad = 2.0 * math.atan2(math.sqrt(x * x + y * y + z * z), abs(w))
    if not step_rad <= limits.max_rotation_step_rad + ROUNDING_RAD:
        return f"rotation step {step_rad:.6f} rad is above {limits.max_rotation_step_rad}"
    tilt = tilt_rad(quat)
    if tilt > limits.max_tilt_rad + ROUNDING_RAD and not tilt <= tilt_rad(old_quat) + ROUNDING_RAD:
        return f"tilt {tilt:.6f} rad is above {limits.max_tilt_rad}"
    in_range = limits.gripper_min_m - ROUNDING_M <= gripper_width_m <= limits.gripper_max_m + ROUNDING_M
    if not in_range and not math.isnan(gripper_width_m):
        return f"gripper width {gripper_width_m} m is outside [{limits.gripper_min_m}, {limits.gripper_max_m}]"
    return None
