"""The last check of every Target: it knows the contract and the previous Target, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from inril_core.contract import Contract, DeltaPoseGripper
from inril_core.contract.limits import KeepOutBox, Plane
from inril_core.transforms import pose_problem, quat_conjugate, quat_difference, quat_multiply, tilt_rad

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
    is_guarded: bool = False
    """One of the following is bounded."""
    walls: tuple[tuple[str, Plane], ...] = ()
    """Planes that the tool point stays behind, the radius around it counted in."""
    boxes: tuple[KeepOutBox, ...] = ()
    radius_m: float = 0.0
    """That the tool point keeps from the boxes."""
    step_m: float = math.inf
    """By the contract's largest speed, and so on."""
    turn_rad: float = math.inf
    step_change_m: float = math.inf
    turn_change_rad: float = math.inf

    @classmethod
    def of(cls, contract: Contract) -> TargetLimits:
        """The limits of a contract."""
        limits, action = contract.limits, contract.action
        if isinstance(action, DeltaPoseGripper):
            gripper_m = (0.0, float(action.gripper_open_m))
        else:
            gripper_m = (float(action.gripper_width_m), float(action.gripper_width_m))
        space, motion, rate_hz = limits.space, limits.motion, contract.control_rate_hz
        more: dict[str, Any] = {}
        if space is not None:
            more.update(walls=space.walls, boxes=space.keep_out, radius_m=space.tool_radius_m)
        if motion is not None:
            more.update(
                step_m=_over(motion.max_speed_mps, rate_hz),
                turn_rad=_over(motion.max_turn_radps, rate_hz),
                step_change_m=_over(motion.max_acceleration_mps2, rate_hz**2),
                turn_change_rad=_over(motion.max_turn_acceleration_radps2, rate_hz**2),
            )
        more["is_guarded"] = bool(more)
        return cls(
            limits.position_min_m,
            limits.position_max_m,
            limits.max_translation_step_m,
            limits.max_rotation_step_rad,
            limits.max_tilt_rad,
            *gripper_m,
            **more,
        )


def _over(most: float | None, rate: float) -> float:
    return math.inf if most is None else most / rate


def violation(
    limits: TargetLimits,
    previous: Sequence[float],
    pose: Sequence[float],
    gripper_width_m: float,
    before: Sequence[float] | None = None,
) -> str | None:
    """The first rule that a Target breaks, in words; None: it may leave.

    previous: 7, the pose of the Target before, or where the arm was measured when commanding began. An axis (or the
    tilt) that was outside its limit there may stay or come back, but not go further out.
    pose: 7, the new Target. Both m and xyzw, base frame. gripper_width_m: NaN keeps the width.
    before: 7, the Target before `previous`, for the acceleration; None: the tool stood still.
    """
    if problem := pose_problem(pose, ROUNDING_NORM):
        return f"pose: {problem}"
    x, y, z, *quat = pose
    old_x, old_y, old_z, *old_quat = previous
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
    if not limits.is_guarded:
        return None
    if limits.walls or limits.boxes:
        wrong = _out_of_space(limits, previous, pose)
        if wrong is not None:
            return wrong
    return _too_fast(limits, previous, pose, before, step_m, step_rad)


def _out_of_space(limits: TargetLimits, previous: Sequence[float], pose: Sequence[float]) -> str | None:
    """The first wall or box that the tool is behind or in, or has crossed, and was not as deep in before."""
    for name, (x, y, z, d) in limits.walls:
        depth_m = x * pose[0] + y * pose[1] + z * pose[2] - d
        if depth_m > ROUNDING_M and not depth_m <= x * previous[0] + y * previous[1] + z * previous[2] - d + ROUNDING_M:
            return f"the tool is {depth_m:.6f} m behind {name}"
    for box in limits.boxes:
        at, was = _in_box(box, pose), _in_box(box, previous)
        half = [0.5 * size for size in box.size_m]
        near = [min(max(value, -edge), edge) for value, edge in zip(was, half, strict=True)]
        gap_m = math.dist(was, near)
        if gap_m > ROUNDING_M:  # all in front of the plane at `near` across the shortest way there is outside
            normal = [(value - edge) / gap_m for value, edge in zip(was, near, strict=True)]
            clear_m = sum(n * (value - edge) for n, value, edge in zip(normal, at, near, strict=True))
        else:
            gap_m = max(abs(value) - edge for value, edge in zip(was, half, strict=True))
            clear_m = max(abs(value) - edge for value, edge in zip(at, half, strict=True))
        if not clear_m >= min(limits.radius_m, gap_m) - ROUNDING_M:
            return f"the tool comes within {clear_m:.6f} m of keep_out:{box.name}, allowed {limits.radius_m}"
    return None


def _in_box(box: KeepOutBox, pose: Sequence[float]) -> list[float]:
    """Position in the box's own frame, m."""
    away = [pose[axis] - box.center_m[axis] for axis in range(3)]
    return [axis[0] * away[0] + axis[1] * away[1] + axis[2] * away[2] for axis in box.axes]


def _too_fast(
    limits: TargetLimits,
    previous: Sequence[float],
    pose: Sequence[float],
    before: Sequence[float] | None,
    step_m: float,
    step_rad: float,
) -> str | None:
    """Speed and acceleration; a tool that stands still, or does not turn, keeps them."""
    if not step_m <= limits.step_m + ROUNDING_M:
        return f"step {step_m:.6f} m is above {limits.step_m} by the largest speed"
    if not step_rad <= limits.turn_rad + ROUNDING_RAD:
        return f"turn {step_rad:.6f} rad is above {limits.turn_rad} by the largest turn rate"
    before = previous if before is None else before
    if step_m > ROUNDING_M and limits.step_change_m < math.inf:
        change_m = math.hypot(*(pose[i] - 2.0 * previous[i] + before[i] for i in range(3)))
        if not change_m <= limits.step_change_m + ROUNDING_M:
            return f"step changes by {change_m:.6f} m, above {limits.step_change_m} by the largest acceleration"
    if step_rad > ROUNDING_RAD and limits.turn_change_rad < math.inf:
        turn, old = quat_difference(pose[3:], previous[3:]), quat_difference(previous[3:], before[3:])
        change_rad = math.dist(turn, old)
        if not change_rad <= limits.turn_change_rad + ROUNDING_RAD:
            return f"turn changes by {change_rad:.6f} rad, above {limits.turn_change_rad} by the largest acceleration"
    return None
