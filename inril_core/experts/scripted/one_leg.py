"""The scripted expert of one_leg: grasp, raise, insert, regrasp from above, screw."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from inril_core.contract import Contract
from inril_core.contract.definitions.one_leg import Sim
from inril_core.contract.square_table import HOLE_RADIUS_M, LEG_GRASP_M, LEG_TIP_M
from inril_core.errors import ConfigError
from inril_core.experts.scripted.base import ScriptedExpert

LEAN_RAD = math.radians(55)  # of the tool when it grasps the lying leg; 35 deg the other way once the leg stands
GAIN = 0.6  # share of the error asked for per step
RETREAT_M = 0.05  # back along the tool from a grasp, until the tool is aligned with it
LIFT_M = 0.06  # height of the leg's middle from which it may be raised
CARRY_M = 0.04  # height of the tip above the rim on the way to the hole
HOVER_M = 0.008  # and over it, until it may go down
ALIGNED_M = 0.0025  # sideways error with which the tip may go down: the chamfer takes it
FUNNEL = 0.5  # and by how much more per metre above the rim
ALIGNED_RAD = 0.08  # tilt with which it may go down
HEADING_RAD = 0.3  # heading error with which it may go down
DESCENT_M = 0.008  # a step downwards
INSIDE_M = 0.003  # depth from which the hole guides the tip
INSERTED_M = 0.008  # depth from which the hole holds the leg upright
PRESS_M = 0.004  # aimed below what stops the peg
SHALLOW_M = 0.012  # depth at which the leg stands in the hole and is not yet on the thread
START_HEADING_RAD = math.radians(100)  # of the leg before the thread catches: a turn deep enough ends near 0
START_RANGE_RAD = (math.radians(80), math.radians(230))  # headings from which it can still be screwed
LEAN_YAW_RAD = (math.radians(-20), math.radians(80))  # to which the tool may lean over the hole: wrist's reach
SCREW_YAW_RAD = math.pi / 2  # of the tool: from about here the wrist has room for a clockwise turn of 3 rad
WRIST_RAD = (-1.5, 2.9)  # tool's yaw at which a turn has to let go
UPRIGHT_RAD = 0.25  # lean of the tool below which it has regrasped from above
HELD_M = (0.027, 0.0335)  # gripper widths with a leg in it
OPEN_M = 0.050  # gripper width from which the fingers are clear of the leg
OPEN, CLOSE = -1.0, 1.0


@dataclass(frozen=True)
class _View:
    """What the observation says, base frame. rotations: 3 x 3, columns are the axes."""

    tool: np.ndarray
    tool_rotation: np.ndarray
    leg: np.ndarray
    leg_rotation: np.ndarray
    tip_in_hole: np.ndarray
    heading_rad: float
    hole: np.ndarray
    hole_heading_rad: float
    width_m: float

    @property
    def up(self) -> np.ndarray:
        """The leg's axis, from peg to block."""
        return self.leg_rotation[:, 2]

    @property
    def grasp(self) -> np.ndarray:
        """Where the tool shall hold the leg."""
        return self.leg + self.leg_rotation @ LEG_GRASP_M

    @property
    def held(self) -> bool:
        """The leg is between the closed fingers."""
        return HELD_M[0] < self.width_m < HELD_M[1] and bool(np.linalg.norm(self.grasp - self.tool) < 0.025)

    @property
    def depth_m(self) -> float:
        """Of the tip below the rim; 0 outside the hole."""
        in_hole = math.hypot(self.tip_in_hole[0], self.tip_in_hole[1]) < HOLE_RADIUS_M
        return max(0.0, -float(self.tip_in_hole[2])) if in_hole else 0.0

    @property
    def lean_rad(self) -> float:
        """Of the tool's axis from straight down."""
        return math.acos(max(-1.0, min(1.0, -float(self.tool_rotation[2, 2]))))

    @property
    def tool_yaw_rad(self) -> float:
        """Within the wrist's range, from -115 to 245 degrees."""
        yaw_rad = math.atan2(self.tool_rotation[1, 0], self.tool_rotation[0, 0])
        return yaw_rad + 2 * math.pi if yaw_rad < -2.0 else yaw_rad


class OneLegExpert(ScriptedExpert):
    """Each action follows from the observation alone, so it can take over in any state.

    Dials and errors: as `ScriptedExpert`.
    """

    looks_at = (
        "tip_in_hole_m",
        "leg_in_hole_rot6d",
        "turn_sin_cos",
        "leg_in_tool_m",
        "leg_in_tool_rot6d",
        "hole_heading_sin_cos",
        "tool_position_m",
        "tool_rot6d",
        "gripper_width_m",
    )

    def __init__(
        self,
        contract: Contract,
        noise: float = 0.0,
        bias: float = 0.0,
        hesitation: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(contract, noise, bias, hesitation, seed)
        if not isinstance(contract.sim, Sim):
            raise ConfigError("sim: this expert knows one_leg; scripted_expert finds the one of a contract")
        self._thread_m = contract.sim.thread_depth_m

    def wanted(self, observation: np.ndarray) -> np.ndarray:
        view = self._view(observation)
        if view.depth_m > INSERTED_M and view.up[2] > 0.9:
            return self._in_hole(view)
        return self._carry(view) if view.held else self._fetch(view)

    def _view(self, observation: np.ndarray) -> _View:
        seen = {name: observation[self.fields[name]] for name in self.looks_at}
        tool_rotation, tool = _rotation(seen["tool_rot6d"]), seen["tool_position_m"]
        leg_rotation = tool_rotation @ _rotation(seen["leg_in_tool_rot6d"])
        leg = tool + tool_rotation @ seen["leg_in_tool_m"]
        hole_heading_rad = math.atan2(*seen["hole_heading_sin_cos"])
        hole = leg + leg_rotation @ LEG_TIP_M - _about_z(hole_heading_rad) @ seen["tip_in_hole_m"]
        tip_in_hole = seen["tip_in_hole_m"].copy()
        tip_in_hole[:2] -= self._offset_m
        return _View(
            tool=tool,
            tool_rotation=tool_rotation,
            leg=leg,
            leg_rotation=leg_rotation,
            tip_in_hole=tip_in_hole,
            heading_rad=math.atan2(*seen["turn_sin_cos"]),
            hole=hole,
            hole_heading_rad=hole_heading_rad,
            width_m=float(seen["gripper_width_m"][0]),
        )

    def _fetch(self, view: _View) -> np.ndarray:
        """To the lying leg, leaning towards its peg, and close."""
        along = view.up * [1.0, 1.0, 0.0]
        along /= max(float(np.linalg.norm(along)), 1e-9)
        down = np.array([0.0, 0.0, -1.0])
        approach = math.cos(LEAN_RAD) * down - math.sin(LEAN_RAD) * along
        across = np.cross(down, along)
        return _grasp(view, approach, across * (1.0 if across @ view.tool_rotation[:, 1] >= 0.0 else -1.0))

    def _carry(self, view: _View) -> np.ndarray:
        """Lift, raise the leg upright, over the hole and in, with a heading from which it can be screwed."""
        tip, up = view.tip_in_hole, view.up
        lateral_m = math.hypot(tip[0], tip[1])
        heading_rad = self._heading(view)
        turn = _rotvec(_about_z(view.hole_heading_rad + heading_rad) @ view.leg_rotation.T)
        tilt_rad = math.acos(max(-1.0, min(1.0, float(up[2]))))
        arm = view.leg + view.leg_rotation @ LEG_TIP_M - view.tool
        if view.leg[2] < LIFT_M and tilt_rad > 0.5:
            return _wish(np.array([0.0, 0.0, 0.03]), np.zeros(3), CLOSE)
        high = CARRY_M if lateral_m > 0.02 or tilt_rad > 0.2 else HOVER_M
        move = np.array([*(_about_z(view.hole_heading_rad)[:2, :2] @ -tip[:2]), high - tip[2]])
        if tip[2] < 0.5 * CARRY_M and lateral_m > 0.03:
            move[:2] = 0.0  # first up, so that nothing is swept over the bench
        inside = view.depth_m > INSIDE_M
        funnel_m = ALIGNED_M + FUNNEL * max(float(tip[2]), 0.0)
        if inside:
            move[:2] = 0.0
        if inside or (lateral_m < funnel_m and tilt_rad < ALIGNED_RAD and abs(turn[2]) < HEADING_RAD):
            move[2] = max(-PRESS_M - self._goal_depth_m(heading_rad) - tip[2], -DESCENT_M / GAIN)
        # The tool turns about its own origin, and the tip would swing sideways.
        return _wish(GAIN * move - np.cross(GAIN * turn, arm), GAIN * turn, CLOSE)

    def _heading(self, view: _View) -> float:
        """The best heading in the hole that the leaning tool can reach as it holds the leg now."""
        lean = view.tool_rotation[:, 2] if view.up[2] > 0.7 else view.up
        now_rad = math.atan2(lean[1], lean[0]) - view.hole_heading_rad
        along = _upright(view.leg_rotation)[:, 0]
        offset_rad = math.atan2(along[1], along[0]) - view.hole_heading_rad - now_rad  # leg's heading less the lean's
        low, high = (bound - view.hole_heading_rad + offset_rad for bound in LEAN_YAW_RAD)
        choices = [START_HEADING_RAD + 2 * math.pi * k for k in (-1, 0, 1)]
        best = min((min(max(choice, low), high) for choice in choices), key=_unsuitable)
        return best

    def _goal_depth_m(self, heading_rad: float) -> float:
        return self._thread_m if _unsuitable(heading_rad) == 0.0 else SHALLOW_M

    def _in_hole(self, view: _View) -> np.ndarray:
        """Down, let go, regrasp from above, and turn clockwise with a little pressure."""
        on_thread = view.depth_m > self._thread_m - 0.0012
        ready = on_thread or _unsuitable(view.heading_rad) == 0.0
        back_rad = 0.0 if ready else _wrapped(START_HEADING_RAD - view.heading_rad)
        if not view.held:
            return self._regrasp(view, SCREW_YAW_RAD - back_rad)
        if view.lean_rad > UPRIGHT_RAD:
            goal_depth_m = self._thread_m if ready else SHALLOW_M
            if view.depth_m < goal_depth_m - 0.0012:
                return self._carry(view)
            return _wish(np.zeros(3), np.zeros(3), OPEN)
        yaw_rad = view.tool_yaw_rad
        turn_rad = back_rad if not ready else -_positive(view.heading_rad)
        if (turn_rad < 0.0 and yaw_rad < WRIST_RAD[0]) or (turn_rad > 0.0 and yaw_rad > WRIST_RAD[1]):
            return _wish(np.zeros(3), np.zeros(3), OPEN)
        level = np.cross(view.up, [0.0, 0.0, 1.0])
        turn = GAIN * np.array([level[0], level[1], turn_rad])
        arm = view.leg + view.leg_rotation @ LEG_TIP_M - view.tool
        sink_m = -PRESS_M if ready else -SHALLOW_M - view.tip_in_hole[2]
        if ready and not on_thread:
            turn[2] = 0.0
        return _wish(GAIN * np.array([0.0, 0.0, sink_m]) - np.cross(turn, arm), turn, CLOSE)

    def _regrasp(self, view: _View, yaw_rad: float) -> np.ndarray:
        """From above, with the tool's yaw as near to `yaw_rad` as the leg's faces let it."""
        ahead_rad = yaw_rad - view.tool_yaw_rad
        faces = [view.leg_rotation[:, i] * sign for i in (0, 1) for sign in (1.0, -1.0)]
        forward = max(faces, key=lambda face: face @ [math.cos(yaw_rad), math.sin(yaw_rad), 0.0])
        if abs(ahead_rad) > 0.7 * math.pi:  # not the short way round, which the wrist does not have
            forward = _about_z(view.tool_yaw_rad + math.copysign(1.5, ahead_rad))[:, 0]
        approach = np.array([0.0, 0.0, -1.0])
        across = np.cross(approach, forward)
        if view.width_m < OPEN_M and float(np.linalg.norm(_turn_to(view, approach, across))) > 0.2:
            return _wish(np.zeros(3), np.zeros(3), OPEN)
        return _grasp(view, approach, across, retreat_m=0.0)


def _unsuitable(heading_rad: float) -> float:
    """How far (rad) a heading is from those from which the leg can be screwed home."""
    middle_rad, half_rad = 0.5 * sum(START_RANGE_RAD), 0.5 * (START_RANGE_RAD[1] - START_RANGE_RAD[0])
    return max(0.0, abs(_wrapped(heading_rad - middle_rad)) - half_rad)


def _wrapped(angle_rad: float) -> float:
    return math.remainder(angle_rad, 2 * math.pi)


def _positive(angle_rad: float) -> float:
    """The same angle between -40 and 320 degrees: a leg turned a little too far is turned back."""
    return (angle_rad + math.radians(40)) % (2 * math.pi) - math.radians(40)


def _upright(rotation: np.ndarray) -> np.ndarray:
    """The leg's rotation after raising it about the horizontal axis across it."""
    up = rotation[:, 2]
    axis = np.cross(up, [0.0, 0.0, 1.0])
    sine = float(np.linalg.norm(axis))
    if sine < 1e-6:
        return rotation
    n, cosine = axis / sine, float(up[2])
    cross = np.array([[0.0, -n[2], n[1]], [n[2], 0.0, -n[0]], [-n[1], n[0], 0.0]])
    return (np.eye(3) + sine * cross + (1.0 - cosine) * cross @ cross) @ rotation


def _turn_to(view: _View, approach: np.ndarray, across: np.ndarray) -> np.ndarray:
    goal = np.column_stack([np.cross(across, approach), across, approach])
    return _rotvec(goal @ view.tool_rotation.T)


def _grasp(view: _View, approach: np.ndarray, across: np.ndarray, retreat_m: float = RETREAT_M) -> np.ndarray:
    """To the leg with the tool's axis along `approach` and its fingers closing along `across`; then close."""
    turn = _turn_to(view, approach, across)
    error = view.grasp - view.tool
    ahead_m = float(error @ approach)
    aside_m = float(np.linalg.norm(error - ahead_m * approach))
    angle_rad = float(np.linalg.norm(turn))
    if math.hypot(ahead_m, aside_m) < 0.006 and angle_rad < 0.1:
        return _wish(GAIN * error, GAIN * turn, CLOSE)
    if aside_m > 0.006 + 0.2 * max(ahead_m, 0.0) or angle_rad > 0.15:
        error = error - retreat_m * approach
    return _wish(GAIN * error, GAIN * turn, OPEN)


def _wish(move_m: np.ndarray, turn_rad: np.ndarray, gripper: float) -> np.ndarray:
    return np.concatenate([move_m, turn_rad, [gripper]])


def _rotation(rot6d: np.ndarray) -> np.ndarray:
    return np.column_stack([rot6d[:3], rot6d[3:], np.cross(rot6d[:3], rot6d[3:])])


def _about_z(angle_rad: float) -> np.ndarray:
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _rotvec(rotation: np.ndarray) -> np.ndarray:
    """Rotation vector (rad) of a rotation matrix; of the two for half a turn, either."""
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    sine, cosine = 0.5 * float(np.linalg.norm(axis)), 0.5 * (float(np.trace(rotation)) - 1.0)
    return axis * (0.5 * math.atan2(sine, cosine) / max(sine, 1e-9))


EXPERT = OneLegExpert
