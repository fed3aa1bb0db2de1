"""CSIL: soft policy iteration on the coherent reward (Coherent Soft Imitation Learning, arXiv 2305.16498).

Cloned policy, reward and critic start in agreement: the critic is pre-trained on the demonstrations by SARSA with a
penalty on its slope in the action, so the policy has no reason to leave what was cloned at its first update. The prior
of the KL term is the cloned policy, frozen; that of the reward is uniform. Half of each batch is demonstrations.
Differences from the authors' code, each a setting: smaller networks, several critics, ``rewards.ending``, ``floor``.
"""

import math
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from inril_core import distributed
from inril_core.errors import ConfigError
from inril_core.finetune.contracts import Gradient, Metrics, OffPolicyConfig, OffPolicyRl, RewardModel
from inril_core.finetune.memory.replay import NO_ACTION, Batch, Replay
from inril_core.finetune.rewards.csil import CoherentReward, copy_of, gaussian_kl
from inril_core.networks.critics import CriticEnsemble, views_like
from inril_core.networks.flat import Adam, FlatParameters
from inril_core.policies import Policy, SquashedGaussian
from inril_core.policies.squashed import log_density

_LOG_2 = math.log(2.0)


class Config(OffPolicyConfig):
    """Settings of CSIL; the authors' values are the defaults where nothing else is said."""

    method: Literal["csil"]
    provides = frozenset({"actor_gradient", "learned_reward"})
    requires = (("policy", "density"), ("policy", "cloned"), ("rewards", "coherent"))
    reasons = {
        "coherent": "its prior and its critic start from the cloned policy and are optimal for no other reward; choose "
        "rewards.method: csil",
        "cloned": "its reward is the density of a policy that clones the demonstrations; choose policy.kind: hetstat, "
        "or for a residual set policy.learned: {kind: hetstat} and policy.freeze_base: true",
    }
    critics: int = Field(1, ge=1, le=100)
    """Their minimum is used (1)."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of each critic (256, 256)."""
    batch: int = Field(256, ge=2)
    demo_share: float = Field(0.5, gt=0.0, lt=1.0)
    critic_lr: float = Field(3e-4, gt=0.0)
    actor_lr: float = Field(3e-4, gt=0.0)
    gamma: float = Field(0.99, gt=0.0, lt=1.0)
    tau: float = Field(0.005, gt=0.0, le=1.0)
    temperature: float = Field(0.01, ge=0.0)
    """Beta, weight of the KL term; where learned, its start."""
    learn_temperature: bool = False
    """SGD on beta so that the KL approaches ``kl_target``; None: A/2, the authors' bound."""
    temperature_lr: float = Field(1e-2, gt=0.0)
    kl_target: float | None = Field(None, gt=0.0)
    prior: Literal["cloned", "uniform"] = "cloned"
    """Of the KL term. ``cloned``: the frozen cloned policy (the authors' code). ``uniform``: the theory's; with
    temperature = scaling / A the cloned policy is then exactly optimal, and stays."""
    kl: Literal["sampled", "exact"] = "sampled"
    """``sampled`` at one action, or ``exact`` between the two Gaussians; a uniform prior is sampled."""
    slope_weight: float = Field(1.0, ge=0.0)
    """Of sqrt(E_demos sum_a (dQ/da)^2)."""
    sarsa_updates: int = Field(5000, ge=0)
    """Critic pre-training on the demonstrations, before the first update."""
    sarsa_lr: float = Field(1e-4, gt=0.0)
    """Learning rate of the pre-training."""

    @model_validator(mode="after")
    def _combination(self) -> "Config":
        if not 0 < round(self.batch * self.demo_share) < self.batch:
            raise ConfigError(f"rl.batch = {self.batch}: too small for rl.demo_share = {self.demo_share}")
        if self.learn_temperature and self.temperature <= 0.0:
            raise ConfigError(f"rl.temperature = {self.temperature}: must be > 0 where it is learned (its log is)")
        if self.prior == "uniform" and self.kl == "exact":
            raise ConfigError("rl.kl = 'exact': needs rl.prior = 'cloned'; a uniform prior is no squashed Gaussian")
        return self

    def check(self, whole: Any) -> None:
        """See `MethodConfig.check`."""
        if whole.compute.compile and self.slope_weight > 0.0:
            raise ConfigError(
                f"compute.compile with rl.slope_weight = {self.slope_weight}: the penalty on the critics' slope needs "
                "the gradient of a gradient, which torch.compile does not give; set compute.compile to false"
            )

    def build(
        self, policy: Policy, actor: FlatParameters, generator: torch.Generator, reward: RewardModel | None = None
    ) -> "Csil":
        """See `RlConfig.build`."""
        assert isinstance(policy, SquashedGaussian)  # required, see `requires`
        assert isinstance(reward, CoherentReward)  # required: ('rewards', 'coherent')
        return Csil(self, policy, actor, generator, reward)


class Csil(OffPolicyRl):
    """Critics, target, prior and temperature; the actor's step is left to the combination.

    Actions are the policy's own (`SquashedGaussian.own`), what a frozen base does is part of the state.
    """

    def __init__(
        self,
        config: Config,
        policy: SquashedGaussian,
        flat: FlatParameters,
        generator: torch.Generator,
        reward: CoherentReward,
    ) -> None:
        self.reward = reward
        self.config, self._policy, self._actor, self._generator = config, policy, flat, generator
        self.prior = copy_of(policy.learned_part).requires_grad_(False)
        self._build_critic()
        self._target = self._critic.value.clone()
        self._target_weights = views_like(self._target, self._critic.parameters)
        self._frozen_weights = views_like(self._critic.value, self._critic.parameters)
        self._adam = Adam(self._critic.value.numel(), config.critic_lr)
        self._log_temperature = torch.tensor([math.log(max(config.temperature, 1e-12))])
        self._kl_target = policy.action_size / 2 if config.kl_target is None else config.kl_target
        self._kl: float | Tensor = 0.0
        self._ends = (0.0, 0.0)  # values beyond a good and a bad end

    def _build_critic(self) -> None:
        c, p = self.config, self._policy
        image_encoder = p.new_image_encoder(self._generator)
        critics = CriticEnsemble(c.critics, p.input_size, p.action_size, c.hidden, self._generator, image_encoder)
        self.critics = critics.to(self._actor.value.device)
        self._critic = FlatParameters(self.critics.parameters())

    @property
    def temperature(self) -> float:
        """Weight of the KL term."""
        return math.exp(float(self._log_temperature)) if self.config.learn_temperature else self.config.temperature

    def values(self, inputs: Tensor, actions: Tensor, live: bool = False) -> Tensor:
        """Q ``[E, B]`` of own actions ``[B, A]``, or ``[E, B, A]``: of each critic its own.

        With ``live`` weights, its gradient reaches the critic.
        """
        q: Tensor = self.critics(inputs, actions, None if live else self._frozen_weights)
        return q

    def prepare(self, demos: Replay) -> None:
        """SARSA on the demonstrations with the reward as it is, before the first update."""
        c = self.config
        rows = demos.first(len(demos))
        rewards, _ = self.reward(rows.observations, self._policy.own(rows.observations, rows.actions))
        self._set_ends(torch.tensor(self.reward.end_values(c.gamma, float(rewards.mean()))))
        self._prepare_critic(rewards)
        adam = Adam(self._critic.value.numel(), c.sarsa_lr)
        for _ in range(c.sarsa_updates):
            batch = demos.sample(c.batch, self._generator)
            following = self._policy.own(batch.next_observations, batch.next_actions)
            # a demonstration that goes on beyond its last recorded action: what its clone would do
            asked, _ = self._sampled(batch.next_observations)
            known = (batch.next_actions != NO_ACTION).any(-1, keepdim=True)
            following = torch.where(known, following, asked)
            self._fit(batch, len(batch), following, torch.zeros_like(batch.rewards), adam)

    def _set_ends(self, ends: Tensor) -> None:
        self._ends = (float(ends[0]), float(ends[1]))  # of float32, as a checkpoint keeps them

    def _prepare_critic(self, demo_rewards: Tensor) -> None:
        """Before the pre-training, with the demonstrations' rewards ``[N]``."""

    @torch.no_grad()
    def _sampled(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """An own action ``[B, A]`` of the policy, and the KL term ``[B]``."""
        mean, log_std = self._policy(inputs)
        raw = mean + torch.exp(log_std) * distributed.normal_like(mean, self._generator)
        return torch.tanh(raw), self._divergence(inputs, raw, mean, log_std)

    def _divergence(self, inputs: Tensor, raw: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        """log pi - log prior at ``raw``, or the exact KL of the two Gaussians, ``[B]``."""
        if self.config.prior == "uniform":
            return log_density(raw, mean, log_std) + _LOG_2 * raw.shape[-1]
        prior_mean, prior_log_std = self.prior(inputs)
        if self.config.kl == "exact":
            return gaussian_kl(mean, log_std, prior_mean, prior_log_std)
        return log_density(raw, mean, log_std) - log_density(raw, prior_mean, prior_log_std)

    def end_of(self, marks: Tensor) -> Tensor:
        """gamma times the value beyond an end, ``[B]``, by its mark: 1 a good one, -1 a bad one, 0 none."""
        good, bad = self._ends
        value = torch.where(marks > 0.0, good, 0.0) + torch.where(marks < 0.0, bad, 0.0)
        return self.config.gamma * value

    def targets(self, batch: Batch, rewards: Tensor, following: Tensor, divergence: Tensor) -> Tensor:
        """y = r + discount * min(V, R_max / (1 - gamma)), V = min Q_target(s', a') - beta * KL term, ``[B]``."""
        with torch.no_grad():
            q: Tensor = self.critics(batch.next_observations, following, self._target_weights)
            value = q.amin(0) - self.temperature * divergence
            value = value.clamp_max(self.reward.highest_value(self.config.gamma))
            return rewards + batch.discounts * value + self.end_of(batch.rewards)

    def _error(
        self, batch: Batch, actions: Tensor, rewards: Tensor, following: Tensor, divergence: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, float | Tensor]]:
        """The regression's loss, Q ``[E, B]`` without gradient, and metrics."""
        q = self.values(batch.observations, actions, live=True)
        y = self.targets(batch, rewards, following, divergence)
        return (q - y).square().mean(1).sum(), q.detach(), {}

    def slope(self, inputs: Tensor, actions: Tensor) -> Tensor:
        """sqrt(E sum_a (dQ/da)^2) over demonstrations, summed over the critics; it has a gradient."""
        each = actions.expand(self.config.critics, *actions.shape).clone().requires_grad_(True)  # its own for each
        (slopes,) = torch.autograd.grad(self.values(inputs, each, live=True).sum(), each, create_graph=True)
        return torch.sqrt(slopes.square().sum(-1).mean(-1) + 1e-12).sum()

    def _fit(
        self, batch: Batch, demos: int, following: Tensor, divergence: Tensor, adam: Adam
    ) -> dict[str, float | Tensor]:
        """One step of the critics, then of their target; the last ``demos`` rows are demonstrations."""
        actions = self._policy.own(batch.observations, batch.actions)
        rewards, of_reward = self.reward(batch.observations, actions)
        loss, q, more = self._error(batch, actions, rewards, following, divergence)
        metrics: dict[str, float | Tensor] = {**of_reward}
        metrics |= {"critic_loss": loss.detach() / self.config.critics, "q_mean": q.mean(), **more}
        online = len(batch) - demos
        if self.config.slope_weight > 0.0 and demos:
            slope = self.slope(batch.observations[online:], actions[online:])
            loss = loss + self.config.slope_weight * slope
            metrics["q_slope"] = slope.detach() / self.config.critics
        if demos and online:
            metrics |= {
                "reward_demos": rewards[online:].mean(),
                "reward_online": rewards[:online].mean(),
                "q_demos": q[:, online:].mean(),
                "q_online": q[:, :online].mean(),
            }
        adam.step_(self._critic.value, self._critic.gradient(loss))
        self._constrain()
        self._target.lerp_(self._critic.value, self.config.tau)
        return metrics

    def _constrain(self) -> None:
        """After each step of the critics."""

    def critic_step(self, batch: Batch) -> dict[str, float | Tensor]:
        """One step of the critics, their target and the reward."""
        following, divergence = self._sampled(batch.next_observations)
        metrics = self._fit(batch, batch.demos, following, divergence, self._adam)
        online = len(batch) - batch.demos
        if self.reward.config.refine and batch.demos and online:
            actions = self._policy.own(batch.observations, batch.actions)
            demos = (batch.observations[online:], actions[online:])
            metrics |= self.reward.refine(demos, (batch.observations[:online], actions[:online]))
        return metrics

    def actor_gradient(self, batch: Batch) -> Gradient:
        """Gradient ``[P]`` of E[beta * KL term - min Q(s, a)], a ~ pi reparametrised.

        The buffer is reused by the next gradient of the same policy.
        """
        mean, log_std = self._policy(batch.observations)
        raw = mean + torch.exp(log_std) * distributed.normal_like(mean, self._generator)
        q = self.values(batch.observations, torch.tanh(raw)).amin(0).mean()
        kl = self._divergence(batch.observations, raw, mean, log_std).mean()
        loss = self.temperature * kl - q
        self._kl = kl.detach()
        entropy = -log_density(raw, mean, log_std).detach().mean()
        metrics = {"rl_loss": loss.detach(), "q_policy": q.detach(), "prior_kl": self._kl, "entropy": entropy}
        return Gradient(self._actor.gradient(loss), metrics)

    def actor_stepped(self, metrics: Metrics) -> None:
        """One SGD step of a learned temperature: up while the KL of the last actor step is above its target."""
        if self.config.learn_temperature:
            change = self.config.temperature_lr * (float(self._kl) - self._kl_target)
            self._log_temperature.add_(max(-1.0, min(1.0, change))).clamp_(-12.0, 5.0)

    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs, as tensors."""
        return {
            "critic": self._critic.value,
            "target": self._target,
            "log_temperature": self._log_temperature,
            "ends": torch.tensor(self._ends),
            **{f"adam.{key}": t for key, t in self._adam.state().items()},
            **{f"prior.{key}": t for key, t in self.prior.state_dict().items()},
            **{f"reward.{key}": t for key, t in self.reward.state().items()},
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        self._critic.value.copy_(state["critic"])
        self._target.copy_(state["target"])
        self._log_temperature.copy_(state["log_temperature"])
        self._set_ends(state["ends"])
        self._adam.load(_under(state, "adam"))
        self.prior.load_state_dict(_under(state, "prior"))
        self.reward.load(_under(state, "reward"))


def _under(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The entries whose name begins with ``name``, without it."""
    return {key.removeprefix(f"{name}."): t for key, t in state.items() if key.startswith(f"{name}.")}
