"""DPPO (arXiv 2409.00588): PPO over the denoising chain of a diffusion policy.

A two-layer decision process: each plan is one decision towards the environment, and each of its last K' denoising steps
is a Gaussian action. Advantages are of plans (the critic sees no noise level), lowered by gamma_den^(K' - 1 - k) for
denoising step k, k = 0 the noisiest. Ratios are of the mean clamped log-density over the plan's numbers.

Where the authors' code differs: it scales rewards by a running std (ours are 0 and 1), uses AdamW, and recomputes the
old log-densities, which here were noted when the robot acted. Its ``use_bc_loss`` is a distillation from the frozen
policy, not imitation; imitation of demonstrations is the ``il`` part's.

A plan that was cut short (an episode's end, a takeover) counts as one decision with the rewards of its executed steps,
and its value goes on from where it was cut. What was planned beyond cannot have changed its advantage, so it adds noise
to the gradient but no bias.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from inril_core.errors import ConfigError
from inril_core.finetune.contracts import Gradient, Metrics, RewardModel
from inril_core.finetune.memory.rollout import RolloutSegment, generalised_advantages
from inril_core.finetune.rl.ppo import ClippedSurrogate, SurrogateConfig, clipped_norm, normalised
from inril_core.networks.flat import FlatParameters
from inril_core.policies import Policy
from inril_core.policies.diffusion import LOG_DENSITY_RANGE, DiffusionPolicy


class Config(SurrogateConfig):
    """Settings of DPPO; K' is the policy's ``finetuned_steps``."""

    method: Literal["dppo"]
    requires = (("policy", "chain"),)
    clip: float = Field(0.01, gt=0.0, lt=1.0)
    """Of the probability ratio at the last denoising step."""
    clip_base: float = Field(0.001, gt=0.0, lt=1.0)
    """Of the probability ratio at the noisiest fine-tuned denoising step."""
    gamma: float = Field(0.99, gt=0.0, lt=1.0)
    """Discount per plan, not per step."""
    gamma_denoising: float = Field(0.99, gt=0.0, le=1.0)
    """Discount per denoising step towards the noise (DPPO: 0.99; 0.9 for assembly)."""
    kl_stop: float | None = Field(1.0, gt=0.0)
    actor_lr: float = Field(1e-4, gt=0.0)

    @model_validator(mode="after")
    def _clips(self) -> "Config":
        if self.clip_base > self.clip:
            raise ConfigError(f"rl.clip_base = {self.clip_base}: must be at most rl.clip = {self.clip}")
        return self

    def build(
        self, policy: Policy, actor: FlatParameters, generator: torch.Generator, reward: RewardModel | None = None
    ) -> "Dppo":
        """See `RlConfig.build`."""
        assert isinstance(policy, DiffusionPolicy)  # required, see `requires`
        return Dppo(self, policy, actor, generator)


@dataclass(frozen=True)
class Plans:
    """N plans of a rollout."""

    inputs: Tensor
    """[N, D_in], where the plan was made."""
    chains: Tensor
    """[N, K' + 1, P]."""
    log_density: Tensor
    """[N, K'], as it was when the robot acted."""
    advantages: Tensor
    """[N]."""
    returns: Tensor
    """[N]."""


@dataclass(frozen=True)
class Steps:
    """B denoising steps, each of some plan."""

    inputs: Tensor
    """[B, D_in]."""
    before: Tensor
    """[B, P], more noisy."""
    after: Tensor
    """[B, P]."""
    step: Tensor
    """[B], k: 0 the noisiest fine-tuned step, K' - 1 the last."""
    log_density: Tensor
    """[B]."""
    advantages: Tensor
    """[B], of the plan, normalised over the minibatch."""
    returns: Tensor
    """[B]."""
    share: float
    """See `distributed.share`."""


def clip_ranges(steps: int, clip: float, base: float) -> Tensor:
    """Clip range of each fine-tuned denoising step ``[K']``, from ``base`` at the noisiest to ``clip`` at the last.

    One step alone, where the authors' formula divides 0 by 0, gets ``clip``.
    """
    if steps == 1:
        return torch.tensor([clip])
    grown = torch.expm1(3.0 * torch.arange(steps) / (steps - 1)) / math.expm1(3.0)
    return base + (clip - base) * grown


class Dppo(ClippedSurrogate):
    """Critic of plans and the clipped surrogate over denoising steps; the actor's step is left to the combination."""

    table = Plans

    def __init__(
        self, config: Config, policy: DiffusionPolicy, flat: FlatParameters, generator: torch.Generator
    ) -> None:
        super().__init__(config, policy, flat, generator)
        self.config, self._policy = config, policy
        steps = policy.finetuned_steps
        device = flat.value.device
        self._clips = clip_ranges(steps, config.clip, config.clip_base).to(device)
        self._discounts = (config.gamma_denoising ** (steps - 1.0 - torch.arange(steps))).to(device)

    def plans(self, segment: RolloutSegment) -> Plans:
        """The plans of a segment, with the advantages of each."""
        starts = np.flatnonzero(segment.chunk_index == 0)
        at = torch.from_numpy(starts)
        rewards = torch.from_numpy(np.add.reduceat(segment.rewards.numpy(), starts))
        seen = torch.cat((segment.inputs[at], segment.inputs[-1:]))
        c = self.config
        advantages, returns = generalised_advantages(
            rewards, self._values(seen), segment.bootstrap, c.gamma, c.gae_lambda
        )
        return Plans(seen[:-1], *self._policy.unpack(segment.aux[at]), advantages, returns)

    def begin_iteration(self, rollout: list[RolloutSegment]) -> int:
        """Take a rollout in; returns the number of minibatch steps it calls for."""
        parts = [vars(self.plans(segment)) for segment in rollout]
        device = self._clips.device
        plans = Plans(**{name: torch.cat([part[name] for part in parts]).to(device) for name in parts[0]})
        return self._begin(plans, plans.log_density.numel())

    def next_minibatch(self) -> Steps:
        """The next piece of the rollout; every epoch visits each denoising step once, in a new order.

        Raises:
            ValueError: no rollout was taken in.
        """
        order, part, share = self._next_rows()
        p: Plans = self._rollout
        advantages = normalised(p.advantages[order // self._policy.finetuned_steps])[part]
        rows = order[part]
        plan, step = rows // self._policy.finetuned_steps, rows % self._policy.finetuned_steps
        return Steps(
            p.inputs[plan],
            p.chains[plan, step],
            p.chains[plan, step + 1],
            step.to(self._clips.device),
            p.log_density[plan, step],
            advantages,
            p.returns[plan],
            share,
        )

    def critic_step(self, batch: Steps) -> Metrics:
        """One step on the squared error to the returns."""
        return self._critic_step(batch.inputs, batch.returns, batch.share)

    def actor_gradient(self, batch: Steps) -> Gradient:
        """Gradient ``[P]`` of the clipped surrogate, over discounted advantages.

        The buffer is reused by the next gradient of the same policy.
        """
        levels = self._policy.finetuned_steps - 1 - batch.step
        density = self._policy.step_log_density(batch.inputs, batch.before, batch.after, levels)
        log_ratio = density.clamp(*LOG_DENSITY_RANGE).mean(-1) - batch.log_density
        advantages = batch.advantages * self._discounts[batch.step]
        loss, metrics = self._surrogate(log_ratio, advantages, self._clips[batch.step], batch.share)
        return Gradient(clipped_norm(self._actor.gradient(loss), self.config.grad_clip), metrics)
