"""What a learner keeps of episodes: transitions to value, and demonstrations to imitate."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from inril_core.data.episode import SOURCE_HUMAN, Episode
from inril_core.finetune.config import FineTuneConfig
from inril_core.finetune.memory.replay import Batch, Replay
from inril_core.finetune.memory.transitions import transitions
from inril_core.policies import Policy

Rows = list[tuple[Replay, Batch]]
"""Rows that an episode has been cut into, each with the memory it goes to; nothing is stored yet."""


class Memories:
    """The replay of what the robot did, the demonstrations, and the demonstrations cut as they are cloned.

    Cutting and storing are two calls, because cutting may fail (a base behind a server gives no answer) and must then
    leave nothing behind.

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
        rl: Any = config.rl
        self._on_policy = rl.collection == "on_policy"
        capacity, width, pixels = config.schedule.replay_capacity, policy.input_size, policy.pixels
        kept = 1 if self._on_policy else capacity
        self.replay = Replay(kept, width, action_size * policy.chunk, device, pixels)
        self.demos = Replay(capacity, width, action_size * policy.chunk, device, pixels)
        # what is cloned may be cut into other pieces than what is valued: a plan of the base, a correction per step
        self.clones = self.demos
        if policy.imitation_chunk != policy.chunk:
            self.clones = Replay(capacity, width, action_size * policy.imitation_chunk, device, pixels)

    def all(self) -> list[Replay]:
        """Each memory once."""
        return list({id(memory): memory for memory in (self.replay, self.demos, self.clones)}.values())

    @property
    def rewarded(self) -> int:
        """Transitions with a reward other than 0 among what off-policy critics learn from."""
        shown = self.demos.rewarded if getattr(self._config.rl, "demo_share", 0.0) > 0.0 else 0
        return self.replay.rewarded + shown

    def cut_first(self, demo: Episode) -> Rows:
        """Rows of a demonstration that a run begins with."""
        rows = self.cut_demonstration(demo)
        if self._config.schedule.demos_in_replay:
            rows.append((self.replay, self._cut(demo, self._policy.chunk, None)))
        return rows

    def cut_demonstration(self, episode: Episode, keep: npt.NDArray[np.bool_] | None = None) -> Rows:
        """Rows of the steps ``keep`` (``[T]``; None: all) of an episode that is imitated."""
        keep = np.ones(episode.steps, bool) if keep is None else keep
        cuts = {
            id(m): (m, chunk)
            for m, chunk in ((self.clones, self._policy.imitation_chunk), (self.demos, self._policy.chunk))
        }
        return [(memory, self._cut(episode, chunk, keep)) for memory, chunk in cuts.values()]

    def cut_training(self, episode: Episode, grown: tuple[Episode, npt.NDArray[np.bool_]] | None) -> Rows:
        """Rows of an episode of training: for replay (off-policy), and what of it becomes a demonstration.

        Args:
            grown: what the imitation method itself makes of the episode; None: what ``schedule.demo_growth`` says.
        """
        rows = self.cut_demonstration(*grown) if grown is not None else self._growth(episode)
        if not self._on_policy:
            keep = self._config.rewards.keep(episode)  # type: ignore[attr-defined]
            rows.append((self.replay, self._cut(episode, self._policy.chunk, keep)))
        return rows

    def _growth(self, episode: Episode) -> Rows:
        growth, human = self._config.schedule.demo_growth, episode.source == SOURCE_HUMAN
        if "successes" in growth and episode.success:
            return self.cut_demonstration(episode)
        return self.cut_demonstration(episode, human) if "corrections" in growth and human.any() else []

    def _cut(self, episode: Episode, chunk: int, keep: npt.NDArray[np.bool_] | None) -> Batch:
        given: Any = self._config.rewards
        rewards, masks = given.label(episode)
        rl: Any = self._config.rl
        n_steps = getattr(rl, "n_steps", 1) if chunk == 1 else 1
        known = given.known(episode)
        return transitions(episode, rewards, masks, self._policy, rl.gamma, n_steps, chunk, keep, known)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Everything `load` needs, as tensors."""
        clones = {} if self.clones is self.demos else self.clones.state()
        return {"replay": self.replay.state(), "demos": self.demos.state(), "clones": clones}

    def load(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Continue from what `state` returned."""
        self.replay.load(state["replay"])
        self.demos.load(state["demos"])
        if self.clones is not self.demos:
            self.clones.load(state["clones"])


def store(rows: Rows) -> None:
    """Add rows to their memories."""
    for memory, batch in rows:
        if len(batch):
            memory.add(batch)
