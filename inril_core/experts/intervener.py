"""Simulated people who take over: at random, or where a reference critic says that the policy's action is worse.

The models of RLIF (arXiv 2311.12996), section 5: who judges (the reference) may be better than who acts (the expert).
"""

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from inril_core.errors import ConfigError
from inril_core.experts.base import Expert
from inril_core.experts.quality import ExpertConfig
from inril_core.settings import Settings

Array = npt.NDArray[np.float32]
_TAG = 11


class CriticConfig(Settings):
    """How the critic of a reference is had, see `inril_core.experts.reference_critic`."""

    file: str | None = None
    """What `load_reference_critic` reads; None: it is fitted before the run, with the rest of these settings."""
    episodes: int = Field(40, ge=2)
    """Of the reference, in which its actions get noise rising from 0 to ``noise``, so that worse actions are known."""
    noise: float = Field(0.6, ge=0.0, le=2.0)
    updates: int = Field(3000, ge=1)
    batch: int = Field(256, ge=1)
    lr: float = Field(1e-3, gt=0.0)
    gamma: float = Field(0.97, gt=0.0, lt=1.0)
    tau: float = Field(0.01, gt=0.0, le=1.0)
    members: int = Field(2, ge=1)
    """Of the ensemble; their mean judges."""
    hidden: tuple[int, ...] = (128, 128)


class InterventionConfig(Settings):
    """Who helps during training episodes in one process, and when; on a robot a person does."""

    kind: Literal["random", "value", "none"]
    """``random``: at each free step a takeover begins with ``probability``; ``value``: with ``beta`` where the critic
    finds the policy's action worse than the reference's, with 1 - beta elsewhere; ``none``: nobody takes over, the
    expert is only asked (DAgger)."""
    duration: int = Field(4, ge=1)
    """Steps of a takeover. The authors' random script comes to 1, an independent coin per step."""
    free_steps: int = Field(1, ge=0)
    """Policy steps after a takeover before the next may begin; >= 1 for ``value``, as in the paper. A coin at every
    step needs 0 here, too."""
    probability: float = Field(0.3, ge=0.0, le=1.0)
    """See ``kind``."""
    beta: float = Field(0.95, ge=0.5, le=1.0)
    """See ``kind``."""
    form: Literal["relative", "additive"] = "relative"
    """``relative``: Q(s, a) < alpha Q(s, a_ref), of values >= 0 alone: below zero it turns round; ``additive``:
    Q(s, a) < Q(s, a_ref) - delta."""
    alpha: float = Field(0.97, gt=0.0, le=1.0)
    """See ``form``."""
    delta: float = Field(0.05, ge=0.0)
    """See ``form``."""
    critic: CriticConfig = CriticConfig()
    """Of the reference, which is the task's expert at its best."""
    expert: ExpertConfig = ExpertConfig()
    """Who acts."""

    @model_validator(mode="after")
    def _hands_back(self) -> "InterventionConfig":
        if self.kind == "value" and self.free_steps < 1:
            raise ConfigError(
                "interventions.free_steps = 0 with interventions.kind = 'value': the policy gets at least one step "
                "after a takeover; set it to 1 or more"
            )
        return self


class Critic(Protocol):
    """Values actions, see `inril_core.experts.reference_critic.ReferenceCritic`."""

    @property
    def low(self) -> float:
        """The least value it gives."""

    def value(self, observation: Array, action: Array) -> float:
        """Of an action ``[A]`` at an observation ``[D]``."""


class Judge(Protocol):
    """Says when to take over."""

    def reset(self, seed: int) -> None:
        """Begin an episode."""

    def takes_over(self, observation: Array, action: Array, rng: np.random.Generator) -> bool:
        """Whether to take over here, given the action ``[A]`` that the policy is about to take."""


class RandomJudge:
    """A coin at every free step."""

    def __init__(self, probability: float) -> None:
        self._probability = probability

    def reset(self, seed: int) -> None:
        """See `Judge.reset`."""

    def takes_over(self, observation: Array, action: Array, rng: np.random.Generator) -> bool:
        """See `Judge.takes_over`."""
        return bool(rng.random() < self._probability)


class ValueJudge:
    """A coin that depends on whether the policy's action is worse than the reference's.

    Raises:
        ConfigError: the relative form, and the critic's values can be negative.
    """

    def __init__(self, config: InterventionConfig, critic: Critic, reference: Expert) -> None:
        if config.form == "relative" and critic.low < 0.0:
            raise ConfigError(
                f"interventions.form = 'relative': the reference critic's values go down to {critic.low:.3g}, and "
                "below zero a share of a value is larger than it; set interventions.form to 'additive' and give a delta"
            )
        self._config, self._critic, self._reference = config, critic, reference

    def reset(self, seed: int) -> None:
        """See `Judge.reset`."""
        self._reference.reset(seed)

    def worse(self, observation: Array, action: Array) -> bool:
        """Whether the action falls short of the reference's by more than the threshold."""
        c = self._config
        best = self._critic.value(observation, self._reference.act(observation))
        return self._critic.value(observation, action) < (c.alpha * best if c.form == "relative" else best - c.delta)

    def takes_over(self, observation: Array, action: Array, rng: np.random.Generator) -> bool:
        """See `Judge.takes_over`."""
        beta = self._config.beta
        return bool(rng.random() < (beta if self.worse(observation, action) else 1.0 - beta))


class Intervener:
    """Takes over for ``duration`` steps when ``judge`` says so, then hands back for at least ``free_steps``."""

    def __init__(self, judge: Judge, expert: Expert, duration: int, free_steps: int = 1) -> None:
        self._judge, self._expert = judge, expert
        self._duration, self._free_steps = duration, free_steps
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin an episode, whose first step may be taken over; everything random is decided by ``seed``."""
        self._judge.reset(seed)
        self._expert.reset(seed)
        self._rng = np.random.default_rng([seed, _TAG])
        self._left = self._rest = 0

    @property
    def in_control(self) -> bool:
        """Whether the takeover goes on: the policy need not be asked."""
        return self._left > 0

    def act(self, observation: Array, proposed: Array | None) -> Array | None:
        """The expert's action ``[A]``, or None: the policy's is executed.

        Args:
            observation: ``[D]``.
            proposed: what the policy is about to do, ``[A]``; not looked at while ``in_control``.
        """
        if self._left == 0:
            if self._rest > 0:
                self._rest -= 1
                return None
            if proposed is None or not self._judge.takes_over(observation, proposed, self._rng):
                return None
            self._left = self._duration
        self._left -= 1
        if self._left == 0:
            self._rest = self._free_steps
        return self._expert.act(observation)
