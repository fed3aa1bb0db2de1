"""The task's own reward: 1 for the action that brings success, 0 otherwise."""

from typing import Any, Literal

import numpy as np

from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.finetune.contracts import Array, RewardConfig
from inril_core.finetune.memory.transitions import last_acted


class Config(RewardConfig):
    """No settings."""

    method: Literal["task"]
    provides = frozenset({"last_step"})

    def check(self, whole: Any) -> None:
        """See `MethodConfig.check`."""
        limits = whole.rl.value_bounds()
        if limits is not None and (limits[0] > 0.0 or limits[1] < 1.0):
            raise ConfigError(
                f"rl.target_range = {list(limits)} cuts off values of rewards.method = 'task', which lie in [0, 1]; "
                "set it to null or to that"
            )

    def label(self, episode: Episode) -> tuple[Array, Array]:
        """Rewards ``[T]`` and masks ``[T]`` of an episode; the mask is 1 where the value bootstraps.

        A time limit truncates: the mask of the last action stays 1. Success or failure of the task terminates:
        it is 0. Recordings hold facts only, so this is computed at ingestion and can be changed later.
        """
        rewards, masks = np.zeros(episode.steps, np.float32), np.ones(episode.steps, np.float32)
        if episode.complete and (episode.success or episode.terminated):
            last = last_acted(episode)
            rewards[last] = 1.0 if episode.success else 0.0
            masks[last] = 0.0
        return rewards, masks
