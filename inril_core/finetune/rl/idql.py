"""IDQL (arXiv 2304.10573): implicit Q-learning of plans, a cloned diffusion actor, and a critic that selects.

The critic never asks the actor (IQL, arXiv 2110.06169): V is an expectile of Q over the plans that were executed, and
Q learns from V. The actor clones what was executed; it improves through what the critic selects into the replay memory.
So an imitation step on replayed plans would be a second helping of the actor's own loss: the ``il`` part's step is on
the demonstrations alone.

Selection is the policy's (`inril_core.policies.selected_diffusion`): after each step the target Q, by which both public
codes act, and V are copied into it and travel with its weights. A later run begins with them.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from inril_core import distributed
from inril_core.errors import ConfigError
from inril_core.finetune.contracts import Gradient, Metrics, OffPolicyConfig, OffPolicyRl, RewardModel
from inril_core.finetune.memory.replay import Batch
from inril_core.networks.critics import views_like
from inril_core.networks.flat import Adam, FlatParameters
from inril_core.policies import Policy
from inril_core.policies.selected_diffusion import SelectedDiffusionPolicy, new_critics


class Config(OffPolicyConfig):
    """Settings of IDQL. DPPO's version is meant by "theirs"."""

    method: Literal["idql"]
    requires = (("policy", "selection"),)
    distributed = True
    batch: int = Field(256, ge=2)
    demo_share: float = Field(0.0, ge=0.0, lt=1.0)
    """Theirs 0; IDQL's online phase has 0.5. These rows are cloned by the actor like all others: with a share above 0
    the actor imitates demonstrations without any imitation step, and what such a step adds cannot be seen."""
    critic_lr: float = Field(3e-4, gt=0.0)
    tau: float = Field(0.005, gt=0.0, le=1.0)
    """The target network's step size (theirs 0.001)."""
    expectile: float = Field(0.8, ge=0.5, lt=1.0)
    """Of V (0.7 to 0.9; theirs 0.8)."""
    actor_weights: Literal["uniform", "expectile"] = "uniform"
    """``uniform``: every replayed plan is cloned alike (IDQL, theirs); ``expectile``: with weight ``expectile`` where
    Q > V, else 1 - ``expectile``, so that failures are cloned less (our choice; the weight that IDQL's eq. 9 gives
    the policy it stands for)."""
    target_range: tuple[float, float] | None = (0.0, 1.0)
    """Clip of the values; only true bounds may be given."""

    @model_validator(mode="after")
    def _range(self) -> "Config":
        if round(self.batch * self.demo_share) == self.batch:
            raise ConfigError(
                f"rl.batch = {self.batch} with rl.demo_share = {self.demo_share}: no row would be left for what the "
                "robot does; lower the share"
            )
        if self.target_range is not None and self.target_range[0] >= self.target_range[1]:
            raise ConfigError(f"rl.target_range = {self.target_range}: must be [low, high] with low < high")
        return self

    def value_bounds(self) -> tuple[float, float] | None:
        """See `RlConfig.value_bounds`."""
        return self.target_range

    def build(
        self, policy: Policy, actor: FlatParameters, generator: torch.Generator, reward: RewardModel | None = None
    ) -> "Idql":
        """See `RlConfig.build`."""
        assert isinstance(policy, SelectedDiffusionPolicy)  # required, see `requires`
        return Idql(self, policy, actor, generator)


def expectile_loss(errors: Tensor, expectile: float) -> Tensor:
    """|expectile - 1(error < 0)| error^2 (IQL eq. 3), mean; ``errors`` are target - prediction."""
    weights = torch.where(errors < 0.0, 1.0 - expectile, expectile)
    return (weights * errors.square()).mean()


class Idql(OffPolicyRl):
    """Critics, value and target; the actor's step is left to the combination.

    Args:
        generator: all noise is drawn from it.
    """

    def __init__(
        self, config: Config, policy: SelectedDiffusionPolicy, flat: FlatParameters, generator: torch.Generator
    ) -> None:
        self.config, self._policy, self._actor, self._generator = config, policy, flat, generator
        self.critics, self.value = new_critics(policy, policy.config, generator)
        self.critics, self.value = self.critics.to(flat.value.device), self.value.to(flat.value.device)
        own = [*self.critics.parameters(), *self.value.parameters()]
        if policy.has_critics:  # it was fine-tuned before
            for mine, theirs in zip(own, policy.critic_parameters(), strict=True):
                mine.data.copy_(theirs)
        self._critic = FlatParameters(own)
        self._target = torch.cat([p.detach().reshape(-1) for p in self.critics.parameters()])
        self._target_weights = views_like(self._target, list(self.critics.parameters()))
        self._adam = Adam(self._critic.value.numel(), config.critic_lr)

    def _target_q(self, batch: Batch) -> Tensor:
        q: Tensor = self.critics(batch.observations, batch.actions, self._target_weights)
        return self._bounded(q.detach().amin(0))

    def _v(self, inputs: Tensor) -> Tensor:
        v: Tensor = self.value(inputs, inputs[:, :0])[0]
        return v

    def _bounded(self, values: Tensor) -> Tensor:
        return values if self.config.target_range is None else values.clamp(*self.config.target_range)

    def critic_step(self, batch: Batch) -> Metrics:
        """One step of V on the expectile loss and of both Q on r + discount * V(s') (IQL eq. 5 and 6)."""
        c = self.config
        with torch.no_grad():
            targets = self._bounded(batch.rewards + batch.discounts * self._v(batch.next_observations))
        v = self._v(batch.observations)
        value_loss = expectile_loss(self._target_q(batch) - v, c.expectile)
        q: Tensor = self.critics(batch.observations, batch.actions)
        critic_loss = (q - targets).square().mean(1).sum()
        self._adam.step_(self._critic.value, self._critic.gradient(value_loss + critic_loss))
        self._target.lerp_(self._critic.value[: len(self._target)], c.tau)
        self._policy.take_critics([*self._target_weights, *self.value.parameters()])
        return {
            "critic_loss": critic_loss.detach() / 2,
            "value_loss": value_loss.detach(),
            "q_mean": q.detach().mean(),
            "v_mean": v.detach().mean(),
        }

    def actor_gradient(self, batch: Batch) -> Gradient:
        """Gradient ``[P]`` of the denoising error on the replayed plans.

        The buffer is reused by the next gradient of the same policy.
        """
        errors = self._policy.denoising_errors(batch.observations, batch.actions, self._generator)
        metrics = {}
        if self.config.actor_weights == "expectile":
            with torch.no_grad():
                better = self._target_q(batch) > self._v(batch.observations)
            weights = torch.where(better, self.config.expectile, 1.0 - self.config.expectile)
            errors = errors * (weights / distributed.mean(weights))
            metrics["better_share"] = better.float().mean()
        loss = errors.mean()
        return Gradient(self._actor.gradient(loss), {"rl_loss": loss.detach(), **metrics})

    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs, as tensors."""
        adam = {f"adam.{key}": value for key, value in self._adam.state().items()}
        return {"critic": self._critic.value, "target": self._target, **adam}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        self._critic.value.copy_(state["critic"])
        self._target.copy_(state["target"])
        self._adam.load({key: state[f"adam.{key}"] for key in ("first", "second", "steps")})
