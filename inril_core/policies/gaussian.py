"""Gaussian MLP policy, squashed by tanh into the contract's action range [-1, 1]."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from inril_core.errors import ConfigError

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_LOG_2 = math.log(2.0)
_ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}

Array = npt.NDArray[np.float32]


def log_one_minus_tanh_squared(raw: Tensor) -> Tensor:
    """log(1 - tanh(raw)^2), elementwise, without cancellation at large ``|raw|``."""
    return 2.0 * (_LOG_2 - raw - functional.softplus(-2.0 * raw))


def log_density(raw: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of the action tanh(raw), for raw ~ N(mean, exp(log_std)^2): ``[..., A] -> [...]``.

    SAC (arXiv 1801.01290) appendix C, eq. 21.
    """
    standard = (raw - mean) * torch.exp(-log_std)
    gaussian = -0.5 * standard * standard - log_std - _HALF_LOG_2PI
    return (gaussian - log_one_minus_tanh_squared(raw)).sum(-1)


class GaussianPolicy(nn.Module):
    """Mean and log-std of an action before squashing, from a flat observation.

    The observation normaliser is part of the policy: fitted once on the demonstrations, never refitted,
    because the critic's inputs and stored episodes depend on it.

    Args:
        observation_size: length D of the observation (contract order, SI units).
        action_size: length A of the action (contract units, [-1, 1]).
        hidden: widths of the hidden layers.
        activation: ``relu`` or ``tanh``.
        log_std: ``state`` (a second head), or ``fixed`` at ``log_std_init``.
        log_std_init: where the log-std starts; must lie within its bounds.
        log_std_min, log_std_max: bounds of the log-std, before squashing.
        mean_limit: bound of the mean before squashing, approached smoothly; None: unbounded. A mean far out, where
            tanh is flat, has no gradient to come back on.

    Raises:
        ConfigError: a value is out of its range.
    """

    kind = "gaussian_mlp"
    observation_mean: Tensor
    observation_std: Tensor

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        log_std: str = "state",
        log_std_init: float = -1.5,
        log_std_min: float = -4.0,
        log_std_max: float = 0.0,
        mean_limit: float | None = None,
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise ConfigError(f"policy.activation = {activation!r}: must be one of {sorted(_ACTIVATIONS)}")
        if log_std not in ("state", "fixed"):
            raise ConfigError(f"policy.log_std = {log_std!r}: must be 'state' or 'fixed'")
        if not -20.0 <= log_std_min <= log_std_init <= log_std_max <= 2.0:
            raise ConfigError(
                f"policy.log_std_min/init/max = {log_std_min}/{log_std_init}/{log_std_max}: "
                "must be ordered and within [-20, 2]"
            )
        if mean_limit is not None and not 1.0 <= mean_limit <= 10.0:
            raise ConfigError(f"policy.mean_limit = {mean_limit}: must be null or in [1, 10]")
        sizes = (observation_size, *hidden, action_size)
        if not hidden or any(not isinstance(size, int) or size < 1 for size in sizes):
            raise ConfigError(f"policy sizes {sizes}: all must be whole numbers >= 1, with one hidden layer or more")
        self.observation_size, self.action_size = observation_size, action_size
        self.hidden, self.activation, self.log_std_mode = tuple(hidden), activation, log_std
        self.log_std_init, self.log_std_min, self.log_std_max = log_std_init, log_std_min, log_std_max
        self.mean_limit = mean_limit
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-2], sizes[1:-1], strict=True))
        outputs = action_size * (2 if log_std == "state" else 1)
        self.head = nn.Linear(sizes[-2], outputs)
        nn.init.uniform_(self.head.weight, -1e-2, 1e-2)
        nn.init.zeros_(self.head.bias)
        if log_std == "state":
            with torch.no_grad():
                self.head.bias[action_size:] = log_std_init
        self.register_buffer("observation_mean", torch.zeros(observation_size))
        self.register_buffer("observation_std", torch.ones(observation_size))

    def manifest(self) -> dict[str, Any]:
        """The architecture as JSON values; `policy_from_manifest` rebuilds it."""
        return {
            "kind": self.kind,
            "observation_size": self.observation_size,
            "action_size": self.action_size,
            "hidden": list(self.hidden),
            "activation": self.activation,
            "log_std": self.log_std_mode,
            "log_std_init": self.log_std_init,
            "log_std_min": self.log_std_min,
            "log_std_max": self.log_std_max,
            "mean_limit": self.mean_limit,
        }

    def fit_normaliser(self, observations: Array, std_floor: float = 0.01) -> None:
        """Set mean and std from the demonstrations' observations ``[N, D]``; call once, before training.

        Args:
            observations: SI units, contract order.
            std_floor: smallest std (unit of the field), so that fields that hardly vary in the
                demonstrations are not blown up.

        Raises:
            ValueError: wrong shape, no rows, or a value is not finite.
        """
        rows = torch.as_tensor(np.asarray(observations, dtype=np.float64))
        if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] != self.observation_size:
            raise ValueError(f"observations {tuple(rows.shape)}: must be [N >= 1, {self.observation_size}]")
        if not torch.isfinite(rows).all():
            raise ValueError("observations contain NaN or infinity")
        self.observation_mean.copy_(rows.mean(0))
        self.observation_std.copy_(rows.std(0, correction=0).clamp_min(std_floor))

    def normalise(self, observations: Tensor) -> Tensor:
        """Observations ``[..., D]`` in SI units to the network's input: sign(z) log(1 + |z|), z in std.

        Fine where the demonstrations were, and still telling far from them: a start ten std away is an input of
        2.4, not a saturated layer.
        """
        z = (observations - self.observation_mean) / self.observation_std
        return torch.sign(z) * torch.log1p(z.abs())

    def forward(self, normalised: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-std ``[..., A]`` before squashing, from *normalised* observations ``[..., D]``."""
        act = _ACTIVATIONS[self.activation]
        hidden = normalised
        for layer in self.layers:
            hidden = act(layer(hidden))
        out = self.head(hidden)
        mean = out[..., : self.action_size]
        if self.mean_limit is not None:
            mean = self.mean_limit * torch.tanh(mean / self.mean_limit)
        if self.log_std_mode == "fixed":
            return mean, torch.full_like(mean, self.log_std_init)
        log_std = out[..., self.action_size :]
        return mean, log_std.clamp(self.log_std_min, self.log_std_max)

    def sample(self, normalised: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reparametrised action ``[B, A]`` and its log-density ``[B]`` from standard normal ``noise [B, A]``."""
        mean, log_std = self(normalised)
        return self.squash(mean, log_std, noise)

    @staticmethod
    def squash(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """What `sample` gives, from the network's outputs ``[B, A]``."""
        raw = mean + torch.exp(log_std) * noise
        # (raw - mean) / std is the noise itself
        gaussian = -0.5 * noise * noise - log_std - _HALF_LOG_2PI
        return torch.tanh(raw), (gaussian - log_one_minus_tanh_squared(raw)).sum(-1)

    def log_prob(self, normalised: Tensor, raw: Tensor) -> Tensor:
        """Log-density of the action tanh(raw) ``[B]``; ``raw [B, A]`` is the sample before squashing."""
        mean, log_std = self(normalised)
        return log_density(raw, mean, log_std)

    @torch.no_grad()
    def act(self, observation: Array, explore: bool, rng: np.random.Generator) -> tuple[Array, Array, float]:
        """The action for one observation.

        Args:
            observation: ``[D]``, SI units, contract order.
            explore: sample; otherwise the mode before squashing is taken and ``rng`` is not used.
            rng: source of the exploration noise.

        Returns:
            Action ``[A]`` in [-1, 1], the raw sample ``[A]`` before squashing, and the action's log-density.

        Raises:
            ValueError: wrong shape, or a value is not finite.
        """
        if observation.shape != (self.observation_size,):
            raise ValueError(f"observation {observation.shape}: must be ({self.observation_size},)")
        if not np.isfinite(observation).all():
            raise ValueError("observation contains NaN or infinity")
        row = torch.from_numpy(np.ascontiguousarray(observation, dtype=np.float32))
        mean, log_std = self(self.normalise(row))
        raw = mean
        if explore:
            noise = rng.standard_normal(self.action_size).astype(np.float32)
            raw = mean + torch.exp(log_std) * torch.from_numpy(noise)
        log_prob = float(log_density(raw, mean, log_std))
        return torch.tanh(raw).numpy(), raw.numpy(), log_prob
