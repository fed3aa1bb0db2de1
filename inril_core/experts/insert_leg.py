"""Scripted demonstrators that see only what a policy sees, and can be made worse; here insert_leg's."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from inril_core.contract import SuccessRule
from inril_core.errors import ConfigError
from inril_core.sim.square_table import GRASP_IN_LEG_M, TIP_IN_LEG_M

if TYPE_CHECKING:
    from inril_core.contract import Contract

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
TOOL_TO_TIP_M = float(GRASP_IN_LEG_M[2] - TIP_IN_LEG_M[2])
GAIN = 0.6  # share of the error asked for per step


class DialledExpert(ABC):
    """An expert for one task, at its best with all dials at 0.

    noise: standard deviation added to each action component. bias: error in m of where it believes the
    hole to be, in a direction drawn per episode. hesitation: probability per step of pausing for 2 to 8
    steps.

    Raises:
        ConfigError: a dial is out of range, or the contract lacks an observation field it looks at.
    """

    looks_at: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        contract: Contract,
        noise: float = 0.0,
        bias: float = 0.0,
        hesitation: float = 0.0,
        seed: int = 0,
    ) -> None:
        for name, value, high in (
            ("noise", noise, 2.0),
            ("bias", bias, 0.05),
            ("hesitation", hesitation, 1.0),
        ):
            if not 0.0 <= value <= high:  # false for NaN too
                raise ConfigError(f"expert {name} = {value}: must be in [0, {high}]")
        self._contract = contract
        self._fields = contract.slices()
        for field in self.looks_at:
            if field not in self._fields:
                raise ConfigError(
                    f"observation lacks {field}, which the scripted expert looks at; add it to the contract"
                )
        self._scale = np.array([contract.action.translation_scale_m] * 3 + [contract.action.rotation_scale_rad] * 3)
        self._size = contract.action.size
        self._noise, self._bias_m, self._hesitation = noise, bias, hesitation
        self.reset(seed)

    def worse(self, noise: float, bias: float, hesitation: float) -> DialledExpert:
        """The same expert with these dials."""
        return type(self)(self._contract, noise, bias, hesitation)

    def reset(self, seed: int) -> None:
        """Begin an episode: draw its bias and restart its noise."""
        self._rng = np.random.default_rng(seed)
        angle_rad = self._rng.uniform(0.0, 2 * math.pi)
        self._offset_m = self._bias_m * np.array([math.cos(angle_rad), math.sin(angle_rad)])
        self._pause_steps = 0

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Action float32[A] in [-1, 1] for an observation vector float32[D].

        Raises:
            ValueError: the observation is not finite.
        """
        if not np.isfinite(observation).all():
            raise ValueError("the scripted expert was given an observation that is not finite")
        wanted = self._wanted(np.asarray(observation, np.float64))
        action = np.array([*(wanted[:6] / self._scale), *wanted[6:]])
        largest = max(1.0, float(np.abs(action[:3]).max())), max(1.0, float(np.abs(action[3:6]).max()))
        action[:3] /= largest[0]
        action[3:6] /= largest[1]
        action += self._noise * self._rng.standard_normal(self._size)
        if self._pause_steps == 0 and self._rng.random() < self._hesitation:
            self._pause_steps = int(self._rng.integers(2, 9))
        if self._pause_steps > 0:
            self._pause_steps -= 1
            action[:6] = 0.0
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    @abstractmethod
    def _wanted(self, observation: np.ndarray) -> np.ndarray:
        """Change of the tool pose wanted, m and rotation vector rad, base frame; then the gripper's number."""


class ScriptedExpert(DialledExpert):
    """insert_leg: proportional control in four parts: upright and over the hole, down, in, turn clockwise.

    Dials and errors: as `DialledExpert`.
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
        if not isinstance(contract.success, SuccessRule):
            raise ConfigError("this scripted expert knows insert_leg; make_expert finds the one of a contract")
        self._tip, self._rotation = self._fields["tip_in_hole_m"], self._fields["leg_in_hole_rot6d"]
        self._turn = self._fields["turn_sin_cos"]
        self._turn_goal_rad = -(contract.success.turn_min_rad + OVERTURN_RAD)

    def _wanted(self, observation: np.ndarray) -> np.ndarray:
        """Change of the tool pose wanted this step: m and rotation vector rad, base frame.

        The hole's frame is parallel to the base frame.
        """
        tip = observation[self._tip].copy()
        tip[:2] -= self._offset_m
        up = np.cross(observation[self._rotation][:3], observation[self._rotation][3:])
        heading_rad = math.atan2(*observation[self._turn])
        tilt = (up[1], -up[0])  # of up x z: the rotation that puts the leg upright
        arm = -TOOL_TO_TIP_M * up  # from the tool to the tip
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
        return np.concatenate([move - np.cross(turn, arm), turn])
