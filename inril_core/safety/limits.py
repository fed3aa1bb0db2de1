"""The limits on every command, applied after the choice who is in control: human, policy and reset alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inril_core.contract import Contract, DeltaPoseGripper
from inril_core.transforms import (
    Quaternion,
    Vector3,
    quat_difference,
    quat_from_rotvec,
    quat_multiply,
    quat_normalise,
)

FloatArray = NDArray[np.float64]

# A command that meets a limit up to rounding is not a violation of it.
_ROUNDING = 1e-9


class NonFiniteInput(ValueError):
    """An action or a measured pose holds NaN or infinity. Nothing may move on it."""


@dataclass(frozen=True, slots=True)
class Limited:
    """What became of one action.

    executed: float64[A], contract units: the delta really commanded, from the old commanded pose (the
        measured one if the contract says `delta_reference: measured`) to `target_pose`. Where `windup` acted
        because the arm was pushed away, it can leave [-1, 1]. A gripper's number comes last.
    target_pose: float64[7], base frame, m and xyzw.
    limits: names of the limits that changed the action, in the order they acted.
    stopped_by: names of those for which the contract asks for a stop; then `executed` is `ActionLimiter.still`
        and `target_pose` the old commanded pose. Empty: none.
    """

    executed: FloatArray
    target_pose: FloatArray
    limits: tuple[str, ...]
    stopped_by: tuple[str, ...] = ()


class ActionLimiter:
    """Turns delta actions into target poses that keep all limits of a contract.

    Holds the commanded pose, which `reference` sets and `apply` moves. Per action, in this order:

    1. `action_range`: each component into [-1, 1], then scaled to m and rad in the base frame; a gripper's
       number becomes a width and meets no other limit;
    2. `translation_step`, `rotation_step`: length of the step;
    3. `windup`: the commanded pose may lead the measured one by the contract's wind-up at most;
    4. `position_box`: an axis that is already outside (the arm was started or pushed there) may only move
       inwards, so that neither a jump back nor a way further out is commanded. Wins over `windup`;
    5. `tilt` of the tool's z axis from straight down, likewise.

    `action_range` and `windup` always clip; the others clip or stop as the contract's `on_violation` says.
    """

    def __init__(self, contract: Contract) -> None:
        action, limits = contract.action, contract.limits
        self._from_measured = action.delta_reference == "measured"
        self._translation_scale_m = float(action.translation_scale_m)
        self._rotation_scale_rad = float(action.rotation_scale_rad)
        self._windup_translation_m = float(action.windup_translation_m)
        self._windup_rotation_rad = float(action.windup_rotation_rad)
        self._max_translation_step_m = float(limits.max_translation_step_m)
        self._max_rotation_step_rad = float(limits.max_rotation_step_rad)
        self._max_tilt_rad = float(limits.max_tilt_rad)
        self._box_m = tuple(
            (float(low), float(high)) for low, high in zip(limits.position_min_m, limits.position_max_m, strict=True)
        )
        self._stops = {name for name, reaction in limits.on_violation.items() if reaction == "stop"}
        self._position: Vector3 | None = None
        self._quat: Quaternion = (0.0, 0.0, 0.0, 1.0)
        self.size = action.size
        self._open_m = action.gripper_open_m if isinstance(action, DeltaPoseGripper) else None
        self._fixed_width_m = math.nan if isinstance(action, DeltaPoseGripper) else float(action.gripper_width_m)
        self.begin()

    @property
    def commanded_pose(self) -> FloatArray | None:
        """float64[7], base frame, m and xyzw; None before the first `reference`."""
        return None if self._position is None else np.array(self._position + self._quat)

    def begin(self) -> None:
        """An episode begins: the gripper's command of the last one no longer counts."""
        self._gripper = -1.0
        self._gripper_width_m = self._fixed_width_m

    @property
    def gripper_width_m(self) -> float:
        """Commanded now; NaN where the contract's action moves the gripper and no action has come yet."""
        return self._gripper_width_m

    @property
    def still(self) -> tuple[float, ...]:
        """The action that changes nothing: A numbers, the gripper as last commanded (open before that)."""
        return (0.0,) * 6 if self._open_m is None else (*(0.0,) * 6, self._gripper)

    def reference(self, measured_pose: Sequence[float] | FloatArray) -> None:
        """Make the measured pose the commanded one, so that control changes without a bump.

        measured_pose: 7, base frame, m and xyzw.

        Raises:
            NonFiniteInput: the pose holds NaN or infinity.
            ValueError: it has not 7 numbers, or its quaternion names no rotation.
        """
        self._position, self._quat = _split_pose(measured_pose)

    def apply(self, action: Sequence[float] | FloatArray, measured_pose: Sequence[float] | FloatArray) -> Limited:
        """Limit `action` (A, contract units, base frame) and move the commanded pose by what is left of it.

        Raises:
            NonFiniteInput: the action or the pose holds NaN or infinity; the commanded pose has not moved.
            ValueError: a wrong size, or `reference` was never called.
        """
        if self._position is None:
            raise ValueError("ActionLimiter.apply before reference: there is no commanded pose to start from")
        asked = _finite(action, self.size, "action")
        measured, measured_quat = _split_pose(measured_pose)
        hits: list[str] = []
        if self._from_measured:
            old, old_quat = measured, measured_quat
        else:
            old, old_quat = self._position, self._quat
        start, start_quat = self._leash(old, old_quat, measured, measured_quat)

        step, turn = self._scaled(asked, hits)
        position = (start[0] + step[0], start[1] + step[1], start[2] + step[2])
        quat = quat_multiply(quat_from_rotvec(turn), start_quat)
        leashed, leashed_quat = self._leash(position, quat, measured, measured_quat)
        kept = leashed is position and leashed_quat is quat and start is old and start_quat is old_quat
        if not kept:
            hits.append("windup")
        position = self._into_box(leashed, start, hits)
        quat = quat_normalise(self._untilt(leashed_quat, start_quat, hits))

        stopped_by = tuple(name for name in hits if name in self._stops)
        if stopped_by:
            self._position, self._quat = old, old_quat
            return Limited(np.array(self.still), np.array(old + old_quat), tuple(hits), stopped_by)
        self._position, self._quat = position, quat
        if self._open_m is not None:
            self._gripper = min(max(asked[6], -1.0), 1.0)
            self._gripper_width_m = 0.5 * (1.0 - self._gripper) * self._open_m
        executed = np.array([*self._delta(position, quat, old, old_quat), *self.still[6:]] if hits else asked)
        return Limited(executed, np.array(position + quat), tuple(hits))

    def _scaled(self, action: list[float], hits: list[str]) -> tuple[Vector3, Vector3]:
        """Step (m) and rotation vector (rad) of an action, within the range and the step limits."""
        clipped = [min(max(value, -1.0), 1.0) for value in action]
        if clipped != action:
            hits.append("action_range")
        x, y, z, rx, ry, rz = clipped[:6]
        scale = self._translation_scale_m
        step = _shorten((x * scale, y * scale, z * scale), self._max_translation_step_m, "translation_step", hits)
        scale = self._rotation_scale_rad
        turn = _shorten((rx * scale, ry * scale, rz * scale), self._max_rotation_step_rad, "rotation_step", hits)
        return step, turn

    def _leash(
        self, position: Vector3, quat: Quaternion, measured: Vector3, measured_quat: Quaternion
    ) -> tuple[Vector3, Quaternion]:
        """The pose pulled to within the wind-up of the measured one; the same objects where it is there."""
        x, y, z = position[0] - measured[0], position[1] - measured[1], position[2] - measured[2]
        lead_m = math.sqrt(x * x + y * y + z * z)
        if lead_m > self._windup_translation_m + _ROUNDING:
            s = self._windup_translation_m / lead_m
            position = (measured[0] + s * x, measured[1] + s * y, measured[2] + s * z)
        turn = quat_difference(quat, measured_quat)
        lead_rad = math.sqrt(turn[0] * turn[0] + turn[1] * turn[1] + turn[2] * turn[2])
        if lead_rad > self._windup_rotation_rad + _ROUNDING:
            s = self._windup_rotation_rad / lead_rad
            quat = quat_multiply(quat_from_rotvec((s * turn[0], s * turn[1], s * turn[2])), measured_quat)
        return position, quat

    def _into_box(self, position: Vector3, start: Vector3, hits: list[str]) -> Vector3:
        inside = tuple(
            min(max(value, min(low, origin)), max(high, origin))
            for value, origin, (low, high) in zip(position, start, self._box_m, strict=True)
        )
        if inside == position:
            return position
        hits.append("position_box")
        return inside[0], inside[1], inside[2]

    def _untilt(self, quat: Quaternion, start_quat: Quaternion, hits: list[str]) -> Quaternion:
        """Turn the tool's z axis back towards straight down by what exceeds the allowed tilt."""
        z_axis, tilt_rad = _tilt(quat)
        if tilt_rad <= self._max_tilt_rad + _ROUNDING:
            return quat
        allowed_rad = max(self._max_tilt_rad, _tilt(start_quat)[1])
        if tilt_rad <= allowed_rad + _ROUNDING:
            return quat
        hits.append("tilt")
        # z_axis x (0, 0, -1); straight up has no such axis, and any horizontal one will do
        x, y = -z_axis[1], z_axis[0]
        norm = math.hypot(x, y)
        x, y = (x / norm, y / norm) if norm > _ROUNDING else (1.0, 0.0)
        excess_rad = tilt_rad - allowed_rad
        return quat_multiply(quat_from_rotvec((x * excess_rad, y * excess_rad, 0.0)), quat)

    def _delta(self, position: Vector3, quat: Quaternion, old: Vector3, old_quat: Quaternion) -> list[float]:
        """Action, contract units, that leads from the old pose to the new one."""
        move = [(new - was) / self._translation_scale_m for new, was in zip(position, old, strict=True)]
        return move + [angle_rad / self._rotation_scale_rad for angle_rad in quat_difference(quat, old_quat)]


def _tilt(quat: Quaternion) -> tuple[Vector3, float]:
    """The tool's z axis in the base frame and its angle (rad) from straight down."""
    x, y, z, w = quat
    axis = (2.0 * (x * z + y * w), 2.0 * (y * z - x * w), 1.0 - 2.0 * (x * x + y * y))
    return axis, math.atan2(math.hypot(axis[0], axis[1]), -axis[2])


def _shorten(vector: Vector3, longest: float, name: str, hits: list[str]) -> Vector3:
    x, y, z = vector
    length = math.sqrt(x * x + y * y + z * z)
    if length <= longest * (1.0 + _ROUNDING):
        return vector
    hits.append(name)
    s = longest / length
    return (x * s, y * s, z * s)


def _finite(values: Sequence[float] | FloatArray, size: int, name: str) -> list[float]:
    numbers: list[float] = values.tolist() if isinstance(values, np.ndarray) else list(map(float, values))
    if len(numbers) != size:
        raise ValueError(f"{name} has {len(numbers)} numbers: must have {size}")
    for index, number in enumerate(numbers):
        if not math.isfinite(number):
            raise NonFiniteInput(f"{name}[{index}] = {number}: must be finite")
    return numbers


def _split_pose(pose: Sequence[float] | FloatArray) -> tuple[Vector3, Quaternion]:
    x, y, z, *quat = _finite(pose, 7, "measured_pose")
    return (x, y, z), quat_normalise(quat)
