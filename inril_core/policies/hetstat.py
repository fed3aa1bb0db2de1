"""HETSTAT policy: a Gaussian whose spread returns to its prior away from the demonstrations.

Coherent Soft Imitation Learning (CSIL, arXiv 2305.16498), the stationary policy head of the authors' code
(google-deepmind/csil). A plain MLP extrapolates its log-std arbitrarily, so a log-ratio reward made of it may be large
where nothing was shown; here the variance is a quadratic form of bounded periodic features, so that far from the data
log q(a|s) falls back to about the uniform density.
"""

import math
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from inril_core.errors import ConfigError
from inril_core.policies.base import ImitationSettings, PolicyConfig
from inril_core.policies.squashed import SquashedGaussian, log_density

STD_LIMIT = math.sqrt(0.75)  # a Gaussian of this std is nearly uniform on [-1, 1] after tanh
_FEATURE_SCALE = math.pi / (2.0 * math.sqrt(2.0))


class Config(PolicyConfig):
    """Settings of a HETSTAT policy; the authors' values are given where the defaults are smaller."""

    kind: Literal["hetstat"] = "hetstat"
    distributed = True
    provides = frozenset({"density", "cloned"})
    hidden: tuple[int, ...] = Field((128, 128), min_length=1)
    """Widths of the trunk (256, 256)."""
    bottleneck: int = Field(12, ge=1)
    """Width of the trunk's last layer, the input of the random features (12)."""
    features: int = Field(64, ge=2)
    """Number F of random features, even (256)."""
    log_scale_init: float | None = Field(None, ge=-10.0, le=3.0)
    """Log of the factor on the bottleneck before the random projection: larger falls back to the prior nearer to the
    data. None: -5 (the authors') where the features give the mean and so grow with it; -1 where only the spread looks
    at them: nothing but this factor sets their scale there, and -5 would be constant over the whole space."""
    mean: Literal["features", "trunk"] = "features"
    """``features``: linear in them (the authors' head), so the mean, too, returns to 0 away from the data. ``trunk``
    (our choice, for starts outside of the demonstrated range): linear in the trunk's last hidden layer, which
    extrapolates as a plain network does; the spread alone is stationary."""
    mean_limit: float | None = Field(3.0, ge=2.0, le=10.0)
    """Bound of the mean before squashing, approached smoothly; None: unbounded (the authors). Cloning the mode of a
    saturated action leaves the mean free to run away, far from the clipped action whose density the reward is."""
    variance_floor: float = Field(1e-5, ge=1e-10, lt=0.1)
    """Added to the variance; the bound of the coherent reward depends on it."""

    @field_validator("features")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ConfigError(f"policy.features = {value}: must be even, two phases of each projection")
        return value

    def build(self, observation_size: int, action_size: int) -> "HetstatPolicy":
        """See `PolicyConfig.build`."""
        return HetstatPolicy(observation_size, action_size, self)


def triangle(phase: Tensor) -> Tensor:
    """A triangle wave of period 2 pi through the zeros of the sine, amplitude pi / (2 sqrt 2), elementwise."""
    # distance to the nearest multiple of 2 pi, after a quarter period: 0 at the crest, pi in the trough
    turns = (phase - 0.5 * math.pi) / (2.0 * math.pi)
    distance = 2.0 * math.pi * (turns - torch.round(turns)).abs()
    return _FEATURE_SCALE * (1.0 - distance * (2.0 / math.pi))


class HetstatPolicy(SquashedGaussian):
    """Mean linear in bounded features f(s) (or in the trunk), variance |L_d^T f|^2 per action component d."""

    kind = "hetstat"
    config: Config
    factors: nn.Parameter
    """``[A, F, F]``, the strictly lower part of each L_d."""
    log_diagonals: nn.Parameter
    """``[A, F]``, of each L_d; all zero at first, L_d is the identity."""

    def __init__(self, observation_size: int, action_size: int, config: Config | None = None) -> None:
        config = config or Config()
        super().__init__(observation_size, action_size, config)
        self.image_encoder = self.new_image_encoder()
        sizes = (self.image_encoder.width(self.input_size), *config.hidden, config.bottleneck)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)
        f = config.features
        self.projection = nn.Parameter(torch.randn(config.bottleneck, f // 2))
        scale = config.log_scale_init
        if scale is None:
            scale = -5.0 if config.mean == "features" else -1.0
        self.log_scales = nn.Parameter(torch.full((config.bottleneck,), scale))
        self.head = nn.Parameter(torch.zeros(f if config.mean == "features" else config.hidden[-1], action_size))
        self.factors = nn.Parameter(torch.zeros(action_size, f, f))
        self.log_diagonals = nn.Parameter(torch.zeros(action_size, f))

    @property
    def std_floor(self) -> float:
        """See `SquashedGaussian.std_floor`; nominal, as in the authors' bound: without the limit's factor."""
        return math.sqrt(self.config.variance_floor)

    def trunk(self, inputs: Tensor) -> Tensor:
        """The last hidden layer ``[..., H]``."""
        hidden = self.image_encoder(inputs)
        for layer in self.layers[:-1]:
            hidden = functional.elu(layer(hidden))
        return hidden

    def features_of(self, trunk: Tensor) -> Tensor:
        """f(s) ``[..., F]``, each component within pi / (2 sqrt(2 F)), from `trunk`."""
        bottleneck = functional.elu(self.layers[-1](trunk))  # CSIL's code activates the last layer of its MLP, too
        z = (bottleneck * torch.exp(self.log_scales)) @ self.projection
        quarter = 0.25 * math.pi
        return torch.cat((triangle(z + quarter), triangle(z - quarter)), -1) / math.sqrt(self.config.features)

    def log_std_of(self, features: Tensor) -> Tensor:
        """Log-std ``[..., A]`` before squashing: log(sqrt(0.75) tanh(sqrt(floor + |L_d^T f|^2)))."""
        lower = torch.tril(self.factors, -1) + torch.diag_embed(torch.exp(self.log_diagonals))
        a, f, _ = lower.shape
        spread = (features @ lower.transpose(0, 1).reshape(f, a * f)).unflatten(-1, (a, f))
        variance = spread.square().sum(-1)
        return torch.log(STD_LIMIT * torch.tanh(torch.sqrt(self.config.variance_floor + variance)))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """See `SquashedGaussian.forward`."""
        trunk = self.trunk(inputs)
        features = self.features_of(trunk)
        return self._mean_of(trunk, features), self.log_std_of(features)

    def _mean_of(self, trunk: Tensor, features: Tensor) -> Tensor:
        mean = (features if self.config.mean == "features" else trunk) @ self.head
        limit = self.config.mean_limit
        return mean if limit is None else limit * torch.tanh(mean / limit)

    def imitation_loss(
        self, inputs: Tensor, actions: Tensor, settings: ImitationSettings, generator: torch.Generator
    ) -> Tensor:
        """See `Policy.imitation_loss`. ``faithful``: the likelihood reaches the variance's own parameters alone.

        Mean *and* features are held fixed in the likelihood (CSIL's code), where a plain Gaussian holds only the mean.
        """
        if settings.loss != "faithful":
            return super().imitation_loss(inputs, actions, settings, generator)
        clipped = actions.clamp(-settings.action_limit, settings.action_limit)
        trunk = self.trunk(inputs)
        features = self.features_of(trunk)
        mean = self._mean_of(trunk, features)
        squared = (torch.tanh(mean) - clipped).square().sum(-1).mean()
        log_std = self.log_std_of(features.detach())
        return squared - log_density(torch.atanh(clipped), mean.detach(), log_std).mean()
