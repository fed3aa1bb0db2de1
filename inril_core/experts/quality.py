"""Experts of a chosen quality: the task's own, made worse, or a saved policy."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from inril_core.errors import ConfigError
from inril_core.policies import Memory, Policy, load_policy
from inril_core.settings import Settings
from inril_core.tasks.base import Demonstrator, Task

Array = npt.NDArray[np.float32]
_TAG = 7  # keeps the noise apart from whatever else the seed decides


class ExpertConfig(Settings):
    """Who helps.

    Attributes:
        policy: path of a saved policy, acting by its mode; None: the task's demonstrator.
        noise: standard deviation added to each action component.
        bias: error in m of where the expert believes the goal to be; only where the demonstrator has such a dial.
        hesitation: probability per step of pausing for 2 to 8 steps.
    """

    policy: str | None = None
    noise: float = Field(0.0, ge=0.0, le=2.0)
    bias: float = Field(0.0, ge=0.0, le=0.05)
    hesitation: float = Field(0.0, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _dials(self) -> "ExpertConfig":
        if self.policy is not None and self.bias > 0.0:
            raise ConfigError("expert.bias is a dial of a scripted demonstrator, not of a policy; set it to 0")
        return self


@runtime_checkable
class Dialled(Protocol):
    """A demonstrator that knows how to be worse."""

    def worse(self, noise: float, bias: float, hesitation: float) -> Demonstrator:
        """The same demonstrator with these errors."""


def make_expert(config: ExpertConfig, task: Task) -> Demonstrator:
    """The expert of ``config`` for ``task``.

    Raises:
        ConfigError: the task has no demonstrator, the policy is not one for it, or there is no dial for ``bias``.
    """
    if config.policy is not None:
        policy, _ = load_policy(Path(config.policy).expanduser())
        sizes = (task.interface.observation_size, task.interface.action_size)
        if (policy.observation_size, policy.action_size) != sizes:
            raise ConfigError(
                f"expert.policy = {config.policy}: its observation and action sizes "
                f"{(policy.observation_size, policy.action_size)} are not the task's {sizes}"
            )
        expert: Demonstrator = PolicyExpert(policy)
    else:
        expert = task.demonstrator()
    if config.noise == config.bias == config.hesitation == 0.0:
        return expert
    if isinstance(expert, Dialled):
        return expert.worse(config.noise, config.bias, config.hesitation)
    if config.bias > 0.0:
        raise ConfigError(f"expert.bias = {config.bias}: task {task.interface.task!r} has no such dial; set it to 0")
    return WorseExpert(expert, config.noise, config.hesitation)


class PolicyExpert:
    """A policy that shows what it would do, by its mode. One that plans ahead plans anew at every step: in between
    somebody else may have acted."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.reset(0)

    def reset(self, seed: int) -> None:
        """See `Demonstrator.reset`; a mode has no noise, but a sampling policy has."""
        self._memory, self._rng = Memory(), np.random.default_rng([seed, _TAG])

    def act(self, observation: Array) -> Array:
        """See `Demonstrator.act`."""
        self._memory.clear()
        action: Array = self._policy.act(observation, False, self._rng, self._memory).action
        return action


class WorseExpert:
    """Any demonstrator with noise and pauses on top; the dials mean what they mean for the scripted expert."""

    def __init__(self, expert: Demonstrator, noise: float, hesitation: float) -> None:
        self._expert, self._noise, self._hesitation = expert, noise, hesitation
        self.reset(0)

    def reset(self, seed: int) -> None:
        """See `Demonstrator.reset`."""
        self._expert.reset(seed)
        self._rng, self._pause_steps = np.random.default_rng([seed, _TAG]), 0

    def act(self, observation: Array) -> Array:
        """See `Demonstrator.act`."""
        action = self._expert.act(observation)
        action = action + self._noise * self._rng.standard_normal(len(action))
        if self._pause_steps == 0 and self._rng.random() < self._hesitation:
            self._pause_steps = int(self._rng.integers(2, 9))
        if self._pause_steps > 0:
            self._pause_steps -= 1
            action = np.zeros_like(action)
        return np.clip(action, -1.0, 1.0).astype(np.float32)
