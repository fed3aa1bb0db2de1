"""The simulated cell: a Panda and a task's parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from inril_core.contract import Contract
from inril_core.errors import ConfigError, InrilError
from inril_core.hardware.arms.base import ArmState
from inril_core.sim.arm_physics import ArmPhysics
from inril_core.sim.camera_poses import CameraPoses
from inril_core.sim.kinematics import ArmKinematics
from inril_core.sim.render import CellRenderer
from inril_core.sim.scenes.base import TIMESTEP_S, drawn_state, make_scene
from inril_core.transforms import quat_normalise
from inril_core.vocabulary import Purpose

PIECES = 5  # of a control period, over which the joint target is interpolated
HAND_WIDTH_M = 0.08
_SHARES = np.arange(1, PIECES + 1)[:, None] / PIECES
_DIVERGED = [getattr(mujoco.mjtWarning, f"mjWARN_BAD{name}") for name in ("QPOS", "QVEL", "QACC")]


class CellError(InrilError):
    """The cell cannot do what was asked; the message says why."""


@dataclass(frozen=True)
class CellState(ArmState):
    """What the cell measures after a control period, and what the simulator knows besides."""

    parts: Mapping[str, np.ndarray]
    """Poses float64[7] as perceived: `leg`, `hole` (insert_leg's with the contract's error) and others."""
    qpos: np.ndarray
    """float64[nq + 7 nmocap], for rendering again: joint positions, then the poses of mocap bodies."""
    success: bool
    failed: bool
    reason: str
    """Of either."""
    step: int
    """Control periods since the reset, one that has begun included."""


class Cell:
    """The cell of a contract's task. Equal seeds and equal targets give bit-identical trajectories.

    Raises:
        ConfigError: the contract has no `sim` section, its task has no scene, its rate does not suit the
            physics step, or `sim.physics` names a camera that the scene does not have.
    """

    def __init__(self, contract: Contract) -> None:
        self._piece_steps = round(1.0 / (contract.control_rate_hz * TIMESTEP_S * PIECES))
        if abs(self._piece_steps * PIECES * TIMESTEP_S * contract.control_rate_hz - 1.0) > 1e-6:
            raise ConfigError(
                f"control_rate_hz = {contract.control_rate_hz}: its period must be a multiple of "
                f"{PIECES * TIMESTEP_S} s in simulation; use 10, 12.5, 25 or 50"
            )
        self.scene = make_scene(contract, TIMESTEP_S)
        self._model = self.scene.model
        self._data = mujoco.MjData(self._model)
        self._warnings = [self._data.warning[kind] for kind in _DIVERGED]
        self.kinematics = ArmKinematics(self.scene.rest_rad)
        self._finger_step_m = self.scene.finger_speed_mps * self._piece_steps * TIMESTEP_S
        # How far ahead of its target a joint must be commanded for damping not to make it trail, s.
        damping = self._model.dof_damping[:7] - self._model.actuator_biasprm[:7, 2]
        self._lead_s = damping / self._model.actuator_gainprm[:7, 0]
        self._tool = self._model.site("tool").id
        self._quat, self._twist = np.zeros(4), np.zeros(6)
        physics = getattr(contract.sim, "physics", None)
        self._arm = ArmPhysics(self._model, physics)
        self._cameras = CameraPoses(self._model, self.scene.cameras, physics)
        self._renderer: CellRenderer | None = None
        self._state: CellState | None = None

    @property
    def model(self) -> mujoco.MjModel:
        """The compiled model (read only, for rendering and inspection)."""
        return self._model

    @property
    def arm(self) -> ArmPhysics:
        """What the arm's own physics are; whoever sets it decides for the episodes to come."""
        return self._arm

    @property
    def period_s(self) -> float:
        """Simulated time of one control period."""
        return PIECES * self._piece_steps * float(self._model.opt.timestep)

    @property
    def state(self) -> CellState:
        """State after the last reset or step.

        Raises:
            CellError: never reset.
        """
        if self._state is None:
            raise CellError("the cell has not been laid out; call reset first")
        return self._state

    def reset(self, seed: int, purpose: str = "train") -> CellState:
        """Lay the cell out as `seed` says.

        purpose: train, eval or demo; a contract may start demonstrations in a narrower range.

        Raises:
            ValueError: an unknown purpose, or a negative seed.
            OutOfReach: the contract's start range reaches beyond the arm.
        """
        Purpose.of(purpose)
        data = self._data
        mujoco.mj_resetData(self._model, data)
        self._arm.begin(seed)
        self._cameras.begin(seed)
        self._joint_target_rad = self.scene.lay_out(data, seed, purpose, self.kinematics)
        data.qpos[:7] = self._joint_target_rad
        data.ctrl[:7] = self._joint_target_rad
        self._arm.hold(self._joint_target_rad)
        self._finger_goal_m = float(data.ctrl[7])
        self._aim(self._joint_target_rad)
        mujoco.mj_step(self._model, data, self.scene.settle_steps)
        self._periods = 0
        self._state = self._measure(0)
        return self._state

    def step(
        self, tool_position_m: np.ndarray, tool_quat_xyzw: np.ndarray, gripper_width_m: float | None = None
    ) -> CellState:
        """Advance one control period towards a tool pose in the base frame: `aim` and all pieces of the period."""
        self.aim(tool_position_m, tool_quat_xyzw, gripper_width_m)
        return self.advance(PIECES)

    def aim(
        self, tool_position_m: np.ndarray, tool_quat_xyzw: np.ndarray, gripper_width_m: float | None = None
    ) -> None:
        """Be at a tool pose in the base frame `PIECES` pieces from now; no time passes.

        tool_position_m [3], tool_quat_xyzw [4]. gripper_width_m: up to the leg's width it grasps, above it
        the fingers open to it; None keeps the last.

        Raises:
            CellError: never reset.
            ValueError: a target is not finite, or the gripper's width is outside [0, 0.08] m.
        """
        periods = self.state.step + 1
        position = np.asarray(tool_position_m, np.float64)
        quat = np.asarray(tool_quat_xyzw, np.float64)
        if position.shape != (3,) or quat.shape != (4,) or not np.isfinite(position).all():
            raise ValueError(f"tool target {position.tolist()}, {quat.tolist()}: must be 3 and 4 finite numbers")
        target = np.concatenate([position, quat_normalise(quat.tolist())])
        if gripper_width_m is not None:
            self._finger_goal_m = self._finger_target(gripper_width_m)
        self._aim(self.kinematics.step(self._joint_target_rad, target)[0])
        self._periods = periods

    def hold(self) -> CellState:
        """Advance one control period with the last joint target.

        Raises:
            CellError: never reset.
        """
        self.aim_at_last()
        return self.advance(PIECES)

    def aim_at_last(self) -> None:
        """Stay at the last joint target for `PIECES` pieces; no time passes.

        Raises:
            CellError: never reset.
        """
        self._periods = self.state.step + 1
        self._aim(self._joint_target_rad)

    def advance(self, pieces: int) -> CellState:
        """Let pieces of a period pass on the way to what was aimed at, and stay there after the last.

        Raises:
            CellError: never reset.
        """
        if self._state is None:
            raise CellError("the cell has not been laid out; call reset first")
        for _ in range(pieces):
            if self._piece < PIECES:
                target_rad = self._way_rad[self._piece]
                self._piece += 1
                self._joint_target_rad = target_rad if self._piece < PIECES else self._goal_rad
                self._advance(target_rad + self._lead_rad)
            else:
                self._advance(self._joint_target_rad)
        self._state = self._measure(self._periods)
        return self._state

    def render(self, camera: str = "front", width_px: int = 640, height_px: int = 480) -> np.ndarray:
        """The current state as uint8[H, W, 3].

        Raises:
            RenderError: no OpenGL here, or no such camera.
        """
        if self._renderer is None:
            self._renderer = CellRenderer(self._model, self.scene.cameras)
        return self._renderer.image(self.state.qpos, camera, width_px, height_px)

    def close(self) -> None:
        """Give back the renderer, if there is one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _aim(self, goal_rad: np.ndarray) -> None:
        change_rad = goal_rad - self._joint_target_rad
        self._way_rad = self._joint_target_rad + _SHARES * change_rad
        """float64[PIECES, 7]."""
        self._lead_rad = change_rad / self.period_s * self._lead_s
        self._goal_rad, self._piece = goal_rad, 0

    def _advance(self, arm_target_rad: np.ndarray) -> None:
        """One piece of a period with a joint target, the fingers' target on its way."""
        data = self._data
        fingers_m, step_m = float(data.ctrl[7]), self._finger_step_m
        data.ctrl[7:9] = min(max(self._finger_goal_m, fingers_m - step_m), fingers_m + step_m)
        self.scene.before_piece(data)
        self._arm.advance(data, arm_target_rad, self._piece_steps)

    def _finger_target(self, width_m: float) -> float:
        if not 0.0 <= width_m <= HAND_WIDTH_M:  # false for NaN too
            raise ValueError(f"gripper_width_m = {width_m}: must be in [0, {HAND_WIDTH_M}]")
        return 0.0 if width_m <= self.scene.grasp_width_m else 0.5 * width_m

    def _measure(self, step: int) -> CellState:
        data = self._data
        mujoco.mju_mat2Quat(self._quat, data.site_xmat[self._tool])
        tool_pose = np.concatenate([data.site_xpos[self._tool], self._quat[1:], self._quat[:1]])
        # mj_step leaves site poses one physics step behind the joints; twist is of the same instant.
        mujoco.mj_objectVelocity(self._model, data, mujoco.mjtObj.mjOBJ_SITE, self._tool, self._twist, 0)
        parts = self.scene.parts(data)
        success, failed, reason = False, True, "physics_diverged"
        if not any([warning.number for warning in self._warnings]):
            success, failed, reason = self.scene.judge(parts, tool_pose)
        return CellState(
            tool_pose=tool_pose,
            tool_twist=np.concatenate([self._twist[3:], self._twist[:3]]),
            joint_position_rad=data.qpos[:7].copy(),
            joint_velocity_radps=data.qvel[:7].copy(),
            joint_torque_nm=data.qfrc_actuator[:7].copy(),
            gripper_width_m=float(data.qpos[7] + data.qpos[8]),
            parts=parts,
            qpos=drawn_state(data),
            success=success,
            failed=failed,
            reason=reason,
            step=step,
        )
