"""PPO (arXiv 1707.06347) for any policy with a density; with a residual policy it is residual PPO (ResiP,
arXiv 2407.16677).

On-policy: each iteration collects ``rollout_steps`` with one version of the policy, then takes ``epochs`` passes over
them. Log-probabilities are of the raw sample before squashing; clipping and limits belong to the environment.
"""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from inril_core.finetune import shards
from inril_core.finetune.flat import Adam, FlatParameters
from inril_core.finetune.methods import MethodConfig
from inril_core.finetune.rollout import Segment, generalised_advantages
from inril_core.policies import SquashedGaussian
from inril_core.policies.base import log_density


class Config(MethodConfig):
    """Settings of PPO.

    Attributes:
        rollout_steps: environment steps per iteration; the episode that reaches it is used whole.
        epochs, minibatches: passes over a rollout, and pieces of each pass.
        clip: of the probability ratio. kl_stop: mean KL estimate at which the rest of the iteration is skipped.
        gae_lambda, gamma: see `generalised_advantages`.
        critic_warmup_iterations: first iterations that train the critic alone.
        entropy_weight: of an entropy bonus (of the Gaussian before squashing).
        grad_clip: largest norm of a gradient.
    """

    method: Literal["ppo"]
    provides = frozenset({"actor_gradient"})
    requires = (("policy", "density"),)
    collection: ClassVar[str] = "on_policy"
    rollout_steps: int = Field(1000, ge=2)
    epochs: int = Field(10, ge=1)
    minibatches: int = Field(4, ge=1)
    clip: float = Field(0.2, gt=0.0, lt=1.0)
    kl_stop: float | None = Field(0.1, gt=0.0)
    gamma: float = Field(0.97, gt=0.0, lt=1.0)
    gae_lambda: float = Field(0.95, ge=0.0, le=1.0)
    actor_lr: float = Field(3e-4, gt=0.0)
    critic_lr: float = Field(1e-3, gt=0.0)
    hidden: tuple[int, ...] = (128, 128)
    critic_warmup_iterations: int = Field(1, ge=0)
    entropy_weight: float = Field(0.0, ge=0.0)
    grad_clip: float = Field(1.0, gt=0.0)

    def build(self, policy: SquashedGaussian, flat: FlatParameters, generator: torch.Generator) -> "Ppo":
        """The algorithm on ``policy``, whose parameters are ``flat``."""
        return Ppo(self, policy, flat, generator)


class Rows:
    """A rollout as one table, and the minibatch being worked on."""

    share = 1.0  # see `shards.share`

    def __init__(self, inputs: Tensor, raw: Tensor, log_prob: Tensor, advantages: Tensor, returns: Tensor) -> None:
        self.inputs, self.raw, self.log_prob, self.advantages, self.returns = (
            inputs,
            raw,
            log_prob,
            advantages,
            returns,
        )

    def __len__(self) -> int:
        return len(self.raw)

    def pick(self, rows: Tensor) -> "Rows":
        """Some of the rows."""
        return Rows(self.inputs[rows], self.raw[rows], self.log_prob[rows], self.advantages[rows], self.returns[rows])


def value_network(input_size: int, hidden: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
    """An MLP V(s) with tanh layers, drawn from ``generator``."""
    layers: list[nn.Module] = []
    for a, b in zip((input_size, *hidden), (*hidden, 1), strict=True):
        linear = nn.Linear(a, b)
        with torch.no_grad():
            bound = 1.0 / math.sqrt(a)
            for p in (linear.weight, linear.bias):
                p.copy_(bound * (2.0 * torch.rand(p.shape, generator=generator) - 1.0))
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class Ppo:
    """Critic, advantages and the clipped surrogate; the actor's step is left to the combination."""

    temperature = 0.0

    def __init__(
        self, config: Config, policy: SquashedGaussian, flat: FlatParameters, generator: torch.Generator
    ) -> None:
        self.config, self._policy, self._actor, self._generator = config, policy, flat, generator
        self.value = value_network(policy.input_size, config.hidden, generator).to(flat.value.device)
        self._critic = FlatParameters(self.value.parameters())
        self._adam = Adam(self._critic.value.numel(), config.critic_lr)
        self._rows: Rows | None = None
        self._order: list[Tensor] = []
        self.stopped = False

    def begin_iteration(self, rollout: list[Segment]) -> int:
        """Take a rollout in; returns the number of minibatch steps it calls for."""
        c = self.config
        parts = []
        for s in rollout:
            with torch.no_grad():
                values = self.value(s.inputs).squeeze(-1).cpu()
            advantages, returns = generalised_advantages(s.rewards, values, s.bootstrap, c.gamma, c.gae_lambda)
            parts.append((s.inputs[:-1], s.raw, s.log_prob, advantages, returns))
        device = self._critic.value.device
        self._rows = Rows(*(torch.cat(column).to(device) for column in zip(*parts, strict=True)))
        self._order, self.stopped = [], False
        return c.epochs * min(c.minibatches, len(self._rows))

    def next_minibatch(self) -> Rows:
        """The next piece of the rollout, its advantages normalised; every epoch visits each row once, in a new order.

        In a data-parallel run it is this process's part of the piece.

        Raises:
            ValueError: no rollout was taken in.
        """
        if self._rows is None:
            raise ValueError("no rollout: call begin_iteration first")
        if not self._order:
            order = torch.randperm(len(self._rows), generator=self._generator)
            self._order = list(order.chunk(min(self.config.minibatches, len(self._rows))))
        order = self._order.pop(0)
        advantages = normalised(self._rows.advantages[order])
        part = shards.own(torch.arange(len(order)))
        share = shards.share(len(part), len(order))
        if len(part) == 0:  # a piece of fewer rows than processes: somebody else's row, which does not count
            part = torch.zeros(1, dtype=torch.long)
        rows = self._rows.pick(order[part])
        rows.advantages, rows.share = advantages[part], share
        return rows

    def critic_step(self, batch: Rows) -> dict[str, float]:
        """One step on the squared error to the returns."""
        values = self.value(batch.inputs).squeeze(-1)
        loss = 0.5 * (values - batch.returns).square().mean() * batch.share
        gradient = _clipped(self._critic.gradient(loss), self.config.grad_clip)
        self._critic.value.sub_(self._adam.direction(gradient), alpha=self._adam.lr)
        return {"critic_loss": loss.item(), "q_mean": float(values.detach().mean()) * batch.share}

    def actor_gradient(self, batch: Rows) -> tuple[Tensor, dict[str, float]]:
        """Gradient ``[P]`` of the clipped surrogate (PPO eq. 7), negated.

        The buffer is reused by the next gradient of the same policy.
        """
        c = self.config
        mean, log_std = self._policy(batch.inputs)
        log_prob = log_density(batch.raw, mean, log_std)
        log_ratio = log_prob - batch.log_prob
        ratio = torch.exp(log_ratio)
        loss = clipped_surrogate(ratio, batch.advantages, c.clip)
        entropy = (log_std + 0.5 * math.log(2.0 * math.pi * math.e)).sum(-1).mean()
        if c.entropy_weight > 0.0:
            loss = loss - c.entropy_weight * entropy
        loss = loss * batch.share
        with torch.no_grad():
            kl = float(shards.mean(ratio - 1.0 - log_ratio, batch.share))
            clipped_share = float(((ratio - 1.0).abs() > c.clip).float().mean())
        if c.kl_stop is not None and kl > c.kl_stop:
            self.stopped = True
        metrics = {"rl_loss": loss.item(), "entropy": entropy.item() * batch.share}
        metrics |= {"kl": kl, "clipped": clipped_share * batch.share}
        return _clipped(self._actor.gradient(loss), c.grad_clip), metrics

    def temperature_step(self, entropy: float) -> None:
        """PPO has none."""

    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs, as tensors; between iterations there is no rollout to keep."""
        return {"critic": self._critic.value, **{f"adam.{k}": v for k, v in self._adam.state().items()}}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        self._critic.value.copy_(state["critic"])
        self._adam.load({key: state[f"adam.{key}"] for key in ("first", "second", "steps")})


def clipped_surrogate(ratio: Tensor, advantages: Tensor, clip: float | Tensor) -> Tensor:
    """-E[min(r A, clip(r, 1 - eps, 1 + eps) A)] (PPO eq. 7); ``clip`` may differ per row."""
    bounded = torch.minimum(torch.maximum(ratio, torch.as_tensor(1.0 - clip)), torch.as_tensor(1.0 + clip))
    return -torch.minimum(ratio * advantages, bounded * advantages).mean()


def normalised(advantages: Tensor) -> Tensor:
    """Zero mean, unit std; a constant becomes zeros, a single row stays as it is."""
    if len(advantages) < 2:
        return advantages
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def _clipped(gradient: Tensor, limit: float) -> Tensor:
    norm = float(torch.linalg.vector_norm(gradient))
    return gradient.mul_(limit / norm) if norm > limit else gradient
