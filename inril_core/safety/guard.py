"""Walls, keep-out boxes, speeds, accelerations and joints as limits on one step of the commanded pose.

Every limit is written as a row or a ball of `inril_core.safety.nearest`, linearised at the last Target. A keep-out box
becomes the plane that touches it at the point nearest to the tool: what stays in front of that plane on both ends of a
step has not crossed the box in between. Standing still keeps every row, so that a hold is always allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from inril_core.contract import Contract
from inril_core.contract.limits import KeepOutBox
from inril_core.safety.joint_model import JointModel, JointSample
from inril_core.safety.nearest import Ball, Row, Vector6, ball_margin, keeps, nearest, row_margin
from inril_core.transforms import (
    Quaternion,
    Vector3,
    quat_difference,
    quat_from_rotvec,
    quat_multiply,
    quat_normalise,
    tilt_rad,
)

Pose = tuple[Vector3, Quaternion]
Hits = list[tuple[str, float]]
"""Names of limits that acted, each with its margin."""

ROUNDING = 1e-9
"""A step that meets a limit up to rounding (m and rad) is not a violation of it."""
SETTLED = 1e-8
"""Likewise after a pose was made of the step."""

INFEASIBLE = "infeasible"
"""Stands among the limits where no allowed motion was found: the tool stands still in this step, or does not turn."""

JOINT_STATE = "joint_state"
"""Likewise where the contract limits joints whose state is unknown."""

_ZERO: Vector3 = (0.0, 0.0, 0.0)
_AXES = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_UPRIGHT_RAD = 1e-6
"""Below this tilt there is no direction in which it grows."""

BRAKING_SHARE = 1.0 / math.sqrt(3.0)
"""Of the acceleration, for each wall: three walls at right angles can be braked for at once."""


def wall_of(box: KeepOutBox, point: Sequence[float]) -> tuple[Vector3, float]:
    """Unit normal that points from a box to a point of the base frame, and the signed distance (m) along it.

    Outside it is the direction from the nearest point of the box, inside that of the nearest face.
    """
    away = [value - centre for value, centre in zip(point, box.center_m, strict=True)]
    local = [sum(a * b for a, b in zip(axis, away, strict=True)) for axis in box.axes]
    gaps = [abs(value) - 0.5 * size for value, size in zip(local, box.size_m, strict=True)]
    out = [max(gap, 0.0) for gap in gaps]
    distance_m = math.hypot(*out)
    if distance_m < 1e-12:
        face = max(range(3), key=gaps.__getitem__)
        distance_m, out = gaps[face], [float(axis == face) for axis in range(3)]
        length = 1.0
    else:
        length = distance_m
    turned = [math.copysign(gap, value) / length for gap, value in zip(out, local, strict=True)]
    x, y, z = (sum(part * axis[i] for part, axis in zip(turned, box.axes, strict=True)) for i in range(3))
    return (x, y, z), distance_m


def stoppable(distance: float, slowing: float) -> float:
    """The largest step after which steps that shrink by `slowing` each end within `distance`, itself included.

    With n steps after it, ``(n + 1) s - slowing n (n + 1) / 2 = distance``, where n is the largest number with
    ``slowing n (n + 1) / 2 <= distance``.
    """
    if distance <= 0.0 or slowing <= 0.0:
        return 0.0
    if not math.isfinite(slowing):
        return distance
    n = math.floor((math.sqrt(1.0 + 8.0 * distance / slowing) - 1.0) / 2.0)
    return (distance + 0.5 * slowing * n * (n + 1)) / (n + 1)


class StepLimits(NamedTuple):
    """What one step has to keep."""

    rows: list[Row]
    balls: list[Ball]


class MotionGuard:
    """The limits of a contract's sections `space`, `motion` and `joints`, on each step.

    model: of the joints; needed where the contract limits them.
    """

    def __init__(self, contract: Contract, model: JointModel | None) -> None:
        limits, rate_hz = contract.limits, contract.control_rate_hz
        self._low_m, self._high_m = limits.position_min_m, limits.position_max_m
        self._max_tilt_rad = limits.max_tilt_rad
        space, motion = limits.space, limits.motion
        self._walls = () if space is None else space.walls
        self._boxes = () if space is None else space.keep_out
        self._radius_m = 0.0 if space is None else space.tool_radius_m
        self._joints, self._model = limits.joints, model
        self._rate_hz = rate_hz
        self._speeds: list[Ball] = []
        self._slowing_m = self._slowing_rad = math.inf
        if motion is not None:
            if motion.max_speed_mps is not None:
                self._speeds.append(Ball("speed", False, _ZERO, motion.max_speed_mps / rate_hz, rate_hz))
            if motion.max_turn_radps is not None:
                self._speeds.append(Ball("turn_speed", True, _ZERO, motion.max_turn_radps / rate_hz, rate_hz))
            if motion.max_acceleration_mps2 is not None:
                self._slowing_m = motion.max_acceleration_mps2 / rate_hz**2
            if motion.max_turn_acceleration_radps2 is not None:
                self._slowing_rad = motion.max_turn_acceleration_radps2 / rate_hz**2
        self._late_ns = round(contract.staleness.robot_state_s * 1e9)
        self.joints: JointSample | None = None
        """The newest measured joints, of the same message as their tool pose."""

    def unusable(self) -> str | None:
        """Why the joints' limits cannot be kept; None: they can, or there are none."""
        if self._joints is None or self._model is None:
            return None
        return "no joint positions were measured" if self.joints is None else self._model.unusable(self.joints)

    def limits(
        self, old: Vector3, old_quat: Quaternion, motion: tuple[Vector3, Vector3], measured_ns: int
    ) -> StepLimits | None:
        """What a step from the last Target has to keep; None: the joints are unknown, and nothing may move.

        motion: step (m) and turn (rad) that led to the last Target. measured_ns: stamp of the measured pose.
        """
        rows = [*self._position_rows(old)]
        tilt = self._tilt_row(old_quat)
        rows += [] if tilt is None else [tilt]
        if self._joints is not None:
            stale = self.joints is not None and measured_ns - self.joints.stamp_ns > self._late_ns
            if self._model is None or stale or self.unusable() is not None:
                return None
            assert self.joints is not None
            rows += self._model.rows(self.joints, old, old_quat)
        if math.isfinite(self._slowing_m) or math.isfinite(self._slowing_rad):
            rows = [row if row.name.startswith("joint_speed") else self._braked(row) for row in rows]
        return StepLimits(rows, [*self._speeds, *self._accelerations(motion)])

    def allows(self, limits: StepLimits, old: Pose, new: Pose, tolerance: float = ROUNDING) -> bool:
        """Whether the step from one pose to another keeps the limits, up to `tolerance` (m and rad)."""
        return self._allows(limits, old, step_between(*old, *new), tolerance)

    def nearest(
        self,
        limits: StepLimits,
        old: Pose,
        wanted: Pose,
        scales: tuple[float, float],
        untilt: Callable[[Quaternion], Quaternion],
        hits: Hits,
    ) -> Pose:
        """The allowed pose nearest to the wanted one, or the old one where none is found; names what it met.

        scales: of the action, m and rad per unit. untilt: turns back what a tilt is above its limit, since the row for
        it is exact for small turns only. Where the turn then breaks a limit, the tool does not turn in this step.
        """
        asked = step_between(*old, *wanted)
        solved = nearest(asked, limits.rows, limits.balls, scales)
        if solved is None:
            hits.append((INFEASIBLE, math.nan))
            return old
        hits += _touched(solved[1], asked, limits, {name for name, _ in hits})
        step = solved[0]
        position = (old[0][0] + step[0], old[0][1] + step[1], old[0][2] + step[2])
        quat = quat_normalise(untilt(quat_normalise(quat_multiply(quat_from_rotvec(step[3:]), old[1]))))
        new = position, quat
        if self.allows(limits, old, new, SETTLED):
            return new
        hits.append((INFEASIBLE, math.nan))
        still = StepLimits(limits.rows, [ball for ball in limits.balls if not ball.turn])
        return (position, old[1]) if self.allows(still, old, (position, old[1]), SETTLED) else old

    def _allows(self, limits: StepLimits, old: Pose, step: Vector6, tolerance: float) -> bool:
        if not keeps(step, limits.rows, limits.balls, tolerance):
            return False
        if self._joints is None:
            return True
        assert self._model is not None and self.joints is not None
        return not self._model.forbids(self.joints, *old, step)

    def _position_rows(self, old: Vector3) -> Iterator[Row]:
        for axis, value, low, high in zip(_AXES, old, self._low_m, self._high_m, strict=True):
            x, y, z = axis
            yield Row("position_box", (x, y, z, 0.0, 0.0, 0.0), max(high - value, 0.0))
            yield Row("position_box", (-x, -y, -z, 0.0, 0.0, 0.0), max(value - low, 0.0))
        for name, (x, y, z, d) in self._walls:
            room_m = d - x * old[0] - y * old[1] - z * old[2]
            yield Row(name, (x, y, z, 0.0, 0.0, 0.0), max(room_m, 0.0))
        for box in self._boxes:
            (x, y, z), distance_m = wall_of(box, old)
            yield Row(f"keep_out:{box.name}", (-x, -y, -z, 0.0, 0.0, 0.0), max(distance_m - self._radius_m, 0.0))

    def _tilt_row(self, quat: Quaternion) -> Row | None:
        """Tilt grows by the turn about z x (0, 0, -1), z being the tool's axis; see `ActionLimiter`."""
        tilt = tilt_rad(quat)
        qx, qy, qz, qw = quat
        x, y = -2.0 * (qy * qz - qx * qw), 2.0 * (qx * qz + qy * qw)
        norm = math.hypot(x, y)
        if tilt < _UPRIGHT_RAD or norm < _UPRIGHT_RAD:
            return None
        return Row("tilt", (0.0, 0.0, 0.0, -x / norm, -y / norm, 0.0), max(self._max_tilt_rad - tilt, 0.0))

    def _braked(self, row: Row) -> Row:
        """The row with the bound from which steps can still shrink to nothing in time."""
        a, b, c, d, e, f = row.normal
        move, turn = math.hypot(a, b, c), math.hypot(d, e, f)
        slowing = (move * self._slowing_m if move > 0.0 else 0.0) + (turn * self._slowing_rad if turn > 0.0 else 0.0)
        return row._replace(bound=stoppable(row.bound, BRAKING_SHARE * slowing))

    def _accelerations(self, motion: tuple[Vector3, Vector3]) -> Iterator[Ball]:
        square = self._rate_hz**2
        if math.isfinite(self._slowing_m):
            yield Ball("acceleration", False, motion[0], self._slowing_m, square)
        if math.isfinite(self._slowing_rad):
            yield Ball("turn_acceleration", True, motion[1], self._slowing_rad, square)


def _touched(names: Sequence[str], asked: Vector6, limits: StepLimits, known: set[str]) -> Hits:
    """The limits that the solution touches, each with the smallest margin that was left for what was asked."""
    margins: dict[str, float] = {}
    found = [(row.name, row_margin(row, asked)) for row in limits.rows]
    found += [(ball.name, ball_margin(ball, asked)) for ball in limits.balls]
    for name, margin in found:
        margins[name] = min(margin, margins.get(name, math.inf))
    return [(name, margins[name]) for name in names if name not in known]


def step_between(old: Vector3, old_quat: Quaternion, new: Vector3, new_quat: Quaternion) -> Vector6:
    """Translation (m) and rotation vector (rad) that lead from one pose to another."""
    return (new[0] - old[0], new[1] - old[1], new[2] - old[2], *quat_difference(new_quat, old_quat))
