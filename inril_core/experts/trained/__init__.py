"""Policies that our own reinforcement learning trained, packaged, and the demonstrators they make."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inril_core.errors import ConfigError
from inril_core.tasks.base import Interface

TIERS = ("expert", "medium")
_FOLDER = Path(__file__).parent


def expert_path(environment: str, tier: str = "expert") -> Path:
    """Where the expert of a Gymnasium environment lies; it need not be there.

    Raises:
        ConfigError: unknown tier.
    """
    if tier not in TIERS:
        raise ConfigError(f"expert tier {tier!r}: must be one of {TIERS}")
    suffix = "" if tier == "expert" else f"-{tier}"
    return _FOLDER / f"{environment.replace('/', '_').replace(':', '_')}{suffix}.safetensors"


class PolicyDemonstrator:
    """Acts by a trained policy's mode.

    Args:
        path: what `inril_core.experts.train` wrote.
        environment: that it must have been trained in; its reward may differ.
        interface: of the task to demonstrate.
        noise: standard deviation added to each action component, in [0, 2].

    Raises:
        ConfigError: no such file, or it was trained for something else; or the noise is out of range.
    """

    def __init__(self, path: Path, environment: str, interface: Interface, noise: float = 0.0) -> None:
        from inril_core.policies import load_policy  # imports torch

        command = f"python -m inril_core.experts.train gym:{environment}"
        if not 0.0 <= noise <= 2.0:  # false for NaN too
            raise ConfigError(f"expert noise = {noise}: must be in [0, 2]")
        if not path.is_file():
            raise ConfigError(f"{interface.task}: nobody here can do it ({path} is missing); train one: {command}")
        self._policy, self.facts = load_policy(path)
        sizes = (self._policy.observation_size, self._policy.action_size)
        if self.facts.get("environment") != environment or sizes != (
            interface.observation_size,
            interface.action_size,
        ):
            raise ConfigError(
                f"{path}: trained in {self.facts.get('environment')!r} with sizes {sizes}, not {environment!r} with "
                f"{(interface.observation_size, interface.action_size)}; train it again: {command}"
            )
        self._noise = noise
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin an episode: restart the noise."""
        self._rng = np.random.default_rng(seed)

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Action float32[A] in [-1, 1] for an observation float32[D].

        Raises:
            ValueError: the observation has another size or is not finite.
        """
        action = self._policy.act(observation, False, self._rng).action
        if self._noise > 0.0:
            action = action + (self._noise * self._rng.standard_normal(action.shape)).astype(np.float32)
        clipped: np.ndarray = action.clip(-1.0, 1.0)
        return clipped
