"""The scripted expert of insert_leg: upright and over the hole, down, in, turn."""

from __future__ import annotations

import math

import numpy as np

from inril_core.contract import Contract
from inril_core.contract.definitions.insert_leg import Success
from inril_core.contract.square_table import LEG_GRASP_M, LEG_TIP_M
from inril_core.errors import ConfigError
from inril_core.experts.scripted.base import ScriptedExpert
from inril_core.transforms import cross

HOVER_M = 0.006  # height of the tip above the rim until it is over the hole
ALIGNED_M = 0.001  # sideways error with which the tip may go down
FUNNEL = 0.3  # and by how much more per metre above the rim
ALIGNED_RAD = 0.03  # tilt with which it may go down
HEADING_RAD = 0.25  # heading error with which it may go down: the turn then ends within the wrist's reach
DESCENT_M = 0.004  # a step downwards; a faster start swings the tip by more than the clearance
INSIDE_M = 0.002  # depth from which the hole guides the tip: no more pushing sideways
SEATED_M = 0.016  # depth below which it turns
PRESS_M = 0.023  # depth it aims for: enough to count, not so deep that the block is pressed onto the top
OVERTURN_RAD = 0.2  # aimed beyond the turn asked for
TOOL_TO_TIP_M = LEG_GRASP_M[2] - LEG_TIP_M[2]
GAIN = 0.6  # share of the error asked for per step


class InsertLegExpert(ScriptedExpert):
    """insert_leg: proportional control in four parts: upright and over the hole, down, in, turn clockwise.

    Dials and errors: as `ScriptedExpert`.
    """

    looks_at = ("tip_in_hole_m", "leg_in_hole_rot6d", "turn_sin_cos")

    def __init__(
        self,
        contract: Contract,
        noise: float = 0.0,
        bias: float = 0.0,
        hesitation: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(contract, noise, bias, hesitation, seed)
        if not isinstance(contract.success, Success):
            raise ConfigError("success: this expert knows insert_leg; scripted_expert finds the one of a contract")
        self._tip, self._rotation = self.fields["tip_in_hole_m"], self.fields["leg_in_hole_rot6d"]
        self._turn = self.fields["turn_sin_cos"]
        self._turn_goal_rad = -(contract.success.turn_min_rad + OVERTURN_RAD)

    def wanted(self, observation: np.ndarray) -> np.ndarray:
        """Change of the tool pose wanted this step: m and rotation vector rad, base frame.

        The hole's frame is parallel to the base frame.
        """
        tip = observation[self._tip].copy()
        tip[:2] -= self._offset_m
        rot6d = observation[self._rotation].tolist()
        up = cross(rot6d[:3], rot6d[3:])
        heading_rad = math.atan2(*observation[self._turn])
        tilt = (up[1], -up[0])  # of up x z: the rotation that puts the leg upright
        arm = [-TOOL_TO_TIP_M * part for part in up]  # from the tool to the tip
        lateral_m, depth_m = math.hypot(tip[0], tip[1]), -tip[2]
        inside = depth_m > INSIDE_M

        funnel_m = ALIGNED_M + FUNNEL * max(-depth_m, 0.0)
        aligned = lateral_m < funnel_m and math.hypot(up[0], up[1]) < ALIGNED_RAD and abs(heading_rad) < HEADING_RAD
        heading_goal_rad = self._turn_goal_rad if depth_m > SEATED_M else (heading_rad if inside else 0.0)
        turn = GAIN * np.array([tilt[0], tilt[1], heading_goal_rad - heading_rad])
        move = GAIN * np.array([-tip[0], -tip[1], HOVER_M - tip[2]])
        if inside:
            move[:2] = 0.0
        if inside or aligned:
            move[2] = max(GAIN * (-PRESS_M - tip[2]), -DESCENT_M)
        # The tool turns about its own origin, and the tip below it would swing sideways.
        return np.concatenate([move - cross(turn.tolist(), arm), turn])


EXPERT = InsertLegExpert
