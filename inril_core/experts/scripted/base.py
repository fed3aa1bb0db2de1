"""Scripted experts see only what a policy sees, and can be made worse."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from inril_core.contract import Contract
from inril_core.errors import ConfigError
from inril_core.plugins import Kind


class ScriptedExpert(ABC):
    """An expert for one task, at its best with all dials at 0. Decided by the observation alone.

    A `TaskDefinition` names the class. It writes `wanted`, and in ``looks_at`` the observation fields that it reads.

    Args:
        noise: standard deviation added to each action component.
        bias: error in m of where it believes the goal to be, in a direction drawn per episode.
        hesitation: probability per step of pausing for 2 to 8 steps.

    Raises:
        ConfigError: a dial is out of range, or the contract lacks an observation field it looks at.
    """

    looks_at: ClassVar[tuple[str, ...]]
    """Names of the contract's observation fields."""

    def __init__(
        self,
        contract: Contract,
        noise: float = 0.0,
        bias: float = 0.0,
        hesitation: float = 0.0,
        seed: int = 0,
    ) -> None:
        for name, value, high in (
            ("noise", noise, 2.0),
            ("bias", bias, 0.05),
            ("hesitation", hesitation, 1.0),
        ):
            if not 0.0 <= value <= high:  # false for NaN too
                raise ConfigError(f"expert {name} = {value}: must be in [0, {high}]")
        self._contract = contract
        self.fields = contract.slices()
        """Where each observation field stands in the observation vector."""
        for field in self.looks_at:
            if field not in self.fields:
                raise ConfigError(
                    f"observation lacks {field}, which the scripted expert looks at; add it to the contract"
                )
        self._scale = np.array([contract.action.translation_scale_m] * 3 + [contract.action.rotation_scale_rad] * 3)
        self._size = contract.action.size
        self._noise, self._bias_m, self._hesitation = noise, bias, hesitation
        self.reset(seed)

    def worse(self, noise: float, bias: float, hesitation: float) -> ScriptedExpert:
        """The same expert with these dials."""
        return type(self)(self._contract, noise, bias, hesitation)

    def reset(self, seed: int) -> None:
        """Begin an episode: draw its bias and restart its noise."""
        self._rng = np.random.default_rng(seed)
        angle_rad = self._rng.uniform(0.0, 2 * math.pi)
        self._offset_m = self._bias_m * np.array([math.cos(angle_rad), math.sin(angle_rad)])
        self._pause_steps = 0

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Action float32[A] in [-1, 1] for an observation vector float32[D].

        Raises:
            ValueError: the observation is not finite.
        """
        if not np.isfinite(observation).all():
            raise ValueError("the scripted expert was given an observation that is not finite")
        wanted = self.wanted(np.asarray(observation, np.float64))
        action = np.array([*(wanted[:6] / self._scale), *wanted[6:]])
        largest = max(1.0, float(np.abs(action[:3]).max())), max(1.0, float(np.abs(action[3:6]).max()))
        action[:3] /= largest[0]
        action[3:6] /= largest[1]
        action += self._noise * self._rng.standard_normal(self._size)
        if self._pause_steps == 0 and self._rng.random() < self._hesitation:
            self._pause_steps = int(self._rng.integers(2, 9))
        if self._pause_steps > 0:
            self._pause_steps -= 1
            action[:6] = 0.0
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    @abstractmethod
    def wanted(self, observation: np.ndarray) -> np.ndarray:
        """Change of the tool pose wanted in this step, float64[A]: m and rotation vector rad, base frame; then the
        gripper's number, if the contract's action has one.

        It may be larger than a step: `act` scales it down. MUST be decided by the observation float64[D] alone, see
        `fields`.
        """


KIND = Kind("experts", "inril_core.experts.scripted", "EXPERT", ScriptedExpert)


def scripted_expert(contract: Contract) -> ScriptedExpert:
    """The expert of a contract's task, as it demonstrates: with the noise that the task's definition says.

    Raises:
        ConfigError: the task has no scripted expert, or the contract lacks a field it looks at.
    """
    definition = contract.task_definition
    if not definition.expert:
        raise ConfigError(
            f"task = {contract.task!r}: it has no scripted expert; record a person, or name one in its definition"
        )
    expert: ScriptedExpert = KIND.find(definition.expert, "expert")(contract, noise=definition.expert_noise)
    return expert


class ContractExpert:
    """The scripted expert of a contract where no task runs in this process, as an `inril_core.experts.HasExpert`."""

    def __init__(self, contract: Contract) -> None:
        self.interface = contract

    def expert(self) -> ScriptedExpert:
        """See `HasExpert.expert`."""
        return scripted_expert(self.interface)
