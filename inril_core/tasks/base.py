"""What fine-tuning in one process needs of a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from inril_core.contract import Interface
from inril_core.data.episode import RANGE_LIMIT
from inril_core.experts.base import Expert
from inril_core.plugins import Kind

KIND = Kind("tasks", "inril_core.tasks.families", "make")


@dataclass(frozen=True)
class TaskStep:
    """What came of one action."""

    executed: np.ndarray
    """``float32[A]``, the action after all limits, in [-1, 1]."""
    limits: tuple[str, ...]
    """Names of the limits that changed the action."""
    success: bool
    """Of the episode, as known at this step."""
    terminated: bool
    """The task ended, there is no value beyond."""
    truncated: bool
    """The episode's length is reached, the value function still bootstraps."""
    reason: str
    """Why the episode ended; empty while it goes on."""
    reward: float = 0.0
    """The task's own, whatever its scale; a sparse task gives 1 at success."""

    @property
    def ended(self) -> bool:
        """The episode is over."""
        return self.terminated or self.truncated


def executed_action(action: np.ndarray, size: int, ended: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """The action ``float64[A]`` clipped to [-1, 1], and the limits that clipped it, for `TaskStep.limits`.

    Raises:
        ValueError: as `Task.step`.
    """
    wanted = np.asarray(action, np.float64)
    if wanted.shape != (size,) or not np.isfinite(wanted).all():
        raise ValueError(f"action {wanted}: must be {size} finite numbers")
    if ended:
        raise ValueError("the episode is over (or never began); call reset")
    executed = wanted.clip(-1.0, 1.0)
    return executed, (RANGE_LIMIT,) if (executed != wanted).any() else ()


class Task(Protocol):
    """One episode after another. A seed and a purpose decide an episode's start, alone.

    A task that moves a tool may have ``tool_pose``, float64[7] behind the last observation (base frame, m and xyzw); an
    encoder of key poses learns from it.

    A task comes from a family: a function ``make(rest: str) -> Task`` that is given what follows the family's name and
    a colon. Families are files of `inril_core.tasks.families`, entry points ``inril.tasks``, or ``module:function``;
    see `inril_core.tasks.make_task`.
    """

    @property
    def interface(self) -> Interface:
        """Sizes and digests."""

    @property
    def episode_length_steps(self) -> int:
        """Steps after which an episode is truncated."""

    @property
    def success_ends(self) -> bool:
        """An episode ends with success. False: it goes on, and a reward for the last step is not one for success."""

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        """Begin an episode; ``float32[D]``. purpose: ``demo``, ``train`` or ``eval``."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, TaskStep]:
        """Execute an action ``[A]``: the next observation ``float32[D]`` and what came of it.

        Raises:
            ValueError: wrong size, not finite, or the episode is over.
        """

    def expert(self) -> Expert:
        """A new expert, as it demonstrates.

        Raises:
            ConfigError: nobody can do it; the message says how to get demonstrations.
        """

    def close(self) -> None:
        """Give back windows, renderers and memory."""
