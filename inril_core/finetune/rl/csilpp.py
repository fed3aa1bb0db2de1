"""CSIL++, re-implemented from its description (arXiv 2606.02194; no public code), with XQC's critics (2509.25174).

CSIL with categorical critics, batch norm, weight norm and exact Gaussian KL terms; composed with a frozen base by
``policy.kind: residual`` with ``learned``. Our choices, where the description is silent: the action that is valued is
the learned policy's own, the base's is part of the state; the support is set from the demonstrations' rewards instead
of normalising the rewards; the slope penalty of CSIL's critic stays, in units of the support, on the running
statistics.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from inril_core.errors import ConfigError
from inril_core.finetune.contracts import RewardModel
from inril_core.finetune.memory.replay import Batch
from inril_core.finetune.rewards.csil import CoherentReward
from inril_core.finetune.rl import csil
from inril_core.networks.categorical import CategoricalCritics, project
from inril_core.networks.flat import FlatParameters
from inril_core.policies import Policy, SquashedGaussian


class Config(csil.Config):
    """Settings of CSIL++, besides those of CSIL; XQC's values are given where the defaults are smaller.

    For ``hidden`` they are 4 x 512.
    """

    method: Literal["csilpp"]  # type: ignore[assignment]
    critics: int = Field(2, ge=1, le=100)
    kl: Literal["sampled", "exact"] = "exact"
    critic_steps: int = Field(3, ge=1)
    """Actor every third step (XQC: with 2 critic steps per environment step, utd 2/3)."""
    atoms: int = Field(101, ge=2, le=1001)
    """Of each value distribution."""
    support: tuple[float, float] | None = None
    """Lowest and highest value; None: from the demonstrations, see `Csilpp`."""
    critic_lr_end: float = Field(0.1, gt=0.0, le=1.0)
    """Share of the critic's learning rate that is left in the end (XQC: 3e-4 to 3e-5)."""
    critic_decay_steps: int = Field(20_000, ge=1)
    """Critic steps over which it falls linearly."""

    @model_validator(mode="after")
    def _support(self) -> "Config":
        if self.support is not None and self.support[0] >= self.support[1]:
            raise ConfigError(f"rl.support = {self.support}: must be [low, high] with low < high")
        return self

    def build(
        self, policy: Policy, actor: FlatParameters, generator: torch.Generator, reward: RewardModel | None = None
    ) -> "Csilpp":
        """See `RlConfig.build`."""
        assert isinstance(policy, SquashedGaussian)  # required, see `requires`
        assert isinstance(reward, CoherentReward)  # required: ('rewards', 'coherent')
        return Csilpp(self, policy, actor, generator, reward)


class Csilpp(csil.Csil):
    """Soft policy iteration with a distribution of values.

    Without ``support``, its ends are what earning or losing for ever a high (95th percentile) demonstrated reward is
    worth (in the negative variant shifted, and 0 above), widened by a tenth: XQC's [-5, 5] presumes normalised rewards,
    and the coherent reward's sum would be clipped there without a word. ``value_clipped`` tells how much mass of the
    targets was outside.
    """

    config: Config
    critics: CategoricalCritics  # type: ignore[assignment]

    def _build_critic(self) -> None:
        c, p = self.config, self._policy
        width = p.input_size + p.action_size
        image_encoder = p.new_image_encoder(self._generator)
        critics = CategoricalCritics(c.critics, width, c.hidden, c.atoms, self._generator, image_encoder)
        self.critics = critics.to(self._actor.value.device)
        self._critic = FlatParameters([*self.critics.weights, *image_encoder.weights])
        self._set_support(*(c.support or (-1.0, 1.0)))
        self._steps = 0

    def _set_support(self, low: float, high: float) -> None:
        kept = torch.tensor([low, high])  # float32, as in a checkpoint
        self._support, self._half = (float(kept[0]), float(kept[1])), float(0.5 * (kept[1] - kept[0]))
        self._values = torch.linspace(low, high, self.config.atoms).to(self._actor.value.device)

    def _prepare_critic(self, demo_rewards: Tensor) -> None:
        if self.config.support is not None:
            return
        reward, horizon = self.reward, 1.0 / (1.0 - self.config.gamma)
        shift = reward.bound if reward.config.variant == "negative" else 0.0
        # a clone too bad to earn anything has no scale of its own
        earned = max(float(torch.quantile((demo_rewards + shift).abs(), 0.95)), 0.1 * reward.bound)
        high = 0.0 if shift else min(earned, reward.bound) * horizon
        low = -(min(earned, reward.bound) + shift) * horizon
        margin = 0.1 * (high - low)
        self._set_support(low - margin, high + margin)

    def values(self, inputs: Tensor, actions: Tensor, live: bool = False) -> Tensor:
        """See `Csil.values`; by the running statistics."""
        rows = torch.cat((inputs.expand(*actions.shape[:-1], -1), actions), -1)
        return self._mean(self.critics(rows, "running", None if live else self._frozen_weights))

    def _mean(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits, -1) @ self._values

    def slope(self, inputs: Tensor, actions: Tensor) -> Tensor:
        """See `Csil.slope`; in units of half the support."""
        return super().slope(inputs, actions) / self._half

    @torch.no_grad()
    def distribution(
        self, batch: Batch, rows: Tensor, rewards: Tensor, divergence: Tensor
    ) -> tuple[Tensor, dict[str, float | Tensor]]:
        """Target probabilities ``[B, N]``: of the critic with the smaller mean, shifted, projected.

        Each value z becomes r + discount * min(z - beta * KL term, R_max / (1 - gamma)).

        Args:
            rows: ``[2 B, D + A]``, states and actions, then those that follow: statistics cover both.
        """
        size = len(batch)
        logits = self.critics(rows, "batch", self._target_weights, slice(size, None))
        lowest = self._mean(logits).argmin(0)
        probabilities = torch.softmax(logits[lowest, torch.arange(size, device=lowest.device)], -1)
        bound = self.reward.highest_value(self.config.gamma)
        values = (self._values - self.temperature * divergence[:, None]).clamp_max(bound)
        fixed = rewards + self.end_of(batch.rewards)
        atoms = fixed[:, None] + batch.discounts[:, None] * values
        projected, outside = project(*self._support, atoms, probabilities)
        return projected, {"value_clipped": outside.mean()}

    def _error(
        self, batch: Batch, actions: Tensor, rewards: Tensor, following: Tensor, divergence: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, float | Tensor]]:
        """Cross-entropy to the target distribution, summed over the critics."""
        present = torch.cat((batch.observations, actions), -1)
        rows = torch.cat((present, torch.cat((batch.next_observations, following), -1)))
        target, metrics = self.distribution(batch, rows, rewards, divergence)
        logits = self.critics(rows, "update", answered=slice(len(batch)))
        loss = -(target * torch.log_softmax(logits, -1)).sum(-1).mean(1).sum()
        return loss, self._mean(logits.detach()), metrics

    def _constrain(self) -> None:
        self.critics.unit_norm_()

    def critic_step(self, batch: Batch) -> dict[str, float | Tensor]:
        """See `Csil.critic_step`."""
        c = self.config
        done = min(self._steps / c.critic_decay_steps, 1.0)
        self._adam.lr = c.critic_lr * (1.0 - done * (1.0 - c.critic_lr_end))
        self._steps += 1
        return super().critic_step(batch)

    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs, as tensors."""
        running = {f"running.{i}": t.data for i, t in enumerate((*self.critics.means, *self.critics.variances))}
        return {
            **super().state(),
            "support": torch.tensor(self._support),
            "critic_steps": torch.tensor([float(self._steps)]),
            **running,
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        super().load(state)
        self._set_support(float(state["support"][0]), float(state["support"][1]))
        self._steps = int(state["critic_steps"])
        for i, tensor in enumerate((*self.critics.means, *self.critics.variances)):
            tensor.data.copy_(state[f"running.{i}"])
