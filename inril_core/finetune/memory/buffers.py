"""What a learner keeps of episodes: transitions to value, and demonstrations to imitate."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from inril_core.data.episode import SOURCE_HUMAN, Episode
from inril_core.errors import ConfigError
from inril_core.finetune.config import FineTuneConfig
from inril_core.finetune.contracts import Flags, OffPolicyConfig
from inril_core.finetune.memory.replay import Batch, Replay
from inril_core.finetune.memory.transitions import (
    imitated_steps,
    shown_steps,
    shows_something,
    transitions,
    usable_steps,
)
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
        self._informative: dict[int, int] = {}
        self._informative_steps = 0

    @property
    def informative(self) -> int:
        """Steps so far that tell off-policy critics good from bad."""
        return self._informative_steps

    def all(self) -> list[Replay]:
        """Each buffer once."""
        return list({id(buffer): buffer for buffer in (self.replay, self.demos, self.clones)}.values())

    def cut_first(self, demo: Episode) -> Cut:
        """A demonstration that a run begins with, or a training episode whose corrections are, see `shows_something`.

        Raises:
            ValueError: a number is not finite in float32.
            ConfigError: a person gave a reward that these settings cannot hold.
        """
        if not shows_something(demo):
            return Cut()
        keep = shown_steps(demo)
        cut = self._demonstration(demo, keep)
        rl, in_replay = self._off_policy, self._config.schedule.demos_in_replay
        if in_replay:
            cut.rows.append((self.replay, self._cut(demo, self.replay, self._policy.chunk, keep)))
        if rl is not None and (in_replay or rl.demo_share > 0.0):
            cut.informative = self._told(demo, keep)
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

    def store(self, cut: Cut, owner: int) -> None:
        """Add what an episode was cut into; ``owner``: its number, higher than that of any before."""
        for buffer, batch in cut.rows:
            if len(batch):
                buffer.add(batch, owner)
        self._tell(owner, cut.informative)

    def replace(self, cut: Cut, owner: int) -> None:
        """Put what an episode is cut into after something new was said of it in the place of what it was cut into."""
        rows = {id(buffer): batch for buffer, batch in cut.rows}
        for buffer in self.all():
            buffer.replace(owner, rows.get(id(buffer)))
        self._tell(owner, cut.informative)

    def leaves_nothing(self, cut: Cut, owner: int) -> bool:
        """Whether `replace` would take away all that can be imitated."""
        new = sum(len(batch) for buffer, batch in cut.rows if buffer is self.clones)
        return 0 < len(self.clones) == self.clones.owned(owner) and new == 0

    def _tell(self, owner: int, informative: int) -> None:
        self._informative_steps += informative - self._informative.pop(owner, 0)
        if informative:
            self._informative[owner] = informative

    def _told(self, episode: Episode, keep: Flags | None) -> int:
        rewards = self._config.rewards
        told = rewards.informative(episode) & usable_steps(episode, rewards.labelled(episode)[2])
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
        rl = self._config.rl
        rewards, masks, known = self._config.rewards.labelled(episode)
        self._refuse_rewards_beyond(episode, rl.value_bounds())
        n_steps = rl.return_steps() if isinstance(rl, OffPolicyConfig) and chunk == 1 else 1
        batch = transitions(episode, rewards, masks, self._policy, rl.gamma, n_steps, chunk, keep, known)
        buffer.check(batch)
        return batch

    @staticmethod
    def _refuse_rewards_beyond(episode: Episode, bounds: tuple[float, float] | None) -> None:
        given = episode.given_rewards
        if bounds is None or given is None or np.isnan(given).all():
            return
        low, high = float(np.nanmin(given)), float(np.nanmax(given))
        if low < bounds[0] or high > bounds[1]:
            raise ConfigError(
                f"episode {episode.episode_id}: a person gave it rewards from {low:g} to {high:g}, and rl.target_range "
                f"= {list(bounds)} would cut them off; give others with `inril data annotate`, or set rl.target_range "
                "to null in a new run"
            )

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Everything `load` needs, as tensors."""
        clones = {} if self.clones is self.demos else self.clones.state()
        owners = {name: getattr(self, name).owners() for name in ("replay", "demos", "clones")}
        told = torch.tensor(sorted(self._informative.items()), dtype=torch.int64).reshape(-1, 2)
        owners["informative"] = told
        return {"replay": self.replay.state(), "demos": self.demos.state(), "clones": clones, "owners": owners}

    def load(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Continue from what `state` returned."""
        owners = state["owners"]
        self.replay.load(state["replay"], owners["replay"])
        self.demos.load(state["demos"], owners["demos"])
        if self.clones is not self.demos:
            self.clones.load(state["clones"], owners["clones"])
        self._informative = {int(owner): int(count) for owner, count in owners["informative"].tolist()}
        self._informative_steps = sum(self._informative.values())
