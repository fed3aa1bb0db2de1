"""Experts that are policies: those packaged here, which our own reinforcement learning trained, and saved ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inril_core.contract import Interface
from inril_core.errors import ConfigError
from inril_core.policies import Memory, Policy, load_policy

TIERS = ("expert", "medium")
_FOLDER = Path(__file__).parent
_TAG = 7  # keeps the noise apart from whatever else the seed decides


class PolicyExpert:
    """A policy that shows what it would do, deterministically where it can.

    One that plans ahead plans anew at every step: in between somebody else may have acted.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.reset(0)

    def reset(self, seed: int) -> None:
        """See `Expert.reset`; only a policy that always samples has noise."""
        self._memory, self._rng = Memory(), np.random.default_rng([seed, _TAG])

    def act(self, observation: np.ndarray) -> np.ndarray:
        """See `Expert.act`."""
        self._memory.clear()
        action: np.ndarray = self._policy.act(observation, False, self._rng, self._memory).action
        return action


def expert_path(environment: str, tier: str = "expert") -> Path:
    """Where the expert of a Gymnasium environment lies; it need not be there.

    Raises:
        ConfigError: unknown tier.
    """
    if tier not in TIERS:
        raise ConfigError(f"expert tier {tier!r}: must be one of {TIERS}")
    suffix = "" if tier == "expert" else f"-{tier}"
    return _FOLDER / f"{environment.replace('/', '_').replace(':', '_')}{suffix}.safetensors"


def saved_policy_expert(path: Path, interface: Interface) -> PolicyExpert:
    """The policy in a file as an expert for an interface.

    Raises:
        ConfigError: no such file, not a policy, or of other sizes.
    """
    policy, _ = load_policy(path)
    _check_sizes(policy, interface, str(path))
    return PolicyExpert(policy)


def trained_expert(path: Path, environment: str, interface: Interface) -> PolicyExpert:
    """What `inril_core.experts.train` wrote, as an expert.

    Args:
        environment: that it must have been trained in; its reward may differ.

    Raises:
        ConfigError: no such file, or it was trained for something else.
    """
    command = f"python -m inril_core.experts.train gym:{environment}"
    if not path.is_file():
        raise ConfigError(f"{interface.task}: nobody here can do it ({path} is missing); train one: {command}")
    policy, facts = load_policy(path)
    if facts.get("environment") != environment:
        raise ConfigError(
            f"{path}: trained in {facts.get('environment')!r}, not in {environment!r}; train one: {command}"
        )
    _check_sizes(policy, interface, f"{path} (trained by: {command})")
    return PolicyExpert(policy)


def _check_sizes(policy: Policy, interface: Interface, name: str) -> None:
    sizes = (interface.observation_size, interface.action_size)
    if (policy.observation_size, policy.action_size) != sizes:
        raise ConfigError(
            f"expert.policy = {name}: its observation and action sizes "
            f"{(policy.observation_size, policy.action_size)} are not those of {interface.task}, {sizes}"
        )
