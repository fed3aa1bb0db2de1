"""PPO (arXiv 1707.06347) for any policy with a density; with a residual policy it is residual PPO (ResiP,
arXiv 2407.16677).

On-policy: each iteration collects ``rollout_steps`` with one version of the policy, then takes ``epochs`` passes over
them. Log-probabilities are of the raw sample before squashing; clipping and limits belong to the environment.
"""

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from inril_core import distributed
from inril_core.finetune.contracts import Gradient, Metrics, OnPolicyConfig, OnPolicyRl, RewardModel
from inril_core.finetune.memory.rollout import RolloutSegment, generalised_advantages
from inril_core.networks.encoder import ImageEncoder
from inril_core.networks.flat import Adam, FlatParameters
from inril_core.policies import Policy, SquashedGaussian
from inril_core.policies.squashed import log_density


class SurrogateConfig(OnPolicyConfig):
    """Settings of what PPO and DPPO share."""

    distributed = True
    epochs: int = Field(10, ge=1)
    """Passes over a rollout."""
    kl_stop: float | None = Field(0.1, gt=0.0)
    """Mean KL estimate at which the rest of the iteration is skipped."""
    gae_lambda: float = Field(0.95, ge=0.0, le=1.0)
    """See `generalised_advantages`; per decision."""
    actor_lr: float = Field(3e-4, gt=0.0)
    critic_lr: float = Field(1e-3, gt=0.0)
    hidden: tuple[int, ...] = (128, 128)
    grad_clip: float = Field(1.0, gt=0.0)
    """Largest norm of a gradient."""


class Config(SurrogateConfig):
    """Settings of PPO."""

    method: Literal["ppo"]
    requires = (("policy", "density"),)
    clip: float = Field(0.2, gt=0.0, lt=1.0)
    """Of the probability ratio."""
    entropy_weight: float = Field(0.0, ge=0.0)
    """Of an entropy bonus (of the Gaussian before squashing)."""

    def build(
        self, policy: Policy, actor: FlatParameters, generator: torch.Generator, reward: RewardModel | None = None
    ) -> "Ppo":
        """See `RlConfig.build`."""
        assert isinstance(policy, SquashedGaussian)  # required, see `requires`
        return Ppo(self, policy, actor, generator)


class Rows:
    """A rollout as one table, or a minibatch of it."""

    share = 1.0  # see `distributed.share`

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


def value_network(
    input_size: int, hidden: tuple[int, ...], generator: torch.Generator, image_encoder: ImageEncoder | None = None
) -> nn.Sequential:
    """An MLP V(s) with tanh layers, drawn from ``generator``, behind its own image encoder."""
    layers: list[nn.Module] = [] if image_encoder is None else [image_encoder]
    features = input_size if image_encoder is None else image_encoder.width(input_size)
    for a, b in zip((features, *hidden), (*hidden, 1), strict=True):
        linear = nn.Linear(a, b)
        with torch.no_grad():
            bound = 1.0 / math.sqrt(a)
            for p in (linear.weight, linear.bias):
                p.copy_(bound * (2.0 * torch.rand(p.shape, generator=generator) - 1.0))
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class ClippedSurrogate(OnPolicyRl):
    """Critic, minibatches and state of an on-policy method; a subclass gives rows and the actor's gradient."""

    table: ClassVar[type]
    """Of a rollout; its attributes are tensors, and the names of its arguments."""

    def __init__(
        self, config: SurrogateConfig, policy: Policy, flat: FlatParameters, generator: torch.Generator
    ) -> None:
        self._settings, self._actor, self._generator = config, flat, generator
        image_encoder = policy.new_image_encoder(generator)
        self.value = value_network(policy.input_size, config.hidden, generator, image_encoder).to(flat.value.device)
        self._critic = FlatParameters(self.value.parameters())
        self._adam = Adam(self._critic.value.numel(), config.critic_lr)
        self._rollout: Any = None
        self._count = self._left = 0  # rows of the rollout, and minibatches that it still calls for
        self._order: list[Tensor] = []
        self.stopped = False

    def _begin(self, rollout: Any, rows: int) -> int:
        """A new rollout of so many rows; returns the number of minibatch steps it calls for."""
        self._rollout, self._count, self._order, self.stopped = rollout, rows, [], False
        self._left = self._settings.epochs * math.ceil(rows / math.ceil(rows / self._settings.minibatches))
        return self._left

    def _next_rows(self) -> tuple[Tensor, Tensor, float]:
        """The next minibatch; every epoch visits each row once, in a new order.

        Returns the rows of the whole minibatch, this process's places in it, and its `distributed.share`.

        Raises:
            ValueError: no rollout was taken in.
        """
        if not self._count:
            raise ValueError("no rollout: call begin_iteration first")
        if not self._order:
            order = torch.randperm(self._count, generator=self._generator)
            self._order = list(order.chunk(min(self._settings.minibatches, self._count)))
        order = self._order.pop(0)
        self._left -= 1
        part = distributed.own(torch.arange(len(order)))
        share = distributed.share(len(part), len(order))
        if len(part) == 0:  # a piece of fewer rows than processes: somebody else's row, which does not count
            part = torch.zeros(1, dtype=torch.long)
        return order, part, share

    def _values(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            values: Tensor = self.value(inputs).squeeze(-1).cpu()
        return values

    def _critic_step(self, inputs: Tensor, returns: Tensor, share: float) -> Metrics:
        """One step on the squared error to the returns."""
        values = self.value(inputs).squeeze(-1)
        loss = 0.5 * (values - returns).square().mean() * share
        gradient = clipped_norm(self._critic.gradient(loss), self._settings.grad_clip)
        self._adam.step_(self._critic.value, gradient)
        return {"critic_loss": loss.detach(), "q_mean": values.detach().mean() * share}

    def _surrogate(
        self, log_ratio: Tensor, advantages: Tensor, clip: float | Tensor, share: float
    ) -> tuple[Tensor, dict[str, float | Tensor]]:
        """The clipped surrogate (PPO eq. 7), with its metrics; a KL estimate beyond the limit stops the iteration.

        That limit is the one number that is read here: whether the next minibatch is taken depends on it.
        """
        ratio = torch.exp(log_ratio)
        loss = clipped_surrogate(ratio, advantages, clip) * share
        with torch.no_grad():
            kl = distributed.mean(ratio - 1.0 - log_ratio, share)
            clipped_share = ((ratio - 1.0).abs() > clip).float().mean() * share
        if self._settings.kl_stop is not None and float(kl) > self._settings.kl_stop:
            self.stopped = True
        return loss, {"rl_loss": loss.detach(), "kl": kl, "clipped": clipped_share}

    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs, as tensors; in the middle of an iteration its rollout, too."""
        state = {"critic": self._critic.value, **{f"adam.{k}": v for k, v in self._adam.state().items()}}
        if self._left:
            state |= {f"rollout.{name}": column for name, column in vars(self._rollout).items()}
            state["iteration"] = torch.tensor([self._count, self._left, self.stopped, *map(len, self._order)])
            state["order"] = torch.cat([*self._order, torch.zeros(0, dtype=torch.long)])
        return state

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        self._critic.value.copy_(state["critic"])
        self._adam.load({key: state[f"adam.{key}"] for key in ("first", "second", "steps")})
        if "iteration" in state:
            columns = {name.removeprefix("rollout."): t for name, t in state.items() if name.startswith("rollout.")}
            device = self._critic.value.device
            self._rollout = self.table(**{name: column.to(device) for name, column in columns.items()})
            self._count, self._left, stopped, *sizes = state["iteration"].tolist()
            self._order, self.stopped = list(state["order"].split(sizes)) if sizes else [], bool(stopped)


class Ppo(ClippedSurrogate):
    """Critic, advantages and the clipped surrogate; the actor's step is left to the combination."""

    table = Rows

    def __init__(
        self, config: Config, policy: SquashedGaussian, flat: FlatParameters, generator: torch.Generator
    ) -> None:
        super().__init__(config, policy, flat, generator)
        self.config, self._policy = config, policy

    def begin_iteration(self, rollout: list[RolloutSegment]) -> int:
        """Take a rollout in; returns the number of minibatch steps it calls for."""
        c = self.config
        parts = []
        for s in rollout:
            advantages, returns = generalised_advantages(
                s.rewards, self._values(s.inputs), s.bootstrap, c.gamma, c.gae_lambda
            )
            parts.append((s.inputs[:-1], s.raw, s.log_prob, advantages, returns))
        device = self._critic.value.device
        rows = Rows(*(torch.cat(column).to(device) for column in zip(*parts, strict=True)))
        return self._begin(rows, len(rows))

    def next_minibatch(self) -> Rows:
        """The next piece of the rollout, its advantages normalised; every epoch visits each row once, in a new order.

        In a data-parallel run it is this process's part of the piece.

        Raises:
            ValueError: no rollout was taken in.
        """
        order, part, share = self._next_rows()
        rows: Rows = self._rollout.pick(order[part])
        rows.advantages, rows.share = normalised(self._rollout.advantages[order])[part], share
        return rows

    def critic_step(self, batch: Rows) -> Metrics:
        """One step on the squared error to the returns."""
        return self._critic_step(batch.inputs, batch.returns, batch.share)

    def actor_gradient(self, batch: Rows) -> Gradient:
        """Gradient ``[P]`` of the clipped surrogate (PPO eq. 7), negated.

        The buffer is reused by the next gradient of the same policy.
        """
        c = self.config
        mean, log_std = self._policy(batch.inputs)
        log_prob = log_density(batch.raw, mean, log_std)
        loss, metrics = self._surrogate(log_prob - batch.log_prob, batch.advantages, c.clip, batch.share)
        entropy = (log_std + 0.5 * math.log(2.0 * math.pi * math.e)).sum(-1).mean()
        if c.entropy_weight > 0.0:
            loss = loss - c.entropy_weight * entropy * batch.share
            metrics["rl_loss"] = loss.detach()
        metrics["entropy"] = entropy.detach() * batch.share
        return Gradient(clipped_norm(self._actor.gradient(loss), c.grad_clip), metrics)


def clipped_surrogate(ratio: Tensor, advantages: Tensor, clip: float | Tensor) -> Tensor:
    """-E[min(r A, clip(r, 1 - eps, 1 + eps) A)] (PPO eq. 7); ``clip`` may differ per row."""
    bounded = torch.minimum(torch.maximum(ratio, torch.as_tensor(1.0 - clip)), torch.as_tensor(1.0 + clip))
    return -torch.minimum(ratio * advantages, bounded * advantages).mean()


def normalised(advantages: Tensor) -> Tensor:
    """Zero mean, unit std; a constant becomes zeros, a single row stays as it is."""
    if len(advantages) < 2:
        return advantages
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def clipped_norm(gradient: Tensor, limit: float) -> Tensor:
    """``gradient``, changed in place to a norm of at most ``limit``."""
    return gradient.mul_((limit / torch.linalg.vector_norm(gradient)).clamp_max(1.0))
