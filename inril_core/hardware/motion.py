"""From targets at the control rate to set-points that a motor controller can follow: jerk-limited tool motion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from inril_core.errors import ConfigError, InrilError, missing_package
from inril_core.settings import Settings
from inril_core.transforms import (
    pose_problem,
    quat_conjugate,
    quat_from_rotvec,
    quat_multiply,
    quat_normalise,
    rotvec_from_quat,
)

_AXES = 6
_LARGEST_TURN_RAD = 1.0
"""Rotation from the anchor beyond which the next target is planned from a new one: rotation vectors end at pi."""


class MotionLimits(Settings):
    """Limits of the set-points' motion, and where between them the tool may be.

    They bound norms: of the three numbers of a translation, and of the rotation vector from where the motion was
    anchored (the angular velocity is never larger than the rate of that vector).
    """

    relative_dynamics_factor: float = Field(0.05, gt=0.0, le=1.0)
    """Of speed, acceleration and jerk below, in translation and rotation. Begin at 0.05."""
    max_speed_mps: float = Field(0.5, gt=0.0, le=3.0)
    max_acceleration_mps2: float = Field(5.0, gt=0.0, le=13.0)
    max_jerk_mps3: float = Field(500.0, gt=0.0, le=6500.0)
    max_turn_radps: float = Field(3.0, gt=0.0, le=4.0)
    max_turn_acceleration_radps2: float = Field(15.0, gt=0.0, le=25.0)
    max_turn_jerk_radps3: float = Field(1500.0, gt=0.0, le=12500.0)
    overrun_m: float = Field(0.002, ge=0.0, le=0.01)
    """How far the tool may run beyond a target of a moving stream when the next one does not come; it then returns. 0:
    it comes to rest at each target, which shakes an arm at 10 Hz."""
    overrun_rad: float = Field(0.02, ge=0.0, le=0.1)


class SetPoint(NamedTuple):
    """Where the tool shall be at one moment."""

    pose: np.ndarray
    """float64[7], m and xyzw, base frame."""
    speed_mps: np.ndarray
    """float64[3], base frame."""


class _State(NamedTuple):
    """Of the six axes: position [m], then rotation vector from the anchor [rad]."""

    position: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray


class SmoothMotion:
    """Set-points between targets: each target is where the tool shall be `period_s` after it was given.

    A target that cannot be reached in that time within the limits is reached later; no limit is ever exceeded for it.
    A stream of targets is passed through without a stop. Where the next target does not come the tool comes to rest at
    the newest one, and where none comes for `timeout_s` it comes to rest wherever it is then.

    Times are seconds of one monotonic clock, and never go back. Time-optimal profiles: Berscheid and Kröger,
    "Jerk-limited Real-time Trajectory Generation with Arbitrary Target States", RSS 2021 (ruckig).

    Raises:
        ConfigError: a time is not positive, or the package ruckig is missing.
    """

    def __init__(self, limits: MotionLimits, period_s: float, timeout_s: float) -> None:
        if not (period_s > 0.0 and timeout_s > 0.0):
            raise ConfigError(f"period_s = {period_s}, timeout_s = {timeout_s}: must be above 0")
        try:
            import ruckig  # only the node of a real arm needs it
        except ImportError as error:
            raise missing_package("an arm that moves smoothly needs ruckig", "arm", error) from error
        self._ruckig = ruckig
        self._planner = ruckig.Ruckig(_AXES)
        self._period_s, self._timeout_s = period_s, timeout_s
        scale = limits.relative_dynamics_factor / math.sqrt(3.0)
        self._speed = _six(limits.max_speed_mps, limits.max_turn_radps) * scale
        self._acceleration = _six(limits.max_acceleration_mps2, limits.max_turn_acceleration_radps2) * scale
        self._jerk = _six(limits.max_jerk_mps3, limits.max_turn_jerk_radps3) * scale
        overrun = _six(limits.overrun_m, limits.overrun_rad) / math.sqrt(3.0)
        self._through = np.array(
            [
                min(0.99 * speed, speed_that_stops_within(way, acceleration, jerk))
                for speed, way, acceleration, jerk in zip(
                    self._speed, overrun, self._acceleration, self._jerk, strict=True
                )
            ]
        )
        self._anchor = (0.0, 0.0, 0.0, 1.0)
        self._path: Any = None
        self._begun_s = self._end_s = 0.0
        self._settles_at: np.ndarray | None = None
        """Where the plan ends moving; None: it ends at rest."""
        self._rest = np.zeros(_AXES)
        self._target: Sequence[float] | None = None
        self._aimed_s = -math.inf

    def start(self, pose: Sequence[float], now_s: float) -> None:
        """Be at rest at a measured pose; what was planned is forgotten.

        Raises:
            ValueError: `pose` is no finite pose (7, m and xyzw).
        """
        position, quat = _checked(pose)
        self._anchor = quat
        self._rest = np.array([*position, 0.0, 0.0, 0.0])
        self._path, self._settles_at, self._target = None, None, None
        self._begun_s = self._end_s = now_s
        self._aimed_s = now_s

    def aim(self, pose: Sequence[float], now_s: float) -> None:
        """A target: be there `period_s` from now.

        Raises:
            ValueError: `pose` is no finite pose (7, m and xyzw).
            InrilError: no motion could be planned; the set-points come to rest.
        """
        position, quat = _checked(pose)
        state = self._state(now_s)
        if float(np.linalg.norm(state.position[3:])) > _LARGEST_TURN_RAD:
            state = self._anchored_anew(state)
        goal = self._coordinates(position, quat)
        through = np.zeros(_AXES)
        if self._target is not None and now_s - self._aimed_s < 1.5 * self._period_s:
            before = self._coordinates(*_checked(self._target))
            through = np.clip((goal - before) / self._period_s, -self._through, self._through)
        self._target, self._aimed_s = pose, now_s
        self._plan(now_s, state, goal, through, self._period_s)

    def stop(self, now_s: float) -> None:
        """Come to rest as soon as the limits allow, and stay there."""
        self._target = None
        state = self._state(now_s)
        if self._path is None or not (np.any(state.velocity) or np.any(state.acceleration)):
            self._path, self._settles_at, self._rest = None, None, state.position
            return
        asked = self._input(state)
        asked.control_interface = self._ruckig.ControlInterface.Velocity
        asked.target_velocity = [0.0] * _AXES
        self._follow(now_s, asked)

    def at(self, now_s: float) -> SetPoint:
        """The set-point of a moment, not before the last one asked for."""
        state = self._state(now_s)
        quat = quat_multiply(quat_from_rotvec(state.position[3:].tolist()), self._anchor)
        return SetPoint(np.array([*state.position[:3], *quat_normalise(quat)]), state.velocity[:3])

    def _state(self, now_s: float) -> _State:
        if self._target is not None and now_s > self._aimed_s + self._timeout_s:
            self.stop(self._aimed_s + self._timeout_s)
        if self._settles_at is not None and now_s > self._end_s:
            end = _State(*(np.array(part) for part in self._path.at_time(self._end_s - self._begun_s)))
            self._plan(self._end_s, end, self._settles_at, np.zeros(_AXES), 0.0)
        if self._path is None:
            return _State(self._rest, np.zeros(_AXES), np.zeros(_AXES))
        if now_s >= self._end_s and self._settles_at is None:
            position = np.array(self._path.at_time(self._end_s - self._begun_s)[0])
            return _State(position, np.zeros(_AXES), np.zeros(_AXES))
        at_s = min(max(now_s, self._begun_s), self._end_s) - self._begun_s
        return _State(*(np.array(part) for part in self._path.at_time(at_s)))

    def _coordinates(self, position: Sequence[float], quat: Sequence[float]) -> np.ndarray:
        turn = rotvec_from_quat(quat_normalise(quat_multiply(quat, quat_conjugate(self._anchor))))
        return np.array([*position, *turn])

    def _anchored_anew(self, state: _State) -> _State:
        """The same motion with rotation vectors from the present orientation."""
        turn = state.position[3:]
        self._anchor = quat_normalise(quat_multiply(quat_from_rotvec(turn.tolist()), self._anchor))
        rate, growth = angular_motion(turn, state.velocity[3:], state.acceleration[3:])
        return _State(
            np.array([*state.position[:3], 0.0, 0.0, 0.0]),
            np.concatenate([state.velocity[:3], rate]),
            np.concatenate([state.acceleration[:3], growth]),
        )

    def _input(self, state: _State) -> Any:
        asked = self._ruckig.InputParameter(_AXES)
        asked.current_position = state.position.tolist()
        asked.current_velocity = state.velocity.tolist()
        asked.current_acceleration = state.acceleration.tolist()
        asked.target_acceleration = [0.0] * _AXES
        asked.max_velocity = self._speed.tolist()
        asked.max_acceleration = self._acceleration.tolist()
        asked.max_jerk = self._jerk.tolist()
        return asked

    def _plan(self, now_s: float, state: _State, goal: np.ndarray, through: np.ndarray, duration_s: float) -> None:
        asked = self._input(state)
        asked.target_position = goal.tolist()
        asked.target_velocity = through.tolist()
        if duration_s > 0.0:
            asked.minimum_duration = duration_s
        self._follow(now_s, asked)
        self._settles_at = goal if np.any(through) else None

    def _follow(self, now_s: float, asked: Any) -> None:
        path = self._ruckig.Trajectory(_AXES)
        try:
            result = self._planner.calculate(asked, path)
            reason = "" if result in (self._ruckig.Result.Working, self._ruckig.Result.Finished) else str(result)
        except self._ruckig.RuckigError as error:
            reason = str(error)
        if reason:
            raise InrilError(f"no motion to the target can be planned ({reason}); the arm goes on to the one before")
        self._path, self._settles_at = path, None
        self._begun_s, self._end_s = now_s, now_s + path.duration


def speed_that_stops_within(way: float, acceleration: float, jerk: float) -> float:
    """Largest speed from which motion without acceleration stops within `way` (m or rad), limits of SI units.

    The way of a stop is v sqrt(v/j) where the deceleration stays below its limit a, else v/2 (v/a + a/j).
    """
    speed = (way * way * jerk) ** (1.0 / 3.0)
    if speed <= acceleration * acceleration / jerk:
        return speed
    half = acceleration / (2.0 * jerk)
    return acceleration * (math.sqrt(half * half + 2.0 * way / acceleration) - half)


def angular_motion(turn: np.ndarray, rate: np.ndarray, growth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angular velocity [rad/s] and acceleration of exp(turn) from a rotation vector and its two derivatives.

    omega = J rate, J = I + a [turn] + b [turn]^2, a = (1 - cos x) / x^2, b = (x - sin x) / x^3, x the angle: the left
    Jacobian of SO(3) (Barfoot, State Estimation for Robotics, 7.1.3), and its derivative.
    """
    x = float(np.linalg.norm(turn))
    if x < 1e-3:
        a, b, da, db = 0.5 - x * x / 24.0, 1.0 / 6.0 - x * x / 120.0, -x / 12.0, -x / 60.0
    else:
        sine, cosine = math.sin(x), math.cos(x)
        a, b = (1.0 - cosine) / x**2, (x - sine) / x**3
        da = (x * sine - 2.0 * (1.0 - cosine)) / x**3
        db = (x * (1.0 - cosine) - 3.0 * (x - sine)) / x**4
    dx = float(turn @ rate) / x if x > 0.0 else 0.0
    first, second = np.cross(turn, rate), np.cross(turn, np.cross(turn, rate))
    omega = rate + a * first + b * second
    grown = np.cross(turn, growth)
    alpha = growth + a * grown + b * np.cross(turn, grown)
    alpha += da * dx * first + db * dx * second
    alpha += b * np.cross(
        rate, first
    )  # of the derivative of [turn]^2 the term [turn][rate] rate is zero, as [rate] rate
    return omega, alpha


def _six(linear: float, angular: float) -> np.ndarray:
    return np.array([linear] * 3 + [angular] * 3)


def _checked(pose: Sequence[float]) -> tuple[list[float], tuple[float, float, float, float]]:
    values = [float(value) for value in pose]
    if problem := pose_problem(values):
        raise ValueError(f"pose: {problem}")
    return values[:3], quat_normalise(values[3:])
