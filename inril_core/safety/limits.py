"""The limits on every command, applied after the choice who is in control: human and policy alike.

Over 400 lines: the order in which the limits act, and each of them, are read side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inril_core.contract import Contract, DeltaPoseGripper
from inril_core.errors import ConfigError
from inril_core.safety.guard import JOINT_STATE, Hits, MotionGuard, step_between
from inril_core.safety.handover import share
from inril_core.safety.joint_model import JointModel, JointSample
from inril_core.safety.nearest import Ball
from inril_core.transforms import (
    Quaternion,
    Vector3,
    quat_difference,
    quat_from_rotvec,
    quat_multiply,
    quat_normalise,
    tilt_rad,
)

FloatArray = NDArray[np.float64]
Floats = Sequence[float] | FloatArray

# A command that meets a limit up to rounding is not a violation of it.
_ROUNDING = 1e-9
_STILL: Vector3 = (0.0, 0.0, 0.0)


class NonFiniteInput(ValueError):
    """An action or a measured pose holds NaN or infinity. Nothing may move on it."""


@dataclass(frozen=True, slots=True)
class Limited:
    """What became of one action."""

    executed: tuple[float, ...]
    """A numbers, contract units: the delta really commanded, from the old commanded pose (the measured one if the
    contract says `delta_reference: measured`) to `target_pose`. A gripper's number comes last."""

    target_pose: tuple[float, ...]
    """7, base frame, m and xyzw."""

    limits: tuple[str, ...]
    """Names of the limits that changed the action, in the order they acted."""

    stopped_by: tuple[str, ...] = ()
    """Names of those for which the contract asks for a stop; then `executed` is `ActionLimiter.still` and
    `target_pose` the old commanded pose. Empty: none."""

    margins: tuple[float, ...] = ()
    """One per name in `limits`, in the limit's unit (m, rad, m/s, ...; `action_range`: the action's): what was left of
    it for the motion asked for. Below 0: it was beyond the limit by so much; 0 or above: only the way around another
    limit has met it. NaN: `infeasible` and `joint_state`, which have no unit."""


class ActionLimiter:
    """Turns delta actions into target poses that keep all limits of a contract.

    Holds the commanded pose, which `reference` sets and `apply` moves. The limits hold against the commanded pose,
    whatever is measured. Per action, in this order:

    1. `action_range`: each component into [-1, 1], then scaled to m and rad in the base frame; a gripper's
       number becomes a width and meets no other limit;
    2. `translation_step`, `rotation_step`: length of the step from the old commanded pose to the new one;
    3. `windup`: the commanded pose may lead the measured one by the contract's wind-up at most, or, where it leads by
       more (the arm was pushed), not by more than before. It only ever shortens the step;
    4. `position_box`: an axis that is already outside (the arm was started there) may only move inwards, so that
       neither a jump back nor a way further out is commanded. Wins over `windup`;
    5. `tilt` of the tool's z axis from straight down, likewise;
    6. `handover`, where control has just changed hands: see `inril_core.safety.handover`.

    Where the contract has a section `space`, `motion` or `joints`, `inril_core.safety.guard` says what else the step
    has to keep. A step that does not is replaced by the nearest one to the action as scaled in 1. that keeps all of it
    and 2. to 6. at once (`inril_core.safety.nearest`), so that the tool slides along a wall. Where there is none, the
    tool stands still: `infeasible`.

    `action_range`, `windup` and `handover` always clip; the others clip or stop as the contract's `on_violation` says.

    joint_model: of the arm, where the contract has a section `joints`.

    Raises:
        ConfigError: that section is there without a model.
    """

    def __init__(self, contract: Contract, joint_model: JointModel | None = None) -> None:
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
        self._stops = {str(name) for name, reaction in limits.on_violation.items() if reaction == "stop"}
        if limits.joints is not None and joint_model is None:
            raise ConfigError("limits.joints is given without a model of the arm; give the URDF, or remove the section")
        is_guarded = limits.space is not None or limits.motion is not None or limits.joints is not None
        self._guard = MotionGuard(contract, joint_model) if is_guarded else None
        self._motion: tuple[Vector3, Vector3] = (_STILL, _STILL)
        self.measured_ns = 0
        """Stamp of the measured pose; with it the age of `saw_joints` is judged."""
        self._position: Vector3 | None = None
        self._quat: Quaternion = (0.0, 0.0, 0.0, 1.0)
        self.size = action.size
        self._open_m = action.gripper_open_m if isinstance(action, DeltaPoseGripper) else None
        self._fixed_width_m = math.nan if isinstance(action, DeltaPoseGripper) else float(action.gripper_width_m)
        self.begin()

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

    def reference(self, measured_pose: Floats) -> None:
        """Make the measured pose the commanded one: commanding begins where the arm is, so it does not move.

        measured_pose: 7, base frame, m and xyzw.

        Raises:
            NonFiniteInput: the pose holds NaN or infinity.
            ValueError: it has not 7 numbers, or its quaternion names no rotation.
        """
        self._position, self._quat = _split_pose(measured_pose)
        self.rest()

    def rest(self) -> None:
        """The commanded pose stood still for one period: acceleration counts from there."""
        self._motion = (_STILL, _STILL)

    def saw_joints(self, sample: JointSample) -> None:
        """A measured state of the joints. Only a contract with a section `joints` looks at it."""
        if self._guard is not None:
            self._guard.joints = sample

    def joints_doubt(self) -> str | None:
        """Why the limits of the joints cannot be kept now; None: they can, or there are none."""
        return None if self._guard is None else self._guard.unusable()

    def forget(self) -> None:
        """Nothing is commanded any more, until the next `reference`."""
        self._position = None

    def apply(self, action: Floats, measured_pose: Floats, before: tuple[Vector3, Vector3] | None = None) -> Limited:
        """Limit `action` (A, contract units, base frame) and move the commanded pose by what is left of it.

        before: where control has changed hands: step (m) and turn (rad) of the tick before; None: it has not.

        Raises:
            NonFiniteInput: the action or the pose holds NaN or infinity; the commanded pose has not moved.
            ValueError: a wrong size, or `reference` was never called.
        """
        old, old_quat = self._position, self._quat
        if old is None:
            raise ValueError("ActionLimiter.apply before reference: there is no commanded pose to start from")
        asked = _finite(action, self.size, "action")
        measured, measured_quat = _split_pose(measured_pose)
        hits: Hits = []
        base, base_quat = (measured, measured_quat) if self._from_measured else (old, old_quat)
        step, turn = self._scaled(asked, hits)
        scaled = len(hits)
        position = (base[0] + step[0], base[1] + step[1], base[2] + step[2])
        quat = quat_multiply(quat_from_rotvec(turn), base_quat)
        wanted, wanted_quat = position, quat
        if self._from_measured:
            position = self._within_step(position, old, hits)
        leashed = self._leash(position, old, measured)
        leashed_quat = self._leash_turn(quat, old_quat, measured_quat)
        if leashed is not position or leashed_quat is not quat:
            hits.append(("windup", self._lead_margin(position, quat, old, old_quat, measured, measured_quat)))
        position = self._into_box(leashed, old, hits)
        quat = quat_normalise(self._untilt(leashed_quat, old_quat, hits))
        if hits or self._from_measured:
            quat = self._within_turn(quat, old_quat, hits)
        if before is not None:
            position, quat = self._handed_over(position, quat, old, old_quat, before, hits)
        if self._guard is not None:
            position, quat = self._guarded(
                (position, quat),
                (wanted, wanted_quat),
                (old, old_quat),
                (measured, measured_quat),
                before,
                hits,
                scaled,
            )

        names: tuple[str, ...] = ()
        margins: tuple[float, ...] = ()
        if hits:
            names, margins = zip(*hits, strict=True)
            stopped_by = tuple(name for name in names if name.partition(":")[0] in self._stops) if self._stops else ()
            if stopped_by:
                self.rest()
                return Limited(self.still, old + old_quat, names, stopped_by, margins)
        if self._guard is not None:
            moved_by = step_between(old, old_quat, position, quat)
            self._motion = moved_by[:3], moved_by[3:]
        self._position, self._quat = position, quat
        if self._open_m is not None:
            self._gripper = min(max(asked[6], -1.0), 1.0)
            self._gripper_width_m = 0.5 * (1.0 - self._gripper) * self._open_m
        executed = (*self._delta(position, quat, base, base_quat), *self.still[6:]) if hits else tuple(asked)
        return Limited(executed, position + quat, names, (), margins)

    def _guarded(
        self,
        chain: tuple[Vector3, Quaternion],
        wanted: tuple[Vector3, Quaternion],
        old: tuple[Vector3, Quaternion],
        measured: tuple[Vector3, Quaternion],
        before: tuple[Vector3, Vector3] | None,
        hits: Hits,
        scaled: int,
    ) -> tuple[Vector3, Quaternion]:
        """What the guard leaves of `chain`, the pose after all limits but the guard's.

        wanted: as asked; of the `hits` the first `scaled` ones made it that.
        """
        assert self._guard is not None
        limits = self._guard.limits(*old, self._motion, self.measured_ns)
        if limits is None:
            hits.append((JOINT_STATE, math.nan))
            return old
        if self._guard.allows(limits, old, chain):
            return chain
        del hits[scaled:]
        most_m, most_rad = self._max_translation_step_m, self._max_rotation_step_rad
        # as `_leash` and `_leash_turn`; the turn's is exact for small leads
        back = step_between(*old, *measured)
        lead_m, lead_rad = math.hypot(*back[:3]), math.hypot(*back[3:])
        pulled = [
            Ball("translation_step", False, _STILL, most_m),
            Ball("rotation_step", True, _STILL, most_rad),
            Ball("windup", False, back[:3], max(self._windup_translation_m, lead_m)),
            Ball("windup", True, back[3:], max(self._windup_rotation_rad, lead_rad)),
        ]
        if before is not None:
            pulled += [Ball("handover", False, before[0], most_m), Ball("handover", True, before[1], most_rad)]
        limits.balls.extend(pulled)
        scales = self._translation_scale_m, self._rotation_scale_rad
        return self._guard.nearest(limits, old, wanted, scales, lambda quat: self._untilt(quat, old[1], []), hits)

    def _lead_margin(
        self,
        position: Vector3,
        quat: Quaternion,
        old: Vector3,
        old_quat: Quaternion,
        measured: Vector3,
        measured_quat: Quaternion,
    ) -> float:
        """What was left of the wind-up, m; rad where the turn alone is beyond it."""
        most_m = max(self._windup_translation_m, math.dist(old, measured))
        margin_m = most_m - math.dist(position, measured)
        if margin_m < 0.0:
            return margin_m
        most_rad = max(self._windup_rotation_rad, math.hypot(*quat_difference(old_quat, measured_quat)))
        return most_rad - math.hypot(*quat_difference(quat, measured_quat))

    def _scaled(self, action: list[float], hits: Hits) -> tuple[Vector3, Vector3]:
        """Step (m) and rotation vector (rad) of an action, within the range and the step limits."""
        clipped = [min(max(value, -1.0), 1.0) for value in action]
        if clipped != action:
            hits.append(("action_range", 1.0 - max(map(abs, action))))
        x, y, z, rx, ry, rz = clipped[:6]
        scale = self._translation_scale_m
        step = _shorten((x * scale, y * scale, z * scale), self._max_translation_step_m, "translation_step", hits)
        scale = self._rotation_scale_rad
        turn = _shorten((rx * scale, ry * scale, rz * scale), self._max_rotation_step_rad, "rotation_step", hits)
        return step, turn

    def _within_step(self, position: Vector3, old: Vector3, hits: Hits) -> Vector3:
        """The position brought to within the step limit of the old one; the same object where it is."""
        step = (position[0] - old[0], position[1] - old[1], position[2] - old[2])
        short = _shorten(step, self._max_translation_step_m, "translation_step", hits)
        return position if short is step else (old[0] + short[0], old[1] + short[1], old[2] + short[2])

    def _within_turn(self, quat: Quaternion, old_quat: Quaternion, hits: Hits) -> Quaternion:
        """The orientation brought to within the step limit of the old one, or the old one where that would tilt."""
        turn = quat_difference(quat, old_quat)
        short = _shorten(turn, self._max_rotation_step_rad, "rotation_step", hits)
        if short is turn:
            return quat
        nearer = quat_normalise(quat_multiply(quat_from_rotvec(short), old_quat))
        return nearer if tilt_rad(nearer) <= max(self._max_tilt_rad, tilt_rad(old_quat)) + _ROUNDING else old_quat

    def _handed_over(
        self,
        position: Vector3,
        quat: Quaternion,
        old: Vector3,
        old_quat: Quaternion,
        before: tuple[Vector3, Vector3],
        hits: Hits,
    ) -> tuple[Vector3, Quaternion]:
        """The pose on the way from the old one whose step differs from the one before by a step at most."""
        step = (position[0] - old[0], position[1] - old[1], position[2] - old[2])
        turn = quat_difference(quat, old_quat)
        s = min(
            share(step, before[0], self._max_translation_step_m), share(turn, before[1], self._max_rotation_step_rad)
        )
        if s == 1.0:
            return position, quat
        margin_m = self._max_translation_step_m - math.dist(step, before[0])
        hits.append(
            ("handover", margin_m if margin_m < 0.0 else self._max_rotation_step_rad - math.dist(turn, before[1]))
        )
        position = (old[0] + s * step[0], old[1] + s * step[1], old[2] + s * step[2])
        nearer = quat_normalise(quat_multiply(quat_from_rotvec((s * turn[0], s * turn[1], s * turn[2])), old_quat))
        upright = tilt_rad(nearer) <= max(self._max_tilt_rad, tilt_rad(old_quat)) + _ROUNDING
        return position, nearer if upright else old_quat

    def _leash(self, position: Vector3, old: Vector3, measured: Vector3) -> Vector3:
        """The position pulled to where it leads the measured one by no more than allowed; the same object if it is.

        Pulling a point into a ball that holds the old position shortens the way from there.
        """
        x, y, z = position[0] - measured[0], position[1] - measured[1], position[2] - measured[2]
        lead_m = math.sqrt(x * x + y * y + z * z)
        if lead_m <= self._windup_translation_m + _ROUNDING:
            return position
        most_m = max(self._windup_translation_m, math.dist(old, measured))
        if lead_m <= most_m + _ROUNDING:
            return position
        s = most_m / lead_m
        return measured[0] + s * x, measured[1] + s * y, measured[2] + s * z

    def _leash_turn(self, quat: Quaternion, old_quat: Quaternion, measured_quat: Quaternion) -> Quaternion:
        """As `_leash`, for the orientation."""
        turn = quat_difference(quat, measured_quat)
        lead_rad = math.sqrt(turn[0] * turn[0] + turn[1] * turn[1] + turn[2] * turn[2])
        if lead_rad <= self._windup_rotation_rad + _ROUNDING:
            return quat
        most_rad = max(self._windup_rotation_rad, math.hypot(*quat_difference(old_quat, measured_quat)))
        if lead_rad <= most_rad + _ROUNDING:
            return quat
        s = most_rad / lead_rad
        return quat_multiply(quat_from_rotvec((s * turn[0], s * turn[1], s * turn[2])), measured_quat)

    def _into_box(self, position: Vector3, start: Vector3, hits: Hits) -> Vector3:
        for value, (low, high) in zip(position, self._box_m, strict=True):
            if not low <= value <= high:
                break
        else:
            return position
        inside = tuple(
            min(max(value, min(low, origin)), max(high, origin))
            for value, origin, (low, high) in zip(position, start, self._box_m, strict=True)
        )
        if inside == position:
            return position
        (x, y, z), (a, b, c) = inside, position
        hits.append(("position_box", -max(abs(a - x), abs(b - y), abs(c - z))))
        return inside[0], inside[1], inside[2]

    def _untilt(self, quat: Quaternion, start_quat: Quaternion, hits: Hits) -> Quaternion:
        """Turn the tool's z axis back towards straight down by what exceeds the allowed tilt."""
        tilt = tilt_rad(quat)
        if tilt <= self._max_tilt_rad + _ROUNDING:
            return quat
        allowed_rad = max(self._max_tilt_rad, tilt_rad(start_quat))
        if tilt <= allowed_rad + _ROUNDING:
            return quat
        hits.append(("tilt", allowed_rad - tilt))
        # The axis is z x (0, 0, -1); straight up has no such axis, and any horizontal one will do.
        qx, qy, qz, qw = quat
        x, y = -2.0 * (qy * qz - qx * qw), 2.0 * (qx * qz + qy * qw)
        norm = math.hypot(x, y)
        x, y = (x / norm, y / norm) if norm > _ROUNDING else (1.0, 0.0)
        excess_rad = tilt - allowed_rad
        return quat_multiply(quat_from_rotvec((x * excess_rad, y * excess_rad, 0.0)), quat)

    def _delta(self, position: Vector3, quat: Quaternion, old: Vector3, old_quat: Quaternion) -> list[float]:
        """Action, contract units, that leads from the old pose to the new one."""
        move = [(new - was) / self._translation_scale_m for new, was in zip(position, old, strict=True)]
        return move + [angle_rad / self._rotation_scale_rad for angle_rad in quat_difference(quat, old_quat)]


def _shorten(vector: Vector3, longest: float, name: str, hits: Hits) -> Vector3:
    x, y, z = vector
    length = math.sqrt(x * x + y * y + z * z)
    if length <= longest * (1.0 + _ROUNDING):
        return vector
    hits.append((name, longest - length))
    s = longest / length
    return (x * s, y * s, z * s)


def _finite(values: Floats, size: int, name: str) -> list[float]:
    numbers: list[float] = values.tolist() if isinstance(values, np.ndarray) else list(map(float, values))
    if len(numbers) != size:
        raise ValueError(f"{name} has {len(numbers)} numbers: must have {size}")
    if not all(map(math.isfinite, numbers)):
        index = next(index for index, number in enumerate(numbers) if not math.isfinite(number))
        raise NonFiniteInput(f"{name}[{index}] = {numbers[index]}: must be finite")
    return numbers


def _split_pose(pose: Floats) -> tuple[Vector3, Quaternion]:
    x, y, z, *quat = _finite(pose, 7, "measured_pose")
    return (x, y, z), quat_normalise(quat)
