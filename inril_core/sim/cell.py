"""The simulated cell: a Panda, a leg held by friction and a hole to put it in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from inril_core.errors import ConfigError, InrilError
from inril_core.sim import insert_leg
from inril_core.sim.kinematics import ArmKinematics
from inril_core.transforms import (
    quat_conjugate,
    quat_from_rotvec,
    quat_multiply,
    quat_normalise,
    quat_rotate,
)

if TYPE_CHECKING:
    from inril_core.contract import Contract
    from inril_core.contract.schema import StartRange
    from inril_core.sim.render import CellRenderer

TIMESTEP_S = 0.004
PIECES = 5  # of a control period, over which the joint target is interpolated
SETTLE_STEPS = 25  # physics steps after laying out, so that the grip carries the leg
REST_RAD = np.array([0.0, 0.15, 0.0, -2.25, 0.0, 2.40, 0.785 - math.pi / 2])
MAX_GRASP_SLIP_M = 0.02  # beyond it the leg counts as dropped
GRASP_MARGIN_M = 0.005  # a gripper target up to this above the leg's width grasps
HAND_WIDTH_M = 0.08
_DIVERGED = [getattr(mujoco.mjtWarning, f"mjWARN_BAD{name}") for name in ("QPOS", "QVEL", "QACC")]


class CellError(InrilError):
    """The cell cannot do what was asked; the message says why."""


@dataclass(frozen=True)
class CellState:
    """What the cell measures after a control period, base frame, SI units, quaternions xyzw.

    tool_pose float64[7]; tool_twist float64[6] (linear, angular); joint_position_rad,
    joint_velocity_radps and joint_torque_nm float64[7].
    parts: `leg` and `hole` float64[7], as perceived (the hole with the contract's error).
    qpos: float64[nq], for rendering again.
    success, failed, reason: the simulator's own knowledge. step: control periods since the reset.
    """

    tool_pose: np.ndarray
    tool_twist: np.ndarray
    joint_position_rad: np.ndarray
    joint_velocity_radps: np.ndarray
    joint_torque_nm: np.ndarray
    gripper_width_m: float
    parts: Mapping[str, np.ndarray]
    qpos: np.ndarray
    success: bool
    failed: bool
    reason: str
    step: int


class Cell:
    """The insert_leg cell of a contract. Equal seeds and equal targets give bit-identical trajectories.

    Raises:
        ConfigError: the contract has no `sim` section, is of another task, or its rate does not suit
            the physics step.
    """

    def __init__(self, contract: Contract) -> None:
        if contract.task != "insert_leg":
            raise ConfigError(f"task = {contract.task!r}: the simulated cell knows insert_leg only; use that contract")
        if contract.sim is None:
            raise ConfigError("sim: missing in the contract, so there is no cell to simulate; add the section")
        self._sim, self._rule = contract.sim, contract.success
        self._piece_steps = round(1.0 / (contract.control_rate_hz * TIMESTEP_S * PIECES))
        if abs(self._piece_steps * PIECES * TIMESTEP_S * contract.control_rate_hz - 1.0) > 1e-6:
            raise ConfigError(
                f"control_rate_hz = {contract.control_rate_hz}: its period must be a multiple of "
                f"{PIECES * TIMESTEP_S} s in simulation; use 10, 12.5, 25 or 50"
            )
        self._model = insert_leg.scene(self._sim.clearance_m, TIMESTEP_S)
        self._data = mujoco.MjData(self._model)
        self.kinematics = ArmKinematics(REST_RAD)
        # How far ahead of its target a joint must be commanded for damping not to make it trail, s.
        damping = self._model.dof_damping[:7] - self._model.actuator_biasprm[:7, 2]
        self._lead_s = damping / self._model.actuator_gainprm[:7, 0]
        self._tool = self._model.site("tool").id
        self._leg = self._model.body("leg").id
        self._leg_qpos = int(self._model.joint("leg").qposadr[0])
        self._quat, self._twist = np.zeros(4), np.zeros(6)
        self._renderer: CellRenderer | None = None
        self._state: CellState | None = None

    @property
    def model(self) -> mujoco.MjModel:
        """The compiled model (read only, for rendering and inspection)."""
        return self._model

    @property
    def period_s(self) -> float:
        """Simulated time of one control period."""
        return PIECES * self._piece_steps * TIMESTEP_S

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
        """Lay the cell out: tool and leg near the hole as `seed` says.

        purpose: train and eval start in the contract's `sim.start`, demo in its `sim.demo_start`.

        Raises:
            ValueError: an unknown purpose, or a negative seed.
            OutOfReach: the contract's start range reaches beyond the arm.
        """
        if purpose not in ("demo", "train", "eval"):
            raise ValueError(f"purpose = {purpose!r}: must be demo, train or eval")
        start = self._sim.demo_start if purpose == "demo" else self._sim.start
        rng = np.random.default_rng(seed)
        tool_pose = _start_pose(rng, start)
        error = rng.uniform(-1.0, 1.0, 2) * self._sim.hole_pose_error_m
        self._hole = np.array([*insert_leg.HOLE_POSITION_M, 0.0, 0.0, 0.0, 1.0])
        self._perceived_hole = self._hole + np.array([*error, 0.0, 0.0, 0.0, 0.0, 0.0])

        data = self._data
        mujoco.mj_resetData(self._model, data)
        self._joint_target_rad = self.kinematics.solve(REST_RAD, tool_pose)
        data.qpos[:7] = self._joint_target_rad
        data.qpos[7:9] = insert_leg.BLOCK_HALF_M[1]
        data.qpos[self._leg_qpos : self._leg_qpos + 7] = _held_leg(tool_pose)
        data.ctrl[:7] = self._joint_target_rad
        data.ctrl[7:9] = 0.0
        mujoco.mj_step(self._model, data, SETTLE_STEPS)
        self._turn_start: float | None = None
        self._turned_rad = 0.0
        self._state = self._measure(0)
        return self._state

    def step(
        self, tool_position_m: np.ndarray, tool_quat_xyzw: np.ndarray, gripper_width_m: float | None = None
    ) -> CellState:
        """Advance one control period towards a tool pose in the base frame.

        tool_position_m [3], tool_quat_xyzw [4]. gripper_width_m: up to the leg's width it grasps, above it
        the fingers open to it; None keeps the last.

        Raises:
            CellError: never reset.
            ValueError: a target is not finite, or the gripper's width is outside [0, 0.08] m.
        """
        step = self.state.step + 1
        position = np.asarray(tool_position_m, np.float64)
        quat = np.asarray(tool_quat_xyzw, np.float64)
        if position.shape != (3,) or quat.shape != (4,) or not np.isfinite(position).all():
            raise ValueError(f"tool target {position.tolist()}, {quat.tolist()}: must be 3 and 4 finite numbers")
        target = np.concatenate([position, quat_normalise(quat.tolist())])
        if gripper_width_m is not None:
            self._data.ctrl[7:9] = self._finger_target(gripper_width_m)
        goal_rad, _ = self.kinematics.step(self._joint_target_rad, target)
        change_rad = goal_rad - self._joint_target_rad
        lead_rad = change_rad / self.period_s * self._lead_s
        for piece in range(1, PIECES + 1):
            self._data.ctrl[:7] = self._joint_target_rad + change_rad * (piece / PIECES) + lead_rad
            mujoco.mj_step(self._model, self._data, self._piece_steps)
        self._joint_target_rad = goal_rad
        self._state = self._measure(step)
        return self._state

    def hold(self) -> CellState:
        """Advance one control period with the last joint target.

        Raises:
            CellError: never reset.
        """
        step = self.state.step + 1
        self._data.ctrl[:7] = self._joint_target_rad
        mujoco.mj_step(self._model, self._data, PIECES * self._piece_steps)
        self._state = self._measure(step)
        return self._state

    def render(self, camera: str = "front", width_px: int = 640, height_px: int = 480) -> np.ndarray:
        """The current state as uint8[H, W, 3].

        Raises:
            RenderError: no OpenGL here, or no such camera.
        """
        from inril_core.sim.render import CellRenderer

        if self._renderer is None:
            self._renderer = CellRenderer(self._model)
        return self._renderer.image(self.state.qpos, camera, width_px, height_px)

    def close(self) -> None:
        """Give back the renderer, if there is one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _finger_target(self, width_m: float) -> float:
        if not 0.0 <= width_m <= HAND_WIDTH_M:  # false for NaN too
            raise ValueError(f"gripper_width_m = {width_m}: must be in [0, {HAND_WIDTH_M}]")
        grasps = width_m <= 2 * insert_leg.BLOCK_HALF_M[1] + GRASP_MARGIN_M
        return 0.0 if grasps else 0.5 * width_m

    def _measure(self, step: int) -> CellState:
        data = self._data
        mujoco.mju_mat2Quat(self._quat, data.site_xmat[self._tool])
        tool_pose = np.concatenate([data.site_xpos[self._tool], self._quat[[1, 2, 3, 0]]])
        # mj_step leaves site poses one physics step behind the joints; twist is of the same instant.
        mujoco.mj_objectVelocity(self._model, data, mujoco.mjtObj.mjOBJ_SITE, self._tool, self._twist, 0)
        leg = np.concatenate([data.xpos[self._leg], data.xquat[self._leg][[1, 2, 3, 0]]])
        success, failed, reason = self._judge(tool_pose, leg)
        return CellState(
            tool_pose=tool_pose,
            tool_twist=self._twist[[3, 4, 5, 0, 1, 2]],
            joint_position_rad=data.qpos[:7].copy(),
            joint_velocity_radps=data.qvel[:7].copy(),
            joint_torque_nm=data.qfrc_actuator[:7].copy(),
            gripper_width_m=float(data.qpos[7] + data.qpos[8]),
            parts={"leg": leg, "hole": self._perceived_hole.copy()},
            qpos=data.qpos.copy(),
            success=success,
            failed=failed,
            reason=reason,
            step=step,
        )

    def _judge(self, tool_pose: np.ndarray, leg: np.ndarray) -> tuple[bool, bool, str]:
        """Success, failure and the reason of either; keeps account of the turn made below the rim."""
        if any(self._data.warning[kind].number for kind in _DIVERGED):
            return False, True, "physics_diverged"
        quat = leg[3:].tolist()
        grasp = leg[:3] + quat_rotate(quat, insert_leg.GRASP_IN_LEG_M.tolist())
        if math.dist(grasp, tool_pose[:3]) > MAX_GRASP_SLIP_M:
            return False, True, "leg_dropped"
        tip = leg[:3] + quat_rotate(quat, insert_leg.TIP_IN_LEG_M.tolist()) - self._hole[:3]
        up = quat_rotate(quat, (0.0, 0.0, 1.0))
        along = quat_rotate(quat, (1.0, 0.0, 0.0))
        in_hole = math.hypot(tip[0], tip[1]) < insert_leg.HOLE_RADIUS_M
        depth_m = -float(tip[2]) if in_hole else 0.0
        self._count_turn(depth_m, math.atan2(along[1], along[0]))
        rule = self._rule
        success = (
            depth_m >= rule.depth_m
            and up[2] >= rule.min_up_z
            and rule.turn_min_rad <= self._turned_rad <= rule.turn_max_rad
        )
        return success, False, "leg_seated_and_turned" if success else ""

    def _count_turn(self, depth_m: float, heading_rad: float) -> None:
        """Clockwise turn, seen from above, since the tip went below the turn depth."""
        if depth_m < self._rule.turn_depth_m:
            self._turn_start, self._turned_rad = None, 0.0
        elif self._turn_start is None:
            self._turn_start = heading_rad
        else:
            change = math.remainder(self._turn_start - heading_rad - self._turned_rad, 2 * math.pi)
            self._turned_rad += change


def _start_pose(rng: np.random.Generator, start: StartRange) -> np.ndarray:
    """Tool pose float64[7] that holds the leg with its tip above the hole, within `start`'s range."""
    offset = rng.uniform(-1.0, 1.0, 2) * start.offset_m
    height_m = rng.uniform(start.height_min_m, start.height_max_m)
    axis_rad = rng.uniform(0.0, 2 * math.pi)
    tilt_rad = rng.uniform(0.0, 1.0) * start.tilt_rad
    yaw_rad = rng.uniform(-1.0, 1.0) * start.yaw_rad
    tip = insert_leg.HOLE_POSITION_M + np.array([*offset, height_m])
    tilt = quat_from_rotvec((tilt_rad * math.cos(axis_rad), tilt_rad * math.sin(axis_rad), 0.0))
    leg_quat = quat_multiply(tilt, quat_from_rotvec((0.0, 0.0, yaw_rad)))
    grasp = tip + quat_rotate(leg_quat, (insert_leg.GRASP_IN_LEG_M - insert_leg.TIP_IN_LEG_M).tolist())
    return np.array([*grasp, *quat_multiply(leg_quat, insert_leg.TOOL_IN_LEG_QUAT)])


def _held_leg(tool_pose: np.ndarray) -> np.ndarray:
    """Free-joint position (m, quaternion wxyz as MuJoCo has it) of the leg in the tool."""
    leg_quat = quat_multiply(tool_pose[3:].tolist(), quat_conjugate(insert_leg.TOOL_IN_LEG_QUAT))
    position = tool_pose[:3] - quat_rotate(leg_quat, insert_leg.GRASP_IN_LEG_M.tolist())
    return np.array([*position, leg_quat[3], *leg_quat[:3]])
