"""The one way to get an expert: the task's own or a saved policy, at its best or made worse."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from inril_core.errors import ConfigError
from inril_core.experts.base import Expert, HasExpert
from inril_core.settings import Settings

Array = npt.NDArray[np.float32]
_TAG = 7  # keeps the noise apart from whatever else the seed decides


class ExpertConfig(Settings):
    """Who helps, and how well."""

    policy: str | None = None
    """Path of a saved policy, which acts deterministically; None: the task's own expert."""
    noise: float = Field(0.0, ge=0.0, le=2.0)
    """Standard deviation added to each action component."""
    bias: float = Field(0.0, ge=0.0, le=0.05)
    """Error in m of where the expert believes the goal to be; only a scripted expert has this dial."""
    hesitation: float = Field(0.0, ge=0.0, le=1.0)
    """Probability per step of pausing for 2 to 8 steps."""

    @model_validator(mode="after")
    def _dials(self) -> "ExpertConfig":
        if self.policy is not None and self.bias > 0.0:
            raise ConfigError("expert.bias is a dial of a scripted expert, not of a policy; set it to 0")
        return self


@runtime_checkable
class Dialled(Protocol):
    """An expert that knows how to be worse."""

    def worse(self, noise: float, bias: float, hesitation: float) -> Expert:
        """The same expert with these errors."""


def make_expert(config: ExpertConfig, task: HasExpert) -> Expert:
    """The expert of ``config`` for ``task``; with all dials at 0, as it demonstrates.

    Raises:
        ConfigError: the task has no expert, the policy is not one for it, or there is no dial for ``bias``.
    """
    if config.policy is not None:
        from inril_core.experts.trained import saved_policy_expert  # imports torch

        expert: Expert = saved_policy_expert(Path(config.policy).expanduser(), task.interface)
    else:
        expert = task.expert()
    if config.noise == config.bias == config.hesitation == 0.0:
        return expert
    if isinstance(expert, Dialled):
        return expert.worse(config.noise, config.bias, config.hesitation)
    if config.bias > 0.0:
        raise ConfigError(f"expert.bias = {config.bias}: task {task.interface.task!r} has no such dial; set it to 0")
    return WorseExpert(expert, config.noise, config.hesitation)


class WorseExpert:
    """Any expert with noise and pauses on top; the dials mean what they mean for the scripted expert."""

    def __init__(self, expert: Expert, noise: float, hesitation: float) -> None:
        self._expert, self._noise, self._hesitation = expert, noise, hesitation
        self.reset(0)

    def reset(self, seed: int) -> None:
        """See `Expert.reset`."""
        self._expert.reset(seed)
        self._rng, self._pause_steps = np.random.default_rng([seed, _TAG]), 0

    def act(self, observation: Array) -> Array:
        """See `Expert.act`."""
        action = self._expert.act(observation)
        action = action + self._noise * self._rng.standard_normal(len(action))
        if self._pause_steps == 0 and self._rng.random() < self._hesitation:
            self._pause_steps = int(self._rng.integers(2, 9))
        if self._pause_steps > 0:
            self._pause_steps -= 1
            action = np.zeros_like(action)
        return np.clip(action, -1.0, 1.0).astype(np.float32)
