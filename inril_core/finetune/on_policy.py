"""Learning from whole rollouts of the version that acts."""

from bisect import bisect_left, bisect_right
from typing import Any

from torch import Tensor

from inril_core.data.episode import Episode
from inril_core.finetune.contracts import Metrics, OnPolicyConfig, OnPolicyRl
from inril_core.finetune.loop import Counts, Loop, Taken
from inril_core.finetune.memory.rollout import RolloutSegment, pack_segments, segments, unpack_segments
from inril_core.finetune.parts import Parts


class OnPolicyLoop(Loop):
    """The updates that each full rollout calls for."""

    def __init__(self, parts: Parts, counts: Counts) -> None:
        super().__init__(parts, counts)
        assert isinstance(parts.config.rl, OnPolicyConfig) and isinstance(parts.rl, OnPolicyRl)
        self._settings, self._rl = parts.config.rl, parts.rl
        self._due = 0
        self._iterations = 0
        self._informative = 0
        self.rollout: list[RolloutSegment] = []
        """What is collected for the next iteration."""
        self._owners: list[int] = []
        self._newest = self._trained = -1  # episode taken in last, and last one that is not for the next iteration

    @property
    def updates_due(self) -> int:
        """See `Loop.updates_due`."""
        return self._due

    @property
    def informative_steps(self) -> int:
        """See `Loop.informative_steps`; those of full rollouts."""
        return self._informative

    @property
    def may_publish(self) -> bool:
        """See `Loop.may_publish`; not in the middle of an iteration."""
        return self.counts.updates >= self._due

    def prepare(self, episode: Episode, version: int) -> Taken:
        """See `Loop.prepare`."""
        given, cut = self._parts.config.rewards, self._parts.buffers.cut_training(episode)
        rewards, masks, known = given.labelled(episode)
        told = given.informative(episode)
        found, rejected = segments(episode, rewards, masks, self._parts.policy, version, known, told)
        for segment in found:
            segment.check()
        return Taken(cut, found, rejected)

    def take(self, taken: Taken, owner: int) -> None:
        """See `Loop.take`; a full rollout begins an iteration."""
        super().take(taken, owner)
        self._newest = owner
        self.rollout += taken.segments
        self._owners += [owner] * len(taken.segments)
        self.counts.rejected_steps += taken.rejected
        self._begin_if_full()

    def revise(self, taken: Taken, owner: int) -> None:
        """See `Loop.revise`; what an iteration was already begun with stays as it was."""
        super().revise(taken, owner)
        if owner <= self._trained:
            return
        first, end = bisect_left(self._owners, owner), bisect_right(self._owners, owner)
        gained = sum(map(len, taken.segments)) - sum(map(len, self.rollout[first:end]))
        self.rollout[first:end] = taken.segments
        self._owners[first:end] = [owner] * len(taken.segments)
        self.counts.rejected_steps -= gained
        self._begin_if_full()

    def _begin_if_full(self) -> None:
        full = sum(map(len, self.rollout)) >= self._settings.rollout_steps
        if full and self.counts.updates >= self._due:
            self._due = self.counts.updates + self._rl.begin_iteration(self.rollout)
            self._informative += sum(segment.informative for segment in self.rollout)
            self._collected()

    def step(self) -> Metrics:
        """See `Loop.step`."""
        if self.counts.updates >= self._due:
            raise ValueError("no rollout is full: ingest episodes before training")
        metrics: dict[str, float | Tensor] = {}
        batch = self._rl.next_minibatch()
        warm = self._iterations >= self._settings.critic_warmup_iterations
        trains_actor = warm and not self.waits_for_reward
        if not self._rl.stopped:
            if self._parts.combine.uses_rl:
                metrics.update(self._rl.critic_step(batch))
            if trains_actor:
                metrics.update(self._actor_step(batch))
        if self.counts.updates + 1 >= self._due:
            if trains_actor:
                metrics.update(self._end_update(batch))
            self._iterations += 1
        return metrics

    def version_changed(self) -> None:
        """See `Loop.version_changed`; what was collected, and the rest of an iteration, are dropped."""
        self.counts.rejected_steps += sum(map(len, self.rollout))
        self._collected()
        self._due = min(self._due, self.counts.updates)

    def _collected(self) -> None:
        self.rollout, self._owners, self._trained = [], [], self._newest

    def facts(self) -> dict[str, Any]:
        """See `Loop.facts`."""
        return {
            "due": self._due,
            "iterations": self._iterations,
            "informative": self._informative,
            "owners": self._owners,
            "newest": self._newest,
            "trained": self._trained,
        }

    def tensors(self) -> dict[str, Tensor]:
        """See `Loop.tensors`."""
        return pack_segments(self.rollout)

    def load(self, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """See `Loop.load`."""
        self._due, self._iterations, self._informative = facts["due"], facts["iterations"], facts["informative"]
        self.rollout, self._owners = unpack_segments(tensors), facts["owners"]
        self._newest, self._trained = facts["newest"], facts["trained"]

    def _done(self) -> float:
        return self.counts.ingested_steps / self._parts.config.schedule.budget_steps
