"""Gaussian MLP policy, squashed by tanh into the contract's action range [-1, 1]."""

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from inril_core.errors import ConfigError
from inril_core.policies.base import PolicyConfig
from inril_core.policies.squashed import SquashedGaussian

_ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}


class Config(PolicyConfig):
    """Settings of a Gaussian MLP."""

    kind: Literal["gaussian"] = "gaussian"
    distributed = True
    provides = frozenset({"density", "cloned"})
    hidden: tuple[int, ...] = Field((128, 128), min_length=1)
    """Widths of the hidden layers."""
    activation: Literal["relu", "tanh"] = "relu"
    log_std: Literal["state", "fixed"] = "state"
    """``state`` (a second head), or ``fixed`` at ``log_std_init``."""
    log_std_init: float = -1.5
    """Where the log-std starts; must lie within its bounds."""
    log_std_min: float = Field(-4.0, ge=-20.0)
    """Lower bound of the log-std, before squashing."""
    log_std_max: float = Field(0.0, le=2.0)
    """Upper bound of the log-std, before squashing."""
    mean_limit: float | None = Field(None, ge=1.0, le=10.0)
    """Bound of the mean before squashing, approached smoothly; None: unbounded. A mean far out, where tanh is flat, has
    no gradient to come back on."""

    @model_validator(mode="after")
    def _ordered(self) -> "Config":
        if not self.log_std_min <= self.log_std_init <= self.log_std_max:
            raise ConfigError(
                f"policy.log_std_min/init/max = {self.log_std_min}/{self.log_std_init}/{self.log_std_max}: "
                "must be ordered"
            )
        if any(width < 1 for width in self.hidden):
            raise ConfigError(f"policy.hidden = {self.hidden}: all must be whole numbers >= 1")
        return self

    def build(self, observation_size: int, action_size: int) -> "GaussianPolicy":
        """See `PolicyConfig.build`."""
        return GaussianPolicy(observation_size, action_size, self)


class GaussianPolicy(SquashedGaussian):
    """Mean and log-std of an action before squashing, from a flat observation.

    Args:
        observation_size: length D of the observation (contract order, SI units).
        action_size: length A of the action (contract units, [-1, 1]).
        config: architecture.
    """

    kind = "gaussian"
    config: Config

    def __init__(self, observation_size: int, action_size: int, config: Config | None = None) -> None:
        config = config or Config()
        if observation_size < 1 or action_size < 1:
            raise ConfigError(f"policy sizes {observation_size}, {action_size}: must be whole numbers >= 1")
        super().__init__(observation_size, action_size, config)
        self.image_encoder = self.new_image_encoder()
        sizes = (self.image_encoder.width(self.input_size), *config.hidden)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        outputs = action_size * (2 if config.log_std == "state" else 1)
        self.head = nn.Linear(sizes[-1], outputs)
        nn.init.uniform_(self.head.weight, -1e-2, 1e-2)
        nn.init.zeros_(self.head.bias)
        if config.log_std == "state":
            with torch.no_grad():
                self.head.bias[action_size:] = config.log_std_init

    @property
    def std_floor(self) -> float:
        """See `SquashedGaussian.std_floor`."""
        c = self.config
        return math.exp(c.log_std_init if c.log_std == "fixed" else c.log_std_min)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-std ``[..., A]`` before squashing, from `inputs` ``[..., D]``."""
        c = self.config
        act = _ACTIVATIONS[c.activation]
        hidden = self.image_encoder(inputs)
        for layer in self.layers:
            hidden = act(layer(hidden))
        out = self.head(hidden)
        mean = out[..., : self.action_size]
        if c.mean_limit is not None:
            mean = c.mean_limit * torch.tanh(mean / c.mean_limit)
        if c.log_std == "fixed":
            return mean, torch.full_like(mean, c.log_std_init)
        log_std = out[..., self.action_size :]
        return mean, log_std.clamp(c.log_std_min, c.log_std_max)
