"""The scripted expert of robosuite's Lift, Can and Square, which sees only what a policy sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from inril_core.transforms import quat_rotate

STEP_M, STEP_RAD = 0.05, 0.5  # of an action of 1
GAIN, TURN_GAIN = 1.6, 0.8  # share of the error asked for per step; the arm follows with about half of what is asked
SLACK_M, HELD_M = 0.004, 0.025  # fingers so near the object's width, and the grasp so near the grip site: it is held
HOVER_M = 0.06  # above the grasp until the hand is over it and turned
DOWN_M = 0.04  # so far below the carrying height at the goal it goes on down


@dataclass(frozen=True)
class Script:
    """How to pick one object and where to put it; world frame."""

    grasp_m: tuple[float, float, float]
    """Point to hold, in the object's frame."""
    grasp_symmetry_rad: float | None
    """Turns about the vertical after which a grasp is as good; None: the object is round."""
    width_m: float
    """Of what is between the fingers."""
    clear_m: float
    """Height of the object while it is carried."""
    goal_m: tuple[float, float] | None = None
    """Where it is put; None: it is only lifted."""
    goal_yaws_rad: tuple[float, ...] = ()
    """Headings of the object that fit there; empty: any."""
    ready_m: float = 0.005
    """Sideways error with which it may go down."""
    low_m: float = 0.0
    """Height to which it is put down."""
    release_m: float | None = None
    """Height below which it is let go; None: never."""


SCRIPTS = {
    "Lift": Script((0.0, 0.0, 0.0), math.pi / 2, 0.043, 0.95),
    # the near corner of the can's own bin: its middle is at the end of the arm's reach
    "Can": Script((0.0, 0.0, 0.01), None, 0.050, 1.0, (0.15, 0.35), (), 0.02, 0.89, 0.92),
    # a handle that points away from the robot would be out of reach
    "Square": Script(
        (0.052, 0.0, 0.0), math.pi, 0.032, 1.0, (0.23, 0.10), (math.pi / 2, math.pi, -math.pi / 2), 0.004, 0.83
    ),
}


class ScriptedPicker:
    """Over the object, down, close, up, over the goal, down, open: decided by the observation alone.

    Being without memory, it can be cloned, and goes back by itself when something slips.
    """

    def __init__(self, script: Script) -> None:
        self._script = script

    def reset(self, seed: int) -> None:
        """See `Expert.reset`; nothing is random."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Action float32[7] in [-1, 1] for an observation of `RobosuiteTask`.

        Raises:
            ValueError: the observation is not finite.
        """
        if not np.isfinite(observation).all():
            raise ValueError("the scripted expert was given an observation that is not finite")
        o = np.asarray(observation, np.float64)
        move_m, turn_rad, close = self._wanted(o[0:3], o[3:7], float(o[7] - o[8]), o[9:12], o[12:16])
        action = np.concatenate([GAIN * move_m / STEP_M, TURN_GAIN * turn_rad / STEP_RAD])
        action /= np.repeat([max(1.0, np.abs(action[:3]).max()), max(1.0, np.abs(action[3:]).max())], 3)
        return np.append(action, 1.0 if close else -1.0).clip(-1.0, 1.0).astype(np.float32)

    def _wanted(
        self, tool: np.ndarray, hand: np.ndarray, width_m: float, item: np.ndarray, quat: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """Errors left to the grip site's position (m) and the hand's rotation (rotation vector, rad); close or open."""
        s = self._script
        reach = item + _rotated(quat, s.grasp_m) - tool
        down = _rotated(hand, (0.0, 0.0, 1.0))
        upright = np.array([-down[1], down[0], 0.0])  # down x (0, 0, -1): the rotation that puts the hand upright
        aside = np.zeros(2) if s.goal_m is None else np.array(s.goal_m) - item[:2]
        aside_m = float(np.abs(aside).max())
        if s.release_m is not None and item[2] < s.release_m and aside_m < 0.03:
            return np.array([0.0, 0.0, STEP_M]), upright, False  # let go and leave
        if not (width_m < s.width_m + SLACK_M and np.linalg.norm(reach) < HELD_M):
            return self._approach(reach, upright, _yaw(hand), _yaw(quat))
        yaw_rad = _yaw(quat)
        turns = [_wrapped(goal - yaw_rad) for goal in s.goal_yaws_rad]
        # the wrist ends near where it began, well inside its range; of two that do, the shorter way
        turn_rad = min(turns, key=lambda turn: abs(_wrapped(_yaw(hand) + turn)) + 0.1 * abs(turn), default=0.0)
        up_m = s.clear_m - item[2]
        ready = aside_m < s.ready_m and abs(turn_rad) < 0.08 and up_m < 0.05
        if s.goal_m is not None and (ready or (aside_m < 0.02 and up_m > DOWN_M)):
            return np.append(aside, s.low_m - item[2]), _turned(upright, turn_rad), True
        across = aside if up_m < 0.03 else np.zeros(2)
        return np.append(across, up_m), _turned(upright, turn_rad), True

    def _approach(
        self, reach: np.ndarray, upright: np.ndarray, hand_rad: float, item_rad: float
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """From above with open fingers; close once there."""
        symmetry = self._script.grasp_symmetry_rad
        turn_rad = 0.0 if symmetry is None else _least(item_rad - hand_rad, symmetry)
        aside_m = float(np.hypot(reach[0], reach[1]))
        there = aside_m < 0.012 and abs(reach[2]) < 0.008
        if not there and (aside_m > 0.01 or abs(turn_rad) > 0.15):
            reach = reach + np.array([0.0, 0.0, HOVER_M])
        return reach, _turned(upright, turn_rad), there


def _rotated(quat: np.ndarray, vector: tuple[float, float, float]) -> np.ndarray:
    return np.array([*quat_rotate(quat.tolist(), vector)])


def _yaw(quat: np.ndarray) -> float:
    """Angle about the vertical of a body's x axis, rad."""
    x, y, _ = _rotated(quat, (1.0, 0.0, 0.0))
    return math.atan2(y, x)


def _least(angle_rad: float, symmetry_rad: float) -> float:
    """The smallest turn that is as good as ``angle_rad``."""
    return (angle_rad + symmetry_rad / 2) % symmetry_rad - symmetry_rad / 2


def _wrapped(angle_rad: float) -> float:
    return (angle_rad + math.pi) % (2 * math.pi) - math.pi


def _turned(tilt: np.ndarray, yaw_rad: float) -> np.ndarray:
    return tilt + np.array([0.0, 0.0, yaw_rad])
