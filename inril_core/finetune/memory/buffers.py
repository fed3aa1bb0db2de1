"""What a learner keeps of episodes: transitions to value, and demonstrations to imitate."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from inril_core.data.episode import SOURCE_HUMAN, Episode
from inril_core.finetune.config import FineTuneConfig
from inril_core.finetune.contracts import Flags, OffPolicyConfig
from inril_core.finetune.memory.replay import Batch, Replay
from inril_core.finetune.memory.transitions import imitated_steps, transitions, usable_steps
from inril_core.policies import Policy


@dataclass
class Cut:
    """What an episode was cut into; nothing is stored yet, and what is here can be stored without fail."""

    rows: list[tuple[Replay, Batch]] = field(default_factory=list)
    """Each with the buffer it goes to."""
    informative: int = 0
    """Steps that tell off-policy critics good from bad, see `RewardConfig.informative`."""


class ReplayBuffers:
    """The replay of what the robot did, the demonstrations, and the demonstrations cut as they are cloned.

    Cutting and storing are two calls, because cutting may fail (a base behind a server gives no answer, a number is not
    finite) and must then leave nothing behind.

    Args:
        config: settings; decides capacity, rewards, and what of an episode becomes a demonstration.
        policy: gives the inputs of a step and the length of its plans.
        action_size: A.
        device: where the rows live.
    """

    def __init__(
        self, config: FineTuneConfig, policy: Policy, action_size: int, device: torch.device | str = "cpu"
    ) -> None:
        self._config, self._policy = config, policy
        self._off_policy = config.rl if isinstance(config.rl, OffPolicyConfig) else None
        capacity, width, pixels = config.schedule.replay_capacity, policy.input_size, policy.pixels
        kept = 1 if self._off_policy is None else capacity
        self.replay = Replay(kept, width, action_size * policy.chunk, device, pixels)
        self.demos = Replay(capacity, width, action_size * policy.chunk, device, pixels)
        # what is cloned may be cut into other pieces than what is valued: a plan of the base, a correction per step
        self.clones = self.demos
        if policy.imitation_chunk != policy.chunk:
            self.clones = Replay(capacity, width, action_size * policy.imitation_chunk, device, pixels)
        self.informative = 0
        """Steps so far that tell off-policy critics good from bad."""

    def all(self) -> list[Replay]:
        """Each buffer once."""
        return list({id(buffer): buffer for buffer in (self.replay, self.demos, self.clones)}.values())

    def cut_first(self, demo: Episode) -> Cut:
        """A demonstration that a run begins with.

        Raises:
            ValueError: a number is not finite in float32.
        """
        cut = self._demonstration(demo)
        rl, in_replay = self._off_policy, self._config.schedule.demos_in_replay
        if in_replay:
            cut.rows.append((self.replay, self._cut(demo, self.replay, self._policy.chunk, None)))
        if rl is not None and (in_replay or rl.demo_share > 0.0):
            cut.informative = self._told(demo, None)
        return cut

    def cut_training(self, episode: Episode) -> Cut:
        """An episode of training: for replay (off-policy), and what of it becomes a demonstration.

        Raises:
            ValueError: a number is not finite in float32.
            ConfigError: the imitation or the reward method misses something in it.
        """
        grown = self._config.il.aggregate(episode)
        cut = self._growth(episode) if grown is None else self._demonstration(*grown)
        if self._off_policy is not None:
            keep = self._config.rewards.keep(episode)
            cut.rows.append((self.replay, self._cut(episode, self.replay, self._policy.chunk, keep)))
            cut.informative = self._told(episode, keep)
        return cut

    def store(self, cut: Cut) -> None:
        """Add what an episode was cut into."""
        for buffer, batch in cut.rows:
            if len(batch):
                buffer.add(batch)
        self.informative += cut.informative

    def _told(self, episode: Episode, keep: Flags | None) -> int:
        rewards = self._config.rewards
        told = rewards.informative(episode) & usable_steps(episode, rewards.known(episode))
        return int((told if keep is None else told & keep).sum())

    def _growth(self, episode: Episode) -> Cut:
        growth, human = self._config.schedule.demo_growth, episode.source == SOURCE_HUMAN
        if "successes" in growth and episode.success:
            return self._demonstration(episode)
        return self._demonstration(episode, human) if "corrections" in growth and human.any() else Cut()

    def _demonstration(self, episode: Episode, keep: Flags | None = None) -> Cut:
        """The steps ``keep`` (``[T]``; None: all) of an episode that is imitated."""
        keep = np.ones(episode.steps, bool) if keep is None else keep
        shown = keep & imitated_steps(episode)
        # the second counts where both are one buffer: what is not imitated is then no demonstration for RL either
        kinds = ((self.demos, self._policy.chunk, keep), (self.clones, self._policy.imitation_chunk, shown))
        cuts = {id(buffer): (buffer, chunk, kept) for buffer, chunk, kept in kinds}
        return Cut([(buffer, self._cut(episode, buffer, chunk, kept)) for buffer, chunk, kept in cuts.values()])

    def _cut(self, episode: Episode, buffer: Replay, chunk: int, keep: Flags | None) -> Batch:
        given, rl = self._config.rewards, self._config.rl
        rewards, masks = given.label(episode)
        n_steps = rl.return_steps() if isinstance(rl, OffPolicyConfig) and chunk == 1 else 1
        batch = transitions(episode, rewards, masks, self._policy, rl.gamma, n_steps, chunk, keep, given.known(episode))
        buffer.check(batch)
        return batch

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Everything `load` needs, as tensors."""
        clones = {} if self.clones is self.demos else self.clones.state()
        counts = {"informative": torch.tensor([self.informative])}
        return {"replay": self.replay.state(), "demos": self.demos.state(), "clones": clones, "counts": counts}

    def load(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Continue from what `state` returned."""
        self.replay.load(state["replay"])
        self.demos.load(state["demos"])
        if self.clones is not self.demos:
            self.clones.load(state["clones"])
        self.informative = int(state["counts"]["informative"])
