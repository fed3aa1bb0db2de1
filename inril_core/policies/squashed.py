"""Actions that are tanh of a Gaussian sample: their densities, and the policies that have them."""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from inril_core.policies.base import (
    HALF_LOG_2PI,
    NOTHING,
    Array,
    Decision,
    ImitationSettings,
    Memory,
    Policy,
)

_LOG_2 = math.log(2.0)


def log_one_minus_tanh_squared(raw: Tensor) -> Tensor:
    """log(1 - tanh(raw)^2), elementwise, without cancellation at large ``|raw|``."""
    return 2.0 * (_LOG_2 - raw - functional.softplus(-2.0 * raw))


def log_density(raw: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of the action tanh(raw), for raw ~ N(mean, exp(log_std)^2): ``[..., A] -> [...]``.

    SAC (arXiv 1801.01290) appendix C, eq. 21.
    """
    standard = (raw - mean) * torch.exp(-log_std)
    gaussian = -0.5 * standard * standard - log_std - HALF_LOG_2PI
    return (gaussian - log_one_minus_tanh_squared(raw)).sum(-1)


def log_density_of_one(raw: Array, mean: Array, log_std: Array) -> float:
    """`log_density` of one action, ``[A]`` each, without a dozen calls of torch: acting does it every tick."""
    values, log_stds = raw.astype(np.float64), log_std.astype(np.float64)
    standard = (values - mean) * np.exp(-log_stds)
    softplus = np.logaddexp(0.0, -2.0 * values)
    return float((-0.5 * standard * standard - log_stds - HALF_LOG_2PI - 2.0 * (_LOG_2 - values - softplus)).sum())


class SquashedGaussian(Policy):
    """A policy whose action is tanh of a Gaussian sample; a subclass gives the Gaussian by `forward`."""

    @abstractmethod
    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-std ``[..., A]`` before squashing, from ``inputs [..., input_size]``."""

    @property
    def std_floor(self) -> float:
        """Smallest std before squashing that `forward` can give.

        Raises:
            NotImplementedError: the policy has no known one.
        """
        raise NotImplementedError

    @property
    def learned_part(self) -> SquashedGaussian:
        """What gives the density: this policy, or the part of a composed one that `forward` asks; the same inputs."""
        return self

    def executed(self, inputs: Tensor, squashed: Tensor) -> Tensor:
        """The action ``[..., A]`` that is executed for a squashed sample; the sample itself, unless composed."""
        return squashed

    def own(self, inputs: Tensor, executed: Tensor) -> Tensor:
        """The squashed sample ``[..., A]`` in [-1, 1] behind an executed action: the inverse of `executed`.

        Where no sample of the policy gives that action (a human's, a demonstrated one), the nearest.
        """
        return executed.clamp(-1.0, 1.0)

    def reference(self, inputs: Tensor) -> Tensor:
        """The base's action ``[..., A]`` that ``inputs [..., input_size]`` hold.

        Raises:
            NotImplementedError: the policy has no base; its settings do not provide ``reference``.
        """
        raise NotImplementedError

    def hide_reference(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """``inputs [B, input_size]``, in which zeros stand for the base's action in the rows ``hidden [B]``.

        Raises:
            NotImplementedError: see `reference`.
        """
        raise NotImplementedError

    def sample(self, inputs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reparametrised executed action ``[B, A]`` and its log-density ``[B]`` from standard normal ``noise``."""
        mean, log_std = self(inputs)
        squashed, log_prob = self.squash(mean, log_std, noise)
        return self.executed(inputs, squashed), log_prob

    @staticmethod
    def squash(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The squashed sample ``[B, A]`` and its log-density ``[B]``, from the network's outputs."""
        raw = mean + torch.exp(log_std) * noise
        # (raw - mean) / std is the noise itself
        gaussian = -0.5 * noise * noise - log_std - HALF_LOG_2PI
        return torch.tanh(raw), (gaussian - log_one_minus_tanh_squared(raw)).sum(-1)

    def log_prob(self, inputs: Tensor, raw: Tensor) -> Tensor:
        """Log-density of the action tanh(raw) ``[B]``; ``raw [B, A]`` is the sample before squashing."""
        mean, log_std = self(inputs)
        return log_density(raw, mean, log_std)

    def imitation_loss(
        self, inputs: Tensor, actions: Tensor, settings: ImitationSettings, generator: torch.Generator
    ) -> Tensor:
        """See `Policy.imitation_loss`: ``nll``, ``mse`` of the mode, or ``faithful`` (both, kept apart)."""
        mean, log_std = self(inputs)
        return gaussian_imitation_loss(mean, log_std, actions, settings)

    @torch.inference_mode()
    def act(
        self, observation: Array, explore: bool, rng: np.random.Generator, memory: Memory | None = None
    ) -> Decision:
        """See `Policy.act`; not exploring, the mode before squashing is taken."""
        return self.decide(self.normalise(self.checked(observation)), explore, rng)

    @torch.no_grad()
    def trial(self, observations: Array) -> Array:
        """See `Policy.trial`; the modes of all in one go."""
        inputs = self.normalise(torch.tensor(observations))
        executed: Array = self.executed(inputs, torch.tanh(self(inputs)[0])).cpu().numpy()
        return executed

    def decide(self, inputs: Tensor, explore: bool, rng: np.random.Generator, aux: Array = NOTHING) -> Decision:
        """The answer to ``inputs [input_size]``."""
        mean, log_std = self(inputs)
        raw = mean
        if explore:
            noise = rng.standard_normal(self.action_size).astype(np.float32)
            raw = mean + torch.exp(log_std) * torch.from_numpy(noise).to(mean.device)
        executed, sampled = self.executed(inputs, torch.tanh(raw)).cpu().numpy(), raw.cpu().numpy()
        log_prob = log_density_of_one(sampled, mean.cpu().numpy(), log_std.cpu().numpy())
        return Decision(executed, sampled, log_prob, aux)


def gaussian_imitation_loss(mean: Tensor, log_std: Tensor, actions: Tensor, settings: ImitationSettings) -> Tensor:
    """Cloning loss of a squashed Gaussian, mean over B; see `inril_core.finetune.il.bc.Config`."""
    clipped = actions.clamp(-settings.action_limit, settings.action_limit)
    if settings.loss == "nll":
        return -log_density(torch.atanh(clipped), mean, log_std).mean()
    squared = (torch.tanh(mean) - clipped).square().sum(-1).mean()
    if settings.loss == "mse":
        return squared
    return squared - log_density(torch.atanh(clipped), mean.detach(), log_std).mean()
