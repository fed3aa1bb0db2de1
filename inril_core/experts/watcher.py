"""When somebody who watches attempts at insert_leg takes over, and when they call one failed."""

from __future__ import annotations

import math

import numpy as np

from inril_core.contract import Contract
from inril_core.contract.definitions.insert_leg import Success
from inril_core.errors import ConfigError

STUCK_STEPS = 20
"""Steps without progress after which a person takes over."""
PROGRESS = 0.05
"""Share of what remains that counts as progress."""
IN_M = 0.003
"""Depth from which a turn is one in the hole."""
TURNS_RAD = 0.12
"""Of a leg that is turned before it sits: it will not count, and nobody waits for that."""
DONE_STEPS = 10
"""Steps for which a leg that looks turned in does not count, before the attempt is called failed."""
STILL = 0.1
"""An expert that asks for less than this share of its step in each number has no more to do."""


class Watcher:
    """Sees what the policy is given, step by step.

    Raises:
        ConfigError: the contract is of another task.
    """

    def __init__(self, contract: Contract) -> None:
        if not isinstance(contract.success, Success):
            raise ConfigError(f"task = {contract.task!r}: a watcher knows what progress is on insert_leg alone")
        self._turn_depth_m = contract.success.turn_depth_m
        self._fields = contract.slices()
        self.reset()

    def reset(self) -> None:
        """Begin an attempt."""
        self._best: tuple[float, int] = (math.inf, 0)
        self._still_steps = 0

    def would_take_over(self, observation: np.ndarray, step: int) -> bool:
        """Whether what remains to be done has not shrunk for some steps, or the leg is turned before it sits.

        Args:
            observation: float[D], the contract's.
            step: of the attempt; not smaller than before.
        """
        depth_m = -float(observation[self._fields["tip_in_hole_m"]][2])
        if IN_M < depth_m < self._turn_depth_m and self._heading_rad(observation) < -TURNS_RAD:
            return True
        remains = self._remains(observation)
        if remains < (1.0 - PROGRESS) * self._best[0]:
            self._best = remains, step
        return step - self._best[1] >= STUCK_STEPS

    def calls_it_failed(self, observation: np.ndarray, action: np.ndarray) -> bool:
        """Whether the expert's ``action`` float[A] has had no more to do in the hole for some steps: it was turned too
        high there, which is not to be seen. Asked once a step."""
        inside = observation[self._fields["tip_in_hole_m"]][2] < 0.0
        self._still_steps = self._still_steps + 1 if inside and np.abs(action).max() < STILL else 0
        called = self._still_steps >= DONE_STEPS
        if called:
            self._still_steps = 0
        return called

    def _heading_rad(self, observation: np.ndarray) -> float:
        return math.atan2(*observation[self._fields["turn_sin_cos"]])

    def _remains(self, observation: np.ndarray) -> float:
        """Of the way: 5 cm, 0.2 rad of tilt and a quarter of a turn count 1 each."""
        tip, rotation = observation[self._fields["tip_in_hole_m"]], observation[self._fields["leg_in_hole_rot6d"]]
        up = np.cross(rotation[:3], rotation[3:])
        way = math.hypot(*tip[:2]) / 0.05 + max(tip[2] + 0.02, 0.0) / 0.05
        turn_rad = math.pi / 2 + self._heading_rad(observation)
        return float(way + math.hypot(*up[:2]) / 0.2 + max(turn_rad, 0.0) / (math.pi / 2))
