"""SAC with RLPD's changes (arXiv 2302.02948): LayerNorm critic ensemble, random-subset targets, symmetric demos.

Differences, each a setting: the ensemble's size, no entropy in the target by default (as for RLPD's sparse tasks),
and the target may be clipped to the range that a sparse 0/1 reward allows.

For a residual over a base there are two parts of RL Token's actor loss (arXiv 2604.23073), ``behaviour_towards:
reference`` and ``reference_dropout``. Other than there: the actor's output is added to the reference and bounded, so
that the first policy is the base; it decides every step, not every chunk; the critics see the reference, too.
"""

import ctypes
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from inril_core import distributed
from inril_core.errors import ConfigError
from inril_core.finetune.contracts import Gradient, Metrics, OffPolicyConfig, OffPolicyRl, RewardModel
from inril_core.finetune.direct import Value, gaussian_of, regression, targets
from inril_core.finetune.memory.replay import Batch
from inril_core.finetune.native import ActorKernels, RegressionKernel
from inril_core.networks.critics import CriticEnsemble, views_like
from inril_core.networks.direct import in_use
from inril_core.networks.flat import Adam, FlatParameters
from inril_core.policies import Policy, SquashedGaussian


class Config(OffPolicyConfig):
    """Settings of RLPD, whose own ``demo_share`` is 0.5."""

    method: Literal["rlpd"]
    requires = (("policy", "density"),)
    reasons = {
        "reference": "only a residual sees the action of a base (policy.kind: residual); or set rl.behaviour_towards "
        "to 'replayed' and rl.reference_dropout to 0"
    }
    distributed = True
    critics: int = Field(2, ge=1, le=100)
    target_subset: int = Field(2, ge=1)
    """Critics drawn for each target, without replacement; their minimum is used."""
    hidden: tuple[int, ...] = (128, 128)
    critic_lr: float = Field(3e-4, gt=0.0)
    tau: float = Field(0.005, gt=0.0, le=1.0)
    """The target network's step size at every critic step."""
    n_steps: int = Field(1, ge=1, le=50)
    """Length of the return before bootstrapping."""
    learn_temperature: bool = False
    temperature: float = Field(0.002, ge=0.0)
    """Weight of the entropy; where learned, its start."""
    temperature_lr: float = Field(3e-4, gt=0.0)
    target_entropy: float | None = None
    """Of the learned temperature, nats; None: -A/2 as in RLPD."""
    entropy_in_target: bool = False
    target_range: tuple[float, float] | None = (0.0, 1.0)
    """Clip of the target value; only true bounds may be given."""
    actor_q: Literal["mean", "min"] = "mean"
    """``mean`` of all critics (RLPD) or ``min``, which is more careful."""
    behaviour_regularisation: float = Field(0.0, ge=0.0)
    """Weight of behaviour regularisation: of the squared distance between the policy's mode and the replayed action
    (see ``behaviour_towards``), per action dimension (a mean over rows and dimensions), beside Q / mean |Q|. The form
    and the unit are TD3+BC's (arXiv 2106.06860, eq. 5), whose lambda of 2.5 is 0.4 here. A weight of ten and more, as
    in our presets, is strong imitation of what was executed. It keeps the actor where the critics have seen actions:
    without it a cloned policy collapsed at its first updates. 0: none, as in RLPD."""
    behaviour_regularisation_end: float = Field(0.0, ge=0.0)
    """The weight falls linearly to this end, as the critics come to know what the policy does."""
    behaviour_decay_steps: int = Field(6000, ge=1)
    """Updates of the actor over which it falls."""
    behaviour_towards: Literal["replayed", "reference"] = "replayed"
    """What behaviour regularisation keeps the mode near: the ``replayed`` action, or the ``reference``, what a
    residual's base does in the same step (RL Token, eq. 5, which has no Q / mean |Q|). In the rows of demonstrations
    and corrections (``demo_share``) the action shown stands in the reference's place, as a person's does there."""
    reference_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of the rows of the actor's loss in which a residual is shown zeros for its base's action (RL Token: 0.5),
    so that it learns to act on what is observed, too. What is executed, valued and regularised in these rows is still
    the base's action and the edit of it; in targets, and when acting, the base's action is always shown."""

    @model_validator(mode="after")
    def _combination(self) -> "Config":
        if round(self.batch * self.demo_share) == self.batch:
            raise ConfigError(
                f"rl.batch = {self.batch} with rl.demo_share = {self.demo_share}: no row would be left for what the "
                "robot does; lower the share"
            )
        if self.target_subset > self.critics:
            raise ConfigError(f"rl.target_subset = {self.target_subset}: must be at most rl.critics = {self.critics}")
        if self.entropy_in_target and self.target_range is not None:
            raise ConfigError(
                "rl.target_range must be null with rl.entropy_in_target: the entropy takes values out of that range"
            )
        if self.learn_temperature and self.temperature <= 0.0:
            raise ConfigError(f"rl.temperature = {self.temperature}: must be > 0 where it is learned (its log is)")
        if self.behaviour_regularisation_end > self.behaviour_regularisation:
            raise ConfigError(
                f"rl.behaviour_regularisation_end = {self.behaviour_regularisation_end}: must be at most "
                f"rl.behaviour_regularisation = {self.behaviour_regularisation}"
            )
        if self.target_range is not None and self.target_range[0] >= self.target_range[1]:
            raise ConfigError(f"rl.target_range = {self.target_range}: must be [low, high] with low < high")
        return self

    def needs(self) -> tuple[tuple[str, str], ...]:
        """See `MethodConfig.needs`."""
        asked = self.behaviour_towards == "reference" or self.reference_dropout > 0.0
        return (*self.requires, ("policy", "reference")) if asked else self.requires

    def return_steps(self) -> int:
        """See `OffPolicyConfig.return_steps`."""
        return self.n_steps

    def value_bounds(self) -> tuple[float, float] | None:
        """See `RlConfig.value_bounds`."""
        return self.target_range

    def build(
        self, policy: Policy, actor: FlatParameters, generator: torch.Generator, reward: RewardModel | None = None
    ) -> "Rlpd":
        """See `RlConfig.build`."""
        assert isinstance(policy, SquashedGaussian)  # required, see `requires`
        return Rlpd(self, policy, actor, generator)


class Rlpd(OffPolicyRl):
    """Critics, target and temperature; the actor's step is left to the combination.

    Args:
        generator: all noise and subsets are drawn from it.
    """

    def __init__(
        self, config: Config, policy: SquashedGaussian, flat: FlatParameters, generator: torch.Generator
    ) -> None:
        self.config, self._policy, self._actor, self._generator = config, policy, flat, generator
        d, a = policy.input_size, policy.action_size
        image_encoder = policy.new_image_encoder(generator)
        critics = CriticEnsemble(config.critics, d, a, config.hidden, generator, image_encoder)
        self.critics = critics.to(flat.value.device)
        self._critic = FlatParameters(self.critics.parameters())
        self._target = self._critic.value.clone()
        shapes = list(self.critics.parameters())
        self._target_weights = views_like(self._target, shapes)
        self._frozen_weights = views_like(self._critic.value, shapes)
        self._sees_state_alone = not policy.pixels.shapes
        self._gaussian = gaussian_of(policy, flat)
        self._regression: RegressionKernel | None = None
        self._kernels: ActorKernels | None = None
        self._actor_weights = views_like(flat.value, flat.parameters)
        self.direct: dict[str, Callable[..., Any]] = {"regression": regression}
        if self._gaussian is not None:
            smallest, entropy = self._value_kind()
            self.direct |= {
                "targets": partial(targets, self._gaussian),
                "value": partial(Value(smallest, entropy, behaviour=False).gradient, self._gaussian),
                "near": partial(Value(smallest, entropy, behaviour=True).gradient, self._gaussian),
            }
        self._adam = Adam(self._critic.value.numel(), config.critic_lr)
        self._log_temperature = torch.tensor([math.log(max(config.temperature, 1e-12))])
        self._temperature_adam = Adam(1, config.temperature_lr)
        self._actor_steps = 0
        self._target_entropy = -a / 2 if config.target_entropy is None else config.target_entropy

    def _value_kind(self) -> tuple[bool, bool]:
        """Whether the actor sees the smallest value, and an entropy."""
        c = self.config
        return c.actor_q == "min", c.learn_temperature or c.temperature > 0.0

    def take_kernels(self, found: ctypes.CDLL) -> None:
        """See `inril_core.networks.compute.give_kernels`."""
        if self._sees_state_alone:
            sizes = (self._policy.input_size + self._policy.action_size, *self.config.hidden, 1)
            self._regression = RegressionKernel(found, self.config.critics, sizes)
            if self._gaussian is not None:
                self._kernels = ActorKernels(found, self._gaussian, self._regression, *self._value_kind())

    @property
    def temperature(self) -> float:
        """Weight of the entropy in the actor's loss."""
        return math.exp(float(self._log_temperature)) if self.config.learn_temperature else self.config.temperature

    @property
    def behaviour_regularisation(self) -> float:
        """Weight of behaviour regularisation in the actor's next loss, see `Config.behaviour_regularisation`."""
        c = self.config
        done = min(self._actor_steps / c.behaviour_decay_steps, 1.0)
        return c.behaviour_regularisation + done * (c.behaviour_regularisation_end - c.behaviour_regularisation)

    def targets(self, batch: Batch) -> Tensor:
        """y = r + discount * min over a random subset of target critics at a' ~ pi, ``[B]`` (RLPD algorithm 1).

        With ``entropy_in_target``, - discount * temperature * log pi(a'|s') is added.
        """
        c = self.config
        noise = distributed.normal_like(batch.actions, self._generator)
        drawn = None
        if c.target_subset < c.critics:
            # drawn before they are asked: the others' answers would not be used
            drawn = torch.randperm(c.critics, generator=self._generator)[: c.target_subset]
        if self._kernels is not None and in_use():
            entropy = self.temperature if c.entropy_in_target else 0.0
            weights = (self._actor.value, self._target)
            return self._kernels.targets(*weights, drawn, batch, noise, entropy, c.target_range)
        with torch.no_grad():
            value, log_prob = self._target_value(batch.next_observations, noise, drawn)
            if c.entropy_in_target:
                value = value - self.temperature * log_prob
            y = batch.rewards + batch.discounts * value
            return y if c.target_range is None else y.clamp(*c.target_range)

    def _target_value(self, following: Tensor, noise: Tensor, drawn: Tensor | None) -> tuple[Tensor, Tensor]:
        weights = self._target_weights
        if self._gaussian is not None and in_use():
            drawn = None if drawn is None else drawn.to(following.device)
            value, log_prob = self.direct["targets"](self._actor_weights, weights, drawn, following, noise)
            return value, log_prob
        actions, log_prob = self._policy.sample(following, noise)
        q: Tensor = self.critics(
            following, actions, weights if drawn is None else self.critics.of_members(weights, drawn)
        )
        return q.amin(0), log_prob

    def critic_step(self, batch: Batch) -> Metrics:
        """One step of all critics on the mean squared error, then of the target network."""
        y = self.targets(batch)
        gradient, loss, q_mean = self._critic_gradient(batch.observations, batch.actions, y)
        self._adam.step_(self._critic.value, gradient, self._target, self.config.tau)
        return {"critic_loss": loss, "q_mean": q_mean}

    def _critic_gradient(
        self, observations: Tensor, actions: Tensor, y: Tensor
    ) -> tuple[Tensor, float | Tensor, float | Tensor]:
        """Of the squared error to ``y [B]``; its mean, and the mean value."""
        if self._regression is not None and in_use():
            return self._regression(self._critic.value, observations, actions, y)
        if self._sees_state_alone and in_use():
            with torch.no_grad():
                found = self.direct["regression"](self._frozen_weights, observations, actions, y)
            return distributed.average_(found[0]), found[1], found[2]
        q = self.critics(observations, actions)
        error = (q - y).square().mean()
        return self._critic.gradient(error * self.config.critics), error.detach(), q.mean().detach()

    def actor_gradient(self, batch: Batch) -> Gradient:
        """Gradient ``[P]`` of L_RL = -E[Q(s, a) - temperature * log pi(a|s)], a ~ pi reparametrised.

        With ``behaviour_regularisation`` b > 0 it is that of L_RL / mean |Q| + b E|tanh(mean(s)) - a_b|^2 / A, where
        a_b is the action that ``behaviour_towards`` says, and of a residual the executed mode stands for tanh(mean(s)).
        With ``reference_dropout`` the mean is taken of inputs that show no reference, in a random part of the rows.
        The buffer is reused by the next gradient of the same policy.
        """
        noise = distributed.normal_like(batch.actions, self._generator)
        if self._gaussian is not None and in_use():
            return self._written_out(batch, noise)
        mean, log_std = self._policy(self._seen(batch.observations))
        squashed, log_prob = self._policy.squash(mean, log_std, noise)
        actions = self._policy.executed(batch.observations, squashed)
        q = self.critics(batch.observations, actions, self._frozen_weights)
        value = q.mean(0) if self.config.actor_q == "mean" else q.amin(0)
        # without a temperature its graph is a sixth of the small operations, for nothing
        loss = (self.temperature * log_prob - value).mean() if self.temperature > 0.0 else -value.mean()
        weight = self.behaviour_regularisation
        if weight > 0.0:
            mode = self._policy.executed(batch.observations, torch.tanh(mean))
            distance = (mode - self._behaviour(batch)).square().sum(-1).mean()
            loss = loss / distributed.mean(value.abs()).clamp_min(1e-3) + weight / mode.shape[-1] * distance
        entropy = -log_prob.detach().mean()
        metrics = {"rl_loss": loss.detach(), "q_policy": value.detach().mean(), "entropy": entropy}
        return Gradient(self._actor.gradient(loss), metrics)

    def _seen(self, inputs: Tensor) -> Tensor:
        """What the actor is shown of ``inputs [B, input_size]`` while it is trained, see `Config.reference_dropout`."""
        share = self.config.reference_dropout
        if share == 0.0:
            return inputs
        return self._policy.hide_reference(inputs, distributed.chosen_like(inputs, share, self._generator))

    def _behaviour(self, batch: Batch) -> Tensor:
        """The actions ``[B, A]`` that behaviour regularisation keeps the mode near, see `Config.behaviour_towards`."""
        executed = batch.actions.clamp(-1.0, 1.0)
        if self.config.behaviour_towards == "replayed":
            return executed
        robot = len(batch) - batch.demos
        return torch.cat((self._policy.reference(batch.observations[:robot]), executed[robot:]))

    def _written_out(self, batch: Batch, noise: Tensor) -> Gradient:
        weight = self.behaviour_regularisation / batch.actions.shape[-1]
        rows = (batch.observations, batch.actions, noise)
        names = ("rl_loss", "q_policy", "entropy")
        if self._kernels is not None:
            vector, *metrics = self._kernels.gradient(
                self._actor.value, self._critic.value, *rows, self.temperature, weight
            )
        else:
            factors = torch.tensor([self.temperature, weight], device=noise.device)
            value = self.direct["near" if weight > 0.0 else "value"]
            with torch.no_grad():
                vector, *metrics = value(self._actor_weights, self._frozen_weights, *rows, factors)
        return Gradient(distributed.average_(vector), dict(zip(names, metrics, strict=True)))

    def actor_stepped(self, metrics: Metrics) -> None:
        """After the actor's step of an update, however many gradients that took.

        A learned temperature takes one towards the target entropy (SAC eq. 18, on its logarithm).
        """
        self._actor_steps += 1
        if self.config.learn_temperature:
            entropy = distributed.mean_number(float(metrics["entropy"]))
            gradient = torch.tensor([self.temperature * (entropy - self._target_entropy)])
            step = self._temperature_adam.direction(gradient)
            self._log_temperature.sub_(step, alpha=self._temperature_adam.lr)

    def state(self) -> dict[str, Tensor]:
        """Everything `load` needs, as tensors."""
        adams = {"adam": self._adam, "temperature_adam": self._temperature_adam}
        nested = {f"{name}.{key}": t for name, adam in adams.items() for key, t in adam.state().items()}
        own = {"critic": self._critic.value, "target": self._target, "log_temperature": self._log_temperature}
        own["actor_steps"] = torch.tensor([float(self._actor_steps)])
        return {**own, **nested}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        self._critic.value.copy_(state["critic"])
        self._target.copy_(state["target"])
        self._log_temperature.copy_(state["log_temperature"])
        self._actor_steps = int(state["actor_steps"])
        for name, adam in (("adam", self._adam), ("temperature_adam", self._temperature_adam)):
            adam.load({key: state[f"{name}.{key}"] for key in ("first", "second", "steps")})
