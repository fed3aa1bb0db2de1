"""The task's own reward: 1 for the action that brings success, 0 otherwise."""

from typing import Any, Literal

import numpy as np

from inril_core.data.episode import Episode
from inril_core.errors import ConfigError
from inril_core.finetune.contracts import Array, RewardConfig


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

        A time limit truncates: the mask of the last step stays 1. Success or failure of the task terminates:
        it is 0. Recordings hold facts only, so this is computed at ingestion and can be changed later.
        """
        steps = len(episode.actions)
        rewards, masks = np.zeros(steps, np.float32), np.ones(steps, np.float32)
        if steps and episode.complete and (episode.success or episode.terminated):
            rewards[-1] = 1.0 if episode.success else 0.0
            masks[-1] = 0.0
        return rewards, masks
