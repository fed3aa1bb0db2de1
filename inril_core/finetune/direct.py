"""Gradients of RLPD and of behaviour cloning on a Gaussian MLP, without autograd: pure functions of tensors.

The methods' own formulas are the readable twins (`Rlpd.critic_step`, `Rlpd.actor_gradient`, `Bc.loss`), and tests
compare both. What is not covered here takes the twin: images, composed policies, bf16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from inril_core import distributed
from inril_core.networks.direct import (
    ensemble_backward,
    ensemble_forward,
    ensemble_slope,
    flat,
    mlp_backward,
    mlp_forward,
    tanh_backward,
)
from inril_core.networks.flat import FlatParameters
from inril_core.policies import GaussianPolicy, ImitationSettings, Policy
from inril_core.policies.squashed import log_density

Weights = Sequence[Tensor]


class Tape(NamedTuple):
    """What `GaussianPolicy.forward` gives, and what the way back needs."""

    mean: Tensor
    """``[B, A]``."""
    log_std: Tensor
    """``[B, A]``."""
    out: Tensor
    """``[B, O]``, of the last layer."""
    layers: list[Tensor]
    """Inputs of each layer."""


@dataclass(frozen=True)
class Gaussian:
    """What a `GaussianPolicy` is beside its weights."""

    sizes: tuple[int, ...]
    """Widths, from the inputs to the outputs of the last layer."""
    actions: int
    tanh: bool
    fixed_log_std: float | None
    bounds: tuple[float, float]
    mean_limit: float | None

    def forward(self, weights: Weights, inputs: Tensor) -> Tape:
        """`GaussianPolicy.forward` of ``inputs [B, D]``."""
        out, layers = mlp_forward(inputs, weights, self.tanh)
        mean = out[:, : self.actions]
        if self.mean_limit is not None:
            mean = self.mean_limit * torch.tanh(mean / self.mean_limit)
        if self.fixed_log_std is not None:
            return Tape(mean, torch.full_like(mean, self.fixed_log_std), out, layers)
        return Tape(mean, out[:, self.actions :].clamp(*self.bounds), out, layers)

    def backward(self, weights: Weights, tape: Tape, mean: Tensor, log_std: Tensor) -> Tensor:
        """Gradient ``[P]`` of the weights, from those of mean and log-std ``[B, A]``."""
        if self.mean_limit is not None:
            mean = mean * (1.0 - (tape.mean / self.mean_limit).square())
        if self.fixed_log_std is None:
            inside = tape.out[:, self.actions :] == tape.log_std  # the clamp lets through what is at its bounds
            mean = torch.cat((mean, log_std * inside), 1)
        return flat(mlp_backward(tape.layers, weights, mean, self.tanh))


def gaussian_of(policy: Policy, actor: FlatParameters) -> Gaussian | None:
    """What this module needs to know of ``policy``; None: it is not covered, or trains other parameters too."""
    if type(policy) is not GaussianPolicy or policy.pixels.shapes:
        return None
    own = [p for layer in (*policy.layers, policy.head) for p in (layer.weight, layer.bias)]
    if [id(p) for p in own] != [id(p) for p in actor.parameters]:
        return None
    c = policy.config
    fixed = c.log_std_init if c.log_std == "fixed" else None
    sizes = (policy.input_size, *c.hidden, policy.head.out_features)
    bounds = (c.log_std_min, c.log_std_max)
    return Gaussian(sizes, policy.action_size, c.activation == "tanh", fixed, bounds, c.mean_limit)


def imitation(
    policy: Gaussian, settings: ImitationSettings, weights: Weights, inputs: Tensor, actions: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradient ``[P]`` of `gaussian_imitation_loss`, and the loss."""
    tape, rows = policy.forward(weights, inputs), len(inputs)
    clipped = actions.clamp(-settings.action_limit, settings.action_limit)
    loss, mean, log_std = 0.0 * clipped[0, 0], torch.zeros_like(clipped), torch.zeros_like(clipped)
    if settings.loss != "nll":
        mode = torch.tanh(tape.mean)
        error = mode - clipped
        loss = error.square().sum(-1).mean()
        mean = tanh_backward(error * (2.0 / rows), mode)
    if settings.loss != "mse":
        raw = torch.atanh(clipped)
        loss = loss - log_density(raw, tape.mean, tape.log_std).mean()
        inverse = torch.exp(-tape.log_std)
        standard = (raw - tape.mean) * inverse
        log_std = (1.0 - standard * standard) * (1.0 / rows)
        if settings.loss == "nll":  # in ``faithful`` the likelihood does not reach the mean
            mean = standard * inverse * (-1.0 / rows)
    return policy.backward(weights, tape, mean, log_std), loss


def regression(
    critics: Weights, observations: Tensor, actions: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient ``[P]`` of the critics' squared error, summed over them; the mean error, and the mean value.

    Args:
        observations: ``[B, D]``. actions: ``[B, A]``. targets: ``[B]``.
    """
    q, tape = ensemble_forward(torch.cat((observations, actions), 1), critics)
    error = q - targets
    gradient = flat(ensemble_backward(tape, critics, error * (2.0 / len(actions))))
    return gradient, error.square().mean(), q.mean()


class Value(NamedTuple):
    """How RLPD's actor sees its critics."""

    smallest: bool
    entropy: bool
    behaviour: bool

    def gradient(
        self,
        policy: Gaussian,
        weights: Weights,
        critics: Weights,
        inputs: Tensor,
        replayed: Tensor,
        noise: Tensor,
        factors: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradient ``[P]`` of RLPD's actor loss, see `Rlpd.actor_gradient`; the loss, the mean value, the entropy.

        Args:
            replayed, noise: ``[B, A]``. factors: temperature, and weight of the squared distance to ``replayed``; 0
                where ``entropy`` or ``behaviour`` is off.
        """
        temperature, weight = factors[0], factors[1]
        tape, rows = policy.forward(weights, inputs), len(inputs)
        squashed, log_prob = GaussianPolicy.squash(tape.mean, tape.log_std, noise)
        q, critic_tape = ensemble_forward(torch.cat((inputs, squashed), 1), critics)
        value = q.amin(0) if self.smallest else q.mean(0)
        q_policy = value.mean()
        loss = (temperature * log_prob - value).mean() if self.entropy else -q_policy
        inverse = 1.0 / distributed.mean(value.abs()).clamp_min(1e-3) if self.behaviour else torch.ones_like(q_policy)
        loss, each = loss * inverse, inverse * (1.0 / rows)
        if self.smallest:
            picked = (q == value).float()
            grad = picked / picked.sum(0) * -each  # shared by equal ones, as torch's amin does
        else:
            grad = (each * (-1.0 / len(q))).expand(q.shape)
        mean = tanh_backward(ensemble_slope(critic_tape, critics, grad, inputs.shape[1]), squashed)
        if self.entropy:
            mean = mean + squashed * (each * 2.0 * temperature)
        log_std = mean * (torch.exp(tape.log_std) * noise)
        if self.entropy:
            log_std = log_std - each * temperature
        if self.behaviour:
            mode = torch.tanh(tape.mean)
            error = mode - replayed.clamp(-1.0, 1.0)
            loss = loss + weight * error.square().sum(-1).mean()
            mean = mean + tanh_backward(error * (weight * (2.0 / rows)), mode)
        return policy.backward(weights, tape, mean, log_std), loss, q_policy, -log_prob.mean()


def targets(
    policy: Gaussian, weights: Weights, critics: Weights, drawn: Tensor | None, following: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """The least value ``[B]`` of the ``drawn`` critics (None: all) at a sampled action, and its log-density."""
    tape = policy.forward(weights, following)
    actions, log_prob = GaussianPolicy.squash(tape.mean, tape.log_std, noise)
    some = critics if drawn is None else [w.index_select(0, drawn) for w in critics]
    q, _ = ensemble_forward(torch.cat((following, actions), 1), some)
    return q.amin(0), log_prob
