"""What the simulated cell needs of a task's scene."""

from __future__ import annotations

from typing import ClassVar, Protocol

import mujoco
import numpy as np

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.outcome import CellReport
from inril_core.plugins import Kind
from inril_core.sim.kinematics import ArmKinematics

KIND = Kind("scenes", "inril_core.sim.scenes", "SCENE")
TIMESTEP_S = 0.004
"""Of the physics."""


class Scene(Protocol):
    """One task's parts, starts and rule, around the Panda of `mjcf/panda.xml`.

    A class that is made with (contract, timestep_s) and raises ConfigError where the contract is another task's. Named
    by a `TaskDefinition`: a file here that defines ``SCENE``, an entry point ``inril.scenes``, or ``module:class``.
    """

    model: mujoco.MjModel
    """Compiled, with the site ``tool``; joints and actuators 0 to 6 are the arm's, 7 and 8 the fingers'."""
    cameras: ClassVar[tuple[str, ...]]
    """Names of the cameras in the model."""
    rest_rad: np.ndarray
    """float64[7], the posture from which starts are solved and to which the elbow returns."""
    finger_speed_mps: float
    """Of each finger's target; inf: it jumps."""
    grasp_width_m: float
    """A gripper target up to this width grasps, a wider one opens the fingers to it."""
    settle_steps: int
    """Physics steps after laying out."""

    def lay_out(self, data: mujoco.MjData, seed: int, purpose: str, kinematics: ArmKinematics) -> np.ndarray:
        """Place fingers and parts in `data` (just reset) as `seed` says; the arm's joint positions float64[7].

        Raises:
            OutOfReach: the contract's start range reaches beyond the arm.
        """

    def before_piece(self, data: mujoco.MjData) -> None:
        """Called before each piece of a control period; the body poses are those of one physics step ago."""

    def parts(self, data: mujoco.MjData) -> dict[str, np.ndarray]:
        """Poses float64[7] as perceived, m and xyzw, base frame."""

    def judge(self, parts: dict[str, np.ndarray], tool_pose: np.ndarray) -> CellReport:
        """Called once per control period with `parts` and the tool's pose float64[7]; physics is sound."""


def drawn_state(data: mujoco.MjData) -> np.ndarray:
    """What a picture needs, float64[nq + 7 nmocap]: joint positions, then mocap poses (quaternions wxyz)."""
    mocap = np.concatenate([data.mocap_pos, data.mocap_quat], axis=1)
    return np.concatenate([data.qpos, mocap.ravel()])


def make_scene(contract: Contract, timestep_s: float) -> Scene:
    """The scene of a contract's task. timestep_s: of the physics.

    Raises:
        ConfigError: the task has no scene or the contract no `sim` section, or the two do not fit.
    """
    name = contract.task_definition.scene
    if not name:
        raise ConfigError(
            f"task = {contract.task!r}: its definition names no scene, so there is no cell to simulate; run it on "
            "hardware, or give the definition one"
        )
    if contract.sim is None:
        raise ConfigError("sim: missing in the contract, so there is no cell to simulate; add the section")
    where, found = f"scene = {name!r}", KIND.find(name, "scene")
    if not isinstance(found, type):
        raise ConfigError(f"{where}: must be a class that is made with (contract, timestep_s), see {__name__}.Scene")
    lacking = [part for part in ("lay_out", "before_piece", "parts", "judge") if not hasattr(found, part)]
    if lacking:
        raise ConfigError(f"{where}: {found.__name__} has no {', '.join(lacking)}; see {__name__}.Scene")
    scene: Scene = found(contract, timestep_s)
    return scene
