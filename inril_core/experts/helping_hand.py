"""A hand that helps as a person does: late and slow; and that drives into failures."""

from __future__ import annotations

import math

import numpy as np

from inril_core.contract import Contract
from inril_core.experts.scripted.base import scripted_expert
from inril_core.experts.scripted.insert_leg import GAIN, HOVER_M, TOOL_TO_TIP_M, InsertLegExpert
from inril_core.experts.watcher import Watcher
from inril_core.transforms import cross

DRIVE_STEPS = 50
"""At most, into a failure."""
REACTION_STEPS = 2
SPEED = 0.5
"""Of the expert's motion: at its whole speed and so late, what the helper does swings past the hole."""


class DrivesIn(InsertLegExpert):
    """Brings leg and tool to where they were at an observation, over the rim and then down."""

    def __init__(self, contract: Contract, to: np.ndarray) -> None:
        super().__init__(contract)
        self._to = self._where(to)

    def _where(self, observation: np.ndarray) -> tuple[np.ndarray, tuple[float, float, float], float]:
        rot6d = observation[self._rotation].tolist()
        return observation[self._tip], cross(rot6d[:3], rot6d[3:]), math.atan2(*observation[self._turn])

    def wanted(self, observation: np.ndarray) -> np.ndarray:
        """See `InsertLegExpert.wanted`."""
        (tip, up, heading_rad), (tip_to, up_to, heading_to_rad) = self._where(observation), self._to
        move = GAIN * (tip_to - tip)
        if math.hypot(*move[:2]) > 0.002:
            move[2] = GAIN * (max(HOVER_M, tip_to[2]) - tip[2])
        tilt = cross(up, up_to)
        turn = GAIN * np.array([tilt[0], tilt[1], math.remainder(heading_to_rad - heading_rad, 2 * math.pi)])
        return np.concatenate([move - cross(turn.tolist(), [-TOOL_TO_TIP_M * part for part in up]), turn])

    def arrived(self, observation: np.ndarray) -> bool:
        """Within 3 mm and 0.1 rad."""
        (tip, up, heading_rad), (tip_to, up_to, heading_to_rad) = self._where(observation), self._to
        turned = abs(math.remainder(heading_to_rad - heading_rad, 2 * math.pi))
        return float(np.abs(tip_to - tip).max()) < 0.003 and math.dist(up, up_to) < 0.1 and turned < 0.1


class Hand:
    """Moves the arm as a person does who sees what to do: as the task's expert, later and slower."""

    def __init__(self, contract: Contract) -> None:
        self.expert = scripted_expert(contract)
        self.rest = np.zeros(contract.action.size, np.float32)

    def begin(self) -> None:
        """Take hold."""
        self._asked_for = [self.rest] * REACTION_STEPS

    def act(self, action: np.ndarray) -> np.ndarray:
        """What reaches the arm when the expert says ``action`` float[A]."""
        self._asked_for.append(np.float32(SPEED) * action)
        return self._asked_for.pop(0)


class Helper:
    """Drives into a failure where there is one to drive to, hands back, watches, takes over, drives to the end.

    An `inril_core.experts.intervener.Intervener` to `policy_actor`.
    """

    def __init__(self, contract: Contract, into: np.ndarray | None) -> None:
        self._hand, self._watcher = Hand(contract), Watcher(contract)
        self._driver = None if into is None else DrivesIn(contract, into)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin an attempt."""
        self._hand.expert.reset(seed)
        self._watcher.reset()
        self._step, self.drive_steps, self.took_over = 0, 0, False
        self._drives_in, self._helps = self._driver is not None, False

    @property
    def in_control(self) -> bool:
        """Whether the policy need not be asked."""
        return self._drives_in or self._helps

    def act(self, observation: np.ndarray, proposed: np.ndarray | None) -> np.ndarray | None:
        """The helper's action float[A], or None: the policy's is executed."""
        self._step += 1
        if self._drives_in:
            assert self._driver is not None
            self.drive_steps = self._step
            self._drives_in = not self._driver.arrived(observation) and self._step < DRIVE_STEPS
            return self._driver.act(observation)
        if not self._helps:
            if self.took_over or not self._watcher.would_take_over(observation, self._step):
                return None
            self._helps = self.took_over = True
            self._hand.begin()
        action = self._hand.expert.act(observation)
        if self._watcher.calls_it_failed(observation, action):
            self._helps = False  # nothing more can be done
            return self._hand.rest
        return self._hand.act(action)
