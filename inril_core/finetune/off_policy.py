"""Learning from replay: so many updates per environment step, whoever acted."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from inril_core.data.episode import Episode
from inril_core.finetune.contracts import Metrics, OffPolicyConfig, OffPolicyRl
from inril_core.finetune.loop import Counts, Loop, Taken
from inril_core.finetune.memory.replay import Batch, join
from inril_core.finetune.parts import Parts


class OffPolicyLoop(Loop):
    """The critic warm-up, then ``utd`` updates per step after the warm-up."""

    def __init__(self, parts: Parts, counts: Counts) -> None:
        super().__init__(parts, counts)
        assert isinstance(parts.config.rl, OffPolicyConfig) and isinstance(parts.rl, OffPolicyRl)
        self._settings, self._rl = parts.config.rl, parts.rl
        self._schedule = parts.config.schedule
        self._prepared = False

    @property
    def updates_due(self) -> int:
        """See `Loop.updates_due`."""
        s, steps = self._schedule, self.counts.ingested_steps
        if steps < s.warmup_steps or not len(self._parts.buffers.replay):
            return 0
        return s.critic_warmup_updates + int(s.utd * (steps - s.warmup_steps))

    @property
    def informative_steps(self) -> int:
        """See `Loop.informative_steps`."""
        return self._parts.buffers.informative

    def prepare(self, episode: Episode, version: int) -> Taken:
        """See `Loop.prepare`."""
        return Taken(self._parts.buffers.cut_training(episode))

    def begin(self) -> None:
        """See `Loop.begin`."""
        if not self._prepared:
            self._rl.prepare(self._parts.buffers.demos)
            self._prepared = True

    def step(self) -> Metrics:
        """See `Loop.step`."""
        metrics: dict[str, float | Tensor] = {}
        batch = self.batch()
        if self._parts.combine.uses_rl:
            for step in range(self._settings.critic_steps):
                batch = batch if step == 0 else self.batch()
                metrics.update(self._rl.critic_step(batch))
        if self.counts.updates >= self._schedule.critic_warmup_updates and not self.waits_for_reward:
            metrics.update(self._actor_step(batch))
            metrics.update(self._end_update(batch))
        return metrics

    def batch(self) -> Batch:
        """A fresh minibatch, with its share of demonstrations."""
        parts, settings = self._parts, self._settings
        n_demo = round(settings.batch * settings.demo_share)
        batch = parts.buffers.replay.sample(settings.batch - n_demo, parts.generator)
        if n_demo:
            batch = join(batch, parts.buffers.demos.sample(n_demo, parts.generator))
        refresh = parts.policy.refresh
        observations, following = refresh(batch.observations), refresh(batch.next_observations)
        if observations is batch.observations:
            return batch
        return replace(batch, observations=observations, next_observations=following)

    def facts(self) -> dict[str, Any]:
        """See `Loop.facts`."""
        return {"prepared": self._prepared}

    def load(self, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """See `Loop.load`."""
        self._prepared = facts["prepared"]

    def _done(self) -> float:
        s = self._schedule
        updates = self.counts.updates - s.critic_warmup_updates
        return updates / max(int(s.utd * (s.budget_steps - s.warmup_steps)), 1)
