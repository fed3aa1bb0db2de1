"""The point task behind the task interface, so that what a planning policy notes is recorded as on a robot."""

import numpy as np

from inril_core.tasks.base import TaskStep
from tests.finetune.point_task import LENGTH, RADIUS, contract, observe


class PlannedPoint:
    """Reach the origin; the first two of six numbers move the point by 0.2."""

    interface = contract()
    episode_length_steps = LENGTH
    success_ends = True

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        self._position, self._steps = np.random.default_rng(seed).uniform(-1.0, 1.0, 2), 0
        return observe(self._position)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        executed = np.asarray(action, np.float32).clip(-1.0, 1.0)
        self._position = np.clip(self._position + 0.2 * executed[:2], -1.5, 1.5)
        self._steps += 1
        success = bool(np.linalg.norm(self._position) < RADIUS)
        late = self._steps >= LENGTH and not success
        return observe(self._position), TaskStep(executed, (), success, success, late, "", float(success))

    def expert(self):
        return PlannedExpert()

    def close(self) -> None:
        pass


class PlannedExpert:
    """Straight to a place beside the origin: good enough from some starts only."""

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def act(self, observation: np.ndarray) -> np.ndarray:
        action = np.zeros(6, np.float32)
        action[:2] = np.clip(-(observation[:2] - 0.11) / 0.4, -0.8, 0.8) + 0.2 * self._rng.standard_normal(2)
        return action.clip(-1.0, 1.0)
