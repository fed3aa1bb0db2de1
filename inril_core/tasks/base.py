"""What fine-tuning in one process needs of a task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from inril_core.contract import ImageShape


@dataclass(frozen=True)
class Outcome:
    """What came of one action.

    executed: float32[A], the action after all limits, in [-1, 1]. limits: names of those that changed it.
    reward: the task's own, whatever its scale; a sparse task gives 1 at success. success: of the episode, as known at
    this step. terminated: there is no value beyond. truncated: the episode's length is reached, the value bootstraps.
    """

    executed: np.ndarray
    limits: tuple[str, ...]
    success: bool
    terminated: bool
    truncated: bool
    reason: str
    reward: float = 0.0


class Interface(Protocol):
    """What a policy, its demonstrations and its learner must agree on; `Contract` is one."""

    @property
    def task(self) -> str:
        """Name."""

    @property
    def observation_size(self) -> int:
        """Length D of the observation vector: the state, then the pixels of ``image_shapes``."""

    @property
    def image_shapes(self) -> tuple[ImageShape, ...]:
        """The images whose pixels (values 0 to 255, row by row) end the observation vector; often none."""

    @property
    def action_size(self) -> int:
        """Length A of the action, each in [-1, 1]."""

    @property
    def text(self) -> str:
        """JSON that travels with what was recorded and trained."""

    @property
    def interface_digest(self) -> str:
        """SHA-256 (hex) of what must match."""

    @property
    def deployment_digest(self) -> str:
        """SHA-256 (hex) of what may differ."""


@dataclass(frozen=True)
class SimpleInterface:
    """The interface of a task without a contract. facts: JSON values that decide what its numbers mean."""

    task: str
    observation_size: int
    action_size: int
    facts: Mapping[str, Any]
    image_shapes: tuple[ImageShape, ...] = ()

    @property
    def text(self) -> str:
        """See `Interface`."""
        sizes = {"task": self.task, "observation_size": self.observation_size, "action_size": self.action_size}
        images = {"images": self.image_shapes} if self.image_shapes else {}
        return json.dumps({**sizes, **images, "facts": dict(self.facts)}, sort_keys=True)

    @property
    def interface_digest(self) -> str:
        """See `Interface`."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def deployment_digest(self) -> str:
        """See `Interface`; such a task has nothing that differs between deployments."""
        return hashlib.sha256(b"").hexdigest()


class Demonstrator(Protocol):
    """Shows the task. What it sees is what a policy sees."""

    def reset(self, seed: int) -> None:
        """Begin an episode; its noise is decided by ``seed``."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action ``float32[A]`` in [-1, 1] for an observation ``float32[D]``."""


class Task(Protocol):
    """One episode after another. A seed and a purpose decide an episode's start, alone.

    A task whose episodes go on after success says so by ``success_ends = False``: a reward for the last step is then
    not one for success.
    """

    @property
    def interface(self) -> Interface:
        """Sizes and digests."""

    @property
    def episode_length_steps(self) -> int:
        """Steps after which an episode is truncated."""

    def reset(self, seed: int, purpose: str = "train") -> np.ndarray:
        """Begin an episode; ``float32[D]``. purpose: ``demo``, ``train`` or ``eval``."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Outcome]:
        """Execute an action ``[A]``: the next observation ``float32[D]`` and what came of it.

        Raises:
            ValueError: wrong size, not finite, or the episode is over.
        """

    def demonstrator(self) -> Demonstrator:
        """Somebody who can do it.

        Raises:
            ConfigError: nobody can; the message says how to get demonstrations.
        """

    def close(self) -> None:
        """Give back windows, renderers and memory."""
