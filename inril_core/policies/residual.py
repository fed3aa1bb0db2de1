"""A learned policy composed with another one: base and learned part trained apart.

Residual Gaussian MLP with a zero-initialised output layer over any base (ResiP, arXiv 2407.16677), executed as
clip(a_base + scale * tanh(raw)). The tanh is our choice: it bounds the correction. The base gets imitation gradients
only, the residual RL gradients only (IN-RIL's network separation, arXiv 2505.10442): the base's action is detached.

The residual sees the base's action of the step, at whatever time the base planned it, and edits every step
(ResFiT, arXiv 2509.19301; RL Token, arXiv 2604.23073, edits whole chunks).

With ``learned`` the small zero network gives way to a policy of its own that looks at observation and base action and
is cloned too, after the base (CSIL++, arXiv 2606.02194, re-implemented from its description). Its target is our choice:
the own action with which the composition would have executed what was demonstrated. So the action of the learned part,
given the base's as part of the state, is the one that densities, critics and rewards speak of, for demonstrations and
robot alike.
"""

import math
from collections import deque
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, SerializeAsAny, field_validator, model_validator
from torch import Tensor, nn

from inril_core.data.episode import SOURCE_HUMAN, Episode
from inril_core.errors import ConfigError
from inril_core.policies.base import (
    Array,
    Decision,
    ImitationSettings,
    Memory,
    PolicyConfig,
)
from inril_core.policies.exploration import exploration_rng
from inril_core.policies.manifest import policy_config
from inril_core.policies.squashed import SquashedGaussian

_INPUT_LIMIT = 3.0  # ResiP clamps the residual's inputs


class Config(PolicyConfig):
    """Settings of a residual."""

    kind: Literal["residual"] = "residual"
    distributed = True
    provides = frozenset({"density", "separated", "reference"})
    base: SerializeAsAny[PolicyConfig]
    """The policy that is corrected, by its own settings."""
    mode: Literal["residual", "average"] = "residual"
    """``residual``: base + scale * correction. ``average``: the mean of the base's and the learned action (CSIL++'s
    ensemble); needs ``learned``, or half of the base's action is all there is at first."""
    learned: SerializeAsAny[PolicyConfig] | None = None
    """The learned part as a policy of its own, by its settings; None: a small network that starts at zero, with the
    settings below."""
    scale: float = Field(0.2, gt=0.0, le=2.0)
    """Largest correction per action component, contract units (ResiP: 0.1); of ``residual`` only."""
    freeze_base: bool = False
    """No imitation of the base after pre-training; of ``learned``, then, if there is one."""
    base_delay_steps: int = Field(0, ge=0)
    """Simulated latency of a base in this process, control steps: each plan but an episode's first rests on the
    observation so many steps before its first action is executed, and its actions for the steps between are skipped.
    So does a client that asks a server so many steps before it has nothing left to do. The residual sees the newest
    observation all the same. A server's own latency is real: 0 there."""
    hidden: tuple[int, ...] = Field((128, 128), min_length=1)
    log_std: Literal["state", "fixed"] = "fixed"
    log_std_init: float = -1.0
    """Of the correction before squashing and scaling (ResiP: -1, fixed)."""
    log_std_min: float = Field(-4.0, ge=-20.0)
    log_std_max: float = Field(0.0, le=2.0)
    explore_base: bool = False
    """The base samples too when exploring; otherwise it acts deterministically."""

    @property
    def imitates(self) -> bool:
        """See `PolicyConfig.imitates`."""
        return self.base.imitates or self.learned is not None

    @model_validator(mode="after")
    def _trainable(self) -> "Config":
        if not self.base.imitates and not self.freeze_base:
            raise ConfigError(
                f"policy.base.kind = {self.base.kind!r} has nothing to train: set policy.freeze_base: true"
            )
        return self

    @model_validator(mode="after")
    def _late(self) -> "Config":
        if 0 < self.base_delay_steps >= self.base.plan_steps():
            raise ConfigError(
                f"policy.base_delay_steps = {self.base_delay_steps}: a plan of the base covers "
                f"{self.base.plan_steps()} steps, which would be over when it comes; set it lower, or give the base "
                "longer plans (policy.base.chunk)"
            )
        return self

    @model_validator(mode="after")
    def _one_way_to_see(self) -> "Config":
        by, of_base = self.encoder.trained_by, self.base.encoder.trained_by
        if by != of_base and self.base.imitates:
            raise ConfigError(
                f"policy.encoder.trained_by = {by!r} with policy.base.encoder.trained_by = {of_base!r}: correction and "
                "base share their inputs; set both to the same"
            )
        return self

    @field_validator("base", "learned", mode="before")
    @classmethod
    def _part(cls, value: Any) -> Any:
        return policy_config(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _composed(self) -> "Config":
        if self.learned is not None and "cloned" not in self.learned.offers():
            raise ConfigError(f"policy.learned.kind = {self.learned.kind!r}: must be a squashed Gaussian of its own")
        if self.mode == "average" and self.learned is None:
            raise ConfigError(
                "policy.mode = 'average' needs policy.learned: the zero network would halve the base's action at the "
                "start; set policy.learned: {kind: hetstat}, or mode: residual"
            )
        return self

    def trained_base(self) -> PolicyConfig | None:
        """See `PolicyConfig.trained_base`."""
        return None if self.freeze_base else self.base

    def offers(self) -> frozenset[str]:
        """See `PolicyConfig.offers`."""
        if self.learned is not None and self.freeze_base:  # imitation and RL both train the learned part
            return self.provides - {"separated"} | {"cloned"}
        return self.provides

    def build(self, observation_size: int, action_size: int) -> "ResidualPolicy":
        """See `PolicyConfig.build`."""
        return ResidualPolicy(observation_size, action_size, self)


class ResidualPolicy(SquashedGaussian):
    """Base and residual. `forward` gives the residual's Gaussian; inputs are ``[normalised observation, base action]``.

    The base's action enters the inputs as it was when the robot acted: it is recorded (`Decision.aux`), because a base
    that samples, or that has moved since, would answer otherwise. Where it was not recorded (demonstrations), the base
    is asked again, without exploration.
    """

    kind = "residual"
    config: Config

    def __init__(self, observation_size: int, action_size: int, config: Config) -> None:
        super().__init__(observation_size, action_size, config)
        if isinstance(config.base, Config):
            raise ConfigError("policy.base.kind = 'residual': a residual over a residual; choose another base")
        self.base = config.base.build(observation_size, action_size)
        if config.base_delay_steps and self.base.remote:
            raise ConfigError(
                f"policy.base_delay_steps = {config.base_delay_steps} with policy.base.kind = {config.base.kind!r}, "
                "whose latency is real; set it to 0"
            )
        self.aux_size = action_size
        self._cloning = "base"
        self.learned: SquashedGaussian | None = None
        if config.learned is not None:
            seeing = config.learned if self.key_pose_encoder is None else config.learned.seeing(())
            learned = seeing.build(self.input_size, action_size)
            assert isinstance(learned, SquashedGaussian)
            learned.place_pixels(self.pixels)  # the base's action follows them here
            self.learned = learned
            return
        self.image_encoder = self.new_image_encoder()
        sizes = (self.image_encoder.width(self.input_size), *config.hidden)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.head = nn.Linear(sizes[-1], action_size * (2 if config.log_std == "state" else 1))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def input_size(self) -> int:
        """`row_size` + A."""
        return self.row_size + self.action_size

    def fit_normaliser(self, observations: Array, std_floor: float = 0.01) -> None:
        """See `Policy.fit_normaliser`; the base's too."""
        super().fit_normaliser(observations, std_floor)
        self.base.fit_normaliser(observations, std_floor)

    @property
    def cloning_stages(self) -> tuple[str, ...]:
        """See `Policy.cloning_stages`: the learned part sees what the cloned base does."""
        base = ("base",) if self.config.base.imitates else ()
        return base if self.learned is None else (*base, "learned")

    def begin_cloning(self, stage: str) -> None:
        """See `Policy.begin_cloning`."""
        self._cloning = stage

    def prepare_finetuning(self) -> None:
        """See `Policy.prepare_finetuning`."""
        self.base.prepare_finetuning()
        self._cloning = "learned" if self.learned is not None and self.config.freeze_base else "base"
        if self.config.freeze_base:
            for parameter in self.base.parameters():
                parameter.requires_grad_(False)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-std ``[..., A]`` of the correction before squashing and scaling."""
        if self.learned is not None:
            answer: tuple[Tensor, Tensor] = self.learned(inputs.detach())
            return answer
        c = self.config
        hidden = self.image_encoder(inputs.detach()).clamp(-_INPUT_LIMIT, _INPUT_LIMIT)
        for layer in self.layers:
            hidden = torch.relu(layer(hidden))
        out = self.head(hidden)
        mean = out[..., : self.action_size]
        if c.log_std == "fixed":
            return mean, torch.full_like(mean, c.log_std_init)
        return mean, (c.log_std_init + out[..., self.action_size :]).clamp(c.log_std_min, c.log_std_max)

    def executed(self, inputs: Tensor, squashed: Tensor) -> Tensor:
        """See `SquashedGaussian.executed`: the composition, clipped to [-1, 1]."""
        base = self.reference(inputs)
        if self.config.mode == "average":
            return 0.5 * (base + squashed)
        return (base + self.config.scale * squashed).clamp(-1.0, 1.0)

    def own(self, inputs: Tensor, executed: Tensor) -> Tensor:
        """See `SquashedGaussian.own`; where the clip of a residual cut, the least correction that reaches it."""
        base = self.reference(inputs)
        if self.config.mode == "average":
            return (2.0 * executed - base).clamp(-1.0, 1.0)
        return ((executed - base) / self.config.scale).clamp(-1.0, 1.0)

    def reference(self, inputs: Tensor) -> Tensor:
        """See `SquashedGaussian.reference`."""
        return inputs[..., self.row_size :]

    def hide_reference(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """See `SquashedGaussian.hide_reference`."""
        shown = self.reference(inputs).masked_fill(hidden[:, None], 0.0)
        return torch.cat((inputs[:, : self.row_size], shown), 1)

    @property
    def learned_part(self) -> SquashedGaussian:
        """See `SquashedGaussian.learned_part`."""
        return self if self.learned is None else self.learned

    @property
    def std_floor(self) -> float:
        """See `SquashedGaussian.std_floor`; of the correction, before scaling."""
        if self.learned is not None:
            return self.learned.std_floor
        c = self.config
        return math.exp(c.log_std_init if c.log_std == "fixed" else c.log_std_min)

    def inputs(self, episode: Episode) -> Tensor:
        """See `Policy.inputs`."""
        base = torch.zeros((episode.steps + 1, self.action_size))
        recorded = np.zeros(episode.steps + 1, bool)
        if episode.aux is not None and episode.aux.shape[1] == self.action_size:
            recorded[:-1] = np.isfinite(episode.aux).all(1)
            base[torch.from_numpy(recorded)] = torch.from_numpy(episode.aux[recorded[:-1]])
        idle = np.zeros(episode.steps + 1, bool)
        if self.base.remote:  # where nobody acted its last answer stands in, so that its process is not needed
            idle[:-1], idle[-1] = episode.source > SOURCE_HUMAN, True
        observations, asked = self.observed(episode), np.flatnonzero(~recorded & ~idle)
        if len(asked):
            base[torch.from_numpy(asked)] = torch.from_numpy(self._would_do(observations, asked, episode.seed))
        for t in map(int, np.flatnonzero(~recorded & idle)):
            base[t] = base[max(t - 1, 0)]
        rows = self.normalise(torch.tensor(observations))
        return torch.cat((rows, base.to(rows.device)), 1)

    def _would_do(self, observations: Array, steps: np.ndarray, seed: int) -> Array:
        """What the base would do ``[N, A]`` at ``steps [N]`` of ``observations [T + 1, D]``, by a new plan for each."""
        delay = self.config.base_delay_steps
        if not delay:
            return self.base.answers(observations[steps], steps, seed)
        made = []
        for t in map(int, steps):
            memory = Memory(seen=deque(observations[max(t - delay, 0) : t]))
            made.append(self._base_action(observations[t], False, exploration_rng(seed, t), memory))
        return np.array(made, np.float32)

    def _base_action(self, observation: Array, explore: bool, rng: np.random.Generator, memory: Memory | None) -> Array:
        """The base's action ``[A]`` of this step."""
        if not self.config.base_delay_steps:
            return self.base.act(observation, explore, rng, memory).action
        memory = Memory() if memory is None else memory
        memory.seen.append(observation.copy())
        while len(memory.seen) > self.config.base_delay_steps + 1:
            memory.seen.popleft()
        over = 0 if memory.queue else len(memory.seen) - 1
        for _ in range(over):  # a new plan begins with the steps that went by while it was made
            self.base.act(memory.seen[0], explore, rng, memory)
        return self.base.act(memory.seen[0], explore, rng, memory).action

    def refresh(self, inputs: Tensor) -> Tensor:
        """See `Policy.refresh`: a base that is being trained no longer answers what was recorded."""
        if self.config.freeze_base or not isinstance(self.base, SquashedGaussian):
            return inputs
        rows = inputs[..., : self.row_size]
        with torch.no_grad():
            return torch.cat((rows, torch.tanh(self.base(rows)[0])), -1)

    def imitation_loss(
        self, inputs: Tensor, actions: Tensor, settings: ImitationSettings, generator: torch.Generator
    ) -> Tensor:
        """See `Policy.imitation_loss`: of one part, the other is not reached; which one, `begin_cloning` says."""
        if self._cloning == "learned" and self.learned is not None:
            return self.learned.imitation_loss(inputs, self.own(inputs, actions), settings, generator)
        return self.base.imitation_loss(inputs[..., : self.row_size], actions, settings, generator)

    @property
    def imitation_chunk(self) -> int:
        """Actions per cloned decision: the base's, or 1 where the learned part is cloned or the base does not learn."""
        return self.base.chunk if self._cloning == "base" and self.config.base.imitates else 1

    @property
    def plan_steps(self) -> int:
        """See `Policy.plan_steps`: the base plans, whatever is cloned."""
        return self.base.plan_steps

    def trial(self, observations: Array) -> Array:
        """See `Policy.trial`; a remote base is not asked, only the corrections are compared."""
        if not self.base.remote:
            return self.answers(observations, np.arange(len(observations)), 0)
        base = torch.from_numpy(self.base.trial(observations))
        rows = torch.cat((self.normalise(torch.tensor(observations)), base), 1)
        with torch.no_grad():
            return self.executed(rows, torch.tanh(self(rows)[0])).numpy()

    @torch.no_grad()
    def act(
        self, observation: Array, explore: bool, rng: np.random.Generator, memory: Memory | None = None
    ) -> Decision:
        """See `Policy.act`; the base plans in ``memory``, the residual corrects every step."""
        row = self.normalise(self.checked(observation))
        # the base's plan needs noise also when the residual acts deterministically (a diffusion base samples)
        base = self._base_action(observation, explore and self.config.explore_base, rng, memory)
        return self.decide(torch.cat((row, torch.from_numpy(base).to(row.device))), explore, rng, base)
