"""Forward and inverse kinematics of the Panda's tool."""

from __future__ import annotations

import math
from importlib import resources

import mujoco
import numpy as np

from inril_core.errors import InrilError
from inril_core.transforms import quat_conjugate, quat_multiply, rotvec_from_quat

DAMPING = 0.005  # bounds the step where the arm is singular, costs < 0.1 mm elsewhere
MAX_STEP_RAD = 0.3  # of a joint: a target far away is approached, not jumped to
POSTURE_GAIN = 0.1  # share of the way back to the rest posture per step, in the null space
STRAY_M = 0.002  # a tool nearer to its target than this may move away from it again, as its turn asks
_HALVINGS = 6


class OutOfReach(InrilError):
    """The arm cannot take a tool pose; the message names it."""


class ArmKinematics:
    """Damped least squares on the tool's pose, with a rest posture in the null space.

    Source: Nakamura and Hanafusa, "Inverse Kinematic Solutions With Singularity Robustness for Robot
    Manipulator Control" (1986).

    rest_rad: float64[7], the posture the elbow returns to.
    """

    def __init__(self, rest_rad: np.ndarray) -> None:
        spec = mujoco.MjSpec.from_string((resources.files("inril_core.sim") / "mjcf" / "panda.xml").read_text())
        for geom in spec.geoms:  # their poses would be computed each time
            spec.delete(geom)
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._site = self._model.site("tool").id
        self._rest_rad = np.array(rest_rad, np.float64)
        self._jacobian = np.zeros((6, self._model.nv))
        self._low_rad, self._high_rad = self._model.jnt_range[:7].T
        self._joint_rad = self._data.qpos[:7]
        self._position_m, self._rotation = self._data.site_xpos[self._site], self._data.site_xmat[self._site]
        self._quat, self._solution = np.zeros(4), np.zeros(6)
        self._damping = DAMPING**2 * np.eye(6)
        self._move(self._rest_rad)

    def tool_pose(self, joint_rad: np.ndarray) -> np.ndarray:
        """Tool pose float64[7], m and xyzw, base frame."""
        if not np.array_equal(joint_rad, self._joint_rad):  # a step begins where the one before ended
            self._move(joint_rad)
        mujoco.mju_mat2Quat(self._quat, self._rotation)
        return np.concatenate([self._position_m, self._quat[1:], self._quat[:1]])

    def step(self, joint_rad: np.ndarray, target_pose: np.ndarray) -> tuple[np.ndarray, float]:
        """One step towards `target_pose` (float64[7], m and xyzw, base frame).

        Near joint limits and singular postures the whole step can lead away from the target; then a half, a quarter
        and so on of it is taken, or none, so that the tool's distance from the target does not grow.

        Returns the new joint positions float64[7], within their range, and the error before the step,
        m + rad.
        """
        pose = self.tool_pose(joint_rad)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site)
        error = np.empty(6)
        error[:3] = target_pose[:3] - pose[:3]
        turn = quat_multiply(target_pose[3:].tolist(), quat_conjugate(pose[3:].tolist()))
        error[3:] = rotvec_from_quat(turn)
        jacobian = self._jacobian[:, :7]
        posture = POSTURE_GAIN * (self._rest_rad - joint_rad)
        # MuJoCo's own Cholesky: numpy's solver spends most of its time on preparing so small a matrix.
        factor = jacobian @ jacobian.T + self._damping
        mujoco.mju_cholFactor(factor, 0.0)
        mujoco.mju_cholSolve(self._solution, factor, error - jacobian @ posture)
        delta = self._solution @ jacobian + posture
        delta /= max(1.0, float(np.abs(delta).max()) / MAX_STEP_RAD)
        reached_rad = np.minimum(np.maximum(joint_rad + delta, self._low_rad), self._high_rad)
        allowed_m = max(math.hypot(*error[:3].tolist()), STRAY_M)
        for _ in range(_HALVINGS):
            if self._distance_m(reached_rad, target_pose) <= allowed_m:
                break
            reached_rad = joint_rad + 0.5 * (reached_rad - joint_rad)
        else:
            reached_rad = np.array(joint_rad)
        return reached_rad, float(np.abs(error).sum())

    def _distance_m(self, joint_rad: np.ndarray, target_pose: np.ndarray) -> float:
        self._move(joint_rad)
        return math.dist(self._position_m.tolist(), target_pose[:3].tolist())

    def _move(self, joint_rad: np.ndarray) -> None:
        self._joint_rad[:] = joint_rad
        mujoco.mj_kinematics(self._model, self._data)

    def solve(self, start_rad: np.ndarray, target_pose: np.ndarray, tolerance: float = 1e-4) -> np.ndarray:
        """Joint positions float64[7] whose tool pose is `target_pose`, from `start_rad` on.

        Raises:
            OutOfReach: the error left after 200 steps is above `tolerance` (m + rad).
        """
        joint_rad, error = np.array(start_rad, np.float64), np.inf
        for _ in range(200):
            joint_rad, error = self.step(joint_rad, target_pose)
            if error < tolerance:
                return joint_rad
        raise OutOfReach(
            f"tool pose {np.round(target_pose, 4).tolist()} is out of reach: {error:.2g} m + rad left; move it inwards"
        )
