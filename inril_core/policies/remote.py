"""A frozen policy in another process, e.g. a large pre-trained one: observations out, chunks of actions in.

Nothing here is trained; correct it with a residual (``policy: {kind: residual, freeze_base: true, base: {kind: remote,
...}}``). The server's side is `inril_core.policies.server`; docs/bring_your_own_base.md has the protocol.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from inril_core.errors import ConfigError
from inril_core.policies.base import Array, Decision, ImitationSettings, Memory, Policy, PolicyConfig
from inril_core.policies.client import PolicyClient, RemoteError, Terms, piece_rows
from inril_core.policies.exploration import exploration_rng
from inril_core.wire import split_address

__all__ = ["Config", "RemoteError", "RemotePolicy"]


class Config(PolicyConfig):
    """Settings of a base behind a server."""

    kind: Literal["remote"] = "remote"
    address: str = "127.0.0.1:7777"
    """HOST:PORT of the server. Neither side proves who it is: another host than this one belongs behind a tunnel
    (``ssh -L``)."""
    chunk: int = Field(1, ge=1, le=1000)
    """Actions that are executed of each plan, before the server is asked again."""
    timeout_s: float = Field(0.1, gt=0.0, le=60.0)
    """Longest that a control tick waits; then it has no action, and the arbiter holds."""
    max_age_s: float = Field(0.5, gt=0.0, le=60.0)
    """Oldest observation that an answer may rest on; a server that answers ahead of its model says how old."""
    patient_timeout_s: float = Field(60.0, gt=0.0)
    """Longest wait for the answers that demonstrations need when they are taken in."""
    retry_min_s: float = Field(0.05, gt=0.0)
    """Shortest pause before connecting again, doubled at each failure."""
    retry_max_s: float = Field(2.0, gt=0.0)
    """Longest pause before connecting again."""

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        split_address(value)
        return value

    @model_validator(mode="after")
    def _pauses(self) -> "Config":
        if self.retry_min_s > self.retry_max_s:
            raise ConfigError(
                f"policy.retry_min_s = {self.retry_min_s}: must be at most policy.retry_max_s = {self.retry_max_s}"
            )
        return self

    @property
    def imitates(self) -> bool:
        """See `PolicyConfig.imitates`."""
        return False

    def plan_steps(self) -> int:
        """See `PolicyConfig.plan_steps`."""
        return self.chunk

    def build(self, observation_size: int, action_size: int) -> "RemotePolicy":
        """See `PolicyConfig.build`; connects at the first question only."""
        return RemotePolicy(observation_size, action_size, self)


@lru_cache(maxsize=16)
def _client(terms: Terms) -> PolicyClient:
    """One connection for all policies of this process that ask the same: new weights must not mean a new one."""
    return PolicyClient(terms)


class RemotePolicy(Policy):
    """Executes the plans of a server. The observation goes there as it is, in SI units."""

    kind = "remote"
    config: Config
    remote = True

    def __init__(self, observation_size: int, action_size: int, config: Config) -> None:
        super().__init__(observation_size, action_size, config)
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        self.chunk = config.chunk
        c = config
        self._terms = Terms(
            c.address, observation_size, action_size, c.chunk, c.timeout_s, c.max_age_s, c.retry_min_s, c.retry_max_s
        )

    @property
    def client(self) -> PolicyClient:
        """The connection, and what became of its answers."""
        return _client(self._terms)

    def act(
        self, observation: Array, explore: bool, rng: np.random.Generator, memory: Memory | None = None
    ) -> Decision:
        """See `Policy.act`. There is no density: ``log_prob`` is NaN. ``rng`` gives the seed of the server's noise.

        Raises:
            ValueError: wrong shape, or a value is not finite.
            RemoteError: no answer that may be executed, within ``timeout_s``.
        """
        memory = Memory() if memory is None else memory
        row = self.checked(observation).numpy()
        index = memory.index if memory.queue else 0
        if not memory.queue:
            plan = self.client.ask(row[None], explore, [_seed(rng)])[0]
            memory.queue.extend(plan)
        memory.index = index + 1
        action = memory.queue.popleft()
        return Decision(action, action.copy(), float("nan"), chunk_index=index)

    def answers(self, observations: Array, steps: np.ndarray, seed: int) -> Array:
        """See `Policy.answers`; asked in one go, patiently."""
        pieces, count = [np.zeros((0, self.action_size), np.float32)], piece_rows(self.observation_size)
        for first in range(0, len(observations), count):
            rows = observations[first : first + count]
            seeds = [_seed(exploration_rng(seed, int(t))) for t in steps[first : first + count]]
            pieces.append(self.client.ask(rows, False, seeds, self.config.patient_timeout_s)[:, 0])
        return np.concatenate(pieces)

    def trial(self, observations: Array) -> Array:
        """See `Policy.trial`; the server is not asked: no weights can change what it says."""
        return np.zeros((len(observations), self.action_size), np.float32)

    def imitation_loss(
        self, inputs: Tensor, actions: Tensor, settings: ImitationSettings, generator: torch.Generator
    ) -> Tensor:
        """See `Policy.imitation_loss`: 0, there is nothing to train."""
        return inputs.new_zeros(())


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 53))  # whole in JSON readers that know doubles only
