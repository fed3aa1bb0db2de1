"""When updates are due and what one is: the part that off-policy and on-policy learning share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from inril_core.data.episode import Episode
from inril_core.finetune.contracts import Gradient, Metrics, StepResult
from inril_core.finetune.memory.buffers import Cut
from inril_core.finetune.memory.rollout import RolloutSegment
from inril_core.finetune.parts import Parts


@dataclass
class Counts:
    """What a run has done so far."""

    updates: int = 0
    actor_updates: int = 0
    """Of them those in which the actor was trained: on-policy the minibatches before the KL stop."""
    insertions: int = 0
    """Updates after which imitation was inserted."""
    il_steps: int = 0
    """Steps of the actor on the imitation gradient alone."""
    ingested_steps: int = 0
    rejected_steps: int = 0
    """Steps of training episodes that on-policy learning could not use: of another version, a person, a hold."""


@dataclass
class Taken:
    """What an episode gives the learner; nothing is stored yet."""

    cut: Cut
    segments: list[RolloutSegment] = field(default_factory=list)
    rejected: int = 0


class Loop(ABC):
    """The updates of a learner."""

    def __init__(self, parts: Parts, counts: Counts) -> None:
        self._parts, self.counts = parts, counts
        self._base_lrs = {name: adam.lr for name, adam in parts.combine.adams.items()}

    @property
    @abstractmethod
    def updates_due(self) -> int:
        """Updates that the ingested steps call for."""

    @property
    @abstractmethod
    def informative_steps(self) -> int:
        """Steps that tell good from bad among what the critics learn, or have learned (on-policy), from."""

    @property
    def may_publish(self) -> bool:
        """Whether the policy may be given to the robot now."""
        return True

    @abstractmethod
    def prepare(self, episode: Episode, version: int) -> Taken:
        """What a training episode gives, without changing anything; ``version`` acts, by its number.

        Raises:
            ValueError: a number is not finite in float32.
            ConfigError: a method misses something in it.
        """

    def take(self, taken: Taken, owner: int) -> None:
        """Take in what was prepared of the episode with the number ``owner``."""
        self._parts.buffers.store(taken.cut, owner)

    def revise(self, taken: Taken, owner: int) -> None:
        """Take in what was prepared of an episode that was taken in before, in the place of what it gave then."""
        self._parts.buffers.replace(taken.cut, owner)

    def begin(self) -> None:  # noqa: B027 - most have nothing to do
        """Called before each update; the first of a run may need preparation."""

    @abstractmethod
    def step(self) -> Metrics:
        """One update, before it is counted.

        Raises:
            ValueError: nothing was ingested yet, or a gradient is not finite.
        """

    def version_changed(self) -> None:  # noqa: B027 - off-policy learning takes steps of all versions
        """Another version acts from here on; steps of an unfinished rollout are of the one before."""

    def facts(self) -> dict[str, Any]:
        """JSON values that `load` needs."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """Tensors that `load` needs."""
        return {}

    def load(self, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:  # noqa: B027 - most have none
        """Continue from what `facts` and `tensors` returned."""

    @property
    def waits_for_reward(self) -> bool:
        """Whether the actor is not trained because the critics have seen too little to tell good from bad."""
        parts = self._parts
        waits = parts.combine.uses_rl and parts.reward is None and not self.counts.actor_updates
        return waits and self.informative_steps < parts.config.schedule.rewards_before_actor

    @abstractmethod
    def _done(self) -> float:
        """Share of the run that is over, from the first update of the actor on; may exceed 1."""

    def _actor_step(self, batch: Any) -> Metrics:
        parts = self._parts
        self._set_rates()
        result = parts.combine.step(*self._gradients(batch))
        if result.rl_metrics is not None:
            parts.rl.actor_stepped(result.rl_metrics)
        self.counts.actor_updates += 1
        return self._counted(result)

    def _end_update(self, batch: Any) -> Metrics:
        self._set_rates()  # a learner that resumed behind the KL stop takes no actor step before
        return self._counted(self._parts.combine.end_update(*self._gradients(batch)))

    def _set_rates(self) -> None:
        for name, lr in self._base_lrs.items():
            self._parts.combine.adams[name].lr = lr * self._lr_share()

    def _counted(self, result: StepResult) -> Metrics:
        self.counts.il_steps += result.il_steps
        self.counts.insertions += result.il_steps > 0
        return result.metrics

    def _gradients(self, batch: Any) -> tuple[Any, Any]:
        parts = self._parts

        def rl() -> Gradient:
            return parts.rl.actor_gradient(batch)

        def il() -> Gradient:
            return parts.il.gradient(parts.buffers.clones)

        return rl, il

    def _lr_share(self) -> float:
        """Share of the actor's learning rates at the present update, see `ScheduleConfig.actor_lr_end`."""
        return 1.0 - min(self._done(), 1.0) * (1.0 - self._parts.config.schedule.actor_lr_end)
