"""A success label as the reward: 1 for the last action of an episode that somebody called a success."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.finetune.contracts import Array, RewardConfig, Signal
from inril_core.finetune.memory.transitions import last_acted

_MACHINES = ("cell", "episode_length", "session", "fault")


class Config(RewardConfig):
    """Settings of the label's reward."""

    method: Literal["label"]
    provides = frozenset({"last_step"})
    by: Literal["anyone", "person"] = "anyone"
    """Whose label counts: ``anyone``, or a ``person`` alone, where the cell's own judgement is not to be trusted."""
    failure_reward: float = Field(0.0, ge=-1.0, le=0.0)
    """Of the last action of an episode labelled a failure."""
    failure_ends: bool = False
    """There is no value beyond such an episode, also where it just ran out of time."""

    def check(self, whole: Any) -> None:
        """See `MethodConfig.check`."""
        limits = whole.rl.value_bounds()
        if limits is not None and limits[0] > self.failure_reward:
            raise ConfigError(
                f"rl.target_range = {list(limits)} cuts off rewards.failure_reward = {self.failure_reward}: a failure "
                f"would cost nothing; set it to [{self.failure_reward}, 1.0], or to null"
            )
        if limits is not None and limits[1] < 1.0:
            raise ConfigError(
                f"rl.target_range = {list(limits)} cuts off the reward of a success, 1; "
                f"set it to [{self.failure_reward}, 1.0], or to null"
            )

    def lives_on(self) -> frozenset[Signal]:
        """See `MethodConfig.lives_on`."""
        return frozenset({"labels"}) if self.by == "person" else frozenset()

    def label(self, episode: Episode) -> tuple[Array, Array]:
        """See `RewardConfig.label`."""
        rewards, masks = np.zeros(episode.steps, np.float32), np.ones(episode.steps, np.float32)
        if self._labelled(episode):
            last = last_acted(episode)
            rewards[last] = 1.0 if episode.success else self.failure_reward
            masks[last] = 0.0 if episode.success or episode.terminated or self.failure_ends else 1.0
        return rewards, masks

    def informative(self, episode: Episode) -> npt.NDArray[np.bool_]:
        """See `RewardConfig.informative`: a success, said by somebody whose label counts."""
        return super().informative(episode) & self._labelled(episode)

    def known(self, episode: Episode) -> npt.NDArray[np.bool_] | None:
        """See `RewardConfig.known`: without a label the last action has no reward; unlabelled is not failure."""
        known = np.ones(episode.steps, bool)
        known[last_acted(episode)] = self._labelled(episode)
        return known

    def _labelled(self, episode: Episode) -> bool:
        said = episode.complete and episode.success is not None
        return said and (self.by == "anyone" or episode.outcome_source not in _MACHINES)
