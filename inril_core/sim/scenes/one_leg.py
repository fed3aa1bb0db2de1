"""The one_leg scene: FurnitureBench's task of that name, from the lying leg to the screwed one (Heo et al. 2023).

Like the original: the parts' shapes, the places where they lie and how far these vary, 10 Hz, and the reward,
which furniture-bench's own code computes. Unlike it:

* The table top is fixed where it lies, as if already pushed against the obstacle. The three legs that this task
  does not touch and the obstacle are left out.
* The thread is not modelled as a helix. A floor in the holes stops the peg `thread_depth_m` below the rim and
  sinks by `thread_lead_m` per clockwise turn of the leg, and rises again when it is turned back, so that the leg
  cannot reach the reward's depth without being turned. It does not hold the leg against being pulled out, and the lead
  is coarser than the real thread's: a quarter turn in one grasp is enough, where a person screws several times.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from inril_core.contract import Contract
from inril_core.contract.definitions.one_leg import Sim, Success
from inril_core.contract.square_table import HOLE_RADIUS_M
from inril_core.errors import ConfigError
from inril_core.outcome import CellReport
from inril_core.sim.assembly import AssemblyReward
from inril_core.sim.kinematics import ArmKinematics
from inril_core.sim.square_table import (
    BLOCK_HALF_M,
    GRASP_WIDTH_M,
    HOLE_OFFSET_M,
    TIP_IN_LEG_M,
    TOP_SIZE_M,
    add_drawn_rims,
    add_hole,
    table_spec,
)
from inril_core.transforms import quat_conjugate, quat_from_rotvec, quat_multiply, quat_rotate

# Places of furniture-bench's square_table and its leg 4 (config.py, reset_pos and reset_ori), from the base tag's
# frame into the robot's; the bench is at z 0.
TOP_POSITION_M = (0.5415, 0.0)
TOP_YAW_RAD = -math.pi / 2
LEG_POSITION_M = (0.3715, 0.20)  # it lies along base x, its peg towards the robot
TOOL_POSITION_M = np.array([0.45, 0.10, 0.20])
HOLE_IN_TOP_M = np.array([-HOLE_OFFSET_M, HOLE_OFFSET_M, TOP_SIZE_M[2]])  # where furniture-bench puts leg 4
SEATED_M = 0.5 * TOP_SIZE_M[2] + BLOCK_HALF_M[2]  # of the leg's middle above the top's
LEG_BOUNDS_M = ((0.15, 0.85), (-0.55, 0.55), (-0.02, 0.60))  # outside it is lost: it fell, or was thrown
MARGIN_M = 0.02  # between leg and top at the start
OPEN_M = 0.065  # gripper at the start

_BOTH_M = (-HOLE_OFFSET_M, HOLE_OFFSET_M)
_HOLES_M = [np.array([x, y, TOP_SIZE_M[2]]) for x in _BOTH_M for y in _BOTH_M]
_NEAR_M = (0.011, 0.006)  # of a seated place, across and along: wider than the reward's tolerances
_FAR_BELOW_M = -1.0
_LAY_DOWN = quat_from_rotvec((0.0, math.pi / 2, 0.0))  # from upright: the block's end to +x
_CAMERAS = {
    "front": ((0.58, 0.92, 0.42), (0.47, 0.08, 0.07), 38.0),
    "overview": ((1.35, 1.10, 0.85), (0.33, 0.05, 0.26), 38.0),
    "close": ((0.86, 0.42, 0.26), (0.54, 0.06, 0.07), 38.0),
}


class OneLeg:
    """The leg lies beside the table top; assembling it succeeds, losing it fails.

    Raises:
        ConfigError: the contract's `sim` or `success` is another task's, or furniture-bench is not installed.
    """

    cameras = (*_CAMERAS, "wrist")
    rest_rad = np.array([0.0, 0.15, 0.0, -2.25, 0.0, 2.40, 0.785])
    finger_speed_mps = 0.05  # the Panda hand's
    grasp_width_m = GRASP_WIDTH_M
    settle_steps = 25

    def __init__(self, contract: Contract, timestep_s: float) -> None:
        if not isinstance(contract.sim, Sim) or not isinstance(contract.success, Success):
            raise ConfigError("sim, success: one_leg needs thread_depth_m, thread_lead_m, layout and assembled_by")
        self._sim = contract.sim
        self._reward = AssemblyReward()
        spec = table_spec(self._sim.clearance_m, timestep_s, _CAMERAS)
        _add_top(spec)
        self.model = spec.compile()
        self._leg = self.model.body("leg").id
        self._leg_qpos = int(self.model.joint("leg").qposadr[0])
        self._top_mocap = int(self.model.body("table_top").mocapid[0])
        self._thread_mocap = int(self.model.body("thread").mocapid[0])

    def lay_out(self, data: mujoco.MjData, seed: int, purpose: str, kinematics: ArmKinematics) -> np.ndarray:
        """Leg, top and tool within the contract's `sim.layout`, whatever the purpose; the gripper is open."""
        rng, layout = np.random.default_rng(seed), self._sim.layout
        while True:
            top = np.array(TOP_POSITION_M) + rng.uniform(-1.0, 1.0, 2) * layout.top_offset_m
            top_yaw_rad = TOP_YAW_RAD + rng.uniform(-1.0, 1.0) * layout.top_yaw_rad
            leg = np.array(LEG_POSITION_M) + rng.uniform(-1.0, 1.0, 2) * layout.leg_offset_m
            leg_yaw_rad = rng.uniform(-1.0, 1.0) * layout.leg_yaw_rad
            face = int(rng.integers(4)) if layout.any_face else 0
            if _apart(leg, leg_yaw_rad, top, top_yaw_rad):
                break
        tool = TOOL_POSITION_M + rng.uniform(-1.0, 1.0, 3) * layout.tool_offset_m
        top_quat = quat_from_rotvec((0.0, 0.0, top_yaw_rad))
        self._top = np.array([*top, 0.0, *top_quat])
        self._hole = np.array([*self._on_top(HOLE_IN_TOP_M), *top_quat])
        data.mocap_pos[self._top_mocap] = self._top[:3]
        data.mocap_quat[self._top_mocap] = (top_quat[3], *top_quat[:3])
        rolled = quat_multiply(_LAY_DOWN, quat_from_rotvec((0.0, 0.0, face * math.pi / 2)))
        leg_quat = quat_multiply(quat_from_rotvec((0.0, 0.0, leg_yaw_rad)), rolled)
        qpos = (*leg, BLOCK_HALF_M[0], leg_quat[3], *leg_quat[:3])
        data.qpos[self._leg_qpos : self._leg_qpos + 7] = qpos
        data.qpos[7:9] = data.ctrl[7:9] = 0.5 * OPEN_M
        self._reward.reset()
        self._catch_rad: float | None = None
        self._turned_rad = 0.0
        return kinematics.solve(self.rest_rad, np.array([*tool, 1.0, 0.0, 0.0, 0.0]))

    def before_piece(self, data: mujoco.MjData) -> None:
        """Move the thread's floor to where the leg's turn has brought it."""
        leg = self._pose(data)
        quat = leg[3:].tolist()
        tip = leg[:3] + quat_rotate(quat, TIP_IN_LEG_M.tolist())
        depth_m = TOP_SIZE_M[2] - float(tip[2])
        floor_m = _FAR_BELOW_M
        if depth_m > 0.0 and self._in_a_hole(tip):
            self._count_turn(depth_m, quat)
            floor_m = TOP_SIZE_M[2] - self._floor_depth_m()
        else:
            self._catch_rad, self._turned_rad = None, 0.0
        data.mocap_pos[self._thread_mocap, 2] = floor_m

    def parts(self, data: mujoco.MjData) -> dict[str, np.ndarray]:
        """`leg`, and `hole`: where furniture-bench puts this leg, turned as the assembled leg is."""
        return {"leg": self._pose(data), "hole": self._hole.copy()}

    def judge(self, parts: dict[str, np.ndarray], tool_pose: np.ndarray) -> CellReport:
        """What furniture-bench says; it is asked only where the leg is near a seated place."""
        leg = parts["leg"]
        if any(not low <= value <= high for value, (low, high) in zip(leg[:3], LEG_BOUNDS_M, strict=True)):
            return CellReport(False, True, "leg_lost")
        middle = np.array([*self._top[:2], 0.5 * TOP_SIZE_M[2], *self._top[3:]])
        success = self._is_near(leg, middle) and self._reward(middle, leg) == 1
        return CellReport(success, False, "leg_assembled" if success else "")

    def _is_near(self, leg: np.ndarray, middle: np.ndarray) -> bool:
        x, y, z = quat_rotate(quat_conjugate(middle[3:].tolist()), (leg[:3] - middle[:3]).tolist())
        across = max(abs(abs(x) - HOLE_OFFSET_M), abs(abs(y) - HOLE_OFFSET_M))
        return across < _NEAR_M[0] and abs(z - SEATED_M) < _NEAR_M[1]

    def _pose(self, data: mujoco.MjData) -> np.ndarray:
        return np.concatenate([data.xpos[self._leg], data.xquat[self._leg][[1, 2, 3, 0]]])

    def _on_top(self, point_m: np.ndarray) -> np.ndarray:
        return self._top[:3] + quat_rotate(self._top[3:].tolist(), point_m.tolist())

    def _in_a_hole(self, tip: np.ndarray) -> bool:
        x, y, _ = quat_rotate(quat_conjugate(self._top[3:].tolist()), (tip - self._top[:3]).tolist())
        return math.hypot(abs(x) - HOLE_OFFSET_M, abs(y) - HOLE_OFFSET_M) < HOLE_RADIUS_M

    def _floor_depth_m(self) -> float:
        return self._sim.thread_depth_m + self._sim.thread_lead_m * self._turned_rad / (2 * math.pi)

    def _count_turn(self, depth_m: float, leg_quat: list[float]) -> None:
        """Clockwise turn, seen from above, since the thread caught; a turn back before that catches anew."""
        along = quat_rotate(leg_quat, (1.0, 0.0, 0.0))
        heading_rad = math.atan2(along[1], along[0])
        if depth_m < self._sim.thread_depth_m - 0.002:  # half of a millimetre is the contact's softness
            self._catch_rad, self._turned_rad = None, 0.0
        elif self._catch_rad is None:
            self._catch_rad = heading_rad
        else:
            self._turned_rad += math.remainder(self._catch_rad - heading_rad - self._turned_rad, 2 * math.pi)
            if self._turned_rad < 0.0:
                self._catch_rad, self._turned_rad = heading_rad, 0.0


def _add_top(spec: mujoco.MjSpec) -> None:
    """The table top with its four holes, and the floor of the thread, both placed anew for each episode."""
    spec.body("table_top").mocap = True
    half = np.array(TOP_SIZE_M[:2]) / 2
    for hole_m in _HOLES_M:
        corner = np.sign(hole_m[:2]) * half
        add_hole(spec, hole_m, np.minimum(corner, 0.0), np.maximum(corner, 0.0))
    add_drawn_rims(spec, _HOLES_M)
    thread = spec.worldbody.add_body(name="thread", mocap=True, pos=[0.0, 0.0, _FAR_BELOW_M])
    # Nothing but the peg in a hole is below it; little friction, so that turning the leg does not cost the grip.
    thread.add_geom(
        spec.find_default("top"),
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0.1, 0.1, 0.01],
        friction=[0.1, 0.005, 0.0001],
        priority=1,
        group=3,
    )


def _apart(leg_m: np.ndarray, leg_yaw_rad: float, top_m: np.ndarray, top_yaw_rad: float) -> bool:
    """Whether a lying leg and the top keep their distance, by furniture-bench's measure: boxes around both."""
    length_m, width_m = BLOCK_HALF_M[2] - float(TIP_IN_LEG_M[2]), 2 * BLOCK_HALF_M[0]
    middle_m = 0.5 * (BLOCK_HALF_M[2] + float(TIP_IN_LEG_M[2]))
    leg_m = leg_m + middle_m * np.array([math.cos(leg_yaw_rad), math.sin(leg_yaw_rad)])
    leg_half = _box_half(length_m, width_m, leg_yaw_rad)
    top_half = _box_half(TOP_SIZE_M[0], TOP_SIZE_M[1], top_yaw_rad)
    return bool((np.abs(leg_m - top_m) > leg_half + top_half + MARGIN_M).any())


def _box_half(x_m: float, y_m: float, yaw_rad: float) -> np.ndarray:
    c, s = abs(math.cos(yaw_rad)), abs(math.sin(yaw_rad))
    return 0.5 * np.array([x_m * c + y_m * s, x_m * s + y_m * c])


SCENE = OneLeg
