"""Coherent reward: the log-ratio of the cloned policy to a uniform prior (CSIL, arXiv 2305.16498, section 4).

r(s, a) = alpha (log q(a|s) - log p(a)), alpha = scaling / A, p uniform on [-1, 1]^A: positive on demonstrated actions
in known states, negative on other actions there, and about 0 in unknown states if q falls back to the prior there
(`inril_core.policies.hetstat`; a plain Gaussian MLP does not). For r, q is already optimal. No task reward is used.

q starts as a copy of the cloned policy and may be refined while the policy learns: its likelihood of demonstrations
goes up, its reward on what the robot did goes down.
"""

import math
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.finetune.contracts import Array, Metrics, RewardConfig, RewardModel
from inril_core.finetune.il import bc
from inril_core.finetune.memory.transitions import last_acted
from inril_core.networks.flat import FlatParameters
from inril_core.policies import Policy, SquashedGaussian, policy_from_manifest
from inril_core.policies.hetstat import STD_LIMIT
from inril_core.policies.squashed import log_density

_LOG_2 = math.log(2.0)
ENDED_WELL, ENDED_BADLY = 1.0, -1.0


class Config(RewardConfig):
    """Settings of the coherent reward."""

    method: Literal["csil"]
    provides = frozenset({"coherent"})
    requires = (("rl", "learned_reward"), ("combine", "rl_step"))
    reasons = {
        "rl_step": "only RL looks at this reward; choose a combine method with RL, e.g. rl_only",
        "learned_reward": "the reward is the log-ratio of the cloned policy, which the RL method has to ask and "
        "refine; choose rl.method: csil or csilpp",
    }
    scaling: float = Field(1.0, gt=0.0)
    """Alpha * A (authors: 1, "do not change")."""
    variant: Literal["positive", "negative"] = "positive"
    """``positive``: r. ``negative``: r - R_max, nominally never above 0, so that reaching the goal early pays (the
    authors' variant for goal-reaching)."""
    ending: Literal["absorbing", "bootstrap", "terminate"] = "absorbing"
    """What the value is beyond the end of a task. With ``terminate``, 0: right for neither variant by itself, since
    the positive one then gains by not finishing, and the negative one by failing soon. ``bootstrap``: as if it went
    on, without telling success from failure; the last state's value is extrapolated. ``absorbing`` (our choice): for
    ever the mean reward of a demonstration after success (0 in the negative variant), and that of an unknown state
    after failure; which of the two it was is the only thing that is used of the task. A time limit always
    bootstraps."""
    floor: float | None = Field(-5.0, le=0.0)
    """Lower clip of r in the Bellman target, so that one action far out in the tail of a narrow q does not decide the
    critic's scale; None: as in the authors' code. Our choice is where their estimator clips, too."""
    refine: bool = True
    """Keep learning the reward."""
    lr: float = Field(1e-3, gt=0.0)
    """Of its plain SGD."""
    kl_weight: float = Field(1.0, ge=0.0)
    """Of the term that pushes the reward of the robot's actions down."""
    refine_kl: Literal["sampled", "exact"] = "sampled"
    """``sampled``: the authors' estimator E[exp(-r) - 1 + r]. ``exact``: alpha KL(q || N(0, 0.75)) before squashing,
    the Gaussian nearest to uniform: how CSIL++'s "exact Gaussian KL" applies here is our choice."""
    grad_clip: float | None = Field(10.0, gt=0.0)
    """Largest norm of the refinement's gradient: that of a narrow Gaussian's likelihood is steep."""
    action_limit: float = Field(0.99, gt=0.5, lt=1.0)
    """Actions are clipped to +- this before the inverse of tanh; MUST be that of the cloning loss."""

    def check(self, whole: Any) -> None:
        """See `MethodConfig.check`."""
        il = whole.il
        if isinstance(il, bc.Config) and il.action_limit != self.action_limit:
            raise ConfigError(
                f"rewards.action_limit = {self.action_limit} with il.action_limit = {il.action_limit}: the reward "
                "would be the density of another action than the one that was cloned; give both the same"
            )
        if isinstance(il, bc.Config) and il.loss == "mse":
            raise ConfigError(
                "il.loss = 'mse' with rewards.method = 'csil': the reward is the clone's density, and this loss leaves "
                "its spread untrained; set il.loss to 'faithful' or 'nll'"
            )
        if whole.schedule.demos_in_replay:
            raise ConfigError(
                "schedule.demos_in_replay with rewards.method = 'csil': the refinement would take demonstrations for "
                "what the robot did, and push their reward down; rl.demo_share shows them to the critics"
            )

    def label(self, episode: Episode) -> tuple[Array, Array]:
        """See `RewardConfig.label`: no rewards, which the model gives, but how the task ended: 1 well, -1 badly.

        The mark is at the last action, and only with ``absorbing``; the mask is 0 there, else 1.
        """
        ends, masks = np.zeros(episode.steps, np.float32), np.ones(episode.steps, np.float32)
        if self.ending != "bootstrap" and episode.complete and (episode.success or episode.terminated):
            last = last_acted(episode)
            masks[last] = 0.0
            if self.ending == "absorbing":
                ends[last] = ENDED_WELL if episode.success else ENDED_BADLY
        return ends, masks

    def model(self, policy: Policy) -> "CoherentReward":
        """See `RewardConfig.model`."""
        assert isinstance(policy, SquashedGaussian)
        return CoherentReward(self, policy)


def copy_of(policy: SquashedGaussian) -> SquashedGaussian:
    """A policy of its own with the same weights."""
    with torch.random.fork_rng(devices=[]):
        twin = policy_from_manifest(policy.manifest())
    twin.load_state_dict(policy.state_dict())
    assert isinstance(twin, SquashedGaussian)
    return twin.to(policy.observation_mean.device)


def gaussian_kl(mean: Tensor, log_std: Tensor, other_mean: Tensor, other_log_std: Tensor) -> Tensor:
    """KL(N(mean, std) || N(other_mean, other_std)) of independent components, ``[..., A] -> [...]``.

    The same before and after squashing both by tanh: KL does not change under a bijection.
    """
    ratio = torch.exp(2.0 * (log_std - other_log_std))
    shift = ((mean - other_mean) * torch.exp(-other_log_std)).square()
    return (0.5 * (ratio + shift - 1.0) + other_log_std - log_std).sum(-1)


def nominal_bound(std_floor: float) -> float:
    """R_max = -ln(smallest std) + ln 2: the authors' 6.45 for a variance floor of 1e-5.

    Per component, log q <= -ln std - 0.5 ln(2 pi) - ln(1 - a^2) and log p = -ln 2; r is their mean times the scaling.
    R_max leaves out -0.5 ln(2 pi) and the squashing's Jacobian, so it holds for ``|a| <= 0.77`` only.
    """
    return _LOG_2 - math.log(std_floor)


class CoherentReward(RewardModel):
    """The reward model q and its refinement. Actions are the learned policy's own (`SquashedGaussian.own`)."""

    bound: float
    """R_max times the scaling, see `nominal_bound`."""
    alpha: float
    """scaling / A."""

    def __init__(self, config: Config, policy: SquashedGaussian) -> None:
        self.config = config
        self.model = copy_of(policy.learned_part)
        self._flat = FlatParameters(self.model.parameters())
        self._actions = policy.action_size
        self.alpha = config.scaling / policy.action_size
        self.bound = config.scaling * nominal_bound(policy.std_floor)

    def log_ratios(self, inputs: Tensor, actions: Tensor) -> Tensor:
        """log q - log p per component, ``[B, A]``, of ``inputs [B, D_in]`` and ``actions [B, A]``."""
        limit = self.config.action_limit
        raw = torch.atanh(actions.clamp(-limit, limit))
        mean, log_std = self.model(inputs)
        return log_density(raw.unsqueeze(-1), mean.unsqueeze(-1), log_std.unsqueeze(-1)) + _LOG_2

    @torch.no_grad()
    def __call__(self, inputs: Tensor, actions: Tensor) -> tuple[Tensor, Metrics]:
        """Rewards ``[B]`` for the Bellman target, and how often a bound was met.

        ``reward_over_bound``: share of components above the nominal bound. ``reward_floored``: share of rows.
        """
        c = self.config
        ratios = self.log_ratios(inputs, actions)
        rewards = self.alpha * ratios.sum(-1)
        metrics = {"reward_over_bound": (c.scaling * ratios > self.bound).float().mean()}
        if c.floor is not None:
            metrics["reward_floored"] = (rewards < c.floor).float().mean()
            rewards = rewards.clamp_min(c.floor)
        return (rewards - self.bound if c.variant == "negative" else rewards), metrics

    def highest_value(self, gamma: float) -> float:
        """The nominal upper bound of any value."""
        return 0.0 if self.config.variant == "negative" else self.bound / (1.0 - gamma)

    def end_values(self, gamma: float, demo_reward: float) -> tuple[float, float]:
        """Values beyond a good and a bad end: of earning for ever a demonstration's, or an unknown state's reward.

        A demonstration that earns less than an unknown state (a poor clone) makes the good end no worse than the bad.
        """
        if self.config.variant == "negative":
            return 0.0, -self.bound / (1.0 - gamma)
        return max(demo_reward, 0.0) / (1.0 - gamma), 0.0

    def loss(self, demos: tuple[Tensor, Tensor], online: tuple[Tensor, Tensor]) -> Tensor:
        """-mean r on demonstrations + KL term on the robot's steps; pairs of inputs ``[B, D_in]``, actions ``[B, A]``.

        The KL estimator exp(-max(r, -5)) - 1 + r is that of CSIL's code; always of the positive variant's r.
        """
        c = self.config
        loss = -self.alpha * self.log_ratios(*demos).sum(-1).mean()
        if c.kl_weight == 0.0:
            return loss
        if c.refine_kl == "exact":
            mean, log_std = self.model(online[0])
            prior = torch.full_like(log_std, math.log(STD_LIMIT))
            return loss + c.kl_weight * self.alpha * gaussian_kl(mean, log_std, torch.zeros_like(mean), prior).mean()
        r = self.alpha * self.log_ratios(*online).sum(-1)
        return loss + c.kl_weight * (torch.exp(-r.clamp_min(-5.0)) - 1.0 + r).mean()

    def refine(self, demos: tuple[Tensor, Tensor], online: tuple[Tensor, Tensor]) -> dict[str, float | Tensor]:
        """One SGD step on `loss`."""
        loss = self.loss(demos, online)
        gradient = self._flat.gradient(loss)
        norm, limit = torch.linalg.vector_norm(gradient), self.config.grad_clip
        if limit is not None:
            gradient.mul_((limit / norm).clamp_max(1.0))
        self._flat.value.sub_(gradient, alpha=self.config.lr)
        return {"reward_loss": loss.detach(), "reward_gradient": norm}

    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs, as tensors."""
        return {"model": self._flat.value}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        self._flat.value.copy_(state["model"])
