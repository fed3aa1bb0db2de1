"""Moving the tool towards a pose: what a leader arm and a tracked hand ask for, as an action per control period."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from inril_core.contract import Contract
from inril_core.transforms import Vector3, quat_difference


class Pursuit:
    """A proportional controller on the commanded pose.

    It looks at the commanded pose, not the measured one: the commanded pose adds up the actions, and an arm that lags
    behind it would make a controller on the measured pose swing.

    gain: share of the remaining way that one action covers, in (0, 1].
    """

    def __init__(self, contract: Contract, gain: float) -> None:
        action = contract.action
        self._gain = gain
        self._scale_m, self._scale_rad = float(action.translation_scale_m), float(action.rotation_scale_rad)
        self.period_s = 1.0 / contract.control_rate_hz

    def action(
        self, desired: Sequence[float], now: Sequence[float], speed_mps: float = math.inf, speed_radps: float = math.inf
    ) -> np.ndarray:
        """Action float64[6], contract units within [-1, 1], base frame, not faster than told.

        desired, now: poses (7, m and xyzw, base frame).
        """
        step, turn = away(desired, now)
        return np.concatenate(
            [self._part(step, self._scale_m, speed_mps), self._part(turn, self._scale_rad, speed_radps)]
        )

    def _part(self, way: Vector3, scale: float, speed: float) -> np.ndarray:
        asked = self._gain * np.asarray(way)
        length = float(np.linalg.norm(asked))
        most = speed * self.period_s
        if length > most:
            asked *= most / length
        asked /= scale
        return asked / max(1.0, float(np.abs(asked).max()))


def away(desired: Sequence[float], now: Sequence[float]) -> tuple[Vector3, Vector3]:
    """The way from one pose to another: m, and a rotation vector (rad) applied on the left, base frame."""
    x, y, z = (float(a - b) for a, b in zip(desired[:3], now[:3], strict=True))
    return (x, y, z), quat_difference(desired[3:], now[3:])
