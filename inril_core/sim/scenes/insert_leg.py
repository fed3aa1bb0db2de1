"""The insert_leg scene: a fixed table top with one ring hole, and a free leg already held by friction."""

from __future__ import annotations

import math
from typing import ClassVar

import mujoco
import numpy as np

from inril_core.contract import Contract
from inril_core.contract.definitions.insert_leg import Sim, StartRange, Success
from inril_core.contract.square_table import HOLE_RADIUS_M, LEG_GRASP_M, LEG_TIP_M
from inril_core.errors import ConfigError
from inril_core.outcome import CellReport
from inril_core.settings import Settings
from inril_core.sim.kinematics import ArmKinematics
from inril_core.sim.square_table import (
    BLOCK_HALF_M,
    GRASP_IN_LEG_M,
    GRASP_WIDTH_M,
    HOLE_OFFSET_M,
    TIP_IN_LEG_M,
    TOP_SIZE_M,
    add_drawn_rims,
    add_hole,
    add_shade,
    table_spec,
)
from inril_core.transforms import quat_conjugate, quat_from_rotvec, quat_multiply, quat_rotate

HOLE_POSITION_M = np.array([0.50, 0.0, TOP_SIZE_M[2]])
_HOLE_M = HOLE_POSITION_M.tolist()
REST_RAD = np.array([0.0, 0.15, 0.0, -2.25, 0.0, 2.40, 0.785 - math.pi / 2])
PEG_SIDES = 24  # more cost time in every search for a contact
MAX_GRASP_SLIP_M = 0.02  # beyond it the leg counts as dropped

# Tool pose with the leg upright and its yaw 0: z down, the fingers close along base x. Joint 7 then has room
# for the start's yaw of either sign and the clockwise turn after it.
TOOL_IN_LEG_QUAT = (math.sqrt(0.5), math.sqrt(0.5), 0.0, 0.0)  # xyzw

_PAINTED_HOLES_M = [(2 * HOLE_OFFSET_M, 0.0), (0.0, 2 * HOLE_OFFSET_M), (2 * HOLE_OFFSET_M, 2 * HOLE_OFFSET_M)]
_CAMERAS = {
    "front": ((0.92, -0.50, 0.36), (0.51, 0.02, 0.11), 34.0),
    "overview": ((1.45, -1.05, 0.85), (0.33, 0.02, 0.28), 38.0),
    "close": ((0.66, -0.24, 0.17), (0.505, 0.0, 0.06), 36.0),
}


def scene(clearance_m: float, timestep_s: float) -> mujoco.MjModel:
    """The compiled cell.

    clearance_m: hole radius minus peg radius, m. timestep_s: physics step, s.
    """
    spec = table_spec(clearance_m, timestep_s, _CAMERAS, PEG_SIDES)
    low = HOLE_POSITION_M[:2] + HOLE_OFFSET_M - np.array(TOP_SIZE_M[:2]) / 2
    add_hole(spec, HOLE_POSITION_M, low, low + TOP_SIZE_M[:2])
    for x, y in _PAINTED_HOLES_M:
        add_shade(spec, (HOLE_POSITION_M[0] + x, HOLE_POSITION_M[1] + y, TOP_SIZE_M[2]))
    add_drawn_rims(spec, [HOLE_POSITION_M])
    model = spec.compile()
    # The solver finds the same forces faster afresh, and as one problem; a lying part's grasp needs more digits.
    model.opt.tolerance = 1e-5
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_WARMSTART | mujoco.mjtDisableBit.mjDSBL_ISLAND)
    return model


class InsertLeg:
    """The leg starts in the gripper near the hole; dropping it fails, seating and turning it succeeds.

    Raises:
        ConfigError: the contract's `sim` or `success` is another task's.
    """

    success: ClassVar[type[Settings]] = Success
    """Settings of the rule; a subclass with its own rule sets them and overrides `judge`, where they are `rule`."""
    cameras = (*_CAMERAS, "wrist")
    rest_rad = REST_RAD
    finger_speed_mps = math.inf
    grasp_width_m = GRASP_WIDTH_M
    settle_steps = 25  # so that the grip carries the leg

    def __init__(self, contract: Contract, timestep_s: float) -> None:
        if not isinstance(contract.sim, Sim) or not isinstance(contract.success, self.success):
            raise ConfigError(
                f"sim, success: {type(self).__name__} needs start and demo_start, and "
                f"{', '.join(self.success.model_fields)}"
            )
        self._sim, self.rule = contract.sim, contract.success
        self.model = scene(self._sim.clearance_m, timestep_s)
        self._leg = self.model.body("leg").id
        self._leg_qpos = int(self.model.joint("leg").qposadr[0])

    def lay_out(self, data: mujoco.MjData, seed: int, purpose: str, kinematics: ArmKinematics) -> np.ndarray:
        """Tool and leg near the hole: train and eval in the contract's `sim.start`, demo in its `sim.demo_start`."""
        start = self._sim.demo_start if purpose == "demo" else self._sim.start
        rng = np.random.default_rng(seed)
        tool_pose = _start_pose(rng, start)
        error = rng.uniform(-1.0, 1.0, 2) * self._sim.hole_pose_error_m
        self._perceived_hole = np.array([*HOLE_POSITION_M, 0.0, 0.0, 0.0, 1.0])
        self._perceived_hole[:2] += error
        joint_rad = kinematics.solve(REST_RAD, tool_pose)
        data.qpos[7:9] = BLOCK_HALF_M[1]
        data.qpos[self._leg_qpos : self._leg_qpos + 7] = _held_leg(tool_pose)
        data.ctrl[7:9] = 0.0
        self._turn_start: float | None = None
        self._turned_rad = 0.0
        return joint_rad

    def before_piece(self, data: mujoco.MjData) -> None:
        """Nothing changes by itself."""

    def parts(self, data: mujoco.MjData) -> dict[str, np.ndarray]:
        """`leg`, and `hole` with the contract's error."""
        quat = data.xquat[self._leg]
        leg = np.concatenate([data.xpos[self._leg], quat[1:], quat[:1]])
        return {"leg": leg, "hole": self._perceived_hole.copy()}

    def judge(self, parts: dict[str, np.ndarray], tool_pose: np.ndarray) -> CellReport:
        """Success, failure and the reason of either; keeps account of the turn made below the rim."""
        leg = parts["leg"].tolist()
        quat = leg[3:]
        arm = quat_rotate(quat, LEG_GRASP_M)
        if math.dist([leg[i] + arm[i] for i in range(3)], tool_pose[:3].tolist()) > MAX_GRASP_SLIP_M:
            return CellReport(False, True, "leg_dropped")
        arm = quat_rotate(quat, LEG_TIP_M)
        tip = [leg[i] + arm[i] - hole_m for i, hole_m in enumerate(_HOLE_M)]
        up = quat_rotate(quat, (0.0, 0.0, 1.0))
        along = quat_rotate(quat, (1.0, 0.0, 0.0))
        in_hole = math.hypot(tip[0], tip[1]) < HOLE_RADIUS_M
        depth_m = -tip[2] if in_hole else 0.0
        self._count_turn(depth_m, math.atan2(along[1], along[0]))
        rule = self.rule
        assert isinstance(rule, Success)
        success = (
            depth_m >= rule.depth_m
            and up[2] >= rule.min_up_z
            and rule.turn_min_rad <= self._turned_rad <= rule.turn_max_rad
        )
        return CellReport(success, False, "leg_seated_and_turned" if success else "")

    def _count_turn(self, depth_m: float, heading_rad: float) -> None:
        """Clockwise turn, seen from above, since the tip went below the turn depth."""
        assert isinstance(self.rule, Success)
        if depth_m < self.rule.turn_depth_m:
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
    tip = HOLE_POSITION_M + np.array([*offset, height_m])
    tilt = quat_from_rotvec((tilt_rad * math.cos(axis_rad), tilt_rad * math.sin(axis_rad), 0.0))
    leg_quat = quat_multiply(tilt, quat_from_rotvec((0.0, 0.0, yaw_rad)))
    grasp = tip + quat_rotate(leg_quat, (GRASP_IN_LEG_M - TIP_IN_LEG_M).tolist())
    return np.array([*grasp, *quat_multiply(leg_quat, TOOL_IN_LEG_QUAT)])


def _held_leg(tool_pose: np.ndarray) -> np.ndarray:
    """Free-joint position (m, quaternion wxyz as MuJoCo has it) of the leg in the tool."""
    leg_quat = quat_multiply(tool_pose[3:].tolist(), quat_conjugate(TOOL_IN_LEG_QUAT))
    position = tool_pose[:3] - quat_rotate(leg_quat, GRASP_IN_LEG_M.tolist())
    return np.array([*position, leg_quat[3], *leg_quat[:3]])


SCENE = InsertLeg
