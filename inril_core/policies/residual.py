"""A correction on top of another policy: base and residual trained apart.

Residual Gaussian MLP with a zero-initialised output layer over any base (ResiP, arXiv 2407.16677), executed as
clip(a_base + scale * tanh(raw)). The tanh is our choice: it bounds the correction. The base gets imitation gradients
only, the residual RL gradients only (IN-RIL's network separation, arXiv 2505.10442): the base's action is detached.
"""

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, SerializeAsAny, field_validator
from torch import Tensor, nn

from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.policies.base import (
    Array,
    Decision,
    ImitationSettings,
    Memory,
    PolicyConfig,
    SquashedGaussian,
)
from inril_core.policies.exploration import exploration_rng
from inril_core.policies.manifest import policy_config

_INPUT_LIMIT = 3.0  # ResiP clamps the residual's inputs


class Config(PolicyConfig):
    """Settings of a residual.

    Attributes:
        base: the policy that is corrected, by its own settings.
        mode: ``residual``: base + scale * correction. ``average``: the mean of the base's and the learned action
            (CSIL++'s ensemble, arXiv 2606.02194).
        scale: largest correction per action component, contract units (ResiP: 0.1); of ``residual`` only.
        freeze_base: no imitation after pre-training either.
        log_std_init: of the correction before squashing and scaling (ResiP: -1, fixed).
        explore_base: the base samples too when exploring; otherwise it acts by its mode.
    """

    kind: Literal["residual"] = "residual"
    provides = frozenset({"density", "separated"})
    base: SerializeAsAny[PolicyConfig]
    mode: Literal["residual", "average"] = "residual"
    scale: float = Field(0.2, gt=0.0, le=2.0)
    freeze_base: bool = False
    hidden: tuple[int, ...] = Field((128, 128), min_length=1)
    log_std: Literal["state", "fixed"] = "fixed"
    log_std_init: float = -1.0
    log_std_min: float = Field(-4.0, ge=-20.0)
    log_std_max: float = Field(0.0, le=2.0)
    explore_base: bool = False

    @field_validator("base", mode="before")
    @classmethod
    def _base(cls, value: Any) -> Any:
        return policy_config(value) if isinstance(value, dict) else value

    def build(self, observation_size: int, action_size: int) -> "ResidualPolicy":
        """See `PolicyConfig.build`."""
        return ResidualPolicy(observation_size, action_size, self)


class ResidualPolicy(SquashedGaussian):
    """Base and residual. `forward` gives the residual's Gaussian; inputs are ``[normalised observation, base action]``.

    The base's action enters the inputs as it was when the robot acted: it is recorded (`Decision.aux`), because a base
    that samples, or that has moved since, would answer otherwise. Where it was not recorded (demonstrations), the base
    is asked again, by its mode.
    """

    kind = "residual"
    config: Config

    def __init__(self, observation_size: int, action_size: int, config: Config) -> None:
        super().__init__(observation_size, action_size, config)
        if isinstance(config.base, Config):
            raise ConfigError("policy.base.kind = 'residual': a residual over a residual; choose another base")
        self.base = config.base.build(observation_size, action_size)
        self.aux_size = action_size
        sizes = (self.input_size, *config.hidden)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.head = nn.Linear(sizes[-1], action_size * (2 if config.log_std == "state" else 1))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def input_size(self) -> int:
        """D + A."""
        return self.observation_size + self.action_size

    def fit_normaliser(self, observations: Array, std_floor: float = 0.01) -> None:
        """See `Policy.fit_normaliser`; the base's too."""
        super().fit_normaliser(observations, std_floor)
        self.base.fit_normaliser(observations, std_floor)

    def prepare_finetuning(self) -> None:
        """See `Policy.prepare_finetuning`."""
        self.base.prepare_finetuning()
        if self.config.freeze_base:
            for parameter in self.base.parameters():
                parameter.requires_grad_(False)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-std ``[..., A]`` of the correction before squashing and scaling."""
        c = self.config
        hidden = inputs.detach().clamp(-_INPUT_LIMIT, _INPUT_LIMIT)
        for layer in self.layers:
            hidden = torch.relu(layer(hidden))
        out = self.head(hidden)
        mean = out[..., : self.action_size]
        if c.log_std == "fixed":
            return mean, torch.full_like(mean, c.log_std_init)
        return mean, (c.log_std_init + out[..., self.action_size :]).clamp(c.log_std_min, c.log_std_max)

    def executed(self, inputs: Tensor, squashed: Tensor) -> Tensor:
        """See `SquashedGaussian.executed`: the composition, clipped to [-1, 1]."""
        base = inputs[..., self.observation_size :]
        if self.config.mode == "average":
            return 0.5 * (base + squashed)
        return (base + self.config.scale * squashed).clamp(-1.0, 1.0)

    def inputs(self, episode: Episode) -> Tensor:
        """See `Policy.inputs`."""
        base = torch.zeros((episode.steps + 1, self.action_size))
        recorded = np.zeros(episode.steps + 1, bool)
        if episode.aux is not None and episode.aux.shape[1] == self.action_size:
            recorded[:-1] = np.isfinite(episode.aux).all(1)
            base[torch.from_numpy(recorded)] = torch.from_numpy(episode.aux[recorded[:-1]])
        for t in np.flatnonzero(~recorded):
            # a fresh plan each time: what the base would do if it were asked here
            noise = exploration_rng(episode.seed, int(t))
            base[t] = torch.from_numpy(self.base.act(episode.observations[t], False, noise, Memory()).action)
        rows = self.normalise(torch.tensor(episode.observations))
        return torch.cat((rows, base.to(rows.device)), 1)

    def refresh(self, inputs: Tensor) -> Tensor:
        """See `Policy.refresh`: a base that is being trained no longer answers what was recorded."""
        if self.config.freeze_base or not isinstance(self.base, SquashedGaussian):
            return inputs
        rows = inputs[..., : self.observation_size]
        with torch.no_grad():
            return torch.cat((rows, torch.tanh(self.base(rows)[0])), -1)

    def imitation_loss(
        self, inputs: Tensor, actions: Tensor, settings: ImitationSettings, generator: torch.Generator
    ) -> Tensor:
        """See `Policy.imitation_loss`: the base's; the residual is not part of it."""
        return self.base.imitation_loss(inputs[..., : self.observation_size], actions, settings, generator)

    @property
    def imitation_chunk(self) -> int:
        """Actions per cloned decision: the base's."""
        return self.base.chunk

    @torch.no_grad()
    def act(
        self, observation: Array, explore: bool, rng: np.random.Generator, memory: Memory | None = None
    ) -> Decision:
        """See `Policy.act`; the base plans in ``memory``, the residual corrects every step."""
        row = self.normalise(self.checked(observation))
        # the base's plan needs noise also when the residual acts by its mode (a diffusion base samples)
        base = self.base.act(observation, explore and self.config.explore_base, rng, memory).action
        return self.decide(torch.cat((row, torch.from_numpy(base).to(row.device))), explore, rng, base)
