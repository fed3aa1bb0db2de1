"""What the simulated cell needs of a task's scene."""

from __future__ import annotations

from typing import Protocol

import mujoco
import numpy as np

from inril_core.sim.kinematics import ArmKinematics

Verdict = tuple[bool, bool, str]
"""Success, failure and the reason of either."""


class Scene(Protocol):
    """One task's parts, starts and rule, around the Panda of `mjcf/panda.xml`.

    model: compiled; joints 0 to 6 and actuators 0 to 6 are the arm's, 7 and 8 the fingers'.
    rest_rad: float64[7], the posture from which starts are solved and to which the elbow returns.
    finger_speed_mps: of each finger's target; inf: it jumps.
    settle_steps: physics steps after laying out.
    """

    model: mujoco.MjModel
    rest_rad: np.ndarray
    finger_speed_mps: float
    settle_steps: int

    def lay_out(self, data: mujoco.MjData, seed: int, purpose: str, kinematics: ArmKinematics) -> np.ndarray:
        """Place fingers and parts in `data` (just reset) as `seed` says; the arm's joint positions float64[7].

        Raises:
            OutOfReach: the contract's start range reaches beyond the arm.
        """

    def before_piece(self, data: mujoco.MjData) -> None:
        """Called before each piece of a control period; the body poses are those of one physics step ago."""

    def parts(self, data: mujoco.MjData) -> dict[str, np.ndarray]:
        """Poses float64[7] as perceived, m and xyzw, base frame."""

    def judge(self, parts: dict[str, np.ndarray], tool_pose: np.ndarray) -> Verdict:
        """Called once per control period with `parts` and the tool's pose float64[7]; physics is sound."""


def drawn_state(data: mujoco.MjData) -> np.ndarray:
    """What a picture needs, float64[nq + 7 nmocap]: joint positions, then mocap poses (quaternions wxyz)."""
    return np.concatenate([data.qpos, np.hstack([data.mocap_pos, data.mocap_quat]).ravel()])
