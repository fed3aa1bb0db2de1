"""A bright dot in a small image; the action must say where it is. Solved by seeing alone."""

from __future__ import annotations

import numpy as np

from inril_core.contract import ImageShape, SimpleInterface
from inril_core.finetune.config import FineTuneConfig, load_config
from inril_core.tasks.base import TaskStep

SIDE, LENGTH = 16, 2
TOLERANCE = 0.3


class DotExpert:
    """Knows where the dot is."""

    def __init__(self, task: DotTask) -> None:
        self._task = task

    def reset(self, seed: int) -> None:
        """Nothing to draw."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        return self._task.dot.astype(np.float32)


class DotTask:
    """Reward 1 and the end where the action is within `TOLERANCE` of the dot (x, y in [-0.8, 0.8])."""

    interface = SimpleInterface("dot", 1 + 3 * SIDE * SIDE, 2, {}, (ImageShape("eye", SIDE, SIDE),))
    episode_length_steps = LENGTH
    success_ends = True

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        self._rng = np.random.default_rng((seed, len(purpose)))
        self._step = 0
        return self._look()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        self._step += 1
        success = bool(np.abs(action - self.dot).max() < TOLERANCE)
        executed = np.clip(action, -1.0, 1.0).astype(np.float32)
        over = self._step >= LENGTH and not success
        return self._look(), TaskStep(executed, (), success, success, over, "", float(success))

    def expert(self) -> DotExpert:
        return DotExpert(self)

    def close(self) -> None:
        """Nothing to give back."""

    def _look(self) -> np.ndarray:
        cell = self._where()
        self.dot = (cell / (SIDE - 1) * 2.0 - 1.0)[::-1]
        image = self._rng.integers(0, 40, (SIDE, SIDE, 3))
        image[cell[0] - 1 : cell[0] + 2, cell[1] - 1 : cell[1] + 2] = 255
        return np.concatenate([[0.5], image.ravel()]).astype(np.float32)

    def _where(self) -> np.ndarray:
        return self._rng.integers(1, SIDE - 1, 2)


class ReachTask(DotTask):
    """The tool is at the dot, which goes to the middle with success."""

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        self._there = False
        return super().reset(seed, purpose)

    @property
    def tool_pose(self) -> np.ndarray:
        """float64[7], the dot as metres times 0.1."""
        return np.array([*(0.1 * self.dot), 0.0, 0.0, 0.0, 0.0, 1.0])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        self._there = bool(np.abs(action - self.dot).max() < TOLERANCE)
        return super().step(action)

    def _where(self) -> np.ndarray:
        return np.array([SIDE // 2, SIDE // 2]) if self._there else super()._where()


def dot_config(preset: str = "interleave", **changes: object) -> FineTuneConfig:
    """The preset, made small."""
    small = {
        "policy.hidden": [32],
        "policy.log_std": "fixed",
        "policy.log_std_init": -0.7,
        "policy.encoder": {"channels": [8, 8], "strides": [1, 1], "shift_px": 0},
        "rl.hidden": [32, 32],
        "rl.batch": 32,
        "rl.actor_lr": 1e-3,
        "rl.critic_lr": 1e-3,
        "rl.gamma": 0.9,
        "rl.behaviour_regularisation_end": 0.0,
        "rl.behaviour_regularisation": 0.0,
        "rl.tau": 0.02,
        "il.batch": 32,
        "pretrain.updates": 120,
        "schedule.rewards_before_actor": 0,
        "schedule.warmup_steps": 150,
        "schedule.critic_warmup_updates": 100,
        "schedule.budget_steps": 400,
        "schedule.utd": 1.0,
    }
    return load_config(preset).changed(**{**small, **changes})
