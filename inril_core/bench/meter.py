"""A task that notes the return of each episode it runs."""

from typing import Any

import numpy as np

from inril_core.tasks.base import Task, TaskStep


class Meter:
    """Stands before a task and passes everything on."""

    returns: dict[str, list[float]]
    """Sums of the rewards of each episode so far, by purpose and in order."""
    rewarded: bool
    """Whether some episode's return was not just 1 for success and 0 for failure."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.returns = {}
        self.rewarded = False
        self._purpose = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        """See `Task.reset`."""
        self._purpose = purpose
        self.returns.setdefault(purpose, []).append(0.0)
        return self._task.reset(seed, purpose)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        """See `Task.step`."""
        observation, outcome = self._task.step(action)
        episodes = self.returns[self._purpose]
        episodes[-1] += float(outcome.reward)
        if outcome.terminated or outcome.truncated:
            self.rewarded |= episodes[-1] != float(outcome.success)
        return observation, outcome

    def take(self, purpose: str) -> list[float]:
        """The returns of a purpose so far, which are forgotten."""
        return self.returns.pop(purpose, [])
