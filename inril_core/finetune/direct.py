"""Gradients of a Gaussian MLP policy's losses, of RLPD and of behaviour cloning, without autograd.

The methods' own formulas are the readable twins (`Rlpd.actor_gradient`, `Bc.loss`), and tests compare both. What is not
covered here takes the twin: images, composed policies, bf16, torch.compile.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inril_core import distributed
from inril_core.networks.critics import views_like
from inril_core.networks.direct import ensemble_backward, ensemble_forward, in_use, mlp_backward, mlp_forward
from inril_core.networks.flat import FlatParameters
from inril_core.policies import GaussianPolicy, ImitationSettings, Policy
from inril_core.policies.squashed import log_density

_tanh_backward = torch.ops.aten.tanh_backward.default


@dataclass
class Tape:
    """What `GaussianPolicy.forward` gives, and what the way back needs."""

    mean: Tensor
    """``[B, A]``."""
    log_std: Tensor
    """``[B, A]``."""
    out: Tensor
    """``[B, O]``, of the last layer."""
    layers: list[Tensor]
    """Inputs of each layer."""


class DirectGaussian:
    """A Gaussian MLP policy whose gradients are written into the buffer of its flat parameters.

    Args:
        actor: all parameters of ``policy``, in their order.
    """

    def __init__(self, policy: GaussianPolicy, actor: FlatParameters) -> None:
        self._actor, self._config, self._actions = actor, policy.config, policy.action_size
        self._weights = views_like(actor.value, actor.parameters)
        self._tanh = policy.config.activation == "tanh"

    def forward(self, inputs: Tensor) -> Tape:
        """`GaussianPolicy.forward` of ``inputs [B, D]``."""
        c = self._config
        out, layers = mlp_forward(inputs, self._weights, self._tanh)
        mean = out[:, : self._actions]
        if c.mean_limit is not None:
            mean = c.mean_limit * torch.tanh(mean / c.mean_limit)
        if c.log_std == "fixed":
            return Tape(mean, torch.full_like(mean, c.log_std_init), out, layers)
        return Tape(mean, out[:, self._actions :].clamp(c.log_std_min, c.log_std_max), out, layers)

    def gradient(self, tape: Tape, mean: Tensor, log_std: Tensor | None = None) -> Tensor:
        """``[P]``, from the gradients ``[B, A]`` of the mean and of the log-std (None: zero).

        The buffer is that of `FlatParameters.gradient`.
        """
        c = self._config
        if c.mean_limit is not None:
            mean = mean * (1.0 - (tape.mean / c.mean_limit).square())
        if c.log_std == "state":
            if log_std is None:
                log_std = torch.zeros_like(mean)
            inside = tape.out[:, self._actions :] == tape.log_std  # the clamp lets through what is at its bounds
            mean = torch.cat((mean, log_std * inside), 1)
        mlp_backward(tape.layers, self._weights, mean, self._actor.gradients, self._tanh)
        return self._actor.written()

    @torch.no_grad()
    def imitation(self, inputs: Tensor, actions: Tensor, settings: ImitationSettings) -> tuple[Tensor, Tensor]:
        """`gaussian_imitation_loss` and its gradient ``[P]``."""
        tape, rows = self.forward(inputs), len(inputs)
        clipped = actions.clamp(-settings.action_limit, settings.action_limit)
        loss, mean, log_std = torch.zeros((), device=inputs.device), torch.zeros_like(clipped), None
        if settings.loss != "nll":
            mode = torch.tanh(tape.mean)
            error = mode - clipped
            loss = error.square().sum(-1).mean()
            mean = _tanh_backward(error * (2.0 / rows), mode)
        if settings.loss != "mse":
            raw = torch.atanh(clipped)
            loss = loss - log_density(raw, tape.mean, tape.log_std).mean()
            inverse = torch.exp(-tape.log_std)
            standard = (raw - tape.mean) * inverse
            log_std = (1.0 - standard * standard) * (1.0 / rows)
            if settings.loss == "nll":  # in ``faithful`` the likelihood does not reach the mean
                mean = standard * inverse * (-1.0 / rows)
        return loss, self.gradient(tape, mean, log_std)

    @torch.no_grad()
    def value(
        self,
        inputs: Tensor,
        noise: Tensor,
        critics: list[Tensor],
        smallest: bool,
        temperature: float,
        behaviour: tuple[float, Tensor] | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradient ``[P]`` of RLPD's actor loss, see `Rlpd.actor_gradient`, and its metrics.

        Args:
            noise: standard normal, ``[B, A]``.
            critics: weights of the ensemble.
            smallest: the value is the ensemble's minimum instead of its mean.
            behaviour: weight of the squared distance to replayed actions ``[B, A]``, and these; None: no such term,
                and values are not scaled.
        """
        tape, rows = self.forward(inputs), len(inputs)
        squashed, log_prob = GaussianPolicy.squash(tape.mean, tape.log_std, noise)
        q, critic_tape = ensemble_forward(torch.cat((inputs, squashed), 1), critics)
        value = q.amin(0) if smallest else q.mean(0)
        q_policy = value.mean()
        loss = -q_policy
        if temperature > 0.0:
            loss = (temperature * log_prob - value).mean()
        each = torch.full((), 1.0 / rows, device=inputs.device)  # what one row's loss counts
        if behaviour is not None:
            scale = distributed.mean(value.abs()).clamp_min(1e-3)
            loss, each = loss / scale, each / scale
        if smallest:
            picked = (q == value).float()
            grad = picked / picked.sum(0) * -each  # shared by equal ones, as torch's amin does
        else:
            grad = (each * (-1.0 / len(q))).expand(q.shape)
        of_actions = ensemble_backward(critic_tape, critics, grad, first_column=inputs.shape[1])
        mean = _tanh_backward(of_actions, squashed)
        if temperature > 0.0:
            mean = mean + squashed * (each * (2.0 * temperature))
        log_std = mean * (torch.exp(tape.log_std) * noise)
        if temperature > 0.0:
            log_std = log_std - each * temperature
        if behaviour is not None:
            weight, replayed = behaviour
            mode = torch.tanh(tape.mean)
            error = mode - replayed.clamp(-1.0, 1.0)
            loss = loss + weight * error.square().sum(-1).mean()
            mean = mean + _tanh_backward(error * (2.0 * weight / rows), mode)
        metrics = {"rl_loss": loss, "q_policy": q_policy, "entropy": -log_prob.mean()}
        return self.gradient(tape, mean, log_std), metrics


def direct_gaussian(policy: Policy, actor: FlatParameters) -> DirectGaussian | None:
    """The gradients of ``policy``, if they are written out here and it trains all that ``actor`` has."""
    if type(policy) is not GaussianPolicy or policy.pixels.shapes:
        return None
    own = [p for layer in (*policy.layers, policy.head) for p in (layer.weight, layer.bias)]
    same = len(own) == len(actor.parameters) and all(a is b for a, b in zip(own, actor.parameters, strict=True))
    return DirectGaussian(policy, actor) if same else None


__all__ = ["DirectGaussian", "direct_gaussian", "in_use"]
