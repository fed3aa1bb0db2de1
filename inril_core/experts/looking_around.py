"""Moving about near the parts before a demonstration, so that its images show them from many places."""

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from inril_core.contract import Contract

Array = npt.NDArray[np.float32]
_TAG = 11  # keeps the motion apart from whatever else the seed decides
_ASIDE_M, _DOWN_M, _UP_M = 0.03, 0.02, 0.04
_TILT_RAD, _TURN_RAD = 0.15, 0.5
_NEAR_M, _NEAR_RAD, _LONGEST_STEPS = 0.004, 0.05, 20
_MOTIONS = 6


class LookingAround:
    """Replaces an expert's motions in the first steps of an episode by ways to random poses around its start.

    Poses are drawn up to 3 cm aside, 2 cm below and 4 cm above where the episode began, tilted by up to 0.15 rad and
    turned by up to 0.5 rad; each for at most 20 steps. The gripper is left to the expert.

    Args:
        contract: whose actions are pose deltas.
        steps: so many at the start of each episode; 0: none, actions pass unchanged.
    """

    def __init__(self, contract: Contract, steps: int) -> None:
        self.steps = steps
        self._scales = contract.action.translation_scale_m, contract.action.rotation_scale_rad
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self._rng = np.random.default_rng([seed, _TAG])
        self._step, self._until = 0, 0
        self._began: npt.NDArray[np.float64] | None = None

    def changed(self, action: Array, tool_pose: npt.NDArray[np.float64]) -> Array:
        """The action ``[A]`` instead of the expert's in the next step; ``tool_pose [7]``: base frame, m and xyzw."""
        if self._step >= self.steps:
            return action
        if self._began is None:
            self._began = np.array(tool_pose, np.float64)
        left_m, left_rad = self._left(tool_pose)
        if self._step >= self._until or (np.abs(left_m).max() < _NEAR_M and np.abs(left_rad).max() < _NEAR_RAD):
            self._draw()
            left_m, left_rad = self._left(tool_pose)
        self._step += 1
        motion = np.concatenate((left_m / self._scales[0], left_rad / self._scales[1]))
        looking = action.copy()
        looking[:_MOTIONS] = motion / max(1.0, np.abs(motion).max())
        return looking

    def _draw(self) -> None:
        assert self._began is not None
        low, high = (-_ASIDE_M, -_ASIDE_M, -_DOWN_M), (_ASIDE_M, _ASIDE_M, _UP_M)
        tilt = self._rng.uniform(-_TILT_RAD, _TILT_RAD, 2)
        turn = self._rng.uniform(-_TURN_RAD, _TURN_RAD)
        self._goal_m = self._began[:3] + self._rng.uniform(low, high)
        self._goal = Rotation.from_rotvec([*tilt, turn]) * Rotation.from_quat(self._began[3:])
        self._until = self._step + _LONGEST_STEPS

    def _left(self, tool_pose: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        if self._until == 0:
            return np.zeros(3), np.zeros(3)
        turn = self._goal * Rotation.from_quat(tool_pose[3:]).inv()
        return self._goal_m - tool_pose[:3], turn.as_rotvec()
